"""Read everything worth keeping from the bus and save it, each once under its id."""

from __future__ import annotations

from collections import Counter

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts.features import FeatureWindow
from huracan.contracts.ops import StepAcknowledged, step_acknowledged
from huracan.errors import PoisonMessage
from huracan.ports import Delivery, Ports
from huracan.service.announce import announce
from huracan.service.dead_letters import DeadLetters
from huracan.store.tables import TABLE_OF

NAME = "persister"
ACKNOWLEDGED = ("sig.v1.decision.>", "ctx.v1.>", "exec.v1.>", "feat.v1.bar_1m.>", "feat.v1.bar_15m.>")
"""What must not be lost."""
BEST_EFFORT = ("sig.v1.regime.>", "sig.v1.flow.>", "sig.v1.sentiment.>")
"""What the journal also holds."""


class Persister:
    """Save decisions, opinions, contexts, orders, fills, accounts and bars."""

    def __init__(self, ports: Ports) -> None:
        self.name = NAME
        self.counts: Counter[str] = Counter()
        self._ports = ports
        self._dead_letters = DeadLetters(ports, NAME, self.counts)

    async def run(self) -> None:
        """Save until cancelled."""
        inbox = self._ports.bus.inbox()
        for pattern in ACKNOWLEDGED:
            inbox.consume(pattern, durable=NAME)
        for pattern in BEST_EFFORT:
            inbox.subscribe(pattern)
        inbox.subscribe(subjects.ops("executor", "step"))
        await announce(self._ports, NAME, running=True)
        try:
            async for delivery in inbox:
                await self._handle(delivery)
        finally:
            inbox.close()

    async def _handle(self, delivery: Delivery) -> None:
        message = await self._dead_letters.read(delivery)
        if message is None:
            return
        if isinstance(message, StepAcknowledged):
            await self._follow(message)
            return
        kept = _kept(message)
        if type(kept) not in TABLE_OF:
            detail = f"{delivery.subject} carried {delivery.raw[0]}, which has no table"
            await self._dead_letters.bury(delivery, PoisonMessage("unexpected_kind", detail))
            return
        await self._save(kept)
        delivery.ack()

    async def _save(self, message: Message) -> None:
        new = await self._ports.store.save([message])
        table = TABLE_OF[type(message)].name
        self.counts[table if new else f"{table}.again"] += 1

    async def _follow(self, done: StepAcknowledged) -> None:
        """Acknowledge a step after the executor: all that is kept of it came before."""
        acknowledged = step_acknowledged(NAME, done.instrument, done.step)
        await self._ports.bus.publish(subjects.ops(NAME, "step"), acknowledged)


def _kept(message: Message) -> Message:
    """Return what is kept of a message: of a window of bars, the bar."""
    return message.bar if isinstance(message, FeatureWindow) else message
