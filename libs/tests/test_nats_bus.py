"""The bus on the real server: what is acknowledged is stored once and reaches its readers."""

from __future__ import annotations

import asyncio
from collections import Counter
from hashlib import sha256
from typing import Any

import pytest

from huracan.bus import queue, subjects
from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.streams import STREAMS, make_streams
from huracan.clock import MarketClock, SystemClock
from huracan.contracts.market import Bar
from huracan.contracts.ops import DeadLetter
from huracan.errors import BadInput, Fatal, PoisonMessage, Recoverable
from huracan.ids import derived_id
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.service.dead_letters import DeadLetters
from huracan.store.memory import MemoryStore
from huracan.ticklog.jetstream import JetStreamLog

from .nats_world import START_NS, RunningServer, World, number_of, rest, run_in, take, until

BAR = "huracan.market.v1.Bar"
DLQ = subjects.dead_letters(subjects.JOURNAL_TOPIC)


@pytest.fixture
def world(nats_server: RunningServer) -> World:
    return World(nats_server.url)


def test_streams_are_made_once_and_brought_up_to_date_as_often_as_one_likes(world: World) -> None:
    async def scenario() -> None:
        connection = world.connections[0]
        await make_streams(connection)
        for stream in STREAMS:
            found: Any = await connection.ask(f"$JS.API.STREAM.INFO.{stream.name}")
            assert tuple(found["config"]["subjects"]) == stream.subjects

    run_in(world, scenario)


def test_an_acknowledged_message_is_stored_once_under_its_id(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        first = await bus.store(world.stored(), Bar(trades=1), message_id=derived_id(world.name, 1))
        assert await bus.store(world.stored(), Bar(trades=1), message_id=derived_id(world.name, 1)) == first
        await world.store(bus, 2, 1, 2)
        inbox = bus.inbox()
        inbox.consume(world.stored("*"), durable="reader")
        assert await take(inbox, 2) == [1, 2]
        await bus.drain()
        assert await rest(inbox) == []
        assert bus.counts["acknowledged"] == 5

    run_in(world, scenario)


def test_many_acknowledged_messages_go_through_the_window_at_once(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        await asyncio.gather(*(world.store(bus, number) for number in range(2_000)))
        inbox = bus.inbox()
        inbox.everything(world.stored("*"))
        assert sorted(await take(inbox, 2_000)) == list(range(2_000))

    run_in(world, scenario)


def test_a_delivery_tells_subject_epoch_schema_and_message_and_when_it_was_sent(world: World) -> None:
    async def scenario() -> None:
        market = MarketClock(START_NS, speed=0, leads=True)
        bus = await world.bus("writer", market)
        inbox = bus.inbox()
        inbox.subscribe(world.sent())
        before_ns = SystemClock().now_ns()
        await bus.publish(world.sent(), Bar(trades=3), epoch=7)
        delivery = await anext(inbox)
        assert (delivery.subject, delivery.epoch, delivery.sequence) == (world.sent(), 7, 0)
        assert delivery.raw == ("huracan.market.v1.Bar", Bar(trades=3).SerializeToString())
        assert before_ns <= delivery.sent_ns <= SystemClock().now_ns()
        assert delivery.time_ns == START_NS
        delivery.ack()

    run_in(world, scenario)


def test_a_message_that_cannot_be_read_is_poison_to_its_reader_alone(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        inbox = bus.inbox()
        inbox.subscribe(world.sent())
        await bus.prepared()
        await bus.connection.publish(world.sent(), b"\xff", {"Huracan-Schema": "huracan.market.v1.Bar"})
        await bus.connection.publish(world.sent(), b"x", {"Huracan-Epoch": "not a number"})
        await world.send(bus, 2)
        for expected in ("undecodable", "unknown"):
            delivery = await anext(inbox)
            with pytest.raises(PoisonMessage, match=expected):
                delivery.decode()
            assert (delivery.epoch, delivery.sent_ns, delivery.time_ns) == (0, 0, 0)
        assert number_of(await anext(inbox)) == 2

    run_in(world, scenario)


def _burying(world: World, bus: NatsBus) -> DeadLetters:
    """Return the dead letters of a service that nobody else has the name of."""
    ports = Ports(bus=bus, log=JetStreamLog(bus), clock=SystemClock(), store=MemoryStore(), rng=SeededRng(1))
    return DeadLetters(ports, world.name, Counter())


async def _letters(world: World, bus: NatsBus) -> list[DeadLetter]:
    records = await JetStreamLog(bus).read(DLQ, world.name, 0)
    return [record.message for record in records if isinstance(record.message, DeadLetter)]


def test_whatever_numbers_its_headers_claim_a_message_that_cannot_be_read_is_buried_and_stops_nothing(
    world: World,
) -> None:
    claims = [
        ({"Huracan-Attempt": "99999999999"}, "undecodable", 2**32 - 1),
        ({"Huracan-Attempt": "9" * 5_000}, "undecodable", 2**32 - 1),
        ({"Huracan-Attempt": "-1", "Huracan-Sent": "9" * 30 + " x"}, "undecodable", 1),
        ({"Huracan-Epoch": "99999999999999999999"}, "impossible_epoch", 1),
        ({"Huracan-Epoch": "9" * 5_000}, "impossible_epoch", 1),
    ]

    async def scenario() -> None:
        bus = await world.bus("reader")
        inbox, dead_letters = bus.inbox(), _burying(world, bus)
        inbox.consume(world.stored(), durable="reader")
        for number, (headers, reason, _) in enumerate(claims):
            data = Bar(trades=number).SerializeToString() if reason == "impossible_epoch" else bytes([255, number])
            await bus.connection.request(world.stored(), data, {"Huracan-Schema": BAR, **headers})
        await world.store(bus, 7)
        assert [await dead_letters.read(await anext(inbox)) for _ in claims] == [None] * len(claims)
        assert await take(inbox, 1) == [7]
        assert [(letter.reason, letter.attempt) for letter in await _letters(world, bus)] == [
            (reason, attempt) for _, reason, attempt in claims
        ]

    run_in(world, scenario)


@pytest.mark.parametrize("seen", ["nonsense", "[1]", '{"exec.v1.a": "x"}', "[" * 100_000])
def test_what_a_sender_says_it_had_seen_and_nobody_can_read_keeps_nothing_back(world: World, seen: str) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader", causal=True)
        inbox = bus.inbox()
        inbox.subscribe(world.sent())
        inbox.everything(world.stored())
        await bus.prepared()
        data = Bar(trades=1).SerializeToString()
        await bus.connection.publish(world.sent(), data, {"Huracan-Schema": BAR, "Huracan-After": seen})
        await world.send(bus, 2)
        assert await take(inbox, 2) == [1, 2]

    run_in(world, scenario)


def test_two_durables_each_receive_everything_and_only_what_matches(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1)
        await world.store(bus, 2, name="other")
        inboxes = [bus.inbox(), bus.inbox()]
        for name, inbox in zip("ab", inboxes, strict=True):
            inbox.consume(world.stored(), durable=name)
        await world.store(bus, 3)
        await bus.drain()
        assert [await rest(inbox) for inbox in inboxes] == [[1, 3], [1, 3]]

    run_in(world, scenario)


def test_latest_gives_the_last_of_each_subject_in_the_order_of_the_stream_then_all_that_follow(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, name="b")
        await world.store(bus, 2, name="a")
        await world.store(bus, 3, name="b")
        await world.store(bus, 4, name="c")
        inbox = bus.inbox()
        inbox.latest(world.stored("*"))
        assert await take(inbox, 3) == [2, 3, 4]
        await world.store(bus, 5, 6)
        assert await take(inbox, 2) == [5, 6]

    run_in(world, scenario)


def test_everything_begins_with_the_first_message_for_each_new_inbox(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, 2)
        for _ in range(2):
            inbox = bus.inbox()
            inbox.everything(world.stored("*"))
            assert await take(inbox, 2) == [1, 2]
            inbox.close()
            assert await rest(inbox) == []

    run_in(world, scenario)


def test_no_more_than_the_bound_is_under_way_and_a_backlog_longer_than_it_comes_in_order(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        count = reader.MAX_UNACKNOWLEDGED + 300
        for start in range(0, count, 500):
            burst = range(start, min(start + 500, count))
            await asyncio.gather(*(world.store(bus, number, name=str(number)) for number in burst))
        inbox = bus.inbox()
        inbox.consume(world.stored("*"), durable="reader")
        await until(lambda: len(inbox._queue) >= reader.MAX_UNACKNOWLEDGED)
        assert len(inbox._queue) == reader.MAX_UNACKNOWLEDGED
        numbers = await take(inbox, count)
        assert sorted(numbers) == list(range(count))
        assert inbox.dropped == 0

    run_in(world, scenario)


def test_a_message_too_large_for_the_server_is_fatal_on_either_path(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        large = DeadLetter(raw=bytes(2_000_000))
        with pytest.raises(Fatal, match="the server takes 1048576"):
            await bus.publish_acknowledged(world.stored(), large, message_id=b"1")
        with pytest.raises(Fatal, match="message was 2000"):
            await bus.publish(world.sent(), large)

    run_in(world, scenario)


def test_a_message_that_only_its_headers_make_too_large_is_fatal_to_itself_and_ends_no_connection(
    world: World,
) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        connection = bus.connection
        data = bytes(connection.max_payload - 30)  # the framing takes 12, the line beside the value 5
        await connection.request(world.stored(), data, {"X": "a" * 13})
        with pytest.raises(Fatal, match="message was 1048577 bytes with its headers, the server takes 1048576"):
            await connection.request(world.stored(), data, {"X": "a" * 14})
        await world.store(bus, 1)
        assert (connection.counts["disconnects"], connection.counts["errors"]) == (0, 0)

    run_in(world, scenario)


def test_a_message_as_large_as_the_server_takes_is_buried_by_its_beginning_and_stops_nothing(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        inbox, dead_letters = bus.inbox(), _burying(world, bus)
        inbox.consume(world.stored(), durable="reader")
        raw = b"\xff" * 1_048_300
        await bus.connection.request(world.stored(), raw, {"Huracan-Schema": BAR})
        await world.store(bus, 7)
        assert await dead_letters.read(await anext(inbox)) is None
        assert await take(inbox, 1) == [7]
        (letter,) = await _letters(world, bus)
        assert (letter.reason, letter.whole_digest) == ("undecodable", sha256(raw).digest())
        assert raw.startswith(letter.raw)
        assert len(letter.raw) > 900_000

    run_in(world, scenario)


def test_what_a_stream_refuses_is_fatal(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        subject = f"test.{world.name}"
        config = {"name": world.name, "subjects": [subject], "max_msg_size": 10, "storage": "memory"}
        await bus.connection.ask(f"$JS.API.STREAM.CREATE.{world.name}", config)
        with pytest.raises(Fatal, match="message size exceeds"):
            await bus.publish_acknowledged(subject, Bar(trades=1, volume="0.123456789"), message_id=b"1")
        await bus.connection.ask(f"$JS.API.STREAM.DELETE.{world.name}")

    run_in(world, scenario)


def test_a_subject_that_no_stream_keeps_is_recoverable(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        with pytest.raises(Recoverable, match=r"ops\.v1\.x: nobody answers"):
            await bus.publish_acknowledged("ops.v1.x", Bar(), message_id=b"1")

    run_in(world, scenario)


@pytest.mark.parametrize("subject", ["feat.v1.*", "feat.>", "feat..v1", "", "feat.v1 x", "a\r\nPUB b 0\r\n"])
def test_nothing_is_sent_on_a_malformed_subject(world: World, subject: str) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        with pytest.raises(BadInput, match="subject was"):
            await bus.publish(subject, Bar())
        with pytest.raises(BadInput, match="subject was"):
            await bus.publish_acknowledged(subject, Bar(), message_id=b"1")
        assert bus.connection._client.stats["out_msgs"] == 0

    run_in(world, scenario)


@pytest.mark.parametrize("verb", ["subscribe", "latest", "everything", "consume"])
def test_a_malformed_pattern_is_refused(world: World, verb: str) -> None:
    async def scenario() -> None:
        inbox = (await world.bus("reader")).inbox()
        options = {"durable": "x"} if verb == "consume" else {}
        with pytest.raises(BadInput, match="subject was"):
            getattr(inbox, verb)("a..b", **options)

    run_in(world, scenario)


def test_nothing_is_published_before_the_inboxes_of_its_sender_hear(world: World) -> None:
    async def scenario() -> None:
        for number in range(20):
            bus = await world.bus(f"node{number}")
            inbox = bus.inbox()
            inbox.subscribe(world.sent(str(number)))
            await world.send(bus, number, name=str(number))
            assert await take(inbox, 1) == [number]

    run_in(world, scenario)


def test_a_group_shares_what_comes_and_others_hear_all_of_it(world: World) -> None:
    async def scenario() -> None:
        members = [await world.bus(f"member{number}") for number in range(2)]
        writer = await world.bus("writer")
        inboxes = [bus.inbox() for bus in (*members, writer)]
        for inbox, group in zip(inboxes, ("g", "g", ""), strict=True):
            inbox.subscribe(world.sent("*"), group=group)
        for bus in members:
            await bus.prepared()
            await bus.connection.flush()
        await world.send(writer, *range(100))
        assert await take(inboxes[2], 100) == list(range(100))
        await until(lambda: sum(len(inbox._queue) for inbox in inboxes[:2]) == 100)
        await asyncio.gather(*(bus.drain() for bus in members))
        shared = [await rest(inbox) for inbox in inboxes[:2]]
        assert sorted(shared[0] + shared[1]) == list(range(100))
        assert all(shared)

    run_in(world, scenario)


def test_a_slow_reader_loses_the_oldest_best_effort_messages_counted_and_no_acknowledged_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "BOUND", 100)

    async def scenario() -> None:
        writer, slow = await world.bus("writer"), await world.bus("slow")
        inbox = slow.inbox()
        inbox.subscribe(world.sent())
        inbox.consume(world.stored(), durable="slow")
        await slow.prepared()
        await slow.connection.flush()
        await asyncio.gather(*(world.store(writer, 1_000 + number) for number in range(300)))
        await until(lambda: len(inbox._queue) == 300)
        await world.send(writer, *range(500))
        await until(lambda: inbox.dropped == 400)
        await slow.drain()
        numbers = await rest(inbox)
        assert [number for number in numbers if number < 1_000] == list(range(400, 500))
        assert sorted(number for number in numbers if number >= 1_000) == list(range(1_000, 1_300))

    run_in(world, scenario)
