"""The store in memory: each message once under its id."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.ports import Record
from huracan.store.marks import NOTHING, after
from huracan.store.tables import TABLE_OF

M = TypeVar("M", bound=Message)


class MemoryStore:
    """The Store port without a server. What it keeps and returns are copies."""

    def __init__(self) -> None:
        self._rows: dict[type[Message], dict[tuple[object, ...], tuple[int, bytes]]] = {kind: {} for kind in TABLE_OF}
        self.records: dict[tuple[str, str], list[Record]] = {}
        """What was kept of the log, by topic and key."""
        self.skipped: dict[tuple[str, str, int], tuple[str, bytes]] = {}
        """Schema and bytes of what could not be kept, by topic, key and offset."""
        self._marks: dict[tuple[str, str], int] = {}

    async def save(self, messages: Sequence[Message]) -> int:
        """Keep the messages and return how many were new; raise KeyError for a kind that has no table."""
        new = 0
        for message in messages:
            table, rows = TABLE_OF[type(message)], self._rows[type(message)]
            key, revision = table.key(message), table.revision(message)
            kept = rows.get(key)
            new += kept is None
            if kept is None or kept[0] < revision:
                rows[key] = (revision, codec.encode(message))
        return new

    async def load(self, kind: type[M]) -> list[M]:
        """Return all messages of a kind in the order of its table."""
        rows = [kind.FromString(data) for _, data in self._rows[kind].values()]
        return sorted(rows, key=TABLE_OF[kind].order)

    async def mark(self, topic: str, key: str) -> int:
        """Return the offset of the newest record kept of a topic and key, -1 when there is none."""
        return self._marks.get((topic, key), NOTHING)

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Keep the records after the mark and return how many there were."""
        new = after(records, await self.mark(topic, key))
        self.records.setdefault((topic, key), []).extend(new)
        if new:
            self._marks[topic, key] = new[-1].offset
        return len(new)

    async def skip(self, topic: str, key: str, offset: int, *, schema: str, raw: bytes) -> None:
        """Move the mark past a record that cannot be kept, and keep its bytes; nothing if the mark is there already."""
        if offset > await self.mark(topic, key):
            self._marks[topic, key] = offset
            self.skipped[topic, key, offset] = (schema, raw)

    async def restore(self, topic: str, key: str, record: Record) -> int:
        """Keep a record that was skipped, once; return how many were: 0 where it was not skipped or is kept."""
        if (topic, key, record.offset) not in self.skipped:
            return 0
        del self.skipped[topic, key, record.offset]
        insort(self.records.setdefault((topic, key), []), record, key=lambda each: each.offset)
        return 1

    async def maintain(self, now_ns: int, *, keep_days: int | None = None) -> dict[str, int]:  # noqa: ARG002 - the port's
        """Do nothing: memory has room for every day."""
        return {}
