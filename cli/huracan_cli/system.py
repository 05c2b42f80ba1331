"""A whole system on this machine: servers, service processes, the order of their start and end, and who watches."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus, NatsDelivery
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.nats.users import (
    EVERYTHING,
    Permissions,
    desk_permissions,
    service_permissions,
    watcher_permissions,
)
from huracan.clock import MarketClock, SystemClock
from huracan.contracts.ops import ServiceChanged, ServiceReport
from huracan.embedded.files import make_directory, write_secret
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import Program, State, Supervisor
from huracan.errors import BadInput, PoisonMessage
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.service.announce import announce
from huracan.service.service import combined, spec
from huracan.store.memory import MemoryStore
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.log import KafkaLog
from huracan.ticklog.kafka.topics import make_topics
from huracan_cli.answers import answers
from huracan_cli.composition import EXPERTS, GATEWAY, SERVICES
from huracan_cli.sources import Opening, Source
from huracan_cli.ticklogs import VARIABLE, TickLogKind, broker
from huracan_cli.watch import Watch
from huracan_executor.config import ExecutorConfig
from huracan_orchestrator.config import GateConfig

OPERATOR, WATCHER, DESK = "operator", "watcher", "desk"
LIBRARY = "engines"
"""Within the state directory: bundles that may serve instead of the configured ones."""
SERVICE_READY_WITHIN_S = 90.0
"""A first start compiles and imports; a second takes a tenth of this."""
SERVICE_STOP_WITHIN_S = 30.0
"""Longer than catching up, draining and the last word together."""
HEARD = ("feat.v1.micro.>", *(f"sig.v1.{name}.>" for name in (*EXPERTS, "decision")), "exec.v1.>", "ctx.v1.>")
"""What the live table is made of."""
LOOK_EVERY_S = 0.05
DRAINS_AGAIN = 2
"""How often a service that did not end well is started once more to finish what it was draining."""
ANNOUNCE_WITHIN_S = 5.0
"""Longest wait to say that an expert is gone: its restart waits as long, and without the word its deadline does."""


class Layout(StrEnum):
    """How the services share processes."""

    SIM = "sim"
    """None of their own: virtual time, in memory."""
    SINGLE = "single"
    """All in one process."""
    HOSTED = "hosted"
    """The experts share one, the others have their own."""
    SEVEN = "seven"
    """One process each."""

    @property
    def processes(self) -> dict[str, tuple[str, ...]]:
        """Return the services of each process, in the order in which they drain."""
        everything = (GATEWAY, *SERVICES)
        alone: dict[str, tuple[str, ...]] = {name: (name,) for name in everything}
        shared: dict[Layout, dict[str, tuple[str, ...]]] = {
            Layout.SIM: {},
            Layout.SINGLE: {"huracan": everything},
            Layout.HOSTED: {
                GATEWAY: (GATEWAY,),
                "experts": EXPERTS,
                **{name: (name,) for name in everything if name not in (GATEWAY, *EXPERTS)},
            },
        }
        return shared.get(self, alone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    source: Opening
    layout: Layout
    nats_url: str | None = None
    """A server that is there already, with its user and password; None: one of our own."""
    postgres_url: str | None = None
    ticklog: TickLogKind = TickLogKind.JETSTREAM


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How a running system is reached."""

    nats_url: str
    nats_user: str | None
    """The one user of a server that is not ours; None: a user each."""
    passwords: Mapping[str, SecretStr]
    """By user."""
    kafka: KafkaConfig | None
    """Where the log is kept; None: with the bus."""
    postgres_url: SecretStr
    http_ports: Mapping[str, int]
    """By process."""


class System:
    """Start it, wait for its end or for whoever stops it, ask it what it did.

    `directory` is for data of the servers, settings and logs of the processes, and what the source writes.
    """

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.directory = directory
        self.on_source: Callable[[Source], None] = lambda _source: None
        """Called once it is known what is read, before anything else is started."""
        self.on_report: Callable[[str, Counter[str]], None] = lambda _service, _counts: None
        """Called with what a service has counted, about once a second."""
        self._wall = SystemClock()
        self._rng = SeededRng.fresh()
        self._passwords: dict[str, str] = {}
        self._supervisor = Supervisor(self._rng, on_exit=self._died)
        self._began_ns = self._wall.now_ns()
        self._reports: dict[tuple[str, int], Counter[str]] = {}
        self._gateway_ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._nats: NatsLogin | None = None
        self._kafka: KafkaConfig | None = None
        self._kafka_log: KafkaLog | None = None
        self._postgres_url = ""
        self._ports_of: dict[str, int] = {}
        self._services: dict[str, Program] = {}

    # Up.

    async def open(self, *, fresh: bool = False) -> None:
        """Open the source, start servers, then services, the gateway last; return once all are ready.

        Raises BadInput for a server that holds the journal of another run, where all of it is to be this run's: always
        for a recording, and for others when `fresh`.
        """
        make_directory(self.directory, mode=0o711)
        source = await self.plan.source(self._supervisor, self.directory)
        library = (self.directory / LIBRARY).resolve()
        self.source = replace(source, inputs=replace(source.inputs, library=library))
        self.on_source(self.source)
        self._configs = self.source.configs()
        time = self.source.time
        self.watch = Watch(speed=time.speed or None if time else 1.0, equity=ExecutorConfig().equity)
        await self._start_servers()
        self.store = PostgresStore(self._postgres_url)
        await migrate(self._postgres_url, migrations_directory())
        assert self._nats is not None
        self.connection = Connection(self._nats)
        await self.connection.open()
        await make_streams(self.connection)
        self._clock = MarketClock(time.start_ns, speed=time.speed, leads=False) if time else None
        self.bus = NatsBus(self.connection, wall=self._wall, clock=self._clock, since_ns=self._began_ns)
        self.published = JetStreamLog(self.bus)
        self.log = await self._open_log()
        if (fresh or time is not None) and await self.log.keys(subjects.JOURNAL_TOPIC):
            holder = self._kafka.servers if self._kafka else self._nats.url
            raise BadInput(
                f"{holder} holds the journal of another run, and this one needs an empty one: begin with --wipe, or "
                "name another server"
            )
        self._tasks = [asyncio.create_task(self._follow_messages()), asyncio.create_task(self._follow_reports())]
        await self.bus.prepared()
        await self._start_services()

    async def _open_log(self) -> JetStreamLog | KafkaLog:
        if self._kafka is None:
            return self.published
        await make_topics(self._kafka)
        self._kafka_log = KafkaLog(self._kafka, name=OPERATOR)
        return self._kafka_log

    async def _start_servers(self) -> None:
        plan, programs = self.plan, []
        if plan.postgres_url is None:
            database = PostgresServer(directory=self.directory / "postgres", port=free_port())
            programs.append(database.prepare())
            self._postgres_url = database.url
        else:
            self._postgres_url = plan.postgres_url
        if plan.nats_url is None:
            bus = NatsServer(directory=self.directory / "nats", port=free_port(), monitor_port=free_port())
            programs.append(bus.prepare(self._users()))
            self._nats = NatsLogin(url=bus.url, name=OPERATOR, password=SecretStr(self._passwords[OPERATOR]))
        else:
            self._nats = login_of(plan.nats_url, OPERATOR)
        if plan.ticklog is TickLogKind.KAFKA:
            kafka = broker(self.directory)
            programs += [kafka.program] if kafka.program else []
            self._kafka = kafka.config
        await asyncio.gather(*(self._supervisor.start(program) for program in programs))

    def _users(self) -> list[NatsUser]:
        permissions: dict[str, Permissions] = {
            OPERATOR: EVERYTHING,
            WATCHER: watcher_permissions(WATCHER),
            DESK: desk_permissions(DESK, strategies=(GateConfig().strategy,), accounts=(ExecutorConfig().account,)),
            **{name: service_permissions(name, spec(name).access(config)) for name, config in self._configs.items()},
        }
        self._passwords = {name: secrets.token_urlsafe(24) for name in permissions}
        return [
            NatsUser(name=name, password=self._passwords[name], publish=allowed.publish, subscribe=allowed.subscribe)
            for name, allowed in permissions.items()
        ]

    async def _start_services(self) -> None:
        programs = {
            process: self._program(process, services) for process, services in self.plan.layout.processes.items()
        }
        last = programs.pop(GATEWAY, None)
        await asyncio.gather(*(self._supervisor.start(program) for program in programs.values()))
        if last is not None:
            await self._supervisor.start(last)

    def _program(self, process: str, services: tuple[str, ...]) -> Program:
        port = self._ports_of[process] = free_port()
        path = self.directory / f"{process}.json"
        write_secret(path, json.dumps(self._settings(services, port), indent=2))
        self._services[process] = program = Program(
            name=process,
            command=(sys.executable, "-m", "huracan.service", "--config", str(path.resolve())),
            directory=self.directory,
            environment={VARIABLE: self.plan.ticklog},  # of a process the environment outdoes the file
            ready=lambda: answers(port, "/readyz"),
            ready_within_s=SERVICE_READY_WITHIN_S,
            stop_within_s=SERVICE_STOP_WITHIN_S,
        )
        return program

    def _settings(self, services: tuple[str, ...], port: int) -> dict[str, object]:
        assert self._nats is not None
        time = self.source.time
        user = self._nats.user or None
        passwords = {name: self._passwords[name] for name in services if name in self._passwords}
        if user is not None:
            passwords = {user: self._nats.password.get_secret_value()}
        return {
            "services": {name: self._configs[name].model_dump(mode="json") for name in services},
            "nats": {"url": self._nats.url, "user": user, "passwords": passwords},
            "ticklog": self.plan.ticklog,
            **({"kafka": self._kafka.revealed()} if self._kafka else {}),
            "store": {"url": self._postgres_url if any(spec(name).keeps for name in services) else None},
            "clock": {
                "start_ns": time.start_ns,
                "speed": time.speed,
                "since_ns": self._began_ns,
                "origin": str((self.directory / "origin").resolve()),
            }
            if time
            else None,
            "lockstep": time is not None and not time.speed,
            "http_port": port,
        }

    # While it runs.

    async def _died(self, process: str, exit_code: int) -> None:  # noqa: ARG002 - the supervisor's form
        """Say of experts that they are gone: windows no longer wait for them."""
        for service in self.plan.layout.processes.get(process, ()):
            if service in EXPERTS and self.connection.connected:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ANNOUNCE_WITHIN_S):
                        await announce(self._ports(), service, running=False)

    def _ports(self) -> Ports:
        return Ports(bus=self.bus, log=self.log, clock=self._clock or self._wall, store=MemoryStore(), rng=self._rng)

    async def _follow_messages(self) -> None:
        inbox = self.bus.inbox()
        for pattern in HEARD:
            inbox.subscribe(pattern)
        async for delivery in inbox:
            self._heard(delivery)

    def _heard(self, delivery: NatsDelivery) -> None:
        message = _read(delivery)
        if message is None:
            return
        self.watch.heard(
            delivery.subject, message, sent_ns=delivery.sent_ns, market_ns=delivery.time_ns or delivery.sent_ns
        )

    async def _follow_reports(self) -> None:
        inbox = self.bus.inbox()
        inbox.everything("ops.v1.*.report")
        inbox.latest(f"ops.v1.{GATEWAY}.service")
        async for delivery in inbox:
            message = _read(delivery)
            if isinstance(message, ServiceReport):
                self._take(message)
            elif isinstance(message, ServiceChanged) and not message.running and delivery.sent_ns >= self._began_ns:
                self._gateway_ended.set()
            delivery.ack()

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Return what each service has counted over all its incarnations, as far as it was reported."""
        services: dict[str, list[Counter[str]]] = {name: [] for name in (GATEWAY, *SERVICES)}
        for (service, _), counts in sorted(self._reports.items()):
            services[service].append(counts)
        return {name: combined(reports) for name, reports in services.items()}

    @property
    def restarts(self) -> dict[str, int]:
        """Return the restarts of each process and server that had any."""
        return dict(sorted(self._supervisor.restarts.items()))

    def states(self) -> dict[str, str]:
        """Return the state of every process and server."""
        return {name: str(self._supervisor.state(name)) for name in self.programs}

    @property
    def programs(self) -> tuple[str, ...]:
        """Return the names of all processes and servers, in the order of their start."""
        return self._supervisor.programs

    def pid(self, name: str) -> int | None:
        """Return the process id of a process or server."""
        return self._supervisor.pid(name)

    def reached(self) -> Reached:
        """Return how others reach the servers and the processes."""
        assert self._nats is not None
        user = self._nats.user or None
        shared = {user: self._nats.password} if user else {}
        return Reached(
            nats_url=self._nats.url,
            nats_user=user,
            passwords=shared or {name: SecretStr(password) for name, password in self._passwords.items()},
            kafka=self._kafka,
            postgres_url=SecretStr(self._postgres_url),
            http_ports=dict(self._ports_of),
        )

    # Down.

    async def ended(self) -> None:
        """Return once the gateway has played everything; raise what a process failed with for good."""
        ends = asyncio.create_task(self._gateway_ended.wait())
        programs = {name: asyncio.create_task(self._supervisor.finished(name)) for name in self.programs}
        last = programs[next(name for name, services in self.plan.layout.processes.items() if GATEWAY in services)]
        waiting: set[asyncio.Task[Any]] = {ends, *programs.values(), *self._tasks}
        try:
            while not (ends.done() or last.done()):  # its process ends without a farewell when the bus is away
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self._supervisor.failure is not None:
                    raise self._supervisor.failure
                for follower in done.intersection(self._tasks):
                    follower.result()
        finally:
            for task in (ends, *programs.values()):
                task.cancel()

    async def stop_services(self) -> None:
        """Drain the services in the order of their talk, each once it is ready: what one still says the next hears."""
        for name in (name for name in self.plan.layout.processes if name in self.programs):
            await self._settled(name)
            await self._supervisor.stop(name)
            for _ in range(DRAINS_AGAIN):
                if not await self._supervisor.finished(name):
                    break
                await self._supervisor.start(self._services[name])  # killed while it drained: its heir does the rest
                await self._supervisor.stop(name)

    async def _settled(self, name: str) -> None:
        while self._supervisor.state(name) in (State.STARTING, State.WAITING):  # noqa: ASYNC110 - it restarts
            await asyncio.sleep(LOOK_EVERY_S)

    async def reported(self) -> None:
        """Return once all that the services said of themselves is here: read from the stream, which misses nothing."""
        for _, message in await self.published.published("ops.v1.*.report"):
            if isinstance(message, ServiceReport):
                self._take(message)

    def _take(self, report: ServiceReport) -> None:
        if report.started_ns >= self._began_ns:
            counts = Counter({count.name: count.value for count in report.counts})
            self._reports[report.service, report.started_ns] = counts
            self.on_report(report.service, counts)

    async def close(self) -> None:
        """Stop whatever runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "store"):
            await self.store.close()
        if self._kafka_log is not None:
            await self._kafka_log.close()
        if hasattr(self, "connection"):
            await self.connection.close()
        await self._supervisor.stop_all()


def _read(delivery: NatsDelivery) -> Message | None:
    """Return what a delivery says; None when that cannot be read, which is its readers' affair."""
    try:
        return delivery.decode()
    except PoisonMessage:
        return None


def login_of(url: str, name: str) -> NatsLogin:
    """Return the login that a URL with user and password gives."""
    scheme, _, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, _, password = credentials.partition(":")
    return NatsLogin(url=f"{scheme}://{host}" if at else url, name=name, user=user, password=SecretStr(password))
