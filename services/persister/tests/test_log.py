"""What the persister takes out of the log: into tables and into an archive, each record once, over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.subjects import JOURNAL_TOPIC
from huracan.clock import SystemClock
from huracan.contracts import codec
from huracan.contracts.journal import DeadlineFired, JournalEntry, journal_entry
from huracan.contracts.ops import DeadLetter
from huracan.errors import BadInput, PoisonMessage, Recoverable
from huracan.ports import Ports, Record
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan.store.archive import read_archived
from huracan.store.memory import MemoryStore
from huracan.ticklog.memory import MemoryLog
from huracan_persister.config import ArchiveConfig, PersisterConfig
from huracan_persister.service import NAME, RECORDS, Persister

KEYS = ("shard.01", "shard.04", "account.paper")


def _entry(key: str, number: int) -> JournalEntry:
    return journal_entry(key, DeadlineFired(step=number), epoch=1, at_ns=number)


async def _log(world: World, *numbers: int) -> None:
    log = world.log.node("writer")
    for number in numbers:
        for key in KEYS:
            await log.append(JOURNAL_TOPIC, key, _entry(key, number), record_id=b"%d" % number)


def _steps(records: Sequence[Record]) -> list[int]:
    return [record.message.deadline_fired.step for record in records if isinstance(record.message, JournalEntry)]


def _kept(world: World) -> dict[str, list[int]]:
    return {key: _steps(records) for (_, key), records in world.store.records.items()}


def _start(world: World, config: PersisterConfig, name: str = NAME) -> asyncio.Task[None]:
    def make(ports: Ports) -> Persister:
        return Persister(ports, config)

    return world.start(name, make)


def _run(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, seed=1)
        await scenario(world)
        await world.stop()

    run_virtual(main, start_ns=1)


TABLES = PersisterConfig(linger_ms=0, tables=("journal",), tables_every_s=1)


def test_what_is_asked_for_is_taken_from_the_log_once_over_restarts() -> None:
    async def scenario(world: World) -> None:
        await _log(world, *range(2 * RECORDS + 3))
        _start(world, TABLES)
        await asyncio.sleep(0.5)
        assert _kept(world) == {key: list(range(2 * RECORDS + 3)) for key in KEYS}
        await world.kill(NAME)
        await _log(world, 1_000)
        _start(world, TABLES)
        await asyncio.sleep(0.5)
        await _log(world, 1_001)
        await asyncio.sleep(1.5)
        assert _kept(world) == {key: [*range(2 * RECORDS + 3), 1000, 1001] for key in KEYS}
        assert world.counts[NAME]["log.records"] == 3 * (2 * RECORDS + 5)

    _run(scenario)


def test_nothing_of_the_log_is_kept_unasked() -> None:
    async def scenario(world: World) -> None:
        await _log(world, 1)
        _start(world, PersisterConfig())
        await asyncio.sleep(5)
        assert _kept(world) == {}

    _run(scenario)


def test_drained_it_keeps_what_was_logged_before() -> None:
    async def scenario(world: World) -> None:
        task = _start(world, TABLES)
        await asyncio.sleep(0.5)
        await _log(world, 1)
        await world.ports(NAME).bus.drain()
        await task
        assert _kept(world) == {key: [1] for key in KEYS}

    _run(scenario)


def test_replicas_share_the_keys() -> None:
    async def scenario(world: World) -> None:
        await _log(world, 1, 2)
        for part in range(2):
            _start(world, TABLES.model_copy(update={"shards": (part,), "of": 2}), f"{NAME}-{part}")
        await asyncio.sleep(0.5)
        assert _kept(world) == {key: [1, 2] for key in KEYS}
        shares = [world.counts[f"{NAME}-{part}"]["log.records"] for part in range(2)]
        assert sum(shares) == 6
        assert min(shares) > 0

    _run(scenario)


def test_a_log_that_was_begun_anew_is_refused_by_key_and_offsets() -> None:
    async def scenario(world: World) -> None:
        await _log(world, *range(4))
        _start(world, TABLES)
        await asyncio.sleep(0.5)
        await world.kill(NAME)
        world.log = MemoryLog()
        await world.log.node("writer").append(JOURNAL_TOPIC, KEYS[0], _entry(KEYS[0], 100), record_id=b"100")
        with pytest.raises(BadInput):
            await _start(world, TABLES)
        assert _kept(world) == {key: list(range(4)) for key in KEYS}

    told = rf"{JOURNAL_TOPIC} {KEYS[0]} is kept by log up to offset 9, and the newest of the log is 0: .*restore.*wipe"
    with pytest.raises(BadInput, match=told):
        _run(scenario)


def test_a_key_whose_records_were_all_kept_long_enough_is_gone_on_with() -> None:
    async def scenario(world: World) -> None:
        await _log(world, *range(4))
        _start(world, TABLES)
        await asyncio.sleep(0.5)
        await world.kill(NAME)
        world.log = MemoryLog()
        _start(world, TABLES)
        await asyncio.sleep(0.5)
        assert _kept(world) == {key: list(range(4)) for key in KEYS}

    _run(scenario)


def test_a_mark_at_a_record_that_cannot_be_read_is_gone_on_from() -> None:
    async def scenario(world: World) -> None:
        world.log.put(JOURNAL_TOPIC, KEYS[0], LATER, codec.encode(_entry(KEYS[0], 1_000)), b"later")
        for numbers in ((), (1,)):
            await _log(world, *numbers)
            _start(world, TABLES)
            await asyncio.sleep(0.5)
            await world.kill(NAME)
        assert _kept(world) == {key: [1] for key in KEYS}

    _run(scenario)


class Refusing(MemoryStore):
    """Be away at first; never take one record of a key."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        self.tries += 1
        if self.tries < 5:
            raise Recoverable("the store is away")
        if key == KEYS[0] and REFUSED in _steps(records):
            raise PoisonMessage("unsaveable", "it does not fit")
        return await super().save_records(topic, key, records)


REFUSED = 37
LATER = "huracan.journal.v2.JournalEntry"
"""A schema that this release does not know, until it does."""
LETTERS = subjects.dead_letters(JOURNAL_TOPIC)


async def _letters(world: World) -> list[DeadLetter]:
    records = await world.log.node("reader").read(LETTERS, NAME, 0)
    return [record.message for record in records if isinstance(record.message, DeadLetter)]


def test_a_record_that_does_not_fit_is_a_dead_letter_and_holds_up_nothing() -> None:
    async def scenario(world: World) -> None:
        world.store = Refusing()
        await _log(world, *range(2 * RECORDS))
        _start(world, TABLES)
        await asyncio.sleep(5)
        others = [number for number in range(2 * RECORDS) if number != REFUSED]
        assert _kept(world) == {KEYS[0]: others, **{key: list(range(2 * RECORDS)) for key in KEYS[1:]}}
        ((schema, raw),) = world.store.skipped.values()
        assert codec.decode(schema, raw) == _entry(KEYS[0], REFUSED)
        (letter,) = await _letters(world)
        ((_, _, offset),) = world.store.skipped
        assert (letter.reason, letter.source) == ("unsaveable", subjects.unkept(JOURNAL_TOPIC, KEYS[0], offset))
        assert (letter.schema, letter.raw) == (schema, raw)
        assert world.counts[NAME]["log.unkept"] == 1

    _run(scenario)


@pytest.mark.parametrize("place", [0, 1, 40, RECORDS - 1, RECORDS, 2 * RECORDS - 1])
def test_a_record_that_cannot_be_read_is_a_dead_letter_and_comes_back_once_after_a_fix(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World) -> None:
        await _log(world, *range(place))
        world.log.put(JOURNAL_TOPIC, KEYS[0], LATER, codec.encode(_entry(KEYS[0], 1_000)), b"later")
        await _log(world, *range(place, 2 * RECORDS))
        _start(world, TABLES)
        await asyncio.sleep(1)
        numbers = list(range(2 * RECORDS))
        assert _kept(world) == dict.fromkeys(KEYS, numbers)
        (letter,) = await _letters(world)
        assert (letter.reason, letter.schema, letter.attempt) == ("unknown_schema", LATER, 1)
        assert letter.raw == codec.encode(_entry(KEYS[0], 1_000))
        assert f"at offset {3 * place}: " in letter.detail
        await world.kill(NAME)
        _start(world, TABLES)
        await asyncio.sleep(1)
        assert len(await _letters(world)) == 1
        with monkeypatch.context() as fixed:
            fixed.setitem(codec.SCHEMAS, LATER, JournalEntry)
            for message_id in (b"1", b"2"):  # a replay that ended halfway is done again
                bus = world.ports("operator").bus
                await bus.publish_acknowledged(letter.source, _entry(KEYS[0], 1_000), message_id=message_id)
                await asyncio.sleep(1)
        assert _kept(world) == dict.fromkeys(KEYS, numbers) | {KEYS[0]: [*numbers[:place], 1_000, *numbers[place:]]}
        assert world.counts[NAME]["log.restored"] == 1
        assert world.store.skipped == {}

    _run(scenario)


@pytest.mark.parametrize("subject", ["ops.v1.persister.record.x", "ops.v1.persister.record.7.log.v1.nothing.x"])
def test_a_record_that_comes_again_for_no_place_is_buried(subject: str) -> None:
    async def scenario(world: World) -> None:
        _start(world, TABLES)
        await asyncio.sleep(0.1)
        await world.ports("operator").bus.publish_acknowledged(subject, _entry(KEYS[0], 1), message_id=b"1")
        await asyncio.sleep(1)
        assert [letter.reason for letter in await _letters(world)] == ["unexpected_subject"]

    _run(scenario)


def test_the_archive_keeps_what_it_cannot_read_and_a_release_that_can_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PersisterConfig(archive=ArchiveConfig(directory=tmp_path, topics=("journal",), every_s=0.01))

    async def main() -> None:
        world = World(SystemClock(), seed=1)
        task = _start(world, config)
        await world.services[NAME].ready.wait()
        await _log(world, 1)
        world.log.put(JOURNAL_TOPIC, KEYS[0], LATER, codec.encode(_entry(KEYS[0], 1_000)), b"later")
        await _log(world, 2)
        await world.ports(NAME).bus.drain()
        await task
        assert [letter.reason for letter in await _letters(world)] == ["unknown_schema"]

    asyncio.run(main())
    with pytest.raises(BadInput, match=r"has a record that this release cannot read: unknown_schema: .*kept whole"):
        _archived(tmp_path)
    monkeypatch.setitem(codec.SCHEMAS, LATER, JournalEntry)
    assert _steps(_archived(tmp_path)) == [1, 1_000, 2]


def test_the_archive_goes_on_where_it_was(tmp_path: Path) -> None:
    config = PersisterConfig(archive=ArchiveConfig(directory=tmp_path, topics=("journal",), every_s=0.01))

    async def main() -> None:
        world = World(SystemClock(), seed=1)
        expected: list[Message] = []
        for start in (0, 10):
            task = _start(world, config)
            await world.services[NAME].ready.wait()
            await _log(world, *range(start, start + 10))
            expected += [_entry(KEYS[0], number) for number in range(start, start + 10)]
            await world.ports(NAME).bus.drain()
            await task
            assert [record.message for record in _archived(tmp_path)] == expected
        assert world.counts[NAME]["archive.records"] == 60

    asyncio.run(main())


def test_a_key_that_the_archive_has_no_place_for_is_counted_once_and_stops_no_other(tmp_path: Path) -> None:
    config = PersisterConfig(archive=ArchiveConfig(directory=tmp_path, topics=("journal",), every_s=0.01))

    async def main() -> None:
        world = World(SystemClock(), seed=1)
        log = world.log.node("writer")
        for key in ("", "account..paper", "x" * 300):
            await log.append(JOURNAL_TOPIC, key, _entry(key, 1), record_id=b"1")
        task = _start(world, config)
        await world.services[NAME].ready.wait()
        await _log(world, 1, 2)
        await world.ports(NAME).bus.drain()
        await task
        assert world.counts[NAME] == {"archive.records": 6, "archive.keys_passed_over": 3}

    asyncio.run(main())
    assert _steps(_archived(tmp_path)) == [1, 2]


def _archived(directory: Path) -> list[Record]:
    return read_archived(directory, JOURNAL_TOPIC, KEYS[0])
