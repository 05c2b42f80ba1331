"""Write to the log in order, each record once, retrying until it is acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from google.protobuf.message import Message

from huracan.bus.outbox import Backoff
from huracan.errors import PartlyAppended, Recoverable
from huracan.ports import Ports

AT_ONCE = 256
"""Most records of a key that are appended together: of batches of ticks some megabytes."""
BOUND = 4_096
"""Records of all keys that may wait: some minutes of steps. Past it `put` blocks, for nothing may be lost."""


class LogWriter:
    """Bounded queues in front of the log, one for each key. `run` empties them, `put` blocks when there is no room.

    Records of a key keep their order; keys wait for each other only for room.
    """

    def __init__(self, ports: Ports, name: str) -> None:
        self._ports = ports
        self._name = name
        self._room = asyncio.Semaphore(BOUND)
        self._waiting: dict[tuple[str, str], deque[tuple[Message, bytes]]] = {}
        self._backoffs: dict[tuple[str, str], Backoff] = {}
        self._appending: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._drained.set()

    async def put(self, topic: str, key: str, message: Message, *, record_id: bytes) -> None:
        """Queue a record; its id makes a retried append harmless."""
        await self._room.acquire()
        self._drained.clear()
        self._waiting.setdefault((topic, key), deque()).append((message, record_id))
        if self._failed is not None:
            self._start((topic, key))

    async def run(self) -> None:
        """Append queued records, of each key the oldest first, until cancelled; raise what no other try can mend.

        A record leaves its queue once it is acknowledged.
        """
        self._failed = asyncio.get_running_loop().create_future()
        try:
            for place in self._waiting:
                self._start(place)
            await self._failed
        finally:
            self._failed = None
            appending = list(self._appending.values())
            for task in appending:
                task.cancel()
            await asyncio.gather(*appending, return_exceptions=True)

    def _start(self, place: tuple[str, str]) -> None:
        if place not in self._appending:
            task = self._appending[place] = asyncio.create_task(self._append(*place), name=f"log {place}")
            task.add_done_callback(lambda ended: self._end(place, ended))

    def _end(self, place: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._appending[place]
        if task.cancelled():
            return
        error = task.exception()
        if self._failed is None or self._failed.done():
            return
        if error is not None:
            self._failed.set_exception(error)
        elif place in self._waiting:  # put after the last look of the task
            self._start(place)

    async def _append(self, topic: str, key: str) -> None:
        place = (topic, key)
        backoff = self._backoffs.get(place)
        if backoff is None:
            backoff = self._backoffs[place] = Backoff(self._ports.rng, f"log.{self._name}.{topic}.{key}")
        while waiting := self._waiting.get(place):
            records = list(islice(waiting, AT_ONCE))
            try:
                await self._ports.log.append_all(topic, key, records)
            except Recoverable as error:
                self._done(place, error.acknowledged if isinstance(error, PartlyAppended) else 0)
                await backoff.wait()
            else:
                self._done(place, len(records))
                backoff.reset()

    def _done(self, place: tuple[str, str], count: int) -> None:
        waiting = self._waiting[place]
        for _ in range(count):
            waiting.popleft()
            self._room.release()
        if not waiting:
            del self._waiting[place]
        if not self._waiting:
            self._drained.set()

    async def drained(self) -> None:
        """Return once everything queued so far is in the log."""
        await self._drained.wait()
