"""What forecasts would have earned: positions by a simple rule, returns net of costs, and how sure of them one can be.

Sharpe ratios are per bar where a formula needs them so (`probabilistic_sharpe`, `deflated_sharpe`), and per year of 365
days where people read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from huracan.clock import NANOSECONDS
from huracan.errors import BadInput
from huracan_training.samples import Floats

YEAR_NS = 365 * 86_400 * NANOSECONDS
SMALLEST_TILT = 0.10
"""Below this difference of p(up) and p(down) there is no position: the gate's own threshold."""
_BPS = 1e-4
_NORMAL = NormalDist()
_DAY_NS = 86_400 * NANOSECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What trading costs, in basis points of notional."""

    fee_bps: float = 5.0
    """Taker fee of each trade."""
    slippage_bps: float = 1.0
    """Half the spread and impact of each trade."""
    funding_bps_per_day: float = 3.0
    """Paid on what is held, long or short: as if funding always went against the position."""

    def scaled(self, by: float) -> Costs:
        """Return all costs times a factor."""
        return Costs(
            fee_bps=self.fee_bps * by,
            slippage_bps=self.slippage_bps * by,
            funding_bps_per_day=self.funding_bps_per_day * by,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnScores:
    """What a row of net returns says; NaN where it says nothing."""

    bars: int
    total: float
    """Sum of net returns, as a fraction of the notional."""
    sharpe: float
    """Per year of 365 days."""
    sortino: float
    """Per year of 365 days."""
    hit_ratio: float
    """Share of bars above zero among those not zero."""
    profit_factor: float
    """Gains over losses; infinite without a loss."""
    max_drawdown: float
    """Largest fall of the summed returns from their peak, as a fraction of the notional, at least 0."""
    turnover_per_day: float
    """Notionals traded in a day."""
    skewness: float
    kurtosis: float
    """Raw: 3 is normal."""
    psr: float
    """Probability that the Sharpe ratio is above 0."""
    dsr: float
    """The same above the best that so many trials without skill would show."""
    expected_maximum_sharpe: float
    """That best one, per year."""
    minimum_track_bars: float
    """Bars needed to be 95 % sure that the Sharpe ratio is above 0; infinite where it is not."""


# Positions and their returns.


def direction_positions(down: Floats, up: Floats) -> Floats:
    """Return p(up) - p(down) where its size is at least 0.10, else 0: in [-1, 1], shape (m,); the gate's rule."""
    tilt = up - down
    return np.where(np.abs(tilt) >= SMALLEST_TILT, tilt, 0.0)


def regime_positions(trending: Floats, ranging: Floats, high_volatility: Floats, past_return: Floats) -> Floats:
    """Return a position from regime probabilities, in [-1, 1], shape (m,).

    sign(past return) (p_trending - p_ranging) (1 - p_high_volatility): with the move where a trend is expected, against
    it where a range is, and less the rougher it may get; 0 below 0.10. A regime says nothing of direction: this rule
    turns one into money in the plainest way, and is no strategy. Inputs have shape (m,); NaN past returns give 0.
    """
    way = np.sign(np.nan_to_num(past_return))
    target = way * (trending - ranging) * (1.0 - high_volatility)
    return np.where(np.abs(target) >= SMALLEST_TILT, target, 0.0)


def net_returns(positions: Floats, returns: Floats, costs: Costs, interval_ns: int, *, latency_bars: int = 0) -> Floats:
    """Return what each bar earned after costs, as a fraction of the notional, in the shape of `positions`.

    `positions[i]` is decided at the close of bar i and held over `returns[i]`, the simple return of the NEXT bar; with
    latency it is held that many bars later. Each change of position pays fee and slippage, the last bar the way out
    too; what is held pays funding. A NaN return is a missing bar: nothing is earned. Bars run along the first
    axis: (m,) is one asset, (m, assets) are several.
    """
    if positions.shape != returns.shape:
        raise BadInput(f"positions {positions.shape} and returns {returns.shape} do not match; give one for each bar")
    held = delayed(positions, latency_bars)
    trade = (costs.fee_bps + costs.slippage_bps) * _BPS
    holding = costs.funding_bps_per_day * _BPS * interval_ns / _DAY_NS
    net: Floats = held * np.nan_to_num(returns) - trade * turnover(held) - holding * np.abs(held)
    return net


def delayed(positions: Floats, bars: int) -> Floats:
    """Return positions taken some bars later, 0 before the first, in the same shape."""
    if not bars:
        return positions
    later = np.zeros_like(positions)
    later[bars:] = positions[:-bars]
    return later


def turnover(held: Floats) -> Floats:
    """Return notional traded at each bar, from 0 before the first and back to 0 after the last, in the same shape."""
    traded = np.abs(np.diff(held, axis=0, prepend=np.zeros_like(held[:1])))
    traded[-1:] += np.abs(held[-1:])
    return traded


# What returns say.


def returns_scored(
    net: Floats, interval_ns: int, *, trials: int, trial_variance: float, traded: Floats | None = None
) -> ReturnScores:
    """Return the scores of net returns (m,), of bars that follow each other.

    `trials` is how many strategies were tried in all, `trial_variance` the variance of their Sharpe ratios per bar;
    `traded` (m,) is what each bar traded.
    """
    per_bar = sharpe(net)
    skewness, kurtosis = moments(net)
    best = expected_maximum_sharpe(trial_variance, trials)
    yearly = bars_per_year(interval_ns) ** 0.5
    days = net.size * interval_ns / _DAY_NS
    moved = net[net != 0]
    return ReturnScores(
        bars=net.size,
        total=float(net.sum()),
        sharpe=per_bar * yearly,
        sortino=sortino(net) * yearly,
        hit_ratio=float((moved > 0).mean()) if moved.size else float("nan"),
        profit_factor=profit_factor(net),
        max_drawdown=float(max_drawdowns(net[None])[0]),
        turnover_per_day=float(traded.sum() / days) if traded is not None and days else float("nan"),
        skewness=skewness,
        kurtosis=kurtosis,
        psr=probabilistic_sharpe(per_bar, net.size, skewness, kurtosis),
        dsr=probabilistic_sharpe(per_bar, net.size, skewness, kurtosis, above=best),
        expected_maximum_sharpe=best * yearly,
        minimum_track_bars=minimum_track_record(per_bar, skewness, kurtosis),
    )


def bars_per_year(interval_ns: int) -> float:
    """Return the bars of a year of 365 days: these markets never close."""
    return YEAR_NS / interval_ns


def sharpe(net: Floats) -> float:
    """Return mean / standard deviation (n - 1) of returns (m,), per bar; NaN where they do not vary."""
    if net.size < 2:
        return float("nan")
    deviation = float(net.std(ddof=1))
    return float(net.mean()) / deviation if deviation > 0 else float("nan")


def sortino(net: Floats) -> float:
    """Return mean / sqrt(mean(min(r, 0)^2)) of returns (m,), per bar; NaN without a loss. Sortino and Price 1994."""
    downside = float(np.square(np.minimum(net, 0.0)).mean()) ** 0.5 if net.size else 0.0
    return float(net.mean()) / downside if downside > 0 else float("nan")


def profit_factor(net: Floats) -> float:
    """Return gains over losses of returns (m,), at least 0; infinite without a loss, NaN without either."""
    gains, losses = float(net[net > 0].sum()), float(-net[net < 0].sum())
    if losses > 0:
        return gains / losses
    return float("inf") if gains > 0 else float("nan")


def max_drawdowns(net: Floats) -> Floats:
    """Return the largest fall from the peak of each row of summed returns (paths, m), at least 0, shape (paths,)."""
    equity = np.cumsum(net, axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 0.0)
    falls: Floats = (peak - equity).max(axis=1, initial=0.0)
    return falls


def moments(net: Floats) -> tuple[float, float]:
    """Return skewness and raw kurtosis (3 is normal) of returns (m,); NaN where they do not vary."""
    centred = net - net.mean() if net.size else net
    variance = float(np.square(centred).mean()) if net.size else 0.0
    if variance <= 0:
        return float("nan"), float("nan")
    return float((centred**3).mean() / variance**1.5), float((centred**4).mean() / variance**2)


# How sure one can be.


def probabilistic_sharpe(per_bar: float, bars: float, skewness: float, kurtosis: float, *, above: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above `above`, both per bar; `kurtosis` is raw.

    PSR = Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)). Bailey and López de Prado 2012.
    """
    spread = _spread(per_bar, skewness, kurtosis)
    if not bars > 1 or np.isnan(spread):
        return float("nan")
    return _NORMAL.cdf((per_bar - above) * (bars - 1) ** 0.5 / spread)


def expected_maximum_sharpe(variance: float, trials: int) -> float:
    """Return the best Sharpe ratio that trials without skill would show, in the unit of sqrt(variance); 0 for one.

    sqrt(V) ((1 - gE) Phi^-1(1 - 1/N) + gE Phi^-1(1 - 1/(N e))), gE Euler's constant, V the variance of the trials'
    Sharpe ratios. Bailey and López de Prado 2014. Raise BadInput for fewer than one trial or a negative variance.
    """
    if trials < 1 or variance < 0:
        raise BadInput(
            f"trials was {trials} and their variance {variance}: count every strategy tried, at least this one"
        )
    if trials == 1:
        return 0.0
    first, second = (_NORMAL.inv_cdf(1 - 1 / each) for each in (trials, trials * np.e))
    return float(variance**0.5 * ((1 - np.euler_gamma) * first + np.euler_gamma * second))


def deflated_sharpe(
    per_bar: float, bars: float, skewness: float, kurtosis: float, *, variance: float, trials: int
) -> float:
    """Return the probability that the true Sharpe ratio is above the best of so many trials without skill, in [0, 1].

    All per bar, `kurtosis` raw. Bailey and López de Prado 2014.
    """
    best = expected_maximum_sharpe(variance, trials)
    return probabilistic_sharpe(per_bar, bars, skewness, kurtosis, above=best)


def minimum_track_record(
    per_bar: float, skewness: float, kurtosis: float, *, above: float = 0.0, sure: float = 0.95
) -> float:
    """Return the bars needed to be so sure that the Sharpe ratio is above `above`; infinite where it is not.

    MinTRL = 1 + (1 - g3 SR + (g4 - 1) / 4 SR^2) (Phi^-1(sure) / (SR - SR*))^2. Bailey and López de Prado 2012.
    """
    if not per_bar > above:
        return float("inf")
    return 1.0 + (_spread(per_bar, skewness, kurtosis) * _NORMAL.inv_cdf(sure) / (per_bar - above)) ** 2


def _spread(per_bar: float, skewness: float, kurtosis: float) -> float:
    return float(np.sqrt(1 - skewness * per_bar + (kurtosis - 1) / 4 * per_bar**2))
