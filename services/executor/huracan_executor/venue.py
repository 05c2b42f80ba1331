"""The paper venue: immediate-or-cancel limit orders matched against the recorded book.

A pure function of the tick batches in log order and of the orders submitted between them. It has no queue
position and no market impact; the depth an order takes stays taken until the next frame of the book says
what is there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from huracan.clock import MILLISECOND_NS
from huracan.contracts.execution import (
    ExecutionReport,
    Fill,
    Order,
    OrderReason,
    OrderState,
    Side,
    execution_report,
    fill,
)
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition, TickBatch, instrument_key, tick_columns
from huracan.errors import Fatal
from huracan.market.book import ASK, BID, OrderBook
from huracan_executor.config import PaperVenueConfig
from huracan_executor.market import apply_row
from huracan_executor.money import plain, price_of, share_bps, value

Take = tuple[int, int]
"""Price and quantity, in increments, that an order takes from a level."""


@dataclass(slots=True)
class _Stream:
    """One instrument's market and the orders on their way to it."""

    book: OrderBook = field(default_factory=OrderBook)
    seen_ns: int = 0
    """All that came before this receive time is in the book, or more."""
    taken: dict[tuple[int, int], int] = field(default_factory=dict)
    """Quantity taken by (side, price) since the last frame of the book."""
    arriving: list[tuple[int, int, Order]] = field(default_factory=list)
    """Heap of (arrival, number of acceptance, order)."""
    definition: InstrumentDefinition | None = None
    epoch: int = 0

    def continue_with(self, batch: TickBatch) -> None:
        """Drop the book of another gateway epoch, which nobody kept up, or in another definition's increments."""
        if self.epoch != batch.epoch or self.definition is None or self.definition.id != batch.instrument.id:
            self.book.clear()
            self.taken.clear()
        self.epoch, self.definition = batch.epoch, batch.instrument


class PaperVenue:
    """Accept orders once under their client order id and match each when the market passes its arrival."""

    def __init__(self, config: PaperVenueConfig) -> None:
        self.config = config
        self._streams: dict[str, _Stream] = {}
        self._accepted: dict[str, Order] = {}
        self._reports: dict[str, ExecutionReport] = {}

    def restore(self, entries: Iterable[JournalEntry]) -> None:
        """Take back the record of acceptances and reports.

        The tick log then has to be advanced from its start: orders on the record take their depth again.
        Raises Fatal when the record has a report of an order that was never accepted.
        """
        for entry in entries:
            if entry.WhichOneof("entry") == "order":
                if entry.order.client_order_id not in self._accepted:
                    self._accept(_copy(entry.order))
                continue
            report = entry.execution_report
            client_order_id = report.order.client_order_id
            if client_order_id not in self._accepted:
                raise Fatal(f"venue record {entry.key}: report of {client_order_id}, which it never accepted")
            self._reports[client_order_id] = _copy_report(report)

    def submit(self, order: Order, sent_ns: int) -> Order | None:
        """Return an order as accepted, `updated_ns` its arrival; None when its id is already known.

        The arrival is never before what the venue has already seen of the instrument's market.
        """
        if order.client_order_id in self._accepted:
            return None
        stream = self._stream(instrument_key(order.instrument))
        accepted = _copy(order)
        accepted.state = OrderState.ORDER_STATE_ACCEPTED
        accepted.revision += 1
        accepted.updated_ns = max(sent_ns + self.config.latency_to_ms * MILLISECOND_NS, stream.seen_ns)
        self._accept(accepted)
        return _copy(accepted)

    def advance(self, batch: TickBatch) -> list[ExecutionReport]:
        """Let the market move on and return the reports of the orders it passed, in the order of matching.

        An order meets the book as of every row received up to its arrival. Orders already on the record
        take their depth again and are not reported again.
        """
        stream = self._stream(instrument_key(batch.instrument.id))
        stream.continue_with(batch)
        columns = tick_columns(batch)
        reports: list[ExecutionReport] = []
        for recv_ns, *row in zip(
            columns.recv_ns,
            columns.kind,
            columns.flags,
            columns.side,
            columns.price,
            columns.size,
            strict=True,
        ):
            if recv_ns > stream.seen_ns:
                reports += self._match_before(stream, recv_ns)
                stream.seen_ns = recv_ns
            if apply_row(stream.book, *row):
                stream.taken.clear()
        if batch.watermark_ns > stream.seen_ns:
            reports += self._match_before(stream, batch.watermark_ns)
            stream.seen_ns = batch.watermark_ns
        return reports

    def query(self, client_order_id: str) -> ExecutionReport | None:
        """Return what the venue knows of an order, or None when it never arrived."""
        report = self._reports.get(client_order_id)
        if report is not None:
            return _copy_report(report)
        accepted = self._accepted.get(client_order_id)
        return None if accepted is None else self._report(accepted, [])

    def _stream(self, key: str) -> _Stream:
        return self._streams.setdefault(key, _Stream())

    def _accept(self, accepted: Order) -> None:
        number = len(self._accepted)
        self._accepted[accepted.client_order_id] = accepted
        stream = self._stream(instrument_key(accepted.instrument))
        heapq.heappush(stream.arriving, (accepted.updated_ns, number, accepted))

    def _match_before(self, stream: _Stream, ns: int) -> Iterator[ExecutionReport]:
        while stream.arriving and stream.arriving[0][0] < ns:
            _, _, order = heapq.heappop(stream.arriving)
            known = self._reports.get(order.client_order_id)
            if known is not None:
                _take(stream, order, [(fill.price, fill.quantity) for fill in known.fills])
                continue
            report = self._reports[order.client_order_id] = self._match(stream, order)
            yield _copy_report(report)

    def _match(self, stream: _Stream, order: Order) -> ExecutionReport:
        done = _copy(order)
        done.revision += 1
        if order.updated_ns > order.valid_until_ns:
            done.state, done.reason = OrderState.ORDER_STATE_REJECTED, OrderReason.ORDER_REASON_LATE
            return self._report(done, [])
        takes = list(_marketable(stream, order))
        _take(stream, order, takes)
        done.filled_quantity = sum(quantity for _, quantity in takes)
        if done.filled_quantity == order.quantity:
            done.state = OrderState.ORDER_STATE_FILLED
        else:
            done.state = OrderState.ORDER_STATE_CANCELED
        if not takes:
            done.reason = OrderReason.ORDER_REASON_NO_LIQUIDITY
        return self._report(done, [self._fill(stream, order, number, take) for number, take in enumerate(takes, 1)])

    def _fill(self, stream: _Stream, order: Order, number: int, take: Take) -> Fill:
        definition = stream.definition
        if definition is None:
            raise Fatal(f"{order.client_order_id}: filled without a market")
        price, quantity = take
        notional = value(definition, quantity, price_of(definition, price))
        return fill(
            order,
            number=number,
            quantity=quantity,
            price=price,
            fee=plain(share_bps(notional, self.config.taker_fee_bps)),
            matched_ns=order.updated_ns,
            received_ns=self._heard_ns(order),
        )

    def _report(self, order: Order, fills: list[Fill]) -> ExecutionReport:
        return execution_report(order, fills, received_ns=self._heard_ns(order))

    def _heard_ns(self, order: Order) -> int:
        return order.updated_ns + self.config.latency_back_ms * MILLISECOND_NS


def _copy(order: Order) -> Order:
    copied = Order()
    copied.CopyFrom(order)
    return copied


def _copy_report(report: ExecutionReport) -> ExecutionReport:
    copied = ExecutionReport()
    copied.CopyFrom(report)
    return copied


def _opposite(order: Order) -> int:
    return ASK if order.side == Side.SIDE_BUY else BID


def _marketable(stream: _Stream, order: Order) -> Iterator[Take]:
    """Yield what the order takes level by level, best first, within its limit."""
    side, left = _opposite(order), order.quantity
    for price, size in stream.book.walk(side):
        beyond = price > order.limit_price if side == ASK else price < order.limit_price
        if beyond or left <= 0:
            return
        quantity = min(left, size - stream.taken.get((side, price), 0))
        if quantity > 0:
            left -= quantity
            yield price, quantity


def _take(stream: _Stream, order: Order, takes: Iterable[Take]) -> None:
    side = _opposite(order)
    for price, quantity in takes:
        stream.taken[side, price] = stream.taken.get((side, price), 0) + quantity
