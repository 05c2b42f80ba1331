"""Seeded faults: the same seed strikes the same way, and each kind does what its name says, only while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.rng import SeededRng
from huracan.sim.faults import BUSY_NS, DELAY_S, LATENCY_S, REORDER_S, Fault, FaultKind, FaultyTransport, plan
from huracan.sim.loop import VirtualClock, run_virtual

START_NS = 1_700_000_000_000_000_000
END_NS = START_NS + 10 * NANOSECONDS
COUNT = 200
Arrivals = list[tuple[int, float]]
"""Number of a message and the seconds it took."""


def _plan(seed: int, faults: int = 60) -> list[Fault]:
    random = SeededRng(seed).stream("faults")
    return plan(
        random,
        services=["flow", "gateway"],
        nodes=["flow", "gateway", "bus"],
        faults=faults,
        start_ns=START_NS,
        end_ns=END_NS,
    )


def test_a_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert _plan(1) == _plan(1)
    assert _plan(1) != _plan(2)


def test_a_plan_has_so_many_faults_of_every_kind_oldest_first_within_its_time() -> None:
    planned = _plan(1)
    assert len(planned) == 60
    assert {fault.kind for fault in planned} == set(FaultKind)
    assert [fault.at_ns for fault in planned] == sorted(fault.at_ns for fault in planned)
    assert all(START_NS <= fault.at_ns < END_NS + BUSY_NS for fault in planned)
    assert all(20 * MILLISECOND_NS <= fault.lasts_ns < 700 * MILLISECOND_NS for fault in planned)


def test_only_services_are_killed_and_every_node_can_be_struck() -> None:
    planned = [fault for seed in range(10) for fault in _plan(seed)]
    assert {fault.target for fault in planned if fault.kind is FaultKind.KILL} == {"flow", "gateway"}
    assert {fault.target for fault in planned if fault.kind is FaultKind.DROP} == {"flow", "gateway", "bus"}


def _run(scenario: Callable[[FaultyTransport], Awaitable[None]], seed: int = 1) -> FaultyTransport:
    transport = FaultyTransport(SeededRng(seed).stream("faults"))

    async def main(clock: VirtualClock) -> None:
        await scenario(transport)

    run_virtual(main, start_ns=START_NS)
    return transport


async def _talk(transport: FaultyTransport, source: str = "a", target: str = "b") -> Arrivals:
    """Send a message every 2 ms and return those that arrive."""
    arrivals: Arrivals = []
    loop = asyncio.get_running_loop()

    def arrive(number: int, sent: float) -> None:
        arrivals.append((number, loop.time() - sent))

    for number in range(COUNT):
        sent = loop.time()
        transport.carry(source, target, lambda number=number, sent=sent: arrive(number, sent))  # type: ignore[misc]
        await asyncio.sleep(0.002)
    await asyncio.sleep(1)
    return arrivals


async def _under(transport: FaultyTransport, kind: FaultKind, target: str = "b", source: str = "a") -> Arrivals:
    """Talk from `source` to b while a fault is in force the whole time."""
    fault = asyncio.create_task(transport.inflict(Fault(kind, target, START_NS, NANOSECONDS)))
    await asyncio.sleep(0)
    arrivals = await _talk(transport, source)
    await fault
    return arrivals


def test_without_faults_all_arrive_in_order_after_the_latency() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrivals = await _talk(transport)
        assert [number for number, _ in arrivals] == list(range(COUNT))
        assert all(took == pytest.approx(LATENCY_S) for _, took in arrivals)

    assert not _run(scenario).counts


def test_a_burst_at_one_instant_keeps_its_order() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrived: list[int] = []
        for number in range(COUNT):
            transport.carry("a", "b", lambda number=number: arrived.append(number))  # type: ignore[misc]
        await asyncio.sleep(1)
        assert arrived == list(range(COUNT))

    _run(scenario)


@pytest.mark.parametrize("target", ["a", "b"])
def test_drop_loses_about_half_and_counts_each(target: str) -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrivals = await _under(transport, FaultKind.DROP, target)
        assert COUNT * 0.3 < len(arrivals) < COUNT * 0.7
        assert transport.counts == {"drop": 1, "lost": COUNT - len(arrivals)}
        numbers = [number for number, _ in arrivals]
        assert numbers == sorted(set(numbers))

    _run(scenario)


@pytest.mark.parametrize("target", ["a", "b"])
def test_duplicate_delivers_each_twice_and_counts(target: str) -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrivals = await _under(transport, FaultKind.DUPLICATE, target)
        assert [number for number, _ in arrivals] == [number for number in range(COUNT) for _ in range(2)]
        assert transport.counts == {"duplicate": 1, "doubled": COUNT}

    _run(scenario)


def test_delay_makes_each_later_than_the_join_waits_and_loses_none() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrivals = await _under(transport, FaultKind.DELAY)
        assert len(arrivals) == COUNT
        assert all(took == pytest.approx(LATENCY_S + DELAY_S) for _, took in arrivals)
        assert DELAY_S > 0.05

    _run(scenario)


def test_reorder_lets_neighbours_overtake_and_loses_none() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrivals = await _under(transport, FaultKind.REORDER)
        numbers = [number for number, _ in arrivals]
        assert sorted(numbers) == list(range(COUNT))
        assert numbers != sorted(numbers)
        assert all(-1e-9 <= took - LATENCY_S <= REORDER_S + 1e-9 for _, took in arrivals)

    _run(scenario)


@pytest.mark.parametrize("target", ["a", "b"])
def test_partition_cuts_the_target_off(target: str) -> None:
    async def scenario(transport: FaultyTransport) -> None:
        assert await _under(transport, FaultKind.PARTITION, target) == []
        assert transport.counts == {"partition": 1, "lost": COUNT}

    _run(scenario)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.KILL])
def test_a_fault_strikes_neither_others_nor_later(kind: FaultKind) -> None:
    async def scenario(transport: FaultyTransport) -> None:
        others = await _under(transport, kind, target="c")
        assert [number for number, _ in others] == list(range(COUNT))
        assert len(await _talk(transport, "c")) == COUNT
        assert set(transport.counts) == {kind}

    _run(scenario)


def test_two_faults_at_once_last_until_the_second_ends() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        both = asyncio.gather(
            transport.inflict(Fault(FaultKind.PARTITION, "b", START_NS, NANOSECONDS // 100)),
            transport.inflict(Fault(FaultKind.PARTITION, "b", START_NS, NANOSECONDS // 10)),
        )
        await asyncio.sleep(0.02)
        arrivals = await _talk(transport)
        assert arrivals[0][0] == 40
        await both

    _run(scenario)


def test_a_stopped_node_neither_sends_nor_receives_not_even_what_was_under_way() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrived: list[str] = []
        transport.carry("a", "b", lambda: arrived.append("under way"))
        transport.stop("b")
        transport.carry("a", "b", lambda: arrived.append("to it"))
        transport.carry("b", "a", lambda: arrived.append("from it"))
        assert set(transport.down) == {"b"}
        await asyncio.sleep(1)
        transport.start("b")
        assert not transport.down
        transport.carry("a", "b", lambda: arrived.append("after"))
        await asyncio.sleep(1)
        assert arrived == ["after"]

    _run(scenario)


def test_a_node_always_reaches_itself() -> None:
    async def scenario(transport: FaultyTransport) -> None:
        arrived: list[int] = []
        transport.stop("a")
        transport.carry("a", "a", lambda: arrived.append(1))
        assert arrived == [1]

    _run(scenario)


def test_the_same_seed_strikes_the_same_messages() -> None:
    def once(seed: int) -> Arrivals:
        arrivals: Arrivals = []

        async def scenario(transport: FaultyTransport) -> None:
            arrivals.extend(await _under(transport, FaultKind.DROP))
            arrivals.extend(await _under(transport, FaultKind.REORDER))

        _run(scenario, seed)
        return arrivals

    assert once(1) == once(1)
    assert once(1) != once(2)
