"""What a detector of regimes is fed: the columns of `bar` on the scale of the volatility that it is asked about.

Volatilities of all kinds and lengths become ln of the volatility of one bar, less the middle of what the asset had over
the horizon in training, over the width between its low and its high fifth: where in that distribution the next bars lie
is what is asked. Beside them stands how lively the bars ahead are by the clock alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from huracan.config import Config
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan_training.bars import Mask
from huracan_training.labels import POOLED
from huracan_training.models.inputs import covered, fitted
from huracan_training.models.keeping import read_state, servable, write_state
from huracan_training.samples import Classifier, Floats, Integers, Rows, Sample, Series
from huracan_training.scaling import LIMIT, Method, Scale, scale_of

DAY_NS = 86_400 * 10**9
CUTS = (0.2, 0.5, 0.8)
"""Quantiles of the volatility over the horizon: its middle, and the thresholds of the regimes."""
_TINY = 1e-5
"""Volatility of a bar in which nothing moves: a tenth of a basis point."""
_PARKINSON = math.sqrt(4 * math.log(2))
_SATURDAY = 2
"""Days from the epoch, a Thursday, to a Saturday."""
_PRIOR_BARS = 5.0
"""Bars at the mean that each time of the day is given beside its own."""
_FILE = "outlook.json"
_SMOOTH = np.array([1, 2, 3, 2, 1]) / 9

Columns = Mapping[str, Floats]
"""Columns of `bar` by name, each of shape (n,)."""


_PLAIN = (
    *(f"scaled_return_{bars}" for bars in (4, 16, 96)),
    "scaled_largest_move_16",
    *(f"efficiency_ratio_{bars}" for bars in (10, 16, 32, 96)),
    "trend_t",
    "trend_t_96",
    "rsi_14",
    "atr_ratio",
    "volatility_ratio",
    "jump_share_96",
    "downside_share_96",
    "autocorrelation_96",
    "volatility_of_volatility_96",
    "volume_z_96",
    "range_z_96",
    *(f"log_volume_ratio_{bars}_672" for bars in (4, 16, 96)),
    "channel_location_96",
    "drawdown_96",
)
"""Columns that say nothing of how large moves are, or only against what is usual."""
_TIME = ("time_of_day_sin", "time_of_day_cos", "time_of_week_sin", "time_of_week_cos")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    compute: Callable[[Columns], Floats]
    volatility: bool = False
    """Whether it is ln of the volatility of one bar."""
    scaled: bool = True


def _volatility(name: str, bars: int, unit: float = 1.0) -> _Column:
    return _Column(name, lambda columns: _log_volatility(columns[name] / unit, bars), volatility=True)


def _log_volatility(values: Floats, bars: int) -> Floats:
    return np.asarray(0.5 * np.log(values**2 / bars + _TINY**2))


def _usual(columns: Columns) -> Floats:
    usual = columns["realised_volatility_96"] / math.sqrt(96)
    return np.where(usual > 0, usual, np.nan)


_COLUMNS = (
    _volatility("log_range", 1, _PARKINSON),
    *(_volatility(f"realised_volatility_{bars}", bars) for bars in (4, 16, 32, 96, 288, 672)),
    *(_volatility(f"parkinson_volatility_{bars}", bars) for bars in (4, 16, 96)),
    *(_volatility(f"garman_klass_volatility_{bars}", bars) for bars in (16, 96)),
    _volatility("rogers_satchell_volatility_16", 16),
    _Column("move", lambda columns: columns["log_return"] / _usual(columns)),
    _Column("size_of_move", lambda columns: np.abs(columns["log_return"]) / _usual(columns)),
    *(_Column(name, itemgetter(name)) for name in _PLAIN),
    *(_Column(name, itemgetter(name), scaled=False) for name in _TIME),
    _Column("half_day_sin", lambda columns: 2 * columns["time_of_day_sin"] * columns["time_of_day_cos"], scaled=False),
    _Column("half_day_cos", lambda columns: 1 - 2 * columns["time_of_day_sin"] ** 2, scaled=False),
)
NAMES = (*(column.name for column in _COLUMNS), "clock_ahead", "clock_change")
"""Names of the columns that models are fed."""
_VOLATILE = np.array([column.volatility for column in _COLUMNS])
_UNSCALED = np.array([not column.scaled for column in _COLUMNS])


class View(Config):
    """How one asset is seen."""

    scale: Scale
    """Of all columns but those of the clock."""
    clock: tuple[float, ...]
    """How much livelier each time of the day is than the week, ln; of working days, then of weekends."""


class Outlook(Config):
    """How assets are seen, by name; POOLED is of all together, for an asset that was not trained on."""

    horizon_bars: int
    views: dict[str, View]
    columns: tuple[str, ...] = NAMES
    """Those that models are fed."""

    def seen(self, sample: Sample) -> Sample:
        """Return a sample whose rows are what models are fed, shape (n, columns), in [-10, 10]; NaN where missing.

        Raises BadInput for rows that are not of the `bar` set.
        """
        series = sample.series
        view = self.views.get(series.asset, self.views[POOLED])
        centre, spread = np.array(view.scale.centre), np.array(view.scale.spread)
        values = (_recast(series.rows) - centre) / spread
        ahead, past = _clock(series, np.array(view.clock), self.horizon_bars)
        clock = np.column_stack([ahead, ahead - past]) / spread[np.argmax(_VOLATILE)]
        chosen = [NAMES.index(name) for name in self.columns]
        rows = np.clip(np.column_stack([values, clock]).take(chosen, axis=1), -LIMIT, LIMIT).astype(np.float32)
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


def in_order(columns: Sequence[str]) -> tuple[str, ...]:
    """Return columns in the order of NAMES; raise BadInput where there are none, or one that is not of an outlook."""
    unknown = sorted(set(columns) - set(NAMES))
    if unknown or not columns:
        raise BadInput(f"columns were {', '.join(unknown) or 'none'}: choose of {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in columns)


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
        write_state(directory, fitted(self._outlook, self.name).model_dump(mode="json"), _FILE)

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        servable(self._model).read(directory)
        self._outlook = Outlook.model_validate(read_state(directory, _FILE))


def _view(seen: Sequence[tuple[Series, Mask]]) -> View:
    rows = np.concatenate([_recast(series.rows[mask]) for series, mask in seen])
    scale = scale_of(rows, Method.STANDARD)
    centre, spread = np.array(scale.centre), np.array(scale.spread)
    measured = rows[:, NAMES.index("realised_volatility_16")]
    low, middle, high = np.quantile(measured[np.isfinite(measured)], CUTS)
    centre[_VOLATILE], spread[_VOLATILE] = middle, (high - low) or 1.0
    centre[_UNSCALED], spread[_UNSCALED] = 0.0, 1.0
    clock = _fit_clock(
        np.concatenate([_slots(series.close_ns[mask], series.interval_ns) for series, mask in seen]),
        rows[:, NAMES.index("log_range")] - rows[:, NAMES.index("realised_volatility_672")],
        _slots_a_day(seen[0][0].interval_ns),
    )
    return View(scale=Scale(centre=tuple(centre.tolist()), spread=tuple(spread.tolist())), clock=clock)


def _recast(rows: Rows) -> Floats:
    """Return all columns but those of the clock, none scaled, shape (n, columns)."""
    if rows.shape[1] != BAR.columns:
        raise BadInput(f"rows had {rows.shape[1]} columns: an outlook is of the {BAR.columns} of {BAR.name}")
    columns = {name: rows[:, index].astype(np.float64) for index, name in enumerate(BAR.names)}
    return np.column_stack([column.compute(columns) for column in _COLUMNS])


def _slots_a_day(interval_ns: int) -> int:
    return max(1, DAY_NS // interval_ns)


def _slots(close_ns: Integers, interval_ns: int) -> Integers:
    """Return which time of the day bars are of, those of weekends after those of working days, shape (n,)."""
    open_ns = close_ns - interval_ns
    weekend = (open_ns // DAY_NS - _SATURDAY) % 7 < 2
    slots: Integers = open_ns % DAY_NS // interval_ns % _slots_a_day(interval_ns)
    return slots + weekend * _slots_a_day(interval_ns)


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


def _clock(series: Series, clock: Floats, horizon_bars: int) -> tuple[Floats, Floats]:
    """Return how much livelier the bars of the horizon are by the clock, and as many up to now, shape (n,) each."""

    def mean(steps: range) -> Floats:
        bars = [clock[_slots(series.close_ns + step * series.interval_ns, series.interval_ns)] for step in steps]
        return np.asarray(np.mean(bars, axis=0))

    return mean(range(1, horizon_bars + 1)), mean(range(1 - horizon_bars, 1))
