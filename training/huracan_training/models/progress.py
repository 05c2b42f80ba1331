"""Progress of training in a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressBar:
    """Show steps of the epoch as a bar, and losses of the last epoch beside it; a Watch of training.

    Use as a context manager; on something that is no terminal only the last state is printed.
    """

    def __init__(self, name: str, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn(f"{name} epoch {{task.fields[epoch]}}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}, valid {task.fields[valid]:.4f}, batch {task.fields[batch]}"),
            TimeElapsedColumn(),
            console=console,
        )
        nothing = float("nan")
        self._task = self._progress.add_task(name, epoch=0, loss=nothing, valid=nothing, batch=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, epoch=epoch, completed=done, total=steps, loss=loss)

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:
        """Show the losses of an epoch."""
        self._progress.update(self._task, epoch=epoch, loss=train_loss, valid=valid_loss, batch=batch)
