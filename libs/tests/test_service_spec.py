"""How services are found, what several lives of one add up to, and how each says that it is there."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import entry_points

import pytest

from huracan.bus import subjects
from huracan.bus.memory import MemoryBus
from huracan.config import Config
from huracan.contracts import codec
from huracan.contracts.ops import ServiceChanged
from huracan.errors import BadInput
from huracan.expert.port import Expert
from huracan.expert.spec import expert_spec
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.service.announce import announce
from huracan.service.service import GROUP, Service, combined, spec
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.store.memory import MemoryStore
from huracan.ticklog.memory import MemoryLog

INSTALLED = sorted(entry_points(group=GROUP).names)
START_NS = 1_700_000_000_000_000_000


def test_all_seven_services_are_installed() -> None:
    assert INSTALLED == ["executor", "flow", "gateway", "orchestrator", "persister", "regime", "sentiment"]


@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_service_has_the_name_it_is_found_by(name: str) -> None:
    found = spec(name)
    assert found.name == name
    assert issubclass(found.config, Config)


def test_a_service_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadInput, match=r"service was 'astrology'; installed are executor, flow, .*sentiment"):
        spec("astrology")


def test_only_the_persister_saves() -> None:
    assert [name for name in INSTALLED if spec(name).keeps] == ["persister"]


def test_an_expert_that_builds_no_context_may_write_none() -> None:
    def made(config: Config) -> Expert:
        raise AssertionError("nothing is made to say what it may touch")

    reader = expert_spec("moon", Config, made).access(Config())
    builder = expert_spec("moon", Config, made, builds=("phase", "tide"), builds_from=("news.v1.>",)).access(Config())
    assert reader.publish == ("sig.v1.moon.>", "ops.v1.moon.>")
    assert builder.publish == (*reader.publish, "ctx.v1.phase.>", "ctx.v1.tide.>")
    assert (reader.read, reader.everything) == ((), ())
    assert (builder.read, builder.everything) == ((subjects.JOURNAL_TOPIC,), ("news.v1.>",))
    assert set(builder.append) - set(reader.append) == {(subjects.JOURNAL_TOPIC, "context")}


def test_lives_of_a_service_add_up_and_the_newest_value_stays() -> None:
    first = Counter({"opinions": 3, "last.bid": 100, "last.skew_ns": 7})
    second = Counter({"opinions": 2, "abstained": 1, "last.bid": 90})
    assert combined([first, second]) == {"opinions": 5, "abstained": 1, "last.bid": 90, "last.skew_ns": 7}
    assert combined([]) == {}


class Idle(Service):
    """A service that only listens."""

    def __init__(self, ports: Ports) -> None:
        super().__init__("idle")
        self._ports = ports

    async def run(self) -> None:
        """Listen."""
        await self.listening(self._ports)


def _ports(bus: MemoryBus, clock: VirtualClock, *, life: int) -> Ports:
    return Ports(
        bus=bus.node("idle"), log=MemoryLog().node("idle"), clock=clock, store=MemoryStore(), rng=SeededRng(life)
    )


def _announced(bus: MemoryBus) -> list[ServiceChanged]:
    messages = [codec.decode(stored.schema, stored.data) for stored in bus.stream]
    return [message for message in messages if isinstance(message, ServiceChanged)]


def test_two_lives_that_begin_at_one_market_time_are_both_told_of() -> None:
    bus = MemoryBus()

    async def main(clock: VirtualClock) -> None:
        for life in (1, 2):
            service = Idle(_ports(bus, clock, life=life))
            assert not service.ready.is_set()
            await service.run()
            assert service.ready.is_set()

    run_virtual(main, start_ns=START_NS)
    assert [(said.service, said.running, said.at_ns) for said in _announced(bus)] == [("idle", True, START_NS)] * 2


def test_a_farewell_follows_its_greeting_at_the_same_market_time() -> None:
    bus = MemoryBus()

    async def main(clock: VirtualClock) -> None:
        ports = _ports(bus, clock, life=1)
        await announce(ports, "idle", running=True)
        await announce(ports, "idle", running=False)

    run_virtual(main, start_ns=START_NS)
    assert [said.running for said in _announced(bus)] == [True, False]


def test_a_service_takes_in_over_the_bus_unless_it_says_otherwise() -> None:
    async def main(clock: VirtualClock) -> None:
        service = Idle(_ports(MemoryBus(), clock, life=1))
        service.stop()
        await service.run()
        assert service.report() == {}

    run_virtual(main, start_ns=START_NS)
