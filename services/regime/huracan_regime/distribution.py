"""Whether columns are still spread as they were: a population stability index, judged by what it is without a drift."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from huracan_regime.config import DistributionConfig

BINS = 10
"""Between quantiles of the reference; one more holds what is missing."""
CHANGED, UNCHANGED = BINS + 1, BINS + 2
"""Where it is counted, beside the bins, how often a value is that of the row before."""
WIDTH = BINS + 3
PARTS = ("psi", "psi.missing", "psi.unchanged")
"""What is compared: how values are spread, how many are missing, and how many are those of the row before, if all are.
The last two tell of a column that is gone or stands still although its values wander too far for the first."""
FLOOR = 1e-4
"""No share counts as less."""
CHUNK = 10
"""Rows that are looked at together."""

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def quantile_edges(rows: Rows) -> Rows:
    """Return the 9 deciles of each column of rows, shape (n, columns), as shape (9, columns); NaN in an empty column.

    Each is a value of the column: the largest of the lowest tenth, and so on.
    """
    ordered = np.sort(rows, axis=0)  # what is missing comes last
    present = np.isfinite(ordered).sum(axis=0)
    at = np.maximum(np.ceil(np.outer(np.arange(1, BINS), present) / BINS).astype(np.int64) - 1, 0)
    found: Rows = np.where(present > 0, np.take_along_axis(ordered, at, axis=0), np.float32(np.nan))
    return found


def counted(rows: Rows, edges: Rows) -> Counts:
    """Return how many rows of whole chunks lie in each bin of each column, shape (columns, 13).

    A value belongs to the bin below the first edge that is not less than it; the eleventh has what is missing. The last
    two have how many rows after the first of a chunk are not, and are, as the one before.
    """
    columns = rows.shape[1]
    bins = np.add.reduce(rows[None] > edges[:, None], axis=0, dtype=np.int64)
    bins[np.isnan(rows)] = BINS
    found = np.bincount((bins + np.arange(columns) * WIDTH).ravel(), minlength=columns * WIDTH).reshape(columns, WIDTH)
    chunks = rows.reshape(-1, CHUNK, columns)
    found[:, UNCHANGED] = (chunks[:, 1:] == chunks[:, :-1]).sum(axis=(0, 1))
    found[:, CHANGED] = len(chunks) * (CHUNK - 1) - found[:, UNCHANGED]
    return found


def stability_index(actual: Counts, expected: Counts) -> Floats:
    """Return the population stability index, sum (a - e) ln(a / e) over the shares of the last axis.

    No share counts as less than 1e-4. 0 where both are spread alike; of rows that know nothing of each other less than
    0.1 is little, and more than 0.25 much.
    """
    return _index(_shares(actual), _shares(expected))


def indices(actual: Counts, expected: Counts) -> Floats:
    """Return the index of each part, shape (3, ...), of counts of shape (..., 13)."""
    return _Parts.of(actual).indices(_Parts.of(expected))


_Shares = tuple[Floats, Floats]
"""Shares, and their logarithms."""


def _shares(counts: Counts) -> _Shares:
    found = np.maximum(counts / counts.sum(axis=-1, keepdims=True), FLOOR)
    return found, np.log(found)


def _index(actual: _Shares, expected: _Shares) -> Floats:
    found: Floats = ((actual[0] - expected[0]) * (actual[1] - expected[1])).sum(axis=-1)
    return found


class _Parts(NamedTuple):
    """What is compared of counts of shape (..., 13)."""

    values: _Shares
    """Shape (..., 11)."""
    pairs: _Shares
    """Shape (2, ..., 2): of missing and present, and of changed and unchanged."""

    @classmethod
    def of(cls, counts: Counts) -> _Parts:
        values = counts[..., : BINS + 1]
        pairs = np.empty((2, *counts.shape[:-1], 2), dtype=np.int64)
        pairs[0, ..., 0] = counts[..., BINS]
        pairs[0, ..., 1] = values.sum(axis=-1) - counts[..., BINS]
        pairs[1] = counts[..., CHANGED:]
        return cls(_shares(values), _shares(pairs))

    def indices(self, expected: _Parts) -> Floats:
        return np.concatenate([_index(self.values, expected.values)[None], _index(self.pairs, expected.pairs)])


@dataclass(frozen=True, slots=True)
class Spread:
    """What the newest rows say of each part and column, both of shape (3, columns)."""

    index: Floats
    limit: Floats
    """Past which a column is to be watched; infinite for one that was missing all through a window."""


class ColumnWatch:
    """Compares the newest rows of a stream with those of the minutes before.

    Rows of a market know much of each other, and a column that remembers minutes is spread otherwise in every half
    minute. So an index is judged by how far half minutes of the reference are from the rest of it: it says something
    where it is past 0.1, and past some times the farthest of these.

    The newest rows are no part of the reference; rows join it once none of the newest is among them.
    """

    def __init__(self, columns: int, config: DistributionConfig) -> None:
        self._config = config
        self._columns = columns
        self._chunk = np.empty((CHUNK, columns), dtype=np.float32)
        self._filled = 0
        """Rows of the chunk that are there."""
        self._chunks: deque[Rows] = deque(maxlen=config.window_rows // CHUNK)
        self._counts: deque[Counts] = deque()
        """Of each of the chunks, once there are edges."""
        self._total: Counts = np.zeros((columns, WIDTH), dtype=np.int64)
        """Their sum."""
        self._since = 0
        """Chunks since the last block was full."""
        self._joining: Rows | None = None
        self._blocks: deque[Rows] = deque(maxlen=config.reference_windows)
        self._spread: deque[Counts] = deque(maxlen=config.reference_windows)
        self._edges: Rows | None = None
        self._next_fit = config.min_windows
        """Blocks that join until edges are found anew."""
        self._limit = np.full((len(PARTS), columns), np.inf)
        self._expected: Counts = np.zeros((columns, WIDTH), dtype=np.int64)
        self._parts: _Parts | None = None
        """Of what is expected."""

    @property
    def reference_rows(self) -> int:
        """Return how many rows the reference rests on: 0 while there is none."""
        return 0 if self._edges is None else len(self._blocks) * self._config.window_rows

    @property
    def reference_digest(self) -> bytes:
        """Return the SHA-256 of the edges and of what lies between them."""
        edges = b"" if self._edges is None else self._edges.astype("<f4").tobytes()
        return hashlib.sha256(edges + self._expected.astype("<i8").tobytes()).digest()

    @property
    def reference(self) -> Rows:
        """Return the rows of the reference, shape (n, columns), oldest first."""
        return np.concatenate(self._blocks) if self._blocks else np.empty((0, self._columns), dtype=np.float32)

    def push(self, row: Rows, *, moved: bool) -> Spread | None:
        """Take the next row and return what the newest say, every tenth row once there is a reference.

        `moved`: whether the stream has moved within the last window; what is then about to join the reference does not.
        """
        self._chunk[self._filled] = row
        self._filled += 1
        if self._filled < CHUNK:
            return None
        self._filled = 0
        self._take(self._chunk.copy())
        self._since += 1
        if self._since == self._chunks.maxlen:
            self._since = 0
            self._close_block(join=not moved)
        if self._parts is None or len(self._chunks) < (self._chunks.maxlen or 0):
            return None
        index = _Parts.of(self._total).indices(self._parts)
        index[2, self._total[:, CHANGED] > 0] = 0.0  # what changes seldom stands still once it does not change at all
        return Spread(index=index, limit=self._limit)

    def means(self, column: int) -> tuple[float, float]:
        """Return the means of a column in the reference and in the newest rows; NaN where all is missing."""
        return _mean(self.reference[:, column]), _mean(np.concatenate([chunk[:, column] for chunk in self._chunks]))

    def _take(self, chunk: Rows) -> None:
        if self._edges is not None:
            if len(self._counts) == self._chunks.maxlen:
                self._total -= self._counts.popleft()
            self._counts.append(counted(chunk, self._edges))
            self._total += self._counts[-1]
        self._chunks.append(chunk)

    def _close_block(self, *, join: bool) -> None:
        """Let the block before the newest join, and keep the newest for the next time."""
        joining, self._joining = self._joining, np.concatenate(self._chunks)
        if joining is None or not join:
            return
        self._blocks.append(joining)
        self._next_fit -= 1
        if self._next_fit == 0:
            self._fit()
        elif self._edges is not None:
            self._spread.append(counted(joining, self._edges))
        if self._edges is not None:
            self._refer()

    def _fit(self) -> None:
        """Find the edges of the reference anew, and where all that is kept lies between them."""
        edges = quantile_edges(self.reference)
        self._edges = edges
        self._spread = deque((counted(block, edges) for block in self._blocks), maxlen=self._spread.maxlen)
        self._counts = deque(counted(chunk, edges) for chunk in self._chunks)
        self._total = np.sum(self._counts, axis=0)
        self._next_fit = len(self._blocks)  # as many again: few at first, later whenever the reference is another

    def _refer(self) -> None:
        """Take the reference as it now is."""
        spread = np.stack(self._spread)
        self._expected = spread.sum(axis=0)
        self._parts = _Parts.of(self._expected)
        noise = indices(spread, self._expected - spread).max(axis=1)
        always = (spread[:, :, BINS] < self._config.window_rows).all(axis=0)
        self._limit = np.where(always, np.maximum(self._config.watch_index, self._config.noise_factor * noise), np.inf)


def _mean(values: Rows) -> float:
    present = values[np.isfinite(values)].astype(np.float64)
    return float(present.mean()) if len(present) else math.nan
