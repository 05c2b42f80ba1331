"""The way out for what must not be lost: acknowledged publishes in order, each retried under its id."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from huracan.errors import Recoverable
from huracan.ports import Ports, Rng

T = TypeVar("T")

OUTBOX_BOUND = 1_024
"""Messages that wait to be published; past it `put` blocks until the oldest is acknowledged."""
FIRST_WAIT_MS = 5
"""Wait after the first failure: a lost acknowledgement is an affair of milliseconds."""
LONGEST_WAIT_MS = 1_000
"""Longest wait between two tries: how much later than the server the outbox may come back."""


class Backoff:
    """Wait longer after each failure in a row: doubled from `first_ms`, capped at `longest_ms`, upper half jittered.

    It waits on the event loop, not on the Clock port: the machine is away, whatever time the market has.
    """

    def __init__(
        self, rng: Rng, name: str, *, first_ms: float = FIRST_WAIT_MS, longest_ms: float = LONGEST_WAIT_MS
    ) -> None:
        self.failures = 0
        self._first_ms = first_ms
        self._longest_ms = longest_ms
        self._random = rng.stream(f"backoff.{name}")

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self.failures = 0

    async def wait(self) -> None:
        """Count a failure and wait for its turn."""
        longest_ms = min(self._first_ms * 2 ** min(self.failures, 32), self._longest_ms)
        self.failures += 1
        await asyncio.sleep(self._random.uniform(longest_ms / 2, longest_ms) / 1_000)

    async def until_done(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what an idempotent attempt returns, tried again after every Recoverable."""
        while True:
            try:
                result = await attempt()
            except Recoverable:
                await self.wait()
            else:
                self.reset()
                return result


@dataclass(frozen=True, slots=True)
class _Waiting:
    subject: str
    message: Message
    message_id: bytes
    epoch: int


class Outbox:
    """Publish messages acknowledged, in the order they were put, none lost and none under a second id.

    Bound: `bound` messages. Overflow: `put` blocks. A message leaves the queue only once it is acknowledged,
    so a cancelled or failed `flush` keeps it. After a kill the owner puts again what its journal says is
    unpublished; the ids are the same, so readers see it once.
    """

    def __init__(self, ports: Ports, *, name: str = "outbox", bound: int = OUTBOX_BOUND) -> None:
        self._bus = ports.bus
        self._backoff = Backoff(ports.rng, name)
        self._bound = bound
        self._waiting: deque[_Waiting] = deque()
        self._publishing = asyncio.Lock()
        self._put = asyncio.Event()
        self.published = 0
        """Messages acknowledged since the start."""

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    @property
    def failures(self) -> int:
        """Return how many tries in a row have failed: above 0 the bus is away."""
        return self._backoff.failures

    async def put(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        """Queue a message; when the queue is full, publish its head first."""
        while len(self._waiting) >= self._bound:
            await self._publish_head()
        self._waiting.append(_Waiting(subject, message, message_id, epoch))
        self._put.set()

    async def run(self) -> None:
        """Publish what is put as it comes, until cancelled; what then waits, waits on."""
        while True:
            self._put.clear()
            await self.flush()
            await self._put.wait()

    async def flush(self) -> None:
        """Return once all that was put is acknowledged; an error that is not Recoverable passes through."""
        while self._waiting:
            await self._publish_head()

    async def _publish_head(self) -> None:
        async with self._publishing:
            if not self._waiting:
                return
            head = self._waiting[0]
            await self._backoff.until_done(
                lambda: self._bus.publish_acknowledged(
                    head.subject, head.message, message_id=head.message_id, epoch=head.epoch
                )
            )
            self._waiting.popleft()
            self.published += 1
