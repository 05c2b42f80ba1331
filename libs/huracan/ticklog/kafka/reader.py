"""Read partitions of Kafka: any part of one at once, or what comes as it comes. No groups, no commits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition, errors

from huracan.errors import Fatal, HuracanError, Recoverable
from huracan.ticklog.kafka.client import RETRY_S, closed, judged, options, started, until_there
from huracan.ticklog.kafka.config import KafkaConfig

READERS = 4
"""Consumers that read at once; past it reading waits its turn."""
BATCH = 1_000
"""Records taken at once from what was fetched: the event loop has its turn between two batches."""
FETCH_BYTES = 4 << 20
"""Bytes of a partition that one fetch brings."""
POLL_MS = 1_000
"""Time between two looks whether all is here that there should be."""
FOLLOW_WAIT_MS = 100
"""How long a broker holds on to a fetch that finds nothing: a partition that is followed anew waits for it once."""
TAIL_RECORDS = 256
"""Newest records of a key that is followed that are kept here; older ones are read from the broker again."""
GONE_AFTER_S = 10.0
"""A broker that answers and has not what it acknowledged by then has lost it."""

Take = Callable[[ConsumerRecord], bool]
"""Take a record; return whether there is enough."""


class Readers:
    """Consumers that read a part of one partition each, one after the other."""

    def __init__(self, config: KafkaConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._idle: list[AIOKafkaConsumer] = []
        self._turn = asyncio.Semaphore(READERS)

    async def end(self, partition: TopicPartition, *, known: int = -1) -> int:
        """Return the offset after the newest record, once it is above a known one; wait for a server that is away.

        Raises Fatal when a record that was acknowledged is gone.
        """
        loop = asyncio.get_running_loop()
        missing_since_s: float | None = None
        while True:
            end = await self._bounds(partition, "end_offsets")
            if end > known:
                return end
            missing_since_s = missing_since_s or loop.time()
            if loop.time() - missing_since_s > GONE_AFTER_S:
                raise Fatal(
                    f"{partition.topic}[{partition.partition}] ends at {end}, and a record at {known} was "
                    "acknowledged: the broker has lost it"
                )
            await asyncio.sleep(RETRY_S)

    async def beginning(self, partition: TopicPartition) -> int:
        """Return the offset of the oldest record that is kept; wait for a server that is away."""
        return await self._bounds(partition, "beginning_offsets")

    async def _bounds(self, partition: TopicPartition, which: str) -> int:
        async def ask() -> int:
            async with self._consumer() as consumer:
                offsets: dict[TopicPartition, int] = await getattr(consumer, which)([partition])
                return offsets[partition]

        return await until_there(lambda: _translated(ask, partition))

    async def each(self, partition: TopicPartition, first: int, end: int, take: Take) -> None:
        """Hand over the records from an offset up to another, oldest first; wait for a server that is away."""
        position = first
        while position < end:
            async with self._consumer() as consumer:
                try:
                    consumer.assign([partition])
                    consumer.seek(partition, position)
                    while position < end:
                        got = await consumer.getmany(partition, timeout_ms=POLL_MS, max_records=BATCH)
                        for record in got.get(partition, ()):
                            if record.offset >= end or take(record):
                                return
                            position = record.offset + 1
                        position = max(position, await consumer.position(partition))
                except errors.KafkaError as error:
                    failure = judged(error, f"reading {partition.topic}[{partition.partition}] at {position}")
                    if not isinstance(failure, Recoverable):
                        raise failure from None
                    await asyncio.sleep(RETRY_S)
                finally:
                    consumer.pause(*consumer.assignment())  # it would go on fetching

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with self._turn:
            consumer = (
                self._idle.pop() if self._idle else await until_there(lambda: consuming(self._config, self._name))
            )
            try:
                yield consumer
            finally:
                self._idle.append(consumer)

    async def close(self) -> None:
        """Close what is open."""
        for consumer in self._idle:
            await closed(consumer.stop())
        self._idle.clear()


async def consuming(config: KafkaConfig, name: str, **more: Any) -> AIOKafkaConsumer:
    """Return a consumer that is connected; raise Recoverable or BadInput as `started` does."""
    return await started(
        lambda: AIOKafkaConsumer(
            **options(config, name),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=max(FETCH_BYTES, config.max_batch_bytes),
            **more,
        ),
        lambda consumer: consumer.stop(),
        config,
    )


async def _translated(ask: Callable[[], Awaitable[int]], partition: TopicPartition) -> int:
    try:
        return await ask()
    except errors.KafkaError as error:
        raise judged(error, f"looking at {partition.topic}[{partition.partition}]") from None


@dataclass(slots=True, eq=False)
class Tail:
    """A key that is followed: the newest of its records, as they come."""

    key: bytes
    first: int
    """All records of the key from here on are here."""
    position: int
    """Offset before which the partition has been looked through."""
    newest: int = -1
    records: deque[ConsumerRecord] = field(default_factory=deque)
    failure: HuracanError | None = None
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, record: ConsumerRecord) -> None:
        """Keep a record, in place of the oldest where there are too many."""
        if len(self.records) >= TAIL_RECORDS:
            self.first = self.records.popleft().offset + 1
        self.records.append(record)
        self.newest = record.offset
        self.grown.set()

    def read(self, offset: int) -> list[ConsumerRecord]:
        """Return the records from an offset on."""
        return [record for record in self.records if record.offset >= offset]

    async def wait(self, offset: int) -> None:
        """Return once there is a record at this offset or after it; raise what keeps the key from being followed."""
        while self.newest < offset:
            if self.failure is not None:
                raise self.failure
            self.grown.clear()
            await self.grown.wait()


class Follower:
    """One consumer for all keys that are followed."""

    def __init__(self, config: KafkaConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._tails: dict[TopicPartition, dict[bytes, Tail]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, partition: TopicPartition, key: bytes, *, first: int, position: int) -> Tail:
        """Follow a key from a position on, before which it has no record from `first` on."""
        tails = self._tails.setdefault(partition, {})
        tail = tails[key] = Tail(key, first, position)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"{self._name} follows")
        elif self._consumer is not None:
            self._assign(self._consumer)
        return tail

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(list(self._tails))
        for partition, tails in self._tails.items():
            consumer.seek(partition, min(tail.position for tail in tails.values()))

    async def _run(self) -> None:
        try:
            while True:
                await self._follow()
                await asyncio.sleep(RETRY_S)
        except HuracanError as error:
            for tails in self._tails.values():
                for tail in tails.values():
                    tail.failure = error
                    tail.grown.set()

    async def _follow(self) -> None:
        """Follow until the library fails with something that passes."""
        if self._consumer is None:
            self._consumer = await until_there(
                lambda: consuming(self._config, self._name, fetch_max_wait_ms=FOLLOW_WAIT_MS)
            )
        consumer: Any = self._consumer
        self._assign(consumer)
        try:
            while True:
                got = await consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)
                for partition, records in got.items():
                    self._hand_out(self._tails[partition], records)
        except errors.KafkaError as error:
            failure = judged(error, f"following {', '.join(sorted({tp.topic for tp in self._tails}))}")
            if not isinstance(failure, Recoverable):
                raise failure from None

    def _hand_out(self, tails: dict[bytes, Tail], records: list[ConsumerRecord]) -> None:
        for record in records:
            tail = tails.get(record.key)
            if tail is not None and record.offset >= tail.position:
                tail.take(record)
        for tail in tails.values():
            tail.position = max(tail.position, records[-1].offset + 1)

    async def close(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._consumer is not None:
            await closed(self._consumer.stop())
