"""A process from inside, on a real server: what its services still do when it is told to stop, and how it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest
import structlog
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
from huracan.embedded.ports import free_port
from huracan.errors import BadInput, Fatal
from huracan.ports import Delivery, Ports
from huracan.service import __main__ as program
from huracan.service import process
from huracan.service.process import Process, failures
from huracan.service.service import Service, ServiceSpec
from huracan.service.settings import MarketClockConfig, ProcessSettings

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


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Make]], dict[str, dict[str, object]]]:
    """Install services for one test; give what the settings say of them."""

    def installed(made: dict[str, Make]) -> dict[str, dict[str, object]]:
        def found(name: str) -> ServiceSpec[Config]:
            return ServiceSpec(
                name=name, config=Config, make=lambda _, ports: made[name](name, ports), access=lambda _: Access()
            )

        monkeypatch.setattr(process, "spec", found)
        return {name: {} for name in made}

    return installed


Install = Callable[[dict[str, Make]], dict[str, dict[str, object]]]


@pytest.fixture
def name() -> str:
    """Give a service a name that no other test has, as its messages stay on the server."""
    return f"test-{secrets.token_hex(4)}"


async def _nothing(_: Service, __: Delivery) -> None:
    """Do nothing about a delivery."""


async def _for_ever(_: Service) -> None:
    await asyncio.Event().wait()


def _login(server: Server) -> tuple[str, str, str]:
    credentials, _, host = server.url.removeprefix("nats://").partition("@")
    user, _, password = credentials.partition(":")
    return f"nats://{host}", user, password


def _settings(server: Server, services: dict[str, dict[str, object]], **more: object) -> dict[str, object]:
    url, user, password = _login(server)
    return {"services": services, "nats": {"url": url, "user": user, "passwords": {user: password}}, **more}


@asynccontextmanager
async def _watcher(server: Server) -> AsyncIterator[NatsBus]:
    """Give a bus beside the process, on a server that has its streams."""
    url, user, password = _login(server)
    connection = Connection(NatsLogin(url=url, name=secrets.token_hex(4), user=user, password=SecretStr(password)))
    await connection.open()
    try:
        await make_streams(connection)
        yield NatsBus(connection, wall=SystemClock())
    finally:
        await connection.close()


@asynccontextmanager
async def _started(settings: dict[str, object]) -> AsyncIterator[tuple[Process, asyncio.Task[None]]]:
    """Run a process as a task until its services are ready; whatever the test does, none of it is left."""
    hosting = Process(ProcessSettings.model_validate(settings))
    before = asyncio.all_tasks()
    running = asyncio.create_task(hosting.run())
    try:
        await _until(lambda: running.done() or all(one.watched().ready() for one in hosting._hosted))
        yield hosting, running
        if running.done() and running.exception() is None:
            assert asyncio.all_tasks() == before
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, BaseExceptionGroup):
            await running


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for a condition, within bounds."""
    async with asyncio.timeout(WAITS_AT_MOST_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def _terminate(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


async def _finished(running: asyncio.Task[None]) -> None:
    async with asyncio.timeout(WAITS_AT_MOST_S):
        await running


async def _send(bus: NatsBus, name: str, steps: range, *, stored: bool) -> None:
    for step in steps:
        message = step_acknowledged(name, INSTRUMENT, step)
        if stored:
            subject, message_id = subjects.news(name), f"{name}/{step}".encode()
            await bus.publish_acknowledged(subject, message, message_id=message_id)
        else:
            await bus.publish(f"feat.v1.test.{name}", message)
    await bus.connection.flush()


async def _said(bus: NatsBus, name: str) -> tuple[list[ServiceReport], list[ServiceChanged]]:
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


def _count(report: ServiceReport) -> Counter[str]:
    return Counter({count.name: count.value for count in report.counts})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("stored", "count"), [(True, 300), (False, 5_000)])
def test_what_was_said_before_the_signal_is_dealt_with(
    stored: bool, count: int, number: signal.Signals, nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: lambda name, ports: Hearer(name, ports, _nothing, stored=stored)})

    async def main() -> None:
        async with _watcher(nats_server) as bus, _started(_settings(nats_server, services)) as (hosting, running):
            await _send(bus, name, range(count), stored=stored)
            _terminate(number)
            await _finished(running)
            service = hosting._hosted[0].service
            assert isinstance(service, Hearer)
            assert service.heard == list(range(count))

    asyncio.run(main())


def test_a_drained_service_leaves_its_last_counts_and_a_farewell(
    nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: lambda name, ports: Hearer(name, ports, _nothing)})

    async def main() -> None:
        async with _watcher(nats_server) as bus:
            async with _started(_settings(nats_server, services)) as (_, running):
                await _send(bus, name, range(5), stored=True)
                _terminate()
                await _finished(running)
            reports, changes = await _said(bus, name)
            assert _count(reports[-1])["heard"] == 5
            assert [change.running for change in changes] == [True, False]

    asyncio.run(main())


def test_reports_come_by_themselves_and_a_last_one_at_the_end(
    nats_server: Server, install: Install, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "REPORT_EVERY_S", 0.02)

    async def count(service: Doing) -> None:
        while True:
            service.counts["turns"] += 1
            await asyncio.sleep(0.01)

    services = install({name: lambda name, ports: Doing(name, ports, count)})

    async def main() -> None:
        async with _watcher(nats_server) as bus:
            async with _started(_settings(nats_server, services, drain_timeout_s=0.01)) as (hosting, running):
                await _until(lambda: hosting._hosted[0]._reports >= 3)
                _terminate()
                await _finished(running)
                service = hosting._hosted[0].service
                assert service is not None
            reports, _ = await _said(bus, name)
            turns = [_count(report)["turns"] for report in reports]
            assert len(turns) >= 4
            assert turns == sorted(turns)
            assert turns[-1] == service.counts["turns"]
            assert len({report.started_ns for report in reports}) == 1

    asyncio.run(main())


def test_a_process_is_unready_at_once_and_alive_until_it_has_finished(
    nats_server: Server, install: Install, name: str
) -> None:
    going_on = asyncio.Event()

    async def wait(_: Service, __: Delivery) -> None:
        await going_on.wait()

    services = install({name: lambda name, ports: Hearer(name, ports, wait)})

    async def main() -> None:
        async with _watcher(nats_server) as bus, _started(_settings(nats_server, services)) as (hosting, running):
            watched = hosting._hosted[0].watched()
            await _send(bus, name, range(3), stored=False)
            _terminate()
            await _until(lambda: not watched.ready())
            assert watched.alive()
            assert not running.done()
            going_on.set()
            await _finished(running)
            assert watched.counts()["heard"] == 3

    asyncio.run(main())


def test_a_service_that_hangs_is_cut_and_still_says_farewell(nats_server: Server, install: Install, name: str) -> None:
    services = install({name: lambda name, ports: Doing(name, ports, _for_ever)})

    async def main() -> None:
        async with _watcher(nats_server) as bus:
            settings = _settings(nats_server, services, drain_timeout_s=0.05)
            async with _started(settings) as (_, running):
                _terminate()
                await _finished(running)
            _, changes = await _said(bus, name)
            assert [change.running for change in changes] == [True, False]

    asyncio.run(main())


def test_a_service_that_has_not_begun_to_listen_is_stopped_at_once(
    nats_server: Server, install: Install, name: str
) -> None:
    recovering = asyncio.Event()

    class Recovering(Doing):
        """Recover for ever."""

        async def run(self) -> None:
            recovering.set()
            await asyncio.Event().wait()

    services = install({name: lambda name, ports: Recovering(name, ports, _for_ever)})

    async def main() -> None:
        async with _watcher(nats_server):
            settings = _settings(nats_server, services, drain_timeout_s=10 * WAITS_AT_MOST_S)
            running = asyncio.create_task(Process(ProcessSettings.model_validate(settings)).run())
            await recovering.wait()
            _terminate()
            await _finished(running)

    asyncio.run(main())


def test_a_service_that_will_not_be_cancelled_does_not_keep_the_process(
    nats_server: Server, install: Install, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CANCEL_TIMEOUT_S", 0.05)
    let_go = asyncio.Event()

    async def refuse(_: Service) -> None:
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()

    services = install({name: lambda name, ports: Doing(name, ports, refuse)})

    async def main() -> None:
        settings = _settings(nats_server, services, drain_timeout_s=0.05)
        async with _watcher(nats_server), _started(settings) as (_, running):
            _terminate()
            await _finished(running)
            let_go.set()
            await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == name))

    asyncio.run(main())


def test_services_drain_in_their_order_and_a_later_one_hears_an_earlier_one(
    nats_server: Server, install: Install, name: str
) -> None:
    first, second, third = f"{name}-a", f"{name}-b", f"{name}-c"
    order: list[str] = []

    async def talk(service: Service, delivery: Delivery) -> None:
        """Say what was heard to the next one, both ways."""
        assert isinstance(service, Hearer)
        message, after = delivery.decode(), {first: second, second: third, third: ""}[service.name]
        order.append(service.name)
        if after:
            await service.ports.bus.publish(f"feat.v1.test.{after}", message)
            await service.ports.bus.publish_acknowledged(
                subjects.news(after), message, message_id=secrets.token_bytes(16)
            )

    services = install({one: lambda one, ports: Hearer(one, ports, talk) for one in (first, second, third)})

    async def main() -> None:
        async with _watcher(nats_server) as bus, _started(_settings(nats_server, services)) as (_, running):
            await _send(bus, first, range(10), stored=False)
            _terminate()
            await _finished(running)
        assert Counter(order) == {first: 10, second: 20, third: 40}

    asyncio.run(main())


def test_no_service_stops_listening_before_its_turn(nats_server: Server, install: Install, name: str) -> None:
    first, second = f"{name}-a", f"{name}-b"
    drained: list[str] = []

    async def last_word(service: Service, _: Delivery) -> None:
        assert isinstance(service, Hearer)
        drained.append(service.name)

    class Talker(Doing):
        """Say one thing when it is told to stop."""

        def __init__(self, name: str, ports: Ports) -> None:
            self._stopped = asyncio.Event()
            super().__init__(name, ports, self._last_words)

        def stop(self) -> None:
            self._stopped.set()

        async def _last_words(self, _: Doing) -> None:
            await self._stopped.wait()
            drained.append(self.name)
            await self.ports.bus.publish(f"feat.v1.test.{second}", step_acknowledged(first, INSTRUMENT, 1))

    services = install({first: Talker, second: lambda one, ports: Hearer(one, ports, last_word)})

    async def main() -> None:
        async with _watcher(nats_server), _started(_settings(nats_server, services)) as (_, running):
            _terminate()
            await _finished(running)
        assert drained == [first, second]

    asyncio.run(main())


def test_a_service_that_is_done_ends_its_process_once_the_others_are(
    nats_server: Server, install: Install, name: str
) -> None:
    async def done(_: Service) -> None:
        """Have nothing to do."""

    other = f"{name}-b"
    services = install(
        {name: lambda one, ports: Doing(one, ports, done), other: lambda one, ports: Hearer(one, ports, _nothing)}
    )

    async def main() -> None:
        async with _watcher(nats_server) as bus:
            hosting = Process(ProcessSettings.model_validate(_settings(nats_server, services)))
            running = asyncio.create_task(hosting.run())
            await _until(lambda: hosting._hosted[0]._over.is_set() and hosting._hosted[1].watched().ready())
            assert not running.done()
            _terminate()
            await _finished(running)
            _, changes = await _said(bus, name)
            assert [change.running for change in changes] == [True, False]

    asyncio.run(main())


def _failing(error: Exception, *, draining: bool = False) -> Make:
    async def fail(service: Doing) -> None:
        if draining:
            inbox = service.ports.bus.inbox()
            async for _ in inbox:
                raise AssertionError("nothing was to come")
        async with asyncio.TaskGroup() as group:  # as most services have one
            group.create_task(_raise(error))

    return lambda name, ports: Doing(name, ports, fail)


async def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def quiet() -> Iterator[None]:
    """Give the log back as it was before a program set it up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []  # else the program would close those of pytest
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("error", "code"), [(Fatal("disk is full"), 1), (BadInput("file was empty"), 2), (ZeroDivisionError("by 0"), 1)]
)
def test_a_service_that_fails_ends_its_process_and_is_named(
    error: Exception,
    code: int,
    shared: bool,
    nats_server: Server,
    install: Install,
    name: str,
    tmp_path: Path,
    quiet: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = {name: _failing(error)}
    if shared:
        made[f"{name}-b"] = lambda one, ports: Hearer(one, ports, _nothing)
    asyncio.run(_with_streams(nats_server))
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(_settings(nats_server, install(made))))
    assert program.main(["--config", str(path)]) == code
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    failed = [line for line in lines if line["event"] == "service.failed"]
    assert [(line["service"], line["error"], line["kind"], line["level"]) for line in failed] == [
        (name, str(error), type(error).__name__, "error")
    ]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert lines[-1]["event"] == "process.failed"
    assert lines[-1]["errors"] == [f"{type(error).__name__}: {error}"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_libraries_say_is_logged_as_our_own_is_and_no_variables(
    log_format: str, quiet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    program._log(ProcessSettings.model_validate({"services": {"flow": {}}, "log_format": log_format}))
    local_secret = secrets.token_hex(8)
    try:
        raise ZeroDivisionError("by 0")
    except ZeroDivisionError as error:
        structlog.get_logger().error("ours", exc_info=error)
        logging.getLogger("asyncio").exception("theirs")
    logging.getLogger("asyncio").info("of no interest")
    said = capsys.readouterr().err
    assert said.count("ZeroDivisionError: by 0") == 2
    assert local_secret not in said
    if log_format == "json":
        lines = [json.loads(line) for line in said.splitlines()]
        assert [(line["event"], line["level"]) for line in lines] == [("ours", "error"), ("theirs", "error")]


async def _with_streams(server: Server) -> None:
    async with _watcher(server):
        pass


def test_a_service_that_fails_while_it_drains_fails_its_process(
    nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: _failing(Fatal("nothing left to do it with"), draining=True)})

    async def main() -> None:
        async with _watcher(nats_server), _started(_settings(nats_server, services)) as (_, running):
            _terminate()
            with pytest.raises(BaseExceptionGroup) as failed:
                await _finished(running)
            assert [str(failure) for failure in failures(failed.value)] == ["nothing left to do it with"]

    asyncio.run(main())


def test_a_connection_that_is_closed_for_good_ends_the_process(
    nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: lambda one, ports: Hearer(one, ports, _nothing)})

    async def main() -> None:
        async with _watcher(nats_server), _started(_settings(nats_server, services)) as (hosting, running):
            hosted = hosting._hosted[0]
            await hosted._connection._client.close()
            with pytest.raises(BaseExceptionGroup) as failed:
                await _finished(running)
            assert [type(failure) for failure in failures(failed.value)] == [Fatal]
            assert "closed for good" in str(next(failures(failed.value)))
            assert not hosted.watched().alive()

    asyncio.run(main())


def test_a_login_that_is_refused_ends_the_process_without_its_password(
    nats_server: Server, install: Install, name: str
) -> None:
    url, user, _ = _login(nats_server)
    services = install({name: lambda one, ports: Hearer(one, ports, _nothing)})
    settings = {"services": services, "nats": {"url": url, "user": user, "passwords": {user: "wrong-secret"}}}

    async def main() -> None:
        async with _started(settings) as (_, running):
            with pytest.raises(BaseExceptionGroup) as failed:
                await _finished(running)
            (failure,) = failures(failed.value)
            assert isinstance(failure, BadInput)
            assert "check its password" in str(failure)
            assert "wrong-secret" not in str(failure)

    asyncio.run(main())


def test_a_port_that_is_taken_is_refused_before_any_service_runs(
    nats_server: Server, install: Install, name: str
) -> None:
    port = int(_login(nats_server)[0].rpartition(":")[2])
    services = install({name: lambda one, ports: Hearer(one, ports, _nothing)})

    async def main() -> None:
        hosting = Process(ProcessSettings.model_validate(_settings(nats_server, services, http_port=port)))
        with pytest.raises(BadInput, match=f"http_port was {port}"):
            await hosting.run()
        assert hosting._hosted[0].service is None

    asyncio.run(main())


def test_the_stop_comes_through_while_no_server_is_there(install: Install, name: str) -> None:
    services = install({name: lambda one, ports: Hearer(one, ports, _nothing)})
    settings = {"services": services, "nats": {"url": f"nats://127.0.0.1:{free_port()}"}}

    async def main() -> None:
        hosting = Process(ProcessSettings.model_validate(settings))
        running = asyncio.create_task(hosting.run())
        watched = hosting._hosted[0].watched()
        await _until(lambda: hosting._hosted[0]._connection.counts["errors"] > 0)
        assert (watched.alive(), watched.ready()) == (True, False)
        _terminate()
        await _finished(running)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_service_that_keeps_nothing_is_refused_the_store(nats_server: Server, install: Install, name: str) -> None:
    async def save(service: Doing) -> None:
        await service.ports.store.save([INSTRUMENT])

    services = install({name: lambda one, ports: Doing(one, ports, save)})

    async def main() -> None:
        async with _watcher(nats_server), _started(_settings(nats_server, services)) as (_, running):
            with pytest.raises(BaseExceptionGroup) as failed:
                await _finished(running)
            assert "keeps nothing" in str(next(failures(failed.value)))

    asyncio.run(main())


def test_the_leader_goes_on_where_the_market_is_and_a_broken_origin_is_refused(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    config = MarketClockConfig(start_ns=1_000, speed=1_000.0, origin=origin)
    first = process._market_clock(config, leads=True)
    assert first.now_ns() == 1_000, "it stands still until somebody waits"
    asyncio.run(first.sleep_until(1_001))
    begun_ns = int(origin.read_text())
    again = process._market_clock(config, leads=True)
    asyncio.run(again.sleep_until(1_001))
    assert int(origin.read_text()) == begun_ns
    assert again.now_ns() >= first.now_ns() - 1_000 * 1_000_000_000  # one wall second at this speed
    assert list(tmp_path.iterdir()) == [origin]
    follower = process._market_clock(config, leads=False)
    assert follower.now_ns() == 1_000
    origin.write_text("")
    with pytest.raises(BadInput, match=r"clock\.origin was .*origin, which cannot be used"):
        asyncio.run(process._market_clock(config, leads=True).sleep_until(1_001))
