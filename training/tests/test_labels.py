"""Labels are of the future alone, thresholds of the training rows alone, and states of the past alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan.features.outlook import POOLED
from huracan_training.bars import Asset, asset
from huracan_training.labels import (
    TARGETS,
    Thresholds,
    fit_thresholds,
    forward_measures,
    forward_returns,
    known,
    labels,
    shares,
)
from huracan_training.samples import UNKNOWN, Series

from .market import synthetic_bars

HORIZON = 4
NAMES = sorted(TARGETS)


def _asset(returns: list[float], name: str = "sim") -> Asset:
    count = len(returns)
    series = Series(
        asset=name,
        interval_ns=1,
        close_ns=np.arange(count, dtype=np.int64),
        log_return=np.array([np.nan, *returns[1:]]),
        rows=np.zeros((count, 1), dtype=np.float32),
    )
    return Asset(series=series)


def _everything(each: Asset) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(each.series.close_ns), dtype=np.bool_)


def test_measures_are_of_the_returns_after_the_bar() -> None:
    told = forward_measures(_asset([0.0, 0.01, -0.02, 0.03, 0.0]), 2)
    assert told["move"][:3].tolist() == pytest.approx([-0.01, 0.01, 0.03])
    assert told["volatility"][:3].tolist() == pytest.approx([np.hypot(0.01, 0.02), np.hypot(0.02, 0.03), 0.03])
    assert told["efficiency"][:3].tolist() == pytest.approx([1 / 3, 0.2, 1.0])
    assert np.isnan(told["move"][3:]).all()
    assert forward_returns(_asset([0.0, 0.01, -0.02]), 1)[:2].tolist() == [0.01, -0.02]


def test_what_rounding_leaves_of_there_and_back_is_no_move() -> None:
    told = forward_measures(_asset([0.0, *np.array([0.1, 0.2, -0.3], dtype=np.float32).astype(float) * 1e-4]), 3)
    assert told["move"][0] == 0.0
    assert forward_measures(_asset([0.0] * 5), 2)["efficiency"][0] == 0.0


@pytest.mark.parametrize(
    ("target", "cuts", "expected"),
    [
        ("regime", (1.0, 3.0, 0.7), [0, 1, 2, 3, 0]),
        ("volatility", (1.0, 2.5, 3.5), [2, 0, 1, 1, 3]),
        ("market", (3.0, 0.7), [2, 0, 0, 1, 2]),
        ("direction", (0.5,), [2, 0, 1, 1, 2]),
    ],
)
def test_the_first_rule_that_holds_names_the_class(target: str, cuts: tuple[float, ...], expected: list[int]) -> None:
    measures = {
        "volatility": np.array([3.1, 0.9, 2.0, 2.0, 4.0]),
        "efficiency": np.array([0.9, 0.9, 0.8, 0.7, 0.1]),
        "move": np.array([0.6, -0.6, 0.5, -0.5, 9.0]),
    }
    assert TARGETS[target].decide(measures, cuts).tolist() == expected


def test_the_four_regimes_are_in_the_order_of_the_public_contract() -> None:
    assert TARGETS["regime"].classes == ("High_Volatility", "Low_Volatility", "Trending", "Ranging")


@pytest.mark.parametrize("name", NAMES)
def test_thresholds_are_quantiles_of_the_training_rows(name: str) -> None:
    target, each = TARGETS[name], asset(synthetic_bars(600))
    horizon = HORIZON if target.forward else 0
    mask = _everything(each)
    mask[400:] = False
    told = fit_thresholds(target, horizon, [(each, mask)])
    measures = target.measure(each, horizon)
    whole = mask & np.isfinite(np.stack(list(measures.values()))).all(axis=0)
    expected = [np.quantile(measures[cut.measure][whole], cut.quantile) for cut in target.cuts]
    assert told.of(each.name) == told.of(POOLED) == told.of("another") == pytest.approx(tuple(expected))


def test_class_shares_of_the_training_rows_are_those_of_the_quantiles() -> None:
    each = asset(synthetic_bars(2_000))
    told = {
        name: shares(labels(each, fit_thresholds(TARGETS[name], HORIZON, [(each, _everything(each))])), target)
        for name, target in TARGETS.items()
        if target.forward
    }
    assert told["volatility"] == pytest.approx({"low": 0.25, "normal": 0.5, "high": 0.2, "extreme": 0.05}, abs=0.002)
    assert told["regime"]["High_Volatility"] == pytest.approx(0.2, abs=0.002)
    assert told["regime"]["Low_Volatility"] == pytest.approx(0.2, abs=0.002)
    assert told["direction"]["flat"] == pytest.approx(1 / 3, abs=0.002)
    assert sum(told["market"].values()) == pytest.approx(1.0)


def test_an_asset_with_too_little_history_is_labelled_with_the_thresholds_of_the_others() -> None:
    long, short = asset(synthetic_bars(400)), asset(synthetic_bars(90, seed=1, asset="short"))
    told = fit_thresholds(TARGETS["regime"], HORIZON, [(each, _everything(each)) for each in (long, short)])
    assert sorted(told.values) == [POOLED, long.name]
    assert told.of("short") == told.of(long.name)
    with pytest.raises(BadInput, match="short had fewer than 100 training rows"):
        fit_thresholds(TARGETS["regime"], HORIZON, [(short, _everything(short))])


@pytest.mark.parametrize(("name", "horizon"), [("regime", 0), ("markov", 4)])
def test_a_horizon_that_a_target_does_not_have_is_refused(name: str, horizon: int) -> None:
    each = asset(synthetic_bars(200))
    with pytest.raises(BadInput, match=f"horizon was {horizon}; target {name} needs"):
        fit_thresholds(TARGETS[name], horizon, [(each, _everything(each))])


def test_the_end_and_gaps_have_no_label() -> None:
    each = asset(synthetic_bars(300).take(np.arange(300) != 150))
    thresholds = fit_thresholds(TARGETS["direction"], HORIZON, [(each, _everything(each))])
    told = labels(each, thresholds)
    assert np.flatnonzero(told == UNKNOWN).tolist() == [*range(150 - HORIZON, 150), *range(299 - HORIZON, 299)]


def test_the_known_label_is_the_newest_whose_horizon_has_ended() -> None:
    told = np.array([0, 1, UNKNOWN, 2, 3, UNKNOWN, UNKNOWN])
    assert known(told, 2).tolist() == [UNKNOWN, UNKNOWN, 0, 1, 1, 2, 3]
    assert known(told, 10).tolist() == [UNKNOWN] * 7
    assert known(told, 0).tolist() == [0, 1, 1, 2, 3, 3, 3]


def test_thresholds_have_a_digest() -> None:
    told = Thresholds(target="regime", horizon=4, values={POOLED: (0.1, 0.2, 0.3)})
    assert told.digest() == told.model_copy().digest()
    assert told.digest() != told.model_copy(update={"horizon": 5}).digest()
    assert Thresholds.model_validate_json(told.canonical_json()) == told


def test_steps_have_no_markov_states() -> None:
    each = replace(asset(synthetic_bars(200)), bars=None)
    with pytest.raises(BadInput, match="Markov states need bars"):
        labels(each, Thresholds(target="markov", horizon=0, values={POOLED: (1.0, 1.0)}))
