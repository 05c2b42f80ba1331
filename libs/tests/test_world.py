"""The simulated world: services run, die and come back, and what they fail with is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from huracan.bus.transport import PERFECT, Transport
from huracan.contracts.market import Bar
from huracan.contracts.ops import ServiceChanged
from huracan.errors import Fatal, HuracanError
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.service.announce import announce
from huracan.service.service import Service
from huracan.sim.faults import FaultyTransport
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World

START_NS = 1_700_000_000_000_000_000


class Tells(Service):
    """Ends when it has heard `until` messages; fails on a message that says so."""

    def __init__(self, ports: Ports, name: str = "tells", until: int = 3) -> None:
        super().__init__(name)
        self.draw = ports.rng.stream("test").random()
        self._ports = ports
        self._until = until

    async def run(self) -> None:
        inbox = self._ports.bus.inbox()
        inbox.subscribe("feat.v1.>", group=self.name)
        await announce(self._ports, self.name, running=True)
        async for delivery in inbox:
            self.counts["heard"] += 1
            message = delivery.decode()
            if isinstance(message, Bar) and message.partial:
                raise Fatal("told to fail")
            if self.counts["heard"] == self._until:
                return


def _run(scenario: Callable[[World], Awaitable[None]], transport: Transport = PERFECT, seed: int = 1) -> None:
    async def main(clock: VirtualClock) -> None:
        await scenario(World(clock, seed=seed, transport=transport))

    run_virtual(main, start_ns=START_NS)


async def _send(world: World, count: int = 1, *, partial: bool = False) -> None:
    for _ in range(count):
        await world.ports("test").bus.publish("feat.v1.a", Bar(partial=partial))
    await asyncio.sleep(0.01)


def test_a_service_runs_to_its_end_and_what_it_counted_stays() -> None:
    async def scenario(world: World) -> None:
        world.start("tells", Tells)
        await asyncio.sleep(0.01)
        await _send(world, 3)
        await world.finish("tells")
        assert world.counts == {"tells": {"heard": 3}}
        await world.stop()

    _run(scenario)


def test_a_killed_service_starts_again_as_it_was_made_and_counts_on() -> None:
    async def scenario(world: World) -> None:
        world.start("tells", Tells)
        await asyncio.sleep(0.01)
        await _send(world)
        before = world.services["tells"]
        await world.kill("tells")
        await _send(world, 5)
        world.start("tells")
        await asyncio.sleep(0.01)
        await _send(world, 3)
        await world.finish("tells")
        assert world.services["tells"] is not before
        assert world.counts["tells"]["heard"] == 4
        assert world.starts["tells"] == 2

    _run(scenario)


def test_the_dead_take_no_share_of_a_group_even_when_killed_while_starting() -> None:
    async def scenario(world: World) -> None:
        world.start("tells", Tells)
        await asyncio.sleep(0.000_5)
        await world.kill("tells")
        world.start("tells")
        await asyncio.sleep(0.1)
        await _send(world, 2)
        assert world.counts["tells"]["heard"] == 2
        await world.stop()
        assert world.bus.inboxes == []

    _run(scenario, FaultyTransport(SeededRng(1).stream("faults")))


def test_a_service_that_fails_is_heard_where_another_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        world.start("slow", lambda ports: Tells(ports, "slow", until=100))
        world.start("tells", Tells)
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(world.finish("slow"))
        await _send(world, partial=True)
        with pytest.raises(Fatal, match="told to fail"):
            await waiting
        with pytest.raises(Fatal, match="told to fail"):
            world.check()

    _run(scenario)


def test_stopping_stops_every_service_although_the_first_has_failed() -> None:
    async def scenario(world: World) -> None:
        world.start("first", Tells)
        await asyncio.sleep(0.01)
        await _send(world, partial=True)
        second = world.start("second", Tells)
        await asyncio.sleep(0.01)
        with pytest.raises(Fatal, match="told to fail"):
            await world.stop()
        assert second.cancelled()
        assert world.bus.inboxes == []

    _run(scenario)


def test_a_failure_within_a_group_of_tasks_is_shown_as_itself() -> None:
    class Groups(Tells):
        async def run(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(super().run())

    async def scenario(world: World) -> None:
        world.start("tells", Groups)
        await asyncio.sleep(0.01)
        await _send(world, partial=True)
        with pytest.raises(HuracanError, match="told to fail"):
            await world.kill("tells")

    _run(scenario)


def test_each_incarnation_draws_other_numbers_and_a_seed_the_same_again() -> None:
    def draws(seed: int) -> list[float]:
        drawn: list[float] = []

        async def scenario(world: World) -> None:
            for _ in range(2):
                world.start("tells", Tells)
                service = world.services["tells"]
                assert isinstance(service, Tells)
                drawn.append(service.draw)
                await world.kill("tells")

        _run(scenario, seed=seed)
        return drawn

    assert draws(1) == draws(1)
    assert len({*draws(1), *draws(2)}) == 4


def test_start_and_death_of_a_service_are_on_the_bus_for_whoever_comes_later() -> None:
    async def scenario(world: World) -> None:
        world.start("tells", Tells)
        await asyncio.sleep(0.01)
        await world.kill("tells")
        await world.announce_death("tells")
        inbox = world.ports("test").bus.inbox()
        inbox.latest("ops.v1.*.service")
        message = (await anext(inbox)).decode()
        assert message == ServiceChanged(service="tells", running=False, at_ns=START_NS + 10_000_000)

    _run(scenario)
