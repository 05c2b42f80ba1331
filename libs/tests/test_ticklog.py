"""One suite over every log: append once, read in order, wait for what is not there yet. Its offsets rise, with gaps."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from google.protobuf.message import Message
from pydantic import SecretStr

from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC, dead_letters
from huracan.clock import SystemClock
from huracan.contracts.market import Bar
from huracan.errors import PoisonMessage
from huracan.ids import derived_id
from huracan.ports import Record
from huracan.ticklog import jetstream
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.log import KafkaLog
from huracan.ticklog.memory import MemoryLog


class RunningServer(Protocol):
    """A server that runs."""

    @property
    def url(self) -> str: ...


class Log(Protocol):
    """A log that also tells its keys."""

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int: ...

    async def read(self, topic: str, key: str, offset: int) -> Sequence[Record]: ...

    async def last(self, topic: str, key: str) -> Record | None: ...

    async def wait(self, topic: str, key: str, offset: int) -> None: ...

    async def keys(self, topic: str) -> list[str]: ...


Scenario = Callable[[Log, Log, str], Awaitable[None]]
"""Given a writer's log, a reader's log, and a key that nobody else uses."""


def _run_memory(scenario: Scenario) -> None:
    async def main() -> None:
        log = MemoryLog()
        await scenario(log.node("writer"), log.node("reader"), f"sim.{secrets.token_hex(6)}")

    asyncio.run(main())


def _run_jetstream(url: str, scenario: Scenario) -> None:
    parts, key = urlsplit(url), f"sim.{secrets.token_hex(6)}"
    assert parts.username
    assert parts.password
    logins = [
        NatsLogin(
            url=f"nats://{parts.hostname}:{parts.port}",
            name=f"{name}-{key[4:]}",
            user=parts.username,
            password=SecretStr(parts.password),
        )
        for name in ("writer", "reader")
    ]

    async def main() -> None:
        connections = [Connection(login) for login in logins]
        async with asyncio.timeout(60):
            try:
                for connection in connections:
                    await connection.open()
                await make_streams(connections[0])
                logs = [JetStreamLog(NatsBus(connection, wall=SystemClock())) for connection in connections]
                await scenario(logs[0], logs[1], key)
            finally:
                for connection in connections:
                    await connection.close()

    asyncio.run(main())


def _run_kafka(servers: str, scenario: Scenario) -> None:
    async def main() -> None:
        key = f"sim.{secrets.token_hex(6)}"
        logs = [KafkaLog(KafkaConfig(servers=servers), name=name) for name in ("writer", "reader")]
        async with asyncio.timeout(60):
            try:
                for log in logs:
                    await log.open()
                await scenario(logs[0], logs[1], key)
            finally:
                for log in logs:
                    await log.close()

    asyncio.run(main())


@pytest.fixture(params=["memory", "jetstream", "kafka"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Give what runs a scenario over one kind of log."""
    if request.param == "memory":
        return _run_memory
    if request.param == "kafka":
        broker: RunningServer = request.getfixturevalue("kafka_server")
        return lambda scenario: _run_kafka(broker.url, scenario)
    server: RunningServer = request.getfixturevalue("nats_server")
    return lambda scenario: _run_jetstream(server.url, scenario)


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


def test_a_record_that_cannot_be_read_is_poison_to_whoever_reads_it(nats_server: RunningServer) -> None:
    async def scenario(writer: Log, other: Log, key: str) -> None:
        assert isinstance(writer, JetStreamLog)
        waiting = asyncio.create_task(other.wait(TICKS_TOPIC, key, 0))
        headers = {"Huracan-Schema": "huracan.market.v1.Bar", "Nats-Msg-Id": derived_id(key).hex()}
        await writer._connection.request(f"log.v1.ticks.{key}", b"\xff", headers)
        await waiting
        for _ in range(2):
            with pytest.raises(PoisonMessage, match="undecodable"):
                await other.read(TICKS_TOPIC, key, 0)

    _run_jetstream(nats_server.url, scenario)


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

    _run_jetstream(nats_server.url, scenario)
