"""Features on one scale: centre and spread of each column of each asset, fitted on training rows alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from huracan.config import Config
from huracan.errors import BadInput
from huracan.features.outlook import LIMIT, POOLED, Scale
from huracan_training.bars import Mask
from huracan_training.samples import Floats, Rows, Series

_MAD_OF_NORMAL = 1.4826


class Method(StrEnum):
    """How centre and spread are measured."""

    ROBUST = "robust"
    """Median and 1.4826 MAD: what few rows say does not count."""
    STANDARD = "standard"
    """Mean and standard deviation."""
    AS_IS = "as_is"
    """0 and 1: of rows that are on one scale already."""


class Scaler(Config):
    """Scales by asset; POOLED is of all together, for an asset that was not trained on."""

    method: Method
    columns: int
    scales: dict[str, Scale]

    def transform(self, rows: Rows, asset: str) -> tuple[Rows, Mask]:
        """Return scaled rows, in [-10, 10], and which values were missing: those are 0, the centre.

        Rows have the shape (…, columns), single rows and windows alike. Raises BadInput for another number of columns.
        """
        if rows.shape[-1] != self.columns:
            raise BadInput(f"rows had {rows.shape[-1]} columns; the scaler was fitted on {self.columns}")
        scale = self.scales.get(asset, self.scales[POOLED])
        missing = ~np.isfinite(rows)
        scaled = (rows.astype(np.float64) - np.array(scale.centre)) / np.array(scale.spread)
        scaled = np.where(missing, 0.0, np.clip(scaled, -LIMIT, LIMIT))
        return scaled.astype(np.float32), missing

    def scaled(self, series: Series) -> Rows:
        """Return the rows of a series scaled, same shape, NaN where missing."""
        rows, missing = self.transform(series.rows, series.asset)
        rows[missing] = np.nan
        return rows

    def save(self, path: Path) -> None:
        """Write the scaler as JSON."""
        path.write_text(self.canonical_json())


def fit_scaler(train: Sequence[tuple[Series, Mask]], method: Method = Method.ROBUST) -> Scaler:
    """Return the scales of the rows that each asset's mask, shape (n,), lets through; missing values do not count.

    An asset with none of its own is scaled as one that is not there. Raises BadInput when no asset has any, or they
    have different columns.
    """
    columns = {series.rows.shape[1] for series, _ in train}
    if len(columns) != 1:
        raise BadInput(f"{len(train)} assets had {sorted(columns)} columns: fit a scaler on rows of one feature set")
    rows = {series.asset: series.rows[mask] for series, mask in train if mask.any()}
    if not rows:
        raise BadInput(f"{', '.join(series.asset for series, _ in train)}: no row to fit a scaler on")
    pooled = np.concatenate(list(rows.values()))
    return Scaler(
        method=method,
        columns=columns.pop(),
        scales={name: scale_of(chosen, method) for name, chosen in {**rows, POOLED: pooled}.items()},
    )


def load_scaler(path: Path) -> Scaler:
    """Return a scaler that `save` wrote; raise BadInput for a file that is none."""
    try:
        return Scaler.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError, ValidationError) as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(f"{path} is no scaler: {first_line}; fit it again") from None


def scale_of(rows: Rows | Floats, method: Method) -> Scale:
    """Return centre and spread of each column of rows, shape (n, columns); missing values do not count."""
    return Scale(**dict(zip(("centre", "spread"), _told(rows.astype(np.float64), method), strict=True)))


def _told(rows: Floats, method: Method) -> tuple[tuple[float, ...], ...]:
    if method is Method.AS_IS:
        return (0.0,) * rows.shape[1], (1.0,) * rows.shape[1]
    centres, spreads = [], []
    for column in rows.T:
        values = column[np.isfinite(column)]
        if not len(values):
            values = np.zeros(1)
        centre, spread = float(values.mean()), float(values.std())
        if method is Method.ROBUST:
            centre = float(np.median(values))
            spread = _MAD_OF_NORMAL * float(np.median(np.abs(values - centre))) or spread
        centres.append(centre)
        spreads.append(spread or 1.0)
    return tuple(centres), tuple(spreads)
