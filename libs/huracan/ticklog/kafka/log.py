"""The TickLog port on Apache Kafka: a key is in the partition of its shard, the offset there is the record's offset."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from aiokafka import ConsumerRecord, TopicPartition
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts import codec
from huracan.errors import BadInput, Fatal, Recoverable
from huracan.ids import PARTITIONS
from huracan.ports import Record
from huracan.ticklog.kafka.client import until_there
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.presence import Presence
from huracan.ticklog.kafka.reader import Follower, Readers, Tail
from huracan.ticklog.kafka.topics import TOPICS, check_topics
from huracan.ticklog.kafka.writer import EPOCH, RECORD_ID, SCHEMA, Entry, Group, PartitionWriter, Producing, Room
from huracan.ticklog.record import fitting, record_of

FIRST_LOOK = 64
"""Records from the end that are looked through first for the newest of a key; four times as many each time after."""

AT_ONCE = 1_024
"""Records of one call that are put on their way together."""


class KafkaLog:
    """Append acknowledged, once under each id; read straight from the partition; follow a key once it is waited for.

    Ids are known of the last `LOOK_BACK` records of a partition. Records that were not acknowledged are at most
    `in_flight`; past it `append` waits, as long as for an acknowledgement.
    """

    def __init__(self, config: KafkaConfig, *, name: str) -> None:
        self._config = config
        self._readers = Readers(config, name)
        self._follower = Follower(config, name)
        self._producing = Producing(config, name)
        self._presence = Presence(config, name)
        self._writers: dict[TopicPartition, PartitionWriter] = {}
        self._tails: dict[tuple[str, str], Tail] = {}
        self._known: dict[tuple[str, str], int] = {}
        self._bare: dict[tuple[str, str], _Stretch] = {}
        self._keys: dict[TopicPartition, _Keys] = {}
        self._room = Room(config.in_flight)
        self._at_once = min(config.in_flight, AT_ONCE)

    async def open(self) -> None:
        """Wait for the servers; raise BadInput for a wrong setting, and for a topic that is not as it must be.

        From then on it is known whether they are there.
        """
        await until_there(lambda: check_topics(self._config))
        self._presence.watch()

    @property
    def there(self) -> bool:
        """Return whether the servers answered when they were last asked; not before `open`."""
        return self._presence.there

    async def close(self) -> None:
        """Stop; what was not acknowledged may be there or not."""
        await self._presence.close()
        for writer in self._writers.values():
            await writer.close()
        await self._follower.close()
        await self._readers.close()
        await self._producing.close()

    # Writing.

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int:
        """Append once under the id and return the offset; raise Recoverable when no acknowledgement came.

        Raises Fatal for a record that is too large and where the servers refuse us.
        """
        (offset,) = await self.append_all(topic, key, [(message, record_id)])
        return offset

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[int]:
        """Append messages in order, each once under its id, and return their offsets: far cheaper than one by one.

        Raises as `append` does; the first of them may then be there, none without those before it, and all may be
        appended again.
        """
        found: list[Entry | int] = []
        try:
            async with asyncio.timeout(self._config.ack_timeout_ms / 1_000):
                for start in range(0, len(records), self._at_once):
                    found += await self._put(topic, key, records[start : start + self._at_once])
                for entry in found:
                    if isinstance(entry, Entry) and entry.outcome is None:
                        await asyncio.shield(entry.group.settled)
        except TimeoutError:
            raise Recoverable(
                f"{self._config.servers} acknowledged no append to {topic} within {self._config.ack_timeout_ms} ms"
            ) from None
        offsets = [_offset(entry) for entry in found]
        self._know(topic, key, max(offsets, default=-1))
        return offsets

    async def _put(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[Entry | int]:
        """Send what is neither there nor on its way, once there is room for all of it."""
        writer, name, group = self._writer(topic, key), key.encode(), Group()
        entries = [
            Entry((name, record_id), [*_headers(message), (RECORD_ID, record_id)], self._encoded(message), group)
            for message, record_id in records
        ]
        await self._room.take(len(entries))
        found, room = writer.put(entries)
        self._room.give(room)
        return found

    def _encoded(self, message: Message) -> bytes:
        data = codec.encode(fitting(message, self._config.max_batch_bytes * 7 // 8))  # the rest is for its headers
        if len(data) > self._config.max_batch_bytes:
            raise Fatal(
                f"a {codec.schema_of(message)} was {len(data)} bytes, more than kafka.max_batch_bytes; raise it"
            )
        return data

    def _writer(self, topic: str, key: str) -> PartitionWriter:
        partition = _partition(topic, key)
        if partition not in self._writers:
            self._writers[partition] = PartitionWriter(partition, self._producing, self._readers, self._room)
        return self._writers[partition]

    def _know(self, topic: str, key: str, offset: int) -> int:
        """Note that there is a record at an offset: who was told of it must find it."""
        self._known[topic, key] = max(offset, self._known.get((topic, key), -1))
        return offset

    # Reading.

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]:
        """Return the records from an offset on that are there now, oldest first, at most `limit`.

        Waits for a server that is away. Raises PoisonMessage, naming topic, partition and offset, for one that cannot
        be read. Where a key was read to the end, reading on from there costs what was appended to its partition since.
        """
        tail = self._tail(topic, key)
        if tail is not None and offset >= tail.first:
            return [_record(found) for found in tail.read(offset)[:limit]]
        partition, name = _partition(topic, key), key.encode()
        found: list[ConsumerRecord] = []

        def take(record: ConsumerRecord) -> bool:
            if record.key == name:
                found.append(record)
            return limit is not None and len(found) >= limit

        end = await self._readers.end(partition, known=self._known.get((topic, key), -1))
        bare = self._bare.get((topic, key), _Stretch(offset, offset))
        if not bare.first <= offset <= bare.end <= end:
            bare = _Stretch(offset, offset)
        await self._readers.each(partition, max(offset, bare.end), end, take)
        if limit is None or len(found) < limit:
            first = found[-1].offset + 1 if found else bare.first
            self._bare[topic, key] = _Stretch(first, max(first, end))
        records = [_record(record) for record in found]
        if records:
            self._know(topic, key, records[-1].offset)
        return records

    def _tail(self, topic: str, key: str) -> Tail | None:
        """Return the tail of a key that is followed and has all that we were told of."""
        tail = self._tails.get((topic, key))
        return tail if tail is not None and tail.position > self._known.get((topic, key), -1) else None

    async def last(self, topic: str, key: str) -> Record | None:
        """Return the newest record, or None when there is none; wait for a server that is away.

        A key without records costs a look through its whole partition.
        """
        partition, name = _partition(topic, key), key.encode()
        end = await self._readers.end(partition, known=self._known.get((topic, key), -1))
        beginning, look = await self._readers.beginning(partition), FIRST_LOOK
        while end > beginning:
            found: list[ConsumerRecord] = []

            def take(record: ConsumerRecord, found: list[ConsumerRecord] = found) -> bool:
                if record.key == name:
                    found[:] = [record]
                return False

            first = max(beginning, end - look)
            await self._readers.each(partition, first, end, take)
            if found:
                self._know(topic, key, found[0].offset)
                return _record(found[0])
            end, look = first, look * 4
        return None

    async def wait(self, topic: str, key: str, offset: int) -> None:
        """Return once there is a record at this offset or after it: from now on the key is followed."""
        if self._known.get((topic, key), -1) >= offset:
            return
        if (topic, key) not in self._tails:
            partition, name = _partition(topic, key), key.encode()
            found: list[ConsumerRecord] = []

            def take(record: ConsumerRecord) -> bool:
                if record.key == name:
                    found.append(record)
                return bool(found)

            end = await self._readers.end(partition)
            await self._readers.each(partition, offset, end, take)
            if found:
                self._know(topic, key, found[0].offset)
                return
            if (topic, key) not in self._tails:  # another may have come here meanwhile
                self._tails[topic, key] = self._follower.follow(partition, name, first=min(offset, end), position=end)
        await self._tails[topic, key].wait(offset)

    async def keys(self, topic: str) -> list[str]:
        """Return the keys of a topic that have or had records, sorted.

        The first time it is a look through the whole topic, from then on through what came since.
        """
        found: set[bytes] = set()
        for number in range(PARTITIONS):
            partition = TopicPartition(_known_topic(topic), number)
            seen, end = self._keys.get(partition, _Keys()), await self._readers.end(partition)
            if end < seen.end:  # the topic was begun anew
                seen = _Keys()
            names = set(seen.names)

            def take(record: ConsumerRecord, names: set[bytes] = names) -> bool:
                if record.key is not None:
                    names.add(record.key)
                return False

            await self._readers.each(partition, seen.end, end, take)
            self._keys[partition] = _Keys(frozenset(names), end)
            found |= names
        return sorted(key.decode(errors="replace") for key in found)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Offsets from one up to another at which a key has no record: it was looked for there."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a partition that have records before an offset."""

    names: frozenset[bytes] = frozenset()
    end: int = 0


def _partition(topic: str, key: str) -> TopicPartition:
    return TopicPartition(_known_topic(topic), subjects.partition(key))


def _known_topic(topic: str) -> str:
    if topic not in TOPICS:
        raise BadInput(f"topic was {topic!r}, which is none of ours: {', '.join(TOPICS)}")
    return topic


def _record(record: ConsumerRecord) -> Record:
    schema = (dict(record.headers).get(SCHEMA) or b"").decode(errors="replace")  # Kafka's headers may have no value
    return record_of(f"{record.topic}[{record.partition}]", record.offset, schema, record.value or b"")


_Headers = tuple[tuple[str, bytes], tuple[str, bytes]]


def _headers(message: Message) -> _Headers:
    found = _WITHOUT_EPOCH.get(type(message))
    return found or _of_epoch(codec.schema_of(message), getattr(message, "epoch", 0))


@lru_cache(maxsize=256)
def _of_epoch(schema: str, epoch: int) -> _Headers:
    return (SCHEMA, schema.encode()), (EPOCH, str(epoch).encode())


_WITHOUT_EPOCH = {
    kind: _of_epoch(schema, 0)
    for schema, kind in codec.SCHEMAS.items()
    if "epoch" not in kind.DESCRIPTOR.fields_by_name
}
"""Of messages that name no epoch, which are the same for each."""


def _offset(entry: Entry | int) -> int:
    outcome = entry.outcome if isinstance(entry, Entry) else entry
    if isinstance(outcome, int):
        return outcome
    raise outcome or Recoverable("an append has no outcome")
