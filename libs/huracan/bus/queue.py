"""One reader's queue: first in, first out; best effort gives way to the freshest, the acknowledged path never does."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

D = TypeVar("D")

BOUND = 65_536
"""Best-effort messages a queue holds; past it the oldest go and are counted in `dropped`: the freshest wins."""


class DeliveryQueue(Generic[D]):
    """Hold what has reached an inbox until it is taken."""

    def __init__(self) -> None:
        self.dropped = 0
        self._queue: deque[tuple[D, bool]] = deque()
        self._best_effort = 0
        self._arrived = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._queue)

    def put(self, delivery: D, *, stored: bool) -> None:
        """Append a message; when the queue is full of best-effort messages the oldest of them goes."""
        if not stored:
            if self._best_effort >= BOUND:
                self._drop_oldest()
            self._best_effort += 1
        self._queue.append((delivery, stored))
        self._arrived.set()

    def _drop_oldest(self) -> None:
        oldest = next(index for index, (_, stored) in enumerate(self._queue) if not stored)
        del self._queue[oldest]
        self._best_effort -= 1
        self.dropped += 1

    async def take(self, limit: int) -> list[D]:
        """Wait for a message and return all that are here, at most `limit`; none once ended; raise what failed it."""
        while not self._queue and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if self._failure is not None:
            raise self._failure
        taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        self._best_effort -= sum(not stored for _, stored in taken)
        return [delivery for delivery, _ in taken]

    def end(self) -> None:
        """Let `take` return nothing once the queue is empty."""
        self._ended = True
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Let `take` raise: the reader will never get what it asked for."""
        self._failure = self._failure or error
        self.end()
