"""One instrument as the executor follows it: its place in the tick log, its book, and reports still to be
heard."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from decimal import Decimal

from huracan.bus import subjects
from huracan.contracts.decision import Decision
from huracan.contracts.execution import ExecutionReport
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickBatch, instrument_key
from huracan.errors import Fatal
from huracan.ports import Delivery, TickLog
from huracan_executor.account import definition_key
from huracan_executor.market import Market, MarketBook
from huracan_executor.money import mid_of

DECISIONS_BOUND = 1_024
"""Decisions of one instrument that wait; past it all decisions wait in the stream (block)."""


class Feed:
    """Read the tick log of one instrument batch by batch; batches that come again are skipped."""

    def __init__(
        self,
        instrument: InstrumentId,
        log: TickLog,
        definitions: dict[str, InstrumentDefinition],
        count: Callable[[str], None],
    ) -> None:
        self.instrument = instrument
        self.key = instrument_key(instrument)
        self.book: MarketBook | None = None
        self.watermark_ns = 0
        """All that was received before this is in the book."""
        self.decisions: asyncio.Queue[tuple[Decision, Delivery]] = asyncio.Queue(DECISIONS_BOUND)
        self.ask_at_ns: dict[bytes, int] = {}
        """When to ask the venue again, by order id."""
        self._log = log
        self._definitions = definitions
        self._count = count
        self._offset = 0
        self._waiting: deque[TickBatch] = deque()
        self._last = (0, 0)
        self._epoch = 0
        self._reports: list[tuple[int, int, ExecutionReport]] = []
        self._heard = 0
        self._mid: Decimal | None = None
        self._taken = asyncio.Event()

    async def peek(self) -> TickBatch | None:
        """Return the next batch, or None when the log has no more.

        Learns the definitions it meets; raises Fatal when one changes without a new version.
        """
        if not self._waiting:
            for record in await self._log.read(subjects.TICKS_TOPIC, self.key, self._offset):
                if record.offset >= self._offset:  # another reader may have been here meanwhile
                    self._offset = record.offset + 1
                    self._queue(record.message)
        return self._waiting[0] if self._waiting else None

    async def grown(self) -> None:
        """Return once the log has more than was read."""
        await self._log.wait(subjects.TICKS_TOPIC, self.key, self._offset)

    async def taken(self) -> None:
        """Return once a batch is taken into the book, by whomever."""
        await self._taken.wait()

    def _queue(self, batch: object) -> None:
        if not isinstance(batch, TickBatch) or (batch.epoch, batch.batch) <= self._last:
            self._count("ticks.repeated")
            return
        if batch.epoch == self._last[0] and batch.batch > self._last[1] + 1:
            self._count("ticks.gap")
        self._last = (batch.epoch, batch.batch)
        self._learn(batch.instrument)
        self._waiting.append(batch)

    def _learn(self, definition: InstrumentDefinition) -> None:
        name = definition_key(definition.id)
        known = self._definitions.setdefault(name, definition)
        for part in ("price_increment", "size_increment", "multiplier", "type", "settle"):
            was, now = getattr(known, part), getattr(definition, part)
            if was != now:
                raise Fatal(f"{name}: {part} was {was}, now {now}, under the same definition version")

    def take(self) -> TickBatch:
        """Take the batch that `peek` returned into the book and return it."""
        batch = self._waiting.popleft()
        if self.book is None or self._epoch != batch.epoch or self.book.definition.id != batch.instrument.id:
            self.book = MarketBook(batch.instrument)
            self._epoch = batch.epoch
        self.book.apply(batch)
        self._mid = _mid(self.book.view()) or self._mid
        self.watermark_ns = max(self.watermark_ns, batch.watermark_ns)
        taken, self._taken = self._taken, asyncio.Event()
        taken.set()
        return batch

    def expect(self, report: ExecutionReport) -> None:
        """Keep a report until it can be heard."""
        self._heard += 1
        heapq.heappush(self._reports, (report.received_ns, self._heard, report))

    def hear(self) -> ExecutionReport | None:
        """Return the next report that has reached us by the watermark, oldest first, or None."""
        if self._reports and self._reports[0][0] <= self.watermark_ns:
            return heapq.heappop(self._reports)[2]
        return None

    def mid(self) -> Decimal | None:
        """Return the last mid price of a two-sided book, None before there was one."""
        return self._mid


def _mid(market: Market) -> Decimal | None:
    if market.best_bid is None or market.best_ask is None:
        return None
    return mid_of(market.definition, market.best_bid, market.best_ask)
