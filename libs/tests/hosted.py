"""A process that hosts services made for a test, on a real server, and a bus beside it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import pytest
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.clock import SystemClock
from huracan.config import Config
from huracan.contracts.market import InstrumentId
from huracan.contracts.ops import ServiceChanged, ServiceReport, StepAcknowledged, step_acknowledged
from huracan.ports import Delivery, Ports
from huracan.service import process
from huracan.service.process import Process
from huracan.service.service import Service, ServiceSpec
from huracan.service.settings import ProcessSettings

INSTRUMENT = InstrumentId(venue="sim", symbol="sim-usdt-perp", definition_version=1)
WAITS_AT_MOST_S = 20.0


class Server(Protocol):
    """A NATS server that runs; the URL has user and password in it."""

    url: str


class Hearer(Service):
    """Hear what is said to it, both ways or one, and do what the test wants done with each."""

    def __init__(
        self,
        name: str,
        ports: Ports,
        handle: Callable[[Hearer, Delivery], Awaitable[None]],
        *,
        stored: bool | None = None,
    ) -> None:
        super().__init__(name)
        self.ports = ports
        self._stored = stored
        self.heard: list[int] = []
        self._handle = handle

    async def run(self) -> None:
        """Listen until drained."""
        inbox = self.ports.bus.inbox()
        if self._stored is not True:
            inbox.subscribe(f"feat.v1.test.{self.name}")
        if self._stored is not False:
            inbox.consume(f"news.v1.{self.name}", durable=self.name)
        await self.listening(self.ports)
        async for delivery in inbox:
            await self._handle(self, delivery)
            message = delivery.decode()
            assert isinstance(message, StepAcknowledged)
            self.heard.append(message.step)
            self.counts["heard"] += 1
            delivery.ack()


class Doing(Service):
    """Do one thing once it listens."""

    def __init__(self, name: str, ports: Ports, work: Callable[[Doing], Awaitable[None]]) -> None:
        super().__init__(name)
        self.ports = ports
        self._work = work

    async def run(self) -> None:
        """Listen, then work."""
        await self.listening(self.ports)
        await self._work(self)


Make = Callable[[str, Ports], Service]


Install = Callable[[dict[str, Make]], dict[str, dict[str, object]]]


def installing(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return what installs services for one test, and gives what the settings say of them."""

    def installed(made: dict[str, Make]) -> dict[str, dict[str, object]]:
        def found(name: str) -> ServiceSpec[Config]:
            return ServiceSpec(
                name=name, config=Config, make=lambda _, ports: made[name](name, ports), access=lambda _: Access()
            )

        monkeypatch.setattr(process, "spec", found)
        return {name: {} for name in made}

    return installed


def new_name() -> str:
    """Return a name for a service that no other test has, as its messages stay on the server."""
    return f"test-{secrets.token_hex(4)}"


async def nothing(_: Service, __: Delivery) -> None:
    """Do nothing about a delivery."""


async def for_ever(_: Service) -> None:
    await asyncio.Event().wait()


def login(server: Server) -> tuple[str, str, str]:
    credentials, _, host = server.url.removeprefix("nats://").partition("@")
    user, _, password = credentials.partition(":")
    return f"nats://{host}", user, password


def settings_of(server: Server, services: dict[str, dict[str, object]], **more: object) -> dict[str, object]:
    url, user, password = login(server)
    return {"services": services, "nats": {"url": url, "user": user, "passwords": {user: password}}, **more}


@asynccontextmanager
async def watcher(server: Server) -> AsyncIterator[NatsBus]:
    """Give a bus beside the process, on a server that has its streams."""
    url, user, password = login(server)
    connection = Connection(NatsLogin(url=url, name=secrets.token_hex(4), user=user, password=SecretStr(password)))
    await connection.open()
    try:
        await make_streams(connection)
        yield NatsBus(connection, wall=SystemClock())
    finally:
        await connection.close()


@asynccontextmanager
async def started(settings: dict[str, object]) -> AsyncIterator[tuple[Process, asyncio.Task[None]]]:
    """Run a process as a task until its services are ready; whatever the test does, none of it is left."""
    hosting = Process(ProcessSettings.model_validate(settings))
    before = asyncio.all_tasks()
    running = asyncio.create_task(hosting.run())
    try:
        await until(lambda: running.done() or all(one.watched().ready() for one in hosting._hosted))
        yield hosting, running
        if running.done() and running.exception() is None:
            assert asyncio.all_tasks() == before
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, BaseExceptionGroup):
            await running


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition, within bounds."""
    async with asyncio.timeout(WAITS_AT_MOST_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def terminate(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


async def finished(running: asyncio.Task[None]) -> None:
    async with asyncio.timeout(WAITS_AT_MOST_S):
        await running


async def send(bus: NatsBus, name: str, steps: range, *, stored: bool) -> None:
    for step in steps:
        message = step_acknowledged(name, INSTRUMENT, step)
        if stored:
            subject, message_id = subjects.news(name), f"{name}/{step}".encode()
            await bus.publish_acknowledged(subject, message, message_id=message_id)
        else:
            await bus.publish(f"feat.v1.test.{name}", message)
    await bus.connection.flush()


async def said(bus: NatsBus, name: str) -> tuple[list[ServiceReport], list[ServiceChanged]]:
    """Return all that a service has said of itself, oldest first."""
    inbox = bus.inbox()
    inbox.everything(subjects.ops(name, "report"))
    inbox.everything(subjects.ops(name, "service"))
    await bus.prepared()
    await inbox.catch_up()
    await inbox.drain()
    messages = [delivery.decode() async for delivery in inbox]
    return (
        [message for message in messages if isinstance(message, ServiceReport)],
        [message for message in messages if isinstance(message, ServiceChanged)],
    )
