"""The commands that look at a running system and at its machine: tail, status, query, doctor."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from pydantic import TypeAdapter

from huracan_cli import doctor as doctors
from huracan_cli import query as queries
from huracan_cli import status as statuses
from huracan_cli import tail as tails
from huracan_cli.options import JsonOption, PostgresOption, StateOption, console, examples, on_the_loop
from huracan_cli.state import default_directory, load
from huracan_cli.system import WATCHER

app = typer.Typer()

NOT_RUNNING = 3
"""Exit code of `status` when nothing runs."""


@app.command(
    "tail", epilog=examples("tail 'sig.v1.decision.>'", "tail 'exec.v1.>' --count 10 --json", "tail 'ops.v1.gateway.>'")
)
def tail_command(
    pattern: Annotated[str, typer.Argument(help="Subject; * stands for one token, a last > for all that follow.")],
    count: Annotated[int | None, typer.Option(help="End after so many messages.")] = None,
    user: Annotated[str, typer.Option(help="Listen as this user: `desk` hears what a desk may.")] = WATCHER,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Listen to a running system: one line a message, as they come."""

    async def listen() -> None:
        async for heard in tails.tail(load(state or default_directory()), pattern, user=user, count=count):
            if as_json:
                typer.echo(json.dumps(tails.as_json(heard)))
            else:
                console.print(tails.render(heard), soft_wrap=True)

    on_the_loop(listen())


@app.command("status", epilog=examples("status", "status --json"))
def status_command(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Say what runs, and how it is; exits 3 when nothing does and 1 when not all of it is ready."""
    told = on_the_loop(statuses.status(state or default_directory()))
    if as_json:
        typer.echo(told.model_dump_json())
    else:
        console.print(statuses.render(told))
    if not told.ready:
        raise typer.Exit(1 if told.running else NOT_RUNNING)


@app.command(
    "query",
    epilog=examples(
        "query decisions --limit 20",
        "query fills --instrument sim.sim-usdt-perp --json",
        "query anomalies --since 2026-03-01T14:30:00Z",
        "query pnl --as-desk 00000000-0000-4000-8000-000000000001",
    ),
)
def query_command(
    table: Annotated[str, typer.Argument(help=f"One of {', '.join(queries.TABLE_NAMES)}.")],
    instrument: Annotated[str | None, typer.Option(help="As venue.symbol, or a symbol of any venue.")] = None,
    since: Annotated[str | None, typer.Option(help="Market time from which on: ISO 8601, or nanoseconds.")] = None,
    until: Annotated[str | None, typer.Option(help="Market time before which.")] = None,
    limit: Annotated[int, typer.Option(help="Most rows.")] = 50,
    after: Annotated[
        str | None, typer.Option(help="Go on where a page ended: what it said, of the same query.")
    ] = None,
    as_desk: Annotated[str | None, typer.Option(help="Show only what this desk may see: the UUID of its user.")] = None,
    postgres_url: PostgresOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest rows of a table of the database, of a running system or of any other."""
    url = postgres_url or load(state or default_directory()).postgres_url.get_secret_value()
    found = on_the_loop(
        queries.page(
            url,
            table,
            instrument=instrument,
            since_ns=queries.parse_time(since, "--since") if since is not None else None,
            until_ns=queries.parse_time(until, "--until") if until is not None else None,
            limit=limit,
            after=after,
            identity=queries.desk(as_desk) if as_desk is not None else None,
        )
    )
    if as_json:
        typer.echo(json.dumps(found.rows))
    else:
        console.print(queries.render(table, found.rows))
    if found.after is not None:
        # Beside the rows, which stay a plain list for whoever reads them.
        typer.echo(f"more with --after {found.after}", err=True)


@app.command("doctor", epilog=examples("doctor", "doctor --json"))
def doctor_command(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine has and lacks for `huracan up`, and how to get it; exits 1 when something needed lacks."""
    findings = on_the_loop(doctors.diagnose(state or default_directory()))
    if as_json:
        typer.echo(TypeAdapter(list[doctors.Finding]).dump_json(findings).decode())
    else:
        console.print(doctors.render(findings))
    if not doctors.healthy(findings):
        raise typer.Exit(1)
