"""Read everything worth keeping from the bus and save it, each once under its id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.contracts.features import FeatureWindow
from huracan.contracts.ops import StepAcknowledged
from huracan.errors import PoisonMessage
from huracan.ports import Delivery, Ports
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import Service
from huracan.store.tables import TABLE_OF

NAME = "persister"
ACKNOWLEDGED = (
    "sig.v1.decision.>",
    "ctx.v1.>",
    "exec.v1.>",
    "feat.v1.bar_1m.>",
    "feat.v1.bar_15m.>",
    subjects.ops("gateway", "anomaly"),
    subjects.ops("gateway", "reliability"),
    subjects.ops("gateway", "feed"),
)
"""What must not be lost."""
BEST_EFFORT = ("sig.v1.regime.>", "sig.v1.flow.>", "sig.v1.sentiment.>")
"""What the journal also holds."""
BATCH = 5_000
"""Most messages that are taken at once: beyond it a row becomes no cheaper, and a crash has more to bring again."""

_Received = tuple[Delivery, Message]
"""A delivery with what is kept of it."""


class Persister(Service):
    """Save decisions and what they rest on and lead to, bars, and how good the data were: whatever has a table."""

    def __init__(self, ports: Ports, *, linger_ms: int = 0) -> None:
        super().__init__(NAME)
        self._linger_s = linger_ms / 1_000
        self._ports = ports
        self._backoff = Backoff(ports.rng, "store")
        self._dead_letters = DeadLetters(ports, NAME, self.counts)

    async def run(self) -> None:
        """Save until cancelled, or until the bus is drained and all that was there is saved."""
        inbox = self._ports.bus.inbox()
        for pattern in ACKNOWLEDGED:
            inbox.consume(pattern, durable=NAME)
        for pattern in BEST_EFFORT:
            inbox.subscribe(pattern)
        inbox.subscribe(subjects.ops("executor", "step"))
        await self.listening(self._ports)
        try:
            while deliveries := await inbox.take(BATCH):
                await self._handle(deliveries)
                await asyncio.sleep(self._linger_s)
        finally:
            inbox.close()

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        received: dict[str, list[_Received]] = {}
        steps: list[StepAcknowledged] = []
        for delivery in deliveries:
            message = await self._dead_letters.read(delivery)
            if message is None:
                continue
            if isinstance(message, StepAcknowledged):
                steps.append(message)
                continue
            kept = _kept(message)
            if type(kept) in TABLE_OF:
                received.setdefault(TABLE_OF[type(kept)].name, []).append((delivery, kept))
            else:
                detail = f"{delivery.subject} carried {delivery.raw[0]}, which has no table"
                await self._dead_letters.bury(delivery, PoisonMessage("unexpected_kind", detail))
        # One save for each table, because a save counts its new rows together.
        saved = [delivery for table, rows in received.items() for delivery in await self._save(table, rows)]
        for delivery in saved:
            delivery.ack()
        for step in steps:
            await self._follow(step)

    async def _save(self, table: str, rows: Sequence[_Received]) -> list[Delivery]:
        """Return the deliveries of what is now in the table; the others are buried."""
        messages = [message for _, message in rows]
        try:
            new = await self._backoff.until_done(lambda: self._ports.store.save(messages))
        except PoisonMessage as poison:
            if len(rows) == 1:
                await self._dead_letters.bury(rows[0][0], poison)
                return []
            middle = len(rows) // 2
            return [*await self._save(table, rows[:middle]), *await self._save(table, rows[middle:])]
        counted = {table: new, f"{table}.again": len(rows) - new}
        self.counts.update({name: count for name, count in counted.items() if count})
        return [delivery for delivery, _ in rows]

    async def _follow(self, done: StepAcknowledged) -> None:
        """Acknowledge a step after the executor: all that is kept of it came before."""
        await acknowledge_step(self._ports, NAME, done.instrument, done.step)


def _kept(message: Message) -> Message:
    """Return what is kept of a message: of a window of bars, the bar."""
    return message.bar if isinstance(message, FeatureWindow) else message
