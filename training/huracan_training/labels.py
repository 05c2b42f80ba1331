"""What models learn to tell: classes of what comes next, with thresholds that only training data set.

At a bar that closes at t, with horizon h, a label is of the returns over (t, t + h] alone; Markov states are of the
past alone, and have no horizon. Labels where the future is not known, or has a gap, are UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from huracan.config import Config
from huracan.errors import BadInput
from huracan.features.outlook import POOLED
from huracan.features.regimes import REGIMES, regimes
from huracan_training import markov
from huracan_training.bars import Asset, Mask
from huracan_training.samples import UNKNOWN, Floats, Integers

Measures = Mapping[str, Floats]
"""What labels are told from, by name, each of shape (n,), NaN where not known."""

LEAST_ROWS = 100
"""Rows with a known outcome below which the 5 % tail is a handful of bars."""
HORIZON_BARS = 16
"""Horizon of labels on bars of 15 minutes: four hours. Below 8 the efficiency ratio is mostly chance."""
HORIZONS_STEPS = MappingProxyType({"1s": 10, "5s": 50, "10s": 100})
"""Horizons of targets on steps of 100 ms."""
FLAT = 0.25e-4
"""The smallest dead band of a direction, ln: 0.25 bps, which is what the flow expert calls flat."""
_NOTHING = 1e-8
"""A smaller net move is none: what rounding leaves of returns there and back, where a third of the moves are 0."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A threshold: a quantile of a measure over the training rows."""

    measure: str
    quantile: float
    least: float = 0.0
    """The threshold where the quantile is below it, in the measure's unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A set of classes and how they are told."""

    name: str
    classes: tuple[str, ...]
    """In the order of their numbers."""
    cuts: tuple[Cut, ...]
    measure: Callable[[Asset, int], Measures]
    """Takes an asset and the horizon."""
    decide: Callable[[Measures, tuple[float, ...]], Integers]
    """Takes the measures and a threshold for each cut; what it says where a measure is NaN does not count."""
    forward: bool = True
    """Whether it is of the future, so that it needs a horizon."""


class Thresholds(Config):
    """What the training rows set: the cuts of a target, for each asset and for all together."""

    target: str
    horizon: int
    """Bars or steps; 0 for what is told from the past."""
    values: dict[str, tuple[float, ...]]
    """By asset, one for each cut of the target; POOLED is of all assets."""

    def of(self, asset: str) -> tuple[float, ...]:
        """Return the cuts of an asset: of all together where it was not trained on."""
        return self.values.get(asset, self.values[POOLED])


def forward_returns(asset: Asset, horizon: int) -> Floats:
    """Return the log return over (t, t + h] at each position, shape (n,); NaN at the end and across gaps."""
    return _net(_forward(asset, horizon))


def forward_measures(asset: Asset, horizon: int) -> Measures:
    """Return what comes next, by name: of the returns r over (t, t + h].

    volatility: sqrt(sum r^2), ln per h bars. efficiency: |sum r| / sum |r| (Kaufman 1995), 0 where nothing moves.
    move: sum r. size: |sum r|.
    """
    ahead = _forward(asset, horizon)
    move, path = _net(ahead), np.abs(ahead).sum(axis=1)
    efficiency = np.divide(np.abs(move), path, out=np.zeros_like(path), where=path != 0)
    return {
        "volatility": np.sqrt((ahead**2).sum(axis=1)),
        "efficiency": np.where(np.isnan(path), np.nan, efficiency),
        "move": move,
        "size": np.abs(move),
    }


def fit_thresholds(target: Target, horizon: int, train: Sequence[tuple[Asset, Mask]]) -> Thresholds:
    """Return the thresholds of a target: quantiles over the rows of each asset that its mask, shape (n,), lets through.

    The mask must leave out rows whose horizon reaches beyond the training time; their outcomes would set thresholds. An
    asset with fewer than 100 rows gets none of its own, as one that is not there. Raises BadInput when no asset has as
    many, and for a horizon that the target does not have.
    """
    if (horizon > 0) != target.forward:
        needs = "a horizon of at least 1" if target.forward else "horizon 0: it is told from the past"
        raise BadInput(f"horizon was {horizon}; target {target.name} needs {needs}")
    measured = {}
    for asset, mask in train:
        measures = target.measure(asset, horizon)
        rows = mask & _whole(measures)
        if rows.sum() >= LEAST_ROWS:
            measured[asset.name] = {name: values[rows] for name, values in measures.items()}
    if not measured:
        names = ", ".join(asset.name for asset, _ in train)
        raise BadInput(
            f"target {target.name} over {horizon}: {names or 'no asset'} had fewer than {LEAST_ROWS} training rows "
            "whose outcome is known; give more history"
        )
    pooled = {cut.measure: np.concatenate([each[cut.measure] for each in measured.values()]) for cut in target.cuts}
    return Thresholds(
        target=target.name,
        horizon=horizon,
        values={name: _quantiles(target, measures) for name, measures in {**measured, POOLED: pooled}.items()},
    )


def labels(asset: Asset, thresholds: Thresholds) -> Integers:
    """Return the class at each position of an asset, shape (n,), UNKNOWN where the outcome is not known."""
    target = TARGETS[thresholds.target]
    measures = target.measure(asset, thresholds.horizon)
    told = target.decide(measures, thresholds.of(asset.name))
    return np.where(_whole(measures), told, UNKNOWN).astype(np.int64)


def known(labels: Integers, horizon: int) -> Integers:
    """Return the newest label whose horizon had ended by each position, shape (n,); UNKNOWN before the first.

    The label at i is of (i, i + h], so that at j it is known of i = j - h: the persistence forecast.
    """
    ended = np.full(len(labels), UNKNOWN, dtype=np.int64)
    ended[horizon:] = labels[: max(0, len(labels) - horizon)]
    newest = np.maximum.accumulate(np.where(ended != UNKNOWN, np.arange(len(labels)), -1))
    return np.where(newest >= 0, ended[newest], UNKNOWN)


def shares(labels: Integers, target: Target) -> dict[str, float]:
    """Return the share of each class among the labels that are known."""
    counts = np.bincount(labels[labels != UNKNOWN], minlength=len(target.classes))
    return {name: float(count) / max(1, counts.sum()) for name, count in zip(target.classes, counts, strict=True)}


def _forward(asset: Asset, horizon: int) -> Floats:
    """Return the returns over (t, t + h], shape (n, h); NaN where they are not known."""
    returns = asset.series.log_return
    if horizon > len(returns):
        raise BadInput(f"horizon was {horizon} steps, and {asset.series.asset} has {len(returns)}: give a shorter one")
    padded = np.concatenate([returns[1:], np.full(horizon, np.nan)])
    return sliding_window_view(padded, horizon)


def _net(ahead: Floats) -> Floats:
    move = ahead.sum(axis=1)
    return np.where(np.abs(move) < _NOTHING, 0.0, move)


def _whole(measures: Measures) -> Mask:
    return np.asarray(np.isfinite(np.stack(list(measures.values()))).all(axis=0))


def _quantiles(target: Target, measures: Measures) -> tuple[float, ...]:
    return tuple(max(float(np.quantile(measures[cut.measure], cut.quantile)), cut.least) for cut in target.cuts)


def _regime(measures: Measures, cuts: tuple[float, ...]) -> Integers:
    calm, wild, straight = cuts
    return regimes(measures["volatility"], measures["efficiency"], (calm, wild, straight))


def _market(measures: Measures, cuts: tuple[float, ...]) -> Integers:
    wild, straight = cuts
    return np.select([measures["volatility"] > wild, measures["efficiency"] > straight], [2, 0], 1)


def _volatility(measures: Measures, cuts: tuple[float, ...]) -> Integers:
    low, high, extreme = cuts
    volatility = measures["volatility"]
    return np.select([volatility > extreme, volatility > high, volatility < low], [3, 2, 0], 1)


def _direction(measures: Measures, cuts: tuple[float, ...]) -> Integers:
    (band,) = cuts
    return np.select([measures["move"] < -band, measures["move"] > band], [0, 2], 1)


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="regime",
            classes=REGIMES,
            cuts=(Cut("volatility", 0.2), Cut("volatility", 0.8), Cut("efficiency", 0.7)),
            measure=forward_measures,
            decide=_regime,
        ),
        Target(
            name="volatility",
            classes=("low", "normal", "high", "extreme"),
            cuts=(Cut("volatility", 0.25), Cut("volatility", 0.75), Cut("volatility", 0.95)),
            measure=forward_measures,
            decide=_volatility,
        ),
        Target(
            name="market",
            classes=("trending", "ranging", "volatile"),
            cuts=(Cut("volatility", 0.8), Cut("efficiency", 0.7)),
            measure=forward_measures,
            decide=_market,
        ),
        Target(
            name="direction",
            classes=("down", "flat", "up"),
            cuts=(Cut("size", 1 / 3, least=FLAT),),
            measure=forward_measures,
            decide=_direction,
        ),
        Target(
            name="markov",
            classes=markov.STATES,
            cuts=(Cut(markov.RANGE, 0.3), Cut(markov.EFFICIENCY, 0.7)),
            measure=lambda asset, _horizon: markov.measures(asset),
            decide=markov.states,
            forward=False,
        ),
    )
}
"""All targets by name. A third of the training moves are flat, the dead band of direction; all up to 0.25 bps are."""
