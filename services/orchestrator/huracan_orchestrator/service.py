"""The orchestrator service: what it hears goes into the journal, what the fold of the journal says goes out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from operator import itemgetter

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
    WindowOpened,
    deadline_fired,
    journal_entry,
    window_opened,
)
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import ServiceChanged
from huracan.errors import Recoverable
from huracan.ids import derived_id
from huracan.ports import Delivery, Ports
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import LAST, Service
from huracan_orchestrator.config import DeadlineConfig, GateConfig
from huracan_orchestrator.fold import Fold, WindowKey

NAME = "orchestrator"
MARK_EVERY = 64
"""Decisions between two marks of what is published: as many are published again, under their ids, after a kill."""
BATCH = 256
"""Most messages whose journal entries are written at once: what waits while the last ones are acknowledged."""
EARLY_KEPT = 64
"""Windows for which opinions are kept that overtook them."""


class _Batch:
    """Messages that are written to the journal at once: what the fold will know when it has them."""

    def __init__(self) -> None:
        self.payloads: list[Payload] = []
        self.opened: dict[WindowKey, FeatureWindow] = {}
        self._newest: dict[str, tuple[int, int]] = {}
        self._heard: set[tuple[WindowKey, str]] = set()

    def refuses(self, name: str, opening: WindowOpened) -> str | None:
        """Return why a window cannot follow those of the batch, or None."""
        epoch, step = self._newest.get(name, (0, -1))
        if opening.gateway_epoch < epoch:
            return "old_epoch"
        return "out_of_order" if opening.step <= step else None

    def open(self, key: WindowKey, window: FeatureWindow, opening: WindowOpened) -> None:
        """Take a window."""
        name, epoch, step = key
        self._newest[name] = epoch, step
        self.opened[key] = window
        self.payloads.append(opening)

    def hear(self, key: WindowKey, opinion: Opinion) -> bool:
        """Take an opinion, unless its expert has been heard on the window already."""
        if (key, opinion.expert) in self._heard:
            return False
        self._heard.add((key, opinion.expert))
        self.payloads.append(opinion)
        return True


class Orchestrator(Service):
    """Decide for one shard. Single writer of its journal and of its decisions."""

    def __init__(
        self, config: GateConfig, ports: Ports, *, shard: int, deadlines: DeadlineConfig | None = None
    ) -> None:
        super().__init__(NAME)
        self.fold = Fold()
        self._config = config
        self._deadlines = deadlines
        self._ports = ports
        self._shard = shard
        self._key = subjects.journal_key(shard)
        self._outbox = Outbox(ports, name=NAME)
        self._backoff = Backoff(ports.rng, f"journal.{NAME}")
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
        await self.listening(self._ports)
        try:
            async with asyncio.TaskGroup() as tasks:
                while deliveries := await inbox.take(BATCH):
                    await self._handle(deliveries, tasks)
        finally:
            inbox.close()

    def report(self) -> Counter[str]:
        """Return everything that was counted; what the fold counted, it counts again from the journal."""
        return self.counts + Counter({f"{LAST}{name}": count for name, count in self.fold.counts.items()})

    async def _recover(self) -> None:
        """Take the journal over: fold it, close what was left open, publish what may not have been."""
        log = self._ports.log
        records = await log.read(subjects.JOURNAL_TOPIC, self._key, 0)
        self._epoch = 1 + max((_entry(record.message).epoch for record in records), default=0)
        started = EpochStarted(config_json=self._config.canonical_json(), config_digest=self._config.digest())
        offset = await self._append(self._entry(started))
        decided: list[tuple[int, Decision]] = []
        published = -1
        for record in await log.read(subjects.JOURNAL_TOPIC, self._key, 0):
            if record.offset > offset:
                break
            entry = _entry(record.message)
            decided += [(record.offset, decision) for decision in self.fold.apply(entry)]
            if entry.HasField("published"):
                published = entry.published.through
        for at, decision in decided:
            if at > published:
                await self._put(decision)
        await self._outbox.flush()

    async def _handle(self, deliveries: Sequence[Delivery], tasks: asyncio.TaskGroup) -> None:
        """Write what a batch of messages says, then watch over the windows that it opened."""
        batch = _Batch()
        for delivery in deliveries:
            match await self._dead_letters.read(delivery):
                case FeatureWindow() as window:
                    self._window(window, batch)
                case Opinion() as opinion:
                    self._opinion(opinion, batch)
                case Context() as context:
                    batch.payloads.append(context)
                case ServiceChanged() as change if change.service in self._config.experts:
                    batch.payloads.append(ExpertAvailability(expert=change.service, available=change.running))
        await self._write(batch.payloads)
        if self._deadlines is not None:
            for key, window in batch.opened.items():
                if key in self.fold.pending:
                    tasks.create_task(self._watch(window, key, self._deadlines))
        for delivery in deliveries:
            delivery.ack()

    def _window(self, window: FeatureWindow, batch: _Batch) -> None:
        opening = window_opened(window)
        name = instrument_key(opening.instrument.id)
        refused = self.fold.refuses(opening) or batch.refuses(name, opening)
        if refused:
            self.counts[f"windows.refused.{refused}"] += 1
            return
        self.counts["windows"] += 1
        key = (name, opening.gateway_epoch, opening.step)
        batch.open(key, window, opening)
        for opinion in self._early.pop(key, []):
            batch.hear(key, opinion)

    def _opinion(self, opinion: Opinion, batch: _Batch) -> None:
        key = (instrument_key(opinion.instrument), opinion.epoch, opinion.step)
        awaited = key in batch.opened or self.fold.waits_for(opinion)
        if awaited and batch.hear(key, opinion):
            return
        if awaited or self.fold.is_past(opinion) or self._ports.clock.now_ns() > opinion.valid_until_ns:
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
            await self._write([deadline_fired(waiting.opened)])

    async def _write(self, payloads: Sequence[Payload]) -> None:
        """Write ahead, then fold in the order of the journal, then publish what follows from it."""
        decisions: list[Decision] = []
        async with self._writing:
            entries = [self._entry(payload) for payload in payloads]
            offsets = await self._append_all(entries)
            for _, entry in sorted(zip(offsets, entries, strict=True), key=itemgetter(0)):
                decisions += self.fold.apply(entry)
            for decision in decisions:
                await self._put(decision)
            await self._outbox.flush()
            self._unmarked += len(decisions)
            if self._unmarked >= MARK_EVERY:
                await self._append(self._entry(Published(through=max(offsets))))
                self._unmarked = 0
        for decision in decisions:
            self.counts["decisions"] += 1
            await acknowledge_step(self._ports, NAME, decision.instrument, decision.step)

    def _entry(self, payload: Payload) -> JournalEntry:
        return journal_entry(self._key, payload, epoch=self._epoch, at_ns=self._ports.clock.now_ns())

    async def _append(self, entry: JournalEntry) -> int:
        return (await self._append_all([entry]))[0]

    async def _append_all(self, entries: Sequence[JournalEntry]) -> list[int]:
        """Append entries and return their offsets: at once, and from the first that fails on one after the other.

        A connection that goes away takes the end of a batch with it, never its middle, so the order stays.
        """
        log = self._ports.log
        named = []
        for entry in entries:
            self._written += 1
            named.append((entry, derived_id("journal", self._key, self._epoch, self._written)))

        async def append(entry: JournalEntry, record_id: bytes) -> int:
            return await log.append(subjects.JOURNAL_TOPIC, self._key, entry, record_id=record_id)

        tried = await asyncio.gather(*(append(*entry) for entry in named), return_exceptions=True)
        offsets: list[int] = []
        failed = False
        for outcome, (entry, record_id) in zip(tried, named, strict=True):
            failed = failed or isinstance(outcome, Recoverable)
            if failed:
                offsets.append(await self._backoff.until_done(partial(append, entry, record_id)))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                offsets.append(outcome)
        return offsets

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
