"""A made-up market: its instruments, its books, and the batches that tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from huracan.contracts.market import (
    FLAG_FIRST,
    InstrumentDefinition,
    TickBatch,
    TickColumns,
    TickKind,
    linear_perpetual,
    tick_batch,
)

MS = 1_000_000
SNAPSHOT = int(TickKind.TICK_KIND_SNAPSHOT)

Row = tuple[int, int, int, int, int, int]
"""recv_ns, kind, flags, side, price, size."""


def perpetual(base: str, definition_version: int = 1) -> InstrumentDefinition:
    """Return a perpetual with ticks of 0.10 and lots of 0.001."""
    return linear_perpetual(
        base,
        venue="sim",
        price_increment=Decimal("0.10"),
        size_increment=Decimal("0.001"),
        definition_version=definition_version,
    )


BTC, ETH = perpetual("BTC"), perpetual("ETH")


def snapshot(recv_ns: int, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> list[Row]:
    """Return the rows of a whole book, best levels first."""
    rows = [(recv_ns, SNAPSHOT, 0, 1, price, size) for price, size in bids]
    rows += [(recv_ns, SNAPSHOT, 0, -1, price, size) for price, size in asks]
    first = rows[0]
    return [(first[0], first[1], FLAG_FIRST, *first[3:]), *rows[1:]]


def book_around(recv_ns: int, mid: int, size: int = 1_000) -> list[Row]:
    """Return a snapshot with two levels a side around a mid."""
    return snapshot(recv_ns, [(mid - 1, size), (mid - 2, size)], [(mid + 1, size), (mid + 2, size)])


def batch_of(
    rows: Sequence[Row], watermark_ns: int, number: int = 1, of: InstrumentDefinition = BTC, epoch: int = 1
) -> TickBatch:
    """Return a batch of rows, numbered from 0 within it."""
    columns = TickColumns()
    for index, (recv_ns, kind, flags, side, price, size) in enumerate(rows):
        columns.ingest_seq.append(index)
        columns.event_ns.append(recv_ns)
        columns.recv_ns.append(recv_ns)
        columns.venue_seq.append(index)
        columns.kind.append(kind)
        columns.flags.append(flags)
        columns.side.append(side)
        columns.price.append(price)
        columns.size.append(size)
    return tick_batch(instrument=of, epoch=epoch, batch=number, columns=columns, watermark_ns=watermark_ns)
