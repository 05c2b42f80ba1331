"""Feature rows and windows: types, constructors and array views of `huracan.features.v1`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.huracan.context.v1.context_pb2 import ContextRef
from huracan.contracts.huracan.features.v1.features_pb2 import FeatureRow, FeatureWindow
from huracan.contracts.huracan.market.v1.market_pb2 import Bar, InstrumentDefinition

__all__ = ["WINDOW_ROWS", "FeatureRow", "FeatureWindow", "feature_row", "feature_window", "window_matrix"]

WINDOW_ROWS = 64
"""Steps in a window."""

Matrix = NDArray[np.float32]


def feature_row(
    *,
    instrument: InstrumentDefinition,
    epoch: int,
    feature_set: str,
    feature_set_digest: bytes,
    step: int,
    close_ns: int,
    first_ingest_seq: int,
    last_ingest_seq: int,
    values: Matrix,
) -> FeatureRow:
    """Return the features of one step; `values` has shape (columns,)."""
    return FeatureRow(
        instrument=instrument.id,
        shard=instrument.shard,
        epoch=epoch,
        feature_set=feature_set,
        feature_set_digest=feature_set_digest,
        step=step,
        close_ns=close_ns,
        first_ingest_seq=first_ingest_seq,
        last_ingest_seq=last_ingest_seq,
        values=values.astype("<f4").tobytes(),
    )


def feature_window(
    *,
    instrument: InstrumentDefinition,
    epoch: int,
    feature_set: str,
    feature_set_digest: bytes,
    interval_ns: int,
    step: int,
    first_step: int,
    close_ns: int,
    values: Matrix,
    valid_rows: int,
    first_ingest_seq: int,
    last_ingest_seq: int,
    last_frame_ns: int,
    book_synced: bool,
    best_bid: int = 0,
    best_ask: int = 0,
    expected_contexts: Sequence[ContextRef] = (),
    bar: Bar | None = None,
    frames_digest: bytes = b"",
) -> FeatureWindow:
    """Return a window; `values` has shape (64, columns), NaN where a value is missing."""
    rows, columns = values.shape
    return FeatureWindow(
        instrument=instrument,
        epoch=epoch,
        feature_set=feature_set,
        feature_set_digest=feature_set_digest,
        interval_ns=interval_ns,
        step=step,
        first_step=first_step,
        close_ns=close_ns,
        rows=rows,
        columns=columns,
        valid_rows=valid_rows,
        values=values.astype("<f4").tobytes(),
        missing=np.packbits(np.isnan(values)).tobytes(),
        first_ingest_seq=first_ingest_seq,
        last_ingest_seq=last_ingest_seq,
        last_frame_ns=last_frame_ns,
        book_synced=book_synced,
        best_bid=best_bid,
        best_ask=best_ask,
        expected_contexts=expected_contexts,
        bar=bar,
        frames_digest=frames_digest,
    )


def window_matrix(window: FeatureWindow) -> Matrix:
    """Return the values of a window, read-only, shape (rows, columns); raise ValueError when they do not fit."""
    return np.frombuffer(window.values, dtype="<f4").reshape(window.rows, window.columns)
