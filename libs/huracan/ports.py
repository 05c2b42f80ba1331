"""Ports: all that a service is given. What it may reach for is here; what stands behind is not its business.

In-memory forms: `huracan.bus.memory`, `huracan.ticklog.memory`, `huracan.store.memory`, `huracan.sim.loop`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


class Delivery(Protocol):
    """One message as it reached an inbox."""

    @property
    def subject(self) -> str:
        """Return the subject it was published on."""

    @property
    def epoch(self) -> int:
        """Return the epoch its writer put into the header."""

    def decode(self) -> Message:
        """Return the message; raise PoisonMessage when its bytes are not what the header says."""

    @property
    def attempt(self) -> int:
        """Return which time it comes: 1, or more when it was replayed from the dead letters."""

    @property
    def raw(self) -> tuple[str, bytes]:
        """Return schema name and bytes, for the dead letters."""

    def ack(self) -> None:
        """Say that it is dealt with. Unacknowledged messages of the acknowledged path come again."""


class Inbox(Protocol):
    """One first-in-first-out queue over any number of subjects."""

    def subscribe(self, pattern: str, *, group: str = "") -> None:
        """Receive what is published from now on, at most once. Members of a group share the messages."""

    def consume(self, pattern: str, *, durable: str) -> None:
        """Receive the acknowledged path at least once, from the first message this durable has not acknowledged."""

    def latest(self, pattern: str) -> None:
        """Receive the last acknowledged message of each matching subject, then at least once all that follow."""

    def everything(self, pattern: str) -> None:
        """Receive the acknowledged path from its first message that is kept, at least once."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def __anext__(self) -> Delivery:
        """Wait for the next message; end once the bus is drained and nothing is left here."""

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Wait for a message and return all that are here, at most `limit`; none once the bus is drained."""

    def close(self) -> None:
        """Stop receiving."""


class Bus(Protocol):
    """Carries Protobuf messages between services on subjects."""

    async def publish(self, subject: str, message: Message, *, epoch: int = 0) -> None:
        """Send at most once: gaps are the reader's to count."""

    async def publish_acknowledged(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        """Store once under the id and return; raise Recoverable when no acknowledgement came."""

    def inbox(self) -> Inbox:
        """Return a new, empty inbox."""

    async def drain(self) -> None:
        """Stop the intake: nothing new reaches an inbox, and each ends once it is empty. Publishing goes on."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log."""

    offset: int
    """Its place in the topic: it rises along a key, with gaps where other keys lie between."""
    message: Message


class TickLog(Protocol):
    """An append-only log of messages by topic and key; the truth that replays read."""

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int:
        """Append once under the id and return the offset; raise Recoverable when no acknowledgement came."""

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> Sequence[int]:
        """Append messages in order, each once under its id, and return their offsets.

        Raises Recoverable when no acknowledgement came of all: the first of them may then be there, none without those
        before it, and all may be appended again. PartlyAppended says of how many an acknowledgement came: where a log
        knows ids for a time alone, these had better not be appended again.
        """

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]:
        """Return the records from an offset on that are there now, oldest first, at most `limit`."""

    async def last(self, topic: str, key: str) -> Record | None:
        """Return the newest record, or None when there is none."""

    async def wait(self, topic: str, key: str, offset: int) -> None:
        """Return once there is a record at this offset or after it."""

    async def keys(self, topic: str) -> Sequence[str]:
        """Return the keys of a topic that have records, sorted."""


class Clock(Protocol):
    """The only source of wall time."""

    def now_ns(self) -> int:
        """Return the time in nanoseconds since the Unix epoch."""

    async def sleep_until(self, ns: int) -> None:
        """Return at this time, at once if it is past."""


class Store(Protocol):
    """Keeps decisions, opinions, contexts, orders, fills and bars, each once under its id."""

    async def save(self, messages: Sequence[Message]) -> int:
        """Keep the messages and return how many were new; a later revision of an order replaces the earlier."""

    async def load(self, kind: type[M]) -> list[M]:
        """Return all messages of a kind, ordered by what they are about."""

    async def mark(self, topic: str, key: str) -> int:
        """Return the offset of the newest record kept of a topic and key, -1 when there is none."""

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Keep the records after the mark, move it, all or nothing, and return how many records were new."""

    async def skip(self, topic: str, key: str, offset: int, *, schema: str, raw: bytes) -> None:
        """Move the mark past a record that cannot be kept, and keep its bytes; nothing if the mark is there already."""

    async def restore(self, topic: str, key: str, record: Record) -> int:
        """Keep a record that was skipped, once; return how many were: 0 where it was not skipped or is kept."""

    async def maintain(self, now_ns: int, *, keep_days: int | None = None) -> dict[str, int]:
        """Make room for what comes from `now_ns` on, and return what was done, counted.

        Days that ended `keep_days` before today are put aside, to be archived; None keeps all of them.
        """


class Rng(Protocol):
    """The only source of randomness."""

    def stream(self, name: str) -> random.Random:
        """Return a generator that depends on the run's seed and this name only."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What a service is given."""

    bus: Bus
    log: TickLog
    clock: Clock
    store: Store
    rng: Rng
    lockstep: bool = True
    """Whether every service says that it is done with a step: a replay waits for it, a live market does not."""
