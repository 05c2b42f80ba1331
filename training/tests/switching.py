"""A tiny market that switches between calm and wild, drifting or not: what models are tried on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from huracan_training.models.inputs import Question
from huracan_training.samples import UNKNOWN, WINDOW, Floats, Integers, Rows, Sample, Series

INTERVAL_NS = 900_000_000_000
HORIZON = 8
QUESTION = Question(classes=4, horizon_bars=HORIZON)
COLUMNS = ("log_volatility", "log_volatility_again", "efficiency", "return", "noise", "more_noise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Samples of every asset, one part after the other in time, a horizon apart."""

    train: list[Sample]
    valid: list[Sample]
    judged: list[Sample]


def rolling_sum(values: Floats, bars: int) -> Floats:
    """Return sums over the last bars, NaN before there are enough."""
    return np.concatenate([np.full(bars - 1, np.nan), sliding_window_view(values, bars).sum(axis=1)])


def switching_returns(seed: int, bars: int) -> Floats:
    """Return log returns of four lasting states: wild or calm, drifting or not."""
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.random(bars) < 0.03) * 7 % 11 % 4
    volatility = np.array([0.004, 0.0005, 0.001, 0.0012])[states]
    drift = np.array([0.0, 0.0, 0.0018, 0.0])[states]
    returns: Floats = volatility * rng.standard_normal(bars) + drift
    return returns


def feature_rows(returns: Floats, seed: int) -> Rows:
    """Return feature rows of returns, each from its bar and those before."""
    rng = np.random.default_rng(seed + 1000)
    volatility = 0.5 * np.log(rolling_sum(returns**2, 8))
    efficiency = np.abs(rolling_sum(returns, 12)) / rolling_sum(np.abs(returns), 12)
    noise = rng.standard_normal((len(returns), 3))
    columns = [volatility, 3 * volatility + 0.01 * noise[:, 0], efficiency, returns, noise[:, 1:]]
    return np.column_stack(columns).astype(np.float32)


def labels_of(returns: Floats, upto: int) -> Integers:
    """Return the class of the bars that follow each: wild, calm, drifting, neither; UNKNOWN at the end.

    Thresholds are quantiles of the first `upto` bars.
    """
    ahead = np.append(returns, np.full(HORIZON, np.nan))[1:]
    paths = sliding_window_view(ahead, HORIZON)[: len(returns)]
    spread = np.sqrt((paths**2).sum(axis=1))
    efficiency = np.abs(paths.sum(axis=1)) / np.abs(paths).sum(axis=1)
    low, high = np.nanquantile(spread[: upto - HORIZON], (0.2, 0.8))
    straight = np.nanquantile(efficiency[: upto - HORIZON], 0.7)
    labels = np.select([spread > high, spread < low, efficiency > straight], [0, 1, 2], 3)
    return np.where(np.isnan(spread), UNKNOWN, labels).astype(np.int64)


def series_of(returns: Floats, rows: Rows, asset: str) -> Series:
    """Return a series; its first return is missing."""
    logged = returns.copy()
    logged[0] = np.nan
    close_ns = INTERVAL_NS * np.arange(1, len(returns) + 1, dtype=np.int64)
    return Series(asset=asset, interval_ns=INTERVAL_NS, close_ns=close_ns, log_return=logged, rows=rows)


def sample_of(series: Series, labels: Integers, first: int, last: int, step: int = 1) -> Sample:
    """Return every `step`-th position in [first, last) with its label."""
    at = np.arange(max(first, WINDOW - 1), last, step, dtype=np.int64)
    known = np.concatenate([np.full(HORIZON, UNKNOWN), labels[:-HORIZON]]).astype(np.int64)
    return Sample(series=series, at=at, labels=labels[at], known=known)


def switching_parts(
    *, seed: int = 0, bars: int = 1400, assets: tuple[str, ...] = ("AAA", "BBB"), step: int = 1
) -> Parts:
    """Return the parts of a few assets: 60 % to train, 20 % to validate, 20 % to be judged, gaps between."""
    parts = Parts(train=[], valid=[], judged=[])
    for number, asset in enumerate(assets):
        returns = switching_returns(seed + 10 * number, bars) * (1 + number)
        series = series_of(returns, feature_rows(returns, seed), asset)
        upto = bars * 6 // 10
        labels = labels_of(returns, upto)
        later = bars * 8 // 10
        parts.train.append(sample_of(series, labels, 0, upto - HORIZON, step))
        parts.valid.append(sample_of(series, labels, upto, later - HORIZON, step))
        parts.judged.append(sample_of(series, labels, later, bars - HORIZON, step))
    return parts
