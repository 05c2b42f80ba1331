"""The training loop: stops when it should, and survives kill -9 to the same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huracan_training.models.loop import (
    FaultKind,
    LoopSettings,
    Outcome,
    Training,
    TrainingFault,
    WindowSet,
    deterministic,
    weights_digest,
)

from .interrupted import STANDS_AT, trained

REPO = Path(__file__).resolve().parents[2]


@dataclass
class Heard:
    """Remember what a watch is told."""

    steps: list[tuple[int, int, int]] = field(default_factory=list)
    epochs: list[tuple[float, int, float]] = field(default_factory=list)

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        self.steps.append((epoch, done, steps))

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:
        self.epochs.append((valid_loss, batch, learning_rate))


def test_a_training_killed_in_an_epoch_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.tests.interrupted", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"standing\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    heard = Heard()
    resumed, whole = trained(tmp_path, heard), trained(None, None)
    assert heard.steps[0][:2] == (STANDS_AT[0], 3)
    assert weights_digest(resumed.net) == weights_digest(whole.net)
    assert resumed.outcome == whole.outcome


def test_a_training_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    first, heard = trained(tmp_path, None), Heard()
    assert weights_digest(trained(tmp_path, heard).net) == weights_digest(first.net)
    assert heard.steps == []


def windows(count: int, *, seed: int = 0, signal_size: float = 3.0) -> WindowSet:
    """Return windows of two columns whose label is the sign of the last first column."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count + 63, 2)).astype(np.float32) * np.float32(signal_size)
    at = torch.arange(63, count + 63)
    return WindowSet(rows=torch.from_numpy(rows), at=at, labels=torch.from_numpy((rows[63:, 0] > 0).astype(np.int64)))


class LastRow(nn.Module):
    """Logistic regression on the last row; or a constant, where there is nothing to learn."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.scale = scale

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.head(windows[:, :, -1] * self.scale)
        return logits


def run(
    net: nn.Module, settings: LoopSettings, *, train: WindowSet | None = None, heard: Heard | None = None
) -> Outcome:
    """Train on a few windows."""
    with deterministic():
        torch.manual_seed(1)
        valid = windows(100, seed=1)
        training = Training(net, train or windows(200), valid, settings, classes=2, seed=1, watch=heard)
        return training.run()


def test_training_stops_when_valid_no_longer_improves_and_keeps_the_best_weights() -> None:
    heard, net = Heard(), LastRow()
    settings = LoopSettings(epochs=200, patience=4, learning_rate=0.5, batch=50, weight_decay=0.0, grow_after=99)
    outcome = run(net, settings, heard=heard, train=windows(60, signal_size=0.3))
    losses = [loss for loss, _, _ in heard.epochs]
    assert outcome.epochs == len(losses) == losses.index(min(losses)) + 1 + 4 < 200
    assert outcome.valid_loss == min(losses)
    valid = windows(100, seed=1)
    with torch.no_grad():
        kept = nn.functional.cross_entropy(net(valid.windows(torch.arange(100))), valid.labels)
    assert float(kept) == pytest.approx(outcome.valid_loss, rel=1e-5)


def test_the_batch_grows_and_the_learning_rate_halves_on_a_plateau() -> None:
    heard = Heard()
    settings = LoopSettings(
        epochs=8, learning_rate=0.0, batch=50, largest_batch=150, grow_after=2, plateau_patience=3, patience=99
    )
    run(LastRow(), settings, heard=heard)
    assert [batch for _, batch, _ in heard.epochs] == [50, 50, 100, 100, 150, 150, 150, 150]
    assert heard.steps[-1] == (7, 2, 2)
    rates = LoopSettings(epochs=8, learning_rate=1e-12, plateau_patience=3, patience=99)
    heard = Heard()
    run(LastRow(scale=0.0), rates, heard=heard, train=windows(200))
    assert heard.epochs[0][2] == 1e-12


def test_an_epoch_may_be_a_few_steps_on_windows_drawn_anew() -> None:
    heard = Heard()
    outcome = run(LastRow(), LoopSettings(epochs=3, batch=10, steps_per_epoch=4, grow_after=9), heard=heard)
    assert outcome.steps == 12
    assert {steps for _, _, steps in heard.steps} == {4}


def test_a_single_window_left_over_is_left_out() -> None:
    outcome = run(LastRow(), LoopSettings(epochs=1, batch=50), train=windows(101))
    assert outcome.steps == 2


@pytest.mark.parametrize(
    ("scale", "settings", "kind"),
    [
        (float("nan"), LoopSettings(), FaultKind.NOT_A_NUMBER),
        (1e6, LoopSettings(), FaultKind.EXPLODING),
        (1.0, LoopSettings(epochs=1, learning_rate=1e37, batch=300), FaultKind.NOT_A_NUMBER),
    ],
)
def test_a_loss_or_gradient_that_runs_away_ends_the_attempt(
    scale: float, settings: LoopSettings, kind: FaultKind
) -> None:
    with pytest.raises(TrainingFault) as fault:
        run(LastRow(scale), settings)
    assert fault.value.kind == kind


def test_training_leaves_torch_as_it_was() -> None:
    net = LastRow()
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().tolist()
    run(net, LoopSettings(epochs=1))
    after = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().tolist()
    assert before == after
