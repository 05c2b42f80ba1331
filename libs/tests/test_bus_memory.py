"""The bus in memory: what is acknowledged is stored once and reaches its readers, whatever lies between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.bus import memory, queue
from huracan.bus.memory import HUB, MAX_UNACKNOWLEDGED, REDELIVER_AFTER_S, MemoryBus, MemoryInbox
from huracan.bus.request import ACK_TIMEOUT_S
from huracan.bus.transport import PERFECT, Transport
from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.contracts.market import Bar
from huracan.errors import BadInput, PoisonMessage, Recoverable
from huracan.ports import Delivery
from huracan.rng import SeededRng
from huracan.sim.faults import Fault, FaultKind, FaultyTransport
from huracan.sim.loop import VirtualClock, run_virtual

START_NS = 1_700_000_000_000_000_000


@dataclass
class Losing:
    """Lose chosen messages between two nodes, counted from 1; deliver the others at once."""

    source: str
    target: str
    lost: set[int]
    faulty: bool = True
    seen: int = 0

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if (source, target) == (self.source, self.target):
            self.seen += 1
            if self.seen in self.lost:
                return
        deliver()


@dataclass
class Reader:
    """Read an inbox until cancelled, and remember the numbers that came."""

    inbox: MemoryInbox
    acknowledges: bool = True
    numbers: list[int] = field(default_factory=list)

    async def run(self) -> None:
        async for delivery in self.inbox:
            self.numbers.append(_number(delivery))
            if self.acknowledges:
                delivery.ack()


def _number(delivery: Delivery) -> int:
    message = delivery.decode()
    assert isinstance(message, Bar)
    return message.trades


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def _store(bus: MemoryBus, *numbers: int, subject: str = "exec.v1.a", node: str = "writer") -> None:
    for number in numbers:
        await bus.node(node).publish_acknowledged(subject, Bar(trades=number), message_id=_id(number))


async def _send(bus: MemoryBus, *numbers: int, subject: str = "feat.v1.a") -> None:
    for number in numbers:
        await bus.node("writer").publish(subject, Bar(trades=number))


async def _read(inbox: MemoryInbox, *, acknowledge: bool = True, for_s: float = 0.0) -> list[int]:
    """Return what comes until nothing does any more."""
    reader = Reader(inbox, acknowledge)
    task = asyncio.create_task(reader.run())
    await asyncio.sleep(for_s + 1e-6)
    task.cancel()
    await asyncio.wait([task])
    return reader.numbers


def _run(scenario: Callable[[MemoryBus], Awaitable[None]], transport: Transport = PERFECT) -> None:
    async def main(clock: VirtualClock) -> None:
        await scenario(MemoryBus(transport))

    run_virtual(main, start_ns=START_NS)


# The acknowledged path.


def test_an_acknowledged_message_is_stored_once_under_its_id() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        await _store(bus, 1, 1, 2, 1)
        assert len(bus.stream) == 2
        assert await _read(inbox) == [1, 2]

    _run(scenario)


def test_a_delivery_tells_subject_epoch_schema_and_message() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.*", durable="reader")
        message = Bar(trades=3)
        await bus.node("writer").publish_acknowledged("exec.v1.a", message, message_id=b"1", epoch=7)
        message.trades = 4
        delivery = await anext(inbox)
        assert (delivery.subject, delivery.epoch) == ("exec.v1.a", 7)
        assert delivery.raw == ("huracan.market.v1.Bar", Bar(trades=3).SerializeToString())
        assert delivery.decode() == Bar(trades=3)

    _run(scenario)


def test_a_message_that_cannot_be_read_is_poison_to_its_reader_alone() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.*", durable="reader")
        bus.keep(memory.Stored("exec.v1.a", "huracan.market.v1.Bar", 0, b"\xff"), b"1")
        await _store(bus, 2)
        poison = await anext(inbox)
        with pytest.raises(PoisonMessage, match="undecodable"):
            poison.decode()
        assert _number(await anext(inbox)) == 2

    _run(scenario)


def test_what_a_killed_reader_did_not_acknowledge_comes_again_first() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        await _store(bus, 1, 2, 3)
        (await anext(inbox)).ack()
        assert _number(await anext(inbox)) == 2
        inbox.close()
        await _store(bus, 4)
        again = bus.node("reader").inbox()
        again.consume("exec.v1.>", durable="reader")
        assert await _read(again) == [2, 3, 4]
        third = bus.node("reader").inbox()
        third.consume("exec.v1.>", durable="reader")
        assert await _read(third) == []

    _run(scenario)


def test_two_durables_each_receive_everything_and_only_what_matches() -> None:
    async def scenario(bus: MemoryBus) -> None:
        await _store(bus, 1)
        await _store(bus, 2, subject="ctx.v1.a")
        inboxes = [bus.node("reader").inbox() for _ in range(2)]
        for name, inbox in zip("ab", inboxes, strict=True):
            inbox.consume("exec.v1.>", durable=name)
        await _store(bus, 3)
        for inbox in inboxes:
            assert await _read(inbox) == [1, 3]

    _run(scenario)


def test_latest_gives_the_last_of_each_subject_then_all_that_follow() -> None:
    async def scenario(bus: MemoryBus) -> None:
        await _store(bus, 1, 2, subject="ctx.v1.a")
        await _store(bus, 3, 4, subject="ctx.v1.b")
        await _store(bus, 5, subject="exec.v1.a")
        inbox = bus.node("reader").inbox()
        inbox.latest("ctx.v1.*")
        await _store(bus, 6, 7, subject="ctx.v1.a")
        assert await _read(inbox) == [2, 4, 6, 7]

    _run(scenario)


def test_latest_keeps_the_order_of_the_stream_between_subjects() -> None:
    async def scenario(bus: MemoryBus) -> None:
        await _store(bus, 1, subject="ctx.v1.a")
        await _store(bus, 2, subject="ctx.v1.b")
        await _store(bus, 3, subject="ctx.v1.a")
        inbox = bus.node("reader").inbox()
        inbox.latest("ctx.v1.*")
        assert await _read(inbox) == [2, 3]

    _run(scenario)


def test_everything_begins_with_the_first_message_for_each_new_inbox() -> None:
    async def scenario(bus: MemoryBus) -> None:
        await _store(bus, 1, 2)
        for _ in range(2):
            inbox = bus.node("reader").inbox()
            inbox.everything("exec.v1.>")
            assert await _read(inbox) == [1, 2]
            inbox.close()
        await _store(bus, 3)
        assert bus.followers == []

    _run(scenario)


def test_no_more_than_the_bound_is_under_way_to_a_reader_that_does_not_acknowledge() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        await _store(bus, *range(MAX_UNACKNOWLEDGED + 10))
        assert await _read(inbox, acknowledge=False) == list(range(MAX_UNACKNOWLEDGED))
        inbox.close()
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        assert await _read(inbox) == list(range(MAX_UNACKNOWLEDGED + 10))

    _run(scenario)


# Best effort.


def test_a_subscriber_receives_what_is_sent_from_now_on_of_either_path() -> None:
    async def scenario(bus: MemoryBus) -> None:
        await _send(bus, 1)
        inbox = bus.node("reader").inbox()
        inbox.subscribe("*.v1.a")
        await _send(bus, 2, 3)
        await _send(bus, 4, subject="feat.v1.b")
        await _store(bus, 5)
        assert await _read(inbox) == [2, 3, 5]

    _run(scenario)


def test_members_of_a_group_share_and_others_receive_all() -> None:
    async def scenario(bus: MemoryBus) -> None:
        first, second, other, alone = (bus.node(name).inbox() for name in ("a", "b", "c", "d"))
        first.subscribe("feat.v1.>", group="flow")
        second.subscribe("feat.v1.>", group="flow")
        other.subscribe("feat.v1.>", group="regime")
        alone.subscribe("feat.v1.>")
        await _send(bus, *range(10))
        shares = await _read(first), await _read(second)
        assert sorted(shares[0] + shares[1]) == list(range(10))
        assert len(shares[0]) == len(shares[1]) == 5
        assert await _read(other) == await _read(alone) == list(range(10))

    _run(scenario)


def test_a_group_does_not_share_with_a_member_that_is_gone() -> None:
    async def scenario(bus: MemoryBus) -> None:
        dead, closed, alive = (bus.node(name).inbox() for name in ("dead", "closed", "alive"))
        for inbox in (dead, closed, alive):
            inbox.subscribe("feat.v1.>", group="flow")
        bus.disconnect("dead")
        closed.close()
        await _send(bus, *range(6))
        assert dead.closed
        assert await _read(alive) == list(range(6))

    _run(scenario)


def test_a_full_inbox_drops_the_oldest_best_effort_message_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "BOUND", 3)

    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        inbox.subscribe("feat.v1.>")
        await _store(bus, 100)
        await _send(bus, 1, 2)
        await _store(bus, 101)
        await _send(bus, 3, 4, 5)
        assert inbox.dropped == 2
        assert await _read(inbox) == [100, 101, 3, 4, 5]
        await _send(bus, 6, 7, 8)
        assert inbox.dropped == 2
        assert await _read(inbox) == [6, 7, 8]

    _run(scenario)


def test_a_closed_inbox_receives_nothing() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.subscribe("feat.v1.>")
        inbox.close()
        await _send(bus, 1)
        inbox.put(memory.MemoryDelivery(memory.Stored("a", "b", 0, b"")))
        assert await _read(inbox) == []
        assert (bus.subscriptions, bus.inboxes) == ([], [])

    _run(scenario)


@pytest.mark.parametrize("verb", ["subscribe", "latest", "everything", "consume"])
def test_a_malformed_pattern_is_refused(verb: str) -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        options = {"durable": "x"} if verb == "consume" else {}
        with pytest.raises(BadInput, match="subject was"):
            getattr(inbox, verb)("a..b", **options)

    _run(scenario)


# Between nodes that are not well connected.


def test_a_lost_acknowledgement_is_recoverable_and_the_message_may_be_stored() -> None:
    async def scenario(bus: MemoryBus) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(Recoverable, match=r"bus did not answer writer within 0\.05 s"):
            await _store(bus, 1)
        assert loop.time() == pytest.approx(ACK_TIMEOUT_S)
        assert len(bus.stream) == 1
        await _store(bus, 1)
        assert len(bus.stream) == 1

    _run(scenario, Losing(HUB, "writer", {1}))


def test_a_lost_request_is_recoverable_and_stores_nothing() -> None:
    async def scenario(bus: MemoryBus) -> None:
        with pytest.raises(Recoverable):
            await _store(bus, 1)
        assert bus.stream == []

    _run(scenario, Losing("writer", HUB, {1}))


def test_a_lost_delivery_comes_again_until_it_is_acknowledged() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        await _store(bus, 1, 2)
        assert await _read(inbox) == [2]
        assert await _read(inbox, for_s=2 * REDELIVER_AFTER_S) == [1]
        assert await _read(inbox, for_s=5 * REDELIVER_AFTER_S) == []

    _run(scenario, Losing(HUB, "reader", {1, 3}))


def test_a_lost_acknowledgement_of_a_delivery_brings_it_again() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        await _store(bus, 1)
        assert await _read(inbox, for_s=5 * REDELIVER_AFTER_S) == [1, 1]

    _run(scenario, Losing("reader", HUB, {1}))


def test_a_closed_inbox_is_not_sent_to_again() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        await _store(bus, 1)
        inbox.close()
        transport = bus.transport
        assert isinstance(transport, Losing)
        await asyncio.sleep(5 * REDELIVER_AFTER_S)
        assert transport.seen == 1

    _run(scenario, Losing(HUB, "reader", {1}))


def test_order_is_kept_over_a_transport_without_faults() -> None:
    async def scenario(bus: MemoryBus) -> None:
        inbox = bus.node("reader").inbox()
        inbox.consume("exec.v1.>", durable="reader")
        inbox.subscribe("feat.v1.>")
        await _send(bus, *range(50))
        await _store(bus, *range(50, 100))
        assert await _read(inbox, for_s=1.0) == list(range(100))

    _run(scenario, FaultyTransport(SeededRng(1).stream("faults")))


kinds = st.sampled_from([kind for kind in FaultKind if kind is not FaultKind.KILL])
faults = st.builds(
    Fault,
    kind=kinds,
    target=st.sampled_from(["writer", "reader", HUB]),
    at_ns=st.integers(START_NS, START_NS + NANOSECONDS),
    lasts_ns=st.integers(1, 700 * MILLISECOND_NS),
)


async def _retry(bus: MemoryBus, number: int) -> None:
    while True:
        try:
            return await _store(bus, number)
        except Recoverable:
            continue


async def _write(bus: MemoryBus, count: int) -> None:
    for number in range(count):
        await _retry(bus, number)
        await asyncio.sleep(0.02)


async def _receive(bus: MemoryBus, count: int) -> set[int]:
    """Read and acknowledge until so many different messages have come."""
    received: set[int] = set()
    inbox = bus.node("reader").inbox()
    inbox.consume("exec.v1.>", durable="reader")
    while len(received) < count:
        delivery = await anext(inbox)
        received.add(_number(delivery))
        delivery.ack()
    bus.disconnect("reader")
    return received


@settings(max_examples=40, deadline=None)
@given(planned=st.lists(faults, max_size=8), seed=st.integers(0, 99), killed_after=st.integers(1, 30))
def test_whatever_happens_what_is_acknowledged_reaches_the_durable_reader_and_is_stored_once(
    planned: list[Fault], seed: int, killed_after: int
) -> None:
    transport = FaultyTransport(SeededRng(seed).stream("faults"))

    async def main(clock: VirtualClock) -> None:
        bus = MemoryBus(transport)

        async def strike(fault: Fault) -> None:
            await clock.sleep_until(fault.at_ns)
            await transport.inflict(fault)

        beside = [*(strike(fault) for fault in planned), _write(bus, 40)]
        tasks = [asyncio.create_task(each) for each in beside]
        async with asyncio.timeout(60):
            received = await _receive(bus, killed_after)
            while received != set(range(40)):
                received |= await _receive(bus, 1)
        await asyncio.gather(*tasks)
        assert [stored.data for stored in bus.stream] == [Bar(trades=n).SerializeToString() for n in range(40)]

    run_virtual(main, start_ns=START_NS)
