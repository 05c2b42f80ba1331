"""Write to the log in order, each record once, retrying until it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message

from huracan.bus.outbox import Backoff
from huracan.ports import Ports

AT_ONCE = 256
"""Most records that are appended together: of batches of ticks some megabytes."""
BOUND = 4_096
"""Records that may wait: some minutes of steps. A full queue blocks the writer, for nothing may be lost."""


class LogWriter:
    """A bounded queue in front of the log. `run` empties it, `put` blocks when it is full.

    Records of a key keep their order; keys do not wait for each other.
    """

    def __init__(self, ports: Ports, name: str) -> None:
        self._ports = ports
        self._backoff = Backoff(ports.rng, f"log.{name}")
        self._queue: asyncio.Queue[tuple[str, str, Message, bytes]] = asyncio.Queue(BOUND)

    async def put(self, topic: str, key: str, message: Message, *, record_id: bytes) -> None:
        """Queue a record; its id makes a retried append harmless."""
        await self._queue.put((topic, key, message, record_id))

    async def run(self) -> None:
        """Append queued records, of each key the oldest first, until cancelled."""
        while True:
            waiting = [await self._queue.get()]
            while len(waiting) < AT_ONCE and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            places: dict[tuple[str, str], list[tuple[Message, bytes]]] = {}
            for topic, key, message, record_id in waiting:
                places.setdefault((topic, key), []).append((message, record_id))
            await asyncio.gather(*(self._append(*place, records) for place, records in places.items()))
            for _ in waiting:
                self._queue.task_done()

    async def _append(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> None:
        await self._backoff.until_done(lambda: self._ports.log.append_all(topic, key, records))

    async def drained(self) -> None:
        """Return once everything queued so far is in the log."""
        await self._queue.join()
