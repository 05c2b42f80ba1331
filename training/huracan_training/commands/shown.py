"""What the commands share: options, progress, and how an evaluation is told in a terminal."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from huracan_training.evaluation import Evaluation

DataOption = Annotated[
    list[Path], typer.Option("--data", help="File of bars (Parquet, CSV), or a recording; give it once for each.")
]
RegistryOption = Annotated[
    str, typer.Option(envvar="HURACAN_REGISTRY", help="Directory of the registry, or the URL of an MLflow server.")
]
OutOption = Annotated[Path, typer.Option(help="Directory of what is written.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
FoldsOption = Annotated[int, typer.Option(min=1, help="Walk-forward folds.")]
HorizonOption = Annotated[int, typer.Option(min=1, help="Bars that labels look ahead.")]
TargetOption = Annotated[
    str, typer.Option(help="What is asked: the regime of bars, or the direction of steps of recordings.")
]
AheadOption = Annotated[
    str | None,
    typer.Option("--horizon", "--horizon-bars", help="Rows that labels look ahead; of steps also 1s, 5s or 10s."),
]
EXPERIMENT = "regime"
"""In the registry: every fit counts as a trial of it."""


class Shown:
    """Show which of all fits is under way and, of a net, how far its epoch is and what it loses; a Walker.

    On something that is no terminal only the last state is printed.
    """

    def __init__(self, *, quiet: bool, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console or Console(stderr=True),
            disable=quiet,
        )
        self._fits = self._progress.add_task("", total=None)
        self._epoch = self._progress.add_task("", total=None, visible=False)
        self._judged = ""
        self._total = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._progress.update(self._fits, completed=self._total, total=self._total)
        self._progress.stop()

    def fitting(self, told: str, done: int, total: int) -> None:
        """Say what is fitted next, and how many of all are done."""
        self._total = total
        self._progress.update(self._fits, description=told, completed=done, total=total)
        self._progress.reset(self._epoch, visible=False)
        self._judged = ""

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Move the bar of the epoch."""
        told = f"  epoch {epoch}, loss {loss:.4f}{self._judged}"
        self._progress.update(self._epoch, description=told, completed=done, total=steps, visible=True)

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:  # noqa: ARG002 - of a Watch
        """Show the losses of an epoch."""
        self._judged = f", valid {valid_loss:.4f}, batch {batch}"
        told = f"  epoch {epoch}, loss {train_loss:.4f}{self._judged}"
        self._progress.update(self._epoch, description=told, visible=True)


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
