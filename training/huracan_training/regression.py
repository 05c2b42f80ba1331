"""Scores of numbers that were forecast: errors in the unit of what was forecast, and the share explained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huracan.errors import BadInput
from huracan_training.samples import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorScores:
    """How far forecasts were off; `rmse` and `mae` in the unit of the target."""

    rows: int
    rmse: float
    mae: float
    r2: float
    """1 - SSE / SST out of sample, SST around the mean of the TRAIN rows: the test mean was not known, and would
    flatter. At most 1; below 0 is worse than that mean. NaN where the target does not move off it."""
    skill_over_zero: float
    """1 - MSE / MSE of forecasting zero: what a forecast of returns must beat."""


def errors_scored(actual: Floats, forecast: Floats, train_mean: Floats | float) -> ErrorScores:
    """Return the errors of forecasts (m,) of what then was (m,); raise BadInput where shapes differ or m is 0.

    Rows of several folds or assets have train means of their own, shape (m,).

    Campbell and Thompson 2008 for the out-of-sample R².
    """
    if actual.shape != forecast.shape or actual.ndim != 1 or not actual.size:
        raise BadInput(f"actual {actual.shape} and forecast {forecast.shape} do not match; give two of (m,), m above 0")
    off = actual - forecast
    squared = float(np.square(off).mean())
    return ErrorScores(
        rows=actual.size,
        rmse=squared**0.5,
        mae=float(np.abs(off).mean()),
        r2=_explained(squared, float(np.square(actual - train_mean).mean())),
        skill_over_zero=_explained(squared, float(np.square(actual).mean())),
    )


def _explained(squared: float, around: float) -> float:
    return 1.0 - squared / around if around > 0 else float("nan")
