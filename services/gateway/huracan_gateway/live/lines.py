"""Lines that wait for the gateway."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from huracan.ports import Clock
from huracan_gateway.recording import Line


def one_line(raw: bytes) -> bytes:
    """Return a JSON text without line breaks, which it has between tokens alone: a recording has a frame a line."""
    return raw.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in raw or b"\r" in raw else raw


class LineQueue:
    """Stamp frames on arrival, never going back, and keep them in order.

    Bound: `bound` lines. Overflow: conflate. The oldest half goes at once, so that there is one hole and not one for
    each line that follows; those that define the instrument stay. Metric: `skipped`.
    """

    def __init__(self, bound: int, clock: Clock, overflowed: Callable[[], None]) -> None:
        self.skipped = 0
        self._bound = bound
        self._clock = clock
        self._overflowed = overflowed
        self._lines: deque[tuple[Line, bool]] = deque()
        self._came = asyncio.Event()
        self._stamp_ns = 0

    def __len__(self) -> int:
        """Return how many lines wait."""
        return len(self._lines)

    def put(self, raw: bytes, *, keep: bool = False, recv_ns: int | None = None) -> None:
        """Append a frame that came now, or at an earlier time; one that is to be kept outlives an overflow."""
        self._stamp_ns = max(self._stamp_ns, self._clock.now_ns() if recv_ns is None else recv_ns)
        overflows = len(self._lines) >= self._bound
        if overflows:
            self._drop(self._bound // 2)
        self._lines.append((Line(self._stamp_ns, one_line(raw)), keep))
        self._came.set()
        if overflows:
            self._overflowed()

    def pop(self) -> Line:
        """Return the oldest line; there must be one."""
        return self._lines.popleft()[0]

    async def wait(self) -> None:
        """Return once a line has come, or somebody woke the one who waits."""
        self._came.clear()
        await self._came.wait()

    def wake(self) -> None:
        """Let the one who waits look again."""
        self._came.set()

    def _drop(self, count: int) -> None:
        oldest = [self._lines.popleft() for _ in range(count)]
        kept = [entry for entry in oldest if entry[1]]
        self._lines.extendleft(reversed(kept))
        self.skipped += count - len(kept)
