"""A tape played on the clock: each line comes when it is due, and the venue's order book can be asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import chain, pairwise
from typing import NamedTuple

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.contracts.market import InstrumentDefinition
from huracan.market.book import DepthUpdate, Level
from huracan.ports import Clock
from huracan_gateway.adapter import Adapter, WholeBook
from huracan_gateway.events import NO_TIME, Depth, Snapshot
from huracan_gateway.recording import Line
from huracan_gateway.reject import Rejected

LATE_NS = NANOSECONDS
"""Whoever begins to listen later than this after the first line has missed what came before."""
LINES_AT_ONCE = 64
"""Lines handed out or skipped before other tasks have their turn: at most a few milliseconds of work."""
SNAPSHOT_LEVELS = 1_000
"""Levels a side that the venue answers with at most (`GET /fapi/v1/depth`)."""
UPDATES_KEPT = 4_096
"""Depth updates kept until the first snapshot; the oldest go first."""
_END = Line(2**63, b"")


class PacedFeed:
    """Hand out the lines of a tape when the clock reaches their receive times.

    A line is stamped with the time at which it is handed out, as on arrival, so that none comes with a time before a
    step that the clock has closed. One that was refused on the tape comes unchanged in its place. Overdue lines come at
    once. Speed is the clock's affair.

    A feed that is first asked when the tape has run for more than `LATE_NS` skips what was due before: nobody listened.
    """

    def __init__(
        self, lines: Callable[[], Iterator[Line]], adapter: Adapter, definition: InstrumentDefinition, clock: Clock
    ) -> None:
        self.adapter, self.definition = adapter, definition
        self.skipped = 0
        """Lines that came before anybody listened, refused ones included."""
        self._open = lines
        self._clock = clock
        self._tape = _with_due_times(lines())
        self._next: tuple[int, Line] | None = None
        self._begun = False
        self._book = VenueBook(adapter, definition)
        self._asked = False
        self._handed = 0
        self._stamp_ns = 0

    async def next_line(self) -> Line | None:
        """Wait until the next line is due and return it; None at the end of the tape."""
        await self._begin()
        self._handed += 1
        if self._handed % LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        if self._next is not None and not self._asked:
            await self._clock.sleep_until(self._next[0])
        if self._asked:  # perhaps only while this waited
            self._asked = False
            at_ns = self._stamp(0)
            return Line(at_ns, self._book.snapshot(at_ns))
        if self._next is None:
            return None
        due_ns, line = self._next
        self._pass(due_ns, line)
        return line if line.rejected is not None else Line(self._stamp(due_ns), line.raw)

    @property
    def oldest_ns(self) -> int | None:
        """Return when the next line was due; None where its time has not come."""
        return self._next[0] if self._next is not None and self._next[0] < self._clock.now_ns() else None

    async def request_snapshot(self) -> None:
        """Let the order book at the current place of the tape be the next line.

        Nothing comes of it before the tape's own first snapshot, which is then the answer.
        """
        await self._begin()
        self._asked = self._book.known

    async def aclose(self) -> None:
        """Do nothing: the tape is closed when it is read."""

    async def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._next = next(self._tape, None)
        first_ns = next((line.recv_ns for line in self._open() if line.rejected is None), self._clock.now_ns())
        await self._clock.sleep_until(first_ns)
        if self._clock.now_ns() - first_ns <= LATE_NS:
            return
        while self._next is not None and self._next[0] < self._clock.now_ns():
            self._pass(*self._next)
            self.skipped += 1
            if self.skipped % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _pass(self, due_ns: int, line: Line) -> None:
        self._book.take(line, due_ns)
        self._next = next(self._tape, None)

    def _stamp(self, due_ns: int) -> int:
        self._stamp_ns = max(self._stamp_ns, due_ns, self._clock.now_ns())
        return self._stamp_ns


def _with_due_times(lines: Iterator[Line]) -> Iterator[tuple[int, Line]]:
    """Yield when each line is due, never before the one before it.

    That is its receive time. A time that the next line goes back behind is damaged, or the two are swapped: the next
    line's counts, so that a time far ahead does not hold up the rest.
    """
    due_ns = 0
    for line, follower in pairwise(chain(lines, [_END])):
        if line.rejected is None:
            ahead = follower.rejected is None and due_ns <= follower.recv_ns < line.recv_ns
            due_ns = max(due_ns, follower.recv_ns if ahead else line.recv_ns)
        yield due_ns, line


class _Resting(NamedTuple):
    size: int
    since: int
    """Final id of the update that set it."""


class VenueBook:
    """The venue's order book as its frames tell it, for when it is asked for.

    Frames are read as the gateway reads them, so every level is a multiple of the increments. What is missing from a
    tape cannot be known: the book goes on without it, and where that leaves a bid at or above an ask the newer stands.
    """

    def __init__(self, adapter: Adapter, definition: InstrumentDefinition) -> None:
        self.known = False
        """Whether there was a snapshot to begin with."""
        self._adapter = adapter
        self._symbol = definition.venue_symbol
        self._decoder = adapter.decoder(definition)
        self._price_increment = Decimal(definition.price_increment)
        self._size_increment = Decimal(definition.size_increment)
        self._bids: dict[int, _Resting] = {}
        self._asks: dict[int, _Resting] = {}
        self._final = 0
        self._venue_ahead_ns = 0
        self._before: deque[DepthUpdate] = deque(maxlen=UPDATES_KEPT)

    def take(self, line: Line, recv_ns: int) -> None:
        """Take a line of the tape; whatever is no depth update and no snapshot, or is damaged, changes nothing."""
        if line.rejected is not None or not any(mark in line.raw for mark in self._adapter.book_marks):
            return
        try:
            _, events = self._decoder.decode(line.raw)
        except Rejected:
            return
        for event in events:
            match event:
                case Depth() if self.known:
                    self._apply(event.update)
                case Depth():
                    self._before.append(event.update)
                case Snapshot() if event.restart or event.last_update_id >= self._final:
                    self._load(event)
            if event.event_ns != NO_TIME:
                self._venue_ahead_ns = event.event_ns - recv_ns

    def _load(self, snapshot: Snapshot) -> None:
        self.known = True
        self._bids.clear()
        self._asks.clear()
        if snapshot.restart:
            self._before.clear()
        self._set(snapshot.last_update_id, snapshot.bids, snapshot.asks)
        for update in self._before:
            self._apply(update)
        self._before.clear()

    def _apply(self, update: DepthUpdate) -> None:
        if update.final > self._final or update.previous == self._final:
            self._set(update.final, update.bids, update.asks)

    def _set(self, final: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        self._final = final
        for side, levels in ((self._bids, bids), (self._asks, asks)):
            for price, size in levels:
                if size:
                    side[price] = _Resting(size, final)
                else:
                    side.pop(price, None)

    def snapshot(self, at_ns: int) -> bytes:
        """Return the book in the venue's form at a time of our clock: the best 1,000 levels a side, best first.

        Its event time is the venue's clock then, as far ahead of ours as when it was last read.
        """
        bids, asks = self._uncrossed()
        event_ms = (at_ns + self._venue_ahead_ns) // MILLISECOND_NS
        told = self._texts(self._bids, bids), self._texts(self._asks, asks)
        return self._adapter.write_book(WholeBook(self._symbol, self._final, event_ms, *told))

    def _uncrossed(self) -> tuple[list[int], list[int]]:
        bids, asks = deque(sorted(self._bids, reverse=True)), deque(sorted(self._asks))
        while bids and asks and bids[0] >= asks[0]:
            older = bids if self._bids[bids[0]].since < self._asks[asks[0]].since else asks
            older.popleft()
        return list(bids)[:SNAPSHOT_LEVELS], list(asks)[:SNAPSHOT_LEVELS]

    def _texts(self, side: dict[int, _Resting], prices: list[int]) -> list[tuple[str, str]]:
        return [
            (f"{price * self._price_increment:f}", f"{side[price].size * self._size_increment:f}") for price in prices
        ]
