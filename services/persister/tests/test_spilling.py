"""While the database is away messages wait on disk: acknowledged, in order, over restarts, and never lost silently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.memory import HUB, Stored
from huracan.contracts.codec import encode
from huracan.contracts.execution import Fill
from huracan.contracts.market import InstrumentId
from huracan.contracts.ops import DeadLetter
from huracan.errors import PoisonMessage, Recoverable
from huracan.ids import derived_id
from huracan.ports import Ports
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan.store.memory import MemoryStore
from huracan_persister.config import PersisterConfig, SpillConfig
from huracan_persister.service import NAME, Persister

BTC = InstrumentId(venue="sim", symbol="btc")
SUBJECT = subjects.execution("paper", "fill", BTC)
MEBIBYTE = 1 << 20


@dataclass
class Noting:
    """Deliver at once and count what the persister acknowledges."""

    faulty: bool = False
    acknowledged: int = field(default=0)

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        self.acknowledged += (source, target) == (NAME, HUB)
        deliver()


class Leaving(MemoryStore):
    """Be away while told to; refuse one message."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.unsaveable = b""

    async def save(self, messages: Sequence[Message]) -> int:
        if self.away:
            raise Recoverable("the store is away")
        if any(isinstance(message, Fill) and message.fill_id == self.unsaveable for message in messages):
            raise PoisonMessage("unsaveable", "it does not fit")
        return await super().save(messages)


@dataclass
class Desk:
    """A persister with a spill, on a store that goes away."""

    world: World
    store: Leaving
    transport: Noting
    config: PersisterConfig

    async def start(self) -> Persister:
        self.world.start(NAME, self._make)
        await asyncio.sleep(0.001)
        made = self.world.services[NAME]
        assert isinstance(made, Persister)
        return made

    def _make(self, ports: Ports) -> Persister:
        return Persister(ports, self.config)

    async def publish(self, *numbers: int) -> None:
        bus = self.world.ports("desk").bus
        for number in numbers:
            fill = Fill(fill_id=number.to_bytes(4, "big"), account="x" * 10_000)
            await bus.publish_acknowledged(SUBJECT, fill, message_id=derived_id(number))

    async def kept(self) -> list[int]:
        return [int.from_bytes(fill.fill_id, "big") for fill in await self.store.load(Fill)]


def _run(directory: Path, scenario: Callable[[Desk], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        transport, store = Noting(), Leaving()
        world = World(clock, seed=1, transport=transport)
        world.store = store
        spill = SpillConfig(directory=directory, max_bytes=MEBIBYTE)
        await scenario(Desk(world, store, transport, PersisterConfig(linger_ms=0, spill=spill)))
        await world.stop()

    run_virtual(main, start_ns=1)


def _waiting(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.spill"))


def _set_aside(directory: Path) -> int:
    return len(list(directory.glob("*.damaged")))


def _damage(directory: Path) -> None:
    path = min(directory.glob("*.spill"))
    data = path.read_bytes()
    path.write_bytes(data[:500] + b"?" + data[501:])


def test_while_the_store_is_away_messages_are_acknowledged_once_they_are_on_disk(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        persister = await desk.start()
        before = desk.transport.acknowledged
        desk.store.away = True
        await desk.publish(1, 2)
        await asyncio.sleep(1)
        await desk.publish(3)
        await asyncio.sleep(1)
        assert desk.transport.acknowledged == before + 3
        assert await desk.kept() == []
        assert persister.report()["last.spill_bytes"] == _waiting(tmp_path) > 30_000
        desk.store.away = False
        await asyncio.sleep(2)
        assert await desk.kept() == [1, 2, 3]
        assert _waiting(tmp_path) == 0
        await desk.publish(4)
        await asyncio.sleep(1)
        assert await desk.kept() == [1, 2, 3, 4]
        assert persister.counts == {"fills": 4, "spill.messages": 3, "spill.replayed": 3}

    _run(tmp_path, scenario)


def test_a_short_absence_needs_no_spill(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        persister = await desk.start()
        desk.store.away = True
        await desk.publish(1)
        await asyncio.sleep(0.006)
        desk.store.away = False
        await asyncio.sleep(1)
        assert persister.counts == {"fills": 1}

    _run(tmp_path, scenario)


def test_what_waits_when_it_is_killed_is_saved_by_the_next_start(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.store.away = True
        await desk.publish(1, 2)
        await asyncio.sleep(1)
        await desk.world.kill(NAME)
        desk.store.away = False
        await desk.start()
        await asyncio.sleep(1)
        assert await desk.kept() == [1, 2]
        assert _waiting(tmp_path) == 0

    _run(tmp_path, scenario)


def test_a_full_spill_stops_acknowledging_and_loses_nothing(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        before = desk.transport.acknowledged
        desk.store.away = True
        for number in range(200):
            await desk.publish(number)
            await asyncio.sleep(1)
        spilled = desk.transport.acknowledged - before
        assert 90 < spilled < 110
        assert MEBIBYTE - 11_000 < _waiting(tmp_path) <= MEBIBYTE
        desk.store.away = False
        await asyncio.sleep(5)
        assert await desk.kept() == list(range(200))
        assert desk.transport.acknowledged == before + 200

    _run(tmp_path, scenario)


def test_a_disk_that_is_full_from_the_first_message_on_holds_up_nothing_once_the_store_is_back(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        before = desk.transport.acknowledged
        full = [tmp_path / f"{number:012d}.spill" for number in range(1, 500)]
        for path in full:
            path.symlink_to("/dev/full")
        desk.store.away = True
        await desk.publish(1, 2)
        await asyncio.sleep(30)
        assert desk.transport.acknowledged == before
        desk.store.away = False
        await asyncio.sleep(5)
        assert await desk.kept() == [1, 2]
        assert desk.transport.acknowledged == before + 2
        for path in full:
            path.unlink()
        desk.store.away = True
        await desk.publish(3)
        await asyncio.sleep(5)
        assert desk.transport.acknowledged == before + 3
        desk.store.away = False
        await asyncio.sleep(5)
        assert await desk.kept() == [1, 2, 3]
        assert _waiting(tmp_path) == 0

    _run(tmp_path, scenario)


def test_a_damaged_file_is_counted_and_set_aside_and_all_else_is_saved(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.store.away = True
        await desk.publish(1, 2, 3)
        await asyncio.sleep(1)
        await desk.publish(4)
        await asyncio.sleep(1)
        await desk.world.kill(NAME)
        _damage(tmp_path)
        desk.store.away = False
        persister = await desk.start()
        await asyncio.sleep(1)
        assert (persister.counts["spill.damaged"], persister.counts["spill.passed_over"]) == (1, 1)
        assert _set_aside(tmp_path) == 1
        assert await desk.kept() == [2, 3, 4]
        await desk.publish(5)
        await asyncio.sleep(1)
        assert await desk.kept() == [2, 3, 4, 5]

    _run(tmp_path, scenario)


def test_what_cannot_be_saved_from_the_spill_is_buried(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        persister = await desk.start()
        desk.store.away, desk.store.unsaveable = True, (2).to_bytes(4, "big")
        await desk.publish(1, 2, 3)
        desk.world.bus.keep(Stored(SUBJECT, "huracan.execution.v1.Fill", 0, b"\xff"), b"unreadable")
        await asyncio.sleep(1)
        desk.store.away = False
        await asyncio.sleep(2)
        assert await desk.kept() == [1, 3]
        assert persister.counts["poison.unsaveable"] == persister.counts["poison.undecodable"] == 1

    _run(tmp_path, scenario)


def test_a_header_with_an_epoch_beyond_64_bits_is_buried_and_stops_nothing(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        persister = await desk.start()
        desk.store.away = True
        fill = encode(Fill(fill_id=(1).to_bytes(4, "big")))
        for epoch in (1 << 64, (1 << 64) - 1):
            desk.world.bus.keep(Stored(SUBJECT, "huracan.execution.v1.Fill", epoch, fill), b"%d" % epoch)
        await desk.publish(2)
        await asyncio.sleep(1)
        assert persister.counts == {"poison.malformed": 1, "spill.messages": 2}
        desk.store.away = False
        await asyncio.sleep(2)
        assert await desk.kept() == [1, 2]
        topic = subjects.dead_letters(subjects.JOURNAL_TOPIC)
        (letter,) = [record.message for record in await desk.world.ports("desk").log.read(topic, NAME, 0)]
        assert isinstance(letter, DeadLetter)
        assert letter.raw == fill
        assert letter.detail == f"{SUBJECT}: epoch was 18446744073709551616, beyond 64 bits"

    _run(tmp_path, scenario)


def test_drained_it_saves_what_waits_in_the_spill_too(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.store.away = True
        await desk.publish(1)
        await asyncio.sleep(1)
        drained = asyncio.create_task(desk.world.finish(NAME))
        await desk.publish(2)
        await desk.world.ports(NAME).bus.drain()
        await asyncio.sleep(3)
        assert not drained.done()
        desk.store.away = False
        await drained
        assert await desk.kept() == [1, 2]
        assert _waiting(tmp_path) == 0

    _run(tmp_path, scenario)
