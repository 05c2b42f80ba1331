"""What models are fed: samples that were checked, rows that were scaled, and what 64 of them come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from huracan.errors import BadInput
from huracan_training.samples import WINDOW, Integers, Rows, Sample
from huracan_training.scaling import Method, Scaler, fit_scaler

T = TypeVar("T")
_BATCH = 2048
SUMMARIES = 4
"""Summaries of one column over a window: last, mean, standard deviation, last less first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked at every position."""

    classes: int
    """Labels are in [0, classes)."""
    horizon_bars: int
    """Bars until a label is known, at least 1."""


def fitted_scaler(train: Sequence[Sample], method: Method) -> Scaler:
    """Return the scales of the rows that the windows of `train` cover, asset by asset."""
    return fit_scaler([(sample.series, covered(sample)) for sample in train], method)


def with_scales_of(scaler: Scaler, more: Sequence[Sample]) -> Scaler:
    """Return a scaler that also has scales of assets it was not fitted on, from the rows that their windows cover."""
    unseen = [sample for sample in more if sample.series.asset not in scaler.scales]
    if not unseen:
        return scaler
    scales = fitted_scaler(unseen, scaler.method).scales
    return scaler.model_copy(update={"scales": {**scales, **scaler.scales}})


def covered(sample: Sample) -> NDArray[np.bool_]:
    """Return which bars lie in a window of the sample, shape (n,)."""
    edges = np.zeros(len(sample.series.rows) + 1, dtype=np.int64)
    np.add.at(edges, sample.at - (WINDOW - 1), 1)
    np.add.at(edges, sample.at + 1, -1)
    inside: NDArray[np.bool_] = np.cumsum(edges[:-1]) > 0
    return inside


def check_samples(samples: Sequence[Sample], question: Question, *, name: str) -> None:
    """Raise BadInput, naming the field, unless a model can be fitted on these samples."""
    if not sum(len(sample.at) for sample in samples):
        raise BadInput(f"{name} had no positions; give at least one window")
    widths = sorted({sample.series.rows.shape[1] for sample in samples})
    if len(widths) > 1:
        raise BadInput(f"{name} rows had {widths} columns; give every asset the same feature set")
    for sample in samples:
        check_positions(sample, name=name)
        _check_labels(sample, question, name=name)


def check_positions(sample: Sample, *, name: str) -> None:
    """Raise BadInput, naming the field, unless a window ends at each position."""
    at, bars = sample.at, len(sample.series.rows)
    if len(at) and (at.min() < WINDOW - 1 or at.max() >= bars):
        raise BadInput(f"{name} at was outside [{WINDOW - 1}, {bars}) of {sample.series.asset}; leave such bars out")
    if len(sample.known) != bars:
        raise BadInput(f"{name} known had {len(sample.known)} values for {bars} bars of {sample.series.asset}")


def _check_labels(sample: Sample, question: Question, *, name: str) -> None:
    labels, asset = sample.labels, sample.series.asset
    if not np.issubdtype(labels.dtype, np.integer):
        raise BadInput(f"{name} labels of {asset} were {labels.dtype}, not whole numbers; leave unlabelled bars out")
    if len(labels) != len(sample.at):
        raise BadInput(f"{name} labels of {asset} were {len(labels)} for {len(sample.at)} positions")
    if len(labels) and (labels.min() < 0 or labels.max() >= question.classes):
        raise BadInput(f"{name} labels of {asset} were outside [0, {question.classes}); leave unlabelled bars out")


def all_labels(samples: Sequence[Sample]) -> Integers:
    """Return the labels of all samples, one after another."""
    return np.concatenate([sample.labels for sample in samples]).astype(np.int64)


def summaries(rows: Rows, at: Integers) -> Rows:
    """Return last, mean, standard deviation and last less first of each column over the window at each position.

    Shape (m, 4 * columns), grouped by summary; missing rows are left out, NaN where all are missing.
    """
    windows = sliding_window_view(rows, WINDOW, axis=0)
    parts = [_summarised(windows[at[start : start + _BATCH] - (WINDOW - 1)]) for start in range(0, len(at), _BATCH)]
    return np.concatenate([np.empty((0, SUMMARIES * rows.shape[1]), dtype=np.float32), *parts])


def _summarised(windows: Rows) -> Rows:
    windows = np.ascontiguousarray(windows)
    present = np.isfinite(windows)
    counts = present.sum(axis=2, dtype=np.float32)
    counts[counts == 0] = np.nan
    mean = np.where(present, windows, 0).sum(axis=2) / counts
    deviations = np.where(present, windows - mean[:, :, None], 0)
    spread = np.sqrt((deviations**2).sum(axis=2) / counts)
    moved = windows[:, :, -1] - windows[:, :, 0]
    return np.concatenate([windows[:, :, -1], mean, spread, moved], axis=1).astype(np.float32)


def table_of(samples: Sequence[Sample], scaling: Scaler) -> Rows:
    """Return the summaries of all windows of all samples, one after another, shape (m, 4 * columns)."""
    return np.concatenate([summaries(scaling.scaled(sample.series), sample.at) for sample in samples])


def fitted(value: T | None, name: str) -> T:
    """Return what `fit` has made; raise BadInput where it was not called."""
    if value is None:
        raise BadInput(f"{name} was not fitted; call fit first")
    return value
