"""A training that stands still in the middle of an epoch until it is killed; run as a module with a room."""

from __future__ import annotations

import sys
from pathlib import Path

from huracan_training.models.loop import LoopSettings, Watch
from huracan_training.models.nets import NetClassifier, NetSettings, StridedCnn

from .switching import QUESTION, switching_parts

LOOP = LoopSettings(epochs=4, batch=32, largest_batch=64, grow_after=1, checkpoint_steps=5, class_weight_power=0.5)
STANDS_AT = (1, 5)
"""Epoch, from 0, and step of it, from 1: the newest checkpoint is then of the second step of that epoch."""


class StandsStill:
    """Say so at one step and wait for input that never comes."""

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Stand still at the step."""
        if (epoch, done) == STANDS_AT:
            print("standing", flush=True)  # noqa: T201 - the parent waits for it
            sys.stdin.read()

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:
        """Do nothing."""


def trained(room: Path | None, watch: Watch | None) -> NetClassifier:
    """Return a net with dropout and batch norm, trained on the tiny market."""
    parts = switching_parts(bars=500, assets=("AAA",))
    size = NetSettings(width=8, depth=2, dropout=0.3)
    model = NetClassifier("strided_cnn", StridedCnn, QUESTION, size, loop=LOOP, room=room, watch=watch)
    model.fit(parts.train, parts.valid, seed=3)
    return model


if __name__ == "__main__":
    trained(Path(sys.argv[1]), StandsStill())
