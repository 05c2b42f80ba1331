"""A local linear trend followed by a Kalman filter, and regimes of the trend forecast by a hidden Markov chain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from huracan_training.models.hmm import FilteredHmm, HmmSettings
from huracan_training.models.inputs import Question, check_samples, covered
from huracan_training.models.keeping import read_state, write_state
from huracan_training.samples import WINDOW, Floats, Sample, Series

_SETTLING_BARS = 64
_DIFFUSE = 1e6
_MEMORY = 0.95
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendModel:
    """Variances of a local linear trend, in units of the mean squared return: level, slope, observation."""

    level: float
    slope: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """What a filter knows after each bar, from that bar and those before, shape (n,) each."""

    slope_t: Floats
    """Slope over its standard deviation."""
    innovation: Floats
    """Surprise over its standard deviation; NaN where the bar is missing. Squared it is NIS ~ chi2(1)."""
    variance: Floats
    """Variance of the surprise, of the same bars."""


def follow_trend(log_price: Floats, model: TrendModel) -> Trend:
    """Run the filter of x = [level, slope], F = [[1, 1], [0, 1]], H = [1, 0] (DOMAIN §3).

    The first price is the first level; a missing one (NaN) is passed over. Durbin & Koopman 2012, §4.3.
    """
    slope_t, innovation, variance = (np.full(len(log_price), np.nan) for _ in range(3))
    level, slope, started = 0.0, 0.0, False
    var_level, cov, var_slope = _DIFFUSE, 0.0, _DIFFUSE
    for t, price in enumerate(log_price.tolist()):
        if not started:
            level, started = price, math.isfinite(price)
            continue
        level += slope
        var_level += 2 * cov + var_slope + model.level
        cov += var_slope
        var_slope += model.slope
        if math.isfinite(price):
            surprise, spread = price - level, var_level + model.noise
            innovation[t], variance[t] = surprise / math.sqrt(spread), spread
            gain_level, gain_slope = var_level / spread, cov / spread
            level += gain_level * surprise
            slope += gain_slope * surprise
            var_slope -= gain_slope * cov
            cov *= 1 - gain_level
            var_level *= 1 - gain_level
        slope_t[t] = slope / math.sqrt(var_slope)
    return Trend(slope_t=slope_t, innovation=innovation, variance=variance)


def log_likelihood(trend: Trend) -> float:
    """Return the Gaussian log likelihood of the surprises, less those of the first 64 bars."""
    spread, surprise = trend.variance[_SETTLING_BARS:], trend.innovation[_SETTLING_BARS:]
    terms = np.log(2 * np.pi * spread) + surprise**2
    return float(-0.5 * np.nansum(terms))


def fit_trend(prices: Sequence[Floats]) -> TrendModel:
    """Return the variances of greatest likelihood over some log prices, each in units of its mean return.

    The slope's is at least level / 64²: most prices are likeliest with a slope that never changes, and that would tell
    nothing; so it is remembered for about sqrt(level / slope), a window.
    """

    def cost(logs: Floats) -> float:
        return -sum(log_likelihood(follow_trend(price, _model(logs))) for price in prices)

    found = minimize(cost, np.array([-0.5, -5.0, -2.0]), method="Nelder-Mead", options={"maxfev": 120, "xatol": 0.05})
    return _model(found.x)


def _model(logs: Floats) -> TrendModel:
    level, slope, noise = np.exp(np.clip(logs, -20, 10)).tolist()
    return TrendModel(level=level, slope=level / WINDOW**2 + slope, noise=noise)


class KalmanHmm(FilteredHmm):
    """Regimes of a Kalman trend: a hidden Markov chain that observes slope / sd and the size of surprises.

    Variances by maximum likelihood on train, in units of each asset's mean squared return, so that one model
    serves all. Sizes are the logarithm of an average of NIS with memory 0.95.
    """

    name = "kalman_hmm"

    def __init__(self, question: Question, *, settings: HmmSettings | None = None, fit_bars: int = 2_000) -> None:
        super().__init__(question, settings=settings, observe=self._observe_trend)
        self._fit_bars = fit_bars
        self._trend: TrendModel | None = None
        self._units: dict[str, float] = {}

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit the trend on the latest bars of train, at most `fit_bars` an asset, then the chain."""
        check_samples(train, self._question, name="train")
        self._units = {sample.series.asset: _unit(sample.series.log_return[covered(sample)]) for sample in train}
        last = [int(sample.at.max(initial=-1)) + 1 for sample in train]
        prices = [self._log_price(sample.series)[:end] for sample, end in zip(train, last, strict=True)]
        self._trend = fit_trend([price[-self._fit_bars :] for price in prices])
        super().fit(train, valid, seed=seed)

    def _log_price(self, series: Series) -> Floats:
        """Return the log price in units of a mean return; across a missing bar it goes on from where it was."""
        unit = self._units.get(series.asset) or float(np.mean(list(self._units.values())))
        returns = series.log_return / unit
        return np.where(np.isfinite(returns), np.cumsum(np.nan_to_num(returns)), np.nan)

    def _observe_trend(self, series: Series) -> Floats:
        assert self._trend is not None
        trend = follow_trend(self._log_price(series), self._trend)
        size, sizes = 1.0, []
        for surprise in np.nan_to_num(trend.innovation, nan=1.0).tolist():
            size += (1 - _MEMORY) * (surprise * surprise - size)
            sizes.append(size)
        return np.column_stack([np.abs(trend.slope_t), 0.5 * np.log(np.array(sizes) + _TINY)])

    def write(self, directory: Path) -> None:
        """Keep the trend, the units and the chain."""
        state = self._state()
        assert self._trend is not None
        trend = [self._trend.level, self._trend.slope, self._trend.noise]
        write_state(directory, state | {"trend": trend, "units": self._units})

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        state = read_state(directory)
        level, slope, noise = state["trend"]
        self._trend = TrendModel(level=level, slope=slope, noise=noise)
        self._units = state["units"]
        self._restore(state)


def _unit(returns: Floats) -> float:
    usable = returns[np.isfinite(returns)]
    mean_square = float(np.mean(usable**2)) if len(usable) else 0.0
    return math.sqrt(mean_square) or 1.0
