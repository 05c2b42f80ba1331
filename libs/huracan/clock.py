"""Time: nanoseconds since the Unix epoch, and the micro steps cut from it (SEMANTICS: Step)."""

from __future__ import annotations

NANOSECONDS = 1_000_000_000
MILLISECOND_NS = 1_000_000
MINUTE_NS = 60 * NANOSECONDS
STEP_NS = 100 * MILLISECOND_NS
"""Length of a micro step."""


def step_of(ns: int) -> int:
    """Return the number of the micro step that covers a receive time."""
    return ns // STEP_NS


def step_open(step: int) -> int:
    """Return the first nanosecond of a micro step."""
    return step * STEP_NS


def step_close(step: int) -> int:
    """Return the end of a micro step: the first nanosecond after it."""
    return (step + 1) * STEP_NS
