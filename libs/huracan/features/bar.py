"""Features of closed bars, one row a bar.

Wilder's averages (ATR, RSI) start with a plain mean of their first 14 terms, as in the Stock.Indicators
workbooks; they alone look back further than `BARS_KEPT` bars. `bar_rows` (features/bar_batch.py) gives the same rows
from a whole history at once: whoever changes a computation here changes it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.market import Bar
from huracan.features.estimators import (
    autocorrelation,
    bipower_variation,
    deviation,
    jump_share,
    lagged_covariance,
    ols_slope,
    total,
    trend_t,
)
from huracan.features.table import FeatureSet, Missing, feature

__all__ = ["BAR", "BARS_KEPT", "WARM_UP_BARS", "BarState", "WilderAverage", "rsi"]

NAN = float("nan")
INF = float("inf")
BPS = 1e4
WILDER = 14
TREND_BARS = 20
DAY = 96
"""Bars in a day, where they are of 15 minutes."""
WEEK = 7 * DAY
BARS_KEPT = WEEK + 1
"""Bars that the longest trailing window looks at: a week of log returns, where they are of 15 minutes."""
WARM_UP_BARS = BARS_KEPT + WINDOW_ROWS - 1
"""Unbroken bars after which no row of a window misses a value for want of bars."""
DAY_NS = 86_400 * 10**9
WEEK_NS = 7 * DAY_NS
MONDAY_NS = 4 * DAY_NS
"""The first Monday, 00:00 UTC, after the Unix epoch."""
PARKINSON = 4 * math.log(2)
GARMAN_KLASS = 2 * math.log(2) - 1
MILLION = 1e6
ROUNDING = 1e-12
"""A covariance that is less than this part of the sum of squares is zero but for rounding."""


class WilderAverage:
    """Smooth as Wilder 1978: mean of the first n values, then (previous * (n - 1) + value) / n."""

    __slots__ = ("_count", "_periods", "_sum", "value")

    def __init__(self, periods: int = WILDER) -> None:
        self._periods = periods
        self._count = 0
        self._sum = 0.0
        self.value = NAN
        """The average; NaN until there are n values."""

    def push(self, value: float) -> float:
        """Take a value and return the average."""
        self._count += 1
        if self._count <= self._periods:
            self._sum += value
            if self._count == self._periods:
                self.value = self._sum / self._periods
        else:
            self.value = (self.value * (self._periods - 1) + value) / self._periods
        return self.value


def rsi(gain: float, loss: float) -> float:
    """Return 100 - 100 / (1 + gain / loss) of average gain and loss, in [0, 100]; NaN if both are 0."""
    return 100 * gain / (gain + loss) if gain + loss else NAN


class BarState:
    """The last closed bar and what is needed of the ones before it, oldest first.

    A bar that does not open where the last one ended starts everything anew.
    """

    def __init__(self) -> None:
        self._next_open_ns = 0
        self.close_ns = 0
        """When the last bar ended."""
        self.open = self.high = self.low = self.close = self.volume = NAN
        self._reset()

    def push(self, bar: Bar) -> NDArray[np.float32]:
        """Take a closed bar and return its features, shape (columns,); raise ValueError if it is partial."""
        self.take(bar)
        return BAR.row(self)

    def take(self, bar: Bar) -> None:
        """Take a closed bar whose own features nobody asks for; raise ValueError if it is partial."""
        if bar.partial:
            raise ValueError(f"the bar that opened at {bar.open_ns} is partial; it enters no window")
        if bar.open_ns != self._next_open_ns:
            self._reset()
        self._next_open_ns = self.close_ns = bar.open_ns + bar.interval_ns
        self.open, self.high, self.low = float(bar.open), float(bar.high), float(bar.low)
        self.close, self.volume = float(bar.close), float(bar.volume)
        if self.closes:
            self._push_change(self.closes[-1])
        _keep(self.closes, self.close, DAY)
        _keep(self.highs, self.high, DAY)
        _keep(self.lows, self.low, DAY)
        _keep(self.volumes, self.volume, WEEK)
        _keep(self.log_volumes, math.log1p(self.volume), DAY + 1)
        _keep(self.log_ranges, math.log(self.high / self.low), DAY + 1)
        _keep(self.garman_klass, self._garman_klass(), DAY)
        _keep(self.rogers_satchell, self._rogers_satchell(), 16)

    def _reset(self) -> None:
        self.closes: list[float] = []
        self.highs: list[float] = []
        self.lows: list[float] = []
        self.volumes: list[float] = []
        self.log_volumes: list[float] = []
        self.log_ranges: list[float] = []
        self.garman_klass: list[float] = []
        self.rogers_satchell: list[float] = []
        self.log_returns: list[float] = []
        self.illiquidity: list[float] = []
        self.atrs: list[float] = []
        self.rsis: list[float] = []
        self._true_range = WilderAverage()
        self._gain = WilderAverage()
        self._loss = WilderAverage()

    def _push_change(self, before: float) -> None:
        change = math.log(self.close / before)
        turnover = self.volume * self.close
        _keep(self.log_returns, change, WEEK)
        _keep(self.illiquidity, abs(change) / turnover if turnover else NAN, DAY)
        atr = self._true_range.push(max(self.high, before) - min(self.low, before))
        gain = self._gain.push(max(self.close - before, 0.0))
        loss = self._loss.push(max(before - self.close, 0.0))
        if not math.isnan(atr):
            _keep(self.atrs, atr, 100)
            _keep(self.rsis, rsi(gain, loss), 5)

    def _garman_klass(self) -> float:
        height, change = self.log_ranges[-1], math.log(self.close / self.open)
        return 0.5 * (height * height) - GARMAN_KLASS * (change * change)

    def _rogers_satchell(self) -> float:
        up = math.log(self.high / self.close) * math.log(self.high / self.open)
        return up + math.log(self.low / self.close) * math.log(self.low / self.open)

    def of_range(self, amount: float) -> float:
        """Return an amount over high - low; NaN if the bar has no range."""
        height = self.high - self.low
        return amount / height if height else NAN


def _keep(values: list[float], value: float, count: int) -> None:
    values.append(value)
    if len(values) > count:
        del values[0]


Compute = Callable[[BarState], float]
Values = Callable[[BarState], list[float]]


def _over(count: int, values: Values, of: Callable[[list[float]], float]) -> Compute:
    """Return the computation of a number from the last values; it is NaN while there are fewer."""

    def compute(state: BarState) -> float:
        last = values(state)[-count:]
        return of(last) if len(last) == count else NAN

    return compute


def _returns(state: BarState) -> list[float]:
    return state.log_returns


def _log_ranges(state: BarState) -> list[float]:
    return state.log_ranges


def _volumes(state: BarState) -> list[float]:
    return state.volumes


def _garman_klass(state: BarState) -> list[float]:
    return state.garman_klass


def _log_return(state: BarState) -> float:
    return state.log_returns[-1] if state.log_returns else NAN


def _body_ratio(state: BarState) -> float:
    return state.of_range(state.close - state.open)


def _close_location(state: BarState) -> float:
    return state.of_range((state.close - state.low) - (state.high - state.close))


def _upper_wick_ratio(state: BarState) -> float:
    return state.of_range(state.high - max(state.open, state.close))


def _lower_wick_ratio(state: BarState) -> float:
    return state.of_range(min(state.open, state.close) - state.low)


def _atr_fraction(state: BarState) -> float:
    return state.atrs[-1] / state.close if state.atrs else NAN


def _of_mean(values: list[float]) -> float:
    mean = total(values) / len(values)
    return values[-1] / mean if mean else NAN


def _efficiency_ratio(returns: list[float]) -> float:
    path = total([abs(r) for r in returns])
    return min(abs(total(returns)) / path, 1.0) if path else NAN


def _rsi(state: BarState) -> float:
    return state.rsis[-1] if state.rsis else NAN


def _squares(returns: list[float]) -> float:
    return total([r * r for r in returns])


def _realised_volatility(returns: list[float]) -> float:
    return math.sqrt(_squares(returns))


def _volatility_ratio(returns: list[float]) -> float:
    whole = _squares(returns) / 64
    return math.sqrt(_squares(returns[-16:]) / 16 / whole) if whole else NAN


def _downside_share(returns: list[float]) -> float:
    realised = _squares(returns)
    return _squares([r for r in returns if r < 0]) / realised if realised else NAN


def _root_mean_square(returns: list[float]) -> float:
    return math.sqrt(_squares(returns) / len(returns))


def _scaled_return(returns: list[float], count: int) -> float:
    usual = _root_mean_square(returns)
    return total(returns[-count:]) / (math.sqrt(count) * usual) if usual else NAN


def _scaled_largest_move(returns: list[float]) -> float:
    usual = _root_mean_square(returns)
    return max([abs(r) for r in returns[-16:]]) / usual if usual else NAN


def _log_volume_ratio(volumes: list[float], count: int) -> float:
    recent = total(volumes[-count:]) / count
    return math.log(recent / (total(volumes) / len(volumes))) if recent else NAN


def _root(values: list[float]) -> float:
    return math.sqrt(total(values))


def _parkinson(log_ranges: list[float]) -> float:
    return math.sqrt(total([height * height for height in log_ranges]) / PARKINSON)


def _log_amihud(illiquidity: list[float]) -> float:
    traded = [value for value in illiquidity if not math.isnan(value)]
    added = total(traded)
    return math.log(MILLION * (added / len(traded))) if added else NAN


def _roll_spread_bps(returns: list[float]) -> float:
    covariance = lagged_covariance(returns)
    return 2 * BPS * math.sqrt(-covariance) if covariance < -ROUNDING * _squares(returns) else NAN


def _z(values: list[float]) -> float:
    """Return how many standard deviations the last value lies above the mean of those before it."""
    past = values[:-1]
    if max(past) == min(past):
        return NAN
    mean, sigma = deviation(past)
    return (values[-1] - mean) / sigma


def _variation(values: list[float]) -> float:
    mean, sigma = deviation(values)
    return sigma / mean if mean else NAN


def _location(state: BarState, count: int) -> float:
    if len(state.highs) < count:
        return NAN
    low, high = min(state.lows[-count:]), max(state.highs[-count:])
    return (state.close - low) / (high - low) if high > low else NAN


def _drawdown(state: BarState) -> float:
    return math.log(state.close / max(state.highs)) if len(state.highs) == DAY else NAN


def phase(close_ns: int, first_ns: int, period_ns: int) -> float:
    """Return how far a time is in a period, in radians, [0, 2 pi)."""
    return 2 * math.pi * ((close_ns - first_ns) % period_ns / period_ns)


# fmt: off
BAR: FeatureSet[BarState] = FeatureSet(
    "bar",
    (
        feature(1, "log_return", unit="ln", low=-INF, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="ln(close / previous close)", compute=_log_return),
        feature(2, "log_range", unit="ln", low=0, high=INF, missing=Missing.NEVER,
                source="ln(high / low), the range of Parkinson 1980",
                compute=lambda state: state.log_ranges[-1]),
        feature(3, "body_ratio", unit="ratio", low=-1, high=1, missing=Missing.NAN_IF_FLAT,
                source="(close - open) / (high - low)", compute=_body_ratio),
        feature(4, "close_location", unit="ratio", low=-1, high=1, missing=Missing.NAN_IF_FLAT,
                source="close location value, ((close - low) - (high - close)) / (high - low)",
                compute=_close_location),
        feature(5, "upper_wick_ratio", unit="ratio", low=0, high=1, missing=Missing.NAN_IF_FLAT,
                source="(high - max(open, close)) / (high - low)", compute=_upper_wick_ratio),
        feature(6, "lower_wick_ratio", unit="ratio", low=0, high=1, missing=Missing.NAN_IF_FLAT,
                source="(min(open, close) - low) / (high - low)", compute=_lower_wick_ratio),
        feature(7, "atr_fraction", unit="ratio", low=0, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="Wilder 1978, ATR14 / close", compute=_atr_fraction),
        feature(8, "atr_ratio", unit="ratio", low=0, high=100,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="ATR14 / mean of the last 100 ATR14, this one included",
                compute=_over(100, lambda state: state.atrs, _of_mean)),
        feature(9, "efficiency_ratio_10", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Kaufman 1995 on log returns, |sum r| / sum |r| over 10 bars",
                compute=_over(10, _returns, _efficiency_ratio)),
        feature(10, "rsi_14", unit="points", low=0, high=100,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Wilder 1978, 100 - 100 / (1 + average gain / average loss) over 14 bars",
                compute=_rsi),
        feature(11, "rsi_slope_5", unit="points per bar / 5", low=-10, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="least-squares slope of the last 5 RSI14 / 5",
                compute=_over(5, lambda state: state.rsis, lambda last: ols_slope(last) / 5)),
        feature(12, "realised_volatility_16", unit="ln per 16 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 16 log returns", compute=_over(16, _returns, _realised_volatility)),
        feature(13, "volatility_ratio", unit="ratio", low=0, high=2,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="root mean square of the last 16 log returns over that of the last 64",
                compute=_over(64, _returns, _volatility_ratio)),
        feature(14, "volume_ratio", unit="ratio", low=0, high=20,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="volume / mean volume of the last 20 bars, this one included",
                compute=_over(20, _volumes, _of_mean)),
        feature(15, "log_volume", unit="ln(1 + base)", low=0, high=INF, missing=Missing.NEVER,
                source="ln(1 + volume)", compute=lambda state: state.log_volumes[-1]),
        feature(16, "trend_t", unit="t", low=-134_165, high=134_165,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="t-statistic of the least-squares slope of the last 20 closes, r^2 at most 1 - 1e-9",
                compute=_over(TREND_BARS, lambda state: state.closes, trend_t)),
        feature(17, "channel_location_20", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Donchian channel, (close - lowest low) / (highest high - lowest low) of 20 bars",
                compute=lambda state: _location(state, 20)),
        feature(18, "realised_volatility_4", unit="ln per 4 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 4 log returns: an hour of 15-minute bars (HAR, Corsi 2009)",
                compute=_over(4, _returns, _realised_volatility)),
        feature(19, "realised_volatility_96", unit="ln per 96 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 96 log returns: a day of 15-minute bars (HAR, Corsi 2009)",
                compute=_over(DAY, _returns, _realised_volatility)),
        feature(20, "realised_volatility_672", unit="ln per 672 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 672 log returns: a week of 15-minute bars (HAR, Corsi 2009)",
                compute=_over(WEEK, _returns, _realised_volatility)),
        feature(21, "return_deviation_96", unit="ln", low=0, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="standard deviation, over n - 1, of the last 96 log returns",
                compute=_over(DAY, _returns, lambda last: deviation(last)[1])),
        feature(22, "jump_share_96", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Barndorff-Nielsen & Shephard 2004, max(RV - BV, 0) / RV of the last 96 log returns, "
                       "BV = (pi / 2) (n / (n - 1)) sum |r_i| |r_i-1|",
                compute=_over(DAY, _returns, lambda last: jump_share(_squares(last), bipower_variation(last)))),
        feature(23, "parkinson_volatility_16", unit="ln per 16 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="Parkinson 1980, sqrt(sum ln(high / low)^2 / (4 ln 2)) of the last 16 bars",
                compute=_over(16, _log_ranges, _parkinson)),
        feature(24, "garman_klass_volatility_16", unit="ln per 16 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="Garman & Klass 1980, sqrt(sum (ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2)) "
                       "of the last 16 bars",
                compute=_over(16, _garman_klass, _root)),
        feature(25, "rogers_satchell_volatility_16", unit="ln per 16 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="Rogers & Satchell 1991, sqrt(sum (ln(high / close) ln(high / open) + ln(low / close) "
                       "ln(low / open))) of the last 16 bars",
                compute=_over(16, lambda state: state.rogers_satchell, _root)),
        feature(26, "log_amihud_96", unit="ln per million quote", low=-INF, high=INF,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME | Missing.NAN_IF_FLAT,
                source="Amihud 2002, ln(1e6 mean of |r| / (volume close)) of those of the last 96 bars that traded",
                compute=_over(DAY, lambda state: state.illiquidity, _log_amihud)),
        feature(27, "roll_spread_bps_96", unit="bps", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_BOUNCE,
                source="Roll 1984, 2e4 sqrt(-cov(r_t, r_t-1)) of the last 96 log returns",
                compute=_over(DAY, _returns, _roll_spread_bps)),
        feature(28, "autocorrelation_96", unit="ratio", low=-1, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="first autocorrelation of the last 96 log returns",
                compute=_over(DAY, _returns, autocorrelation)),
        feature(29, "efficiency_ratio_96", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Kaufman 1995 on log returns, |sum r| / sum |r| over 96 bars",
                compute=_over(DAY, _returns, _efficiency_ratio)),
        feature(30, "trend_t_96", unit="t", low=-306_595, high=306_595,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="t-statistic of the least-squares slope of the last 96 closes, r^2 at most 1 - 1e-9",
                compute=_over(DAY, lambda state: state.closes, trend_t)),
        feature(31, "volume_z_96", unit="standard deviations", low=-INF, high=INF,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="ln(1 + volume) against mean and standard deviation of the 96 bars before this one",
                compute=_over(DAY + 1, lambda state: state.log_volumes, _z)),
        feature(32, "range_z_96", unit="standard deviations", low=-INF, high=INF,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="ln(high / low) against mean and standard deviation of the 96 bars before this one",
                compute=_over(DAY + 1, _log_ranges, _z)),
        feature(33, "drawdown_96", unit="ln", low=-INF, high=0, missing=Missing.NAN_UNTIL_FULL,
                source="ln(close / highest high of the last 96 bars)", compute=_drawdown),
        feature(34, "channel_location_96", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Donchian channel, (close - lowest low) / (highest high - lowest low) of 96 bars",
                compute=lambda state: _location(state, DAY)),
        feature(35, "volatility_of_volatility_96", unit="ratio", low=0, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="standard deviation over mean of the last 96 log ranges",
                compute=_over(DAY, _log_ranges, _variation)),
        feature(36, "time_of_day_sin", unit="ratio", low=-1, high=1, missing=Missing.NEVER,
                source="sin of 2 pi times the part of the UTC day that is over at the close",
                compute=lambda state: math.sin(phase(state.close_ns, 0, DAY_NS))),
        feature(37, "time_of_day_cos", unit="ratio", low=-1, high=1, missing=Missing.NEVER,
                source="cos of 2 pi times the part of the UTC day that is over at the close",
                compute=lambda state: math.cos(phase(state.close_ns, 0, DAY_NS))),
        feature(38, "time_of_week_sin", unit="ratio", low=-1, high=1, missing=Missing.NEVER,
                source="sin of 2 pi times the part of the week, from Monday 00:00 UTC, that is over at the close",
                compute=lambda state: math.sin(phase(state.close_ns, MONDAY_NS, WEEK_NS))),
        feature(39, "time_of_week_cos", unit="ratio", low=-1, high=1, missing=Missing.NEVER,
                source="cos of 2 pi times the part of the week, from Monday 00:00 UTC, that is over at the close",
                compute=lambda state: math.cos(phase(state.close_ns, MONDAY_NS, WEEK_NS))),
        feature(40, "realised_volatility_32", unit="ln per 32 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 32 log returns", compute=_over(32, _returns, _realised_volatility)),
        feature(41, "realised_volatility_288", unit="ln per 288 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 288 log returns: three days of 15-minute bars",
                compute=_over(3 * DAY, _returns, _realised_volatility)),
        feature(42, "parkinson_volatility_4", unit="ln per 4 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="Parkinson 1980, sqrt(sum ln(high / low)^2 / (4 ln 2)) of the last 4 bars",
                compute=_over(4, _log_ranges, _parkinson)),
        feature(43, "parkinson_volatility_96", unit="ln per 96 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="Parkinson 1980, sqrt(sum ln(high / low)^2 / (4 ln 2)) of the last 96 bars",
                compute=_over(DAY, _log_ranges, _parkinson)),
        feature(44, "garman_klass_volatility_96", unit="ln per 96 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="Garman & Klass 1980, sqrt(sum (ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2)) "
                       "of the last 96 bars",
                compute=_over(DAY, _garman_klass, _root)),
        feature(45, "efficiency_ratio_16", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Kaufman 1995 on log returns, |sum r| / sum |r| over 16 bars",
                compute=_over(16, _returns, _efficiency_ratio)),
        feature(46, "efficiency_ratio_32", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Kaufman 1995 on log returns, |sum r| / sum |r| over 32 bars",
                compute=_over(32, _returns, _efficiency_ratio)),
        feature(47, "downside_share_96", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Barndorff-Nielsen, Kinnebrock & Shephard 2010, sum of squared log returns below 0 over that of "
                       "all, last 96 bars",
                compute=_over(DAY, _returns, _downside_share)),
        feature(48, "log_volume_ratio_4_672", unit="ln", low=-INF, high=6,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="ln(mean volume of the last 4 bars / mean volume of the last 672 bars)",
                compute=_over(WEEK, _volumes, lambda last: _log_volume_ratio(last, 4))),
        feature(49, "log_volume_ratio_16_672", unit="ln", low=-INF, high=4,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="ln(mean volume of the last 16 bars / mean volume of the last 672 bars)",
                compute=_over(WEEK, _volumes, lambda last: _log_volume_ratio(last, 16))),
        feature(50, "log_volume_ratio_96_672", unit="ln", low=-INF, high=2,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="ln(mean volume of the last 96 bars / mean volume of the last 672 bars)",
                compute=_over(WEEK, _volumes, lambda last: _log_volume_ratio(last, DAY))),
        feature(51, "scaled_return_4", unit="ratio", low=-10, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="sum of the last 4 log returns / (sqrt(4) root mean square of the last 96)",
                compute=_over(DAY, _returns, lambda last: _scaled_return(last, 4))),
        feature(52, "scaled_return_16", unit="ratio", low=-10, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="sum of the last 16 log returns / (sqrt(16) root mean square of the last 96)",
                compute=_over(DAY, _returns, lambda last: _scaled_return(last, 16))),
        feature(53, "scaled_return_96", unit="ratio", low=-10, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="sum of the last 96 log returns / (sqrt(96) root mean square of the last 96)",
                compute=_over(DAY, _returns, lambda last: _scaled_return(last, DAY))),
        feature(54, "scaled_largest_move_16", unit="ratio", low=0, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="largest |log return| of the last 16 / root mean square of the last 96",
                compute=_over(DAY, _returns, _scaled_largest_move)),
    ),
)
# fmt: on
