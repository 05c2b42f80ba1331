"""Take what the log has into something that keeps it with its mark: the database, an archive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from huracan.bus.outbox import Backoff
from huracan.errors import PoisonMessage, Recoverable
from huracan.ports import Ports, Record
from huracan_persister.share import Share

T = TypeVar("T")

logger = structlog.get_logger()


class Sink(Protocol):
    """Where records go, each once."""

    async def mark(self, topic: str, key: str) -> int:
        """Return the offset of the newest record that is there, -1 when there is none."""

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Keep the records after the mark and return how many there were."""


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
        self._batch = batch
        self._every_s = every_s
        self._backoff = Backoff(ports.rng, name)
        self._catching_up = asyncio.Lock()
        self._next: dict[tuple[str, str], int] = {}
        self._stuck: set[tuple[str, str]] = set()
        self._waits = False

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.catch_up()
            await asyncio.sleep(self._every_s)

    async def catch_up(self) -> None:
        """Return once all that was in the log is kept; a key with a record that cannot be is told once and left."""
        async with self._catching_up:
            for topic in self._topics:
                for key in await self._done(lambda: self._log.keys(topic)):  # noqa: B023 - done before
                    if self._share.has_key(key):
                        await self._guarded(topic, key)

    async def _guarded(self, topic: str, key: str) -> None:
        try:
            await self._follow(topic, key)
        except PoisonMessage as poison:
            if (topic, key) not in self._stuck:
                self._stuck.add((topic, key))
                self._counts[f"{self._name}.stuck"] += 1
                logger.error("persister.key_stuck", kept_by=self._name, topic=topic, key=key, error=str(poison))
        else:
            self._stuck.discard((topic, key))

    async def _follow(self, topic: str, key: str) -> None:
        place = (topic, key)
        if place not in self._next:
            self._next[place] = await self._done(lambda: self._sink.mark(topic, key)) + 1
        while True:
            records = await self._log.read(topic, key, self._next[place], limit=self._batch)
            if not records:
                return
            new = await self._done(
                lambda: self._sink.save_records(topic, key, records)  # noqa: B023 - done before the next turn
            )
            self._counts[f"{self._name}.records"] += new
            self._next[place] = records[-1].offset + 1
            if len(records) < self._batch:
                return

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
