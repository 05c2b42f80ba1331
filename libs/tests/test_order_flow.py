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


def test_a_window_is_its_rows_as_seen_to_the_bit_whatever_comes_as_bytes() -> None:
    names = tuple(MICRO.names[::5])
    view = View(columns=names, centre=(0.1,) * len(names), spread=(0.7,) * len(names), moves_bps=VIEW.moves_bps)
    chosen = [MICRO.names.index(name) for name in names]
    chance = np.random.default_rng(1)
    for _ in range(50):
        rows = chance.integers(0, 2**32, size=(64, MICRO.columns), dtype=np.uint32).view(np.float32)
        rows[::2] = chance.normal(size=rows[::2].shape)
        with np.errstate(invalid="ignore"):
            values = rows[:, chosen].astype(np.float64)
            scaled = np.clip((values - 0.1) / 0.7, -LIMIT, LIMIT)
        wanted = np.where(np.isfinite(values), scaled, np.nan).astype(np.float32)
        assert view.seen(rows).tobytes() == wanted.tobytes()
        windows = view.windows(rows)
        assert windows is not None
        assert windows[0].T.tobytes() == np.where(np.isnan(wanted), np.float32(0), wanted).tobytes()


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
