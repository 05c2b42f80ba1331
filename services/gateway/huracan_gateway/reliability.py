"""How far an hour of data can be relied on, 0 to 100: counted as it comes in, or worked out of a file of bars.

score = 100 * (1 - max(w.r, max(r))) with r_k = min(1, part_k / limit_k): one ruinous part is enough. Parts, limits and
weights are those of PARTS.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from huracan.clock import MILLISECOND_NS, MINUTE_NS, NANOSECONDS
from huracan.config import Config
from huracan.contracts.market import InstrumentDefinition, Reliability, ReliabilityPart, reliability
from huracan.errors import BadInput
from huracan_gateway.reject import Reason

HOUR_NS = 60 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class Part:
    """What one part may be before it alone makes the score 0, and its weight in the sum of all."""

    limit: float
    weight: float


PARTS = {
    "missing": Part(0.02, 0.3),
    "gap": Part(0.02, 0.2),
    "duplicate": Part(0.01, 0.1),
    "out_of_order": Part(0.01, 0.1),
    "stale": Part(0.05, 0.1),
    "outlier": Part(0.005, 0.1),
    "clock_drift": Part(0.1, 0.1),
}
"""Shares 0 to 1, and the clock drift in seconds.

missing: seconds (UTC) without any frame, within silences longer than the feed may be silent, of the seconds observed.
gap: sequence numbers that were lost, and frames too damaged to say theirs, of those lost and seen.
duplicate, out_of_order: of the frames that could be read.
stale: observed time at which the last frame was older than an opinion may rest on, of the time observed.
outlier: prices that left the one before by a return further than 10 MAD from the median return and came back by as
much, and those that were refused, of the trades or bars. A move that stays is none, and the MAD is the market's of that
time: of two years of good bars 0.3 % lie further out than that, and below 0.01 % come back.
clock_drift: the furthest that the difference of the clocks went from what it was first.
"""

OUTLIER_MADS = 10.0
_NEAR = 10
"""Returns before and after one in whose MAD it is measured; of trades, twice as many before it."""
_PART_OF = {
    Reason.DUPLICATE: "duplicate",
    Reason.OUT_OF_ORDER: "out_of_order",
    Reason.RECEIVE_TIME_BACKWARDS: "out_of_order",
    Reason.FAR_OFF_PRICE: "outlier",
    Reason.ANOMALY: "outlier",
}
_FOREIGN = frozenset({Reason.OTHER_VENUE, Reason.OTHER_SYMBOL, Reason.UNKNOWN_STREAM})
"""No data of this instrument, neither good nor bad."""


class ReliabilityConfig(Config):
    """What is expected of a feed."""

    allowed_silence_ms: PositiveInt = 5_000
    """A silence up to this long is the venue's own; the empty seconds of a longer one are missing. The default is when
    an instrument stops closing steps (SEMANTICS: Step). 1,000 for a busy feed, minutes for one of a few frames."""
    stale_after_ms: PositiveInt = 500
    """Data are stale when the last frame is older: when experts abstain (SEMANTICS: STALE)."""
    settle_s: PositiveInt = 60
    """The first difference of the clocks is the one known after this long, when its estimate has a full window. Below
    10 the least latency has not been seen yet, and its later discovery looks like drift."""
    warm_trades: PositiveInt = 100
    """Returns that are collected before the first trade is judged; below 30 the first scale is a matter of luck."""
    least_mad_bps: PositiveFloat = 0.5
    """The MAD of returns is taken to be at least this. A liquid instrument's is a few hundredths, the steps from level
    to level, and 2 to 10 % of its good trades lie beyond ten of them; with 0.5 up to 0.01 % do.
    Above 5 bad prints pass."""


def score_parts(parts: Mapping[str, float]) -> float:
    """Return the score of measured parts, 0 to 100; one that is not there was not measured, and counts as 0.

    Raises BadInput for a part that does not exist, and for a value that is negative or not finite.
    """
    for name, value in parts.items():
        if name not in PARTS:
            raise BadInput(f"part {name!r} is none of {', '.join(PARTS)}; leave it out")
        if not (math.isfinite(value) and value >= 0.0):
            raise BadInput(f"part {name} was {value}; give a share or seconds, 0 or more")
    ratios = {name: min(1.0, value / PARTS[name].limit) for name, value in parts.items()}
    weighted = math.fsum(PARTS[name].weight * ratio for name, ratio in ratios.items())
    return 100.0 * (1.0 - max(weighted, *ratios.values(), 0.0))


class _Returns:
    """The running median and MAD of returns from trade to trade, of those that are not zero, and of the newest of them.

    Most trades of a busy instrument are at the price before, so the MAD of all returns would be zero. After the first
    ones, which are taken exactly, each return moves both by a small fixed share of the MAD (stochastic approximation
    with sign updates: Robbins & Monro 1951), so that an outlier counts no more than any other. In a market that turns
    wild that is slow: the newest returns have a MAD of their own, and the larger one holds.
    """

    def __init__(self, warm: int, least_mad: float) -> None:
        self._warm = warm
        self._least_mad = least_mad
        self._first: list[float] = []
        self._last = 0
        self._median = 0.0
        self._mad = 0.0
        self._near: deque[float] = deque(maxlen=2 * _NEAR)
        """How far the newest were from the median."""
        self._run = 1
        """Trades at the newest price."""
        self._left = 0.0
        """The return that led to it, if that was far out; else 0."""

    def outliers(self, price: int) -> int:
        """Take the price of a trade; return how many before it were outliers, now that the price has come back."""
        last, self._last = self._last, price
        if not last:
            return 0
        if price == last:
            self._run += 1
            return 0
        change = price / last - 1.0
        floor = max(self._least_mad, 1.0 / last)
        run, self._run = self._run, 1
        if not self._mad:
            self._begin(change, floor)
            return 0
        off = change - self._median
        away = abs(off)
        out = away > OUTLIER_MADS * self._mad and away > OUTLIER_MADS * median(self._near)
        self._near.append(away)
        back = out and self._left * off < 0.0
        self._left = off if out and not back else 0.0
        step = _RETURN_RATE * self._mad
        self._median += math.copysign(step, off)
        self._mad = max(self._mad + (step if away > self._mad else -step), floor)
        return run if back else 0

    def _begin(self, change: float, floor: float) -> None:
        self._first.append(change)
        if len(self._first) >= self._warm:
            self._median = median(self._first)
            away = [abs(change - self._median) for change in self._first]
            self._mad = max(median(away), floor)
            self._near.extend(away)
            self._first.clear()


_RETURN_RATE = 0.005
"""Share of the MAD that one return moves it: half a thousand trades halve or double it."""


@dataclass(slots=True)
class _Hour:
    """What was counted in one hour."""

    start_ns: int
    from_ns: int
    frames: int = 0
    missing_s: int = 0
    stale_ns: int = 0
    lost: int = 0
    seen: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    trades: int = 0
    outliers: int = 0
    first_skew_ns: int | None = None
    drift_ns: int = 0

    @property
    def end_ns(self) -> int:
        return self.start_ns + HOUR_NS


class ReliabilityMeter:
    """Count what is wrong with the data of one instrument, hour by hour (UTC, receive time).

    It observes from the first frame on. Every frame that arrives is told either by `frame` or by `refused`, in the
    order of receipt; the rest is told after it and counts for the same hour.
    """

    def __init__(
        self, definition: InstrumentDefinition, config: ReliabilityConfig | None = None, *, epoch: int = 1
    ) -> None:
        config = config or ReliabilityConfig()
        self._definition = definition
        self._epoch = epoch
        self._allowed_ns = config.allowed_silence_ms * MILLISECOND_NS
        self._stale_ns = config.stale_after_ms * MILLISECOND_NS
        self._settle_ns = config.settle_s * NANOSECONDS
        self._settled_ns: int | None = None
        self._returns = _Returns(config.warm_trades, config.least_mad_bps / 1e4)
        self._hour: _Hour | None = None
        self._last_ns = 0
        self._ended: list[_Hour] = []

    def frame(self, recv_ns: int) -> None:
        """Count a frame that was taken."""
        hour = self._at(recv_ns)
        if recv_ns - self._last_ns > self._stale_ns:
            self._end_silence(hour, recv_ns)
        hour.frames += 1
        self._last_ns = max(self._last_ns, recv_ns)

    def refused(self, reason: Reason, recv_ns: int) -> None:
        """Count a frame that was refused: for the part that it belongs to, or as lost where it could not be read.

        A frame that could not be read ends no silence, and one of another instrument counts for nothing.
        """
        if reason in _FOREIGN:
            return
        part = _PART_OF.get(reason)
        if part is None:
            self._at(recv_ns).lost += 1
            return
        self.frame(recv_ns)
        hour = self._at(recv_ns)
        if part == "duplicate":
            hour.duplicates += 1
        elif part == "out_of_order":
            hour.out_of_order += 1
        else:
            hour.trades += 1
            hour.outliers += 1

    def lost(self, count: int, seen: int) -> None:
        """Count sequence numbers, those that are missing and those that were seen, since this was last told."""
        if self._hour is not None:
            self._hour.lost += count
            self._hour.seen += seen

    def trade(self, price: int, recv_ns: int) -> None:
        """Count a trade that was taken, with its price in increments."""
        hour = self._at(recv_ns)
        hour.trades += 1
        hour.outliers += self._returns.outliers(price)

    def skew(self, skew_ns: int, recv_ns: int) -> None:
        """Take the estimated difference between our clock and the venue's."""
        hour = self._at(recv_ns)
        if self._settled_ns is None:
            self._settled_ns = recv_ns + self._settle_ns
        if hour.first_skew_ns is None or recv_ns < self._settled_ns:
            hour.first_skew_ns = skew_ns
        hour.drift_ns = max(hour.drift_ns, abs(skew_ns - hour.first_skew_ns))

    def rest(self, now_ns: int) -> Reliability:
        """Return the hour so far and observe no longer, until the next frame."""
        told = self.current(now_ns)
        self._hour = None
        return told

    def close_through(self, now_ns: int) -> list[Reliability]:
        """Return the hours that ended by now, each once, oldest first: those without a frame too."""
        if self._hour is not None:
            self._at(now_ns)
        ended, self._ended = self._ended, []
        return [self._message(hour, hour.end_ns, _parts(hour, hour.end_ns)) for hour in ended]

    def current(self, now_ns: int) -> Reliability:
        """Return the hour so far. Before the first frame everything is missing, and the score is 0."""
        if self._hour is None:
            return self._message(_Hour(now_ns // HOUR_NS * HOUR_NS, now_ns), now_ns, {"missing": 1.0})
        hour = replace(self._at(now_ns))
        self._end_silence(hour, now_ns)
        to_ns = max(now_ns, hour.from_ns)
        return self._message(hour, to_ns, _parts(hour, to_ns))

    def _at(self, now_ns: int) -> _Hour:
        """Return the hour it is; those before it have ended."""
        hour = self._hour
        if hour is None:
            hour = self._hour = _Hour(now_ns // HOUR_NS * HOUR_NS, now_ns)
            self._last_ns = now_ns
        while now_ns >= hour.end_ns:
            self._end_silence(hour, hour.end_ns)
            self._ended.append(hour)
            hour = self._hour = _Hour(hour.end_ns, hour.end_ns)
        return hour

    def _end_silence(self, hour: _Hour, to_ns: int) -> None:
        """Count the silence since the last frame, as far as it is of this hour."""
        hour.stale_ns += max(0, to_ns - max(self._last_ns + self._stale_ns, hour.start_ns))
        if to_ns - self._last_ns > self._allowed_ns:
            first = max(self._last_ns // NANOSECONDS + 1, hour.start_ns // NANOSECONDS)
            hour.missing_s += max(0, to_ns // NANOSECONDS - first)

    def _message(self, hour: _Hour, to_ns: int, parts: Mapping[str, float]) -> Reliability:
        return reliability(
            instrument=self._definition.id,
            hour_ns=hour.start_ns,
            epoch=self._epoch,
            score=score_parts(parts),
            parts=[
                ReliabilityPart(name=name, value=parts.get(name, 0.0), limit=part.limit, weight=part.weight)
                for name, part in PARTS.items()
            ],
            from_ns=hour.from_ns,
            to_ns=to_ns,
            frames=hour.frames,
        )


def _parts(hour: _Hour, to_ns: int) -> dict[str, float]:
    observed_ns = to_ns - hour.from_ns
    return {
        "missing": _share(hour.missing_s * NANOSECONDS, observed_ns),
        "gap": _share(hour.lost, hour.lost + hour.seen),
        "duplicate": _share(hour.duplicates, hour.frames),
        "out_of_order": _share(hour.out_of_order, hour.frames),
        "stale": _share(hour.stale_ns, observed_ns),
        "outlier": _share(hour.outliers, hour.trades),
        "clock_drift": hour.drift_ns / NANOSECONDS,
    }


def _share(count: int, of: int) -> float:
    return min(1.0, count / of) if of > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of a file, 0 to 100, and the parts it comes from."""

    score: float
    parts: Mapping[str, float]


def bars_reliability(
    open_ns: Sequence[int],
    close: Sequence[float],
    *,
    interval_ns: int,
    from_ns: int,
    to_ns: int,
) -> Scored:
    """Return how far a file of bars can be relied on, from the opens and closing prices of its rows in their order.

    Expected are the bars that open at or after `from_ns` and before `to_ns`, `interval_ns` apart; rows outside, off
    that grid, or with a price that is not finite and positive are no bars, and what they should be is missing.
    Duplicates are rows whose open came before, out of order others that open before one above them: shares of the rows.
    Outliers are closes that left and came back, as a share of the returns: see `outlier_share`.
    Bars have no sequence numbers, no age and no clock: gap, stale and clock drift are not measured. Raises BadInput for
    columns of different length or a range that holds no bar.
    """
    if len(open_ns) != len(close):
        raise BadInput(f"there were {len(open_ns)} opens and {len(close)} closes; give one of each per bar")
    expected = -((from_ns - to_ns) // interval_ns) if interval_ns > 0 else 0
    if expected <= 0:
        raise BadInput(f"from_ns {from_ns} to to_ns {to_ns} holds no bar of {interval_ns} ns; give a range that does")
    bars: dict[int, float] = {}
    duplicates = out_of_order = 0
    latest = from_ns - 1
    for at, price in zip(open_ns, close, strict=True):
        if at in bars:
            duplicates += 1
        elif at < latest:
            out_of_order += 1
        latest = max(latest, at)
        if from_ns <= at < to_ns and (at - from_ns) % interval_ns == 0 and math.isfinite(price) and price > 0.0:
            bars.setdefault(at, price)
    rows = len(open_ns)
    parts = {
        "missing": 1.0 - len(bars) / expected,
        "duplicate": _share(duplicates, rows),
        "out_of_order": _share(out_of_order, rows),
        "outlier": outlier_share(np.diff(np.log([bars[at] for at in sorted(bars)]))),
    }
    return Scored(score_parts(parts), parts)


def outlier_share(returns: NDArray[np.float64]) -> float:
    """Return the share of returns that are outliers: of log returns in the order of time, all finite.

    One is when it and the next are further than 10 MAD from the median, one up and one down: a price that was never
    there. The MAD is that of the 21 returns around, which moves with the market, and at least that of all which differ
    from the median; of fewer than 21 it is the latter.
    """
    off = returns - np.median(returns) if len(returns) else returns
    moved = np.abs(off)[off != 0]
    if not len(moved):
        return 0.0
    mad = np.full(len(off), np.median(moved))
    if len(off) > 2 * _NEAR:
        padded = np.pad(np.abs(off), _NEAR, mode="reflect")
        mad = np.maximum(mad, np.median(sliding_window_view(padded, 2 * _NEAR + 1), axis=1))
    out = np.abs(off) > OUTLIER_MADS * mad
    return _share(int((out[:-1] & out[1:] & (off[:-1] * off[1:] < 0)).sum()), len(off))
