"""Hidden Markov and Kalman models: they find the states of a market, and filter as the books say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.tsa.statespace.structural import UnobservedComponents

from huracan.errors import Fatal
from huracan_training.models.baselines import Majority
from huracan_training.models.hmm import FilteredHmm, HmmSettings, observed_columns, observed_returns
from huracan_training.models.kalman import KalmanHmm, TrendModel, fit_trend, follow_trend, log_likelihood
from huracan_training.models.tuning import losses_of
from huracan_training.samples import Floats

from .switching import QUESTION, switching_parts

QUICK = HmmSettings(states=(4,), restarts=2, iterations=20)


@pytest.mark.parametrize(
    "model",
    [
        FilteredHmm(QUESTION, settings=QUICK),
        FilteredHmm(QUESTION, settings=QUICK, observe=observed_columns([0, 2])),
        KalmanHmm(QUESTION, settings=QUICK, fit_bars=300),
    ],
    ids=["returns", "columns", "trend"],
)
def test_filtered_states_tell_the_classes_better_than_their_shares(model: FilteredHmm) -> None:
    parts = switching_parts(bars=1000)
    majority = Majority(QUESTION)
    for fitted in (majority, model):
        fitted.fit(parts.train, parts.valid, seed=1)
    assert losses_of(model, parts.judged).mean() < losses_of(majority, parts.judged).mean() - 0.05


def test_returns_are_observed_as_volatility_of_a_short_and_a_long_while() -> None:
    series = switching_parts(bars=100, assets=("AAA",)).train[0].series
    returns = np.tile([0.01, -0.01], 50)
    seen = observed_returns(replace(series, log_return=returns))
    assert np.isnan(seen[:3, 0]).all()
    assert np.isnan(seen[:31, 1]).all()
    np.testing.assert_allclose(seen[31:], [[np.log(0.02), 0.5 * np.log(32e-4)]] * 69, atol=1e-6)
    assert np.isnan(observed_returns(replace(series, log_return=returns[:2]))).all()


def test_a_market_without_returns_has_no_states() -> None:
    parts = switching_parts(bars=400, assets=("AAA",))
    blank = [
        replace(part, series=replace(part.series, log_return=np.full_like(part.series.log_return, np.nan)))
        for part in parts.train
    ]
    with pytest.raises(Fatal, match="hmm could not be fitted on 0 bars"):
        FilteredHmm(QUESTION, settings=QUICK).fit(blank, parts.valid, seed=1)


def simulated_trend(model: TrendModel, bars: int, seed: int) -> Floats:
    """Return a path of a local linear trend."""
    rng = np.random.default_rng(seed)
    level, slope, noise = rng.standard_normal((3, bars))
    slopes = np.cumsum(np.sqrt(model.slope) * slope)
    path: Floats = np.cumsum(slopes + np.sqrt(model.level) * level) + np.sqrt(model.noise) * noise
    return path


MODEL = TrendModel(level=0.5, slope=0.01, noise=0.3)


def test_the_filter_agrees_with_statsmodels() -> None:
    path = simulated_trend(MODEL, 400, seed=1)
    path[300] = np.nan
    trend = follow_trend(path, MODEL)
    oracle = UnobservedComponents(path, "lltrend").smooth([MODEL.noise, MODEL.level, MODEL.slope])
    surprise = np.asarray(oracle.filter_results.standardized_forecasts_error)[0]
    settled = np.setdiff1d(np.arange(200, 400), [300])  # the first guesses differ, and what is said of a missing price
    np.testing.assert_allclose(trend.innovation[settled], surprise[settled], rtol=1e-6, atol=1e-7)
    filtered = np.asarray(oracle.filter_results.filtered_state)[1]
    spread = np.sqrt(np.asarray(oracle.filter_results.filtered_state_cov)[1, 1])
    np.testing.assert_allclose(trend.slope_t[200:], (filtered / spread)[200:], rtol=1e-6, atol=1e-7)


def test_surprises_are_as_large_as_the_filter_expects() -> None:
    trend = follow_trend(simulated_trend(MODEL, 4000, seed=2), MODEL)
    nis = trend.innovation[64:] ** 2
    assert nis.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / len(nis)))


def test_likelihood_finds_the_variances() -> None:
    paths = [simulated_trend(MODEL, 800, seed=seed) for seed in (3, 4)]
    found = fit_trend(paths)
    likelihoods = [sum(log_likelihood(follow_trend(path, model)) for path in paths) for model in (found, MODEL)]
    assert likelihoods[0] >= likelihoods[1] - 1
    assert 0.1 < found.level < 1.5
    assert found.noise < 1
