"""Four questions asked of a backtest a thousand times: was it luck in the days, the order, the costs or the timing?

And a fifth, asked of the search that found it: how often is the best in sample below the middle out of sample (PBO)?
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from huracan.errors import BadInput
from huracan_training.bootstrap import REPLICATES, mean_block, resampled_rows
from huracan_training.returns import Costs, bars_per_year, max_drawdowns, net_returns, sharpe
from huracan_training.samples import Floats

STRESSES = (1.0, 1.5, 2.0, 2.5, 3.0)
LATENCIES = (0, 1, 2)
_SPLITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Sharpe ratios (per year) and drawdowns of replicates of net returns."""

    replicates: int
    block: float
    """Mean bars of a block."""
    sharpe_5th: float
    """5th percentile."""
    sharpe_median: float
    sharpe_95th: float
    p_negative: float
    """Share of replicates with a Sharpe ratio below 0."""
    drawdown_95th: float
    """95th percentile of the largest drawdown, as a fraction of the notional."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """Drawdowns of the same trades in random order."""

    replicates: int
    trades: int
    drawdown: float
    """Of the trades in their own order."""
    drawdown_95th: float
    share_deeper: float
    """Share of random orders with a deeper drawdown than their own: near 1, the order flattered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """The Sharpe ratio per year with costs times a factor and positions taken late."""

    costs: float
    latency_bars: int
    sharpe: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Sharpe ratios per year of the same positions at random times."""

    replicates: int
    sharpe: float
    null_median: float
    null_95th: float
    p: float
    """Share of random times that earned as much or more, the positions' own counted in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonteCarlo:
    """The four tests, and whether they were passed."""

    resampled: Resampled
    shuffled: Shuffled
    stresses: tuple[Stress, ...]
    turned: Turned
    pbo: float
    """Probability of backtest overfitting, NaN where fewer than two strategies were tried."""

    @property
    def passed(self) -> bool:
        """Return whether the 5th percentile of the Sharpe ratio is above 0 and PBO is known and below 0.2."""
        return self.resampled.sharpe_5th > 0 and self.pbo < 0.2


def resampled(
    net: Floats, interval_ns: int, horizon: int, generator: np.random.Generator, *, replicates: int = REPLICATES
) -> Resampled:
    """Return what net returns (m,) would have been in other orders of their days: stationary block bootstrap."""
    block = mean_block(net.size, horizon)
    ratios, falls = [], []
    for rows in resampled_rows(net.size, block, generator, replicates=replicates):
        paths = net[rows]
        ratios.append(_sharpes(paths.mean(axis=1), np.square(paths).mean(axis=1), net.size))
        falls.append(max_drawdowns(paths))
    yearly = np.concatenate(ratios) * bars_per_year(interval_ns) ** 0.5
    low, middle, high = np.nanquantile(yearly, [0.05, 0.5, 0.95]) if np.isfinite(yearly).any() else [np.nan] * 3
    return Resampled(
        replicates=yearly.size,
        block=block,
        sharpe_5th=float(low),
        sharpe_median=float(middle),
        sharpe_95th=float(high),
        p_negative=float((yearly < 0).mean()),
        drawdown_95th=float(np.quantile(np.concatenate(falls), 0.95)),
    )


def trades(held: Floats, net: Floats) -> Floats:
    """Return the net return of each trade, in the order in which they were opened, shape (trades,).

    `held` is the position over each bar and `net` what it earned, (m, assets) both. A trade is a run of bars on one
    side in one asset; bars without a position that pay for closing one belong to it.
    """
    side = np.sign(held)
    opens = (side != np.concatenate([np.zeros_like(side[:1]), side[:-1]])) & (side != 0)
    opened, sums = [], []
    for column in range(held.shape[1]):
        of = np.cumsum(opens[:, column])
        opened.append(np.flatnonzero(opens[:, column]))
        sums.append(np.bincount(of, net[:, column], opened[-1].size + 1)[1:].astype(np.float64))
    each: Floats = np.concatenate(sums)[np.argsort(np.concatenate(opened), kind="stable")]
    return each


def shuffled(each: Floats, generator: np.random.Generator, *, replicates: int = REPLICATES) -> Shuffled:
    """Return drawdowns of trades (n,), given in their own order, in random orders."""
    own = float(max_drawdowns(each[None])[0])
    falls = np.array([max_drawdowns(generator.permutation(each)[None])[0] for _ in range(replicates)])
    return Shuffled(
        replicates=replicates,
        trades=each.size,
        drawdown=own,
        drawdown_95th=float(np.quantile(falls, 0.95)),
        share_deeper=float((falls > own).mean()),
    )


def stressed(positions: Floats, returns: Floats, costs: Costs, interval_ns: int) -> tuple[Stress, ...]:
    """Return the Sharpe ratio at costs × 1 to × 3 and 0 to 2 bars late; inputs as `net_returns` takes them.

    Positions (m, assets) are stressed together: the mean over assets is what is judged.
    """
    yearly = bars_per_year(interval_ns) ** 0.5
    told = []
    for late in LATENCIES:
        for factor in STRESSES:
            net = portfolio(positions, returns, costs.scaled(factor), interval_ns, latency_bars=late)
            told.append(Stress(costs=factor, latency_bars=late, sharpe=sharpe(net) * yearly))
    return tuple(told)


def portfolio(positions: Floats, returns: Floats, costs: Costs, interval_ns: int, *, latency_bars: int = 0) -> Floats:
    """Return net returns of an equal share in each asset, shape (m,); positions and returns have shape (m, assets)."""
    each = net_returns(positions, returns, costs, interval_ns, latency_bars=latency_bars)
    mean: Floats = each.mean(axis=1)
    return mean


def turned(
    positions: Floats,
    returns: Floats,
    costs: Costs,
    interval_ns: int,
    horizon: int,
    generator: np.random.Generator,
    *,
    replicates: int = REPLICATES,
) -> Turned:
    """Return what the same positions earn turned round the clock of the sample, at least a horizon away.

    Their size, turnover and what assets have in common stay; only the timing is by chance. Positions and returns have
    shape (m, assets). Raise BadInput where fewer than two bars are further away than the horizon.
    """
    bars = positions.shape[0]
    if bars < 2 * horizon + 2:
        raise BadInput(f"{bars} bars cannot be turned by more than a horizon of {horizon}; judge a longer sample")
    yearly = bars_per_year(interval_ns) ** 0.5
    own = sharpe(portfolio(positions, returns, costs, interval_ns)) * yearly
    turns = generator.integers(horizon + 1, bars - horizon, size=replicates)
    ratios = [sharpe(portfolio(np.roll(positions, turn, axis=0), returns, costs, interval_ns)) for turn in turns]
    null = np.array(ratios) * yearly
    return Turned(
        replicates=replicates,
        sharpe=own,
        null_median=float(np.nanmedian(null)),
        null_95th=float(np.nanquantile(null, 0.95)),
        p=float((1 + (null >= own).sum()) / (1 + replicates)),
    )


def probability_of_overfitting(returns: Floats, *, splits: int = _SPLITS) -> float:
    """Return how often the best strategy of one half of the time is below the middle in the other half, in [0, 1].

    `returns` (m, strategies) of everything that was tried. Combinatorially symmetric cross-validation over all halves
    of `splits` blocks: share of logits <= 0. Bailey, Borwein, López de Prado and Zhu 2017. NaN for fewer than two
    strategies; raise BadInput where a block would have fewer than two bars.
    """
    bars, tried = returns.shape
    if tried < 2:
        return float("nan")
    if bars < 2 * splits:
        raise BadInput(f"{bars} bars are too few for {splits} blocks of at least two; judge a longer sample")
    edges = np.linspace(0, bars, splits + 1).astype(np.int64)
    sums = np.add.reduceat(returns, edges[:-1], axis=0)
    squares = np.add.reduceat(np.square(returns), edges[:-1], axis=0)
    sizes = np.diff(edges).astype(np.float64)
    chosen = np.zeros((comb(splits, splits // 2), splits))
    for row, blocks in enumerate(combinations(range(splits), splits // 2)):
        chosen[row, list(blocks)] = 1.0
    inside, outside = (_ratios(half, sums, squares, sizes) for half in (chosen, 1.0 - chosen))
    best = inside.argmax(axis=1)
    mine = np.take_along_axis(outside, best[:, None], axis=1)
    rank = (outside < mine).sum(axis=1) + 0.5 * ((outside == mine).sum(axis=1) + 1)
    return float((rank / (tried + 1) <= 0.5).mean())


def _ratios(half: Floats, sums: Floats, squares: Floats, sizes: Floats) -> Floats:
    """Return Sharpe ratios of each half of the blocks, shape (halves, strategies); what does not vary has none."""
    bars = (half @ sizes)[:, None]
    mean = half @ sums / bars
    return np.nan_to_num(_sharpes(mean, half @ squares / bars, bars), nan=-np.inf)


def _sharpes(mean: Floats, square: Floats, bars: float | Floats) -> Floats:
    variance = np.maximum(square - mean**2, 0.0) * bars / np.maximum(np.asarray(bars) - 1, 1)
    ratios: Floats = np.divide(mean, np.sqrt(variance), out=np.full(mean.shape, np.nan), where=variance > 1e-30)
    return ratios
