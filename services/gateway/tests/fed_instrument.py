"""An instrument that tests feed event by event, and the rows that it logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from huracan.clock import step_close, step_of, step_open
from huracan.contracts.market import TickBatch, tick_columns
from huracan.market.book import DepthUpdate, Level
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.events import Depth, Event, Quote, Snapshot, Trade
from huracan_gateway.instrument import ClosedStep, Instrument
from huracan_gateway.reject import Rejected

NS = 10**9
START = step_open(step_of(1_723_161_255 * NS))
BTCUSDT = ADAPTER.implied("BTCUSDT", "0.10", "0.001")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the log."""

    ingest_seq: int
    event_ns: int
    recv_ns: int
    venue_seq: int
    kind: int
    flags: int
    side: int
    price: int
    size: int


def rows_of(batches: Sequence[TickBatch]) -> list[Row]:
    rows = []
    for batch in batches:
        columns = tick_columns(batch)
        rows += [Row(*values) for values in zip(*(getattr(columns, name) for name in Row.__slots__), strict=True)]
    return rows


class Feed:
    """Feed an instrument, one millisecond of receive time after the other."""

    def __init__(self, *, batch_rows: int = 10_000) -> None:
        self.instrument = Instrument(BTCUSDT, epoch=7, batch_rows=batch_rows, adapter=ADAPTER)
        self.recv_ns = START
        self.logged: list[TickBatch] = []
        self.sequence = 0
        self.final = 100
        self.trade_id = 0
        self.quote_id = 0

    def take(self, event: Event, *, later_ns: int = 1_000_000) -> None:
        self.recv_ns += later_ns
        self.sequence += 1
        self.instrument.take(event, recv_ns=self.recv_ns, ingest_seq=self.sequence)

    def refused(self, event: Event) -> Rejected:
        with pytest.raises(Rejected) as caught:
            self.take(event)
        return caught.value

    def depth(self, bids: Sequence[Level] = (), asks: Sequence[Level] = (), *, lost: int = 0) -> None:
        first = self.final + 1 + lost
        self.take(Depth(1, DepthUpdate(first, first, first - 1, bids, asks)))
        self.final = first

    def snapshot(self, bids: Sequence[Level] = ((10, 1),), asks: Sequence[Level] = ((11, 1),)) -> None:
        self.take(Snapshot(2, self.final, bids, asks))

    def trade(self, price: int = 10, size: int = 1, side: int = 1, *, later_ns: int = 1_000_000) -> None:
        self.trade_id += 1
        self.take(Trade(3, self.trade_id, price, size, side), later_ns=later_ns)

    def quote(self, bid: Level = (10, 1), ask: Level = (11, 1)) -> None:
        self.quote_id += 1
        self.take(Quote(4, self.quote_id, *bid, *ask))

    def until(self, recv_ns: int) -> Iterator[ClosedStep]:
        """Close every step that ends at or before a receive time."""
        while self.instrument.next_step is not None and step_close(self.instrument.next_step) <= recv_ns:
            yield self.instrument.close([])
        self.recv_ns = max(self.recv_ns, recv_ns)

    def next_step(self) -> int | None:
        return self.instrument.next_step

    def rows(self) -> list[Row]:
        """Return what was logged since the last call."""
        self.instrument.flush(self.recv_ns)
        return rows_of(self.batches())

    def batches(self) -> list[TickBatch]:
        """Return the batches since the last call."""
        batches, self.instrument.batches = self.instrument.batches, []
        self.logged += batches
        return batches


def levels(low: int, high: int) -> st.SearchStrategy[list[Level]]:
    return st.lists(st.tuples(st.integers(low, high), st.integers(0, 3)), max_size=4)


def event_of(feed: Feed, kind: str, bids: list[Level], asks: list[Level]) -> Event:
    if kind in ("depth", "lost"):
        first = feed.final + 1 + (kind == "lost")
        feed.final = first
        return Depth(1, DepthUpdate(first, first, first - 1, bids, asks))
    if kind == "again":
        return Depth(1, DepthUpdate(feed.final, feed.final, feed.final - 1, bids, asks))
    if kind == "trade":
        feed.trade_id += 1 + len(bids)
        return Trade(3, feed.trade_id, 9, len(asks), -1)
    if kind == "quote":
        feed.quote_id += len(asks)
        return Quote(4, feed.quote_id, 8, 1, 9, len(bids))
    return Snapshot(2, feed.final - 2 * (kind == "old snapshot"), bids, asks)
