"""The `huracan` command: what people type."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.tree import Tree

from huracan.errors import BadInput, HuracanError
from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan_cli.explain import Explanation, explain
from huracan_cli.replay import Replay, replay
from huracan_cli.report import write_report
from huracan_cli.summary import Summary

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
console = Console()
problems = Console(stderr=True)

SIMULATED_HISTORY_BARS = 4_000
"""About six weeks of 15-minute bars: enough to fit the regimes."""

HistoryOption = Annotated[
    Path | None, typer.Option(help="Bars from before the recording (Parquet or CSV), to warm up.")
]
NewsOption = Annotated[Path | None, typer.Option(help="Headlines (CSV or JSON lines); each is seen at its own time.")]
SeedOption = Annotated[int, typer.Option(help="Seed of all randomness of the run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.callback()
def main() -> None:
    """Turn markets into decisions you can trust, and prove why each was made."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


@app.command("replay", epilog="Example: huracan replay day.jsonl.gz --history bars.parquet --out out/replay")
def replay_command(
    path: Annotated[Path, typer.Argument(help="Recording: '<receive_time_ns> <raw frame>' lines, gzip or plain.")],
    history: HistoryOption = None,
    news: NewsOption = None,
    out: Annotated[Path, typer.Option(help="Directory for summary.json and the tables of the run.")] = Path(
        "out/replay"
    ),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Replay a recording through every service on virtual time. The same input gives the same decisions."""
    summary = _run(Replay(recording=path, history=history, news=news, seed=seed, out=out), quiet=as_json)
    _show(summary, out, as_json=as_json)


@app.command("demo", epilog="Example: huracan demo   |   huracan demo --recording day.jsonl.gz --history bars.parquet")
def demo_command(
    recording: Annotated[
        Path | None, typer.Option(help="Recording to run on; the simulated market without it.")
    ] = None,
    history: HistoryOption = None,
    news: NewsOption = None,
    out: Annotated[Path, typer.Option(help="Directory for everything the run writes.")] = Path("out/demo"),
    seed: SeedOption = 7,
    as_json: JsonOption = False,
) -> None:
    """Run the whole system on one machine: on a recording, or on a simulated market that is labelled so."""
    _make(out)
    if recording is None:
        recording, simulated_history = _simulate(out, seed)
        history = history or simulated_history
        if not as_json:
            console.print("[bold]SIMULATED market[/bold]: no RECORDING= was given; nothing below happened anywhere.")
    summary = _run(Replay(recording=recording, history=history, news=news, seed=seed, out=out), quiet=as_json)
    report = write_report(summary, out)
    _show(summary, out, as_json=as_json)
    if not as_json:
        console.print(f"report: {escape(str(report))}")


def _simulate(out: Path, seed: int) -> tuple[Path, Path]:
    config = SimulatedMarketConfig(seed=seed)
    recording, history = out / "simulated_market.jsonl.gz", out / "simulated_history.parquet"
    write_recording(config, recording)
    write_history(config, history, bars=SIMULATED_HISTORY_BARS)
    return recording, history


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out} cannot be made: {error.strerror}") from None


def _run(request: Replay, *, quiet: bool) -> Summary:
    if request.out is not None:
        _make(request.out)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=problems, disable=quiet or not problems.is_terminal) as progress:
        task = progress.add_task(escape(request.recording.name), total=None)
        summary = replay(request, lambda frames: progress.update(task, completed=frames)).summary
        progress.update(task, completed=summary.frames_in, total=summary.frames_in)
    if request.out is not None:
        (request.out / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return summary


def _show(summary: Summary, out: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(summary.model_dump_json())
        return
    table = Table("what", "value", title=f"{summary.instrument}{' (SIMULATED)' if summary.simulated else ''}")
    for name, value in summary.model_dump().items():
        table.add_row(name, json.dumps(value) if isinstance(value, dict) else escape(str(value)))
    console.print(table)
    console.print(f"written: {escape(str(out))}")


@app.command("explain", epilog="Example: huracan explain last --run out/demo   |   huracan explain 3fa9c1")
def explain_command(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="Decision id, enough of its beginning, or 'last'.")],
    run: Annotated[Path, typer.Option(help="Directory that a replay or demo wrote.")] = Path("out/replay"),
    as_json: JsonOption = False,
) -> None:
    """Show what a decision rests on, and make it again: exits 1 unless every recomputation gives the same bytes."""
    explanation = explain(run, decision_id)
    if as_json:
        typer.echo(explanation.model_dump_json())
    else:
        console.print(_tree(explanation))
    if not explanation.same_bytes or any(vote.proof == "DIFFERENT" for vote in explanation.votes):
        raise typer.Exit(1)


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
    orders = tree.add("orders" if told.orders else "no order")
    for order in told.orders:
        orders.add(escape(order))
    tree.add(f"config {told.config_digest[:12]}, feature set {told.feature_set_digest[:12]}")
    tree.add(f"folded again from {told.journal_entries} journal entries: {proof}")
    return tree


def entry_point() -> None:
    """Run the command; errors that people can cause end it with one sentence and exit code 2."""
    try:
        app()
    except HuracanError as error:
        problems.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from None
