"""The Bus port on NATS."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol

from google.protobuf.message import Message
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from huracan.bus import subjects
from huracan.bus.nats.connection import Connection, answer_of
from huracan.bus.nats.reader import Reader, Reading, Start, StreamMessage
from huracan.bus.nats.streams import stream_of
from huracan.bus.queue import DeliveryQueue
from huracan.contracts import codec
from huracan.contracts.ops import LAST_ATTEMPT
from huracan.errors import Fatal, PoisonMessage, Recoverable
from huracan.ports import Clock

SCHEMA = "Huracan-Schema"
EPOCH = "Huracan-Epoch"
ATTEMPT = "Huracan-Attempt"
"""Of what is replayed from the dead letters: which time it comes."""
SENT = "Huracan-Sent"
"""The sender's clocks at publishing, in nanoseconds: the wall's, then the market's where that is another."""
AFTER = "Huracan-After"
"""In a replay: what the sender had seen of the acknowledged path, as {subject: stream sequence}."""
MESSAGE_ID = "Nats-Msg-Id"

PREPARE_TIMEOUT_S = 5.0
"""Longest wait, before a drain, for subscriptions that are still being made."""
OUTBOUND_BOUND = 4_096
"""Subjects whose newest message waits while the server is away; past it the one that waits longest goes."""


class FollowedClock(Clock, Protocol):
    """A clock that also learns the time from what others say."""

    def heard(self, ns: int) -> None:
        """Take note of another's time."""


class NatsDelivery:
    """One message as it reached an inbox."""

    __slots__ = ("_headers", "_message", "_on_ack", "sequence")

    def __init__(self, message: Msg, sequence: int = 0, on_ack: Callable[[], None] | None = None) -> None:
        self.sequence = sequence
        """Place in the stream of the acknowledged path; 0 for best effort."""
        self._message = message
        self._headers: dict[str, str] = message.headers or {}
        self._on_ack = on_ack

    @property
    def subject(self) -> str:
        """Return the subject it was published on."""
        return self._message.subject

    @property
    def epoch(self) -> int:
        """Return the epoch its writer put into the header."""
        return _number(self._headers.get(EPOCH, ""))

    @property
    def sent_ns(self) -> int:
        """Return the sender's wall clock at publishing, 0 when it did not say."""
        return _time(self._headers.get(SENT, "").partition(" ")[0])

    @property
    def time_ns(self) -> int:
        """Return the sender's market clock at publishing, 0 when it did not say."""
        return _time(self._headers.get(SENT, "").partition(" ")[2])

    @property
    def after(self) -> dict[str, int]:
        """Return what the sender had seen of the acknowledged path, in a replay; nothing when it cannot be read."""
        try:
            seen = json.loads(self._headers.get(AFTER, "{}"))
        except (ValueError, RecursionError):
            return {}
        return seen if isinstance(seen, dict) and all(type(number) is int for number in seen.values()) else {}

    @property
    def attempt(self) -> int:
        """Return which time it comes, `LAST_ATTEMPT` at most: 1 unless it was replayed."""
        return min(_number(self._headers.get(ATTEMPT, "")) or 1, LAST_ATTEMPT)

    @property
    def raw(self) -> tuple[str, bytes]:
        """Return schema name and bytes."""
        return self._headers.get(SCHEMA, ""), self._message.data

    def decode(self) -> Message:
        """Return the message; raise PoisonMessage when it cannot be read, or its epoch is none."""
        if self.epoch == _TOO_LARGE:
            raise PoisonMessage("impossible_epoch", f"{EPOCH} was {self._headers[EPOCH][:_LONGEST]}, beyond 64 bits")
        return codec.decode(*self.raw)

    def ack(self) -> None:
        """Say that it is dealt with."""
        if self._on_ack is not None:
            self._on_ack()


_TOO_LARGE = 1 << 64
_LONGEST = len(str(_TOO_LARGE)) + 1


def _number(text: str) -> int:
    """Return the number in a header, whoever wrote it: `_TOO_LARGE` at most, 0 where there is none."""
    return min(int(text[:_LONGEST]), _TOO_LARGE) if text.isdecimal() else 0


def _time(text: str) -> int:
    number = _number(text)
    return number if number < 1 << 63 else 0


class _Seen:
    """What a node knows of the acknowledged path: the newest stream sequence of each subject (a causal past)."""

    def __init__(self) -> None:
        self.sequences: dict[str, int] = {}
        self._text: str | None = "{}"

    def note(self, subject: str, sequence: int) -> None:
        if self.sequences.get(subject, 0) < sequence:
            self.sequences[subject] = sequence
            self._text = None

    def text(self) -> str:
        if self._text is None:
            self._text = json.dumps(self.sequences, separators=(",", ":"))
        return self._text


class NatsInbox:
    """One first-in-first-out queue over any number of subjects.

    In a replay a best-effort message waits here until all that its sender had seen of what this inbox reads of the
    acknowledged path is here: over one bus in memory that order comes by itself.
    """

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._queue: DeliveryQueue[NatsDelivery] = DeliveryQueue()
        self._patterns: list[str] = []
        self._readers: list[Reader] = []
        self._subscriptions: list[Subscription] = []
        self._held: list[tuple[NatsDelivery, dict[str, int]]] = []

    @property
    def dropped(self) -> int:
        """Return how many best-effort messages went because the inbox was full."""
        return self._queue.dropped

    def subscribe(self, pattern: str, *, group: str = "") -> None:
        """Receive what is published from now on; members of a group share the messages."""
        subjects.check(pattern)
        self._patterns.append(pattern.lower())
        self._bus.prepare(self._subscribe(pattern, group))

    async def _subscribe(self, pattern: str, group: str) -> None:
        self._subscriptions.append(await self._bus.connection.subscribe(pattern, self._receive, queue=group))

    def consume(self, pattern: str, *, durable: str) -> None:
        """Receive the acknowledged path from the first message this durable has not acknowledged."""
        self._read(pattern, durable_name(durable, pattern), durable=True)

    def latest(self, pattern: str) -> None:
        """Receive the last acknowledged message of each matching subject, then all that follow."""
        self._follow(pattern, "last_per_subject")

    def everything(self, pattern: str) -> None:
        """Receive the acknowledged path from its first message on."""
        self._follow(pattern, "all")

    def _follow(self, pattern: str, start: Start) -> None:
        self._read(pattern, follower_name(self._bus.connection.login.name, start, pattern), start=start)

    def _read(self, pattern: str, name: str, *, durable: bool = False, start: Start = "all") -> None:
        subjects.check(pattern)
        reading = Reading(stream=stream_of(pattern), pattern=pattern, name=name, durable=durable, start=start)

        def deliver(received: StreamMessage) -> None:
            self._deliver(reader, received)

        reader = Reader(self._bus.connection, reading, deliver, self._queue.fail)
        self._readers.append(reader)
        self._bus.prepare(reader.start())

    async def _receive(self, message: Msg) -> None:
        delivery = NatsDelivery(message)
        if self._bus.causal and self._readers:
            after = delivery.after
            if self._held or not self._here(after):
                self._held.append((delivery, after))
                return
        self._queue.put(delivery, stored=False)

    def _deliver(self, reader: Reader, received: StreamMessage) -> None:
        delivery = NatsDelivery(received.message, received.sequence, lambda: reader.acknowledge(received))
        self._queue.put(delivery, stored=True)
        while self._held and self._here(self._held[0][1]):
            self._queue.put(self._held.pop(0)[0], stored=False)

    def _here(self, after: dict[str, int]) -> bool:
        """Return whether every message that was seen by the sender, and is read here, has come."""
        return all(
            reader.newest >= sequence
            for subject, sequence in after.items()
            for reader in self._readers
            if subjects.matches(reader.reading.pattern, subject)
        )

    def __aiter__(self) -> AsyncIterator[NatsDelivery]:
        """Iterate over messages as they come, until drained."""
        return self

    async def __anext__(self) -> NatsDelivery:
        """Wait for the next message; end once drained."""
        taken = await self.take(1)
        if not taken:
            raise StopAsyncIteration
        return taken[0]

    async def take(self, limit: int) -> list[NatsDelivery]:
        """Wait for a message and return all that are here, at most `limit`; none once drained."""
        taken = await self._queue.take(limit)
        for delivery in taken:
            self._bus.heard(delivery)
        return taken

    async def catch_up(self) -> None:
        """Return once all that the acknowledged path has now is here."""
        await asyncio.gather(*(reader.catch_up() for reader in self._readers))

    def refused(self, subject: str, error: Fatal) -> None:
        """Fail, if this inbox asked for the subject, given in lower case: it will never come."""
        if subject in self._patterns:
            self._queue.fail(error)

    async def drain(self) -> None:
        """Take the backlog of the durables, then stop receiving; what is here can still be taken."""
        await asyncio.gather(*(reader.catch_up() for reader in self._readers if reader.reading.durable))
        await self._stop()

    async def _stop(self) -> None:
        for reader in self._readers:
            await reader.stop()
        for subscription in self._subscriptions:
            await self._bus.connection.unsubscribe(subscription)
        self._readers, self._subscriptions = [], []
        self._queue.end()

    def close(self) -> None:
        """Stop receiving."""
        self._bus.prepare(self._stop())


class NatsBus:
    """Carry messages over one connection.

    Best effort: a message whose server is away waits, the newest of each subject, until it is back (the freshest
    window wins). Acknowledged: a request over the connection's window; whoever must not lose it retries from an outbox.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        wall: Clock,
        clock: FollowedClock | None = None,
        since_ns: int = 0,
        causal: bool = False,
    ) -> None:
        self.connection = connection
        self.causal = causal
        self.counts: Counter[str] = Counter()
        """What happened: published, acknowledged, conflated (overtaken while the server was away), unsent."""
        self.inboxes: list[NatsInbox] = []
        self._wall = wall
        self._clock = clock
        self._since_ns = since_ns
        """Wall time from which on the market time of messages counts."""
        self._seen = _Seen()
        self._preparing: set[asyncio.Task[None]] = set()
        self._outbound: OrderedDict[str, tuple[bytes, dict[str, str]]] = OrderedDict()
        connection.on_reconnected.append(self._send_outbound)
        connection.on_refused.append(self._refused)

    async def publish(self, subject: str, message: Message, *, epoch: int = 0) -> None:
        """Send at most once; while the server is away the newest message of a subject waits for it."""
        await self.prepared()
        data, headers = self._packed(subject, message, epoch)
        if self._outbound.pop(subject, None) is not None:  # reconnected, and not sent yet: it must not follow this one
            self.counts["conflated"] += 1
        if self.connection.connected:
            try:
                await self.connection.publish(subject, data, headers)
            except Recoverable:
                pass
            else:
                self.counts["published"] += 1
                return
        self._keep(subject, data, headers)

    async def publish_acknowledged(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        """Store once under the id; raise Recoverable when no acknowledgement came, Fatal when it never will."""
        sequence = await self.store(subject, message, message_id=message_id, epoch=epoch)
        self._seen.note(subject, sequence)

    async def store(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> int:
        """Store a message in the stream of its subject once under its id and return its sequence there."""
        await self.prepared()
        data, headers = self._packed(subject, message, epoch)
        headers[MESSAGE_ID] = message_id.hex()
        answer = answer_of(subject, await self.connection.request(subject, data, headers))
        self.counts["acknowledged"] += 1
        return int(str(answer["seq"]))

    def inbox(self) -> NatsInbox:
        """Return a new, empty inbox."""
        inbox = NatsInbox(self)
        self.inboxes.append(inbox)
        return inbox

    async def drain(self) -> None:
        """Stop the intake: every inbox ends once what it holds is taken. It takes 10 s at most."""
        if self._preparing:
            await asyncio.wait(self._preparing, timeout=PREPARE_TIMEOUT_S)
        for task in self._preparing:
            task.cancel()
        await asyncio.gather(*self._preparing, return_exceptions=True)
        self._preparing.clear()
        await asyncio.gather(*(inbox.drain() for inbox in self.inboxes))

    def prepare(self, work: Coroutine[object, object, None]) -> None:
        """Do something about an inbox before anything else is published: nobody is told of a deaf service."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(_done(work))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the inbox has told its reader
        self._preparing.add(task)

    async def prepared(self) -> None:
        """Return once every subscription that was asked for is made; raise what forbade one."""
        while self._preparing:
            task = next(iter(self._preparing))
            await asyncio.wait([task])
            self._preparing.discard(task)
            if not task.cancelled():
                task.result()

    def heard(self, delivery: NatsDelivery) -> None:
        """Take note of the time, and of what its sender had seen."""
        if self._clock is not None and delivery.time_ns and delivery.sent_ns >= self._since_ns:
            self._clock.heard(delivery.time_ns)
        if self.causal:
            if delivery.sequence:
                self._seen.note(delivery.subject, delivery.sequence)
            for subject, seen in delivery.after.items():
                self._seen.note(subject, seen)

    def _packed(self, subject: str, message: Message, epoch: int) -> tuple[bytes, dict[str, str]]:
        subjects.check_subject(subject)
        market = f" {self._clock.now_ns()}" if self._clock is not None else ""
        headers = {SCHEMA: codec.schema_of(message), SENT: f"{self._wall.now_ns()}{market}"}
        if epoch:
            headers[EPOCH] = str(epoch)
        if self.causal:
            headers[AFTER] = self._seen.text()
        return codec.encode(message), headers

    def _keep(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        self._outbound[subject] = data, headers
        if len(self._outbound) > OUTBOUND_BOUND:
            self._outbound.popitem(last=False)
            self.counts["unsent"] += 1

    async def _send_outbound(self) -> None:
        while self._outbound and self.connection.connected:
            subject, (data, headers) = self._outbound.popitem(last=False)
            try:
                await self.connection.publish(subject, data, headers)
            except Recoverable:
                self._outbound.setdefault(subject, (data, headers))
                return
            self.counts["published"] += 1

    def _refused(self, subject: str, error: Fatal) -> None:
        for inbox in self.inboxes:
            inbox.refused(subject, error)


async def _done(work: Coroutine[object, object, None]) -> None:
    await work


def durable_name(durable: str, pattern: str) -> str:
    """Return the name under which the server keeps a durable's place in a pattern."""
    return _name(durable, "from", pattern)


def follower_name(user: str, start: str, pattern: str) -> str:
    """Return the name under which the server knows a follower, as long as it follows."""
    return _name(user, start, pattern)


def _name(*parts: str) -> str:
    """Return a consumer name: the server allows no dots, wildcards or spaces in it."""
    replaced = ("-".join(parts)).replace(".", "_").replace("*", "any").replace(">", "all")
    return replaced.replace("=", "_")
