"""What the commands share: options, progress, and how an evaluation is told in a terminal."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from huracan_training.evaluation import Evaluation

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


def print_evaluation(evaluation: Evaluation, page: Path) -> None:
    """Print scores and claims."""
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
    console.print(f"report: {page}", soft_wrap=True)
