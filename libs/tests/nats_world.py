"""Connections to the real NATS server, on subjects that no other test uses."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from huracan.bus.nats.bus import NatsBus, NatsDelivery, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.clock import MarketClock, SystemClock
from huracan.contracts.market import Bar
from huracan.ids import derived_id

START_NS = 1_700_000_000_000_000_000


class RunningServer(Protocol):
    """A server that runs."""

    @property
    def url(self) -> str: ...


class World:
    """Connections to the shared server, and subjects that no other test uses."""

    def __init__(self, url: str) -> None:
        self.name = secrets.token_hex(6)
        self.connections: list[Connection] = []
        self._url = urlsplit(url)

    def login(self, name: str) -> NatsLogin:
        assert self._url.username
        assert self._url.password
        return NatsLogin(
            url=f"nats://{self._url.hostname}:{self._url.port}",
            name=f"{name}-{self.name}",
            user=self._url.username,
            password=SecretStr(self._url.password),
        )

    async def connect(self, name: str) -> Connection:
        connection = Connection(self.login(name))
        await connection.open()
        self.connections.append(connection)
        return connection

    async def bus(self, name: str, clock: MarketClock | None = None, *, causal: bool = False) -> NatsBus:
        return NatsBus(await self.connect(name), wall=SystemClock(), clock=clock, causal=causal)

    def stored(self, name: str = "a") -> str:
        """Return a subject of the acknowledged path."""
        return f"exec.v1.{self.name}.{name}"

    def sent(self, name: str = "a") -> str:
        """Return a best-effort subject."""
        return f"feat.v1.micro.{self.name}.{name}"

    async def store(self, bus: NatsBus, *numbers: int, name: str = "a") -> None:
        for number in numbers:
            message_id = derived_id(self.name, number)
            await bus.publish_acknowledged(self.stored(name), Bar(trades=number), message_id=message_id)

    async def send(self, bus: NatsBus, *numbers: int, name: str = "a") -> None:
        for number in numbers:
            await bus.publish(self.sent(name), Bar(trades=number))


def run_in(world: World, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await make_streams(await world.connect("admin"))
            try:
                await scenario()
            finally:
                await asyncio.gather(*(connection.close() for connection in world.connections))

    asyncio.run(main())


def number_of(delivery: NatsDelivery) -> int:
    message = delivery.decode()
    assert isinstance(message, Bar)
    return message.trades


async def take(inbox: NatsInbox, count: int, *, acknowledge: bool = True) -> list[int]:
    numbers = []
    for _ in range(count):
        delivery = await anext(inbox)
        numbers.append(number_of(delivery))
        if acknowledge:
            delivery.ack()
    return numbers


async def rest(inbox: NatsInbox) -> list[int]:
    """Return what comes until the inbox ends."""
    numbers = []
    async for delivery in inbox:
        numbers.append(number_of(delivery))
        delivery.ack()
    return numbers


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.01)
