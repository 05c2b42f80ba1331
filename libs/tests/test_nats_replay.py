"""The bus on the real server in a replay: order and time are the senders'."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus, NatsInbox
from huracan.clock import MarketClock

from .nats_world import START_NS, RunningServer, World, number_of, run_in, take, until

ROUNDS = 60


@pytest.fixture
def world(nats_server: RunningServer) -> World:
    return World(nats_server.url)


async def _echo(world: World, relay: NatsBus, inbox: NatsInbox) -> None:
    """Send, best effort, the number of each acknowledged message that comes."""
    for number in range(ROUNDS):
        assert await take(inbox, 1) == [number]
        await world.send(relay, number)


async def _order(inbox: NatsInbox) -> list[tuple[bool, int]]:
    """Return, in the order in which they are handed on, whether messages are acknowledged ones, and their numbers."""
    order = []
    for _ in range(2 * ROUNDS):
        delivery = await anext(inbox)
        order.append((bool(delivery.sequence), number_of(delivery)))
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
                await until(lambda: len(late) > number and (not number % 7 or len(heard) > min(wanted, ROUNDS - 1)))  # noqa: B023
                await receive(inbox._readers[0], late[number])

        work = (release(), _echo(world, relay, seen), world.store(source, *range(ROUNDS)), _order(inbox))
        *_, order = await asyncio.gather(*work)
        places = {entry: place for place, entry in enumerate(order)}
        assert len(places) == 2 * ROUNDS
        assert all(places[True, number] < places[False, number] for number in range(ROUNDS))
        assert [number for stored, number in order if not stored] == list(range(ROUNDS))

    run_in(world, scenario)


def test_what_a_predecessor_had_acknowledged_is_not_waited_for_in_a_replay(world: World) -> None:
    async def scenario() -> None:
        writer, before, after = [await world.bus(name, causal=True) for name in ("writer", "before", "after")]
        inbox = before.inbox()
        inbox.consume(world.stored(), durable="reader")
        await world.store(writer, 1, 2)
        assert await take(inbox, 2) == [1, 2]
        await before.drain()
        await before.connection.close()
        inbox = after.inbox()
        inbox.consume(world.stored(), durable="reader")
        inbox.subscribe(world.sent())
        await after.prepared()
        await after.connection.flush()
        await world.send(writer, 3)
        assert await take(inbox, 1) == [3]

    run_in(world, scenario)


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
        await until(lambda: len(inbox._queue) == 1)
        assert follows.now_ns() == START_NS
        assert await take(inbox, 1) == [1]
        assert follows.now_ns() == START_NS + 5

    run_in(world, scenario)
