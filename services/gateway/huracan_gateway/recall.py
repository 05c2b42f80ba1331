"""What the log says of an instrument's trades: a gateway that comes back is told many of them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from huracan.bus import subjects
from huracan.contracts.market import TickBatch, TickKind, tick_columns
from huracan.errors import PoisonRecord
from huracan.ports import Record, TickLog
from huracan.ticklog.newest import between, newest_offset
from huracan_gateway.adapter import TradeIds

FIRST_LOOK = 1_024
"""Newest offsets that are looked through first: some seconds of three busy instruments that share a partition."""
LONGEST_LOOK = 262_144
"""Trades before these offsets are not recalled: what a venue repeats of them is taken for new."""
NAMES_RECALLED = 2_048
"""Trades wanted where only its name tells that one is known: twice what any venue gives for one request."""

_Trades = tuple[int, list[int]]
"""Epoch of a batch and the ids of its trades."""


async def recalled_trades(log: TickLog, key: str, trade_ids: TradeIds, counts: Counter[str]) -> list[int]:
    """Return the ids of an instrument's newest trades in the log, oldest first: where they rise, of the last some.

    Looks back until there are as many as are wanted, through LONGEST_LOOK offsets at most. Records that cannot be read
    are counted and passed over. Call it once the epoch is taken: what a writer before may still append is refused by
    every reader.
    """
    wanted = NAMES_RECALLED if trade_ids is TradeIds.NAMES else 1
    first = end = await newest_offset(log, subjects.TICKS_TOPIC, key) + 1
    oldest, look = max(end - LONGEST_LOOK, 0), FIRST_LOOK
    batches: list[_Trades] = []
    found: list[int] = []
    while first > oldest and len(found) < wanted:
        begun, first = first, max(end - look, oldest)
        batches = await _batches(log, key, first, begun, counts) + batches
        found = _in_force(batches)
        look *= 4
    return found


async def _batches(log: TickLog, key: str, first: int, end: int, counts: Counter[str]) -> list[_Trades]:
    """Return what is from one offset to before another."""
    batches: list[_Trades] = []
    async for found in between(log, subjects.TICKS_TOPIC, key, first, end):
        if isinstance(found, PoisonRecord):
            counts["recall.unread"] += 1
        else:
            batches.append(_trades(found))
    return batches


def _trades(record: Record) -> _Trades:
    batch = record.message
    if not isinstance(batch, TickBatch):
        return 0, []
    if not batch.rows:
        return batch.epoch, []
    columns = tick_columns(batch)
    numbers = zip(columns.kind, columns.venue_seq, strict=True)
    return batch.epoch, [number for kind, number in numbers if kind == TickKind.TICK_KIND_TRADE]


def _in_force(batches: Iterable[_Trades]) -> list[int]:
    """Return the trades of batches, oldest first, without those of a writer that had lost its place."""
    found: list[int] = []
    newest = 0
    for epoch, numbers in batches:
        if epoch >= newest:
            newest = epoch
            found += numbers
    return found
