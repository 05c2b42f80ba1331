"""Simple experts: a weighted sum of recent features, and the odds it gives for down, flat and up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from huracan.config import Config
from huracan.contracts.features import WINDOW_ROWS
from huracan.errors import BadInput
from huracan.expert.port import Forecast
from huracan.ids import digest_of

_SCORE_LIMIT = 50.0


class Term(Config):
    """One feature in a score: weighted over the rows of the window, limited, multiplied by its weight."""

    column: str
    """Name of the feature."""
    kernel: Literal["recent", "displacement"] = "recent"
    """`recent`: mean with weights that halve every `half_life_steps` into the past, sum 1. `displacement`: of
    a column of changes, how far their running sum ends from its mean over the window."""
    half_life_steps: float = Field(default=1.0, ge=0.1, le=WINDOW_ROWS)
    """Steps of 100 ms for `micro`. Below 0.5 only the last step counts; `displacement` does not use it."""
    limit: float = Field(default=1.0, gt=0)
    """A single value counts at most this, either way, in the feature's unit: one outlier must not decide."""
    weight: float = 1.0
    """What one unit of the feature adds to the score, in log odds; above 5 it saturates the odds alone."""


def kernel(term: Term) -> NDArray[np.float64]:
    """Return the weights of the rows of a window, shape (64,), oldest first."""
    rows = np.arange(WINDOW_ROWS, dtype=np.float64)
    if term.kernel == "displacement":
        return rows / WINDOW_ROWS
    weights: NDArray[np.float64] = 0.5 ** ((WINDOW_ROWS - 1 - rows) / term.half_life_steps)
    normed: NDArray[np.float64] = weights / weights.sum()
    return normed


class Score:
    """The contributions of terms to a score. A missing value contributes 0.

    Raises BadInput when a term names a column that the feature set does not have.
    """

    def __init__(self, names: Sequence[str], terms: Sequence[Term]) -> None:
        unknown = sorted({term.column for term in terms} - set(names))
        if unknown:
            raise BadInput(f"term column was {unknown[0]!r}: the feature set has no such column")
        self._columns = np.array([names.index(term.column) for term in terms], dtype=np.intp)
        self._limits = np.array([[term.limit] for term in terms], dtype=np.float32)
        self._weights = np.stack([kernel(term) * term.weight for term in terms])

    def contributions(self, window: NDArray[np.float32]) -> list[float] | None:
        """Return what each term adds to the score of a window, shape (64, columns); None when all is
        missing."""
        values = window.T.take(self._columns, axis=0)
        missing = np.isnan(values)
        if missing.all():
            return None
        values[missing] = 0.0
        np.maximum(values, -self._limits, out=values)
        np.minimum(values, self._limits, out=values)
        added: list[float] = (values * self._weights).sum(axis=1).tolist()
        return added


def forecast(score: float, *, flat_threshold: float, move_bps: float) -> Forecast:
    """Return the ordered logit of a score: P(up) = 1 / (1 + e^(threshold - score)), P(down) that of -score.

    `flat_threshold` >= 0 in log odds, the larger the flatter; `move_bps` is the mean size of a move that is
    not flat.
    """
    limited = min(max(score, -_SCORE_LIMIT), _SCORE_LIMIT)
    p_up = 1.0 / (1.0 + math.exp(flat_threshold - limited))
    p_down = 1.0 / (1.0 + math.exp(flat_threshold + limited))
    return Forecast(
        p_down=p_down,
        p_flat=max(0.0, 1.0 - (p_up + p_down)),
        p_up=p_up,
        expected_move_bps=(p_up - p_down) * move_bps,
    )


def engine_digest(method: str, config: Config, *parts: bytes) -> bytes:
    """Return the SHA-256 of all that shapes an answer: method and its version, config, fitted parameters."""
    return digest_of(method, config.digest(), *parts)
