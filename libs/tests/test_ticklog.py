"""One suite of laws over every log, whatever is behind the port. Its offsets rise along a key, with gaps."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.memory import MemoryBus
from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus
from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC, dead_letters
from huracan.clock import SystemClock
from huracan.contracts.market import Bar
from huracan.contracts.ops import DeadLetter
from huracan.embedded.kafka import KafkaServer
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Program, Supervisor
from huracan.errors import PoisonMessage, Recoverable
from huracan.ids import derived_id
from huracan.ports import Ports, Record
from huracan.rng import SeededRng
from huracan.store.memory import MemoryStore
from huracan.ticklog import jetstream
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.topics import make_topics
from huracan.ticklog.writer import LogWriter

from .log_kinds import InMemory, Kind, Log, OnJetStream, OnKafka, RunningServer

SCHEMA = "huracan.market.v1.Bar"


Scenario = Callable[[Log, Log, str], Awaitable[None]]
"""Given a writer's log, a reader's log, and a key that nobody else uses."""


def _key() -> str:
    return f"sim.{secrets.token_hex(6)}"


def _run(kind: Kind, scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), kind.node("writer") as writer, kind.node("reader") as other:
            await scenario(writer, other, _key())

    asyncio.run(main())


@pytest.fixture(params=["memory", "jetstream", "kafka"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Give one kind of log after the other."""
    if request.param == "memory":
        return InMemory()
    server: RunningServer = request.getfixturevalue("nats_server" if request.param == "jetstream" else "kafka_server")
    return OnJetStream(server.url) if request.param == "jetstream" else OnKafka(server.url)


@pytest.fixture
def run(kind: Kind) -> Callable[[Scenario], None]:
    """Give what runs a scenario over one kind of log."""
    return lambda scenario: _run(kind, scenario)


async def _append(log: Log, key: str, number: int, *, topic: str = TICKS_TOPIC) -> int:
    return await log.append(topic, key, Bar(trades=number), record_id=number.to_bytes(4, "big"))


async def _records(log: Log, key: str, offset: int = 0, *, topic: str = TICKS_TOPIC) -> list[tuple[int, int]]:
    records = await log.read(topic, key, offset)
    return [(record.offset, record.message.trades) for record in records if isinstance(record.message, Bar)]


def test_a_record_is_appended_once_under_its_id_and_keeps_its_offset(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        offsets = [await _append(writer, key, number) for number in (7, 8, 7, 9, 8)]
        assert offsets[:2] == [offsets[2], offsets[4]] == sorted(offsets[:2])
        assert offsets[3] > offsets[1]
        assert await _records(other, key) == [(offsets[0], 7), (offsets[1], 8), (offsets[3], 9)]

    run(scenario)


def test_a_record_that_is_appended_twice_at_once_is_there_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        numbers = [1, 2, 1, 3, 1]
        offsets = await asyncio.gather(*(_append(writer, key, number) for number in numbers))
        assert await _records(other, key) == sorted(set(zip(offsets, numbers, strict=True)))

    run(scenario)


def test_many_are_appended_in_order_each_once_whatever_was_there_of_them(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        bars = [(Bar(trades=number), number.to_bytes(4, "big")) for number in range(300)]
        known = [await _append(writer, key, number) for number in (0, 1)]
        offsets = await writer.append_all(TICKS_TOPIC, key, bars[:200])
        assert list(offsets[:2]) == known
        again = await writer.append_all(TICKS_TOPIC, key, bars[100:])
        assert again[:100] == offsets[100:]
        whole = [*offsets, *again[100:]]
        assert whole == sorted(set(whole))
        assert await _records(other, key) == list(zip(whole, range(300), strict=True))
        assert list(await writer.append_all(TICKS_TOPIC, key, [])) == []

    run(scenario)


def test_what_a_node_appended_its_heir_appends_again_to_no_effect(kind: Kind) -> None:
    async def main() -> None:
        key = _key()
        async with asyncio.timeout(60), kind.node("heir") as heir:
            await _append(heir, f"{key}-other", 0)
            async with kind.node("first") as first:
                offsets = [await _append(first, key, number) for number in range(10)]
            assert [await _append(heir, key, number) for number in range(5, 12)][:5] == offsets[5:]
            assert [number for _, number in await _records(heir, key)] == list(range(12))

    asyncio.run(main())


def test_each_topic_and_each_key_has_its_own_ids(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        places = [(topic, name) for topic in (TICKS_TOPIC, JOURNAL_TOPIC) for name in (key, f"{key}.b")]
        places.append((dead_letters(JOURNAL_TOPIC), key))
        for topic, name in places:
            await _append(writer, name, 1, topic=topic)
        for topic, name in places:
            assert [number for _, number in await _records(other, name, topic=topic)] == [1]

    run(scenario)


def test_offsets_rise_along_a_key_with_gaps_where_others_lie_between(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        first = await _append(writer, key, 1)
        between = await _append(writer, f"{key}-other", 2)
        second = await _append(writer, key, 3)
        assert first < between < second  # of one underlying, so of one partition
        assert await _records(other, key, first + 1) == await _records(other, key, between) == [(second, 3)]

    run(scenario)


def test_reading_from_an_offset_gives_what_is_there_now_and_no_error_past_the_end(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        offsets = [await _append(writer, key, number) for number in range(4)]
        assert await _records(other, key, offsets[2]) == [(offsets[2], 2), (offsets[3], 3)]
        assert await _records(other, key, offsets[3] + 1) == await _records(other, key, offsets[3] + 10**6) == []
        assert await _records(other, f"{key}.none") == []

    run(scenario)


def test_at_most_as_many_are_read_as_are_asked_for(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        offsets = [await _append(writer, key, number) for number in range(4)]
        for limit in (1, 3, 4, 9):
            records = await other.read(TICKS_TOPIC, key, offsets[0], limit=limit)
            assert [record.offset for record in records] == offsets[:limit]
        assert [record.offset for record in await other.read(TICKS_TOPIC, key, offsets[2], limit=1)] == [offsets[2]]

    run(scenario)


def test_more_than_a_batch_is_read_at_once_and_in_order(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        count = 2_500
        assert count > 2 * jetstream.BATCH
        offsets: list[int] = []
        for start in range(0, count, 500):
            offsets += await asyncio.gather(*(_append(writer, key, number) for number in range(start, start + 500)))
        assert await _records(other, key) == sorted(zip(offsets, range(count), strict=True))
        assert len(await _records(other, key, sorted(offsets)[jetstream.BATCH])) == count - jetstream.BATCH

    run(scenario)


def test_the_last_record_is_the_newest_or_none(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        assert await other.last(TICKS_TOPIC, key) is None
        await _append(writer, key, 1)
        offset = await _append(writer, key, 2)
        await _append(writer, f"{key}.other", 3)
        assert await other.last(TICKS_TOPIC, key) == Record(offset, Bar(trades=2))

    run(scenario)


def test_the_keys_of_a_topic_are_those_with_records(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        names = [f"{key}.A b", f"{key}.*", key]
        for number, name in enumerate(names):
            await _append(writer, name, number, topic=FEATURES_TOPIC)
        await other.last(FEATURES_TOPIC, f"{key}.none")
        found = [name for name in await other.keys(FEATURES_TOPIC) if name.startswith(key)]
        assert found == sorted(names)

    run(scenario)


def test_what_is_logged_does_not_change_with_the_message_it_came_from(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        message = Bar(trades=1)
        offset = await writer.append(TICKS_TOPIC, key, message, record_id=b"1")
        message.trades = 2
        assert await _records(other, key) == [(offset, 1)]

    run(scenario)


def test_readers_wait_for_their_own_offset(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        start = await _append(writer, key, 100) + 1
        waiting = [asyncio.create_task(other.wait(TICKS_TOPIC, key, offset)) for offset in (start + 5, 0, start)]
        await waiting[1]
        assert not waiting[0].done()
        newest, number = start, 0
        while newest < start + 5:
            newest, number = await _append(writer, key, number), number + 1
            await waiting[2]
        await waiting[0]
        await other.wait(TICKS_TOPIC, key, newest)

    run(scenario)


def test_waiting_goes_on_when_the_one_who_waited_before_was_cancelled(run: Callable[[Scenario], None]) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        for turns in range(5):
            first = asyncio.create_task(other.wait(TICKS_TOPIC, key, 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
        second = asyncio.create_task(other.wait(TICKS_TOPIC, key, 0))
        offset = await _append(writer, key, 1)
        await second
        assert await _records(other, key, offset) == [(offset, 1)]

    run(scenario)


def test_a_key_is_followed_to_its_end_while_it_is_written(run: Callable[[Scenario], None]) -> None:
    count = 1_500

    async def scenario(writer: Log, other: Log, key: str) -> None:
        async def write() -> None:
            for start in range(0, count, 50):
                for number in range(start, start + 50):
                    await _append(writer, key, number)
                await _append(writer, f"{key}.other", start)

        async def follow() -> list[int]:
            numbers: list[int] = []
            offset = 0
            while len(numbers) < count:
                await other.wait(TICKS_TOPIC, key, offset)
                for at, number in await _records(other, key, offset):
                    numbers.append(number)
                    offset = at + 1
            return numbers

        _, numbers, again = await asyncio.gather(write(), follow(), follow())
        assert numbers == again == list(range(count))

    run(scenario)


def test_what_one_appended_or_was_told_of_one_reads_also_of_a_key_that_is_followed(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        waiting = asyncio.create_task(writer.wait(TICKS_TOPIC, key, 0))
        first = await _append(writer, key, 0)
        await waiting
        await asyncio.wait([asyncio.create_task(writer.wait(TICKS_TOPIC, key, first + 1))], timeout=0)
        for number in range(1, 100):
            offset = await _append(writer, key, number)
            assert await _records(writer, key, offset) == [(offset, number)]
            offset = await _append(other, key, 1_000 + number)
            last = await writer.last(TICKS_TOPIC, key)
            assert last is not None
            assert last.offset == offset
            assert (await _records(writer, key, offset))[-1] == (offset, 1_000 + number)
        assert len(await _records(writer, key)) == 199

    run(scenario)


def test_waiting_far_ahead_gets_past_what_nobody_reads(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_UNACKNOWLEDGED", 50)
    monkeypatch.setattr(jetstream, "MAX_UNACKNOWLEDGED", 50)

    async def scenario(writer: Log, other: Log, key: str) -> None:
        start = await _append(writer, key, 10_000)
        waiting = asyncio.create_task(other.wait(TICKS_TOPIC, key, start + 120))
        offset, number = start, 0
        while offset < start + 120:
            number += 1
            offset = await _append(writer, key, number)
        await waiting
        assert await _records(other, key, offset) == [(offset, number)]
        assert len(await _records(other, key)) == number + 1

    run(scenario)


@pytest.mark.parametrize(
    ("schema", "data", "reason"),
    [(SCHEMA, b"\xff", "undecodable"), ("huracan.market.v2.Bar", b"", "unknown_schema"), ("", b"", "unknown_schema")],
    ids=["bytes", "schema", "nothing"],
)
def test_a_record_that_cannot_be_read_is_poison_by_its_place_and_others_are_read_on(
    kind: Kind, schema: str, data: bytes, reason: str
) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        beside = f"{key}-other"
        before = await _append(writer, key, 1)
        waiting = asyncio.create_task(other.wait(TICKS_TOPIC, key, before + 1))
        await kind.plant(TICKS_TOPIC, key, schema, data)
        await waiting
        for _ in range(2):
            with pytest.raises(PoisonMessage, match=rf"{reason}: {TICKS_TOPIC}.* at offset \d+: ") as raised:
                await other.read(TICKS_TOPIC, key, before)
        at = int(raised.value.detail.partition(" at offset ")[2].partition(":")[0])
        assert at > before
        if isinstance(kind, OnKafka):
            assert f"{TICKS_TOPIC}[{subjects.partition(key)}]" in raised.value.detail
        with pytest.raises(PoisonMessage, match=f"at offset {at}"):
            await writer.last(TICKS_TOPIC, key)
        offsets = [await _append(writer, name, 2) for name in (key, beside)]
        await other.wait(TICKS_TOPIC, key, offsets[0])
        assert await _records(other, key, at + 1) == [(offsets[0], 2)]
        assert await _records(other, beside) == [(offsets[1], 2)]

    _run(kind, scenario)


def test_a_letter_that_is_larger_than_its_log_takes_is_kept_by_its_beginning_and_others_whole(kind: Kind) -> None:
    letters = [
        DeadLetter(raw=raw, source=text, schema=text, reason="r", detail=text, attempt=2, at_ns=1)
        for raw, text in (
            (secrets.token_bytes(700_000), "frame"),
            (secrets.token_bytes(2_000_000), "frame"),
            (b"short", "é" * 1_000_000),
        )
    ]
    topic = dead_letters(TICKS_TOPIC)

    async def scenario(writer: Log, other: Log, key: str) -> None:
        for number, letter in enumerate(letters):
            offset = await writer.append(topic, key, letter, record_id=bytes([number]))
            assert await writer.append(topic, key, letter, record_id=bytes([number])) == offset
        kept = [record.message for record in await other.read(topic, key, 0)]
        if isinstance(kind, InMemory):
            assert kept == letters
            return
        assert kept[0] == letters[0]
        for found, letter in zip(kept[1:], letters[1:], strict=True):
            assert isinstance(found, DeadLetter)
            assert letter.raw.startswith(found.raw)
            assert (found.reason, found.attempt, found.at_ns) == ("r", 2, 1)
            assert letter.schema.startswith(found.schema)
            assert found.whole_digest == sha256(letter.raw).digest()
            said = f"; cut from {len(letter.raw)} bytes, SHA-256 {found.whole_digest.hex()}"
            assert letter.detail.startswith(found.detail.removesuffix(said))
            assert found.detail.endswith(said)
        lengths = [len(letter.raw) for letter in kept if isinstance(letter, DeadLetter)]
        assert (lengths[0], lengths[1] > 800_000, lengths[2]) == (700_000, True, len(b"short"))

    _run(kind, scenario)


def test_what_the_acknowledged_path_has_under_a_pattern_is_read_back(nats_server: RunningServer) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        assert isinstance(writer, JetStreamLog)
        for number, name in enumerate("aba"):
            await writer._bus.publish_acknowledged(
                f"exec.v1.{key[4:]}.{name}", Bar(trades=number), message_id=derived_id(key, number)
            )
        assert await writer.published(f"exec.v1.{key[4:]}.>") == [
            (f"exec.v1.{key[4:]}.{name}", Bar(trades=number)) for number, name in enumerate("aba")
        ]
        assert await writer.published(f"exec.v1.{key[4:]}.none") == []

    _run(OnJetStream(nats_server.url), scenario)


def test_what_jetstream_acknowledged_of_many_is_not_sent_again(
    nats_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    store = NatsBus.store

    async def failing(self: NatsBus, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> int:
        assert isinstance(message, Bar)
        sent.append(message.trades)
        if len(sent) in (4, 5, 20):
            raise Recoverable("no acknowledgement")
        return await store(self, subject, message, message_id=message_id, epoch=epoch)

    monkeypatch.setattr(NatsBus, "store", failing)

    async def scenario(writer: Log, other: Log, key: str) -> None:
        bus = MemoryBus().node("writer")
        ports = Ports(bus=bus, log=writer, clock=SystemClock(), store=MemoryStore(), rng=SeededRng(1))
        queue = LogWriter(ports, "test")
        for number in range(30):
            await queue.put(TICKS_TOPIC, key, Bar(trades=number), record_id=bytes([number]))
        running = asyncio.create_task(queue.run())
        await queue.drained()
        running.cancel()
        assert sent == [0, 1, 2, 3, 3, *range(3, 18), *range(17, 30)]
        assert [number for _, number in await _records(other, key)] == list(range(30))

    _run(OnJetStream(nats_server.url), scenario)


# A server of its own, which is killed.


class Struck:
    """A server that can be killed and started again on its port and data, and the log on it."""

    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._programs = Supervisor(SeededRng(1))
        ports = free_port(), free_port()
        self._nats = NatsServer(directory=directory / "nats", port=ports[0], monitor_port=ports[1])
        self._kafka = KafkaServer(
            directory=directory / "kafka", port=ports[0], controller_port=ports[1], heap_mb=256, quick_start=True
        )
        url = self._nats.url.replace("nats://", "nats://admin:right@")
        self.kind: Kind = OnJetStream(url) if name == "nats" else OnKafka(self._kafka.address)

    def _program(self) -> Program:
        if self._name == "nats":
            return self._nats.prepare([NatsUser(name="admin", password="right", publish=(">",), subscribe=(">",))])
        return self._kafka.prepare()

    async def start(self) -> None:
        await self._programs.start(self._program())

    async def make(self) -> None:
        if self._name == "kafka":
            await make_topics(KafkaConfig(servers=self._kafka.address))

    async def kill(self) -> None:
        self._programs.send(self._name, signal.SIGKILL)
        await self._programs.stop(self._name)

    async def close(self) -> None:
        await self._programs.stop_all()


@pytest.fixture(params=["nats", "kafka"])
def strike(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Struck], Awaitable[None]]], None]:
    """Give what runs a scenario over a server of its own, of each kind that is a process."""
    if request.param == "kafka":
        request.getfixturevalue("kafka_server")  # where that cannot be had, ours cannot
    struck = Struck(request.param, tmp_path)

    def run(scenario: Callable[[Struck], Awaitable[None]]) -> None:
        async def main() -> None:
            try:
                async with asyncio.timeout(120):
                    await struck.start()
                    await struck.make()
                    await scenario(struck)
            finally:
                await struck.close()

        asyncio.run(main())

    return run


async def _append_all(log: Log, key: str, numbers: Sequence[int], done: list[int]) -> None:
    """Append in order, each again until it is acknowledged."""
    for number in numbers:
        while True:
            with contextlib.suppress(Recoverable):
                done.append(await _append(log, key, number))
                break
            await asyncio.sleep(0.01)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
        await asyncio.sleep(0.005)


def test_over_a_kill_of_the_server_what_two_writers_append_is_there_once_and_in_order(
    strike: Callable[[Callable[[Struck], Awaitable[None]]], None],
) -> None:
    count = 600

    async def scenario(struck: Struck) -> None:
        keys = [_key(), _key()]
        done: dict[str, list[int]] = {key: [] for key in keys}
        async with (
            struck.kind.node("first") as first,
            struck.kind.node("second") as second,
            struck.kind.node("reader") as other,
        ):
            following = asyncio.create_task(other.wait(TICKS_TOPIC, keys[0], 10**9))
            async with asyncio.TaskGroup() as writing:
                for key, log in zip(keys, (first, second), strict=True):
                    writing.create_task(_append_all(log, key, range(count), done[key]))
                await _until(lambda: all(len(offsets) > count // 4 for offsets in done.values()))
                await struck.kill()
                assert not all(len(offsets) == count for offsets in done.values())
                await struck.start()
            for key in keys:
                assert await _records(other, key) == list(zip(done[key], range(count), strict=True))
            following.cancel()
        async with struck.kind.node("heir") as heir:
            again: list[int] = []
            await _append_all(heir, keys[0], range(count - 50, count + 1), again)
            assert again[:-1] == done[keys[0]][-50:]
            assert len(await _records(heir, keys[0])) == count + 1

    strike(scenario)


def test_while_the_server_is_away_reading_waits_and_appending_is_recoverable(
    strike: Callable[[Callable[[Struck], Awaitable[None]]], None],
) -> None:
    async def scenario(struck: Struck) -> None:
        key = _key()
        async with struck.kind.node("writer") as writer, struck.kind.node("reader") as other:
            offset = await _append(writer, key, 1)
            assert await _records(other, key) == [(offset, 1)]
            await struck.kill()
            asked = [
                asyncio.create_task(_records(other, key)),
                asyncio.create_task(other.last(TICKS_TOPIC, key)),
                asyncio.create_task(other.keys(TICKS_TOPIC)),
                asyncio.create_task(other.wait(TICKS_TOPIC, key, offset + 1)),
            ]
            for _ in range(2):
                with pytest.raises(Recoverable):
                    await _append(writer, key, 2)
            assert not any(task.done() for task in asked)
            await struck.start()
            after: list[int] = []
            await _append_all(writer, key, [2], after)
            records, last, keys, _ = await asyncio.gather(*asked)
            assert isinstance(records, list)
            assert records[0] == (offset, 1)
            assert isinstance(last, Record)
            assert last.offset in (offset, after[0])
            assert keys == [key]
            assert await _records(other, key) == [(offset, 1), (after[0], 2)]

    strike(scenario)
