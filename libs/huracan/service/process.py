"""One process: config, connect, ready, run, drain. It hosts one service, or several on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import structlog
from google.protobuf.message import Message
from pydantic import SecretStr, ValidationError

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import DRAIN_TIMEOUT_S, Connection, NatsLogin
from huracan.bus.outbox import Backoff
from huracan.clock import MarketClock, SystemClock
from huracan.config import Config
from huracan.contracts.ops import service_report
from huracan.errors import BadInput, Fatal, HuracanError, Recoverable
from huracan.ids import derived_id
from huracan.ports import Ports, Record, TickLog
from huracan.rng import SeededRng
from huracan.service.announce import announce
from huracan.service.endpoint import Endpoint, Watched
from huracan.service.service import Service, ServiceSpec, spec
from huracan.service.settings import MarketClockConfig, ProcessSettings
from huracan.store.postgres import PostgresStore
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.log import KafkaLog

M = TypeVar("M", bound=Message)

REPORT_EVERY_S = 1.0
"""A killed service's counts are at most this old."""
LAST_WORD_TIMEOUT_S = 3.0
"""Longest wait for the last report and the farewell to be taken."""
CANCEL_TIMEOUT_S = 2.0
"""Longest wait for what was cancelled to end."""
CLOSE_TIMEOUT_S = DRAIN_TIMEOUT_S + 2.0
"""Longest wait for each connection to close: a frozen server does not take the process along."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LEADER = "gateway"
"""The service that moves the market's time."""

logger = structlog.get_logger()


class _NothingKept:
    """The store of a service that says it keeps nothing."""

    async def save(self, messages: Sequence[Message]) -> int:
        """Refuse."""
        raise Fatal(f"{len(messages)} messages were to be saved by a service whose spec says that it keeps nothing")

    async def load(self, kind: type[M]) -> list[M]:
        """Refuse."""
        raise Fatal(f"{kind.__name__} was to be loaded by a service whose spec says that it keeps nothing")

    async def mark(self, topic: str, key: str) -> int:
        """Refuse."""
        raise Fatal(f"the mark of {topic} {key} was asked for by a service whose spec says that it keeps nothing")

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Refuse."""
        raise Fatal(f"{len(records)} records of {topic} {key} were to be saved by a service that keeps nothing")

    async def skip(self, topic: str, key: str, offset: int, *, schema: str, raw: bytes) -> None:
        """Refuse."""
        place = f"{topic} {key} {offset}"
        raise Fatal(f"{place}, {len(raw)} bytes of {schema}, was to be skipped by a service that keeps nothing")

    async def restore(self, topic: str, key: str, record: Record) -> int:
        """Refuse."""
        raise Fatal(f"{topic} {key} {record.offset} was to be restored by a service that keeps nothing")

    async def maintain(self, now_ns: int, *, keep_days: int | None = None) -> dict[str, int]:  # noqa: ARG002 - the port's
        """Refuse."""
        raise Fatal(f"at {now_ns} a store was to be maintained by a service whose spec says that it keeps nothing")


class HostedService:
    """One service with its own connection, user and clock."""

    def __init__(self, found: ServiceSpec[Config], config: Config, settings: ProcessSettings) -> None:
        self.name = found.name
        self.service: Service | None = None
        self._spec = found
        self._config = config
        self._settings = settings
        self._wall = SystemClock()
        user = settings.nats.user or found.name
        password = settings.nats.passwords.get(user, SecretStr(""))
        self._connection = Connection(NatsLogin(url=settings.nats.url, name=found.name, user=user, password=password))
        self._store = self._open_store()
        self._kafka = KafkaLog(settings.kafka, name=found.name) if settings.ticklog == "kafka" else None
        self._started_ns = self._wall.now_ns()
        self._reports = 0
        self._draining = False
        self._stop = asyncio.Event()
        self._over = asyncio.Event()

    def _open_store(self) -> PostgresStore | None:
        if not self._spec.keeps:
            return None
        if self._settings.store.url is None:
            raise BadInput(f"store.url was not set, and {self.name} saves: set HURACAN_STORE__URL")
        return PostgresStore(self._settings.store.url.get_secret_value(), self._settings.store.pool_size)

    def watched(self) -> Watched:
        """Return how this service is to be watched."""
        return Watched(
            self.name,
            alive=lambda: not self._connection.gone.is_set(),
            ready=lambda: (
                self.service is not None and self.service.ready.is_set() and not self._away() and not self._draining
            ),
            counts=lambda: dict(self.service.report()) if self.service else {},
            bus_counts=lambda: dict(self._bus_counts()),
            away=self._away,
        )

    def _away(self) -> list[str]:
        """Return the servers that do not answer, each with its address."""
        away = [] if self._connection.connected else [f"NATS at {self._settings.nats.url}"]
        if self._kafka is not None and not self._kafka.there:
            away.append(f"Kafka at {self._settings.kafka.servers}")
        return away

    async def stop(self) -> None:
        """Drain, and return when it is over."""
        self._stop.set()
        await self._over.wait()

    async def run(self) -> None:
        """Serve until stopped or done; raise what the service failed with, or Fatal when the bus is gone for good."""
        try:
            if await self._connected():
                await self._serve()
        except Exception as error:
            for failure in failures(error):
                trace = None if isinstance(failure, HuracanError) else failure
                kind = type(failure).__name__
                logger.error("service.failed", service=self.name, error=str(failure), kind=kind, exc_info=trace)
            raise
        finally:
            await self._close()
            self._over.set()

    async def _connected(self) -> bool:
        """Wait for the bus and the log; return whether they were there before the stop."""
        opening = asyncio.create_task(self._open(), name=f"{self.name} connect")
        stopped = asyncio.create_task(self._stop.wait(), name=f"{self.name} stop")
        try:
            await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            return opening.done()
        finally:
            await _cancelled(opening, stopped)

    async def _open(self) -> None:
        await self._connection.open()
        if self._kafka is not None:
            await self._kafka.open()

    async def _close(self) -> None:
        """Close what was opened, by force where the other side does not answer."""
        for connection in (self._store, self._kafka, self._connection):
            if connection is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await connection.close()

    async def _serve(self) -> None:
        settings = self._settings
        market = _market_clock(settings.clock, leads=self.name == LEADER) if settings.clock else None
        since_ns = settings.clock.since_ns if settings.clock else 0
        self._bus = bus = NatsBus(
            self._connection, wall=self._wall, clock=market, since_ns=since_ns, causal=settings.lockstep
        )
        log: TickLog = self._kafka or JetStreamLog(bus)
        ports = Ports(
            bus=bus,
            log=log,
            clock=market or self._wall,
            store=self._store or _NothingKept(),
            rng=SeededRng.fresh(),
            lockstep=settings.lockstep,
        )
        self.service = service = self._spec.make(self._config, ports)
        logger.info("service.started", service=self.name)
        running = asyncio.create_task(service.run(), name=self.name)
        others = [
            asyncio.create_task(work, name=f"{self.name} {what}")
            for what, work in (
                ("report", self._report(ports)),
                ("watch", self._watch()),
                ("stop", self._stop.wait()),
            )
        ]
        try:
            done, _ = await asyncio.wait([running, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._drain(service, ports, running)
        finally:
            await _cancelled(running, *others)

    async def _drain(self, service: Service, ports: Ports, running: asyncio.Task[None]) -> None:
        """Unready, stop the intake, finish what is here, say farewell."""
        self._draining = True
        logger.info("service.draining", service=self.name, done=running.done())
        finishing = asyncio.create_task(self._finish(service, ports, running), name=f"{self.name} drain")
        try:
            await asyncio.wait([finishing], timeout=self._settings.drain_timeout_s)
            if finishing.done():
                finishing.result()
            else:
                logger.warning("service.not_drained", service=self.name, timeout_s=self._settings.drain_timeout_s)
        finally:
            await _cancelled(finishing, running)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_TIMEOUT_S), asyncio.TaskGroup() as both:
                backoff = Backoff(ports.rng, f"report.{self.name}")
                both.create_task(backoff.until_done(lambda: self._send_report(ports)))
                both.create_task(announce(ports, self.name, running=False))
        logger.info("service.stopped", service=self.name)

    async def _finish(self, service: Service, ports: Ports, running: asyncio.Task[None]) -> None:
        """Return once the service has dealt with all that had been said when the drain began."""
        service.stop()
        if not (service.ready.is_set() or running.done()):
            return  # it takes nothing in yet, so it has nothing to finish, and would not hear of the drain
        if self._connection.connected:
            with contextlib.suppress(Recoverable):
                await self._connection.flush()  # what is on its way here would be lost with the subscriptions
        await ports.bus.drain()
        await asyncio.wait([running])
        running.result()

    async def _watch(self) -> None:
        await self._connection.gone.wait()
        raise Fatal(f"{self.name}: the connection to {self._settings.nats.url} was closed for good")

    async def _report(self, ports: Ports) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            with contextlib.suppress(Recoverable):
                await self._send_report(ports)

    async def _send_report(self, ports: Ports) -> None:
        assert self.service is not None
        self._reports += 1
        report = service_report(
            self.name, self.service.report(), started_ns=self._started_ns, at_ns=self._wall.now_ns()
        )
        message_id = derived_id("report", self.name, self._started_ns, self._reports)
        await ports.bus.publish_acknowledged(subjects.ops(self.name, "report"), report, message_id=message_id)

    def _bus_counts(self) -> Counter[str]:
        if self.service is None:
            return Counter()
        counts = Counter(dropped=sum(inbox.dropped for inbox in self._bus.inboxes))
        counts.update(self._connection.counts)
        counts.update(self._bus.counts)
        return counts


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are over, but not for ever: one may refuse.

    What failed before is whoever's who waited for it; what fails only now is logged here.
    """
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)
    for task in tasks:
        if not task.done():
            logger.warning("service.not_cancelled", task=task.get_name())
            continue
        error = None if task.cancelled() else task.exception()
        if error is not None and task in pending:
            logger.warning("service.failed_when_cancelled", task=task.get_name(), error=str(error))


def _market_clock(config: MarketClockConfig, *, leads: bool) -> MarketClock:
    origin = config.origin

    def begins() -> int:
        """Return where the market is: at its start, or as far on as the first leader would be by now."""
        now_ns = SystemClock().now_ns()
        began_ns = _origin_ns(origin, now_ns) if origin is not None else now_ns
        return config.start_ns + int((now_ns - began_ns) * config.speed)

    paced = leads and config.speed > 0
    return MarketClock(config.start_ns, speed=config.speed, leads=leads, begins=begins if paced else None)


def _origin_ns(path: Path, now_ns: int) -> int:
    """Return when the first leader began; that is now where the file does not say."""
    try:
        if not path.exists():
            begun = path.with_suffix(".new")
            begun.write_text(str(now_ns), encoding="ascii")
            begun.replace(path)  # in one step: whoever is killed here leaves no half of a number
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise BadInput(f"clock.origin was {path}, which cannot be used: {error}; remove it or name another") from None


class Process:
    """Host the services of the settings until they are done, one of them fails, or a signal says to stop."""

    def __init__(self, settings: ProcessSettings) -> None:
        """Raise BadInput, naming the field, for a service that is not installed or cannot run with its settings."""
        configured = {name: _configured(name, given) for name, given in settings.services.items()}
        shown: dict[str, dict[str, object]] = {
            name: config.model_dump(mode="json") for name, (_, config) in configured.items()
        }
        self.settings = settings.model_copy(update={"services": shown})
        """What is in force, with every default of every service; secrets are masked in its JSON."""
        self._hosted = [HostedService(found, config, settings) for found, config in configured.values()]

    async def run(self) -> None:
        """Serve; raise the failures in a group, BadInput when the port of the endpoint cannot be had.

        What to do at a signal stays so until the process ends: a stop that comes when all is done already must not look
        like a crash, and the event loop's own handlers would be taken away with it.
        """
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def stopped(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module's form
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
                loop.call_soon_threadsafe(stop.set)

        for number in STOP_SIGNALS:
            signal.signal(number, stopped)
        endpoint = Endpoint(lambda: [hosted.watched() for hosted in self._hosted])
        try:
            if self.settings.http_port:
                await endpoint.open(self.settings.http_host, self.settings.http_port)
            async with asyncio.TaskGroup() as group:
                services = [group.create_task(hosted.run(), name=hosted.name) for hosted in self._hosted]
                stopper = group.create_task(self._stop_in_order(stop), name="stop")
                await asyncio.wait(services)
                stopper.cancel()
        finally:
            await endpoint.close()

    async def _stop_in_order(self, stop: asyncio.Event) -> None:
        """Drain one service after the other: what one still has to say, the next still hears."""
        await stop.wait()
        for hosted in self._hosted:
            await hosted.stop()


def _configured(name: str, given: dict[str, object]) -> tuple[ServiceSpec[Config], Config]:
    found = spec(name)
    try:
        return found, found.config.model_validate(given)
    except ValidationError as error:
        raise BadInput(first_fault(error, f"services.{name}")) from None


def first_fault(error: ValidationError, *under: str) -> str:
    """Return in one line which field was wrong and why; `under` names what the fields belong to."""
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, (*under, *fault['loc']))) or 'value'}: {fault['msg'].removeprefix('Value error, ')}"


def failures(error: BaseException) -> Iterator[BaseException]:
    """Yield what failed: of a group, and of the groups in it, each member."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from failures(member)
    else:
        yield error
