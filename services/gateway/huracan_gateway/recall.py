"""What the log says of an instrument's trades: a gateway that comes back is told many of them again."""

from __future__ import annotations

from collections.abc import Sequence

from huracan.bus import subjects
from huracan.contracts.market import TickBatch, TickKind, tick_columns
from huracan.ports import Record, TickLog

FIRST_LOOK = 1_024
"""Newest records that are looked through first: a minute and more of three instruments that share a partition."""
LONGEST_LOOK = 65_536
"""Where none of these holds a trade, what a venue repeats is taken for new."""


async def recalled_trades(log: TickLog, key: str) -> list[int]:
    """Return the ids of an instrument's newest trades in the log, oldest first, from so far back that there are some.

    Call it once the epoch is taken: what a writer before may still append is refused by every reader.
    """
    last, look = await log.last(subjects.TICKS_TOPIC, key), FIRST_LOOK
    while last is not None:
        first = max(last.offset - look, 0)
        found = _trades(await log.read(subjects.TICKS_TOPIC, key, first))
        if found or not first or look >= LONGEST_LOOK:
            return found
        look *= 4
    return []


def _trades(records: Sequence[Record]) -> list[int]:
    """Return the trades of records, without those of a writer that had lost its place."""
    found: list[int] = []
    epoch = 0
    for record in records:
        batch = record.message
        if not isinstance(batch, TickBatch) or batch.epoch < epoch:
            continue
        epoch, columns = batch.epoch, tick_columns(batch)
        numbers = zip(columns.kind, columns.venue_seq, strict=True)
        found += [number for kind, number in numbers if kind == TickKind.TICK_KIND_TRADE]
    return found
