"""The features of closed bars of a whole history at once: the rows that `BarState` gives, bit for bit.

Each number comes from the same operations in the same order as in features/bar.py, over all bars at once: a trailing
sum adds the oldest values of all windows, then the next ones, and so on. Only logarithms, sines and cosines are taken
one by one, as vectorised ones round otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from huracan.features.bar import (
    BAR,
    BPS,
    DAY,
    DAY_NS,
    GARMAN_KLASS,
    MILLION,
    MONDAY_NS,
    PARKINSON,
    ROUNDING,
    TREND_BARS,
    WEEK,
    WEEK_NS,
    WILDER,
)
from huracan.features.estimators import LARGEST_R_SQUARED

__all__ = ["bar_rows"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
NAN = float("nan")


def bar_rows(
    open_ns: Integers,
    open: Floats,  # noqa: A002 - as the columns of bars are called
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
    *,
    interval_ns: int,
    names: Sequence[str] = BAR.names,
) -> NDArray[np.float32]:
    """Return the features of bars, shape (n, names): what `BarState.push` returns for each, NaN where missing.

    All arrays have shape (n,), oldest first; no bar is partial, prices are above 0, and a bar that does not open
    where the last one ended starts everything anew. Raises ValueError where bars are not in order, or shapes differ.
    """
    columns = [np.ascontiguousarray(each, dtype=np.float64) for each in (open, high, low, close, volume)]
    times = np.ascontiguousarray(open_ns, dtype=np.int64)
    if any(each.shape != times.shape for each in columns) or times.ndim != 1:
        raise ValueError("open_ns, open, high, low, close and volume must be of one length")
    if np.any(np.diff(times) < interval_ns):
        raise ValueError("bars must be in order, at least an interval apart")
    rows = np.empty((len(times), len(names)), dtype=np.float32)
    breaks = np.flatnonzero(np.diff(times) != interval_ns) + 1
    with np.errstate(all="ignore"):
        for first, end in pairwise([0, *breaks.tolist(), len(times)]):
            run = _Run(times[first:end] + interval_ns, *(each[first:end] for each in columns))
            for index, name in enumerate(names):
                values = _COLUMNS[name](run)
                rows[first:end, index] = np.where(np.abs(values) <= _LARGEST, values, np.nan)
    return rows


_LARGEST = float(np.finfo(np.float32).max)


class _Run:
    """Bars without a gap, and what several features need of them; all of shape (n,)."""

    def __init__(
        self, close_ns: Integers, opens: Floats, highs: Floats, lows: Floats, closes: Floats, volumes: Floats
    ) -> None:
        self.close_ns = close_ns
        self.opens, self.highs, self.lows, self.closes, self.volumes = opens, highs, lows, closes, volumes
        self.before = _shifted(closes)

    @cached_property
    def returns(self) -> Floats:
        """ln(close / previous close); NaN for the first."""
        return _log(self.closes / self.before)

    @cached_property
    def sizes(self) -> Floats:
        return np.abs(self.returns)

    @cached_property
    def squares(self) -> Floats:
        return self.returns * self.returns

    @cached_property
    def day_squares(self) -> Floats:
        return _total(DAY, self.squares)

    @cached_property
    def day_root_mean_square(self) -> Floats:
        return _unless_zero(np.sqrt(self.day_squares / DAY))

    @cached_property
    def log_ranges(self) -> Floats:
        return _log(self.highs / self.lows)

    @cached_property
    def garman_klass(self) -> Floats:
        change = _log(self.closes / self.opens)
        return 0.5 * (self.log_ranges * self.log_ranges) - GARMAN_KLASS * (change * change)

    @cached_property
    def week_volume(self) -> Floats:
        """Mean volume of a week."""
        return _total(WEEK, self.volumes) / WEEK

    @cached_property
    def log_volumes(self) -> Floats:
        return _each(math.log1p, self.volumes)

    @cached_property
    def height(self) -> Floats:
        return np.where(self.highs > self.lows, self.highs - self.lows, np.nan)

    @cached_property
    def atrs(self) -> Floats:
        return _wilder(np.maximum(self.highs, self.before) - np.minimum(self.lows, self.before))

    @cached_property
    def rsis(self) -> Floats:
        moves = self.closes - self.before
        gain, loss = _wilder(np.maximum(moves, 0.0)), _wilder(np.maximum(-moves, 0.0))
        return np.where(gain + loss > 0, 100 * gain / (gain + loss), np.nan)


def _shifted(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


def _unless_zero(values: Floats) -> Floats:
    return np.where(values != 0, values, np.nan)


def _each(function: Callable[[float], float], values: Floats) -> Floats:
    return np.fromiter(map(function, values.tolist()), dtype=np.float64, count=len(values))


def _log(values: Floats) -> Floats:
    return _each(math.log, values)


def _wilder(values: Floats) -> Floats:
    """Smooth as `WilderAverage` does, from the second value on: the first bar has none before it."""
    smoothed = np.full(len(values), np.nan)
    if len(values) <= WILDER:
        return smoothed
    value = 0.0
    for first in values[1 : WILDER + 1].tolist():
        value += first
    value /= WILDER
    smoothed[WILDER] = value
    for index, next_value in enumerate(values[WILDER + 1 :].tolist(), WILDER + 1):
        smoothed[index] = value = (value * (WILDER - 1) + next_value) / WILDER
    return smoothed


def _full(count: int, values: Floats, of: Callable[[Floats], Floats]) -> Floats:
    """Return what is computed for the last values of each window of `count`; NaN for the first, which have fewer."""
    result = np.full(len(values), np.nan)
    if len(values) >= count:
        result[count - 1 :] = of(values)
    return result


def _reduced(count: int, values: Floats, by: Callable[[Floats, Floats], Floats], start: Floats | None = None) -> Floats:
    """Fold each window of `count` from its oldest value to its newest, all windows at once."""
    windows = len(values) - count + 1
    folded = np.zeros(windows) if start is None else start
    for first in range(count):
        folded = by(folded, values[first : first + windows])
    return folded


def _total(count: int, values: Floats) -> Floats:
    """Return the sum of each window of `count`; NaN for the first, which have fewer."""
    return _full(count, values, lambda all_values: _reduced(count, all_values, np.add))


def _highest(count: int, values: Floats) -> Floats:
    return _full(count, values, lambda v: _reduced(count, v, np.maximum, np.full(len(v) - count + 1, -np.inf)))


def _lowest(count: int, values: Floats) -> Floats:
    return _full(count, values, lambda v: _reduced(count, v, np.minimum, np.full(len(v) - count + 1, np.inf)))


def _centred(count: int, values: Floats, mean: Floats) -> Callable[[int], Floats]:
    """Return, by place in the window, how far the values there are from the mean of their window."""
    means, windows = mean[count - 1 :], len(values) - count + 1
    return lambda first: values[first : first + windows] - means


def _ols_slope(count: int, values: Callable[[int], Floats]) -> Floats:
    centre, squares = (count - 1) / 2, count * (count**2 - 1) / 12
    added: Floats = np.zeros(1)
    for first in range(count):
        added = added + (first - centre) * values(first)
    return added / squares


def _squared(count: int, values: Callable[[int], Floats]) -> Floats:
    added: Floats = np.zeros(1)
    for first in range(count):
        value = values(first)
        added = added + value * value
    return added


def _trend_t(count: int, values: Floats) -> Floats:
    def of(all_values: Floats) -> Floats:
        centred = _centred(count, all_values, _total(count, all_values) / count)
        squares, slope = _squared(count, centred), _ols_slope(count, centred)
        explained = slope * slope * count * (count * count - 1) / 12
        r_squared = np.minimum(explained / squares, LARGEST_R_SQUARED)
        t: Floats = np.copysign(np.sqrt(r_squared * (count - 2) / (1 - r_squared)), slope)
        return t

    return np.where(_is_flat(count, values), np.nan, _full(count, values, of))


def _is_flat(count: int, values: Floats) -> NDArray[np.bool_]:
    flat: NDArray[np.bool_] = _highest(count, values) == _lowest(count, values)
    return flat


def _deviation(count: int, values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each window."""
    mean = _total(count, values) / count
    squares = _full(count, values, lambda v: _squared(count, _centred(count, v, mean)))
    return mean, np.sqrt(squares / (count - 1))


def _of_mean(count: int, values: Floats) -> Floats:
    mean = _total(count, values) / count
    ratio: Floats = np.where(mean != 0, values / mean, np.nan)
    return ratio


def _efficiency_ratio(count: int, run: _Run) -> Floats:
    path = _total(count, run.sizes)
    return np.where(path != 0, np.minimum(np.abs(_total(count, run.returns)) / path, 1.0), np.nan)


def _volatility_ratio(run: _Run) -> Floats:
    whole = _total(64, run.squares) / 64
    return np.where(whole != 0, np.sqrt(_total(16, run.squares) / 16 / whole), np.nan)


def _jump_share(run: _Run) -> Floats:
    realised, products = run.day_squares, _total(DAY - 1, _shifted(run.sizes) * run.sizes)
    bipower = math.pi / 2 * (DAY / (DAY - 1)) * products
    return np.where(realised != 0, np.maximum(realised - bipower, 0.0) / realised, np.nan)


def _parkinson(count: int, run: _Run) -> Floats:
    volatility: Floats = np.sqrt(_total(count, run.log_ranges * run.log_ranges) / PARKINSON)
    return volatility


def _rogers_satchell(run: _Run) -> Floats:
    up = _log(run.highs / run.closes) * _log(run.highs / run.opens)
    return up + _log(run.lows / run.closes) * _log(run.lows / run.opens)


def _log_amihud(run: _Run) -> Floats:
    turnover = run.volumes * run.closes
    traded = turnover > 0
    known = np.where(np.isnan(run.returns), np.nan, traded)
    illiquidity = np.where(traded | np.isnan(run.returns), run.sizes / turnover, 0.0)
    added, count = _total(DAY, illiquidity), _total(DAY, known)
    return np.where(added > 0, _log(np.where(added > 0, MILLION * (added / count), np.nan)), np.nan)


def _roll_spread_bps(run: _Run) -> Floats:
    returns, pairs = run.returns, DAY - 1
    products = _total(pairs, _shifted(returns) * returns)
    newer, older = _total(pairs, returns), _shifted(_total(pairs, returns))
    covariance = products / pairs - (newer / pairs) * (older / pairs)
    return np.where(covariance < -ROUNDING * run.day_squares, 2 * BPS * np.sqrt(-covariance), np.nan)


def _autocorrelation(run: _Run) -> Floats:
    def of(returns: Floats) -> Floats:
        centred = _centred(DAY, returns, _total(DAY, returns) / DAY)
        products: Floats = np.zeros(1)
        for first in range(DAY - 1):
            products = products + centred(first) * centred(first + 1)
        return products / _squared(DAY, centred)

    return np.where(_is_flat(DAY, run.returns), np.nan, _full(DAY, run.returns, of))


def _z(values: Floats) -> Floats:
    mean, sigma = (_shifted(each) for each in _deviation(DAY, values))
    flat = np.concatenate([[True], _is_flat(DAY, values)[:-1]])
    return np.where(flat, np.nan, (values - mean) / sigma)


def _variation(run: _Run) -> Floats:
    mean, sigma = _deviation(DAY, run.log_ranges)
    return np.where(mean != 0, sigma / mean, np.nan)


def _downside_share(run: _Run) -> Floats:
    downs = _total(DAY, np.where(run.returns < 0, run.squares, 0.0))
    return downs / _unless_zero(run.day_squares)


def _log_volume_ratio(count: int, run: _Run) -> Floats:
    return _log(_unless_zero(_total(count, run.volumes) / count) / run.week_volume)


def _scaled_return(count: int, run: _Run) -> Floats:
    return _total(count, run.returns) / (math.sqrt(count) * run.day_root_mean_square)


def _location(count: int, run: _Run) -> Floats:
    low, high = _lowest(count, run.lows), _highest(count, run.highs)
    return np.where(high > low, (run.closes - low) / (high - low), np.nan)


def _phase(run: _Run, of: Callable[[float], float], first_ns: int, period_ns: int) -> Floats:
    return _each(of, 2 * math.pi * ((run.close_ns - first_ns) % period_ns / period_ns))


_COLUMNS: dict[str, Callable[[_Run], Floats]] = {
    "log_return": lambda run: run.returns,
    "log_range": lambda run: run.log_ranges,
    "body_ratio": lambda run: (run.closes - run.opens) / run.height,
    "close_location": lambda run: ((run.closes - run.lows) - (run.highs - run.closes)) / run.height,
    "upper_wick_ratio": lambda run: (run.highs - np.maximum(run.opens, run.closes)) / run.height,
    "lower_wick_ratio": lambda run: (np.minimum(run.opens, run.closes) - run.lows) / run.height,
    "atr_fraction": lambda run: run.atrs / run.closes,
    "atr_ratio": lambda run: _of_mean(100, run.atrs),
    "efficiency_ratio_10": lambda run: _efficiency_ratio(10, run),
    "rsi_14": lambda run: run.rsis,
    "rsi_slope_5": lambda run: _full(5, run.rsis, lambda v: _ols_slope(5, lambda i: v[i : len(v) - 4 + i]) / 5),
    "realised_volatility_16": lambda run: np.sqrt(_total(16, run.squares)),
    "volatility_ratio": _volatility_ratio,
    "volume_ratio": lambda run: _of_mean(20, run.volumes),
    "log_volume": lambda run: run.log_volumes,
    "trend_t": lambda run: _trend_t(TREND_BARS, run.closes),
    "channel_location_20": lambda run: _location(20, run),
    "realised_volatility_4": lambda run: np.sqrt(_total(4, run.squares)),
    "realised_volatility_96": lambda run: np.sqrt(run.day_squares),
    "realised_volatility_672": lambda run: np.sqrt(_total(WEEK, run.squares)),
    "return_deviation_96": lambda run: _deviation(DAY, run.returns)[1],
    "jump_share_96": _jump_share,
    "parkinson_volatility_16": lambda run: _parkinson(16, run),
    "garman_klass_volatility_16": lambda run: np.sqrt(_total(16, run.garman_klass)),
    "rogers_satchell_volatility_16": lambda run: np.sqrt(_total(16, _rogers_satchell(run))),
    "log_amihud_96": _log_amihud,
    "roll_spread_bps_96": _roll_spread_bps,
    "autocorrelation_96": _autocorrelation,
    "efficiency_ratio_96": lambda run: _efficiency_ratio(DAY, run),
    "trend_t_96": lambda run: _trend_t(DAY, run.closes),
    "volume_z_96": lambda run: _z(run.log_volumes),
    "range_z_96": lambda run: _z(run.log_ranges),
    "drawdown_96": lambda run: _log(run.closes / _highest(DAY, run.highs)),
    "channel_location_96": lambda run: _location(DAY, run),
    "volatility_of_volatility_96": _variation,
    "time_of_day_sin": lambda run: _phase(run, math.sin, 0, DAY_NS),
    "time_of_day_cos": lambda run: _phase(run, math.cos, 0, DAY_NS),
    "time_of_week_sin": lambda run: _phase(run, math.sin, MONDAY_NS, WEEK_NS),
    "time_of_week_cos": lambda run: _phase(run, math.cos, MONDAY_NS, WEEK_NS),
    "realised_volatility_32": lambda run: np.sqrt(_total(32, run.squares)),
    "realised_volatility_288": lambda run: np.sqrt(_total(3 * DAY, run.squares)),
    "parkinson_volatility_4": lambda run: _parkinson(4, run),
    "parkinson_volatility_96": lambda run: _parkinson(DAY, run),
    "garman_klass_volatility_96": lambda run: np.sqrt(_total(DAY, run.garman_klass)),
    "efficiency_ratio_16": lambda run: _efficiency_ratio(16, run),
    "efficiency_ratio_32": lambda run: _efficiency_ratio(32, run),
    "downside_share_96": _downside_share,
    "log_volume_ratio_4_672": lambda run: _log_volume_ratio(4, run),
    "log_volume_ratio_16_672": lambda run: _log_volume_ratio(16, run),
    "log_volume_ratio_96_672": lambda run: _log_volume_ratio(DAY, run),
    "scaled_return_4": lambda run: _scaled_return(4, run),
    "scaled_return_16": lambda run: _scaled_return(16, run),
    "scaled_return_96": lambda run: _scaled_return(DAY, run),
    "scaled_largest_move_16": lambda run: _highest(16, run.sizes) / run.day_root_mean_square,
}
