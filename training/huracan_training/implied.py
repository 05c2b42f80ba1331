"""Numbers that forecasts of classes imply: what each class was like on the train rows, weighted by its probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from huracan_training.bars import Asset
from huracan_training.evaluation import Forecast
from huracan_training.labels import forward_measures
from huracan_training.regression import ErrorScores, errors_scored
from huracan_training.samples import Floats, Integers, Sample
from huracan_training.walk import Labelled

NUMBERS: Mapping[str, str] = {"volatility": "volatility over {bars} bars, %", "move": "return over {bars} bars, %"}
"""What is implied, by the measure that it is: what the report calls it."""
_PERCENT = 100.0


def implied_errors(
    folds: Sequence[Labelled], forecasts: Sequence[Forecast], assets: Sequence[Asset], horizon_bars: int
) -> dict[str, dict[str, ErrorScores]]:
    """Return the errors of the numbers that every model implies, by what they are and by model, over all its seeds.

    The mean of a class is over the train rows of the fold and asset; of all its assets where it has none of that one.
    """
    measures = {each.name: forward_measures(each, horizon_bars) for each in assets}
    by_fold = {each.number: each for each in folds}
    found: dict[str, dict[str, ErrorScores]] = {}
    for measure, what in NUMBERS.items():
        values = {name: _PERCENT * each[measure] for name, each in measures.items()}
        parts: dict[str, list[tuple[Floats, Floats, Floats]]] = {}
        for each in forecasts:
            fold = by_fold[each.fold]
            means, mean = _learned(fold.samples.train, each.asset, values, each.probabilities.shape[1])
            actual = values[each.asset][_asked(fold, each.asset)]
            parts.setdefault(each.model, []).append((actual, each.probabilities @ means, np.full(actual.size, mean)))
        found[what.format(bars=horizon_bars)] = {
            model: errors_scored(*(np.concatenate(column) for column in zip(*rows, strict=True)))
            for model, rows in parts.items()
        }
    return found


def _learned(train: Sequence[Sample], asset: str, values: Mapping[str, Floats], classes: int) -> tuple[Floats, float]:
    """Return the mean of a number over the train rows of each class, shape (K,), and over all of them."""
    own = [each for each in train if each.series.asset == asset] or train
    numbers = np.concatenate([values[each.series.asset][each.at] for each in own])
    labels = np.concatenate([each.labels for each in own])
    counts = np.bincount(labels, minlength=classes)
    sums, mean = np.bincount(labels, weights=numbers, minlength=classes), float(numbers.mean())
    return np.divide(sums, counts, out=np.full(classes, mean), where=counts > 0), mean


def _asked(fold: Labelled, asset: str) -> Integers:
    return next(each.at for each in fold.samples.test if each.series.asset == asset)
