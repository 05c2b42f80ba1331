"""The bus on the real server, to an orderly end or a kill: what is in hand is neither lost nor handed on twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus, NatsInbox

from .nats_world import RunningServer, World, number_of, rest, run_in, take, until


@pytest.fixture
def world(nats_server: RunningServer) -> World:
    return World(nats_server.url)


async def _unacknowledged(bus: NatsBus, inbox: NatsInbox) -> int:
    """Return how many messages the server waits to hear of."""
    reading = inbox._readers[0].reading
    state: Any = await bus.connection.ask(f"$JS.API.CONSUMER.INFO.{reading.stream}.{reading.name}")
    return int(state["num_ack_pending"])


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
        assert sorted(await rest(inbox)) == list(range(700))
        await world.send(bus, 1)
        assert await take(listening, 1) == [1]
        again = writer.inbox()
        again.consume(world.stored(), durable="drained")
        assert await take(again, 1) == [5_000]

    run_in(world, scenario)


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
            assert await take(inbox, 100) == list(range(100))
            await world.send(bus, number)
            await bus.connection.close()
            assert await take(heard, 1) == [number]
            after = writer.inbox()
            after.consume(world.stored(), durable=f"reader{number}")
            await writer.prepared()
            assert await _unacknowledged(writer, after) == 0
            await after.drain()
            assert await rest(after) == []

    run_in(world, scenario)


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

    run_in(world, scenario)


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
            if number_of(delivery) % 2:
                delivery.ack()
        await killed.connection.flush()
        while await _unacknowledged(killed, inbox) != 6:  # noqa: ASYNC110 - the server's affair
            await asyncio.sleep(0.01)
        killed.connection._client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        await killed.connection._client.close()
        after = other.inbox()
        after.consume(world.stored(), durable="reader")
        await world.store(writer, 10)
        assert sorted(await take(after, 7)) == [0, 2, 4, 6, 8, 9, 10]
        await other.drain()
        assert await rest(after) == []

    run_in(world, scenario)


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
        await until(lambda: working.count(b"+WPI") >= 6)
        assert len(inbox._queue) == 0
        for delivery in held:
            delivery.ack()
        await bus.drain()
        assert await rest(inbox) == []

    run_in(world, scenario)


def test_a_follower_whose_consumer_is_deleted_goes_on_where_it_was(world: World) -> None:
    async def scenario() -> None:
        bus = await world.bus("reader")
        await world.store(bus, 1, 2)
        inbox = bus.inbox()
        inbox.everything(world.stored())
        assert await take(inbox, 2) == [1, 2]
        reading = inbox._readers[0].reading
        for number in (3, 4, 5):
            await bus.connection.ask(f"$JS.API.CONSUMER.DELETE.{reading.stream}.{reading.name}")
            await world.store(bus, number)
            assert await take(inbox, 1) == [number]

    run_in(world, scenario)
