"""Whether columns are still spread as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from huracan_regime.config import DistributionConfig
from huracan_regime.distribution import ColumnWatch, Rows, Spread, counted, indices, quantile_edges, stability_index

CONFIG = DistributionConfig()
EVENLY = np.full((1, 10), 100)
"""A tenth in each bin."""
REFERENCE = CONFIG.window_rows * (CONFIG.min_windows + 2)
"""Rows until there is a reference, and rows apart from it."""
FLOATS = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))


def _noise(rows: int, columns: int, *, seed: int = 1) -> Rows:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def _remembers(rows: int, *, seed: int = 1, kept: float = 0.999) -> Rows:
    """Return a column that remembers 1,000 rows, shape (rows, 1)."""
    shocks = np.random.default_rng(seed).normal(size=rows)
    values = np.zeros(rows)
    for at in range(1, rows):
        values[at] = kept * values[at - 1] + shocks[at]
    return values[:, None].astype(np.float32)


def _spreads(rows: Rows) -> list[Spread]:
    """Return what is said of rows, while those that have moved do not join the reference."""
    watch, found = ColumnWatch(rows.shape[1], CONFIG), list[Spread]()
    for row in rows:
        moved = any((each.index > each.limit).any() for each in found[-CONFIG.window_rows // 10 :])
        said = watch.push(row, moved=moved)
        if said is not None:
            found.append(said)
    return found


# The index.


def test_the_index_has_the_value_of_its_definition() -> None:
    actual = EVENLY.copy()
    actual[0, :2] = 50, 150
    assert stability_index(actual, EVENLY) == pytest.approx([0.05 * np.log(2) + 0.05 * np.log(1.5)])


def test_a_share_of_nothing_counts_as_a_ten_thousandth() -> None:
    actual = np.zeros_like(EVENLY)
    actual[0, 3] = 1000
    assert stability_index(actual, EVENLY) == pytest.approx([0.9 * np.log(10) + 9 * 0.0999 * np.log(1000)], rel=1e-9)


@given(arrays(np.float32, (60, 3), elements=FLOATS))
def test_what_is_spread_alike_has_index_0_in_any_order(rows: Rows) -> None:
    edges = quantile_edges(rows)
    there = counted(rows, edges)
    assert indices(counted(rows[::-1], edges), there) == pytest.approx(0.0)
    assert there[:, :11].sum(axis=1).tolist() == [60, 60, 60]
    assert there[:, 10].tolist() == np.isnan(rows).sum(axis=0).tolist()
    assert there[:, 11:].sum(axis=1).tolist() == [54, 54, 54]


@given(arrays(np.float32, (60, 2), elements=FLOATS), arrays(np.float32, (40, 2), elements=FLOATS))
def test_an_index_is_finite_never_below_0_and_the_same_both_ways(one: Rows, other: Rows) -> None:
    edges = quantile_edges(one)
    there, here = counted(one, edges), counted(other, edges)
    found = indices(here, there)
    assert found.shape == (3, 2)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert indices(there, here) == pytest.approx(found)


def test_edges_are_deciles_and_what_is_missing_has_a_bin_of_its_own() -> None:
    rows = np.arange(1, 101, dtype=np.float32)[::-1, None].copy()
    edges = quantile_edges(np.concatenate([rows, np.full((50, 1), np.nan, np.float32)]))
    assert edges[:, 0].tolist() == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    with_holes = np.concatenate([rows, np.full((10, 1), np.nan, np.float32)])
    assert counted(with_holes, edges)[:, :11].tolist() == [[10] * 10 + [10]]


def test_a_value_that_is_that_of_the_row_before_is_counted_within_its_chunk() -> None:
    rows = np.repeat(np.array([1, 2, np.nan], np.float32), 10)[:, None]
    assert counted(rows, quantile_edges(rows))[0, 11:].tolist() == [9, 18]


def test_a_column_that_was_never_there_has_no_edges() -> None:
    assert np.isnan(quantile_edges(np.full((20, 1), np.nan, np.float32))).all()


# Against the minutes before.


def test_a_reference_that_is_never_long_enough_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_windows was 8"):
        DistributionConfig(min_windows=8, reference_windows=4)


def test_nothing_is_said_before_there_is_a_reference_apart_from_the_newest() -> None:
    watch = ColumnWatch(2, CONFIG)
    said = [watch.push(row, moved=False) is not None for row in _noise(REFERENCE, 2)]
    first = said.index(True)
    assert first == CONFIG.window_rows * (CONFIG.min_windows + 1) - 1
    assert watch.reference_rows == CONFIG.window_rows * (CONFIG.min_windows + 1)
    assert sum(said[first:]) == len(said[first:]) // 10 + 1


def test_noise_is_within_its_limit_all_the_time() -> None:
    for found in _spreads(_noise(12_000, 8)):
        assert (found.index < found.limit).all()


def test_a_column_that_remembers_minutes_is_judged_by_its_own_wandering() -> None:
    found = _spreads(_remembers(12_000))
    past_the_textbook = [each for each in found if each.index[0, 0] > CONFIG.watch_index]
    assert len(past_the_textbook) > len(found) / 2
    alarms = [each for each in found if each.index[0, 0] > each.limit[0, 0]]
    assert len(alarms) < len(found) / 20


@pytest.mark.parametrize("part", [1, 2])
def test_a_column_that_wanders_too_far_to_be_judged_is_gone_or_stands_still_all_the_same(part: int) -> None:
    rows = _remembers(REFERENCE + 600)
    rows[REFERENCE:] = np.nan if part == 1 else rows[REFERENCE]
    last = _spreads(rows)[-1]
    assert last.index[part, 0] > last.limit[part, 0] * CONFIG.act_ratio


@pytest.mark.parametrize(
    "changed",
    [
        lambda rows: np.repeat(rows[:1], len(rows), axis=0),
        lambda rows: rows * np.float32(100),
        lambda rows: rows + np.float32(2),
        lambda rows: np.full_like(rows, np.nan),
        lambda rows: np.full_like(rows, np.inf),
    ],
    ids=["frozen", "other units", "shifted", "gone", "infinite"],
)
def test_what_changes_is_past_its_limit_within_a_minute(changed: object) -> None:
    rows = _noise(REFERENCE + 600, 3)
    assert callable(changed)
    rows[REFERENCE:, 1:2] = changed(rows[REFERENCE:, 1:2])
    last = _spreads(rows)[-1]
    assert (last.index > last.limit).any(axis=0).tolist() == [False, True, False]


def test_a_column_that_was_not_always_there_is_not_judged() -> None:
    rows = _noise(REFERENCE + 600, 2)
    rows[:600, 0] = np.nan
    rows[REFERENCE:, 0] = np.nan
    last = _spreads(rows)[-1]
    assert np.isinf(last.limit[:, 0]).all()
    assert np.isfinite(last.limit[:, 1]).all()


def test_what_has_moved_does_not_join_the_reference_and_what_has_not_does() -> None:
    rows = _noise(REFERENCE + 3_000, 1)
    rows[REFERENCE:] += 3
    for moved, rows_of_reference in ((True, CONFIG.min_windows + 1), (False, CONFIG.min_windows + 11)):
        watch = ColumnWatch(1, CONFIG)
        for at, row in enumerate(rows):
            watch.push(row, moved=moved and at >= REFERENCE)
        assert watch.reference_rows == CONFIG.window_rows * rows_of_reference


def test_the_oldest_rows_leave_a_reference_that_is_full_and_its_digest_says_so() -> None:
    watch, digests = ColumnWatch(1, CONFIG), set()
    for row in _noise(CONFIG.window_rows * (CONFIG.reference_windows + 5), 1):
        watch.push(row, moved=False)
        digests.add(watch.reference_digest)
    assert watch.reference_rows == CONFIG.window_rows * CONFIG.reference_windows
    references = CONFIG.reference_windows + 5 - CONFIG.min_windows
    assert len(digests) == 1 + references


def test_means_are_of_what_is_there() -> None:
    rows = np.ones((REFERENCE, 2), np.float32)
    rows[::2, 0] = np.nan
    rows[-CONFIG.window_rows :, 1] = np.nan
    watch = ColumnWatch(2, CONFIG)
    for row in rows:
        watch.push(row, moved=False)
    assert watch.means(0) == (1.0, 1.0)
    before, after = watch.means(1)
    assert before == 1.0
    assert np.isnan(after)
