"""Features on one scale, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan.features.outlook import LIMIT
from huracan_training.samples import Rows, Series
from huracan_training.scaling import Method, fit_scaler, load_scaler


def _series(rows: Rows, name: str = "a") -> Series:
    return Series(
        asset=name,
        interval_ns=1,
        close_ns=np.arange(len(rows), dtype=np.int64),
        log_return=np.zeros(len(rows)),
        rows=rows,
    )


def _rows(seed: int = 0, centre: float = 3.0) -> Rows:
    return (centre + 2.0 * np.random.default_rng(seed).standard_normal((500, 4))).astype(np.float32)


def _all(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(rows), dtype=np.bool_)


MEASURED = (Method.ROBUST, Method.STANDARD)


@pytest.mark.parametrize("method", MEASURED)
def test_each_asset_is_scaled_by_its_own_training_rows(method: Method) -> None:
    ours, theirs = _rows(), _rows(1, centre=-40.0)
    scaler = fit_scaler([(_series(ours), _all(ours)), (_series(theirs, "b"), _all(theirs))], method)
    for rows, name in ((ours, "a"), (theirs, "b")):
        scaled, missing = scaler.transform(rows, name)
        assert scaled.dtype == np.float32
        assert not missing.any()
        np.testing.assert_allclose(np.median(scaled, axis=0), 0.0, atol=0.1)
        np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=0.15)


def test_rows_that_are_on_one_scale_already_stay_as_they_are() -> None:
    rows = _rows()
    rows[3, 1], rows[4, 2] = np.nan, 1e30
    scaled, missing = fit_scaler([(_series(rows), _all(rows))], Method.AS_IS).transform(rows, "a")
    assert (scaled[3, 1], scaled[4, 2], missing.sum()) == (0, LIMIT, 1)
    np.testing.assert_array_equal(scaled[5:], rows[5:])


def test_an_asset_that_was_not_trained_on_is_scaled_by_all_together() -> None:
    ours, theirs = _rows(), _rows(1, centre=-40.0)
    scaler = fit_scaler([(_series(ours), _all(ours)), (_series(theirs, "b"), _all(theirs))], Method.STANDARD)
    pooled = np.concatenate([ours, theirs])
    expected = (ours - pooled.mean(axis=0)) / pooled.std(axis=0)
    np.testing.assert_allclose(scaler.transform(ours, "c")[0], expected, atol=1e-4)


def test_what_is_missing_becomes_the_centre_and_is_told() -> None:
    rows = _rows()
    rows[3, 1] = np.nan
    scaler = fit_scaler([(_series(rows), _all(rows))])
    windows = rows[:128].reshape(2, 64, 4)
    scaled, missing = scaler.transform(windows, "a")
    assert scaled.shape == windows.shape
    assert (scaled[0, 3, 1], np.argwhere(missing).tolist()) == (0.0, [[0, 3, 1]])
    assert np.isfinite(scaled).all()


def test_columns_that_do_not_differ_or_are_never_there_stay_finite() -> None:
    rows = _rows()
    rows[:, 0], rows[:, 1] = 7.0, np.nan
    rows[:490, 2] = 5.0
    for method in MEASURED:
        scaled, _ = fit_scaler([(_series(rows), _all(rows))], method).transform(rows, "a")
        assert np.isfinite(scaled).all()
        assert not scaled[:, :2].any()


def test_one_bad_print_is_bounded_and_moves_no_robust_scale() -> None:
    rows = _rows()
    bad = rows.copy()
    bad[7] = 1e30
    scaler, disturbed = (fit_scaler([(_series(each), _all(each))]) for each in (rows, bad))
    assert scaler.transform(bad, "a")[0][7].tolist() == [LIMIT] * 4
    np.testing.assert_allclose(disturbed.scales["a"].spread, scaler.scales["a"].spread, rtol=0.02)


def test_rows_that_the_mask_leaves_out_do_not_count() -> None:
    rows = _rows()
    mask = np.arange(500) < 300
    other = rows.copy()
    other[300:] = 99.0
    assert fit_scaler([(_series(rows), mask)]).digest() == fit_scaler([(_series(other), mask)]).digest()


def test_a_scaler_comes_back_from_its_file(tmp_path: Path) -> None:
    scaler = fit_scaler([(_series(_rows()), _all(_rows()))])
    scaler.save(tmp_path / "scaler.json")
    assert load_scaler(tmp_path / "scaler.json") == scaler
    assert load_scaler(tmp_path / "scaler.json").digest() == scaler.digest()
    (tmp_path / "scaler.json").write_text('{"method": "robust"}')
    with pytest.raises(BadInput, match="is no scaler"):
        load_scaler(tmp_path / "scaler.json")
    with pytest.raises(BadInput, match="is no scaler"):
        load_scaler(tmp_path / "none.json")


def test_rows_that_do_not_fit_are_refused() -> None:
    rows = _rows()
    scaler = fit_scaler([(_series(rows), _all(rows))])
    with pytest.raises(BadInput, match="rows had 3 columns; the scaler was fitted on 4"):
        scaler.transform(rows[:, :3], "a")
    both = fit_scaler([(_series(rows), _all(rows)), (_series(rows + 5, "later"), ~_all(rows))])
    assert sorted(both.scales) == ["*", "a"]
    with pytest.raises(BadInput, match="a: no row to fit a scaler on"):
        fit_scaler([(_series(rows), ~_all(rows))])
    with pytest.raises(BadInput, match=r"2 assets had \[3, 4\] columns"):
        fit_scaler([(_series(rows), _all(rows)), (_series(rows[:, :3], "b"), _all(rows))])
