"""`huracan benchmark`: compare every registered model on walk-forward folds, and judge one."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from huracan_training.benchmark import Asked, benchmarked
from huracan_training.datasets import build
from huracan_training.evaluation import Evaluation
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.table import LEFT_OUT, MODELS
from huracan_training.registry import Registry
from huracan_training.report import summary, write_report

DataOption = Annotated[list[Path], typer.Option("--data", help="File of bars (Parquet, CSV); give it once for each.")]
RegistryOption = Annotated[
    str, typer.Option(envvar="HURACAN_REGISTRY", help="Directory of the registry, or the URL of an MLflow server.")
]
OutOption = Annotated[Path, typer.Option(help="Directory of what is written.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
EXPERIMENT = "regime"
"""In the registry: every fit counts as a trial of it."""


class Shown:
    """Show which model is fitted on which fold; a Walker."""

    def __init__(self, *, quiet: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def fitting(self, model: str, fold: int, seed: int, done: int, total: int) -> None:
        """Say what is fitted next."""
        told = f"{model}, fold {fold}, seed {seed}"
        self._progress.update(self._task, description=told, completed=done, total=total)


def benchmark(
    data: DataOption,
    judged: Annotated[str, typer.Option("--model", help="The one to be judged.")] = "strided_cnn",
    against: Annotated[
        list[str] | None, typer.Option(help=f"Models beside it, of {', '.join(MODELS)}; all without it.")
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Walk-forward folds.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each net.")] = 3,
    horizon_bars: Annotated[int, typer.Option(min=1, help="Bars that labels look ahead.")] = HORIZON_BARS,
    registry: RegistryOption = "out/registry",
    out: OutOption = Path("out/benchmark"),
    as_json: JsonOption = False,
) -> None:
    """Compare models walk-forward, per asset and regime. Stopped and run again, it goes on where it was."""
    asked = Asked(judged=judged, models=tuple(against or MODELS), seeds=seeds, folds=folds, horizon_bars=horizon_bars)
    asked.contenders()
    dataset = build(data, out / "dataset")
    kept = Registry(registry)
    with kept.run(EXPERIMENT, kind="benchmark") as run, Shown(quiet=as_json) as shown:
        run.parameters({"model": judged, "folds": folds, "seeds": seeds, "horizon_bars": horizon_bars})
        run.note("data_digest", dataset.digest)
        evaluation = benchmarked(dataset, asked, room=out / "said", trials=kept.trials(EXPERIMENT), walker=shown)
        run.metrics({"log_loss": evaluation.judged.scores.log_loss, "ece": evaluation.judged.scores.ece})
        page = write_report(evaluation, out)
        run.keep(page)
    if as_json:
        typer.echo(json.dumps(summary(evaluation), allow_nan=False))
        return
    _print(evaluation, page)


def _print(evaluation: Evaluation, page: Path) -> None:
    console = Console()
    for model in evaluation.models:
        interval = model.intervals["log_loss"]
        console.print(
            f"{model.name:14} log loss {model.scores.log_loss:.4f} [{interval.low:.4f}, {interval.high:.4f}]  "
            f"macro-F1 {model.scores.macro_f1:.3f}  ECE {model.scores.ece:.3f}",
            highlight=False,
        )
    for claim in evaluation.claims:
        console.print(f"{'[green]held[/green]' if claim.held else '[red]missed[/red]'} {claim.text}: {claim.reached}")
    for left_out in LEFT_OUT:
        console.print(f"[dim]left out: {left_out.name}, {left_out.reason}[/dim]")
    console.print(f"report: {page}", soft_wrap=True)
