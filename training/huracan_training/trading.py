"""What each model's forecasts would have earned on the test folds, net of costs, and how much of that is luck.

One equal share in every asset and seed, each paying its own costs: seeds are not netted, for one of them is deployed.
Test folds are joined; positions run from one into the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from huracan_training.bootstrap import Interval, interval, mean_block, resampled_sums
from huracan_training.chance import generator
from huracan_training.monte_carlo import (
    MonteCarlo,
    portfolio,
    probability_of_overfitting,
    resampled,
    shuffled,
    stressed,
    trades,
    turned,
)
from huracan_training.returns import (
    ReturnScores,
    bars_per_year,
    direction_positions,
    net_returns,
    regime_positions,
    returns_scored,
    sharpe,
    turnover,
)
from huracan_training.samples import UNKNOWN, Floats, Integers, Series

if TYPE_CHECKING:
    from huracan_training.evaluation import Forecast, Study

DIRECTIONS = ("down", "up")
REGIMES = ("Trending", "Ranging", "High_Volatility")
HOLDING = "buy_and_hold"
"""An equal share of every asset, bought once: what no model was needed for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trading:
    """What positions from forecasts earned, as a fraction of the notional."""

    rule: str
    """How forecasts became positions."""
    scores: ReturnScores
    sharpe: Interval
    """Per year, stationary block bootstrap."""
    by_asset: Mapping[str, float]
    """Sharpe ratio of each asset alone, per year, net of costs."""
    by_known_regime: Mapping[str, float]
    """The same of the bars at which each regime was the newest known, of all assets together."""
    gross_total: float
    """Sum of returns before costs."""
    at_ns: Integers
    net: Floats
    """Net return of each bar, shape (n,)."""
    tried: int
    """Strategies among which PBO was computed."""
    monte_carlo: MonteCarlo | None
    """Of the judged model only."""


@dataclass(frozen=True, slots=True)
class _Book:
    """Positions and the returns of the bars after them, a column for each asset and seed."""

    positions: Floats
    returns: Floats
    known: Integers
    """Newest regime known, of the shape of the positions."""
    assets: tuple[str, ...]
    seeds: Integers


def traded(
    study: Study, by_model: Mapping[str, Sequence[Forecast]], series: Mapping[str, Series]
) -> dict[str, Trading]:
    """Return what each model earned, and holding; empty where the classes give no position.

    The variance of the trials' Sharpe ratios is that of `study.trial_sharpes`, or of what is judged here where fewer
    than two are known.
    """
    if not (set(DIRECTIONS) <= set(study.classes) or set(REGIMES) <= set(study.classes)):
        return {}
    times = np.unique(np.concatenate([each.at_ns for each in by_model[study.model]]))
    books = {name: _book(study, forecasts, series, times) for name, forecasts in by_model.items()}
    books[HOLDING] = _held(books[study.model])
    alone = _alone(study, books)
    known = study.trial_sharpes if len(study.trial_sharpes) > 1 else [sharpe(each) for each in alone.T]
    finite = np.array([each for each in known if np.isfinite(each)])
    variance = float(finite.var(ddof=1)) if finite.size > 1 else 0.0
    return {
        name: _trading(
            study if name != HOLDING else replace(study, trials=1),
            book,
            times,
            variance,
            alone if name == study.model else None,
        )
        for name, book in books.items()
    }


def _trading(study: Study, book: _Book, times: Integers, variance: float, alone: Floats | None) -> Trading:
    net = portfolio(book.positions, book.returns, study.costs, study.interval_ns)
    gross = portfolio(book.positions, book.returns, study.costs.scaled(0.0), study.interval_ns)
    return Trading(
        rule=_rule(study.classes),
        scores=returns_scored(
            net,
            study.interval_ns,
            trials=study.trials,
            trial_variance=variance,
            traded=turnover(book.positions).mean(axis=1),
        ),
        sharpe=_sharpe_interval(study, net),
        by_asset={asset: _alone_in(study, book, asset) for asset in dict.fromkeys(book.assets)},
        by_known_regime=_by_known_regime(study, book),
        gross_total=float(gross.sum()),
        at_ns=times,
        net=net,
        tried=0 if alone is None else alone.shape[1],
        monte_carlo=None if alone is None else _monte_carlo(study, book, net, alone),
    )


def _alone_in(study: Study, book: _Book, asset: str) -> float:
    own = [each == asset for each in book.assets]
    net = portfolio(book.positions[:, own], book.returns[:, own], study.costs, study.interval_ns)
    return sharpe(net) * float(bars_per_year(study.interval_ns) ** 0.5)


def _by_known_regime(study: Study, book: _Book) -> dict[str, float]:
    each = net_returns(book.positions, book.returns, study.costs, study.interval_ns)
    yearly = float(bars_per_year(study.interval_ns) ** 0.5)
    return {
        name: sharpe(np.where(book.known == of, each, 0.0).mean(axis=1)) * yearly
        for of, name in enumerate(study.classes)
    }


def _monte_carlo(study: Study, book: _Book, net: Floats, alone: Floats) -> MonteCarlo:
    arguments = (book.positions, book.returns, study.costs, study.interval_ns)
    each = trades(book.positions, net_returns(*arguments) / book.positions.shape[1])
    return MonteCarlo(
        resampled=resampled(
            net, study.interval_ns, study.horizon_bars, generator(study.seed, "returns"), replicates=study.replicates
        ),
        shuffled=shuffled(each, generator(study.seed, "trades"), replicates=study.replicates),
        stresses=stressed(*arguments),
        turned=turned(*arguments, study.horizon_bars, generator(study.seed, "timing"), replicates=study.replicates),
        pbo=probability_of_overfitting(alone),
    )


def _alone(study: Study, books: Mapping[str, _Book]) -> Floats:
    """Return net returns of each model and seed by itself, shape (n, strategies): what was there to choose from."""
    columns = [
        portfolio(
            book.positions[:, book.seeds == seed], book.returns[:, book.seeds == seed], study.costs, study.interval_ns
        )
        for name, book in books.items()
        if name != HOLDING
        for seed in np.unique(book.seeds)
    ]
    return np.stack(columns, axis=1)


def _book(study: Study, forecasts: Sequence[Forecast], series: Mapping[str, Series], times: Integers) -> _Book:
    columns = sorted({(each.asset, each.seed) for each in forecasts})
    positions = np.zeros((times.size, len(columns)))
    returns = np.full(positions.shape, np.nan)
    known = np.full(positions.shape, UNKNOWN)
    for column, (asset, seed) in enumerate(columns):
        after, past = _returns(series[asset], study.horizon_bars)
        for each in forecasts:
            if (each.asset, each.seed) == (asset, seed):
                rows = np.searchsorted(times, each.at_ns)
                bars = np.searchsorted(series[asset].close_ns, each.at_ns)
                positions[rows, column] = _positions(study.classes, each.probabilities, past[bars])
                returns[rows, column] = after[bars]
                known[rows, column] = each.known
    return _Book(
        positions, returns, known, tuple(asset for asset, _ in columns), np.array([seed for _, seed in columns])
    )


def _held(book: _Book) -> _Book:
    first = book.seeds == book.seeds[0]
    assets = tuple(asset for asset, kept in zip(book.assets, first, strict=True) if kept)
    held = np.ones((book.positions.shape[0], len(assets)))
    return _Book(held, book.returns[:, first], book.known[:, first], assets, book.seeds[first])


def _returns(series: Series, horizon: int) -> tuple[Floats, Floats]:
    """Return the simple return of the next bar and the log return over the last `horizon` bars, each (n,)."""
    after = np.append(np.expm1(series.log_return[1:]), np.nan)
    total = np.cumsum(np.nan_to_num(series.log_return))
    past = total - np.concatenate([np.zeros(min(horizon, total.size)), total[:-horizon]])
    return after, past


def _positions(classes: Sequence[str], probabilities: Floats, past: Floats) -> Floats:
    if set(DIRECTIONS) <= set(classes):
        down, up = (probabilities[:, classes.index(name)] for name in DIRECTIONS)
        return direction_positions(down, up)
    trending, ranging, high = (probabilities[:, classes.index(name)] for name in REGIMES)
    return regime_positions(trending, ranging, high, past)


def _rule(classes: Sequence[str]) -> str:
    if set(DIRECTIONS) <= set(classes):
        return "p(up) − p(down), 0 below 0.10"
    return "sign(past return over the horizon) × (p(Trending) − p(Ranging)) × (1 − p(High_Volatility)), 0 below 0.10"


def _sharpe_interval(study: Study, net: Floats) -> Interval:
    yearly = bars_per_year(study.interval_ns) ** 0.5
    block = mean_block(net.size, study.horizon_bars)
    sums = resampled_sums(
        np.stack([net, np.square(net)], axis=1),
        min(block, net.size),
        generator(study.seed, "sharpe"),
        replicates=study.replicates,
    )
    mean, square = sums.T / net.size
    variance = np.maximum(square - mean**2, 0.0) * net.size / max(net.size - 1, 1)
    ratios = np.divide(mean, np.sqrt(variance), out=np.full(mean.shape, np.nan), where=variance > 0)
    return interval(sharpe(net) * yearly, ratios * yearly)
