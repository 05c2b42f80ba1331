"""Read everything worth keeping from the bus and save it, each once under its id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.clock import MINUTE_NS
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.contracts.ops import ServiceChanged, StepAcknowledged
from huracan.errors import PoisonMessage, Recoverable
from huracan.ports import Delivery, Ports
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import LAST, Service
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
    subjects.ops("orchestrator", "report"),
    "ops.v1.*.service",
)
"""What must not be lost."""
BEST_EFFORT = ("sig.v1.regime.>", "sig.v1.flow.>", "sig.v1.sentiment.>")
"""What the journal also holds."""
BATCH = 5_000
"""Most messages that are taken at once: beyond it a row becomes no cheaper, and a crash has more to bring again."""
MAINTAIN_EVERY_NS = 60 * MINUTE_NS
"""Market time between two looks after the store: it has room for days ahead."""
SOON_NS = MINUTE_NS
"""Market time until the next where that failed, or found something to do."""

_Received = tuple[Delivery, Message]
"""A delivery with what is kept of it."""


class Persister(Service):
    """Save decisions and what they rest on and lead to, bars, and how good the data were: whatever has a table."""

    def __init__(self, ports: Ports, *, linger_ms: int = 0, keep_days: int | None = None) -> None:
        super().__init__(NAME)
        self._keep_days = keep_days
        self._linger_s = linger_ms / 1_000
        self._ports = ports
        self._backoff = Backoff(ports.rng, "store")
        self._dead_letters = DeadLetters(ports, NAME, self.counts)
        self._maintain_at_ns = 0
        self._defined: set[tuple[str, int]] = set()

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
                await self._maintain()
                await self._handle(deliveries)
                await asyncio.sleep(self._linger_s)
        finally:
            inbox.close()

    async def _maintain(self) -> None:
        """Have the store make room, now and then; where it cannot, rows are saved all the same."""
        now_ns = self._ports.clock.now_ns()
        if now_ns < self._maintain_at_ns:
            return
        try:
            done = await self._ports.store.maintain(now_ns, keep_days=self._keep_days)
        except Recoverable:
            self.counts["maintenance.failed"] += 1
            self._maintain_at_ns = now_ns + SOON_NS
            return
        # Soon again while there is something to do: bars of the days before come with the first step.
        self._maintain_at_ns = now_ns + (SOON_NS if done.get("partitions.made") else MAINTAIN_EVERY_NS)
        for name, count in done.items():
            if name.startswith(LAST):
                self.counts[name] = count
            elif count:
                self.counts[name] += count

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        received: dict[str, list[_Received]] = {}
        steps: list[StepAcknowledged] = []
        definitions: list[InstrumentDefinition] = []
        for delivery in deliveries:
            message = await self._dead_letters.read(delivery)
            if message is None:
                continue
            if isinstance(message, StepAcknowledged):
                steps.append(message)
                continue
            if isinstance(message, ServiceChanged) and message.service == NAME:
                delivery.ack()  # whether it runs is told by what it saves
                continue
            if isinstance(message, FeatureWindow):
                definitions.append(message.instrument)
            kept = _kept(message)
            if type(kept) in TABLE_OF:
                received.setdefault(TABLE_OF[type(kept)].name, []).append((delivery, kept))
            else:
                detail = f"{delivery.subject} carried {delivery.raw[0]}, which has no table"
                await self._dead_letters.bury(delivery, PoisonMessage("unexpected_kind", detail))
        await self._define(definitions)
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

    async def _define(self, definitions: Iterable[InstrumentDefinition]) -> None:
        """Save what instruments are, each version once in a life; one that does not fit is counted."""
        new = {(instrument_key(each.id), each.id.definition_version): each for each in definitions}
        for version in new.keys() - self._defined:
            try:
                await self._backoff.until_done(partial(self._ports.store.save, [new[version]]))
            except PoisonMessage:
                self.counts["instruments.unsaveable"] += 1
            self._defined.add(version)

    async def _follow(self, done: StepAcknowledged) -> None:
        """Acknowledge a step after the executor: all that is kept of it came before."""
        await acknowledge_step(self._ports, NAME, done.instrument, done.step)


def _kept(message: Message) -> Message:
    """Return what is kept of a message: of a window of bars, the bar."""
    return message.bar if isinstance(message, FeatureWindow) else message
