"""Take what the log has into something that keeps it with its mark: the database, an archive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.contracts import codec
from huracan.errors import BadInput, PoisonMessage, PoisonRecord, Recoverable
from huracan.ports import Ports, Record
from huracan.service.dead_letters import DeadLetters
from huracan.ticklog.newest import newest_offset
from huracan_persister.share import Share

T = TypeVar("T")

logger = structlog.get_logger()


class Sink(Protocol):
    """Where records go, each once."""

    async def mark(self, topic: str, key: str) -> int:
        """Return the offset of the newest record that is there, -1 when there is none.

        Raises PoisonMessage for a key that has no place there.
        """

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Keep the records after the mark and return how many there were."""

    async def skip(self, topic: str, key: str, offset: int, *, schema: str, raw: bytes) -> None:
        """Move the mark past a record that cannot be kept, and keep its bytes; nothing if the mark is there already."""


class _Unkept(Exception):
    """The first of some records cannot be kept, or one of them; where there is one, it is the one."""

    def __init__(self, poison: PoisonMessage, offset: int, schema: str, raw: bytes) -> None:
        super().__init__(str(poison))
        self.poison = poison
        self.offset = offset
        self.schema = schema
        self.raw = raw


@dataclass(frozen=True, slots=True)
class LoggedDelivery:
    """A record of the log, as dead letters take what cannot be read."""

    subject: str
    """On which it comes again."""
    raw: tuple[str, bytes]
    epoch: int = 0
    attempt: int = 1

    def decode(self) -> Message:
        """Return the message; raise PoisonMessage when it cannot be read."""
        return codec.decode(*self.raw)

    def ack(self) -> None:
        """Do nothing: a record of the log stays there."""


class Follower:
    """Read each key of some topics from its mark on, again and again. What was read is in nobody's way: on disk or in
    the database it is kept before more is read, so nothing waits here but one batch."""

    def __init__(
        self,
        ports: Ports,
        sink: Sink,
        topics: Sequence[str],
        *,
        name: str,
        share: Share,
        counts: Counter[str],
        dead_letters: DeadLetters,
        batch: int,
        every_s: float,
    ) -> None:
        """`name` is that of the counts; `batch` are records that are read at once."""
        self._log = ports.log
        self._sink = sink
        self._topics = topics
        self._name = name
        self._share = share
        self._counts = counts
        self._dead_letters = dead_letters
        self._batch = batch
        self._every_s = every_s
        self._backoff = Backoff(ports.rng, name)
        self._catching_up = asyncio.Lock()
        self._next: dict[tuple[str, str], int] = {}
        self._placeless: set[tuple[str, str]] = set()
        self._waits = False

    async def run(self) -> None:
        """Follow until cancelled; raise BadInput where the log is not the one that was followed before."""
        while True:
            await self.catch_up()
            await asyncio.sleep(self._every_s)

    async def catch_up(self) -> None:
        """Return once all that was in the log is kept, or is a dead letter."""
        async with self._catching_up:
            for topic in self._topics:
                for key in await self._done(lambda: self._log.keys(topic)):  # noqa: B023 - done before
                    if self._share.has_key(key):
                        await self._follow(topic, key)

    async def _follow(self, topic: str, key: str) -> None:
        place = (topic, key)
        if place in self._placeless:
            return
        if place not in self._next:
            try:
                self._next[place] = await self._marked(topic, key) + 1
            except PoisonMessage as poison:
                self._placeless.add(place)
                self._counts[f"{self._name}.keys_passed_over"] += 1
                logger.warning("persister.key_passed_over", kept_by=self._name, error=poison.detail)
                return
        limit, more = self._batch, True
        while more:
            try:
                more = await self._keep(topic, key, limit)
            except _Unkept as unkept:
                # Of several, halves: what lies before the one that cannot be kept is kept before it is passed over.
                if limit == 1:
                    await self._pass_over(topic, key, unkept)
                limit = max(limit // 2, 1) if limit > 1 else self._batch

    async def _marked(self, topic: str, key: str) -> int:
        """Return the mark; raise BadInput where the log ends before it: what it gets up to there would not be kept."""
        mark = await self._done(lambda: self._sink.mark(topic, key))
        if mark < 0:
            return mark
        newest = await self._done(lambda: newest_offset(self._log, topic, key))
        # Without any record of the key the log says nothing: it may be past the time for which it is kept.
        if 0 <= newest < mark:
            raise BadInput(
                f"{topic} {key} is kept by {self._name} up to offset {mark}, and the newest of the log is {newest}: "
                "the log was begun anew; restore the one before, or wipe what was kept of it (database, archive)"
            )
        return mark

    async def _keep(self, topic: str, key: str, limit: int) -> bool:
        """Keep the next records; return whether there may be more. Raises _Unkept when one of them cannot be."""
        try:
            records = await self._log.read(topic, key, self._next[topic, key], limit=limit)
        except PoisonRecord as poison:
            raise _Unkept(poison, poison.offset, poison.schema, poison.raw) from None
        if not records:
            return False
        first, last = records[0], records[-1]
        try:
            new = await self._done(lambda: self._sink.save_records(topic, key, records))
        except PoisonMessage as poison:
            schema, raw = codec.schema_of(first.message), codec.encode(first.message)
            raise _Unkept(poison, first.offset, schema, raw) from None
        self._counts[f"{self._name}.records"] += new
        self._next[topic, key] = last.offset + 1
        return len(records) == limit

    async def _pass_over(self, topic: str, key: str, unkept: _Unkept) -> None:
        subject = subjects.unkept(topic, key, unkept.offset)
        await self._dead_letters.bury(LoggedDelivery(subject, (unkept.schema, unkept.raw)), unkept.poison)
        await self._done(lambda: self._sink.skip(topic, key, unkept.offset, schema=unkept.schema, raw=unkept.raw))
        self._counts[f"{self._name}.unkept"] += 1
        self._next[topic, key] = unkept.offset + 1

    async def _done(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what an attempt returns, tried again while it cannot be done; say why, once each time."""
        while True:
            try:
                result = await attempt()
            except Recoverable as error:
                if not self._waits:
                    logger.error("persister.log_waits", kept_by=self._name, error=str(error))
                self._waits = True
                await self._backoff.wait()
            else:
                self._waits = False
                self._backoff.reset()
                return result
