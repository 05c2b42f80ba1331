"""Hot swap: who is asked for another engine, tries it beside the one that serves, and writes which one answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

from huracan.bus import subjects
from huracan.contracts.context import (
    ENGINE,
    Context,
    ContextRef,
    EngineBundle,
    EngineChoice,
    EngineStage,
    engine_choice,
    engine_stage_name,
)
from huracan.contracts.ops import EngineAction, EngineEvent, EngineReport, EngineRequest, engine_event_name
from huracan.errors import BadInput, HuracanError
from huracan.expert.engines import Engines
from huracan.expert.port import ContextDraft
from huracan.expert.trial import Answer, Left, SwapConfig, Trial
from huracan.ports import Ports

logger = structlog.get_logger()

FOREVER_NS = 2**63 - 1
"""A choice holds until there is another."""
_SHADOW, _PROBATION = EngineStage.ENGINE_STAGE_SHADOW, EngineStage.ENGINE_STAGE_PROBATION
_SHORT = 12

T = TypeVar("T")
Publish = Callable[[ContextDraft, int], Awaitable[None]]
"""Log the next version of a context, in force so many steps after the next, publish it, and have it learned."""


def told(name: EngineBundle) -> str:
    """Return a bundle as people name it."""
    return f"{name.name} {name.version} ({name.digest.hex()[:_SHORT]})"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, HuracanError) else repr(error)


class Swap(Generic[T]):
    """One engine of a service. Every change is a version of the context `engine`, written before it is in force.

    A trial is counted in memory: after a restart it begins again, with the stage that was logged.
    """

    def __init__(
        self,
        service: str,
        engines: Engines[T],
        config: SwapConfig,
        ports: Ports,
        publish: Publish,
        counts: Counter[str],
    ) -> None:
        self.engines = engines
        self.trial: Trial | None = None
        self.decides = config.decides
        self._service = service
        self._config = config
        self._ports = ports
        self._publish = publish
        self._counts = counts
        self._changing = asyncio.Lock()

    # What is asked.

    async def asked(self, request: EngineRequest) -> None:
        """Do what is asked and report it, or why it is refused."""
        try:
            if request.action == EngineAction.ENGINE_ACTION_LIST:
                await self._report(EngineEvent.ENGINE_EVENT_LISTED, "", self.trial, request)
            elif not request.author:
                raise BadInput("author was empty: a change of engines has one")
            else:
                await self._change(request)
        except Exception as error:  # noqa: BLE001 - whatever a bundle is made of, what serves goes on
            await self._report(EngineEvent.ENGINE_EVENT_REFUSED, _reason(error), self.trial, request)

    async def _change(self, request: EngineRequest) -> None:
        name, what = await self._opened(request.bundle)
        async with self._changing:
            event, choice, lead_steps = self._wanted(request, name)
            self.engines.keep(name, what)
            ended = self.trial
            await self._write(choice, lead_steps)
            await self._report(event, f"{told(name)}: {request.reason}", self.trial or ended, request)

    async def _opened(self, digest: str) -> tuple[EngineBundle, T]:
        if self._ports.lockstep:  # what a thread does takes a time that no replay knows
            return self.engines.open(digest)
        return await asyncio.to_thread(self.engines.open, digest)

    def _wanted(self, request: EngineRequest, name: EngineBundle) -> tuple[EngineEvent, EngineChoice, int]:
        """Return what becomes of a request, the choice that it makes, and the steps that copies need for it."""
        now, serves = self.engines.choice, self.engines.choice.serves
        author, reason = request.author, request.reason
        if request.action == EngineAction.ENGINE_ACTION_SETTLE:
            if name.digest != serves.digest or not now.HasField("beside"):
                raise BadInput(f"{told(name)} was to be settled: {told(serves)} serves, {engine_stage_name(now.stage)}")
            return EngineEvent.ENGINE_EVENT_SETTLED, engine_choice(serves, author=author, reason=reason), 0
        if name.digest == serves.digest:  # a request that comes twice changes nothing
            raise BadInput(f"{told(name)} serves already, {engine_stage_name(now.stage)}")
        if request.action == EngineAction.ENGINE_ACTION_OFFER:
            if now.stage == _PROBATION:
                raise BadInput(f"{told(serves)} is on probation: offer another once that is over")
            offered = engine_choice(serves, beside=name, stage=_SHADOW, author=author, reason=reason)
            return EngineEvent.ENGINE_EVENT_OFFERED, offered, 0
        if request.action != EngineAction.ENGINE_ACTION_USE:
            raise BadInput(f"action was {request.action}: list, offer, use or settle")
        on_probation = now.stage == _PROBATION
        if name.digest == self.engines.configured.digest or (on_probation and name.digest == now.beside.digest):
            return EngineEvent.ENGINE_EVENT_ROLLED_BACK, engine_choice(name, author=author, reason=reason), 0
        proven = now.beside if on_probation else serves  # what is on probation itself is nothing to fall back on
        taken = engine_choice(name, beside=proven, stage=_PROBATION, author=author, reason=reason)
        return (
            EngineEvent.ENGINE_EVENT_TAKEN_OVER,
            taken,
            0 if name.digest == now.beside.digest else self._config.lead_steps,
        )

    # What is tried.

    def beside(self, ref: ContextRef | None) -> T | None:
        """Return what is to be tried on a window that names a choice; None where there is no trial, or not here."""
        return None if self.trial is None else self.engines.beside(ref)

    def on_trial(self, named: Context | None) -> bool:
        """Return whether an engine is on trial, here or in the copy that decides, by this choice or by the newest."""
        return any(choice.HasField("beside") for choice in (self.engines.choice, *([named.engine] if named else [])))

    def compare(self, trial: Trial, serving: Answer, beside: Answer) -> bool:
        """Take what both engines made of a window into the trial of then; return whether it is to be judged now."""
        if trial is not self.trial:
            return False  # somebody has decided meanwhile
        shadow = self.engines.choice.stage == _SHADOW
        trial.count(*((beside, serving) if shadow else (serving, beside)))
        return trial.left() is not None or trial.complete

    async def judge(self, trial: Trial) -> None:
        """Do what follows from a trial that is over."""
        async with self._changing:
            if trial is not self.trial:
                return
            left = trial.left()
            reason = str(left) if left else f"within all bounds over {trial.windows} windows"
            await self._end(reason, trial, passed=left is None)

    async def _end(self, reason: str, trial: Trial | None, *, passed: bool) -> None:
        now = self.engines.choice
        event, choice = self._judged(now, passed=passed, reason=reason)
        await self._write(choice)
        await self._report(event, f"{told(now.beside if now.stage == _SHADOW else now.serves)}: {reason}", trial)

    def _judged(self, now: EngineChoice, *, passed: bool, reason: str) -> tuple[EngineEvent, EngineChoice]:
        author = self._service
        if now.stage == _SHADOW and passed:
            taken = engine_choice(now.beside, beside=now.serves, stage=_PROBATION, author=author, reason=reason)
            return EngineEvent.ENGINE_EVENT_TAKEN_OVER, taken
        if now.stage == _PROBATION and not passed:
            return EngineEvent.ENGINE_EVENT_ROLLED_BACK, engine_choice(now.beside, author=author, reason=reason)
        event = EngineEvent.ENGINE_EVENT_SETTLED if passed else EngineEvent.ENGINE_EVENT_REJECTED
        return event, engine_choice(now.serves, author=author, reason=reason)

    # What is written.

    async def take_up(self) -> None:
        """Go on with the newest choice after a start; one whose bundle cannot be opened any more is replaced.

        What was on trial then is none any more; in place of what had passed, what is configured serves. A trial begins
        anew, and is over once it has done so too often: that is written before what is tried is opened, which may be
        what brings the process down.
        """
        now = self.engines.choice
        proven, tried = (now.beside, now.serves) if now.stage == _PROBATION else (now.serves, now.beside)
        reason, serves = self._lost(proven), self.engines.configured
        if not reason and now.HasField("beside"):
            if now.restarts >= self._config.max_restarts:
                left = Left("restarts", now.restarts + 1, self._config.max_restarts)
                await self._end(str(left), None, passed=False)
                return
            again = EngineChoice()
            again.CopyFrom(now)
            again.restarts += 1
            await self._write(again)
            reason, serves = self._lost(tried), proven
        if reason:
            await self._write(engine_choice(serves, author=self._service, reason=reason))
            await self._report(EngineEvent.ENGINE_EVENT_LOST, reason, None)

    def _lost(self, name: EngineBundle) -> str:
        """Return why a bundle cannot be opened; empty where it is open."""
        try:
            self.engines.ensure(name)
        except Exception as error:  # noqa: BLE001 - whatever a bundle is made of, the service starts
            return _reason(error)
        return ""

    async def _write(self, choice: EngineChoice, lead_steps: int = 0) -> None:
        self.trial, newest = None, self.engines.newest  # what is answered meanwhile is of neither trial
        draft = ContextDraft(
            kind=ENGINE,
            key=self.engines.key,
            as_of_ns=max(self._ports.clock.now_ns(), newest.as_of_ns + 1 if newest else 0),
            valid_until_ns=FOREVER_NS,
            payload=choice,
            engine_digest=choice.serves.digest,
        )
        await self._publish(draft, lead_steps)
        self._begin()

    def _begin(self) -> None:
        """Count anew for the newest choice."""
        stage, config = self.engines.choice.stage, self._config
        planned = {_SHADOW: config.shadow_windows, _PROBATION: config.probation_windows}.get(stage)
        self.trial = Trial(config, planned, timed=not self._ports.lockstep) if planned else None

    async def follow(self) -> None:
        """Open what another copy of the service has chosen; windows that name what cannot be opened are abstained."""
        for name in self.engines.missing():
            try:
                self.engines.keep(*await self._opened(name.digest.hex()))
            except Exception as error:  # noqa: BLE001 - whatever a bundle is made of, the copy goes on
                self._counts["engines.lost"] += 1
                logger.warning("engine.lost", key=self.engines.key, bundle=told(name), reason=_reason(error))

    async def opened(self, told: Sequence[str]) -> None:
        """Say what was said when what answers now was opened."""
        for sentence in told:
            await self._report(EngineEvent.ENGINE_EVENT_OPENED, sentence, None)

    async def _report(
        self, event: EngineEvent, detail: str, trial: Trial | None, request: EngineRequest | None = None
    ) -> None:
        self._counts[f"engines.{engine_event_name(event)}"] += 1
        listed = event == EngineEvent.ENGINE_EVENT_LISTED
        report = EngineReport(
            request_id=request.request_id if request else b"",
            key=self.engines.key,
            event=event,
            detail=detail,
            choice=self.engines.choice,
            version=self.engines.version,
            trial=trial.told() if trial else None,
            library=self.engines.library() if listed else [],
            at_ns=self._ports.clock.now_ns(),
        )
        await self._ports.bus.publish(subjects.ops(self._service, "engine"), report)
