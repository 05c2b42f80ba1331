"""Write to a partition of Kafka: each record once under its id, in order, many in one batch.

A record is never sent again as long as its batch may still be on its way: the library's idempotent producer retries
it under the same sequence numbers. Where a key is new to us, or a producer failed, the end of the partition is read
first, and what is there under its id is not sent.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
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


@dataclass(slots=True, eq=False)
class Entry:
    """A record on its way, and what became of it: its offset, or why it cannot be stored."""

    identity: Identity
    headers: list[tuple[str, bytes]]
    data: bytes
    outcome: asyncio.Future[int | HuracanError]


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

    def __init__(self, partition: TopicPartition, config: KafkaConfig, producing: Producing, readers: Readers) -> None:
        self._partition = partition
        self._limit = config.max_batch_bytes
        self._producing = producing
        self._readers = readers
        self._queue: deque[Entry] = deque()
        self._pending: dict[Identity, Entry] = {}
        self._stored: OrderedDict[Identity, int] = OrderedDict()
        self._looked_to = 0
        """Offset before which the ids of others, too, are known."""
        self._sure = False
        """Whether nobody can have written what we do not know: no key is new to us, no outcome unknown."""
        self._keys: set[bytes] = set()
        self._wanted = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"write {partition.topic}[{partition.partition}]")
        self._task.add_done_callback(self._ended)

    def known(self, identity: Identity) -> Entry | int | None:
        """Return what is known of a record: that it is on its way, its offset, or nothing."""
        return self._pending.get(identity) or self._stored.get(identity)

    def put(self, entry: Entry) -> None:
        """Send a record after those before it."""
        if entry.identity[0] not in self._keys:
            self._keys.add(entry.identity[0])
            self._sure = False
        self._pending[entry.identity] = entry
        self._queue.append(entry)
        self._wanted.set()

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
            while self._queue:
                self._settle(self._queue.popleft(), error)
            return
        entries: list[Entry] = []
        batch = session.producer.create_batch()
        while self._queue and len(entries) < BATCH_RECORDS:
            entry = self._queue[0]
            offset = self._stored.get(entry.identity)
            if offset is not None:
                self._settle(self._queue.popleft(), offset)
                continue
            if batch.append(key=entry.identity[0], value=entry.data, timestamp=None, headers=entry.headers) is None or (
                entries and batch.size() > self._limit
            ):
                break
            entries.append(self._queue.popleft())
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
                for entry in entries:
                    self._settle(entry, failure)
                entries = []
            base = -1
        if base < 0:  # nobody knows what became of it, or, of what was stored before, where
            self._sure = False
            self._queue.extendleft(reversed(entries))
            await asyncio.sleep(RETRY_S)
            return
        for offset, entry in enumerate(entries, base):
            self._know(entry.identity, offset)
            self._settle(entry, offset)

    def _know(self, identity: Identity, offset: int) -> None:
        self._stored[identity] = offset
        if len(self._stored) > LOOK_BACK:
            self._stored.popitem(last=False)

    def _settle(self, entry: Entry, outcome: int | HuracanError) -> None:
        del self._pending[entry.identity]
        entry.outcome.set_result(outcome)

    async def _look_back(self) -> None:
        """Learn the ids at the end of the partition."""

        def take(record: ConsumerRecord) -> bool:
            record_id = dict(record.headers).get(RECORD_ID)
            if record.key is not None and record_id is not None:
                self._know((record.key, record_id), record.offset)
            return False

        self._sure = True  # until somebody comes who says otherwise
        try:
            end = await self._readers.end(self._partition)
            first = max(end - LOOK_BACK, self._looked_to, await self._readers.beginning(self._partition))
            await self._readers.each(self._partition, first, end, take)
            self._looked_to = end
        except BaseException:
            self._sure = False
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell whoever waits that nothing is written any more."""
        what = f"{self._partition.topic}[{self._partition.partition}]"
        outcome: HuracanError = Recoverable(f"{what}: the log was closed before an acknowledgement came")
        if not task.cancelled():
            outcome = Fatal(f"{what} is not written any more: {task.exception()!r}")
        for entry in list(self._pending.values()):
            self._settle(entry, outcome)

    async def close(self) -> None:
        """Write no more; what is on its way is told that it may not be there."""
        self._task.cancel()
        await asyncio.wait([self._task])
