"""What to do when training breaks down: change the settings, try again, log it and remember what helped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import structlog
import torch

from huracan.errors import Fatal
from huracan_training.models.loop import FaultKind, LoopSettings, TrainingFault

T = TypeVar("T")
Remedy = Callable[[LoopSettings], LoopSettings]

_log = structlog.get_logger()
_SHAPE_WORDS = ("shape", "size", "dimension", "channels")


def _swap_axes(settings: LoopSettings) -> LoopSettings:
    return replace(settings, time_first=not settings.time_first)


def _slow_down(settings: LoopSettings) -> LoopSettings:
    return replace(settings, learning_rate=settings.learning_rate * 0.3, clip_norm=settings.clip_norm * 0.5)


def _halve_batch(settings: LoopSettings) -> LoopSettings:
    batch = max(settings.batch // 2, 2)
    return replace(settings, batch=batch, largest_batch=max(settings.largest_batch // 2, batch))


REMEDIES: Mapping[FaultKind, Remedy] = {
    FaultKind.SHAPE: _swap_axes,
    FaultKind.NOT_A_NUMBER: _slow_down,
    FaultKind.EXPLODING: _slow_down,
    FaultKind.MEMORY: _halve_batch,
}
"""What is changed for each fault."""


def diagnose(error: Exception) -> TrainingFault | None:
    """Return the fault behind an error of torch, or None where it is none of ours to resolve."""
    if isinstance(error, TrainingFault):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return TrainingFault(FaultKind.MEMORY, str(error))
    if isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _SHAPE_WORDS):
        return TrainingFault(FaultKind.SHAPE, str(error))
    return None


class FaultMemory:
    """Which settings served after a fault, by subject, kept as JSON lines: one for each resolution or failure."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, subject: str, asked: LoopSettings) -> LoopSettings | None:
        """Return the settings that served last where these were asked for, or None."""
        if not self._file.exists():
            return None
        served = None
        for line in self._file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry["subject"] == subject and entry["asked"] == asdict(asked) and entry["resolved"]:
                served = LoopSettings(**entry["served"])
        return served

    def note(
        self, subject: str, asked: LoopSettings, served: LoopSettings, faults: list[FaultKind], *, resolved: bool
    ) -> None:
        """Append how an attempt with faults ended."""
        entry = {
            "subject": subject,
            "asked": asdict(asked),
            "served": asdict(served),
            "faults": faults,
            "resolved": resolved,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, sort_keys=True) + "\n")


def resolved(
    attempt: Callable[[LoopSettings], T],
    settings: LoopSettings,
    *,
    subject: str,
    memory: FaultMemory | None = None,
    tries: int = 5,
) -> T:
    """Return what an attempt returns, tried again with changed settings after each fault.

    The subject says what is trained on what; where the memory knows settings that served for it, they are tried
    first. Raise Fatal after `tries` attempts, and let pass what is no fault of training.
    """
    current = (memory.recall(subject, settings) if memory else None) or settings
    faults: list[FaultKind] = []
    for _ in range(tries):
        try:
            answer = attempt(current)
        except Exception as error:
            fault = diagnose(error)
            if fault is None:
                raise
            faults.append(fault.kind)
            following = REMEDIES[fault.kind](current)
            changed = {key: value for key, value in asdict(following).items() if value != asdict(current)[key]}
            _log.warning("training_fault", subject=subject, kind=fault.kind, detail=str(error), retry_with=changed)
            current = following
        else:
            if faults and memory:
                memory.note(subject, settings, current, faults, resolved=True)
            return answer
    if memory:
        memory.note(subject, settings, current, faults, resolved=False)
    raise Fatal(f"{subject} could not be trained: {', '.join(faults)}; look at its features and settings")
