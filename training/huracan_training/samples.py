"""What a model may see and what it must say: one asset's bars in time order, and the positions it is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Integers = NDArray[np.int64]

WINDOW = 64
"""Rows of one window, the one at the asked position included."""
UNKNOWN = -1
"""The label where none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The closed bars of one asset, oldest first, and the feature row of each."""

    asset: str
    interval_ns: int
    close_ns: Integers
    """Close of each bar, shape (n,)."""
    log_return: Floats
    """ln(close / previous close) of each bar, shape (n,); NaN where the previous bar is missing."""
    rows: Rows
    """Rows of the `bar` feature set, shape (n, columns); NaN where missing. Never scaled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Positions of one asset at which a class is asked for, with the answers.

    At position i a model may use `series` up to i, `known` up to i, and nothing later: truncated history must
    give the same prediction.
    """

    series: Series
    at: Integers
    """Positions in the series, ascending, shape (m,); 64 consecutive rows end at each."""
    labels: Integers
    """Class at each position of `at`, in [0, classes), shape (m,)."""
    known: Integers
    """Newest label whose horizon had ended by each bar of the series, shape (n,); UNKNOWN before the first."""


class Classifier(Protocol):
    """A model of classes: fitted on some assets, asked about any."""

    name: str

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Learn from `train`; `valid` comes later in time and decides when to stop."""
        ...

    def predict(self, sample: Sample) -> Floats:
        """Return class probabilities, shape (m, classes), rows of sum 1; the labels of the sample are not read."""
        ...


@runtime_checkable
class Kept(Classifier, Protocol):
    """A model that can be kept in a directory; the others are baselines, refitted wherever they are wanted."""

    def write(self, directory: Path) -> None:
        """Write what was fitted; raise BadInput before `fit`."""
        ...

    def read(self, directory: Path) -> None:
        """Take back what was written; raise BadInput where there is nothing."""
        ...


@runtime_checkable
class Served(Kept, Protocol):
    """A model that can be kept, and asked about assets that it was not trained on."""

    def meet(self, more: Sequence[Sample]) -> None:
        """Learn the scales of assets that are to be asked about, and nothing else."""
        ...
