"""The bus in memory: best effort to subscribers, and a stored, acknowledged path for what must not be lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.queue import DeliveryQueue
from huracan.bus.request import request
from huracan.bus.transport import PERFECT, Transport
from huracan.contracts import codec

HUB = "bus"
"""Name of the bus itself as a node."""
MAX_UNACKNOWLEDGED = 1_024
"""Messages of the acknowledged path under way to one consumer; past it the rest wait in the stream."""
REDELIVER_AFTER_S = 0.2
"""Send an unacknowledged message again after this long, when the transport may have lost it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One message on its way."""

    subject: str
    schema: str
    epoch: int
    data: bytes
    attempt: int = 1


class MemoryDelivery:
    """One message as it reached an inbox."""

    __slots__ = ("_on_ack", "_stored")

    def __init__(self, stored: Stored, on_ack: Callable[[], None] | None = None) -> None:
        self._stored = stored
        self._on_ack = on_ack

    @property
    def subject(self) -> str:
        """Return the subject it was published on."""
        return self._stored.subject

    @property
    def epoch(self) -> int:
        """Return the epoch its writer put into the header."""
        return self._stored.epoch

    @property
    def attempt(self) -> int:
        """Return which time it comes."""
        return self._stored.attempt

    @property
    def raw(self) -> tuple[str, bytes]:
        """Return schema name and bytes."""
        return self._stored.schema, self._stored.data

    def decode(self) -> Message:
        """Return the message; raise PoisonMessage when it cannot be read."""
        return codec.decode(self._stored.schema, self._stored.data)

    def ack(self) -> None:
        """Say that it is dealt with."""
        if self._on_ack is not None:
            self._on_ack()


class _Consumer:
    """The place of one reader in the stream of acknowledged messages."""

    def __init__(self, bus: MemoryBus, pattern: str) -> None:
        self._bus = bus
        self._pattern = pattern
        self._next = 0
        self._unacknowledged: dict[int, Stored] = {}
        self._inbox: MemoryInbox | None = None

    def attach(self, inbox: MemoryInbox) -> None:
        """Deliver to this inbox from now on, first of all what was never acknowledged."""
        self._inbox = inbox
        for index in list(self._unacknowledged):
            self._send(index)
        self.pump()

    def start_at_last(self) -> None:
        """Begin with the last message of each matching subject."""
        last = {stored.subject: index for index, stored in enumerate(self._bus.stream) if self._wants(stored)}
        self._next = len(self._bus.stream)
        self._unacknowledged = {index: self._bus.stream[index] for index in sorted(last.values())}

    def pump(self) -> None:
        """Send what the stream has and the reader has room for."""
        while self._next < len(self._bus.stream) and len(self._unacknowledged) < MAX_UNACKNOWLEDGED:
            index, stored = self._next, self._bus.stream[self._next]
            self._next += 1
            if self._wants(stored):
                self._unacknowledged[index] = stored
                self._send(index)

    def _wants(self, stored: Stored) -> bool:
        return subjects.matches(self._pattern, stored.subject)

    def _send(self, index: int) -> None:
        inbox = self._inbox
        if inbox is None or inbox.closed:
            return
        delivery = MemoryDelivery(
            self._unacknowledged[index],
            lambda: self._bus.transport.carry(inbox.node, HUB, lambda: self._acknowledged(index)),
        )
        self._bus.transport.carry(HUB, inbox.node, lambda: inbox.put(delivery, stored=True))
        if self._bus.transport.faulty:
            loop = asyncio.get_running_loop()
            loop.call_later(REDELIVER_AFTER_S, lambda: self._redeliver(index, inbox))

    def _redeliver(self, index: int, inbox: MemoryInbox) -> None:
        if index in self._unacknowledged and self._inbox is inbox:
            self._send(index)

    def _acknowledged(self, index: int) -> None:
        self._unacknowledged.pop(index, None)
        self.pump()


class MemoryInbox:
    """One first-in-first-out queue over any number of subjects."""

    def __init__(self, bus: MemoryBus, node: str) -> None:
        self.node = node
        self.closed = False
        self._bus = bus
        self._queue: DeliveryQueue[MemoryDelivery] = DeliveryQueue()

    def subscribe(self, pattern: str, *, group: str = "") -> None:
        """Receive what is published from now on; members of a group share the messages."""
        subjects.check(pattern)
        self._bus.subscriptions.append((pattern, group, self))

    def consume(self, pattern: str, *, durable: str) -> None:
        """Receive the acknowledged path from the first message this durable has not acknowledged."""
        subjects.check(pattern)
        consumer = self._bus.durables.get((durable, pattern))
        if consumer is None:
            consumer = self._bus.durables[durable, pattern] = _Consumer(self._bus, pattern)
        consumer.attach(self)

    def latest(self, pattern: str) -> None:
        """Receive the last acknowledged message of each matching subject, then all that follow."""
        consumer = self._follow(pattern)
        consumer.start_at_last()
        consumer.attach(self)

    def everything(self, pattern: str) -> None:
        """Receive the acknowledged path from its first message on."""
        self._follow(pattern).attach(self)

    def _follow(self, pattern: str) -> _Consumer:
        subjects.check(pattern)
        consumer = _Consumer(self._bus, pattern)
        self._bus.followers.append((consumer, self))
        return consumer

    @property
    def dropped(self) -> int:
        """Return how many best-effort messages went because the inbox was full."""
        return self._queue.dropped

    def put(self, delivery: MemoryDelivery, *, stored: bool = False) -> None:
        """Append a message, unless closed."""
        if not self.closed:
            self._queue.put(delivery, stored=stored)

    def __aiter__(self) -> AsyncIterator[MemoryDelivery]:
        """Iterate over messages as they come, until drained."""
        return self

    async def __anext__(self) -> MemoryDelivery:
        """Wait for the next message; end once drained."""
        taken = await self._queue.take(1)
        if not taken:
            raise StopAsyncIteration
        return taken[0]

    async def take(self, limit: int) -> list[MemoryDelivery]:
        """Wait for a message and return all that are here, at most `limit`; none once drained."""
        return await self._queue.take(limit)

    def drain(self) -> None:
        """Stop receiving; what is here can still be taken."""
        self.close()
        self._queue.end()

    def close(self) -> None:
        """Stop receiving."""
        self.closed = True
        self._bus.forget(self)


class MemoryBus:
    """All nodes' messages in one process. Each node gets its own `Bus` port from `node`."""

    def __init__(self, transport: Transport = PERFECT) -> None:
        self.transport = transport
        self.subscriptions: list[tuple[str, str, MemoryInbox]] = []
        self.durables: dict[tuple[str, str], _Consumer] = {}
        self.followers: list[tuple[_Consumer, MemoryInbox]] = []
        self.inboxes: list[MemoryInbox] = []
        self.stream: list[Stored] = []
        self._ids: set[bytes] = set()
        self._turns: Counter[tuple[str, str]] = Counter()

    def node(self, name: str) -> NodeBus:
        """Return the bus as one node sees it."""
        return NodeBus(self, name)

    def forget(self, inbox: MemoryInbox) -> None:
        """Drop what a closed inbox asked for; durable places in the stream stay."""
        self.subscriptions = [entry for entry in self.subscriptions if entry[2] is not inbox]
        self.followers = [entry for entry in self.followers if entry[1] is not inbox]
        self.inboxes = [entry for entry in self.inboxes if entry is not inbox]

    def disconnect(self, node: str) -> None:
        """Close every inbox of a node, as its end does; else its groups would go on sharing with the dead."""
        for inbox in [inbox for inbox in self.inboxes if inbox.node == node]:
            inbox.close()

    def send(self, source: str, stored: Stored) -> None:
        """Deliver to every subscriber, and to one member of each group."""
        groups: dict[tuple[str, str], list[MemoryInbox]] = {}
        for pattern, name, inbox in self.subscriptions:
            if subjects.matches(pattern, stored.subject):
                if name:
                    groups.setdefault((pattern, name), []).append(inbox)
                else:
                    self._carry(source, inbox, stored)
        for group, members in groups.items():
            self._turns[group] += 1
            self._carry(source, members[self._turns[group] % len(members)], stored)

    def _carry(self, source: str, inbox: MemoryInbox, stored: Stored) -> None:
        self.transport.carry(source, inbox.node, lambda: inbox.put(MemoryDelivery(stored)))

    def keep(self, stored: Stored, message_id: bytes) -> None:
        """Store a message once under its id and hand it on."""
        if message_id in self._ids:
            return
        self._ids.add(message_id)
        self.stream.append(stored)
        self.send(HUB, stored)
        for consumer in list(self.durables.values()):
            consumer.pump()
        for consumer, _ in list(self.followers):
            consumer.pump()


class NodeBus:
    """The Bus port of one node."""

    def __init__(self, bus: MemoryBus, name: str) -> None:
        self._bus = bus
        self._name = name

    async def publish(self, subject: str, message: Message, *, epoch: int = 0) -> None:
        """Send at most once."""
        self._bus.send(self._name, _stored(subject, message, epoch))

    async def publish_acknowledged(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        """Store once under the id; raise Recoverable when no acknowledgement came."""
        stored = _stored(subject, message, epoch)
        transport = self._bus.transport
        await request(transport, self._name, HUB, lambda: self._bus.keep(stored, message_id))

    def inbox(self) -> MemoryInbox:
        """Return a new, empty inbox."""
        inbox = MemoryInbox(self._bus, self._name)
        self._bus.inboxes.append(inbox)
        return inbox

    async def drain(self) -> None:
        """End every inbox of this node once it is empty."""
        for inbox in [inbox for inbox in self._bus.inboxes if inbox.node == self._name]:
            inbox.drain()


def _stored(subject: str, message: Message, epoch: int) -> Stored:
    return Stored(subject, codec.schema_of(message), epoch, codec.encode(message))
