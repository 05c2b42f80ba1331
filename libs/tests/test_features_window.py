"""The window buffer: 64 consecutive rows, oldest first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.features.bar import BAR
from huracan.features.window import WindowBuffer


def row(value: float) -> NDArray[np.float32]:
    return np.full(BAR.columns, value, dtype=np.float32)


def test_unfilled_rows_come_first_and_are_missing() -> None:
    window = WindowBuffer(BAR)
    window.push(7, row(1), 10, 12)
    window.push(8, row(2), 13, 13)
    matrix = window.matrix()
    assert matrix.shape == (64, BAR.columns)
    assert matrix.dtype == np.float32
    assert np.isnan(matrix[:62]).all()
    np.testing.assert_array_equal(matrix[62:], [row(1), row(2)])
    assert window.valid_rows == 2
    assert window.first_step == 7
    assert (window.first_ingest_seq, window.last_ingest_seq) == (10, 13)


def test_an_empty_window_has_no_rows_and_no_frames() -> None:
    window = WindowBuffer(BAR)
    assert np.isnan(window.matrix()).all()
    assert (window.valid_rows, window.first_step) == (0, 0)
    assert (window.first_ingest_seq, window.last_ingest_seq) == (0, 0)


def test_a_step_that_does_not_follow_starts_a_new_run() -> None:
    for next_step in (9, 7, 3):
        window = WindowBuffer(BAR, rows=4)
        window.push(6, row(1), 1, 1)
        window.push(7, row(1), 2, 2)
        window.push(next_step, row(5), 3, 4)
        assert window.valid_rows == 1
        assert window.first_step == next_step
        assert window.first_ingest_seq == 3
        assert np.isnan(window.matrix()[:3]).all()


def test_steps_without_frames_name_no_frame() -> None:
    window = WindowBuffer(BAR, rows=3)
    for step, frames in enumerate([(0, 0), (5, 6), (0, 0)]):
        window.push(step, row(step), *frames)
    assert (window.first_ingest_seq, window.last_ingest_seq) == (5, 6)


def test_a_matrix_in_hand_does_not_change_with_later_rows() -> None:
    window = WindowBuffer(BAR, rows=2)
    window.push(1, row(1), 1, 1)
    kept = window.matrix()
    before = kept.copy()
    for step in range(2, 20):
        window.push(step, row(step), step, step)
    np.testing.assert_array_equal(kept, before)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_the_window_is_the_tail_of_the_unbroken_run(breaks: list[bool], rows: int) -> None:
    window = WindowBuffer(BAR, rows=rows)
    run: list[int] = []
    step = 100
    for broken in breaks:
        step += 2 if broken else 1
        run = [step] if broken or not run else [*run, step]
        window.push(step, row(step), step * 10, step * 10 + 9)
        tail = run[-rows:]
        expected = [np.nan] * (rows - len(tail)) + [float(each) for each in tail]
        np.testing.assert_array_equal(window.matrix()[:, 0], np.array(expected, dtype=np.float32))
        assert window.valid_rows == len(tail)
        assert window.first_step == run[0]
        assert (window.first_ingest_seq, window.last_ingest_seq) == (tail[0] * 10, step * 10 + 9)


def test_a_long_run_keeps_its_last_rows() -> None:
    window = WindowBuffer(BAR)
    for step in range(1000):
        window.push(step, row(step), 0, 0)
        if step >= 63:
            np.testing.assert_array_equal(window.matrix()[:, 0], np.arange(step - 63, step + 1, dtype=np.float32))
    assert window.first_step == 0
