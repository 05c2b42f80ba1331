"""The view of order flow: columns of `micro` on one scale, bounded, with what is missing told."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from huracan.features.micro import MICRO
from huracan.features.order_flow import LIMIT, View

VIEW = View(
    columns=("trade_intensity", "queue_imbalance"), centre=(20.0, 0.0), spread=(10.0, 0.5), moves_bps=(-1.0, 0.0, 1.0)
)


def _rows(intensity: float, imbalance: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.full((64, MICRO.columns), 7, dtype=np.float32)
    rows[:, MICRO.names.index("trade_intensity")] = intensity
    rows[:, MICRO.names.index("queue_imbalance")] = imbalance
    return rows


def test_columns_are_scaled_in_the_order_of_the_view_and_end_somewhere() -> None:
    assert VIEW.seen(_rows(30, -0.25))[0].tolist() == [1.0, -0.5]
    assert VIEW.seen(_rows(1e30, -1e30))[0].tolist() == [LIMIT, -LIMIT]
    windows = VIEW.windows(_rows(30, -0.25))
    assert windows is not None
    assert (windows.shape, windows.flags.c_contiguous) == ((1, 2, 64), True)
    assert windows.dtype == np.float32
    assert windows[0, :, -1].tolist() == [1.0, -0.5]


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_what_is_missing_is_the_centre_and_with_all_missing_there_is_no_window(missing: float) -> None:
    assert np.isnan(VIEW.seen(_rows(missing, 0.5))[:, 0]).all()
    windows = VIEW.windows(_rows(missing, 0.5))
    assert windows is not None
    assert windows[0, :, -1].tolist() == [0.0, 1.0]
    assert VIEW.windows(_rows(missing, missing)) is None


def test_rows_are_left_as_they_were() -> None:
    rows = _rows(np.nan, 0.5)
    before = rows.tobytes()
    VIEW.windows(rows)
    assert rows.tobytes() == before


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"columns": ("queue_imbalance", "colour")}, "columns had colour, which micro has not"),
        ({"centre": (0.0,)}, "columns, centre and spread were 2, 1 and 2"),
        ({"spread": (1.0, 0.0)}, "greater than 0"),
        ({"columns": ()}, "at least 1"),
        ({"moves_bps": (1.0, 2.0)}, "moves_bps"),
    ],
)
def test_a_view_that_does_not_fit_is_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        View.model_validate(VIEW.model_dump() | wrong)
