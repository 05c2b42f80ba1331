"""The bus on the real server: what is acknowledged is stored once and reaches its readers, to an orderly end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from huracan.bus import queue
from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus, NatsDelivery, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import STREAMS, make_streams
from huracan.clock import MarketClock, SystemClock
from huracan.contracts.market import Bar
from huracan.contracts.ops import DeadLetter
from huracan.errors import BadInput, Fatal, PoisonMessage, Recoverable
from huracan.ids import derived_id

START_NS = 1_700_000_000_000_000_000


class RunningServer(Protocol):
    """A server that runs."""

    @property
    def url(self) -> str: ...


class World:
    """Connections to the shared server, and subjects that no other test uses."""

    def __init__(self, url: str) -> None:
        self.name = secrets.token_hex(6)
        self.connections: list[Connection] = []
        self._url = urlsplit(url)

    def login(self, name: str) -> NatsLogin:
        assert self._url.username
        assert self._url.password
        return NatsLogin(
            url=f"nats://{self._url.hostname}:{self._url.port}",
            name=f"{name}-{self.name}",
            user=self._url.username,
            password=SecretStr(self._url.password),
        )

    async def connect(self, name: str) -> Connection:
        connection = Connection(self.login(name))
        await connection.open()
        self.connections.append(connection)
        return connection

    async def bus(self, name: str, clock: MarketClock | None = None, *, causal: bool = False) -> NatsBus:
        return NatsBus(await self.connect(name), wall=SystemClock(), clock=clock, causal=causal)

    def stored(self, name: str = "a") -> str:
        """Return a subject of the acknowledged path."""
        return f"exec.v1.{self.name}.{name}"

    def sent(self, name: str = "a") -> str:
        """Return a best-effort subject."""
        return f"feat.v1.micro.{self.name}.{name}"

    async def store(self, bus: NatsBus, *numbers: int, name: str = "a") -> None:
        for number in numbers:
            message_id = derived_id(self.name, number)
            await bus.publish_acknowledged(self.stored(name), Bar(trades=number), message_id=message_id)

    async def send(self, bus: NatsBus, *numbers: int, name: str = "a") -> None:
        for number in numbers:
            await bus.publish(self.sent(name), Bar(trades=number))


@pytest.fixture
def world(nats_server: RunningServer) -> World:
    return World(nats_server.url)


def _run(world: World, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await make_streams(await world.connect("admin"))
            try:
                await scenario()
            finally:
                await asyncio.gather(*(connection.close() for connection in world.connections))

    asyncio.run(main())


def _number(delivery: NatsDelivery) -> int:
    message = delivery.decode()
    assert isinstance(message, Bar)
    return message.trades


async def _take(inbox: NatsInbox, count: int, *, acknowledge: bool = True) -> list[int]:
    numbers = []
    for _ in range(count):
        delivery = await anext(inbox)
        numbers.append(_number(delivery))
        if acknowledge:
            delivery.ack()
    return numbers


async def _rest(inbox: NatsInbox) -> list[int]:
    """Return what comes until the inbox ends."""
    numbers = []
    async for delivery in inbox:
        numbers.append(_number(delivery))
        delivery.ack()
    return numbers


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.01)


async def _unacknowledged(bus: NatsBus, inbox: NatsInbox) -> int:
    """Return how many messages the server waits to hear of."""
    reading = inbox._readers[0].reading
    state: Any = await bus.connection.ask(f"$JS.API.CONSUMER.INFO.{reading.stream}.{reading.name}")
    return int(state["num_ack_pending"])


# The acknowledged path.


def test_streams_are_made_once_and_brought_up_to_date_as_often_as_one_likes(world: World) -> None:
    async def scenario() -> None:
        connection = world.connections[0]
        await make_streams(connection)
        for stream in STREAMS:
            found: Any = await connection.ask(f"$JS.API.STREAM.INFO.{stream.name}")
            assert tuple(found["config"]["subjects"]) == stream.subjects

    _run(world, scenario)


def test_an_acknowledged_message_is_stored_once_under_its_id(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        first = await bus.store(world.stored(), Bar(trades=1), message_id=derived_id(world.name, 1))
        assert await bus.store(world.stored(), Bar(trades=1), message_id=derived_id(world.name, 1)) == first
        await world.store(bus, 2, 1, 2)
        inbox = bus.inbox()
        inbox.consume(world.stored("*"), durable="reader")
        assert await _take(inbox, 2) == [1, 2]
        await bus.drain()
        assert await _rest(inbox) == []
        assert bus.counts["acknowledged"] == 5

    _run(world, scenario)


def test_many_acknowledged_messages_go_through_the_window_at_once(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        await asyncio.gather(*(world.store(bus, number) for number in range(2_000)))
        inbox = bus.inbox()
        inbox.everything(world.stored("*"))
        assert sorted(await _take(inbox, 2_000)) == list(range(2_000))

    _run(world, scenario)


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

    _run(world, scenario)


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
        assert _number(await anext(inbox)) == 2

    _run(world, scenario)


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
        assert [await _rest(inbox) for inbox in inboxes] == [[1, 3], [1, 3]]

    _run(world, scenario)


def test_latest_gives_the_last_of_each_subject_in_the_order_of_the_stream_then_all_that_follow(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, name="b")
        await world.store(bus, 2, name="a")
        await world.store(bus, 3, name="b")
        await world.store(bus, 4, name="c")
        inbox = bus.inbox()
        inbox.latest(world.stored("*"))
        assert await _take(inbox, 3) == [2, 3, 4]
        await world.store(bus, 5, 6)
        assert await _take(inbox, 2) == [5, 6]

    _run(world, scenario)


def test_everything_begins_with_the_first_message_for_each_new_inbox(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, 2)
        for _ in range(2):
            inbox = bus.inbox()
            inbox.everything(world.stored("*"))
            assert await _take(inbox, 2) == [1, 2]
            inbox.close()
            assert await _rest(inbox) == []

    _run(world, scenario)


def test_no_more_than_the_bound_is_under_way_and_a_backlog_longer_than_it_comes_in_order(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        count = reader.MAX_UNACKNOWLEDGED + 300
        for start in range(0, count, 500):
            burst = range(start, min(start + 500, count))
            await asyncio.gather(*(world.store(bus, number, name=str(number)) for number in burst))
        inbox = bus.inbox()
        inbox.consume(world.stored("*"), durable="reader")
        await _until(lambda: len(inbox._queue) >= reader.MAX_UNACKNOWLEDGED)
        assert len(inbox._queue) == reader.MAX_UNACKNOWLEDGED
        numbers = await _take(inbox, count)
        assert sorted(numbers) == list(range(count))
        assert inbox.dropped == 0

    _run(world, scenario)


def test_a_message_too_large_for_the_server_is_fatal_on_either_path(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        large = DeadLetter(raw=bytes(2_000_000))
        with pytest.raises(Fatal, match="the server takes 1048576"):
            await bus.publish_acknowledged(world.stored(), large, message_id=b"1")
        with pytest.raises(Fatal, match="message was 2000"):
            await bus.publish(world.sent(), large)

    _run(world, scenario)


def test_what_a_stream_refuses_is_fatal(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        subject = f"test.{world.name}"
        config = {"name": world.name, "subjects": [subject], "max_msg_size": 10, "storage": "memory"}
        await bus.connection.ask(f"$JS.API.STREAM.CREATE.{world.name}", config)
        with pytest.raises(Fatal, match="message size exceeds"):
            await bus.publish_acknowledged(subject, Bar(trades=1, volume="0.123456789"), message_id=b"1")
        await bus.connection.ask(f"$JS.API.STREAM.DELETE.{world.name}")

    _run(world, scenario)


def test_a_subject_that_no_stream_keeps_is_recoverable(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        with pytest.raises(Recoverable, match=r"ops\.v1\.x: nobody answers"):
            await bus.publish_acknowledged("ops.v1.x", Bar(), message_id=b"1")

    _run(world, scenario)


@pytest.mark.parametrize("subject", ["feat.v1.*", "feat.>", "feat..v1", "", "feat.v1 x", "a\r\nPUB b 0\r\n"])
def test_nothing_is_sent_on_a_malformed_subject(world: World, subject: str) -> None:
    async def scenario() -> None:
        bus = await world.bus("writer")
        with pytest.raises(BadInput, match="subject was"):
            await bus.publish(subject, Bar())
        with pytest.raises(BadInput, match="subject was"):
            await bus.publish_acknowledged(subject, Bar(), message_id=b"1")
        assert bus.connection._client.stats["out_msgs"] == 0

    _run(world, scenario)


@pytest.mark.parametrize("verb", ["subscribe", "latest", "everything", "consume"])
def test_a_malformed_pattern_is_refused(world: World, verb: str) -> None:
    async def scenario() -> None:
        inbox = (await world.bus("reader")).inbox()
        options = {"durable": "x"} if verb == "consume" else {}
        with pytest.raises(BadInput, match="subject was"):
            getattr(inbox, verb)("a..b", **options)

    _run(world, scenario)


# Best effort.


def test_nothing_is_published_before_the_inboxes_of_its_sender_hear(world: World) -> None:
    async def scenario() -> None:
        for number in range(20):
            bus = await world.bus(f"node{number}")
            inbox = bus.inbox()
            inbox.subscribe(world.sent(str(number)))
            await world.send(bus, number, name=str(number))
            assert await _take(inbox, 1) == [number]

    _run(world, scenario)


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
        assert await _take(inboxes[2], 100) == list(range(100))
        await _until(lambda: sum(len(inbox._queue) for inbox in inboxes[:2]) == 100)
        await asyncio.gather(*(bus.drain() for bus in members))
        shared = [await _rest(inbox) for inbox in inboxes[:2]]
        assert sorted(shared[0] + shared[1]) == list(range(100))
        assert all(shared)

    _run(world, scenario)


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
        await _until(lambda: len(inbox._queue) == 300)
        await world.send(writer, *range(500))
        await _until(lambda: inbox.dropped == 400)
        await slow.drain()
        numbers = await _rest(inbox)
        assert [number for number in numbers if number < 1_000] == list(range(400, 500))
        assert sorted(number for number in numbers if number >= 1_000) == list(range(1_000, 1_300))

    _run(world, scenario)


# The end.


def test_a_drained_inbox_ends_after_what_it_holds_and_the_backlog_and_publishing_goes_on(world: World) -> None:
    async def scenario() -> None:
        writer, bus = await world.bus("writer"), await world.bus("drained")
        listening = writer.inbox()
        listening.subscribe(world.sent())
        await writer.prepared()
        await writer.connection.flush()
        await asyncio.gather(*(world.store(writer, number) for number in range(700)))
        inbox = bus.inbox()
        inbox.consume(world.stored(), durable="drained")
        await bus.drain()
        await world.store(writer, 5_000)
        assert sorted(await _rest(inbox)) == list(range(700))
        await world.send(bus, 1)
        assert await _take(listening, 1) == [1]
        again = writer.inbox()
        again.consume(world.stored(), durable="drained")
        assert await _take(again, 1) == [5_000]

    _run(world, scenario)


def test_acknowledgements_and_last_messages_are_not_lost_when_a_connection_closes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ACK_WAIT_S", 0.3)

    async def scenario() -> None:
        writer = await world.bus("writer")
        heard = writer.inbox()
        heard.subscribe(world.sent())
        await world.store(writer, *range(100))
        for number in range(10):
            bus = await world.bus(f"reader{number}")
            inbox = bus.inbox()
            inbox.consume(world.stored(), durable=f"reader{number}")
            assert await _take(inbox, 100) == list(range(100))
            await world.send(bus, number)
            await bus.connection.close()
            assert await _take(heard, 1) == [number]
            after = writer.inbox()
            after.consume(world.stored(), durable=f"reader{number}")
            await writer.prepared()
            assert await _unacknowledged(writer, after) == 0
            await after.drain()
            assert await _rest(after) == []

    _run(world, scenario)


def test_a_flush_returns_after_all_that_was_sent_before_it(world: World) -> None:
    async def scenario() -> None:
        writer, listener = await world.connect("writer"), await world.connect("listener")
        for number in range(50):
            heard = asyncio.Event()

            async def receive(_: object, heard: asyncio.Event = heard) -> None:
                heard.set()

            subject = world.sent(str(number))
            await listener.subscribe(subject, receive)
            await listener.flush()
            await writer.publish(subject, b"x")
            await writer.flush()
            await listener.flush()
            await asyncio.sleep(0)
            assert heard.is_set()

    _run(world, scenario)


def test_what_a_killed_reader_did_not_acknowledge_comes_to_whoever_takes_over_and_the_rest_never(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ACK_WAIT_S", 0.3)

    async def scenario() -> None:
        writer, killed, other = await world.bus("writer"), await world.bus("killed"), await world.bus("other")
        await world.store(writer, *range(10))
        inbox = killed.inbox()
        inbox.consume(world.stored(), durable="reader")
        deliveries = [await anext(inbox) for _ in range(8)]
        for delivery in deliveries:
            if _number(delivery) % 2:
                delivery.ack()
        await killed.connection.flush()
        while await _unacknowledged(killed, inbox) != 6:  # noqa: ASYNC110 - the server's affair
            await asyncio.sleep(0.01)
        killed.connection._client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        await killed.connection._client.close()
        after = other.inbox()
        after.consume(world.stored(), durable="reader")
        await world.store(writer, 10)
        assert sorted(await _take(after, 7)) == [0, 2, 4, 6, 8, 9, 10]
        await other.drain()
        assert await _rest(after) == []

    _run(world, scenario)


def test_a_message_in_hand_is_not_handed_on_again_however_long_it_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ACK_WAIT_S", 0.05)

    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, 2)
        inbox = bus.inbox()
        inbox.consume(world.stored(), durable="reader")
        held = [await anext(inbox) for _ in range(2)]
        told = reader.Reader._tell
        working: list[bytes] = []

        def tell(self: reader.Reader, message: Any, what: bytes) -> None:
            working.append(what)
            told(self, message, what)

        monkeypatch.setattr(reader.Reader, "_tell", tell)
        await _until(lambda: working.count(b"+WPI") >= 6)
        assert len(inbox._queue) == 0
        for delivery in held:
            delivery.ack()
        await bus.drain()
        assert await _rest(inbox) == []

    _run(world, scenario)


def test_a_follower_whose_consumer_is_deleted_goes_on_where_it_was(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, 2)
        inbox = bus.inbox()
        inbox.everything(world.stored())
        assert await _take(inbox, 2) == [1, 2]
        reading = inbox._readers[0].reading
        for number in (3, 4, 5):
            await bus.connection.ask(f"$JS.API.CONSUMER.DELETE.{reading.stream}.{reading.name}")
            await world.store(bus, number)
            assert await _take(inbox, 1) == [number]

    _run(world, scenario)


# The order of a replay.


ROUNDS = 60


async def _echo(world: World, relay: NatsBus, inbox: NatsInbox) -> None:
    """Send, best effort, the number of each acknowledged message that comes."""
    for number in range(ROUNDS):
        assert await _take(inbox, 1) == [number]
        await world.send(relay, number)


async def _order(inbox: NatsInbox) -> list[tuple[bool, int]]:
    """Return, in the order in which they are handed on, whether messages are acknowledged ones, and their numbers."""
    order = []
    for _ in range(2 * ROUNDS):
        delivery = await anext(inbox)
        order.append((bool(delivery.sequence), _number(delivery)))
        delivery.ack()
    return order


def test_a_replays_best_effort_message_never_overtakes_what_its_sender_had_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, hear = reader.Reader._receive, NatsInbox._receive
    late: list[Msg] = []
    heard: list[Msg] = []

    async def receive_late(self: reader.Reader, message: Msg) -> None:
        if "sink" in self.reading.name and message.reply.startswith("$JS.ACK"):
            late.append(message)
        else:
            await receive(self, message)

    async def count(self: NatsInbox, message: Msg) -> None:
        heard.append(message)
        await hear(self, message)

    monkeypatch.setattr(reader, "ACK_WAIT_S", 60.0)
    monkeypatch.setattr(reader.Reader, "_receive", receive_late)
    monkeypatch.setattr(NatsInbox, "_receive", count)

    async def scenario() -> None:
        source, relay, sink = [await world.bus(name, causal=True) for name in ("source", "relay", "sink")]
        seen, inbox = relay.inbox(), sink.inbox()
        seen.consume(world.stored(), durable="relay")
        inbox.consume(world.stored(), durable="sink")
        inbox.subscribe(world.sent())
        await asyncio.gather(relay.prepared(), sink.prepared())
        await sink.connection.flush()

        async def release() -> None:
            """Let what is stored come at once, or some time after the best-effort message that must not overtake it."""
            for number in range(ROUNDS):
                wanted = number + number % 7
                await _until(lambda: len(late) > number and (not number % 7 or len(heard) > min(wanted, ROUNDS - 1)))  # noqa: B023
                await receive(inbox._readers[0], late[number])

        work = (release(), _echo(world, relay, seen), world.store(source, *range(ROUNDS)), _order(inbox))
        *_, order = await asyncio.gather(*work)
        places = {entry: place for place, entry in enumerate(order)}
        assert len(places) == 2 * ROUNDS
        assert all(places[True, number] < places[False, number] for number in range(ROUNDS))
        assert [number for stored, number in order if not stored] == list(range(ROUNDS))

    _run(world, scenario)


def test_what_a_predecessor_had_acknowledged_is_not_waited_for_in_a_replay(world: World) -> None:
    async def scenario() -> None:
        writer, before, after = [await world.bus(name, causal=True) for name in ("writer", "before", "after")]
        inbox = before.inbox()
        inbox.consume(world.stored(), durable="reader")
        await world.store(writer, 1, 2)
        assert await _take(inbox, 2) == [1, 2]
        await before.drain()
        await before.connection.close()
        inbox = after.inbox()
        inbox.consume(world.stored(), durable="reader")
        inbox.subscribe(world.sent())
        await after.prepared()
        await after.connection.flush()
        await world.send(writer, 3)
        assert await _take(inbox, 1) == [3]

    _run(world, scenario)


def test_the_senders_time_is_heard_when_a_message_is_handed_out_and_not_before(world: World) -> None:
    async def scenario() -> None:
        leads = MarketClock(START_NS + 5, speed=0, leads=True)
        follows = MarketClock(START_NS, speed=0, leads=False)
        leader, follower = await world.bus("leader", leads), await world.bus("follower", follows)
        inbox = follower.inbox()
        inbox.subscribe(world.sent())
        await follower.prepared()
        await follower.connection.flush()
        await world.send(leader, 1)
        await _until(lambda: len(inbox._queue) == 1)
        assert follows.now_ns() == START_NS
        assert await _take(inbox, 1) == [1]
        assert follows.now_ns() == START_NS + 5

    _run(world, scenario)
