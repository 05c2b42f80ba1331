"""The last 64 consecutive rows of a feature set."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.features import WINDOW_ROWS
from huracan.features.table import FeatureSet


class WindowBuffer:
    """Keep the newest rows of an unbroken run of steps; one that does not follow starts a new run."""

    def __init__(self, feature_set: FeatureSet[Any], rows: int = WINDOW_ROWS) -> None:
        self._rows = rows
        self._values = np.full((4 * rows, feature_set.columns), np.nan, dtype=np.float32)
        self._ranges: deque[tuple[int, int]] = deque(maxlen=rows)
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._values[: self._rows] = np.nan
        self._end = self._rows
        self._ranges.clear()
        self._first_step = 0
        self._last_step = 0

    def push(self, step: int, row: NDArray[np.float32], first_seq: int, last_seq: int) -> None:
        """Append the row of a step and its first and last `ingest_seq`, 0 and 0 if no frame came in it."""
        if self._ranges and step != self._last_step + 1:
            self.reset()
        if not self._ranges:
            self._first_step = step
        if self._end == len(self._values):
            self._values[: self._rows] = self._values[-self._rows :]
            self._end = self._rows
        self._values[self._end] = row
        self._end += 1
        self._ranges.append((first_seq, last_seq))
        self._last_step = step

    def matrix(self) -> NDArray[np.float32]:
        """Return a copy of the rows, oldest first, shape (rows, columns); unfilled ones first, NaN."""
        return self._values[self._end - self._rows : self._end].copy()

    @property
    def valid_rows(self) -> int:
        """Return how many rows are filled."""
        return len(self._ranges)

    @property
    def first_step(self) -> int:
        """Return the first step of the unbroken run, often older than the oldest row; 0 if there is none."""
        return self._first_step

    @property
    def first_ingest_seq(self) -> int:
        """Return the first frame that the filled rows rest on; 0 if none came in them."""
        return next((first for first, _ in self._ranges if first), 0)

    @property
    def last_ingest_seq(self) -> int:
        """Return the last frame that the filled rows rest on; 0 if none came in them."""
        return next((last for _, last in reversed(self._ranges) if last), 0)
