"""How far data can be relied on, 0 to 100, part by part; training on what scores 80 or less is refused.

The score and its parts are those of the gateway (`huracan_gateway.reliability`): 100 * (1 - max(w.r, max(r))) with
r_k = min(1, part_k / limit_k), so that one ruinous part is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from huracan.clock import NANOSECONDS
from huracan.errors import BadInput
from huracan_gateway.reliability import PARTS, bars_reliability, outlier_share, score_parts
from huracan_training.bars import NOWHERE, VALUES, Bars, Mask, good, slots
from huracan_training.calendar import DAY_NS, Calendar
from huracan_training.samples import Floats, Integers

REFUSED_AT = 80.0
"""The highest score on which no model is trained."""
_DRIFT_QUANTILE = 0.99
_SESSIONS = "no bar is of a Saturday or Sunday: is it --calendar us_equities?"
_WEEKDAY_OF_EPOCH = 3


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time: both ends count."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found wrong with the data of one asset."""

    asset: str
    score: float
    """0 to 100."""
    parts: Mapping[str, float]
    """By name as in PARTS: shares 0 to 1, the clock drift in seconds."""
    rows: int
    expected: int
    """Bars or steps that should be there, from the first to the last."""
    missing: Sequence[Span] = ()
    """Opens of the first and the last one of each hole."""
    hint: str = ""
    """What else the user may have meant."""

    @property
    def usable(self) -> bool:
        """Return whether models may be trained on it."""
        return self.score > REFUSED_AT

    def reasons(self) -> list[str]:
        """Return what lowers the score, the worst first, as `missing was 0.01 (alone 0 at 0.02)`."""
        ratios = {name: value / PARTS[name].limit for name, value in self.parts.items() if value > 0}
        worst = sorted(ratios, key=lambda name: -ratios[name])
        told = [f"{name} was {self.parts[name]:.4g} (0 points at {PARTS[name].limit:g})" for name in worst]
        return [*told, self.hint] if self.hint else told


Refetch = Callable[[Bars, Sequence[Span]], Bars]
"""Returns what a provider has of the missing spans of an asset's bars: of the same interval, in any order."""


def verify(bars: Bars, calendar: Calendar = Calendar.ALWAYS) -> Report:
    """Return how far rows of bars, as they came, can be relied on.

    missing: bars that should be there, from the first to the last, without a good row.
    gap: holes, of any length, over the bars that should be there: each breaks windows.
    duplicate, out_of_order: of the rows, as in `bars_reliability`.
    stale: rows that say again what the row before said, or that nothing happened at its close: a feed that hangs.
    outlier: log returns that leave and come back, as in `outlier_share`, over gaps too: in two years of good bars 0.3 %
    of the returns are that far out, and below 0.01 % come back. With one MAD for all, wild days are taken for faults.
    clock_drift: how far opens are from a multiple of the interval, less the median of that: the 99th percentile, in s.
    """
    places, expected = slots(bars, calendar)
    count = max(len(expected), 1)
    on_grid = places != NOWHERE
    close = np.where(good(bars) & on_grid, bars.close, np.nan)
    scored = bars_reliability(places[on_grid].tolist(), close[on_grid].tolist(), interval_ns=1, from_ns=0, to_ns=count)
    present = np.zeros(count, dtype=np.bool_)
    present[places[on_grid & np.isfinite(close)]] = True
    holes = _holes(present, expected)
    parts = dict(scored.parts) | {
        "gap": len(holes) / count,
        "stale": float(_stale(bars).mean()),
        "clock_drift": _drift_s(bars),
    }
    told = report(bars.asset, parts, rows=len(bars) + bars.unreadable, expected=count, missing=holes)
    return replace(told, hint=_SESSIONS) if _has_sessions(bars, calendar) else told


def report(asset: str, parts: Mapping[str, float], *, rows: int, expected: int, missing: Sequence[Span] = ()) -> Report:
    """Return measured parts with their score, in the order of PARTS; those that were not measured are left out."""
    told = {name: parts[name] for name in PARTS if name in parts}
    return Report(
        asset=asset, score=score_parts(told), parts=told, rows=rows, expected=expected, missing=tuple(missing)
    )


def verify_steps(asset: str, steps: Integers, returns: Floats, idle: Mask) -> Report:
    """Return how far the feature rows of an asset can be relied on: numbers of steps and log returns as they came.

    `idle` says at which steps the newest frame was too old for an expert. Parts are as in `verify`; outliers are mids
    that leave and come back. The clock is not measured.
    """
    first, last = int(steps.min()), int(steps.max())
    scored = bars_reliability(steps.tolist(), [1.0] * len(steps), interval_ns=1, from_ns=first, to_ns=last + 1)
    present = np.zeros(last - first + 1, dtype=np.bool_)
    present[steps - first] = True
    holes = _holes(present, np.arange(first, last + 1, dtype=np.int64))
    parts = dict(scored.parts) | {
        "gap": len(holes) / len(present),
        "stale": float(idle.mean()),
        "outlier": outlier_share(returns[np.isfinite(returns)]),
    }
    return report(asset, parts, rows=len(steps), expected=len(present), missing=holes)


def require(reports: Sequence[Report]) -> None:
    """Raise BadInput, with the parts, when the data of any asset score 80 or less."""
    refused = [each for each in reports if not each.usable]
    if refused:
        told = "; ".join(f"{each.asset} scored {each.score:.1f}: {', '.join(each.reasons())}" for each in refused)
        raise BadInput(f"training is refused on data that score {REFUSED_AT:g} or less: {told}; fetch them again")


def repaired(bars: Bars, refetch: Refetch, calendar: Calendar = Calendar.ALWAYS) -> tuple[Bars, Report]:
    """Ask for what is missing, put it in its place, and verify again; what is there is never replaced.

    Broken rows, for which a good one comes, go. Nothing is asked where nothing is missing. Raises BadInput when what
    comes is of another interval.
    """
    before = verify(bars, calendar)
    if not before.missing:
        return bars, before
    fetched = refetch(bars, before.missing)
    if fetched.interval_ns != bars.interval_ns:
        has, asked = fetched.interval_ns / 1e9, bars.interval_ns / 1e9
        raise BadInput(f"{bars.asset}: bars of {asked:g} s were asked for, and bars of {has:g} s came")
    wanted = np.zeros(len(fetched), dtype=np.bool_)
    for span in before.missing:
        wanted |= (fetched.open_ns >= span.from_ns) & (fetched.open_ns <= span.to_ns)
    came = fetched.take(wanted & good(fetched))
    came = came.take(np.unique(came.open_ns, return_index=True)[1])
    whole = _inserted(bars.take(good(bars) | ~np.isin(bars.open_ns, came.open_ns)), came)
    return whole, verify(whole, calendar)


def from_bars(other: Bars) -> Refetch:
    """Return a refetch that takes what is missing out of other bars of the same asset."""
    return lambda _bars, _missing: other


def _inserted(bars: Bars, came: Bars) -> Bars:
    """Put rows where they belong in time, without putting the others in order."""
    at = np.searchsorted(np.maximum.accumulate(bars.open_ns), came.open_ns)
    return bars.made(
        np.insert(bars.open_ns, at, came.open_ns),
        {name: np.insert(getattr(bars, name), at, getattr(came, name)) for name in VALUES},
    )


def _holes(present: Mask, opens: Integers) -> list[Span]:
    if not len(opens):
        return []
    edges = np.diff(np.concatenate([[True], present, [True]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == -1), np.flatnonzero(edges == 1) - 1
    return [Span(int(opens[start]), int(opens[end])) for start, end in zip(starts, ends, strict=True)]


def _has_sessions(bars: Bars, calendar: Calendar) -> bool:
    """Return whether bars that should be there always leave out every weekend of more than a week."""
    days = bars.open_ns // DAY_NS
    weekend = np.isin((days + _WEEKDAY_OF_EPOCH) % 7, (5, 6))
    return calendar is Calendar.ALWAYS and not weekend.any() and int(days.max() - days.min()) > 7


def _stale(bars: Bars) -> Mask:
    """Return which rows repeat the one before, or have no volume and no price but its close."""
    columns = np.stack([getattr(bars, name) for name in VALUES])
    before = np.roll(columns, 1, axis=1)
    repeats = (columns == before).all(axis=0)
    quiet = (columns[:4] == before[3]).all(axis=0) & (bars.volume == 0)
    stale = (repeats | quiet) & (bars.open_ns != np.roll(bars.open_ns, 1))
    stale[0] = False
    return np.asarray(stale)


def _drift_s(bars: Bars) -> float:
    interval_ns = bars.interval_ns
    off_ns = (bars.open_ns + interval_ns // 2) % interval_ns - interval_ns // 2
    from_skew = np.abs(off_ns - np.median(off_ns))
    return float(np.quantile(from_skew, _DRIFT_QUANTILE, method="lower")) / NANOSECONDS
