"""Time: nanoseconds since the Unix epoch, and the micro steps cut from it (SEMANTICS: Step)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

NANOSECONDS = 1_000_000_000
MICROSECOND_NS = 1_000
MILLISECOND_NS = 1_000_000
MINUTE_NS = 60 * NANOSECONDS
DAY_NS = 1_440 * MINUTE_NS
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


class SystemClock:
    """The wall clock: the Clock port of live services."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds since the Unix epoch."""
        return time.time_ns()

    async def sleep_until(self, ns: int) -> None:
        """Return at this time, at once if it is past."""
        while (left_ns := ns - time.time_ns()) > 0:  # noqa: ASYNC110 - wall time may be set back meanwhile
            await asyncio.sleep(left_ns / NANOSECONDS)


class MarketClock:
    """The time of a recording that is played: the Clock port of replays and demos.

    It runs `speed` times as fast as the wall clock. At speed 0 it stands still and moves only by what is heard, and the
    one who leads moves it by waiting: that is the clock of a replay. Whoever follows hears the leader's time with every
    message (a Lamport clock), so no two processes need to agree on a beginning.
    """

    def __init__(self, start_ns: int, *, speed: float, leads: bool, begins: Callable[[], int] | None = None) -> None:
        self._base_ns = start_ns
        self._speed = speed
        self._leads = leads
        self._begins = begins
        """Gives the market's time when the leader first waits for any: until then it stands still."""
        self._since_ns = time.monotonic_ns() if leads and begins is None else None
        self._moved = asyncio.Event()

    def now_ns(self) -> int:
        """Return the market's time in nanoseconds since the Unix epoch."""
        if self._since_ns is None or not self._speed:
            return self._base_ns
        return self._base_ns + int((time.monotonic_ns() - self._since_ns) * self._speed)

    def heard(self, ns: int) -> None:
        """Move on to a time that another has reached; an earlier one changes nothing."""
        if ns > self.now_ns():
            self._base_ns = ns
            self._since_ns = time.monotonic_ns()
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def sleep_until(self, ns: int) -> None:
        """Return at this time, at once if it is past; the leader of a replay makes it be this time."""
        if self._leads and not self._speed:
            self.heard(ns)
        elif self._begins is not None:
            begins, self._begins = self._begins, None
            self._since_ns = time.monotonic_ns()
            self.heard(begins())
        while (left_ns := ns - self.now_ns()) > 0:
            moves = self._speed and self._since_ns is not None
            try:
                async with asyncio.timeout(left_ns / self._speed / NANOSECONDS if moves else None):
                    await self._moved.wait()
            except TimeoutError:
                continue
