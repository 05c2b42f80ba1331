"""What a model of order flow is fed: columns of `micro`, on one scale for all instruments.

A window does not say of which instrument it is. So there is one scale, of all that a model was trained on together: it
serves markets that the model has never seen as it was judged on them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from huracan.config import Config
from huracan.features.micro import MICRO

FILE = "order_flow.json"
"""In a bundle."""
LIMIT = 3.0
"""Scaled values end here on both sides: what is rarer than that was not there to learn from."""

Rows = NDArray[np.float32]
Moves = tuple[float, float, float]
"""Mean move of the mid over the horizon in the classes down, flat and up, bps."""


class View(Config):
    """How rows of `micro` are seen, and how far the mid went in each class where they were."""

    columns: tuple[str, ...] = Field(min_length=1)
    """Of `micro`, in the order in which a model is fed them."""
    centre: tuple[float, ...]
    """Of each column, in its unit."""
    spread: tuple[PositiveFloat, ...]
    """Of each column, in its unit: what becomes 1."""
    moves_bps: Moves
    """Mean move of the mid over the horizon in the classes down, flat and up of the training rows."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unknown = [name for name in self.columns if name not in MICRO.names]
        if unknown:
            raise ValueError(f"columns had {', '.join(unknown)}, which {MICRO.name} has not")
        if not len(self.columns) == len(self.centre) == len(self.spread):
            counts = f"{len(self.columns)}, {len(self.centre)} and {len(self.spread)}"
            raise ValueError(f"columns, centre and spread were {counts}: give one of each for every column")
        return self

    @cached_property
    def _scale(self) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        chosen = np.array([MICRO.names.index(name) for name in self.columns], dtype=np.intp)
        return chosen, np.array(self.centre), np.array(self.spread)

    def seen(self, rows: Rows) -> Rows:
        """Return rows of `micro`, shape (n, columns of micro), as (n, columns): in [-3, 3], NaN where missing."""
        scaled, missing = self._scaled(rows)
        np.copyto(scaled, np.nan, where=missing)
        return scaled.astype(np.float32)

    def windows(self, window: Rows) -> Rows | None:
        """Return a window of `micro`, shape (64, columns of micro), as what an engine takes, shape (1, columns, 64).

        Missing values are 0, the centre. None where all values are missing.
        """
        scaled, missing = self._scaled(window)
        if missing.all():
            return None
        np.copyto(scaled, 0.0, where=missing)
        return scaled.T[np.newaxis].astype(np.float32, order="C")

    def _scaled(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the columns of rows in [-3, 3], and which values are missing: those are anything."""
        chosen, centre, spread = self._scale
        with np.errstate(invalid="ignore"):  # of NaN that signals, in rows that came as bytes
            scaled = rows.take(chosen, axis=1).astype(np.float64)
            missing = ~np.isfinite(scaled)
            scaled -= centre
            scaled /= spread
            np.maximum(scaled, -LIMIT, out=scaled)
            np.minimum(scaled, LIMIT, out=scaled)
        return scaled, missing
