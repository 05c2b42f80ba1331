"""A second, plain model of the paper venue: dictionaries and loops, nothing shared with the first.

It exists to be compared with: what the executor says it filled must be what this model fills from the same ticks and
the same accepted orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from huracan.contracts.execution import Order, Side
from huracan.contracts.market import FLAG_FIRST, FLAG_UNSYNCED, TickBatch, TickColumns, TickKind, tick_columns

Part = tuple[int, int]
"""Price and quantity of one fill, in increments."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order as the venue has it."""

    order_id: bytes
    decision_id: bytes
    sign: int
    quantity: int
    limit: int
    arrival_ns: int
    valid_until_ns: int

    @classmethod
    def of(cls, order: Order) -> Accepted:
        """Return what matters of an order that the venue accepted."""
        sign = 1 if order.side == Side.SIDE_BUY else -1
        return cls(
            order.order_id,
            order.decision_id,
            sign,
            order.quantity,
            order.limit_price,
            order.updated_ns,
            order.valid_until_ns,
        )


def match(batches: Sequence[TickBatch], accepted: Sequence[Accepted]) -> dict[bytes, list[Part]]:
    """Return the fills of each order, by order id; every order meets the book as it was at its arrival."""
    waiting = sorted(accepted, key=lambda order: order.arrival_ns)
    fills: dict[bytes, list[Part]] = {order.order_id: [] for order in accepted}
    book = _Book()
    last = (0, 0)
    for batch in batches:
        if (batch.epoch, batch.batch) <= last:
            continue
        if batch.epoch != last[0]:
            book = _Book()  # nobody kept the old one up since its gateway fell silent
        last = (batch.epoch, batch.batch)
        columns = tick_columns(batch)
        for row in range(batch.rows):
            while waiting and waiting[0].arrival_ns < columns.recv_ns[row]:
                book.fill(waiting.pop(0), fills)
            book.apply(columns, row)
        while waiting and waiting[0].arrival_ns < batch.watermark_ns:
            book.fill(waiting.pop(0), fills)
    return fills


class _Book:
    """Sizes by price on each side, and what orders have taken since the venue last said anything of its book."""

    def __init__(self) -> None:
        self.sizes: dict[int, dict[int, int]] = {1: {}, -1: {}}
        self.taken: dict[tuple[int, int], int] = {}

    def apply(self, columns: TickColumns, row: int) -> None:
        """Take one row of ticks."""
        whole = columns.kind[row] == TickKind.TICK_KIND_SNAPSHOT
        if not whole and columns.kind[row] != TickKind.TICK_KIND_DEPTH:
            return
        if columns.flags[row] & FLAG_UNSYNCED:
            return
        if whole and columns.flags[row] & FLAG_FIRST:
            self.sizes = {1: {}, -1: {}}
        self.taken = {}
        self.sizes[columns.side[row]][columns.price[row]] = columns.size[row]

    def fill(self, order: Accepted, fills: dict[bytes, list[Part]]) -> None:
        """Fill an immediate-or-cancel order from the opposite side, best price first, within its limit."""
        if order.arrival_ns > order.valid_until_ns:
            return
        left, side = order.quantity, -order.sign
        for price in sorted(self.sizes[side], reverse=order.sign < 0):
            beyond = (price - order.limit) * order.sign > 0
            quantity = min(left, self.sizes[side][price] - self.taken.get((side, price), 0))
            if not beyond and quantity > 0:
                fills[order.order_id].append((price, quantity))
                self.taken[side, price] = self.taken.get((side, price), 0) + quantity
                left -= quantity
