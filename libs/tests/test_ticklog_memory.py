"""What is the memory log's own: offsets that are counted, faults between nodes, virtual time, the queue in front."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from google.protobuf.message import Message

from huracan.bus.memory import MemoryBus
from huracan.bus.transport import PERFECT, Transport
from huracan.contracts.market import Bar
from huracan.errors import Fatal, Recoverable
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.sim.loop import Stalled, VirtualClock, run_virtual
from huracan.store.memory import MemoryStore
from huracan.ticklog import writer
from huracan.ticklog.memory import LOG, MemoryLog, NodeLog
from huracan.ticklog.writer import LogWriter

START_NS = 1_700_000_000_000_000_000
TOPIC, KEY = "huracan.ticks.v1", "sim.btc"


@dataclass
class Losing:
    """Lose chosen messages from one node to another, counted from 1; deliver the others at once."""

    source: str
    target: str
    lost: set[int]
    faulty: bool = True
    seen: int = field(default=0)

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        self.seen += (source, target) == (self.source, self.target)
        if (source, target) != (self.source, self.target) or self.seen not in self.lost:
            deliver()


def _run(scenario: Callable[[NodeLog, VirtualClock], Awaitable[None]], transport: Transport = PERFECT) -> MemoryLog:
    log = MemoryLog(transport)

    async def main(clock: VirtualClock) -> None:
        await scenario(log.node("writer"), clock)

    run_virtual(main, start_ns=START_NS)
    return log


async def _append(log: NodeLog, number: int, *, key: str = KEY, topic: str = TOPIC) -> int:
    return await log.append(topic, key, Bar(trades=number), record_id=number.to_bytes(4, "big"))


async def _numbers(log: NodeLog, offset: int = 0, key: str = KEY) -> list[tuple[int, int]]:
    records = await log.read(TOPIC, key, offset)
    return [(record.offset, record.message.trades) for record in records if isinstance(record.message, Bar)]


def test_each_topic_has_its_own_offsets_and_each_key_its_own_ids() -> None:
    async def scenario(log: NodeLog, clock: VirtualClock) -> None:
        assert await _append(log, 1) == await _append(log, 1, topic="t") == 0
        assert await _append(log, 1, key="other") == 1
        assert await _append(log, 2) == 2
        assert await _numbers(log, 1) == [(2, 2)]

    log = _run(scenario)
    assert log.keys(TOPIC) == ["other", KEY]
    assert log.keys("none") == []


def test_waiting_for_what_nobody_writes_stalls_instead_of_hanging() -> None:
    with pytest.raises(Stalled):
        _run(lambda log, clock: log.wait(TOPIC, KEY, 0))


@pytest.mark.parametrize(
    ("transport", "kept"), [(Losing(LOG, "writer", {1}), 1), (Losing("writer", LOG, {1}), 0)], ids=["answer", "request"]
)
def test_a_lost_append_is_recoverable_and_tried_again_it_is_there_once(transport: Losing, kept: int) -> None:
    async def scenario(log: NodeLog, clock: VirtualClock) -> None:
        with pytest.raises(Recoverable, match="log did not answer writer"):
            await _append(log, 1)
        assert len(await _numbers(log)) == kept
        assert await _append(log, 1) == 0
        assert await _numbers(log) == [(0, 1)]

    _run(scenario, transport)


# The queue in front of the log.


def _writer(log: NodeLog, clock: VirtualClock) -> LogWriter:
    bus = MemoryBus().node("writer")
    return LogWriter(Ports(bus=bus, log=log, clock=clock, store=MemoryStore(), rng=SeededRng(1)), "test")


def test_the_writer_appends_in_order_and_once_although_requests_and_answers_are_lost() -> None:
    async def scenario(log: NodeLog, clock: VirtualClock) -> None:
        queue = _writer(log, clock)
        running = asyncio.create_task(queue.run())
        for number in range(20):
            await queue.put(TOPIC, KEY, Bar(trades=number), record_id=bytes([number]))
            if number % 2:
                await queue.drained()
        assert await _numbers(log) == [(number, number) for number in range(20)]
        running.cancel()

    _run(scenario, Losing(LOG, "writer", {1, 2, 5, 9, 10, 11}))
    _run(scenario, Losing("writer", LOG, {1, 2, 5, 9, 10, 11}))


def test_the_writer_appends_what_waits_together_each_key_in_order() -> None:
    calls: list[list[int]] = []

    class Watched(NodeLog):
        async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[int]:
            calls.append([message.trades for message, _ in records if isinstance(message, Bar)])
            return await super().append_all(topic, key, records)

    async def main(clock: VirtualClock) -> None:
        queue = _writer(Watched(MemoryLog(), "writer"), clock)
        for number in range(2 * writer.AT_ONCE):
            await queue.put(TOPIC, f"{KEY}.{number % 2}", Bar(trades=number), record_id=number.to_bytes(2, "big"))
        running = asyncio.create_task(queue.run())
        await queue.drained()
        running.cancel()
        assert [len(call) for call in calls] == [writer.AT_ONCE] * 2
        for parity in (0, 1):
            numbers = [number for call in calls if call[0] % 2 == parity for number in call]
            assert numbers == list(range(parity, 2 * writer.AT_ONCE, 2))

    run_virtual(main, start_ns=START_NS)


class Away(NodeLog):
    """Take nothing of a key while it is away, and fail for good where it is told to."""

    away = True
    broken = False

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[int]:
        if self.broken:
            raise Fatal("the log is gone")
        if self.away and key == f"{KEY}.away":
            raise Recoverable("no acknowledgement")
        return await super().append_all(topic, key, records)


def test_a_key_that_is_not_acknowledged_holds_up_no_other() -> None:
    async def main(clock: VirtualClock) -> None:
        log = Away(MemoryLog(), "writer")
        queue = _writer(log, clock)
        running = asyncio.create_task(queue.run())
        for number in range(10):
            for key in (f"{KEY}.away", KEY):
                await queue.put(TOPIC, key, Bar(trades=number), record_id=bytes([number]))
            await asyncio.sleep(0.001)
            assert len(await _numbers(log)) == number + 1
        drained = asyncio.create_task(queue.drained())
        await asyncio.sleep(5)
        assert await _numbers(log, key=f"{KEY}.away") == []
        assert not drained.done()
        log.away = False
        await drained
        assert [number for _, number in await _numbers(log, key=f"{KEY}.away")] == list(range(10))
        running.cancel()

    run_virtual(main, start_ns=START_NS)


def test_the_writer_stopped_and_run_again_appends_what_waited() -> None:
    async def main(clock: VirtualClock) -> None:
        log = Away(MemoryLog(), "writer")
        queue = _writer(log, clock)
        await queue.put(TOPIC, f"{KEY}.away", Bar(trades=1), record_id=b"1")
        running = asyncio.create_task(queue.run())
        await asyncio.sleep(1)
        running.cancel()
        await asyncio.wait([running])
        log.away = False
        running = asyncio.create_task(queue.run())
        await queue.drained()
        assert await _numbers(log, key=f"{KEY}.away") == [(0, 1)]
        running.cancel()

    run_virtual(main, start_ns=START_NS)


def test_what_no_other_try_can_mend_ends_the_writer() -> None:
    async def main(clock: VirtualClock) -> None:
        log = Away(MemoryLog(), "writer")
        queue = _writer(log, clock)
        running = asyncio.create_task(queue.run())
        await queue.put(TOPIC, f"{KEY}.away", Bar(trades=1), record_id=b"1")
        await asyncio.sleep(1)
        log.broken = True
        await queue.put(TOPIC, KEY, Bar(trades=1), record_id=b"1")
        with pytest.raises(Fatal, match="the log is gone"):
            await running

    run_virtual(main, start_ns=START_NS)


def test_a_full_queue_blocks_the_writer_until_the_log_takes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BOUND", 2)

    async def scenario(log: NodeLog, clock: VirtualClock) -> None:
        queue = _writer(log, clock)
        for number in range(2):
            await queue.put(TOPIC, KEY, Bar(trades=number), record_id=bytes([number]))
        third = asyncio.create_task(queue.put(TOPIC, KEY, Bar(trades=2), record_id=b"\2"))
        await asyncio.sleep(1)
        assert not third.done()
        running = asyncio.create_task(queue.run())
        await third
        await queue.drained()
        assert len(await _numbers(log)) == 3
        running.cancel()

    _run(scenario)
