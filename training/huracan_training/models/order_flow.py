"""Rows of `micro` as models of direction see them, and the same market with buyers and sellers changed about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan.features.order_flow import FILE, View
from huracan_training.models.inputs import covered, fitted
from huracan_training.models.keeping import read_state, servable, write_state
from huracan_training.samples import UNKNOWN, Classifier, Floats, Integers, Rows, Sample
from huracan_training.scaling import Method, scale_of

COLUMNS = (
    "mid_return_bps",
    "queue_imbalance",
    "depth_imbalance",
    "ofi_level_1",
    "ofi_integrated",
    "trade_imbalance",
    "book_pressure",
    "ofi_1s",
    "mid_momentum_1s_bps",
    "realised_volatility_bps",
    "trade_intensity",
    "quote_intensity",
)
"""What models are fed, of `micro`: no sizes in base units, which differ by instrument, no levels that last for minutes,
by which a model learns the minute, and nothing that recordings lack."""
DOWN, FLAT, UP = range(3)
_SIDED = frozenset(COLUMNS) - {"realised_volatility_bps", "trade_intensity", "quote_intensity"}
"""Those that change their sign when buyers and sellers change places."""
_SIGNS = np.array([-1.0 if name in _SIDED else 1.0 for name in COLUMNS], dtype=np.float32)
_CLASSES = 3
_BPS = 1e4


class OrderFlow:
    """A model of direction that is fed a view of `micro`, and learns from its mirror image too.

    Buyers and sellers have no names: with all signs changed, the classes down and up change places. A recording of
    minutes goes mostly one way, and what a model learns of which way that was is worth nothing in the next.
    """

    def __init__(self, model: Classifier, horizon: int) -> None:
        self.name = model.name
        self._model = model
        self._horizon = horizon
        self._view: View | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit the view on `train`, and the model on what it shows and on the mirror image of that."""
        self._view = fit_view(train, self._horizon)
        self._model.fit(with_mirror_images(self._view, train), with_mirror_images(self._view, valid), seed=seed)

    def meet(self, more: Sequence[Sample]) -> None:
        """Learn nothing: all instruments are seen alike."""

    def predict(self, sample: Sample) -> Floats:
        """Return what the model says of what it is shown."""
        return self._model.predict(seen_through(fitted(self._view, self.name), sample))

    def write(self, directory: Path) -> None:
        """Keep the model and the view; raise BadInput for a model that cannot be kept."""
        servable(self._model).write(directory)
        write_state(directory, fitted(self._view, self.name).model_dump(mode="json"), FILE)

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        servable(self._model).read(directory)
        self._view = View.model_validate(read_state(directory, FILE))


def seen_through(view: View, sample: Sample) -> Sample:
    """Return a sample whose rows are what models are fed; raise BadInput for rows that are not of the `micro` set."""
    return replace(sample, series=replace(sample.series, rows=view.seen(_checked(sample).series.rows)))


def with_mirror_images(view: View, samples: Sequence[Sample]) -> list[Sample]:
    """Return samples as they are seen, and each once more with buyers and sellers changed about."""
    seen = [seen_through(view, sample) for sample in samples]
    return [*seen, *map(mirrored, seen)]


def fit_view(train: Sequence[Sample], horizon: int) -> View:
    """Return how rows are seen, from those that the windows of `train` cover, and how far the mid went in each class.

    Columns with a side are centred on 0, and the moves of down and up are as large, as in the mirror. Raises BadInput
    for rows that are not of the `micro` set, and where there is no position.
    """
    covering = [_checked(sample).series.rows[covered(sample)] for sample in train if len(sample.at)]
    if not covering:
        raise BadInput("train had no positions; give at least one window")
    rows = np.concatenate(covering)[:, [MICRO.names.index(name) for name in COLUMNS]]
    scale = scale_of(np.concatenate([rows, rows * _SIGNS]), Method.STANDARD)
    moves, labels = (np.concatenate(parts) for parts in zip(*(_moves(each, horizon) for each in train), strict=True))
    away = np.abs(moves[labels != FLAT])
    move_bps = _BPS * float(away.mean()) if len(away) else 0.0
    return View(
        columns=COLUMNS,
        centre=tuple(0.0 if sign < 0 else centre for sign, centre in zip(_SIGNS, scale.centre, strict=True)),
        spread=scale.spread,
        moves_bps=(-move_bps, 0.0, move_bps),
    )


def mirrored(sample: Sample) -> Sample:
    """Return a sample of seen rows as it is with buyers and sellers changed about."""
    rows: Rows = sample.series.rows * _SIGNS
    return replace(
        sample,
        series=replace(sample.series, rows=rows, log_return=-sample.series.log_return),
        labels=_turned(sample.labels),
        known=_turned(sample.known),
    )


def _turned(labels: Integers) -> Integers:
    return np.where(labels == UNKNOWN, UNKNOWN, UP - labels)


def _moves(sample: Sample, horizon: int) -> tuple[Floats, Integers]:
    total = np.cumsum(np.nan_to_num(sample.series.log_return))
    return total[sample.at + horizon] - total[sample.at], sample.labels


def _checked(sample: Sample) -> Sample:
    if sample.series.rows.shape[1] != MICRO.columns:
        width = sample.series.rows.shape[1]
        raise BadInput(f"rows had {width} columns: order flow is told from the {MICRO.columns} of {MICRO.name}")
    return sample
