"""Write to the log in order, each record once, retrying until it is acknowledged."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from huracan.bus.outbox import Backoff
from huracan.ports import Ports

BOUND = 4_096
"""Records that may wait: some minutes of steps. A full queue blocks the writer, for nothing may be lost."""


class LogWriter:
    """A bounded queue in front of the log. `run` empties it, `put` blocks when it is full."""

    def __init__(self, ports: Ports, name: str) -> None:
        self._ports = ports
        self._backoff = Backoff(ports.rng, f"log.{name}")
        self._queue: asyncio.Queue[tuple[str, str, Message, bytes]] = asyncio.Queue(BOUND)

    async def put(self, topic: str, key: str, message: Message, *, record_id: bytes) -> None:
        """Queue a record; its id makes a retried append harmless."""
        await self._queue.put((topic, key, message, record_id))

    async def run(self) -> None:
        """Append queued records, oldest first, until cancelled."""
        log = self._ports.log
        while True:
            topic, key, message, record_id = await self._queue.get()
            await self._backoff.until_done(
                lambda: log.append(topic, key, message, record_id=record_id)  # noqa: B023 - done before the next turn
            )
            self._queue.task_done()

    async def drained(self) -> None:
        """Return once everything queued so far is in the log."""
        await self._queue.join()
