"""The orchestrator's mind: a deterministic fold over one journal. The same entries give the same decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import Context, RegimeShare
from huracan.contracts.decision import Decision
from huracan.contracts.journal import (
    DeadlineFired,
    EpochStarted,
    ExpertAvailability,
    JournalEntry,
    WindowOpened,
)
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan_orchestrator.config import GateConfig
from huracan_orchestrator.gate import decide

CONTEXTS_KEPT = 8
"""Versions of a context kept: opinions name the newest, seldom the one before."""

WindowKey = tuple[str, int, int]
"""Instrument, gateway epoch, step."""


@dataclass(slots=True)
class Open:
    """A window that waits for opinions."""

    opened: WindowOpened
    epoch: int
    opinions: dict[str, Opinion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missed:
    """Steps of an instrument of which no window came: `first` to `last`, both included."""

    instrument: str
    first: int
    last: int


class Fold:
    """Apply journal entries one by one. Entries of an older epoch than the newest seen are refused."""

    def __init__(self) -> None:
        self.config = GateConfig()
        self.epoch = 0
        self.counts: Counter[str] = Counter()
        self.missed: list[Missed] = []
        """Gaps in the windows, oldest first: the counted reason of every step that has no decision."""
        self.pending: dict[WindowKey, Open] = {}
        self._config_digest = b""
        self._unavailable: set[str] = set()
        self._last_step: dict[str, int] = {}
        self._gateway_epoch: dict[str, int] = {}
        self._contexts: dict[tuple[str, str], dict[int, Context]] = {}

    def apply(self, entry: JournalEntry) -> list[Decision]:
        """Take the next entry and return the decisions that it completes, in order of their windows."""
        if entry.epoch < self.epoch:
            self.counts["refused.old_epoch"] += 1
            return []
        match entry.WhichOneof("entry"):
            case "epoch_started":
                return self._start(entry.epoch_started, entry.epoch)
            case "window_opened":
                return self._open(entry.window_opened, entry.at_ns)
            case "opinion":
                return self._hear(entry.opinion)
            case "context":
                self._learn(entry.context)
            case "deadline_fired":
                return self._expire(entry.deadline_fired)
            case "expert_availability":
                return self._available(entry.expert_availability)
        return []

    def refuses(self, opened: WindowOpened) -> str | None:
        """Return why a window is not for this fold, or None."""
        key = instrument_key(opened.instrument.id)
        if opened.gateway_epoch < self._gateway_epoch.get(key, 0):
            return "old_epoch"
        if opened.step <= self._last_step.get(key, -1):
            return "out_of_order"
        return None

    def waits_for(self, opinion: Opinion) -> bool:
        """Return whether an opinion is about an open window that has none of its expert yet."""
        waiting = self.pending.get((instrument_key(opinion.instrument), opinion.epoch, opinion.step))
        return waiting is not None and opinion.expert not in waiting.opinions and opinion.expert in self.config.experts

    def is_past(self, opinion: Opinion) -> bool:
        """Return whether the window of an opinion cannot be opened any more."""
        key = instrument_key(opinion.instrument)
        newest = self._gateway_epoch.get(key, 0), self._last_step.get(key, -1)
        return (opinion.epoch, opinion.step) <= newest

    def silent(self, key: WindowKey) -> list[str]:
        """Return the experts that an open window still waits for."""
        waiting = self.pending.get(key)
        if waiting is None:
            return []
        heard = waiting.opinions.keys() | self._unavailable
        return [name for name in self.config.experts if name not in heard]

    def _start(self, started: EpochStarted, epoch: int) -> list[Decision]:
        """Close what the writer before left open: a gap is HOLD with a reason, never two voices."""
        reason = AbstainReason.ABSTAIN_REASON_EPOCH_GAP
        left = [self._decide(key, reason) for key in list(self.pending)]
        self.epoch = epoch
        self.config = GateConfig.model_validate_json(started.config_json)
        self._config_digest = started.config_digest
        self._unavailable.clear()
        return left

    def _open(self, opened: WindowOpened, at_ns: int) -> list[Decision]:
        if self.refuses(opened):
            self.counts[f"refused.{self.refuses(opened)}"] += 1
            return []
        name = instrument_key(opened.instrument.id)
        first = self._last_step[name] + 1 if name in self._last_step else opened.first_step
        if opened.step > first:
            self.missed.append(Missed(name, first, opened.step - 1))
            self.counts["windows.missed"] += opened.step - first
        self._last_step[name] = opened.step
        self._gateway_epoch[name] = opened.gateway_epoch
        key = (name, opened.gateway_epoch, opened.step)
        self.pending[key] = Open(opened, self.epoch)
        if at_ns > opened.close_ns + self.config.validity_ms * MILLISECOND_NS:
            return [*self._overtaken(key), self._decide(key, AbstainReason.ABSTAIN_REASON_LATE)]
        return self._complete(key)

    def _hear(self, opinion: Opinion) -> list[Decision]:
        if not self.waits_for(opinion):
            self.counts["refused.opinion"] += 1
            return []
        key = (instrument_key(opinion.instrument), opinion.epoch, opinion.step)
        self.pending[key].opinions[opinion.expert] = opinion
        return self._complete(key)

    def _learn(self, context: Context) -> None:
        versions = self._contexts.setdefault((context.ref.kind, context.ref.key), {})
        if context.epoch < max((known.epoch for known in versions.values()), default=0):
            self.counts["refused.context"] += 1
            return
        versions[context.ref.version] = context
        for version in sorted(versions)[:-CONTEXTS_KEPT]:
            del versions[version]

    def _expire(self, fired: DeadlineFired) -> list[Decision]:
        key = (instrument_key(fired.instrument), fired.gateway_epoch, fired.step)
        if key not in self.pending:
            return []
        return [*self._overtaken(key), self._decide_with_heard(key)]

    def _available(self, change: ExpertAvailability) -> list[Decision]:
        (self._unavailable.discard if change.available else self._unavailable.add)(change.expert)
        return [decision for key in list(self.pending) for decision in self._complete(key)]

    def _complete(self, key: WindowKey) -> list[Decision]:
        if key not in self.pending or self.silent(key):
            return []
        return [*self._overtaken(key), self._decide_with_heard(key)]

    def _overtaken(self, key: WindowKey) -> list[Decision]:
        """Decide what still waits of an instrument before one that is decided: no decision overtakes another."""
        name, epoch, step = key
        before = sorted(other for other in self.pending if other[0] == name and other[1:] < (epoch, step))
        return [self._decide_with_heard(other) for other in before]

    def _decide_with_heard(self, key: WindowKey) -> Decision:
        """Decide, and count who has no part in it: also those known to be gone, for whom nobody waited."""
        for name in self.config.experts:
            self.counts[f"silent.{name}"] += name not in self.pending[key].opinions
        return self._decide(key)

    def _decide(self, key: WindowKey, reason: AbstainReason | None = None) -> Decision:
        waiting = self.pending.pop(key)
        return decide(
            waiting.opened,
            waiting.opinions,
            self.config,
            epoch=waiting.epoch,
            config_digest=self._config_digest,
            regime_shares=self._regime_shares(waiting),
            reason=reason,
        )

    def _regime_shares(self, waiting: Open) -> list[RegimeShare]:
        for opinion in (waiting.opinions[name] for name in self.config.experts if name in waiting.opinions):
            for ref in opinion.contexts:
                context = self._contexts.get((ref.kind, ref.key), {}).get(ref.version)
                if context is not None and context.HasField("regime"):
                    return list(context.regime.shares)
        return []
