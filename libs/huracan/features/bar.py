"""Features of closed bars, one row a bar.

Wilder's averages (ATR, RSI) start with a plain mean of their first 14 terms, as in the Stock.Indicators
workbooks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.market import Bar
from huracan.features.table import FeatureSet, Missing, feature

__all__ = ["BAR", "BarState", "WilderAverage", "ols_slope", "rsi", "trend_t"]

NAN = float("nan")
INF = float("inf")
WILDER = 14
TREND_BARS = 20

_LARGEST_R_SQUARED = 1 - 1e-9


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


def ols_slope(values: Sequence[float]) -> float:
    """Return the least-squares slope of values over 0, 1, 2, …, per step."""
    centre = (len(values) - 1) / 2
    squares = len(values) * (len(values) ** 2 - 1) / 12
    return sum([(i - centre) * value for i, value in enumerate(values)]) / squares


def trend_t(values: Sequence[float]) -> float:
    """Return the t-statistic of the least-squares slope; NaN if all values are equal.

    t = r sqrt((n - 2) / (1 - r^2)), with r^2 at most 1 - 1e-9: a straight line gives a large number, not
    infinity.
    """
    count = len(values)
    mean = sum(values) / count
    centred = [value - mean for value in values]
    total = sum([value * value for value in centred])
    if max(values) == min(values):
        return NAN
    slope = ols_slope(centred)
    explained = slope * slope * count * (count * count - 1) / 12
    r_squared = min(explained / total, _LARGEST_R_SQUARED)
    return math.copysign(math.sqrt(r_squared * (count - 2) / (1 - r_squared)), slope)


class BarState:
    """The last closed bar and what is needed of the ones before it.

    A bar that does not open where the last one ended starts everything anew.
    """

    def __init__(self) -> None:
        self._next_open_ns = 0
        self.open = self.high = self.low = self.close = self.volume = NAN
        self._reset()

    def push(self, bar: Bar) -> NDArray[np.float32]:
        """Take a closed bar and return its features, shape (columns,); raise ValueError if it is partial."""
        if bar.partial:
            raise ValueError(f"the bar that opened at {bar.open_ns} is partial; it enters no window")
        if bar.open_ns != self._next_open_ns:
            self._reset()
        self._next_open_ns = bar.open_ns + bar.interval_ns
        self.open, self.high, self.low = float(bar.open), float(bar.high), float(bar.low)
        self.close, self.volume = float(bar.close), float(bar.volume)
        if self.closes:
            self._push_change(self.closes[-1])
        self.closes.append(self.close)
        self.highs.append(self.high)
        self.lows.append(self.low)
        self.volumes.append(self.volume)
        return BAR.row(self)

    def _reset(self) -> None:
        self.closes: deque[float] = deque(maxlen=TREND_BARS)
        self.highs: deque[float] = deque(maxlen=20)
        self.lows: deque[float] = deque(maxlen=20)
        self.volumes: deque[float] = deque(maxlen=20)
        self.log_returns: deque[float] = deque(maxlen=64)
        self.atrs: deque[float] = deque(maxlen=100)
        self.rsis: deque[float] = deque(maxlen=5)
        self._true_range = WilderAverage()
        self._gain = WilderAverage()
        self._loss = WilderAverage()

    def _push_change(self, before: float) -> None:
        self.log_returns.append(math.log(self.close / before))
        atr = self._true_range.push(max(self.high, before) - min(self.low, before))
        gain = self._gain.push(max(self.close - before, 0.0))
        loss = self._loss.push(max(before - self.close, 0.0))
        if not math.isnan(atr):
            self.atrs.append(atr)
            self.rsis.append(rsi(gain, loss))

    def last_returns(self, count: int) -> list[float]:
        """Return the last log returns, oldest first; fewer if there are fewer."""
        returns = self.log_returns
        return list(islice(returns, max(0, len(returns) - count), None))

    def of_range(self, amount: float) -> float:
        """Return an amount over high - low; NaN if the bar has no range."""
        height = self.high - self.low
        return amount / height if height else NAN


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


def _atr_ratio(state: BarState) -> float:
    if len(state.atrs) < 100:
        return NAN
    mean = sum(state.atrs) / 100
    return state.atrs[-1] / mean if mean else NAN


def _efficiency_ratio(state: BarState) -> float:
    returns = state.last_returns(10)
    path = sum([abs(r) for r in returns])
    return min(abs(sum(returns)) / path, 1.0) if len(returns) == 10 and path else NAN


def _rsi(state: BarState) -> float:
    return state.rsis[-1] if state.rsis else NAN


def _rsi_slope(state: BarState) -> float:
    return ols_slope(state.rsis) / 5 if len(state.rsis) == 5 else NAN


def _mean_square(returns: list[float]) -> float:
    return sum([r * r for r in returns]) / len(returns)


def _realised_volatility(state: BarState) -> float:
    returns = state.last_returns(16)
    return math.sqrt(16 * _mean_square(returns)) if len(returns) == 16 else NAN


def _volatility_ratio(state: BarState) -> float:
    returns = state.last_returns(64)
    whole = _mean_square(returns) if len(returns) == 64 else 0.0
    return math.sqrt(_mean_square(returns[-16:]) / whole) if whole else NAN


def _volume_ratio(state: BarState) -> float:
    mean = sum(state.volumes) / 20
    return state.volume / mean if len(state.volumes) == 20 and mean else NAN


def _log_volume(state: BarState) -> float:
    return math.log1p(state.volume)


def _trend_t(state: BarState) -> float:
    return trend_t(state.closes) if len(state.closes) == TREND_BARS else NAN


def _channel_location(state: BarState) -> float:
    if len(state.highs) < 20:
        return NAN
    low, high = min(state.lows), max(state.highs)
    return (state.close - low) / (high - low) if high > low else NAN


# fmt: off
BAR: FeatureSet[BarState] = FeatureSet(
    "bar",
    (
        feature(1, "log_return", unit="ln", low=-INF, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="ln(close / previous close)", compute=_log_return),
        feature(2, "log_range", unit="ln", low=0, high=INF, missing=Missing.NEVER,
                source="ln(high / low), the range of Parkinson 1980",
                compute=lambda state: math.log(state.high / state.low)),
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
                source="ATR14 / mean of the last 100 ATR14, this one included", compute=_atr_ratio),
        feature(9, "efficiency_ratio_10", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Kaufman 1995 on log returns, |sum r| / sum |r| over 10 bars",
                compute=_efficiency_ratio),
        feature(10, "rsi_14", unit="points", low=0, high=100,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Wilder 1978, 100 - 100 / (1 + average gain / average loss) over 14 bars",
                compute=_rsi),
        feature(11, "rsi_slope_5", unit="points per bar / 5", low=-10, high=10,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="least-squares slope of the last 5 RSI14 / 5", compute=_rsi_slope),
        feature(12, "realised_volatility_16", unit="ln per 16 bars", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL,
                source="sqrt(sum r^2) of the last 16 log returns", compute=_realised_volatility),
        feature(13, "volatility_ratio", unit="ratio", low=0, high=2,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="root mean square of the last 16 log returns over that of the last 64",
                compute=_volatility_ratio),
        feature(14, "volume_ratio", unit="ratio", low=0, high=20,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="volume / mean volume of the last 20 bars, this one included", compute=_volume_ratio),
        feature(15, "log_volume", unit="ln(1 + base)", low=0, high=INF, missing=Missing.NEVER,
                source="ln(1 + volume)", compute=_log_volume),
        feature(16, "trend_t", unit="t", low=-134_165, high=134_165,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="t-statistic of the least-squares slope of the last 20 closes, r^2 at most 1 - 1e-9",
                compute=_trend_t),
        feature(17, "channel_location_20", unit="ratio", low=0, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Donchian channel, (close - lowest low) / (highest high - lowest low) of 20 bars",
                compute=_channel_location),
    ),
)
# fmt: on
