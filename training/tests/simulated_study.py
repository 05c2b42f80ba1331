"""A study of a simulated market: some models know more of its regimes than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from huracan_training.chance import generator
from huracan_training.evaluation import Fold, Forecast, Source, Study
from huracan_training.samples import WINDOW, Floats, Integers, Series
from huracan_training.transitions import Watch, alarm_scores, threshold_for_recall

BAR_NS = 900_000_000_000
START_NS = 1_700_000_100_000_000_000 // BAR_NS * BAR_NS
CLASSES = ("High_Volatility", "Low_Volatility", "Trending", "Ranging")
HORIZON = 4
SKILLS = {"patch_net": 1.0, "random_forest": 0.8, "hmm": 0.5, "logistic": 0.4, "persistence": 0.0, "majority": 0.0}
"""How much more likely each model holds the class that then is."""


@dataclass(frozen=True, slots=True)
class Market:
    """What a study is evaluated on."""

    study: Study
    forecasts: Sequence[Forecast]
    series: Mapping[str, Series]


def simulated_market(assets: Sequence[str], *, folds: int, bars: int, seeds: int, replicates: int) -> Market:
    """Return forecasts of every model on each asset; fold k tests on the k-th stretch of `bars` bars."""
    series, labels = {}, {}
    for asset in assets:
        series[asset], labels[asset] = _asset(asset, (folds + 1) * bars)
    forecasts = []
    for asset in assets:
        for fold in range(1, folds + 1):
            for model in SKILLS:
                for seed in range(1, seeds + 1 if model == "patch_net" else 2):
                    at = np.arange(fold * bars + HORIZON, (fold + 1) * bars)
                    forecasts.append(_forecast(model, series[asset], labels[asset], at, fold, seed))
    spans = [series[assets[0]].close_ns[[0, fold * bars - 1, fold * bars + HORIZON, (fold + 1) * bars - 1]]
             for fold in range(1, folds + 1)]  # fmt: skip
    study = Study(
        model="patch_net",
        classes=CLASSES,
        interval_ns=BAR_NS,
        horizon_bars=HORIZON,
        window_bars=4,
        median_regime_bars=18.0,
        folds=tuple(
            Fold(number=number, train_from_ns=int(a), train_to_ns=int(b), test_from_ns=int(c), test_to_ns=int(d))
            for number, (a, b, c, d) in enumerate(spans, start=1)
        ),
        sources=tuple(
            Source(
                asset=asset,
                digest=f"{number:064x}",
                bars=each.close_ns.size,
                missing_bars=0,
                from_ns=int(each.close_ns[0]),
                to_ns=int(each.close_ns[-1]),
                train_shares=tuple(np.bincount(labels[asset][:bars], minlength=4) / bars),
            )
            for number, (asset, each) in enumerate(series.items(), start=1)
        ),
        data_digest="5f" * 32,
        trials=60,
        machine="2 cores, simulated forecasts",
        wall_s=754.0,
        notes=("Forecasts are SIMULATED: this page shows what a report looks like, and nothing about any market.",),
        replicates=replicates,
    )
    return Market(study, forecasts, series)


def _asset(asset: str, bars: int) -> tuple[Series, Integers]:
    chance = generator(1, f"asset {asset}")
    lengths = chance.integers(6, 40, size=bars)
    labels = np.repeat(chance.choice(4, p=[0.2, 0.2, 0.25, 0.35], size=bars), lengths)[:bars].astype(np.int64)
    drift = np.where(labels == 2, np.repeat(chance.choice([-1.0, 1.0], size=bars), lengths)[:bars], 0.0)
    returns = 0.0015 * (np.array([2.0, 0.5, 1.0, 1.0])[labels] * chance.normal(size=bars) + 0.35 * drift)
    series = Series(
        asset=asset,
        interval_ns=BAR_NS,
        close_ns=START_NS + BAR_NS * np.arange(bars),
        log_return=returns,
        rows=np.zeros((bars, 1), dtype=np.float32),
    )
    assert bars > WINDOW
    return series, labels


def _forecast(model: str, series: Series, labels: Integers, at: Integers, fold: int, seed: int) -> Forecast:
    chance = generator(seed, f"{model} {series.asset} {fold}")
    known = labels[at - HORIZON]
    probabilities = _said(model, labels, at, known, chance)
    alarm = alarm_scores(probabilities, known)
    watch = Watch(group="valid", bar=at, labels=labels[at], score=alarm)
    return Forecast(
        model=model,
        asset=series.asset,
        fold=fold,
        seed=seed,
        at_ns=series.close_ns[at],
        labels=labels[at],
        known=known,
        probabilities=probabilities,
        alarm=alarm,
        alarm_threshold=threshold_for_recall([watch], 4, goal=0.75) if SKILLS[model] else 1.0,
    )


def _said(model: str, labels: Integers, at: Integers, known: Integers, chance: np.random.Generator) -> Floats:
    counts = 1.0 + np.bincount(labels[: at[0] - HORIZON], minlength=4)
    shares: Floats = counts / counts.sum()
    if model == "majority":
        return np.repeat(shares[None], at.size, axis=0)
    if model == "persistence":
        held: Floats = 0.75 * np.eye(4)[known] + 0.25 * shares
        return held
    noise = chance.normal(size=(at.size, 4)) * 0.3
    for row in range(1, at.size):
        noise[row] += 0.9 * noise[row - 1]
    logits = np.log(shares) + noise + 1.2 * np.eye(4)[known]
    logits += SKILLS[model] * np.eye(4)[labels[at]]
    weights = np.exp(logits)
    shares_said: Floats = weights / weights.sum(axis=1, keepdims=True)
    return shares_said
