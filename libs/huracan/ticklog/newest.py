"""Look back into a log past what cannot be read: one bad record keeps nobody from what lies before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from huracan.errors import PoisonRecord
from huracan.ports import Record, TickLog

M = TypeVar("M", bound=Message)

FIRST_LOOK = 256
"""Newest offsets that are looked through first for a message; four times as many each time after."""
_PAGE = 256
"""Records of one read."""


@dataclass(frozen=True, slots=True)
class Newest(Generic[M]):
    """The newest message of a kind that can be read."""

    message: M | None
    """None where there is none."""
    unread: int
    """How many records after it cannot be read."""


async def newest_offset(log: TickLog, topic: str, key: str) -> int:
    """Return the offset of the newest record, even of one that cannot be read; -1 where there is none."""
    try:
        last = await log.last(topic, key)
    except PoisonRecord as poison:
        return poison.offset
    return -1 if last is None else last.offset


async def newest_of(log: TickLog, topic: str, key: str, kind: type[M]) -> Newest[M]:
    """Return the newest message of a kind, looking back to the beginning of the log if need be.

    What a writer that was replaced still wrote comes after its heir's first records, and is older than they are: of
    the newest records, messages of the highest epoch count.
    """
    first = end = await newest_offset(log, topic, key) + 1
    look, unread = FIRST_LOOK, 0
    while first > 0:
        begun, first = first, max(end - look, 0)
        message, after = None, 0
        async for found in between(log, topic, key, first, begun):
            if isinstance(found, PoisonRecord):
                after += 1
            elif isinstance(found.message, kind) and (message is None or _epoch(found.message) >= _epoch(message)):
                message, after = found.message, 0
        unread += after
        if message is not None:
            return Newest(message, unread)
        look *= 4
    return Newest(None, unread)


def _epoch(message: Message) -> int:
    epoch: int = getattr(message, "epoch", 0)
    return epoch


async def between(log: TickLog, topic: str, key: str, first: int, end: int) -> AsyncIterator[Record | PoisonRecord]:
    """Give what is from one offset to before another, oldest first; for a record that cannot be read, why."""
    limit = _PAGE
    while first < end:
        try:
            records = await log.read(topic, key, first, limit=limit)
        except PoisonRecord as poison:
            # One of so many: fewer are read until it is the first of them.
            if limit > 1:
                limit //= 2
                continue
            if poison.offset < end:
                yield poison
            first = poison.offset + 1
            continue
        for record in records:
            if record.offset < end:
                yield record
        if len(records) < limit:
            return
        first, limit = records[-1].offset + 1, min(limit * 2, _PAGE)
