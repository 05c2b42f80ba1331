"""The outbox: nothing lost, order kept, ids stable, whatever the bus does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from huracan.bus.memory import MemoryBus, MemoryInbox
from huracan.bus.outbox import FIRST_WAIT_MS, LONGEST_WAIT_MS, Backoff, Outbox
from huracan.clock import MILLISECOND_NS
from huracan.contracts.market import Bar
from huracan.errors import Fatal, Recoverable
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.store.memory import MemoryStore
from huracan.ticklog.memory import MemoryLog

START_NS = 1_700_000_000_000_000_000


@dataclass
class _Bus:
    """Fail as told: 'ok', 'lost' before it is stored, 'unheard' after, 'fatal'; what is stored counts once by id."""

    outcomes: list[str] = field(default_factory=list)
    stored: list[tuple[bytes, str, int, int]] = field(default_factory=list)
    tries: list[bytes] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def publish(self, subject: str, message: Message, *, epoch: int = 0) -> None:
        raise AssertionError("an outbox publishes acknowledged")

    async def publish_acknowledged(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        if self.gate is not None:
            await self.gate.wait()
        assert isinstance(message, Bar)
        self.tries.append(message_id)
        outcome = self.outcomes.pop(0) if self.outcomes else "ok"
        if outcome == "fatal":
            raise Fatal("refused for good")
        if outcome != "lost" and message_id not in {stored[0] for stored in self.stored}:
            self.stored.append((message_id, subject, message.trades, epoch))
        if outcome != "ok":
            raise Recoverable("no acknowledgement")

    def inbox(self) -> MemoryInbox:
        return MemoryBus().node("unused").inbox()

    async def drain(self) -> None:
        raise AssertionError("an outbox never drains the bus")


def _ports(bus: _Bus, clock: VirtualClock) -> Ports:
    return Ports(bus=bus, log=MemoryLog().node("x"), clock=clock, store=MemoryStore(), rng=SeededRng(1))


def _run(scenario: Callable[[VirtualClock], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        await scenario(clock)

    run_virtual(main, start_ns=START_NS)


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


async def _put(outbox: Outbox, numbers: Sequence[int]) -> None:
    for number in numbers:
        await outbox.put(f"exec.v1.{number}", Bar(trades=number), message_id=_id(number), epoch=number)


@given(
    outcomes=st.lists(st.sampled_from(["ok", "lost", "unheard"]), max_size=60),
    batches=st.lists(st.integers(0, 5), max_size=6),
    bound=st.integers(1, 4),
)
def test_nothing_is_lost_doubled_or_reordered_and_ids_never_change(
    outcomes: list[str], batches: list[int], bound: int
) -> None:
    bus = _Bus(outcomes)

    async def scenario(clock: VirtualClock) -> None:
        outbox = Outbox(_ports(bus, clock), bound=bound)
        first = 0
        for size in batches:
            await _put(outbox, range(first, first + size))
            assert len(outbox) <= bound
            first += size
            await outbox.flush()
            assert len(outbox) == 0
        assert outbox.published == first

    _run(scenario)
    wanted = range(sum(batches))
    assert bus.stored == [(_id(number), f"exec.v1.{number}", number, number) for number in wanted]
    assert list(dict.fromkeys(bus.tries)) == [_id(number) for number in wanted]


def test_put_blocks_while_the_queue_is_full() -> None:
    async def scenario(clock: VirtualClock) -> None:
        bus = _Bus(gate=asyncio.Event())
        outbox = Outbox(_ports(bus, clock), bound=2)
        await _put(outbox, [0, 1])
        third = asyncio.ensure_future(_put(outbox, [2]))
        await clock.sleep_until(START_NS + 1)
        assert not third.done()
        assert len(outbox) == 2
        assert bus.gate is not None
        bus.gate.set()
        await third
        await outbox.flush()
        assert [stored[2] for stored in bus.stored] == [0, 1, 2]

    _run(scenario)


def test_a_cancelled_flush_keeps_what_is_not_acknowledged() -> None:
    async def scenario(clock: VirtualClock) -> None:
        bus = _Bus(gate=asyncio.Event())
        outbox = Outbox(_ports(bus, clock))
        await _put(outbox, [0, 1])
        flushing = asyncio.ensure_future(outbox.flush())
        await clock.sleep_until(START_NS + 1)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        assert len(outbox) == 2
        bus.gate = None
        await outbox.flush()
        assert [stored[2] for stored in bus.stored] == [0, 1]

    _run(scenario)


def test_two_flushes_at_once_publish_each_message_once() -> None:
    async def scenario(clock: VirtualClock) -> None:
        bus = _Bus(["lost", "unheard"])
        outbox = Outbox(_ports(bus, clock))
        await _put(outbox, [0, 1, 2])
        await asyncio.gather(outbox.flush(), outbox.flush())
        assert [stored[2] for stored in bus.stored] == [0, 1, 2]
        assert outbox.published == 3

    _run(scenario)


def test_an_error_that_trying_again_cannot_help_passes_through_and_keeps_the_message() -> None:
    async def scenario(clock: VirtualClock) -> None:
        outbox = Outbox(_ports(_Bus(["fatal"]), clock))
        await _put(outbox, [0])
        with pytest.raises(Fatal):
            await outbox.flush()
        assert len(outbox) == 1

    _run(scenario)


@pytest.mark.parametrize(("first_ms", "longest_ms"), [(FIRST_WAIT_MS, LONGEST_WAIT_MS), (100, 4_000)])
def test_waits_double_up_to_the_cap_and_start_short_again_after_success(first_ms: int, longest_ms: int) -> None:
    async def scenario(clock: VirtualClock) -> None:
        backoff = Backoff(SeededRng(3), "test", first_ms=first_ms, longest_ms=longest_ms)
        for failure in range(12):
            before = clock.now_ns()
            await backoff.wait()
            longest = min(first_ms * 2**failure, longest_ms) * MILLISECOND_NS
            assert longest // 2 <= clock.now_ns() - before <= longest + 1
        assert backoff.failures == 12
        backoff.reset()
        before = clock.now_ns()
        await backoff.wait()
        assert clock.now_ns() - before <= first_ms * MILLISECOND_NS + 1

    _run(scenario)


def test_an_outbox_tells_how_often_in_a_row_it_failed() -> None:
    async def scenario(clock: VirtualClock) -> None:
        outbox = Outbox(_ports(_Bus(["lost"] * 5 + ["fatal"]), clock))
        await _put(outbox, [0])
        with pytest.raises(Fatal):
            await outbox.flush()
        assert outbox.failures == 5
        await outbox.flush()
        assert outbox.failures == 0

    _run(scenario)
