"""The service around one expert: windows and contexts in, opinions and new contexts out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff, Outbox
from huracan.clock import MICROSECOND_NS, NANOSECONDS, step_of, step_open
from huracan.contracts.context import ENGINE, Context, ContextRef, EngineBundle, context, context_name
from huracan.contracts.features import FeatureWindow
from huracan.contracts.journal import JournalEntry, journal_entry
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import DriftChanged, EngineEvent, EngineReport, EngineRequest
from huracan.errors import BadInput
from huracan.expert.engines import VERSIONS_KEPT, Engines, Library, named
from huracan.expert.port import ContextBuilder, ContextDraft, Expert, Part, Responder
from huracan.expert.respond import Versions, answer, engine_ref, without_numbers
from huracan.expert.swap import Swap
from huracan.expert.trial import Answer, Flaw, SwapConfig, flaw_of
from huracan.ids import derived_id
from huracan.inference.batching import TIMES_US, gauge, observe
from huracan.inference.bundle import Bundle
from huracan.inference.engine import Engine, EngineFault
from huracan.ports import Delivery, Inbox, Ports
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import Service
from huracan.ticklog.newest import newest_of

TRY_AGAIN_NS = 5 * NANOSECONDS
"""Between two attempts of a copy to open what it could not open when it was chosen."""


class ExpertService(Service):
    """Run an expert: answer each micro window once, and build the contexts it owns."""

    def __init__(
        self,
        expert: Expert,
        ports: Ports,
        swaps: Mapping[str, SwapConfig] | None = None,
        *,
        stopwatch: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        """`stopwatch` times engines: by default, their thread's time on a processor, which others do not lengthen."""
        super().__init__(expert.responder.name)
        self._expert = expert
        self._ports = ports
        self._stopwatch = stopwatch
        self._swap = self._of_responder(swaps or {})
        self._part = self._of_part(swaps or {})
        self._swaps = {swap.engines.key: swap for swap in (self._swap, self._part) if swap is not None}
        self._tasks: asyncio.TaskGroup | None = None
        """While it runs: what is done beside the windows."""
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
        self._steps: dict[str, int] = {}
        """The newest step of each instrument that was asked about."""
        self._answering: dict[str, bytes] = {}
        """Digest of what answers, by key."""
        self._tried_again_ns = 0

    def _of_responder(self, swaps: Mapping[str, SwapConfig]) -> Swap[Responder] | None:
        expert, config = self._expert, swaps.get(self.name)
        if config is None or expert.opened is None:
            return None
        alone = EngineBundle(digest=expert.responder.engine_digest, name=self.name)
        name = alone if expert.bundle is None else named(expert.bundle)
        opened = partial(_as_far_ahead, expert.opened, expert.responder.horizon_ns)
        engines = Engines(self.name, expert.responder, name, opened, Library(config.library))
        return Swap(self.name, engines, config, self._ports, self._publish, self.counts)

    def _of_part(self, swaps: Mapping[str, SwapConfig]) -> Swap[ContextBuilder] | None:
        part = self._expert.part
        config = None if part is None else swaps.get(part.key)
        if part is None or config is None:
            return None
        engines = Engines(part.key, part.builder, part.name, part.opened, Library(config.library))
        return Swap(self.name, engines, config, self._ports, self._publish, self.counts)

    async def run(self) -> None:
        """Answer until cancelled."""
        deciding = [swap for swap in self._swaps.values() if swap.decides]
        for swap in deciding:
            await self._take_over((ENGINE, swap.engines.key))
            await swap.take_up()
        inbox = self._ports.bus.inbox()
        inbox.latest("ctx.v1.>")
        inbox.subscribe("feat.v1.micro.>", group=self.name)
        inbox.subscribe(subjects.rpc(self.name, "opine"), group=self.name)
        if deciding:
            inbox.subscribe(subjects.rpc(self.name, "engine"))
        for pattern in dict.fromkeys(pattern for builder in self._expert.builders for pattern in builder.inputs):
            inbox.everything(pattern)
        heard = self._ports.bus.inbox()
        for pattern in dict.fromkeys(pattern for watcher in self._expert.watchers for pattern in watcher.inputs):
            heard.subscribe(pattern)
        await self.listening(self._ports)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._watch(heard))
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
            await asyncio.sleep(0)  # after a stall many wait, and whoever is asked comes first

    async def _handle(self, delivery: Delivery) -> None:
        message = await self._dead_letters.read(delivery)
        if message is None:
            return
        if isinstance(message, Context):
            await self._learn(message)
        elif isinstance(message, FeatureWindow) and delivery.subject.startswith(("feat.v1.micro.", "rpc.")):
            await self._answer(message)
        elif isinstance(message, EngineRequest):
            await self._asked(message)
        else:
            await self._build(message, self._expert.builders)
        delivery.ack()

    async def _learn(self, new: Context) -> None:
        name = context_name(new.ref)
        known = self._newest.get(name)
        if known is not None and (new.epoch < known.epoch or new.ref.version <= known.ref.version):
            return
        self._newest[name] = new
        self._versions[*name, new.ref.version] = new
        self._versions.pop((*name, new.ref.version - VERSIONS_KEPT), None)
        swap = self._swaps.get(new.ref.key) if new.ref.kind == ENGINE else None
        if swap is not None:
            swap.engines.take(new)
            if not swap.decides:
                await self._meanwhile(swap.follow())

    async def _answer(self, window: FeatureWindow) -> None:
        instrument = window.instrument
        if window.epoch < self._gateway_epochs.get(instrument.shard, 0):
            self.counts["refused.old_epoch"] += 1
            return
        self._gateway_epochs[instrument.shard] = window.epoch
        ref, swap = engine_ref(self.name, window), self._swap
        chosen = None if ref is None else self._versions.get((ref.kind, ref.key, ref.version))
        serving, versions = self._serving(ref, chosen), self._versions
        if serving is None:
            await self._miss(swap)
            serving, versions = self._expert.responder, {}  # which abstains, with the first reason that holds
        beside, trial = (None, None) if swap is None or not self._is_new(window) else (swap.beside(ref), swap.trial)
        said, made = self._ask(serving, window, versions, on_trial=swap is not None and swap.on_trial(chosen))
        self.counts["abstained" if said.abstained else "opinions"] += 1
        subject = subjects.opinion(self.name, instrument.shard, instrument.id)
        await self._ports.bus.publish(subject, said, epoch=window.epoch)
        if swap is not None and beside is not None and trial is not None:
            said, other = self._ask(beside, window, versions, on_trial=True)
            subject = subjects.shadow(self.name, instrument.shard, instrument.id)
            await self._ports.bus.publish(subject, said, epoch=window.epoch)
            if swap.compare(trial, made, other):
                await self._meanwhile(swap.judge(trial))
        await self._answered_by(self.name, serving.engine_digest, serving.engines)
        await acknowledge_step(self._ports, self.name, instrument.id, window.step)

    def _is_new(self, window: FeatureWindow) -> bool:
        """Return whether a window is the first of its step, and not asked again: a trial counts it once."""
        key = instrument_key(window.instrument.id)
        newest, self._steps[key] = self._steps.get(key, -1), max(window.step, self._steps.get(key, -1))
        return window.step > newest

    def _serving(self, ref: ContextRef | None, chosen: Context | None) -> Responder | None:
        """Return what answers a window that names this choice, or none; None where that is not at hand."""
        if ref is None:
            return self._expert.responder
        return None if self._swap is None or chosen is None else self._swap.engines.serving(chosen)

    def _ask(
        self, responder: Responder, window: FeatureWindow, versions: Versions, *, on_trial: bool
    ) -> tuple[Opinion, Answer]:
        """Return the opinion of a responder, and how it came about; on trial it may fail in any way."""
        began_ns, faults, flaw = self._stopwatch(), _faults(responder.engines), None
        try:
            said = answer(responder, window, versions)
        except Exception as error:
            if not (on_trial or isinstance(error, EngineFault)):
                raise
            said, flaw = without_numbers(responder, window), flaw_of(error)
        compute_ns = self._stopwatch() - began_ns
        faults = _faults(responder.engines) - faults
        if faults:  # made up for or not
            flaw = flaw or Flaw.NO_NUMBERS
        self._count(responder.engines, faults, compute_ns)
        shares = None if said.abstained else (said.p_down, said.p_flat, said.p_up)
        return said, Answer(shares, flaw, compute_ns)

    async def _asked(self, request: EngineRequest) -> None:
        """Do what is asked about engines."""
        swap = self._swaps.get(request.key)
        if swap is not None:
            if swap.decides:  # else another copy does
                await self._meanwhile(swap.asked(request))
            return
        keys = ", ".join(sorted(self._swaps))
        refused = EngineReport(
            request_id=request.request_id,
            key=request.key,
            event=EngineEvent.ENGINE_EVENT_REFUSED,
            detail=f"key was {request.key!r}: engines of this service are {keys}",
            at_ns=self._ports.clock.now_ns(),
        )
        await self._ports.bus.publish(subjects.ops(self.name, "engine"), refused)

    async def _meanwhile(self, work: Coroutine[object, object, None]) -> None:
        """Do what takes a while beside the windows; in lockstep no window comes meanwhile, and it is done at once."""
        if self._ports.lockstep:
            await work
            return
        assert self._tasks is not None
        self._tasks.create_task(work)

    async def _build(self, message: Message, builders: Sequence[ContextBuilder]) -> None:
        for builder in builders:
            part = self._expert.part
            if self._part is not None and part is not None and builder is part.builder:
                await self._build_on(self._part, part, message)
                continue
            for draft in builder.observe(message):
                await self._publish(draft)

    async def _build_on(self, swap: Swap[ContextBuilder], part: Part, message: Message) -> None:
        """Build on the engine that serves now, and on the one beside it: what is new is compared, and one counts."""
        engines = swap.engines
        serving = engines.serving(engines.newest)
        beside, trial = swap.beside(engines.newest.ref if engines.newest else None), swap.trial
        if serving is None:
            await self._miss(swap)
            return
        drafts, made = self._observe(serving, part, message, on_trial=swap.on_trial(engines.newest))
        tried, other = ((), None) if beside is None else self._observe(beside, part, message, on_trial=True)
        news = [draft for draft in (*drafts, *tried) if await self._is_news(draft)]
        for draft in drafts:
            await self._publish(draft)
            await self._answered_by(part.key, draft.engine_digest, part.engines(serving))
        if trial is not None and other is not None and news and swap.compare(trial, made, other):
            await self._meanwhile(swap.judge(trial))

    def _observe(
        self, builder: ContextBuilder, part: Part, message: Message, *, on_trial: bool
    ) -> tuple[Sequence[ContextDraft], Answer]:
        began_ns, flaw, drafts = self._stopwatch(), None, list[ContextDraft]()
        engines = part.engines(builder)
        faults = _faults(engines)
        try:
            drafts += builder.observe(message)
        except Exception as error:
            if not on_trial:
                raise
            flaw = flaw_of(error)
        compute_ns = self._stopwatch() - began_ns
        faults = _faults(engines) - faults
        if drafts or faults:
            self._count(engines, faults, compute_ns)
        return drafts, Answer(part.odds(drafts[0]) if drafts else None, flaw, compute_ns)

    def _count(self, engines: Sequence[Engine], faults: int, compute_ns: int) -> None:
        if engines:
            self.counts["engine.faults"] += faults
            observe(self.counts, "engine.compute_us", compute_ns // MICROSECOND_NS, TIMES_US)

    async def _answered_by(self, key: str, digest: bytes, engines: Sequence[Engine]) -> None:
        """Count which engine answers for a key; of one that did not before, say what was told when it was opened."""
        before = self._answering.get(key)
        if digest == before:
            return
        self._answering[key] = digest
        if before is not None:
            self.counts[gauge(before)] = 0
        self.counts[gauge(digest)] = 1
        swap = self._swaps.get(key)
        if swap is not None:
            await swap.opened([sentence for engine in engines for sentence in engine.told])

    async def _miss(self, swap: Swap[Responder] | Swap[ContextBuilder] | None) -> None:
        """Count what is asked of an engine that is not at hand; at times a copy that follows tries to open it again."""
        self.counts["engines.missing"] += 1
        now_ns = self._ports.clock.now_ns()
        if swap is not None and not swap.decides and now_ns >= self._tried_again_ns + TRY_AGAIN_NS:
            self._tried_again_ns = now_ns
            await self._meanwhile(swap.follow())

    async def _is_news(self, draft: ContextDraft) -> bool:
        """Return whether the last version of a context does not yet rest on what a draft does."""
        name = (draft.kind, draft.key)
        if name not in self._epochs:
            await self._take_over(name)
        known = self._written.get(name)
        return known is None or draft.as_of_ns > known.as_of_ns

    async def _publish(self, draft: ContextDraft, lead_steps: int = 0) -> None:
        """Log the next version, then publish it; what the last one already rests on gives none.

        It is in force from the next step on, or so many later.
        """
        if not await self._is_news(draft):
            return
        name = (draft.kind, draft.key)
        known = self._written.get(name)
        now_ns = self._ports.clock.now_ns()
        made = context(
            kind=draft.kind,
            key=draft.key,
            version=(known.ref.version if known else 0) + self._unread.pop(name, 0) + 1,
            epoch=self._epochs[name],
            as_of_ns=draft.as_of_ns,
            effective_from_ns=step_open(step_of(now_ns - 1) + 1 + lead_steps),
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
        await self._learn(made)
        await self._outbox.put(subjects.context(*name), made, message_id=_message_id(made), epoch=made.epoch)
        await self._outbox.flush()


def _faults(engines: Sequence[Engine]) -> int:
    return sum(engine.counts["engine.faults"] for engine in engines)


def _as_far_ahead(opened: Callable[[Bundle], Responder], horizon_ns: int, bundle: Bundle) -> Responder:
    """Return a responder of another bundle; raise BadInput for one that looks less or further ahead than this."""
    made = opened(bundle)
    if made.horizon_ns != horizon_ns:
        ahead_s, wanted_s = made.horizon_ns / NANOSECONDS, horizon_ns / NANOSECONDS
        raise BadInput(f"{bundle.directory} looks {ahead_s:g} s ahead: opinions of this expert look {wanted_s:g} s")
    return made


def _message_id(made: Context) -> bytes:
    return derived_id("context", *context_name(made.ref), made.epoch, made.ref.version)
