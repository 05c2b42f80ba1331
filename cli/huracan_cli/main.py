"""The `huracan` command: what people type."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree

from huracan.clock import NANOSECONDS, SystemClock
from huracan.errors import BadInput, HuracanError
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan_cli import archive, dlq, engine, look, sources, training
from huracan_cli import compare as comparing
from huracan_cli.explain import Explanation, explain
from huracan_cli.journal import replay_journals
from huracan_cli.options import (
    HistoryOption,
    JsonOption,
    NatsOption,
    NewsOption,
    PostgresOption,
    RecordingOption,
    SeedOption,
    SourceOption,
    SpeedOption,
    StateOption,
    TickLogOption,
    console,
    examples,
    interactive,
    on_the_loop,
    problems,
)
from huracan_cli.record import Recorded, Tape, feed_config, record, record_simulated
from huracan_cli.replay import Replay, replay
from huracan_cli.report import write_report
from huracan_cli.run import run
from huracan_cli.sources import Market, Opening, Source
from huracan_cli.state import default_directory, load
from huracan_cli.stored import StoredExplanation, explain_stored
from huracan_cli.summary import Summary
from huracan_cli.system import Layout, Plan, System
from huracan_cli.ticklogs import TickLogKind
from huracan_cli.up import down, up
from huracan_cli.watch import render

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.add_typer(look.app)
app.add_typer(dlq.app, name="dlq")
app.add_typer(archive.app, name="archive")
app.add_typer(engine.app, name="engine")

RECORDING_SPEED = 10.0
"""Market seconds in a second of a demo on a recording."""
DEMO_S = 40.0
"""Seconds of live feeds in a demo, which with its start and end takes about a minute."""
REFRESH_S = 0.25


@app.callback()
def main() -> None:
    """Turn markets into decisions you can trust, and prove why each was made."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("error"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


@app.command(
    "replay",
    epilog=examples(
        "replay day.jsonl.gz --history bars.parquet",
        "replay day.jsonl.gz --compare training/bundles/flow out/flow",
        "replay --journal out/demo",
    ),
)
def replay_command(
    path: Annotated[
        Path | None, typer.Argument(help="Recording: '<receive_time_ns> <raw frame>' lines, gzip or plain.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Instead: fold the journals of a run's directory again and compare bytes.")
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="sim: in memory, on virtual time; single, hosted, seven: processes and real servers.")
    ] = Layout.SIM,
    history: HistoryOption = None,
    news: NewsOption = None,
    out: Annotated[Path, typer.Option(help="Directory for summary.json and the tables of the run.")] = Path(
        "out/replay"
    ),
    bundles: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="CHAMPION CHALLENGER",
            help="Replay once with each of two engines of an expert, and say what that changes.",
        ),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Replay a recording through every service in lockstep: the same decisions each time and in every layout."""
    if (path is None) == (journal is None):
        raise BadInput("replay needs a recording or --journal, one of them")
    if bundles is not None and (journal is not None or layout is not Layout.SIM):
        raise BadInput("--compare replays a recording in memory: leave --journal and --layout out")
    if journal is not None:
        _replay_journals(journal, as_json=as_json)
        return
    assert path is not None
    _make(out)
    request = Replay(recording=path, history=history, news=news, seed=seed, out=out)
    if bundles is not None:
        _compare(request, *bundles, as_json=as_json)
        return
    with _progress(path.name, quiet=as_json) as progress:
        if layout is Layout.SIM:
            summary = replay(request, progress).summary
        else:
            plan = Plan(source=sources.recording(path, speed=0, history=history, news=news), layout=layout)
            summary = on_the_loop(run(plan, out=out, progress=progress)).summary
    _keep(summary, out)
    _show(summary, out, as_json=as_json)


def _compare(request: Replay, champion: Path, challenger: Path, *, as_json: bool) -> None:
    with _progress(request.recording.name, quiet=as_json) as progress:
        told = comparing.compare(request, champion, challenger, progress)
    if as_json:
        typer.echo(told.model_dump_json())
        return
    console.print(comparing.render(told))
    console.print(escape(comparing.verdict(told)))


def _replay_journals(directory: Path, *, as_json: bool) -> None:
    again = replay_journals(directory)
    if as_json:
        typer.echo(again.model_dump_json())
    else:
        verdict = "[green]the same bytes[/green]" if again.same_bytes else "[red]DIFFERENT BYTES[/red]"
        console.print(
            f"{again.decisions} decisions from {again.entries} journal entries, {again.kept} kept by the run: {verdict}"
        )
        console.print(f"{again.different} different, {again.missing} not kept, {again.unexplained} do not follow")
        console.print(f"decisions_digest {again.decisions_digest}")
    if not again.same_bytes:
        raise typer.Exit(1)


@app.command(
    "demo",
    epilog=examples(
        "demo",
        "demo --source simulated --seconds 20",
        "demo --recording day.jsonl.gz --history bars.parquet --speed 10",
    ),
)
def demo_command(
    recording: RecordingOption = None,
    source: SourceOption = Market.AUTO,
    seconds: Annotated[
        float,
        typer.Option(min=1, help="How long to play live feeds from when all is ready; a recording ends by itself."),
    ] = DEMO_S,
    history: HistoryOption = None,
    news: NewsOption = None,
    out: Annotated[Path, typer.Option(help="Directory for everything the run writes.")] = Path("out/demo"),
    layout: Annotated[Layout, typer.Option(help="How the services share processes.")] = Layout.SEVEN,
    speed: SpeedOption = None,
    seed: SeedOption = 7,
    nats_url: NatsOption = None,
    postgres_url: PostgresOption = None,
    ticklog: TickLogOption = TickLogKind.JETSTREAM,
    as_json: JsonOption = False,
) -> None:
    """Run the whole system on one machine, live: on a recording, or on three venues side by side, and say which."""
    _make(out)
    if layout is Layout.SIM:
        raise BadInput("--layout was sim: that is a replay (`huracan replay`); a demo runs single, hosted or seven")
    plan = Plan(
        source=_opening(
            recording, source, history=history, news=news, speed=speed, seed=seed, usual_speed=RECORDING_SPEED
        ),
        layout=layout,
        nats_url=nats_url,
        postgres_url=postgres_url,
        ticklog=ticklog,
    )
    outcome = run(
        plan,
        out=out,
        lasts_s=seconds if recording is None else None,
        on_source=partial(_tell_source, quiet=as_json),
        meanwhile=partial(_live, quiet=as_json),
    )
    summary = on_the_loop(outcome).summary
    _keep(summary, out)
    report = write_report(summary, out)
    _show(summary, out, as_json=as_json)
    if not as_json:
        console.print(f"report: {escape(str(report))}")


def _opening(
    path: Path | None,
    market: Market,
    *,
    history: Path | None,
    news: Path | None,
    speed: float | None,
    seed: int,
    usual_speed: float,
) -> Opening:
    """Return what a run reads; raise BadInput for options that do not go together."""
    if path is not None:
        if market is not Market.AUTO:
            raise BadInput(f"--source was {market}: with --recording there is nothing to choose; leave one of them out")
        return sources.recording(path, speed=usual_speed if speed is None else speed, history=history, news=news)
    for name, given in (("--history", history), ("--speed", speed)):
        if given is not None:
            raise BadInput(f"{name} was {given}: live feeds bring their own bars and time; it goes with --recording")
    return sources.markets(market, seed=seed, news=news)


def _tell_source(source: Source, *, quiet: bool) -> None:
    if quiet:
        return
    speed = f" at {source.time.speed:g} x real time" if source.time else ", live"
    if source.simulated:
        console.print(
            f"[bold]SIMULATED market[/bold]: {escape(source.label)}{speed}. Nothing below happened anywhere.",
            soft_wrap=True,
        )
    else:
        console.print(f"{escape(source.label)}{speed}; orders go to the paper venue", soft_wrap=True)


async def _live(system: System, *, quiet: bool) -> None:
    """Keep the live table on the terminal; where there is none, say only that the system runs."""
    if quiet:
        return
    if not interactive():
        console.print(f"running: {', '.join(system.programs)}")
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(render(system.watch, system.states()), refresh=True)
            await asyncio.sleep(REFRESH_S)


@app.command(
    "up",
    epilog=examples("up", "up --source public", "up --recording day.jsonl.gz --speed 1", "tail 'sig.v1.decision.>'"),
)
def up_command(
    recording: RecordingOption = None,
    source: SourceOption = Market.AUTO,
    history: HistoryOption = None,
    news: NewsOption = None,
    layout: Annotated[Layout, typer.Option(help="How the services share processes.")] = Layout.SEVEN,
    speed: SpeedOption = None,
    seed: SeedOption = 7,
    state: StateOption = None,
    wipe: Annotated[bool, typer.Option(help="Begin with empty servers instead of those of the last time.")] = False,
    nats_url: NatsOption = None,
    postgres_url: PostgresOption = None,
    ticklog: TickLogOption = TickLogKind.JETSTREAM,
    as_json: JsonOption = False,
) -> None:
    """Bring the whole system up and keep it up, with a live table; Ctrl-C or `huracan down` ends it."""
    if layout is Layout.SIM:
        raise BadInput("--layout was sim: that is a replay (`huracan replay`); up runs single, hosted or seven")
    plan = Plan(
        source=_opening(recording, source, history=history, news=news, speed=speed, seed=seed, usual_speed=1.0),
        layout=layout,
        nats_url=nats_url,
        postgres_url=postgres_url,
        ticklog=ticklog,
    )
    on_the_loop(up(plan, state or default_directory(), partial(_tell_up, as_json=as_json), wipe=wipe))
    if recording is not None and not as_json:
        console.print("the recording is over, or was stopped; the data is kept")


async def _tell_up(system: System, *, as_json: bool) -> None:
    source = system.source
    if as_json:
        up_now = {
            "ready": True,
            "source": source.label,
            "simulated": source.simulated,
            "state": str(system.directory),
        }
        typer.echo(json.dumps(up_now))
        return
    _tell_source(source, quiet=False)
    console.print("ready. In another terminal: [bold]huracan tail 'sig.v1.decision.>'[/bold]")
    console.print("Ctrl-C, or [bold]huracan down[/bold], stops it")
    await _live(system, quiet=False)


@app.command(
    "record",
    epilog=examples(
        "record --venue okx --symbol BTC-USDT-SWAP --out btc.jsonl.gz",
        "record --simulated --venue bybit --symbol SIMUSDT --seconds 20 --out sim.jsonl.gz",
    ),
)
def record_command(
    venue: Annotated[str, typer.Option(help="Token of the venue, as binance_usdm, okx, bybit.")],
    symbol: Annotated[str, typer.Option(help="The venue's own name of the instrument, as BTC-USDT-SWAP.")],
    out: Annotated[Path, typer.Option(help="File to write; packed when its name ends with .gz.")],
    seconds: Annotated[float | None, typer.Option(min=0.1, help="How long; without it until Ctrl-C.")] = None,
    simulated: Annotated[
        bool, typer.Option(help="Start simulated venues on this machine and record one of them.")
    ] = False,
    websocket_url: Annotated[str | None, typer.Option(help="Another public stream than the venue's own.")] = None,
    rest_url: Annotated[str | None, typer.Option(help="Another REST interface than the venue's own.")] = None,
    seed: SeedOption = 7,
    as_json: JsonOption = False,
) -> None:
    """Write down a live feed as a recording that `huracan replay` reads."""
    if simulated and (websocket_url or rest_url):
        raise BadInput("--simulated was given with --websocket-url or --rest-url: it has addresses of its own")
    feed = feed_config(venue, symbol, websocket_url=websocket_url, rest_url=rest_url)
    _make(out.parent)
    with _written(f"{venue} {symbol}", quiet=as_json) as progress:
        work = (
            record_simulated(feed, out, seed=seed, lasts_s=seconds, progress=progress)
            if simulated
            else record(feed, out, lasts_s=seconds, progress=progress)
        )
        told = on_the_loop(work)
    if as_json:
        typer.echo(told.model_dump_json())
        return
    label = f"[bold]{told.instrument}[/bold]{' (SIMULATED)' if told.simulated else ''}"
    span_s = (told.last_ns - told.first_ns) / NANOSECONDS
    console.print(f"{label}: {told.lines:,} lines, {told.bytes:,} bytes, {span_s:.1f} s; {_lost(told)}")
    console.print(f"written: {escape(str(out))}")


def _lost(told: Recorded) -> str:
    gaps = sum(told.gaps.values())
    return f"{gaps} gaps, {told.missed} lines missed, {sum(told.rejected.values())} that the gateway refuses"


@app.command("down", epilog=examples("down"))
def down_command(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Stop what `huracan up` runs: services drain, servers stop, data stays."""
    pid = on_the_loop(down(state or default_directory()))
    typer.echo(json.dumps({"stopped": pid}) if as_json else f"stopped pid {pid}; its data is kept")


@app.command("migrate", epilog=examples("migrate --postgres-url postgresql://user:password@host:5432/database"))
def migrate_command(postgres_url: PostgresOption = None, as_json: JsonOption = False) -> None:
    """Bring a database to this release's schema, every change once, and make the days ahead of tables kept by day."""
    if postgres_url is None:
        raise BadInput("no database was named: give --postgres-url or set HURACAN_POSTGRES_URL")
    applied, done = on_the_loop(_migrate(postgres_url))
    if as_json:
        typer.echo(json.dumps({"applied": applied, **{name.rpartition(".")[2]: count for name, count in done.items()}}))
        return
    console.print("\n".join(f"applied {name}" for name in applied) or "nothing to do: the schema is up to date")
    if stray := done["last.in_default"]:
        problems.print(f"{stray} rows have no partition of their day: see `huracan query alerts`")


async def _migrate(url: str) -> tuple[list[str], dict[str, int]]:
    applied = await migrate(url, migrations_directory())
    store = PostgresStore(url, 1)
    try:
        return applied, await store.maintain(SystemClock().now_ns())
    finally:
        await store.close()


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be made: {error.strerror}") from None


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=problems, disable=quiet or not problems.is_terminal) as progress:
        task = progress.add_task(escape(name), total=None)
        yield lambda frames: progress.update(task, completed=frames)


@contextmanager
def _written(name: str, *, quiet: bool) -> Iterator[Callable[[Tape], None]]:
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,} lines"),
        TextColumn("{task.fields[size]:,} bytes"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=problems, disable=quiet or not problems.is_terminal) as progress:
        task = progress.add_task(escape(name), total=None, size=0)
        yield lambda tape: progress.update(task, completed=tape.lines, size=tape.bytes)


def _keep(summary: Summary, out: Path) -> None:
    (out / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _show(summary: Summary, out: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(summary.model_dump_json())
        return
    table = Table("what", "value", title=f"{summary.instrument}{' (SIMULATED)' if summary.simulated else ''}")
    for name, value in summary.model_dump(exclude={"instruments"}).items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict) else escape(str(value)))
    console.print(table)
    if len(summary.instruments) > 1:
        console.print(_side_by_side(summary))
    console.print(f"written: {escape(str(out))}")


def _side_by_side(summary: Summary) -> Table:
    table = Table("what", *summary.instruments)
    rows = [each.model_dump() for each in summary.instruments.values()]
    for name in rows[0]:
        values = [json.dumps(row[name]) if isinstance(row[name], dict) else str(row[name]) for row in rows]
        table.add_row(name, *map(escape, values))
    return table


@app.command(
    "explain",
    epilog=examples(
        "explain last --run out/demo",
        "explain 3fa9c1 --live",
        "explain 3fa9c1 --database postgresql://user:password@host:5432/database",
    ),
)
def explain_command(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="Decision id, enough of its beginning, or 'last'.")],
    run: Annotated[
        Path | None, typer.Option(help="Directory that a replay or demo wrote; out/replay unless told otherwise.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="Instead: a database that has the decision, and keeps the journal.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Instead: a running system, its database and its log.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a decision rests on, and make it again: exits 1 unless every recomputation gives the same bytes."""
    if run is not None and (database is not None or live):
        raise BadInput("--run was given with --database or --live: a decision is of one of them")
    if database == "":
        raise BadInput("--database was '': give postgresql://user:password@host:port/database, or leave it out")
    explanation = (
        on_the_loop(_explained(decision_id, database, (state or default_directory()) if live else None))
        if database is not None or live
        else explain(run or Path("out/replay"), decision_id)
    )
    if as_json:
        typer.echo(explanation.model_dump_json())
    else:
        console.print(_tree(explanation))
    if not explanation.same_bytes or any(vote.proof == "DIFFERENT" for vote in explanation.votes):
        raise typer.Exit(1)


async def _explained(decision_id: str, database: str | None, directory: Path | None) -> StoredExplanation:
    state = load(directory) if directory is not None else None
    url = database or (state.postgres_url.get_secret_value() if state is not None else "")
    return await explain_stored(decision_id, url, state)


def _tree(told: Explanation) -> Tree:
    proof = "the same bytes" if told.same_bytes else "DIFFERENT BYTES"
    tree = Tree(f"[bold]{told.direction}[/bold] {told.instrument} step {told.step}, decision {told.decision_id}")
    size = told.size * Decimal(told.size_increment)
    tree.add(f"target {size} ({told.size} x {told.size_increment}), confidence {told.confidence:.4f}")
    if told.reason:
        tree.add(f"abstained: {told.reason}")
    tree.add(f"pooled p_down {told.p_down:.4f}, p_flat {told.p_flat:.4f}, p_up {told.p_up:.4f}")
    tree.add(f"disagreement {told.disagreement:.4f}")
    votes = tree.add("votes")
    for vote in told.votes:
        said = vote.reason or f"{vote.p_down:.4f} / {vote.p_flat:.4f} / {vote.p_up:.4f}"
        votes.add(f"{vote.expert}: {said}, weight {vote.weight:.3f}, engine {vote.engine_digest[:12]}, {vote.proof}")
    if told.regime:
        tree.add("regime: " + ", ".join(f"{name} {share:.3f}" for name, share in told.regime.items()))
    tree.add(f"contexts: {', '.join(told.contexts) or 'none'}")
    tree.add(f"frames {told.ingest_seq[0]} to {told.ingest_seq[1]} of gateway epoch {told.gateway_epoch}")
    if isinstance(told, StoredExplanation):
        offsets = f" at offsets {told.tick_offsets[0]} to {told.tick_offsets[1]}" if told.tick_offsets else ""
        tree.add(f"their ticks: {told.tick_source}{offsets}")
    orders = tree.add("orders" if told.orders else "no order")
    for order in told.orders:
        orders.add(escape(order))
    tree.add(f"config {told.config_digest[:12]}, feature set {told.feature_set_digest[:12]}")
    tree.add(f"folded again from {told.journal_entries} journal entries: {proof}")
    return tree


training.add_to(app)


def entry_point() -> None:
    """Run the command; errors that people can cause end it with one sentence and exit code 2."""
    try:
        app()
    except HuracanError as error:
        problems.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from None
