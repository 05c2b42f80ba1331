"""A process from inside, on a real server: what its services still do when it is told to stop."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from huracan.bus import subjects
from huracan.contracts.ops import ServiceReport, step_acknowledged
from huracan.embedded.ports import free_port
from huracan.errors import BadInput
from huracan.ports import Delivery, Ports
from huracan.service import process
from huracan.service.process import Process
from huracan.service.service import Service
from huracan.service.settings import MarketClockConfig, ProcessSettings

from .hosted import (
    INSTRUMENT,
    WAITS_AT_MOST_S,
    Doing,
    Hearer,
    Install,
    Server,
    finished,
    for_ever,
    installing,
    new_name,
    nothing,
    said,
    send,
    settings_of,
    started,
    terminate,
    until,
    watcher,
)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    return installing(monkeypatch)


@pytest.fixture
def name() -> str:
    return new_name()


def count_of(report: ServiceReport) -> Counter[str]:
    return Counter({count.name: count.value for count in report.counts})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("stored", "count"), [(True, 300), (False, 5_000)])
def test_what_was_said_before_the_signal_is_dealt_with(
    stored: bool, count: int, number: signal.Signals, nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: lambda name, ports: Hearer(name, ports, nothing, stored=stored)})

    async def main() -> None:
        async with watcher(nats_server) as bus, started(settings_of(nats_server, services)) as (hosting, running):
            await send(bus, name, range(count), stored=stored)
            terminate(number)
            await finished(running)
            service = hosting._hosted[0].service
            assert isinstance(service, Hearer)
            assert service.heard == list(range(count))

    asyncio.run(main())


def test_a_drained_service_leaves_its_last_counts_and_a_farewell(
    nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: lambda name, ports: Hearer(name, ports, nothing)})

    async def main() -> None:
        async with watcher(nats_server) as bus:
            async with started(settings_of(nats_server, services)) as (_, running):
                await send(bus, name, range(5), stored=True)
                terminate()
                await finished(running)
            reports, changes = await said(bus, name)
            assert count_of(reports[-1])["heard"] == 5
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
        async with watcher(nats_server) as bus:
            async with started(settings_of(nats_server, services, drain_timeout_s=0.01)) as (hosting, running):
                await until(lambda: hosting._hosted[0]._reports >= 3)
                terminate()
                await finished(running)
                service = hosting._hosted[0].service
                assert service is not None
            reports, _ = await said(bus, name)
            turns = [count_of(report)["turns"] for report in reports]
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
        async with watcher(nats_server) as bus, started(settings_of(nats_server, services)) as (hosting, running):
            watched = hosting._hosted[0].watched()
            await send(bus, name, range(3), stored=False)
            terminate()
            await until(lambda: not watched.ready())
            assert watched.alive()
            assert not running.done()
            going_on.set()
            await finished(running)
            assert watched.counts()["heard"] == 3

    asyncio.run(main())


def test_a_service_that_hangs_is_cut_and_still_says_farewell(nats_server: Server, install: Install, name: str) -> None:
    services = install({name: lambda name, ports: Doing(name, ports, for_ever)})

    async def main() -> None:
        async with watcher(nats_server) as bus:
            settings = settings_of(nats_server, services, drain_timeout_s=0.05)
            async with started(settings) as (_, running):
                terminate()
                await finished(running)
            _, changes = await said(bus, name)
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

    services = install({name: lambda name, ports: Recovering(name, ports, for_ever)})

    async def main() -> None:
        async with watcher(nats_server):
            settings = settings_of(nats_server, services, drain_timeout_s=10 * WAITS_AT_MOST_S)
            running = asyncio.create_task(Process(ProcessSettings.model_validate(settings)).run())
            await recovering.wait()
            terminate()
            await finished(running)

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
        settings = settings_of(nats_server, services, drain_timeout_s=0.05)
        async with watcher(nats_server), started(settings) as (_, running):
            terminate()
            await finished(running)
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
        async with watcher(nats_server) as bus, started(settings_of(nats_server, services)) as (_, running):
            await send(bus, first, range(10), stored=False)
            terminate()
            await finished(running)
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
        async with watcher(nats_server), started(settings_of(nats_server, services)) as (_, running):
            terminate()
            await finished(running)
        assert drained == [first, second]

    asyncio.run(main())


def test_a_service_that_is_done_ends_its_process_once_the_others_are(
    nats_server: Server, install: Install, name: str
) -> None:
    async def done(_: Service) -> None:
        """Have nothing to do."""

    other = f"{name}-b"
    services = install(
        {name: lambda one, ports: Doing(one, ports, done), other: lambda one, ports: Hearer(one, ports, nothing)}
    )

    async def main() -> None:
        async with watcher(nats_server) as bus:
            hosting = Process(ProcessSettings.model_validate(settings_of(nats_server, services)))
            running = asyncio.create_task(hosting.run())
            await until(lambda: hosting._hosted[0]._over.is_set() and hosting._hosted[1].watched().ready())
            assert not running.done()
            terminate()
            await finished(running)
            _, changes = await said(bus, name)
            assert [change.running for change in changes] == [True, False]

    asyncio.run(main())


def test_the_stop_comes_through_while_no_server_is_there(install: Install, name: str) -> None:
    services = install({name: lambda one, ports: Hearer(one, ports, nothing)})
    settings = {"services": services, "nats": {"url": f"nats://127.0.0.1:{free_port()}"}}

    async def main() -> None:
        hosting = Process(ProcessSettings.model_validate(settings))
        running = asyncio.create_task(hosting.run())
        watched = hosting._hosted[0].watched()
        await until(lambda: hosting._hosted[0]._connection.counts["errors"] > 0)
        assert (watched.alive(), watched.ready()) == (True, False)
        terminate()
        await finished(running)
        assert asyncio.all_tasks() == {asyncio.current_task()}

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
