"""Models that are fed an outlook: fitted on training rows, seen through as services do (`huracan.features.outlook`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from huracan.errors import BadInput
from huracan.features import outlook
from huracan.features.outlook import (
    FILE,
    NAMES,
    POOLED,
    UNSCALED,
    VOLATILE,
    Scale,
    View,
    in_order,
    recast,
    slots,
    slots_a_day,
)
from huracan_training.bars import Mask
from huracan_training.models.inputs import covered, fitted
from huracan_training.models.keeping import read_state, servable, write_state
from huracan_training.samples import Classifier, Floats, Integers, Sample, Series
from huracan_training.scaling import Method, scale_of

__all__ = ["CUTS", "NAMES", "Outlook", "Outlooked", "fit_outlook", "in_order"]

CUTS = (0.2, 0.5, 0.8)
"""Quantiles of the volatility over the horizon: its middle, and the thresholds of the regimes."""
_PRIOR_BARS = 5.0
"""Bars at the mean that each time of the day is given beside its own."""
_SMOOTH = np.array([1, 2, 3, 2, 1]) / 9


class Outlook(outlook.Outlook):
    """An outlook that sees samples, and learns how more assets are seen."""

    def seen(self, sample: Sample) -> Sample:
        """Return a sample whose rows are what models are fed, shape (n, columns), in [-10, 10]; NaN where missing.

        Raises BadInput for rows that are not of the `bar` set.
        """
        series = sample.series
        rows = self.rows(series.asset, series.rows, series.close_ns, series.interval_ns)
        return replace(sample, series=replace(series, rows=rows))

    def met(self, more: Sequence[Sample]) -> Outlook:
        """Return an outlook that sees these assets as they are in these samples; all others as before."""
        if not any(len(sample.at) for sample in more):
            return self
        views = fit_outlook(more, self.horizon_bars).views
        return self.model_copy(update={"views": {**self.views, **views, POOLED: self.views[POOLED]}})


def fit_outlook(train: Sequence[Sample], horizon_bars: int, columns: Sequence[str] = NAMES) -> Outlook:
    """Return how assets are seen, from the rows that the windows of `train` cover.

    Raises BadInput where rows are not of the `bar` set, bars are of different intervals, or there are no such columns.
    """
    intervals = {sample.series.interval_ns for sample in train}
    if len(intervals) > 1:
        raise BadInput(f"bars were of {sorted(intervals)} ns: give train bars of one interval")
    masks = [(sample.series, covered(sample)) for sample in train if len(sample.at)]
    if not masks:
        raise BadInput("train had no positions; give at least one window")
    views = {series.asset: _view([(series, mask)]) for series, mask in masks}
    return Outlook(horizon_bars=horizon_bars, views={**views, POOLED: _view(masks)}, columns=in_order(columns))


class Outlooked:
    """A model that is fed an outlook instead of rows of `bar`."""

    def __init__(self, model: Classifier, horizon_bars: int, columns: Sequence[str] = NAMES) -> None:
        self.name = model.name
        self._model = model
        self._horizon_bars = horizon_bars
        self._columns = in_order(columns)
        self._outlook: Outlook | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit the outlook on `train`, and the model on what it shows."""
        self._outlook = fit_outlook(train, self._horizon_bars, self._columns)
        self._model.fit([*map(self._outlook.seen, train)], [*map(self._outlook.seen, valid)], seed=seed)

    def meet(self, more: Sequence[Sample]) -> None:
        """Learn how these assets are seen, and nothing else."""
        self._outlook = fitted(self._outlook, self.name).met(more)

    def predict(self, sample: Sample) -> Floats:
        """Return what the model says of what it is shown."""
        return self._model.predict(fitted(self._outlook, self.name).seen(sample))

    def write(self, directory: Path) -> None:
        """Keep the model and the outlook; raise BadInput for a model that cannot be kept."""
        servable(self._model).write(directory)
        write_state(directory, fitted(self._outlook, self.name).model_dump(mode="json"), FILE)

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        servable(self._model).read(directory)
        self._outlook = Outlook.model_validate(read_state(directory, FILE))


def _view(seen: Sequence[tuple[Series, Mask]]) -> View:
    rows = np.concatenate([recast(series.rows[mask]) for series, mask in seen])
    scale = scale_of(rows, Method.STANDARD)
    centre, spread = np.array(scale.centre), np.array(scale.spread)
    measured = rows[:, NAMES.index("realised_volatility_16")]
    low, middle, high = np.quantile(measured[np.isfinite(measured)], CUTS)
    centre[VOLATILE], spread[VOLATILE] = middle, (high - low) or 1.0
    centre[UNSCALED], spread[UNSCALED] = 0.0, 1.0
    clock = _fit_clock(
        np.concatenate([slots(series.close_ns[mask], series.interval_ns) for series, mask in seen]),
        rows[:, NAMES.index("log_range")] - rows[:, NAMES.index("realised_volatility_672")],
        slots_a_day(seen[0][0].interval_ns),
    )
    return View(scale=Scale(centre=tuple(centre.tolist()), spread=tuple(spread.tolist())), clock=clock)


def _fit_clock(slots: Integers, livelier: Floats, slots_a_day: int) -> tuple[float, ...]:
    """Return the mean of each slot, shrunk towards none, smoothed over neighbours in the day."""
    known = np.isfinite(livelier)
    if not known.any():
        return (0.0,) * (2 * slots_a_day)
    counts = np.bincount(slots[known], minlength=2 * slots_a_day)
    sums = np.bincount(slots[known], livelier[known] - livelier[known].mean(), minlength=2 * slots_a_day)
    means = sums / (counts + _PRIOR_BARS)
    if slots_a_day >= len(_SMOOTH):
        days = np.pad(means.reshape(2, -1), ((0, 0), (2, 2)), mode="wrap")
        means = np.concatenate([np.convolve(day, _SMOOTH, "valid") for day in days])
    return tuple(means.tolist())
