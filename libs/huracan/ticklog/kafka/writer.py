"""Write to a partition of Kafka: each record once under its id, in order, many in one batch.

A record is never sent again as long as its batch may still be on its way: the library's idempotent producer retries
it under the same sequence numbers. Where a key is new to us, or a producer failed, the end of the partition is read
first, and what is there under its id is not sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition, errors

from huracan.errors import Fatal, HuracanError, Recoverable
from huracan.ticklog.kafka.client import CLOSE_WITHIN_S, RETRY_S, closed, judged, options, started, until_there
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.reader import Readers

SCHEMA, EPOCH, RECORD_ID = "Huracan-Schema", "Huracan-Epoch", "Huracan-Record-Id"
"""Headers of a record: full name of its message, its writer's epoch in decimal digits, and the bytes of its id."""
LOOK_BACK = 4_096
"""Records of a partition, its newest, whose ids are known: as many as one writer's queue holds."""
BATCH_RECORDS = 4_096
"""Most records of one batch."""

Identity = tuple[bytes, bytes]
"""Key and record id."""


class Group:
    """Records that were put together."""

    __slots__ = ("left", "settled")

    def __init__(self) -> None:
        self.left = 0
        """Those whose outcome is open."""
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Entry:
    """A record on its way, and what became of it: its offset, or why it cannot be stored."""

    identity: Identity
    headers: list[tuple[str, bytes]]
    data: bytes
    group: Group
    outcome: int | HuracanError | None = None


class Stored:
    """Offsets of the newest records by identity: at least the last `LOOK_BACK`, at most twice as many and a batch."""

    def __init__(self) -> None:
        self._newer: dict[Identity, int] = {}
        self._older: dict[Identity, int] = {}

    def get(self, identity: Identity) -> int | None:
        """Return the offset of a record, None where it is not known."""
        offset = self._newer.get(identity)
        return self._older.get(identity) if offset is None else offset

    def update(self, found: Mapping[Identity, int] | Iterable[tuple[Identity, int]]) -> None:
        """Take note of records; forget the oldest."""
        self._newer.update(found)
        if len(self._newer) >= LOOK_BACK:
            self._older, self._newer = self._newer, {}


class Room:
    """How many records may still be put on their way. Bound: the number it begins with; overflow: `take` blocks."""

    def __init__(self, records: int) -> None:
        self._free = records
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, records: int) -> None:
        """Take room for some records at once, after those who came before."""
        if self._free >= records and not self._waiting:
            self._free -= records
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came as it gave up
                self._free += records
            self.give(0)
            raise

    def give(self, records: int) -> None:
        """Give room back."""
        self._free += records
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= wanted
                turn.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A producer, and when it is over: nothing of it is on its way any more."""

    producer: AIOKafkaProducer
    over: asyncio.Future[None]


class Producing:
    """The producer that all partitions share: connected when first wanted, and replaced when it fails."""

    def __init__(self, config: KafkaConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._session: Session | None = None
        self._changing = asyncio.Lock()

    async def session(self) -> Session:
        """Return the producer; wait for a server that is away."""
        async with self._changing:
            if self._session is None:
                producer = await until_there(self._start)
                self._session = Session(producer, asyncio.get_running_loop().create_future())
            return self._session

    async def _start(self) -> AIOKafkaProducer:
        compression = self._config.compression
        return await started(
            lambda: AIOKafkaProducer(
                **options(self._config, self._name),
                enable_idempotence=True,
                acks="all",
                compression_type=None if compression == "none" else compression,
                max_batch_size=self._config.max_batch_bytes,
                max_request_size=self._config.max_batch_bytes,
            ),
            lambda producer: producer.stop(),
            self._config,
        )

    async def replace(self, failed: Session) -> None:
        """Stop a producer that failed; the next one is another."""
        async with self._changing:
            if self._session is failed:
                self._session = None
                await _stop(failed.producer)
                failed.over.set_result(None)

    async def close(self) -> None:
        """Stop the producer."""
        if self._session is not None:
            await self.replace(self._session)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer, by force where a server that is away keeps it from sending what it has."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await producer.stop()
            return
    await closed(producer.client.close())
    await closed(producer._sender.close())  # noqa: SLF001 - the library would wait for its servers for ever


class PartitionWriter:
    """Writes one partition: what is appended while a batch is on its way goes into the next."""

    def __init__(self, partition: TopicPartition, producing: Producing, readers: Readers, room: Room) -> None:
        self._partition = partition
        self._producing = producing
        self._readers = readers
        self._room = room
        self._queue: deque[Entry] = deque()
        self._pending: dict[Identity, Entry] = {}
        self._stored = Stored()
        self._looked_to = 0
        """Offset before which the ids of others, too, are known."""
        self._sure = False
        """Whether nobody can have written what we do not know: no key is new to us, no outcome unknown."""
        self._keys: set[bytes] = set()
        self._wanted = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"write {partition.topic}[{partition.partition}]")
        self._task.add_done_callback(self._ended)

    def put(self, entries: Sequence[Entry]) -> tuple[list[Entry | int], int]:
        """Send records of one key and group, which have their room, after those before them.

        Returns what is known of each: that it is on its way, or its offset; and how many needed no room.
        """
        found = list[Entry | int]()
        pending, stored, queue, new = self._pending, self._stored, self._queue, 0
        for entry in entries:
            identity = entry.identity
            known = pending.get(identity) or stored.get(identity)
            if known is None:
                known = pending[identity] = entry
                queue.append(entry)
                new += 1
            found.append(known)
        if new:
            entries[0].group.left += new
            key = entries[0].identity[0]
            if key not in self._keys:
                self._keys.add(key)
                self._sure = False
            self._wanted.set()
        return found, len(entries) - new

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            while self._queue:
                await self._write()
            await self._wanted.wait()

    async def _write(self) -> None:
        """Write what fits into a batch."""
        try:
            session = await self._producing.session()
            while not self._sure:
                await self._look_back()
        except HuracanError as error:  # wrong password, no right to read: nothing of this partition can be written
            self._settle(list(self._queue), [error] * len(self._queue))
            self._queue.clear()
            return
        queue, entries = self._queue, list[Entry]()
        batch = session.producer.create_batch()
        while queue and len(entries) < BATCH_RECORDS:
            entry = queue[0]
            if not batch.append(key=entry.identity[0], value=entry.data, timestamp=None, headers=entry.headers):
                break  # it is full
            entries.append(queue.popleft())
        if entries:
            await self._send(session, batch, entries)

    async def _send(self, session: Session, batch: object, entries: list[Entry]) -> None:
        topic, partition = self._partition
        try:
            sent = await session.producer.send_batch(batch, topic, partition=partition)
            await asyncio.wait({sent, session.over}, return_when=asyncio.FIRST_COMPLETED)
            base = sent.result().offset if sent.done() else -1
        except errors.KafkaError as error:
            failure = judged(error, f"appending to {topic}[{partition}]")
            await self._producing.replace(session)
            if not isinstance(failure, Recoverable):
                self._settle(entries, [failure] * len(entries))
                entries = []
            base = -1
        if base < 0:  # nobody knows what became of it, or, of what was stored before, where
            self._sure = False
            self._queue.extendleft(reversed(entries))
            await asyncio.sleep(RETRY_S)
            return
        offsets = range(base, base + len(entries))
        self._stored.update(zip((entry.identity for entry in entries), offsets, strict=True))
        self._settle(entries, offsets)

    def _settle(self, entries: Sequence[Entry], outcomes: Sequence[int | HuracanError]) -> None:
        for entry, outcome in zip(entries, outcomes, strict=True):
            del self._pending[entry.identity]
            entry.outcome = outcome
            group = entry.group
            group.left -= 1
            if not group.left:
                group.settled.set_result(None)
        self._room.give(len(entries))

    async def _look_back(self) -> None:
        """Learn the ids at the end of the partition; what waits and is there is not sent."""
        found: dict[Identity, int] = {}

        def take(record: ConsumerRecord) -> bool:
            record_id = dict(record.headers).get(RECORD_ID)
            if record.key is not None and record_id is not None:
                found[record.key, record_id] = record.offset
            return False

        self._sure = True  # until somebody comes who says otherwise
        try:
            end = await self._readers.end(self._partition)
            first = max(end - LOOK_BACK, self._looked_to, await self._readers.beginning(self._partition))
            await self._readers.each(self._partition, first, end, take)
        except BaseException:
            self._sure = False
            raise
        self._looked_to = end
        self._stored.update(found)
        there = [entry for entry in self._queue if entry.identity in found]
        if there:
            self._queue = deque(entry for entry in self._queue if entry.identity not in found)
            self._settle(there, [found[entry.identity] for entry in there])

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell whoever waits that nothing is written any more."""
        what = f"{self._partition.topic}[{self._partition.partition}]"
        outcome: HuracanError = Recoverable(f"{what}: the log was closed before an acknowledgement came")
        if not task.cancelled():
            outcome = Fatal(f"{what} is not written any more: {task.exception()!r}")
        self._settle(list(self._pending.values()), [outcome] * len(self._pending))

    async def close(self) -> None:
        """Write no more; what is on its way is told that it may not be there."""
        self._task.cancel()
        await asyncio.wait([self._task])
