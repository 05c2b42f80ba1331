"""Alarms before the regime changes: how many changes were called, how many alarms were right, and by what chance.

A change (event) is a bar t whose label differs from that of bar t - 1. An alarm at bar a is right when a change follows
in [a, a + m]; a change is called when an alarm was raised in [t - m, t]. After an alarm none is raised for m bars, so
at most one alarm stands in the window of a change, and a detector that always alarms raises one in m + 1 bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from huracan.clock import NANOSECONDS
from huracan.errors import BadInput
from huracan_training.bootstrap import REPLICATES
from huracan_training.samples import UNKNOWN, Floats, Integers

DAY_NS = 86_400 * NANOSECONDS
RECALL_GOAL = 0.70
AIMED_RECALL = 0.78
"""For which thresholds are chosen: above the goal, since later times are not like the one it was chosen on."""
RANKED_BARS = 1344
"""Two weeks of bars of 15 minutes: how often the last of them were as loud says more than how loud a bar is."""
_RANKED_AT_ONCE = 4096
_THRESHOLDS = 51


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a detector said of one asset over one stretch of time, and what then was."""

    group: str
    """Stretches of one group share the chance in the permutation: assets change together at the same times."""
    bar: Integers
    """Number of each bar, ascending, shape (m,); where it jumps, bars are missing, and no change is seen across."""
    labels: Integers
    """Class of each bar, shape (m,)."""
    score: Floats
    """How much a change is expected, any scale, shape (m,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionScores:
    """How well changes of regime were called."""

    events: int
    alarms: int
    called: int
    """Changes with an alarm in their window."""
    right: int
    """Alarms with a change in theirs."""
    recall: float
    precision: float
    chance_recall: float
    """Mean recall of the same alarms at random times."""
    chance_precision: float
    p_precision: float
    """Share of random alarms of the same rate that were as precise or more, the detector's own counted in."""
    p_recall: float
    false_alarms_per_day: float
    """Wrong alarms in a day of one asset."""
    lead_bars: float
    """Median bars from the first alarm in the window to the change, of the changes called; at most m."""
    window_bars: int
    """m."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How changes are called at each threshold, ascending, all of shape (thresholds,)."""

    thresholds: Floats
    recall: Floats
    """NaN where there is no change."""
    precision: Floats
    """NaN where there is no alarm."""
    alarms: Floats


def run_lengths(labels: Integers) -> Integers:
    """Return how many bars each regime lasted, shape (runs,); the first and the last are cut by the edges."""
    if not labels.size:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    return np.diff(starts, append=labels.size)


def alarm_window(train: Sequence[Integers]) -> int:
    """Return m: a quarter of the median regime length over the label rows (n,) of each train series, rounded down."""
    lengths = np.concatenate([run_lengths(labels) for labels in train]) if train else np.zeros(0)
    if not lengths.size:
        raise BadInput("no label to take the length of regimes from; give the train labels")
    return int(np.median(lengths) // 4)


def alarm_scores(probabilities: Floats, known: Integers) -> Floats:
    """Return 1 - p(newest known label) of each row, in [0, 1], shape (m,); 0 where no label is known.

    `known` (m,) is the newest label whose horizon had ended: whoever is sure of it never alarms.
    """
    unknown = known == UNKNOWN
    scores: Floats = 1.0 - probabilities[np.arange(known.size), np.where(unknown, 0, known)]
    scores[unknown] = 0.0
    return scores


def trailing_ranks(scores: Floats, before: Floats) -> Floats:
    """Return the share of the last 1,344 scores that were below each one, in [0, 1], shape (m,); 0 where none is there.

    `before` are scores of the time just before. A level that is usual this month may have been rare in the last: ranks
    keep the rate of alarms at which a threshold was chosen.
    """
    kept = before[-RANKED_BARS:]
    past = np.concatenate([np.full(RANKED_BARS - kept.size, np.nan), kept, scores])
    windows = sliding_window_view(past, RANKED_BARS)[: scores.size]
    ranks = np.zeros(scores.size)
    for first in range(0, scores.size, _RANKED_AT_ONCE):
        part = slice(first, first + _RANKED_AT_ONCE)
        known = np.maximum(np.isfinite(windows[part]).sum(axis=1), 1)
        ranks[part] = (windows[part] < scores[part, None]).sum(axis=1) / known
    return ranks


def changes(watch: Watch) -> Floats:
    """Return 1 where the label changed from the bar before, else 0, shape (m,)."""
    follows = np.diff(watch.bar, prepend=watch.bar[:1] - 2) == 1
    changed = np.diff(watch.labels, prepend=watch.labels[:1]) != 0
    return np.where(follows & changed, 1.0, 0.0)


def alarms(watch: Watch, thresholds: Floats, window: int) -> Floats:
    """Return 1 where an alarm is raised, shape (m, thresholds): score at or above, and none in m bars before."""
    raised = np.zeros((watch.bar.size, thresholds.size))
    newest = np.full(thresholds.size, np.iinfo(np.int64).min // 2)
    loud = watch.score[:, None] >= thresholds
    for row in np.flatnonzero(loud.any(axis=1)):
        bar = watch.bar[row]
        now = loud[row] & (bar - newest > window)
        raised[row] = now
        newest = np.where(now, bar, newest)
    return raised


def marked(watch: Watch, threshold: float, window: int) -> Floats:
    """Return 1 or 0 for each bar, shape (m, 4): a change, a change that was called, an alarm, a right alarm."""
    changed, raised = changes(watch), alarms(watch, np.array([threshold]), window)
    called = changed * _any_within(watch.bar, raised, window, before=True)[:, 0]
    right = raised[:, 0] * _any_within(watch.bar, changed[:, None], window, before=False)[:, 0]
    return np.stack([changed, called, raised[:, 0], right], axis=1)


def threshold_for_recall(watches: Sequence[Watch], window: int, *, goal: float = AIMED_RECALL) -> float:
    """Return the highest of 51 quantiles of the score at which recall reaches the goal: on train or valid, never test.

    Where none does, it is the lowest score: always alarm.
    """
    told = curve(watches, window)
    reached = np.flatnonzero(told.recall >= goal)
    return float(told.thresholds[reached[-1] if reached.size else 0])


def curve(watches: Sequence[Watch], window: int) -> Curve:
    """Return recall and precision at 51 quantiles of the score, fewer where they coincide."""
    scores = np.concatenate([watch.score for watch in watches])
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, _THRESHOLDS)))
    counts = np.zeros((4, thresholds.size))
    for watch in watches:
        counts += _counted(watch, alarms(watch, thresholds, window), window)
    events, called, raised, right = counts
    return Curve(thresholds, _over(called, events), _over(right, raised), raised)


def transitions_scored(
    watches: Sequence[Watch],
    threshold: float,
    window: int,
    interval_ns: int,
    generator: np.random.Generator,
    *,
    permutations: int = REPLICATES,
) -> TransitionScores:
    """Return how changes were called at a threshold, against the same alarms at random times.

    Chance: the alarms of each stretch are turned round the clock of the stretch by a random share of its length, one
    share for all stretches of a group and permutation: rate, spacing and what assets have in common stay as they were.
    All turns of a stretch are counted at once, by a circular correlation. p = (1 + as good or better) / (1 + turns).
    """
    marks = [marked(watch, threshold, window) for watch in watches]
    raised = [each[:, 2:3] for each in marks]
    events, called, alarmed, right = np.sum([each.sum(axis=0) for each in marks], axis=0)
    turned = _turned(watches, raised, window, generator, permutations)
    null_recall, null_precision = _over(turned[0], events), _over(turned[1], alarmed)
    bars = sum(watch.bar.size for watch in watches)
    leads = np.concatenate([_leads(watch, each[:, 0], window) for watch, each in zip(watches, raised, strict=True)])
    recall, precision = float(_over(called, events)), float(_over(right, alarmed))
    return TransitionScores(
        events=int(events),
        alarms=int(alarmed),
        called=int(called),
        right=int(right),
        recall=recall,
        precision=precision,
        chance_recall=float(null_recall.mean()),
        chance_precision=float(null_precision.mean()),
        p_precision=_share_as_good(turned[1], right),
        p_recall=_share_as_good(turned[0], called),
        false_alarms_per_day=float((alarmed - right) * DAY_NS / (bars * interval_ns)),
        lead_bars=float(np.median(leads)) if leads.size else float("nan"),
        window_bars=window,
    )


def _counted(watch: Watch, raised: Floats, window: int) -> Floats:
    """Return changes, changes called, alarms and right alarms of each threshold, shape (4, thresholds)."""
    changed = changes(watch)
    called = changed @ _any_within(watch.bar, raised, window, before=True)
    right = _any_within(watch.bar, changed[:, None], window, before=False)[:, 0] @ raised
    return np.stack([np.full(raised.shape[1], changed.sum()), called, raised.sum(axis=0), right])


def _any_within(bar: Integers, marks: Floats, window: int, *, before: bool) -> Floats:
    """Return 1 where a mark stands in [bar - window, bar] (`before`) or [bar, bar + window], shape of `marks`."""
    total = np.concatenate([np.zeros((1, marks.shape[1])), np.cumsum(marks, axis=0)])
    if before:
        first, last = np.searchsorted(bar, bar - window, side="left"), np.arange(1, bar.size + 1)
    else:
        first, last = np.arange(bar.size), np.searchsorted(bar, bar + window, side="right")
    return np.where(total[last] > total[first], 1.0, 0.0)


def _turned(
    watches: Sequence[Watch], raised: Sequence[Floats], window: int, generator: np.random.Generator, permutations: int
) -> Floats:
    """Return changes called and right alarms of each permutation, shape (2, permutations)."""
    shares = {group: generator.random(permutations) for group in sorted({watch.group for watch in watches})}
    sums = np.zeros((2, permutations))
    for watch, alarm in zip(watches, raised, strict=True):
        changed = changes(watch)
        covered = _any_within(watch.bar, changed[:, None], window, before=False)[:, 0]
        reached = _any_within(watch.bar, alarm, window, before=True)[:, 0]
        turn = (shares[watch.group] * watch.bar.size).astype(np.int64)
        sums += np.stack([_turns(reached, changed)[turn], _turns(alarm[:, 0], covered)[turn]])
    return sums


def _turns(marks: Floats, against: Floats) -> Floats:
    """Return sum_i marks[i - s] against[i] for each turn s of the circle, shape (n,)."""
    spectrum = np.conj(np.fft.rfft(marks)) * np.fft.rfft(against)
    sums: Floats = np.round(np.fft.irfft(spectrum, marks.size))
    return sums


def _leads(watch: Watch, raised: Floats, window: int) -> Integers:
    """Return bars from the first alarm in the window of each change called to the change."""
    alarm_bars = watch.bar[raised > 0]
    event_bars = watch.bar[changes(watch) > 0]
    first = np.searchsorted(alarm_bars, event_bars - window, side="left")
    found = first < alarm_bars.size
    lead = event_bars[found] - alarm_bars[first[found]]
    return lead[lead >= 0]


def _share_as_good(turned: Floats, measured: float) -> float:
    return float((1 + (turned >= measured).sum()) / (1 + turned.size))


def _over(part: Floats, whole: Floats) -> Floats:
    part, whole = np.broadcast_arrays(part, whole)
    ratios: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratios
