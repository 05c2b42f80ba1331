"""Comparing models: an interval above zero where one is better, none where neither is, and a reasoned verdict."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from huracan.errors import BadInput
from huracan_training.bootstrap import Interval
from huracan_training.chance import generator
from huracan_training.comparisons import Comparison, assets_beaten, compared, diebold_mariano, judged
from huracan_training.samples import Floats


def _losses(seed: int, rows: int = 2_000) -> tuple[Floats, Floats]:
    chance = generator(seed, "losses")
    return chance.exponential(size=rows), chance.exponential(size=rows)


def _comparison(baseline: str, low: float, asset: str = "") -> Comparison:
    return Comparison(
        baseline=baseline, asset=asset, rows=9, times=9, block=3, gain=Interval(low + 0.1, low, low + 0.2), skill=0.1,
        dm=2.0, p=0.05,
    )  # fmt: skip


def test_a_better_model_has_an_interval_above_zero_and_a_copy_has_not() -> None:
    losses, other = _losses(1)
    at_ns = np.arange(losses.size)
    better = compared(losses, losses + 0.1 + 0.1 * other, at_ns, 4, generator(1, "c"), baseline="b", replicates=500)
    assert better.gain.above_zero
    assert better.gain.low < better.gain.value < better.gain.high
    assert better.p < 0.001
    assert 0 < better.skill < 1
    same = compared(losses, other, at_ns, 4, generator(1, "c"), baseline="b", replicates=500)
    assert not same.gain.above_zero
    copy = compared(losses, losses, at_ns, 4, generator(1, "c"), baseline="b", replicates=500)
    assert (copy.gain.value, copy.gain.above_zero) == (0.0, False)
    assert np.isnan([copy.dm, copy.p]).all()


def test_the_same_rows_of_five_assets_are_no_more_evidence_than_of_one() -> None:
    losses, other = _losses(2)
    one = compared(losses, other, np.arange(losses.size), 4, generator(1, "c"), baseline="b")
    many = compared(
        np.tile(losses, 5), np.tile(other, 5), np.tile(np.arange(losses.size), 5), 4, generator(1, "c"), baseline="b"
    )
    assert (many.gain.low, many.gain.high) == pytest.approx((one.gain.low, one.gain.high))
    assert (many.rows, many.times) == (5 * one.rows, one.times)
    assert many.dm == pytest.approx(one.dm)


def test_overlapping_labels_widen_the_interval() -> None:
    gains = np.convolve(generator(3, "gains").normal(size=2_023), np.ones(24) / 24, mode="valid")
    short, long = (
        compared(np.zeros(2_000), gains, np.arange(2_000), horizon, generator(1, "c"), baseline="b").gain
        for horizon in (1, 12)
    )
    assert long.high - long.low > 1.2 * (short.high - short.low)


def test_diebold_mariano_is_the_t_of_a_mean_with_newey_west_errors() -> None:
    gains = 0.1 + np.convolve(generator(4, "gains").normal(size=303), np.ones(4), mode="valid")
    fitted = sm.OLS(gains, np.ones(300)).fit(cov_type="HAC", cov_kwds={"maxlags": 11})
    statistic, p = diebold_mariano(gains, 3)
    assert statistic == pytest.approx(float(fitted.tvalues[0]))
    assert p == pytest.approx(float(fitted.pvalues[0]))


def test_a_model_is_promoted_only_when_it_beats_both_with_an_interval_above_zero() -> None:
    forest, persistence = _comparison("random_forest", 0.01), _comparison("persistence", 0.02)
    assert judged([forest, persistence]).promoted
    weak = judged([forest, _comparison("persistence", -0.01)])
    assert not weak.promoted
    assert weak.reasons[0].startswith("Does not beat persistence by +0.0900 nats, 95 % interval [-0.0100, +0.1900]")
    missing = judged([forest])
    assert (missing.promoted, missing.reasons[0]) == (False, "Was not compared with persistence")
    assert not judged([forest, _comparison("persistence", 0.02, asset="btc-usdt-perp")]).promoted
    assert not judged([forest, _comparison("persistence", float("nan"))]).promoted


def test_an_asset_counts_as_beaten_only_against_every_baseline() -> None:
    comparisons = [
        _comparison("hmm", 0.1, "btc"),
        _comparison("random_forest", 0.1, "btc"),
        _comparison("hmm", 0.1, "eth"),
        _comparison("random_forest", -0.1, "eth"),
    ]
    assert assets_beaten(comparisons, ["hmm", "random_forest"]) == ("btc",)
    assert assets_beaten(comparisons, ["hmm"]) == ("btc", "eth")
    assert assets_beaten(comparisons, []) == ()


def test_models_scored_on_other_rows_are_not_compared() -> None:
    with pytest.raises(BadInput, match="same rows"):
        compared(np.zeros(3), np.zeros(2), np.arange(3), 1, generator(1, "c"), baseline="hmm")
