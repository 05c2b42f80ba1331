"""Numbers that classes imply: means of the train rows alone, weighted by what was said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from huracan_training.benchmark import registered, walk_forward_folds
from huracan_training.datasets import Dataset, build
from huracan_training.evaluation import Forecast
from huracan_training.implied import implied_errors
from huracan_training.labels import forward_measures
from huracan_training.walk import Labelled, walked

from .market import synthetic_bars, write_bars

HORIZON = 8
VOLATILITY, RETURN = "volatility over 8 bars, %", "return over 8 bars, %"
Walked = tuple[Dataset, list[Labelled], list[Forecast]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    directory: Path = tmp_path_factory.mktemp("implied")
    files = [
        write_bars(synthetic_bars(4_000, seed=seed, asset=f"sim_{name}"), directory / f"sim_{name}_15m.parquet")
        for seed, name in enumerate(("AUSDT", "BUSDT"))
    ]
    dataset = build(files, directory / "dataset")
    folds = walk_forward_folds(dataset, 2, HORIZON)
    contenders = registered(["majority", "persistence"], seeds=1, horizon_bars=HORIZON)
    forecasts = walked(folds, contenders, data_digest=dataset.digest, window_bars=0, room=directory / "said")
    return dataset, folds, forecasts


def _knowing(forecasts: list[Forecast]) -> list[Forecast]:
    """Return forecasts of a model that knows the class."""
    return [
        replace(each, model="knows", probabilities=np.eye(each.probabilities.shape[1])[each.labels])
        for each in forecasts
        if each.model == "majority"
    ]


def test_who_knows_the_class_knows_more_of_the_volatility_than_the_train_mean_says(asked: Walked) -> None:
    dataset, folds, forecasts = asked
    told = implied_errors(folds, [*forecasts, *_knowing(forecasts)], dataset.assets, HORIZON)
    assert list(told) == [VOLATILITY, RETURN]
    volatility = told[VOLATILITY]
    assert volatility["knows"].r2 > volatility["persistence"].r2 > volatility["majority"].r2
    assert volatility["knows"].r2 > 0.4
    assert volatility["majority"].r2 == pytest.approx(0, abs=0.01)  # class shares of train say the train mean
    assert all(each.rows == volatility["majority"].rows for number in told.values() for each in number.values())


def test_errors_are_those_of_the_train_means_of_each_class(asked: Walked) -> None:
    dataset, folds, forecasts = asked
    (only,) = (each for each in _knowing(forecasts) if each.fold == 1 and each.asset == "sim_AUSDT")
    (asset,) = (each for each in dataset.assets if each.name == only.asset)
    volatility = 100 * forward_measures(asset, HORIZON)["volatility"]
    train, test = (
        next(each for each in part if each.series.asset == only.asset)
        for part in (folds[0].samples.train, folds[0].samples.test)
    )
    means = np.array([volatility[train.at][train.labels == of].mean() for of in range(4)])
    off = volatility[test.at] - means[test.labels]
    told = implied_errors(folds, [only], dataset.assets, HORIZON)[VOLATILITY]["knows"]
    assert told.rmse == pytest.approx(np.sqrt(np.square(off).mean()))
    assert told.mae == pytest.approx(np.abs(off).mean())
    assert told.rows == test.at.size


def test_an_asset_that_was_not_trained_on_has_the_means_of_the_others(asked: Walked) -> None:
    dataset, folds, forecasts = asked
    alone = [
        replace(fold, samples=replace(fold.samples, train=tuple(
            each for each in fold.samples.train if each.series.asset != "sim_AUSDT"
        )))
        for fold in folds
    ]  # fmt: skip
    asked_of_it = [each for each in _knowing(forecasts) if each.asset == "sim_AUSDT"]
    told = implied_errors(alone, asked_of_it, dataset.assets, HORIZON)[VOLATILITY]["knows"]
    assert told.r2 > 0.3


def test_a_class_that_train_never_had_is_like_all_rows(asked: Walked) -> None:
    dataset, folds, forecasts = asked
    few = [
        replace(fold, samples=replace(fold.samples, train=tuple(
            replace(each, at=each.at[each.labels != 0], labels=each.labels[each.labels != 0])
            for each in fold.samples.train
        )))
        for fold in folds
    ]  # fmt: skip
    told = implied_errors(few, _knowing(forecasts), dataset.assets, HORIZON)
    assert np.isfinite(told[VOLATILITY]["knows"].rmse)
