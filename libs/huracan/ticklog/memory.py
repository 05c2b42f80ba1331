"""The log in memory: records by topic and key, appended once under their id."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from huracan.bus.request import request
from huracan.bus.transport import PERFECT, Transport
from huracan.contracts import codec
from huracan.ports import Record
from huracan.ticklog.record import record_of

LOG = "log"
"""Name of the log itself as a node."""


@dataclass(slots=True)
class _Sequence:
    records: list[tuple[int, str, bytes]] = field(default_factory=list)
    offsets: dict[bytes, int] = field(default_factory=dict)
    grown: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryLog:
    """All nodes' logs in one process. Each node gets its own `TickLog` port from `node`."""

    def __init__(self, transport: Transport = PERFECT) -> None:
        self.transport = transport
        self._sequences: dict[tuple[str, str], _Sequence] = {}
        self._ends: Counter[str] = Counter()

    def node(self, name: str) -> NodeLog:
        """Return the log as one node sees it."""
        return NodeLog(self, name)

    def sequence(self, topic: str, key: str) -> _Sequence:
        """Return the records of a topic and key."""
        return self._sequences.setdefault((topic, key), _Sequence())

    def keys(self, topic: str) -> list[str]:
        """Return the keys of a topic that have records, sorted."""
        return sorted(key for name, key in self._sequences if name == topic and self._sequences[name, key].records)

    def put(self, topic: str, key: str, schema: str, data: bytes, record_id: bytes) -> int:
        """Append once under the id; return the offset."""
        sequence = self.sequence(topic, key)
        known = sequence.offsets.get(record_id)
        if known is not None:
            return known
        offset = sequence.offsets[record_id] = self._ends[topic]
        self._ends[topic] += 1
        sequence.records.append((offset, schema, data))
        sequence.grown.set()
        return offset


class NodeLog:
    """The TickLog port of one node."""

    def __init__(self, log: MemoryLog, name: str) -> None:
        self._log = log
        self._name = name

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int:
        """Append once under the id; raise Recoverable when no acknowledgement came."""
        schema, data = codec.schema_of(message), codec.encode(message)
        return await request(
            self._log.transport, self._name, LOG, lambda: self._log.put(topic, key, schema, data, record_id)
        )

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[int]:
        """Append in order, each once under its id; raise Recoverable when no acknowledgement came of all."""
        encoded = [(codec.schema_of(message), codec.encode(message), record_id) for message, record_id in records]

        def put() -> list[int]:
            return [self._log.put(topic, key, *record) for record in encoded]

        return await request(self._log.transport, self._name, LOG, put)

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]:
        """Return the records from an offset on that are there now, at most `limit`."""
        records = self._log.sequence(topic, key).records
        first = bisect_left(records, offset, key=lambda record: record[0])
        return [record_of(_place(topic, key), *record) for record in records[first:][:limit]]

    async def last(self, topic: str, key: str) -> Record | None:
        """Return the newest record, or None."""
        records = self._log.sequence(topic, key).records
        return record_of(_place(topic, key), *records[-1]) if records else None

    async def keys(self, topic: str) -> list[str]:
        """Return the keys of a topic that have records, sorted."""
        return self._log.keys(topic)

    async def wait(self, topic: str, key: str, offset: int) -> None:
        """Return once there is a record at this offset or after it."""
        sequence = self._log.sequence(topic, key)
        while not sequence.records or sequence.records[-1][0] < offset:
            sequence.grown.clear()
            await sequence.grown.wait()


def _place(topic: str, key: str) -> str:
    return f"{topic} {key}"
