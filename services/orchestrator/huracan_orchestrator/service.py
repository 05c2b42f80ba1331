"""The orchestrator service: what it hears goes into the journal, what the fold of the journal says goes out."""

from __future__ import annotations

import asyncio
from collections import Counter

from huracan.bus import subjects
from huracan.bus.outbox import Backoff, Outbox
from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import Context
from huracan.contracts.decision import Decision, trading_signal
from huracan.contracts.features import FeatureWindow
from huracan.contracts.journal import (
    EpochStarted,
    ExpertAvailability,
    JournalEntry,
    Payload,
    Published,
    deadline_fired,
    journal_entry,
    window_opened,
)
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import ServiceChanged, step_acknowledged
from huracan.ids import derived_id
from huracan.ports import Delivery, Ports
from huracan.service.announce import announce
from huracan.service.dead_letters import DeadLetters
from huracan_orchestrator.config import DeadlineConfig, GateConfig
from huracan_orchestrator.fold import Fold, WindowKey

NAME = "orchestrator"
MARK_EVERY = 64
"""Decisions between two marks of what is published: as many are published again, under their ids, after a kill."""
EARLY_KEPT = 64
"""Windows for which opinions are kept that overtook them."""


class Orchestrator:
    """Decide for one shard. Single writer of its journal and of its decisions."""

    def __init__(
        self, config: GateConfig, ports: Ports, *, shard: int, deadlines: DeadlineConfig | None = None
    ) -> None:
        self.name = NAME
        self.counts: Counter[str] = Counter()
        self.fold = Fold()
        self._config = config
        self._deadlines = deadlines
        self._ports = ports
        self._shard = shard
        self._key = subjects.journal_key(shard)
        self._outbox = Outbox(ports, name=NAME)
        self._backoff = Backoff(ports.clock, ports.rng, f"journal.{NAME}")
        self._dead_letters = DeadLetters(ports, NAME, self.counts)
        self._writing = asyncio.Lock()
        self._epoch = 0
        self._written = 0
        self._unmarked = 0
        self._early: dict[WindowKey, list[Opinion]] = {}

    async def run(self) -> None:
        """Decide until cancelled."""
        await self._recover()
        inbox = self._ports.bus.inbox()
        shard = subjects.shard_token(self._shard)
        inbox.latest("ctx.v1.>")
        inbox.subscribe(f"feat.v1.{subjects.MICRO}.{shard}.>")
        for expert in self._config.experts:
            inbox.subscribe(f"sig.v1.{expert}.{shard}.>")
        inbox.latest("ops.v1.*.service")
        await announce(self._ports, NAME, running=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                async for delivery in inbox:
                    await self._handle(delivery, tasks)
        finally:
            inbox.close()

    async def _recover(self) -> None:
        """Take the journal over: fold it, close what was left open, publish what may not have been."""
        log = self._ports.log
        records = await log.read(subjects.JOURNAL_TOPIC, self._key, 0)
        self._epoch = 1 + max((_entry(record.message).epoch for record in records), default=0)
        started = EpochStarted(config_json=self._config.canonical_json(), config_digest=self._config.digest())
        offset = await self._append(self._entry(started))
        decided: list[tuple[int, Decision]] = []
        published = -1
        for record in (await log.read(subjects.JOURNAL_TOPIC, self._key, 0))[: offset + 1]:
            entry = _entry(record.message)
            decided += [(record.offset, decision) for decision in self.fold.apply(entry)]
            if entry.HasField("published"):
                published = entry.published.through
        for at, decision in decided:
            if at > published:
                await self._put(decision)
        await self._outbox.flush()

    async def _handle(self, delivery: Delivery, tasks: asyncio.TaskGroup) -> None:
        message = await self._dead_letters.read(delivery)
        if message is None:
            return
        match message:
            case FeatureWindow():
                await self._window(message, tasks)
            case Opinion():
                await self._opinion(message)
            case Context():
                await self._write(message)
            case ServiceChanged() if message.service in self._config.experts:
                await self._write(ExpertAvailability(expert=message.service, available=message.running))
        delivery.ack()

    async def _window(self, window: FeatureWindow, tasks: asyncio.TaskGroup) -> None:
        opened = window_opened(window)
        refused = self.fold.refuses(opened)
        if refused:
            self.counts[f"windows.refused.{refused}"] += 1
            return
        self.counts["windows"] += 1
        key = (instrument_key(opened.instrument.id), opened.gateway_epoch, opened.step)
        await self._write(opened)
        for opinion in self._early.pop(key, []):
            await self._write(opinion)
        if self._deadlines is not None and key in self.fold.pending:
            tasks.create_task(self._watch(window, key, self._deadlines))

    async def _opinion(self, opinion: Opinion) -> None:
        if self.fold.waits_for(opinion):
            await self._write(opinion)
            return
        key = (instrument_key(opinion.instrument), opinion.epoch, opinion.step)
        if self.fold.is_past(opinion) or self._ports.clock.now_ns() > opinion.valid_until_ns:
            self.counts["opinions.refused"] += 1
            return
        self._early.setdefault(key, []).append(opinion)
        while len(self._early) > EARLY_KEPT:
            self.counts["opinions.unused"] += len(self._early.pop(next(iter(self._early))))

    async def _watch(self, window: FeatureWindow, key: WindowKey, deadlines: DeadlineConfig) -> None:
        """Ask the silent once more, then decide without them."""
        clock = self._ports.clock
        await clock.sleep_until(window.close_ns + deadlines.reask_after_ms * MILLISECOND_NS)
        for expert in self.fold.silent(key):
            self.counts[f"asked_again.{expert}"] += 1
            await self._ports.bus.publish(subjects.rpc(expert, "opine"), window, epoch=window.epoch)
        await clock.sleep_until(window.close_ns + deadlines.deadline_ms * MILLISECOND_NS)
        waiting = self.fold.pending.get(key)
        if waiting is not None:
            await self._write(deadline_fired(waiting.opened))

    async def _write(self, payload: Payload) -> None:
        """Write ahead, then fold, then publish what follows from it."""
        async with self._writing:
            entry = self._entry(payload)
            offset = await self._append(entry)
            decisions = self.fold.apply(entry)
            for decision in decisions:
                await self._put(decision)
            await self._outbox.flush()
            self._unmarked += len(decisions)
            if self._unmarked >= MARK_EVERY:
                await self._append(self._entry(Published(through=offset)))
                self._unmarked = 0
        for decision in decisions:
            self.counts["decisions"] += 1
            acknowledged = step_acknowledged(NAME, decision.instrument, decision.step)
            await self._ports.bus.publish(subjects.ops(NAME, "step"), acknowledged)

    def _entry(self, payload: Payload) -> JournalEntry:
        return journal_entry(self._key, payload, epoch=self._epoch, at_ns=self._ports.clock.now_ns())

    async def _append(self, entry: JournalEntry) -> int:
        self._written += 1
        record_id = derived_id("journal", self._key, self._epoch, self._written)
        return await self._backoff.until_done(
            lambda: self._ports.log.append(subjects.JOURNAL_TOPIC, self._key, entry, record_id=record_id)
        )

    async def _put(self, decision: Decision) -> None:
        subject = subjects.decision(decision.strategy, decision.shard, decision.instrument)
        await self._outbox.put(subject, decision, message_id=decision.decision_id, epoch=decision.epoch)
        if not decision.abstained and self._ports.clock.now_ns() > decision.valid_until_ns:
            return  # a signal has no end of its own: after a kill it would be acted on too late
        subject = subjects.signal(decision.strategy, decision.shard, decision.instrument)
        await self._ports.bus.publish(subject, trading_signal(decision), epoch=decision.epoch)


def _entry(message: object) -> JournalEntry:
    assert isinstance(message, JournalEntry)
    return message
