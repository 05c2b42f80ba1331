"""Whether an instrument is still as it was: from its steps, and the losses of experts on them, to a context."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import Message

from huracan.clock import STEP_NS
from huracan.contracts.context import (
    DRIFT,
    DriftFinding,
    DriftLevel,
    DriftState,
    drift_finding,
    drift_key,
    drift_state,
)
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import drift_changed
from huracan.expert.port import ContextDraft
from huracan.expert.score import engine_digest
from huracan.features.micro import MICRO
from huracan_regime.config import DriftConfig, MeanConfig
from huracan_regime.distribution import CHUNK, PARTS, ColumnWatch, Rows, Spread
from huracan_regime.losses import LONGEST_STEPS, LossStream

METHOD = "drift psi adwin 1"
ADWIN = "adwin"
VOLATILITY = "volatility"
"""Name of what is found in the size of the moves of the mid."""
LOSS = "loss."
"""What the losses of an expert are called by, before its name."""
SHOWN = 8
"""Findings that are named at once."""
OK, WATCH, ACT = DriftLevel.DRIFT_LEVEL_OK, DriftLevel.DRIFT_LEVEL_WATCH, DriftLevel.DRIFT_LEVEL_ACT

_MID_RETURN = MICRO.names.index("mid_return_bps")
_LARGEST_MOVE = 20.0
"""No move counts for more, in units of twice the root mean square of the reference: one jump is not more volatility."""
_UNCERTAIN = 10
"""Times the grace period for which a change that was too small may still grow."""
_MIDS_KEPT = 2 * LONGEST_STEPS


def heard_of(config: DriftConfig) -> tuple[str, ...]:
    """Return the subjects that tell of drift."""
    return ("feat.v1.micro.>", *(f"sig.v1.{expert}.>" for expert in config.loss.experts))


class MeanWatch:
    """ADWIN on a stream of values, one `steps` steps after another, of which smaller rises than `least` do not count.

    ADWIN is often sure that a mean has changed before it is clear how far: a rise that is too small at first counts as
    soon as the mean of what followed is large enough.
    """

    def __init__(self, config: MeanConfig, *, steps: int = 1, least: float = 0.0) -> None:
        from river import drift  # slow to import, and only what watches needs it

        self.least = least
        self._grace = config.grace_period
        self._detector = drift.ADWIN(  # type: ignore[no-untyped-call]
            delta=config.delta, clock=max(1, config.clock_steps // steps), grace_period=config.grace_period
        )
        self._count, self._total = 0, 0.0
        """Of the values that the detector knows: it begins anew after a change."""
        self._before: float | None = None
        """Mean before a change that was too small."""

    def push(self, value: float) -> tuple[float, float] | None:
        """Take the next value; return the means before and after where the mean has risen, or fallen."""
        detector = self._detector
        detector.update(value)  # type: ignore[no-untyped-call]
        self._count += 1
        self._total += value
        if detector.drift_detected:
            kept, after = detector.width, float(detector.estimation)
            before = (self._total - kept * after) / (self._count - kept)
            self._count, self._total = 0, 0.0
            self._before = before if after - before <= self.least else None
            return None if 0 < after - before <= self.least else (before, after)
        if self._before is None or self._count < self._grace:
            return None
        before, after = self._before, self._total / self._count
        if after - before > self.least:
            self._before = None
            return before, after
        if self._count >= _UNCERTAIN * self._grace:
            self._before = None
        return None


class _Stream:
    """What is known of one instrument."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self.epoch = 0
        self.step = -1
        self.level = DriftLevel.DRIFT_LEVEL_UNSPECIFIED
        self.since_ns = 0
        self.told_at = 0
        """Rows since the start at which a context was last told."""
        self.rows_in_all = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all but what was last told: features, or the gateway, begin anew."""
        self.mids: dict[int, float] = {}
        self.losses: dict[str, LossStream] = {}
        self._loss_means: dict[str, MeanWatch] = {}
        self._forget_reference()

    def _forget_reference(self) -> None:
        """Forget the reference, and what was compared with it."""
        judged = self._config.distribution.window_rows // CHUNK
        self.columns = ColumnWatch(MICRO.columns, self._config.distribution)
        self.rows = self.missed = 0
        self._moves: MeanWatch | None = None
        self._move_unit = 0.0
        self._changes: dict[str, tuple[int, DriftFinding]] = {}
        """Of each mean that has changed, what was found, and the row until which that counts."""
        self._levels: deque[DriftLevel] = deque(maxlen=judged)
        """What the newest rows were found to be, over the last window."""
        self._spreads: deque[bool] = deque(maxlen=judged)
        """Whether columns had moved, likewise."""
        self._moved_since: int | None = None
        self.findings: list[DriftFinding] = []
        """The last that there were."""
        self.told: set[str] = set()
        """What has been named since the level was entered."""

    def push(self, row: Rows) -> bool:
        """Take a row and return whether the level was judged anew."""
        self.rows += 1
        self.rows_in_all += 1
        spread = self.columns.push(row, moved=any(self._spreads))
        self._follow_moves(row)
        if spread is None:
            return False
        self._judge(spread)
        return True

    def hear(self, opinion: Opinion) -> None:
        """Take the odds of an expert; its losses with another engine, or over another time, are forgotten."""
        expert = opinion.expert
        if expert not in self.losses:
            self.losses[expert] = LossStream(self._config.loss)
        if self.losses[expert].hear(opinion):
            self._loss_means.pop(expert, None)
            self._changes.pop(LOSS + expert, None)

    def lose(self, expert: str, steps: int, loss: float) -> None:
        """Take the mean loss of an expert over some steps."""
        if expert not in self._loss_means:
            self._loss_means[expert] = MeanWatch(self._config.mean, steps=steps, least=self._config.loss.min_rise)
        watch = self._loss_means[expert]
        changed = watch.push(loss)
        if changed is not None:
            self._change(LOSS + expert, ACT, *changed, limit=watch.least)

    def _follow_moves(self, row: Rows) -> None:
        """Follow the size of the moves of the mid, in units of twice their root mean square in the reference."""
        if self._moves is None:
            if not self.columns.reference_rows:
                return
            moves = self.columns.reference[:, _MID_RETURN].astype(np.float64)
            moves = moves[np.isfinite(moves)]
            self._move_unit = 2 * float(np.sqrt(np.square(moves).mean())) if len(moves) else 0.0
            self._moves = MeanWatch(self._config.mean)
            for move in moves.tolist():
                self._move(move)
        self._move(float(row[_MID_RETURN]))

    def _move(self, move: float) -> None:
        if self._moves is None or not math.isfinite(move) or self._move_unit <= 0:
            return
        changed = self._moves.push(min(abs(move) / self._move_unit, _LARGEST_MOVE))
        if changed is not None:
            before_bps, after_bps = (self._move_unit * size for size in changed)
            self._change(VOLATILITY, WATCH, before_bps, after_bps, limit=0.0)

    def _change(self, name: str, level: DriftLevel, before: float, after: float, *, limit: float) -> None:
        """Note that a mean has changed: one that rose counts for some time, one that fell ends that."""
        if after < before:
            self._changes.pop(name, None)
            return
        found = drift_finding(
            name=name, method=ADWIN, level=level, value=after - before, limit=limit, before=before, after=after
        )
        self._changes[name] = (self.rows + self._config.mean.told_rows, found)

    def _judge(self, spread: Spread) -> None:
        self._changes = {name: change for name, change in self._changes.items() if change[0] > self.rows}
        moved = self._moved(spread)
        findings = [*(found for _, found in self._changes.values()), *moved]
        findings.sort(key=lambda found: (-found.level, -_excess(found), found.name))
        self._spreads.append(bool(moved))
        self._levels.append(findings[0].level if findings else OK)
        if findings:
            self.findings = findings[:SHOWN]
        self._moved_since = (self._moved_since or self.rows) if any(self._spreads) else None
        if self._moved_since is not None and self.rows - self._moved_since >= self._config.distribution.forget_rows:
            self._forget_reference()

    def _moved(self, spread: Spread) -> list[DriftFinding]:
        """Return the columns that have moved, the farthest past its limit first."""
        excess = spread.index / spread.limit
        if not (excess > 1).any():
            return []
        part = excess.argmax(axis=0)
        farthest = np.argsort(-excess.max(axis=0), kind="stable")[:SHOWN]
        return [
            self._found(at, PARTS[part[at]], float(spread.index[part[at], at]), float(spread.limit[part[at], at]))
            for at in farthest.tolist()
            if excess[part[at], at] > 1
        ]

    def _found(self, at: int, method: str, index: float, limit: float) -> DriftFinding:
        acting = limit * self._config.distribution.act_ratio
        before, after = self.columns.means(at)
        return drift_finding(
            name=MICRO.names[at],
            method=method,
            level=ACT if index > acting else WATCH,
            value=index,
            limit=acting if index > acting else limit,
            before=before,
            after=after,
        )

    def now(self) -> DriftLevel:
        """Return the level: the worst within the last window, so that it is left once all of that is calm."""
        return max(self._levels, default=self.level)

    def state(self) -> DriftState:
        """Return what is known, as a context has it."""
        return drift_state(
            level=self.level,
            since_ns=self.since_ns,
            findings=self.findings if self.level != OK else [],
            rows=self.rows,
            missed=self.missed,
            reference_rows=self.columns.reference_rows,
            reference_digest=self.columns.reference_digest,
        )


def _excess(found: DriftFinding) -> float:
    return found.value / found.limit if found.limit > 0 else math.inf


class DriftContextBuilder:
    """Build the drift context of each instrument from its steps, and from the losses of experts on them.

    Nothing is said until there is a reference: of a stream that began anew, of another gateway's or after the watcher's
    own restart, two and a half minutes later. Then there is a version when the level changes, when something has moved
    at the same level that was not named yet, and every few minutes.

    A window gives all the steps that it is the first to show. One that is not full says that features look back on
    nothing: all begins anew, as with another gateway; the losses of an expert do with another engine or horizon. One of
    a book that is not in step is left out, with its step. Windows of another feature set, of an earlier gateway, or not
    newer than the last change nothing.
    """

    def __init__(self, config: DriftConfig) -> None:
        self.inputs = heard_of(config)
        self._config = config
        self._digest = engine_digest(METHOD, config)
        self._streams: dict[str, _Stream] = {}
        MeanWatch(config.mean)  # imports what it needs while nothing waits

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        """Take a window or an opinion and return the instrument's new context, if it gives one."""
        if isinstance(message, Opinion):
            self._hear(message)
            return []
        rows = _rows(message) if isinstance(message, FeatureWindow) else None
        if not isinstance(message, FeatureWindow) or rows is None:
            return []
        key = instrument_key(message.instrument.id)
        if key not in self._streams:
            self._streams[key] = _Stream(self._config)
        return self._follow(self._streams[key], message, rows)

    def _hear(self, opinion: Opinion) -> None:
        stream = self._streams.get(instrument_key(opinion.instrument))
        if stream is None or opinion.epoch != stream.epoch or opinion.expert not in self._config.loss.experts:
            return
        stream.hear(opinion)

    def _follow(self, stream: _Stream, window: FeatureWindow, rows: Rows) -> list[ContextDraft]:
        if window.epoch < stream.epoch or (window.epoch == stream.epoch and window.step <= stream.step):
            return []
        if window.epoch > stream.epoch:
            stream.begin_anew()
            stream.epoch, stream.step = window.epoch, window.step - 1
        new = window.step - stream.step
        stream.step = window.step
        stream.missed += max(0, new - len(rows))
        if window.valid_rows < len(rows):
            stream.begin_anew()
            return []
        if not window.book_synced:
            return []
        self._resolve(stream, window)
        judged = False
        for row in rows[-new:]:
            judged |= stream.push(row)
        return self._told(stream, window) if judged else []

    def _resolve(self, stream: _Stream, window: FeatureWindow) -> None:
        if window.best_bid > 0 and window.best_ask > 0:
            stream.mids[window.step] = (window.best_bid + window.best_ask) / 2
            while len(stream.mids) > _MIDS_KEPT:
                del stream.mids[next(iter(stream.mids))]
        for expert, losses in stream.losses.items():
            for steps, loss in losses.resolve(window.step, stream.mids):
                stream.lose(expert, steps, loss)

    def _told(self, stream: _Stream, window: FeatureWindow) -> list[ContextDraft]:
        """Return the context, where it says what the one before did not."""
        before, level = stream.level, stream.now()
        if level != before:
            stream.level, stream.since_ns, stream.told = level, window.close_ns, set()
        named = {found.name for found in stream.findings if found.level == level}
        again = stream.rows_in_all - stream.told_at >= self._config.told_again_rows
        if level == before and named <= stream.told and not again:
            return []
        stream.told |= named
        stream.told_at = stream.rows_in_all
        state = stream.state()
        instrument = window.instrument.id
        told = before not in (level, DriftLevel.DRIFT_LEVEL_UNSPECIFIED)
        return [
            ContextDraft(
                kind=DRIFT,
                key=drift_key(instrument),
                as_of_ns=window.close_ns,
                valid_until_ns=window.close_ns + 2 * self._config.told_again_rows * STEP_NS,
                payload=state,
                engine_digest=self._digest,
                shows=drift_changed(instrument, before, state, at_ns=window.close_ns) if told else None,
            )
        ]


def _rows(window: FeatureWindow) -> Rows | None:
    """Return the rows of a window of `micro`; None for another, or one whose values are not as many as it says."""
    if window.feature_set_digest != MICRO.digest or window.columns != MICRO.columns:
        return None
    try:
        return window_matrix(window)
    except ValueError:
        return None
