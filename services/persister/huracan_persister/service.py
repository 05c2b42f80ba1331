"""Read everything worth keeping from the bus and save it, each once under its id."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.clock import MINUTE_NS
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.contracts.ops import ServiceChanged, StepAcknowledged
from huracan.errors import BadInput, PoisonMessage, Recoverable
from huracan.ports import Delivery, Inbox, Ports, Record
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import LAST, Service
from huracan.store.archive import Archive
from huracan.store.tables import TABLE_OF
from huracan_persister.config import TOPICS, PersisterConfig
from huracan_persister.follow import Follower
from huracan_persister.kept import kept_of
from huracan_persister.policy import KeepAll, KeepChanged, Received
from huracan_persister.share import Share
from huracan_persister.spill import Spill, SpillFull

NAME = "persister"
BATCH = 5_000
"""Most messages that are taken at once: beyond it a row becomes no cheaper, and a crash has more to bring again."""
SPILL_AFTER = 3
"""Tries in a row that the database may fail before messages go to the spill: a restart of a connection is no outage."""
RECORDS = 64
"""Records of the log that one transaction has: with ticks some 16,000 rows. More are hardly cheaper a row, and hold up
whatever shares the event loop."""
ARCHIVED_RECORDS = 2_000
"""Records of one file of the archive: with ticks some 500,000 rows."""
MAINTAIN_EVERY_NS = 60 * MINUTE_NS
"""Market time between two looks after the store: it has room for days ahead."""
SOON_NS = MINUTE_NS
"""Market time until the next where that failed, or found something to do."""

logger = structlog.get_logger()


class Persister(Service):
    """Save decisions and what they rest on and lead to, bars, and how good the data were: whatever has a table."""

    def __init__(self, ports: Ports, config: PersisterConfig | None = None) -> None:
        super().__init__(NAME)
        config = config or PersisterConfig(linger_ms=0)
        self._keep_days = config.keep_days
        self._linger_s = config.linger_ms / 1_000
        self._ports = ports
        self._share = Share(config.shards, config.of)
        self._policy = KeepAll() if config.keep == "all" else KeepChanged(self.counts)
        self._spill = Spill(config.spill.directory, config.spill.max_bytes) if config.spill else None
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._backoff = Backoff(ports.rng, "store")
        self._replaying = Backoff(ports.rng, "spill")
        self._dead_letters = DeadLetters(ports, NAME, self.counts)
        self._maintain_at_ns = 0
        self._defined: set[tuple[str, int]] = set()
        self._told: set[str] = set()
        self._followers = self._made_followers(config)

    def _made_followers(self, config: PersisterConfig) -> list[Follower]:
        followers = []
        if config.tables:
            topics = [TOPICS[name] for name in config.tables]
            followers.append(
                Follower(
                    *(self._ports, self._ports.store, topics),
                    name="log",
                    share=self._share,
                    counts=self.counts,
                    dead_letters=self._dead_letters,
                    batch=RECORDS,
                    every_s=config.tables_every_s,
                )
            )
        if config.archive is not None:
            topics = [TOPICS[name] for name in config.archive.topics]
            followers.append(
                Follower(
                    *(self._ports, Archive(config.archive.directory), topics),
                    name="archive",
                    share=self._share,
                    counts=self.counts,
                    dead_letters=self._dead_letters,
                    batch=ARCHIVED_RECORDS,
                    every_s=config.archive.every_s,
                )
            )
        return followers

    def report(self) -> Counter[str]:
        """Return everything that was counted, and what waits in the spill."""
        report = super().report()
        if self._spill is not None:
            report[f"{LAST}spill_bytes"] = self._spill.bytes
        return report

    async def run(self) -> None:
        """Save until cancelled, or until the bus is drained and all that was there is saved."""
        if self._spill is not None:
            self._spill.open()
        inbox = self._ports.bus.inbox()
        try:
            self._listen(inbox)
            await self.listening(self._ports)
            await self._serve(inbox)
        finally:
            inbox.close()
            if self._spill is not None:
                self._spill.close()

    def _listen(self, inbox: Inbox) -> None:
        for pattern in self._share.acknowledged:
            inbox.consume(pattern, durable=NAME)
        for pattern in self._share.best_effort:
            inbox.subscribe(pattern)
        if self._share.first:
            inbox.subscribe(subjects.ops("executor", "step"))

    async def _serve(self, inbox: Inbox) -> None:
        taking = asyncio.create_task(self._take_in(inbox), name="take in")
        beside = [asyncio.create_task(follower.run(), name="follow") for follower in self._followers]
        if self._spill is not None:
            beside.append(asyncio.create_task(self._replay(self._spill), name="replay the spill"))
        try:
            await _first(taking, *beside)
            await self._finish(beside)
        finally:
            for task in (taking, *beside):
                task.cancel()
            await asyncio.gather(taking, *beside, return_exceptions=True)

    async def _take_in(self, inbox: Inbox) -> None:
        while deliveries := await inbox.take(BATCH):
            await self._maintain()
            await self._handle(deliveries)
            await asyncio.sleep(self._linger_s)

    async def _finish(self, beside: Sequence[asyncio.Task[None]]) -> None:
        """Write everything that is here or in the log; what waits in the spill longer, waits for the next start."""
        await self._settle(self._policy.rest())
        if self._spill is not None:
            emptied = asyncio.create_task(self._emptied.wait(), name="empty the spill")
            try:
                await _first(emptied, *beside)
            finally:
                emptied.cancel()
        for follower in self._followers:
            await follower.catch_up()

    async def _maintain(self) -> None:
        """Have the store make room, now and then; where it cannot, rows are saved all the same."""
        now_ns = self._ports.clock.now_ns()
        if now_ns < self._maintain_at_ns:
            return
        try:
            done = await self._ports.store.maintain(now_ns, keep_days=self._keep_days)
        except Recoverable as error:
            self._tell("persister.maintenance_failed", error)
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
        received, steps = await self._read(deliveries)
        chosen = self._policy.choose(received, self._ports.clock.now_ns())
        await self._settle(chosen.keep)
        for delivery in chosen.done:
            delivery.ack()
        for step in steps:
            await self._follow(step)

    async def _read(self, deliveries: Sequence[Delivery]) -> tuple[list[Received], list[StepAcknowledged]]:
        """Return what is kept of deliveries, and steps that are done; what cannot be kept is buried."""
        received: list[Received] = []
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
            if subjects.matches(subjects.UNKEPT, delivery.subject):
                await self._restore(delivery, message)
                continue
            try:
                received.append((delivery, kept_of(delivery, message)))
            except PoisonMessage as poison:
                await self._dead_letters.bury(delivery, poison)
                continue
            if isinstance(message, FeatureWindow):
                definitions.append(message.instrument)
        await self._define(definitions)
        return received, steps

    async def _settle(self, received: Sequence[Received]) -> None:
        """Acknowledge what is saved, or in the spill while the database is away; wait while neither takes it."""
        left = _by_table(received)
        saved: list[Delivery] = []
        while left:
            try:
                await self._save_or_spill(left, saved)
            except SpillFull as error:
                self._tell("persister.spill_full", error)
                await self._backoff.wait()
        for delivery in saved:
            delivery.ack()

    async def _save_or_spill(self, left: dict[str, list[Received]], saved: list[Delivery]) -> None:
        """Move the deliveries of what is safe from `left` to `saved`; raise SpillFull when nothing takes the rest."""
        spill = self._spill
        if spill is None or not spill:
            try:
                # One save for each table, because a save counts its new rows together.
                for table in list(left):
                    saved.extend(await self._save(table, left[table], patient=spill is None))
                    del left[table]
            except Recoverable:
                if spill is None:
                    raise
        if left and spill is not None:
            waiting = [delivery for rows in left.values() for delivery, _ in rows]
            spill.append(waiting)
            self._emptied.clear()
            self._filled.set()
            self._backoff.reset()
            self.counts["spill.messages"] += len(waiting)
            saved.extend(waiting)
            left.clear()

    async def _save(self, table: str, rows: Sequence[Received], *, patient: bool) -> list[Delivery]:
        """Return the deliveries of what is now in the table; the others are buried."""
        messages = [message for _, message in rows]
        try:
            new = await self._tried(messages, patient=patient)
        except PoisonMessage as poison:
            if len(rows) == 1:
                await self._dead_letters.bury(rows[0][0], poison)
                return []
            middle = len(rows) // 2
            halves = (rows[:middle], rows[middle:])
            return [saved for half in halves for saved in await self._save(table, half, patient=patient)]
        counted = {table: new, f"{table}.again": len(rows) - new}
        self.counts.update({name: count for name, count in counted.items() if count})
        return [delivery for delivery, _ in rows]

    async def _tried(self, messages: Sequence[Message], *, patient: bool) -> int:
        """Save, tried again while the database is away; unless patient raise Recoverable after a few tries."""
        backoff = self._replaying if patient else self._backoff
        while True:
            try:
                new = await self._ports.store.save(messages)
            except Recoverable as error:
                self._tell("persister.store_away", error)
                if not patient and backoff.failures >= SPILL_AFTER:
                    raise
                await backoff.wait()
            else:
                backoff.reset()
                self._told.clear()
                return new

    def _tell(self, event: str, error: Exception) -> None:
        """Say once what keeps messages from being saved, until they are again."""
        if event not in self._told:
            self._told.add(event)
            logger.error(event, error=str(error))

    async def _replay(self, spill: Spill) -> None:
        """Save what waits in the spill, oldest first, now and whenever there is something."""
        while True:
            while spill:
                segment = spill.oldest()
                received, _ = await self._read(segment.messages)
                for table, rows in _by_table(received).items():
                    await self._save(table, rows, patient=True)
                aside = spill.remove(segment)
                self.counts["spill.replayed"] += len(segment.messages)
                if aside is not None:
                    self.counts["spill.damaged"] += 1
                    self.counts["spill.passed_over"] += len(segment.damage)
                    first, places = segment.damage[0], len(segment.damage)
                    logger.error("persister.spill_damaged", file=str(aside), damage=first, places=places)
            self._filled.clear()
            self._emptied.set()
            await self._filled.wait()

    async def _restore(self, delivery: Delivery, message: Message) -> None:
        """Keep a record of the log that could not be kept before; while the database is away, it comes again."""
        try:
            topic, key, offset = subjects.unkept_place(delivery.subject)
            self.counts["log.restored"] += await self._ports.store.restore(topic, key, Record(offset, message))
        except Recoverable:
            return
        except BadInput as error:
            await self._dead_letters.bury(delivery, PoisonMessage("unexpected_subject", str(error)))
        except PoisonMessage as poison:
            await self._dead_letters.bury(delivery, poison)
        else:
            delivery.ack()

    async def _define(self, definitions: Iterable[InstrumentDefinition]) -> None:
        """Save what instruments are, each version once in a life; one that does not fit is counted.

        While the database is away they wait for the next bar, which says it again.
        """
        new = {(instrument_key(each.id), each.id.definition_version): each for each in definitions}
        for version in new.keys() - self._defined:
            try:
                await self._ports.store.save([new[version]])
            except Recoverable:
                return
            except PoisonMessage:
                self.counts["instruments.unsaveable"] += 1
            self._defined.add(version)

    async def _follow(self, done: StepAcknowledged) -> None:
        """Acknowledge a step after the executor: all that is kept of it came before."""
        await acknowledge_step(self._ports, NAME, done.instrument, done.step)


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Return once one of the tasks has ended; raise what it failed with."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _by_table(received: Sequence[Received]) -> dict[str, list[Received]]:
    by_table: dict[str, list[Received]] = {}
    for delivery, message in received:
        by_table.setdefault(TABLE_OF[type(message)].name, []).append((delivery, message))
    return by_table
