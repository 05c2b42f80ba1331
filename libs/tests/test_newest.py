"""The newest message of a log that can be read, whatever lies around it and whatever is behind the log."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from huracan.bus.subjects import TICKS_TOPIC
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.market import Bar, TickBatch
from huracan.errors import PoisonRecord
from huracan.ticklog.memory import MemoryLog
from huracan.ticklog.newest import FIRST_LOOK, Newest, between, newest_of, newest_offset

from .log_kinds import InMemory, Kind, Log, OnJetStream, OnKafka, RunningServer

KEY = "sim.btc"
LATER = "huracan.later.v1.Thing"


@pytest.fixture(params=["memory", "jetstream", "kafka"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Give one kind of log after the other."""
    if request.param == "memory":
        return InMemory()
    server: RunningServer = request.getfixturevalue("nats_server" if request.param == "jetstream" else "kafka_server")
    return OnJetStream(server.url) if request.param == "jetstream" else OnKafka(server.url)


def test_what_cannot_be_read_is_passed_over_and_told_in_every_log(kind: Kind) -> None:
    key = f"sim.{secrets.token_hex(6)}"

    async def scenario(log: Log) -> None:
        assert await newest_offset(log, TICKS_TOPIC, key) == -1
        assert await newest_of(log, TICKS_TOPIC, key, Bar) == Newest(None, 0)
        await kind.plant(TICKS_TOPIC, key, LATER, b"")
        assert await newest_of(log, TICKS_TOPIC, key, Bar) == Newest(None, 1)
        offsets = [
            await log.append(TICKS_TOPIC, key, Bar(trades=number), record_id=b"%d" % number) for number in range(1, 4)
        ]
        assert await newest_offset(log, TICKS_TOPIC, key) == offsets[-1]
        assert await newest_of(log, TICKS_TOPIC, key, Bar) == Newest(Bar(trades=3), 0)
        for _ in range(2):
            await kind.plant(TICKS_TOPIC, key, LATER, b"")
        await kind.plant(TICKS_TOPIC, f"{key}-other", LATER, b"")
        end = await newest_offset(log, TICKS_TOPIC, key)
        assert end > offsets[-1]
        assert await newest_of(log, TICKS_TOPIC, key, Bar) == Newest(Bar(trades=3), 2)
        found = [each async for each in between(log, TICKS_TOPIC, key, offsets[1], end)]
        assert [each.offset for each in found[:2]] == offsets[1:]
        assert [isinstance(each, PoisonRecord) for each in found] == [False, False, True]

    async def main() -> None:
        async with asyncio.timeout(60), kind.node("reader") as log:
            await scenario(log)

    asyncio.run(main())


@pytest.mark.parametrize("readable", [0, 1, FIRST_LOOK, 4 * FIRST_LOOK + 1])
def test_it_is_found_however_far_back_it_is_and_each_record_after_it_is_counted_once(readable: int) -> None:
    log, count = MemoryLog(), 6 * FIRST_LOOK
    bar = Bar(trades=7)
    for number in range(count):
        schema = schema_of(bar) if number == readable else LATER
        log.put(TICKS_TOPIC, KEY, schema, encode(bar), b"%d" % number)
    assert asyncio.run(newest_of(log.node("reader"), TICKS_TOPIC, KEY, Bar)) == Newest(bar, count - 1 - readable)


def test_messages_of_other_kinds_are_passed_over_too_but_were_read() -> None:
    log = MemoryLog()
    batch = TickBatch(epoch=4)
    for number, message in enumerate([batch, Bar(), Bar()]):
        log.put(TICKS_TOPIC, KEY, schema_of(message), encode(message), b"%d" % number)
    node = log.node("reader")
    assert asyncio.run(newest_of(node, TICKS_TOPIC, KEY, TickBatch)) == Newest(batch, 0)
    assert asyncio.run(newest_of(node, TICKS_TOPIC, KEY, Bar)) == Newest(Bar(), 0)


def test_what_a_replaced_writer_still_wrote_is_no_newer_than_what_its_heir_had_written() -> None:
    log = MemoryLog()
    batches = [TickBatch(epoch=3, batch=1), TickBatch(epoch=4, batch=1), TickBatch(epoch=4, batch=2)]
    late = [TickBatch(epoch=3, batch=number) for number in (2, 3)]
    for number, batch in enumerate([*batches, *late]):
        log.put(TICKS_TOPIC, KEY, schema_of(batch), encode(batch), b"%d" % number)
    log.put(TICKS_TOPIC, KEY, LATER, b"", b"unreadable")
    node = log.node("reader")
    assert asyncio.run(newest_of(node, TICKS_TOPIC, KEY, TickBatch)) == Newest(batches[-1], 1)
