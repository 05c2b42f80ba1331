"""The error resolver: what each fault changes, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from huracan.errors import BadInput, Fatal
from huracan_training.models.loop import FaultKind, LoopSettings, TrainingFault
from huracan_training.models.nets import NetClassifier, NetSettings
from huracan_training.models.resolver import FaultMemory, diagnose, resolved

from .switching import QUESTION, switching_parts

ASKED = LoopSettings(learning_rate=1.0, batch=64, largest_batch=128)


def test_a_net_that_wants_time_first_is_fed_so_the_second_time(tmp_path: Path) -> None:
    class TimeFirst(nn.Module):
        def __init__(self, columns: int, classes: int, settings: NetSettings) -> None:
            super().__init__()
            self.head = nn.Linear(columns, classes)

        def forward(self, windows: Tensor) -> Tensor:
            logits: Tensor = self.head(windows).mean(dim=1)
            return logits

    parts = switching_parts(bars=300, assets=("AAA",))
    size, loop = NetSettings(width=1, depth=1, dropout=0.0), LoopSettings(epochs=1)
    model = NetClassifier("time_first", TimeFirst, QUESTION, size, loop=loop, room=tmp_path)
    model.fit(parts.train, parts.valid, seed=1)
    assert model.predict(parts.judged[0]).shape == (len(parts.judged[0].at), 4)
    memory = FaultMemory(tmp_path / "faults.jsonl")
    assert memory.recall("time_first on 6 columns", loop) == replace(loop, time_first=True)
    model.write(tmp_path / "kept")
    again = NetClassifier("time_first", TimeFirst, QUESTION, size)
    again.read(tmp_path / "kept")
    assert again.predict(parts.judged[0]).tobytes() == model.predict(parts.judged[0]).tobytes()


def test_a_slower_try_follows_a_loss_that_is_no_number() -> None:
    def attempt(settings: LoopSettings) -> LoopSettings:
        if settings.learning_rate > 0.1:
            raise TrainingFault(FaultKind.NOT_A_NUMBER, "loss was nan")
        if settings.clip_norm > 0.2:
            raise TrainingFault(FaultKind.EXPLODING, "gradient norm was 1e9")
        return settings

    served = resolved(attempt, ASKED, subject="a net")
    assert served.learning_rate == pytest.approx(0.3**3)
    assert served.clip_norm == 0.125


def test_less_is_taken_at_a_time_where_memory_is_short() -> None:
    def attempt(settings: LoopSettings) -> LoopSettings:
        if settings.largest_batch > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return settings

    served = resolved(attempt, ASKED, subject="a net")
    assert (served.batch, served.largest_batch) == (16, 32)


def test_what_helped_is_tried_first_the_next_time(tmp_path: Path) -> None:
    tried: list[float] = []

    def attempt(settings: LoopSettings) -> float:
        tried.append(settings.learning_rate)
        if settings.learning_rate > 0.5:
            raise TrainingFault(FaultKind.EXPLODING, "gradient norm was 1e9")
        return settings.learning_rate

    memory = FaultMemory(tmp_path / "room" / "faults.jsonl")
    for subject in ("a net", "a net", "another net"):
        resolved(attempt, ASKED, subject=subject, memory=memory)
    assert tried == [1.0, 0.3, 0.3, 1.0, 0.3]


def test_training_that_no_change_helps_is_given_up_and_not_tried_so_again(tmp_path: Path) -> None:
    def attempt(settings: LoopSettings) -> float:
        raise TrainingFault(FaultKind.NOT_A_NUMBER, "loss was nan")

    memory = FaultMemory(tmp_path / "faults.jsonl")
    with pytest.raises(Fatal, match="a net could not be trained: not_a_number, not_a_number"):
        resolved(attempt, ASKED, subject="a net", memory=memory, tries=2)
    assert memory.recall("a net", ASKED) is None


def test_what_is_no_fault_of_training_is_let_pass() -> None:
    def attempt(settings: LoopSettings) -> float:
        raise BadInput("train labels were outside [0, 4)")

    with pytest.raises(BadInput):
        resolved(attempt, ASKED, subject="a net")
    assert diagnose(RuntimeError("no such operator")) is None
