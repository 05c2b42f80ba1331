"""Lines that wait for the gateway."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from huracan.ports import Clock
from huracan_gateway.recording import Line


def one_line(raw: bytes) -> bytes:
    """Return a JSON text without line breaks, which it has between tokens alone: a recording has a frame a line."""
    return raw.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in raw or b"\r" in raw else raw


@dataclass(frozen=True, slots=True)
class BookLost:
    """Between two lines: updates of the order book no longer come."""

    why: str


class LineQueue:
    """Stamp frames on arrival, never going back, and keep them in order.

    Bound: `bound` lines. Overflow: conflate. The oldest half goes at once, so that there is one hole and not one for
    each line that follows; those that define the instrument stay, and losses of the book. Metric: `skipped`.
    """

    def __init__(self, bound: int, clock: Clock, overflowed: Callable[[], None]) -> None:
        self.skipped = 0
        self._bound = bound
        self._clock = clock
        self._overflowed = overflowed
        self._lines: deque[tuple[Line | BookLost, bool]] = deque()
        self._came = asyncio.Event()
        self._stamp_ns = 0

    def __len__(self) -> int:
        """Return how many lines and losses wait."""
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

    def put_loss(self, why: str) -> None:
        """Append that the book is lost from here on; of those that are to be dropped one outlives an overflow."""
        self._lines.append((BookLost(why), True))
        self._came.set()

    def pop(self) -> Line | BookLost:
        """Return the oldest line or loss; there must be one."""
        return self._lines.popleft()[0]

    @property
    def oldest_ns(self) -> int | None:
        """Return the receive time of the oldest line, None where none waits; of a loss, that of the next line."""
        return next((entry.recv_ns for entry, _ in self._lines if isinstance(entry, Line)), None)

    async def wait(self) -> None:
        """Return once a line has come, or somebody woke the one who waits."""
        self._came.clear()
        await self._came.wait()

    def wake(self) -> None:
        """Let the one who waits look again."""
        self._came.set()

    def _drop(self, count: int) -> None:
        oldest = [self._lines.popleft() for _ in range(count)]
        lost = [entry for entry in oldest if isinstance(entry[0], BookLost)][:1]
        kept = lost + [entry for entry in oldest if entry[1] and isinstance(entry[0], Line)]
        self._lines.extendleft(reversed(kept))
        self.skipped += sum(not keep for _, keep in oldest)
