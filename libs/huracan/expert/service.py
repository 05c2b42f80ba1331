"""The service around one expert: windows and contexts in, opinions and new contexts out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff, Outbox
from huracan.clock import step_of, step_open
from huracan.contracts.context import Context, context, context_name
from huracan.contracts.features import FeatureWindow
from huracan.contracts.journal import JournalEntry, journal_entry
from huracan.contracts.ops import DriftChanged
from huracan.expert.port import ContextBuilder, ContextDraft, Expert
from huracan.expert.respond import respond
from huracan.ids import derived_id
from huracan.ports import Delivery, Inbox, Ports
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import Service
from huracan.ticklog.newest import newest_of

VERSIONS_KEPT = 4
"""Versions of a context kept: windows name the newest that is in force, seldom the one before."""


class ExpertService(Service):
    """Run an expert: answer each micro window once, and build the contexts it owns."""

    def __init__(self, expert: Expert, ports: Ports) -> None:
        super().__init__(expert.responder.name)
        self._expert = expert
        self._ports = ports
        self._outbox = Outbox(ports)
        self._dead_letters = DeadLetters(ports, self.name, self.counts)
        self._backoff = Backoff(ports.rng, f"contexts.{self.name}")
        self._versions: dict[tuple[str, str, int], Context] = {}
        self._newest: dict[tuple[str, str], Context] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._unread: dict[tuple[str, str], int] = {}
        """Versions that are taken by entries which cannot be read."""
        self._written: dict[tuple[str, str], Context] = {}
        self._gateway_epochs: dict[int, int] = {}

    async def run(self) -> None:
        """Answer until cancelled."""
        inbox = self._ports.bus.inbox()
        inbox.latest("ctx.v1.>")
        inbox.subscribe("feat.v1.micro.>", group=self.name)
        inbox.subscribe(subjects.rpc(self.name, "opine"), group=self.name)
        for pattern in dict.fromkeys(pattern for builder in self._expert.builders for pattern in builder.inputs):
            inbox.everything(pattern)
        heard = self._ports.bus.inbox()
        for pattern in dict.fromkeys(pattern for watcher in self._expert.watchers for pattern in watcher.inputs):
            heard.subscribe(pattern)
        await self.listening(self._ports)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(heard))
                async for delivery in inbox:
                    await self._handle(delivery)
        finally:
            heard.close()
            inbox.close()

    async def _watch(self, heard: Inbox) -> None:
        """Build from what is heard beside the questions: in an inbox of its own, for it holds some of them again."""
        async for delivery in heard:
            message = await self._dead_letters.read(delivery)
            if message is not None:
                await self._build(message, self._expert.watchers)

    async def _handle(self, delivery: Delivery) -> None:
        message = await self._dead_letters.read(delivery)
        if message is None:
            return
        if isinstance(message, Context):
            self._learn(message)
        elif isinstance(message, FeatureWindow) and delivery.subject.startswith(("feat.v1.micro.", "rpc.")):
            await self._answer(message)
        else:
            await self._build(message, self._expert.builders)
        delivery.ack()

    def _learn(self, new: Context) -> None:
        name = context_name(new.ref)
        known = self._newest.get(name)
        if known is not None and (new.epoch < known.epoch or new.ref.version <= known.ref.version):
            return
        self._newest[name] = new
        self._versions[*name, new.ref.version] = new
        self._versions.pop((*name, new.ref.version - VERSIONS_KEPT), None)

    async def _answer(self, window: FeatureWindow) -> None:
        instrument = window.instrument
        if window.epoch < self._gateway_epochs.get(instrument.shard, 0):
            self.counts["refused.old_epoch"] += 1
            return
        self._gateway_epochs[instrument.shard] = window.epoch
        answer = respond(self._expert.responder, window, self._versions)
        self.counts["abstained" if answer.abstained else "opinions"] += 1
        subject = subjects.opinion(self.name, instrument.shard, instrument.id)
        await self._ports.bus.publish(subject, answer, epoch=window.epoch)
        await acknowledge_step(self._ports, self.name, instrument.id, window.step)

    async def _build(self, message: Message, builders: Sequence[ContextBuilder]) -> None:
        for builder in builders:
            for draft in builder.observe(message):
                await self._publish(draft)

    async def _publish(self, draft: ContextDraft) -> None:
        """Log the next version, then publish it; what the last one already rests on gives none."""
        name = (draft.kind, draft.key)
        if name not in self._epochs:
            await self._take_over(name)
        known = self._written.get(name)
        if known is not None and draft.as_of_ns <= known.as_of_ns:
            return
        now_ns = self._ports.clock.now_ns()
        made = context(
            kind=draft.kind,
            key=draft.key,
            version=(known.ref.version if known else 0) + self._unread.pop(name, 0) + 1,
            epoch=self._epochs[name],
            as_of_ns=draft.as_of_ns,
            effective_from_ns=step_open(step_of(now_ns - 1) + 1),
            valid_until_ns=draft.valid_until_ns,
            payload=draft.payload,
            engine_digest=draft.engine_digest,
        )
        key = subjects.context_key(*name)
        entry = journal_entry(key, made, epoch=made.epoch, at_ns=now_ns)
        await self._backoff.until_done(
            lambda: self._ports.log.append(subjects.JOURNAL_TOPIC, key, entry, record_id=_message_id(made))
        )
        self.counts["contexts"] += 1
        await self._send(made)
        if draft.shows is not None:
            event = "drift" if isinstance(draft.shows, DriftChanged) else "heat_map"
            await self._ports.bus.publish(subjects.ops(self.name, event), draft.shows)

    async def _take_over(self, name: tuple[str, str]) -> None:
        """Continue where the last writer of a context stopped; what it logged may not have been published.

        Each entry after the newest that can be read counts as one version in one epoch: none is given twice.
        """
        key = subjects.context_key(*name)
        found = await newest_of(self._ports.log, subjects.JOURNAL_TOPIC, key, JournalEntry)
        self._unread[name] = found.unread
        self._epochs[name] = found.unread + 1
        if found.message is not None:
            self._epochs[name] += found.message.epoch
            await self._send(found.message.context)

    async def _send(self, made: Context) -> None:
        name = context_name(made.ref)
        self._written[name] = made
        self._learn(made)
        await self._outbox.put(subjects.context(*name), made, message_id=_message_id(made), epoch=made.epoch)
        await self._outbox.flush()


def _message_id(made: Context) -> bytes:
    return derived_id("context", *context_name(made.ref), made.epoch, made.ref.version)
