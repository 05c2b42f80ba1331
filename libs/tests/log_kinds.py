"""Every kind of log that there is, as the laws over all of them want it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from aiokafka import AIOKafkaProducer
from google.protobuf.message import Message
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.clock import SystemClock
from huracan.ports import Record
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.log import KafkaLog
from huracan.ticklog.memory import MemoryLog


class RunningServer(Protocol):
    """A server that runs."""

    @property
    def url(self) -> str: ...


class Log(Protocol):
    """A log that also tells its keys."""

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int: ...

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> Sequence[int]: ...

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]: ...

    async def last(self, topic: str, key: str) -> Record | None: ...

    async def wait(self, topic: str, key: str, offset: int) -> None: ...

    async def keys(self, topic: str) -> list[str]: ...


class Kind(Protocol):
    """One kind of log: what any number of nodes share."""

    def node(self, name: str) -> AbstractAsyncContextManager[Log]:
        """Give the log as a new node sees it."""

    async def plant(self, topic: str, key: str, schema: str, data: bytes) -> None:
        """Put bytes under a key as somebody would who knows nothing of us."""


@dataclass
class InMemory:
    """The log in memory."""

    log: MemoryLog = field(default_factory=MemoryLog)

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[Log]:
        yield self.log.node(name)

    async def plant(self, topic: str, key: str, schema: str, data: bytes) -> None:
        self.log.put(topic, key, schema, data, secrets.token_bytes(16))


@dataclass
class OnJetStream:
    """The log on a NATS server; its URL has user and password."""

    url: str

    @asynccontextmanager
    async def _connection(self, name: str) -> AsyncIterator[Connection]:
        parts = urlsplit(self.url)
        assert parts.username
        assert parts.password
        connection = Connection(
            NatsLogin(
                url=f"nats://{parts.hostname}:{parts.port}",
                name=f"{name}-{secrets.token_hex(4)}",
                user=parts.username,
                password=SecretStr(parts.password),
            )
        )
        try:
            await connection.open()
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[Log]:
        async with self._connection(name) as connection:
            await make_streams(connection)
            yield JetStreamLog(NatsBus(connection, wall=SystemClock()))

    async def plant(self, topic: str, key: str, schema: str, data: bytes) -> None:
        headers = {"Huracan-Schema": schema, "Nats-Msg-Id": secrets.token_hex(16)}
        async with self._connection("stranger") as connection:
            await connection.request(subjects.log(topic, key), data, headers)


@dataclass
class OnKafka:
    """The log on a Kafka broker."""

    servers: str

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[Log]:
        log = KafkaLog(KafkaConfig(servers=self.servers, ack_timeout_ms=1_000), name=name)
        try:
            await log.open()
            yield log
        finally:
            await log.close()

    async def plant(self, topic: str, key: str, schema: str, data: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer:
            await producer.send_and_wait(
                topic,
                data,
                key.encode(),
                partition=subjects.partition(key),
                headers=[("Huracan-Schema", schema.encode())],
            )
