"""No label of a training row meets one that it is judged by; time goes forward; the final test is apart."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.errors import BadInput
from huracan_training.bars import INTERVAL_NS, asset
from huracan_training.splits import (
    combinatorial_folds,
    embargo_of,
    ends,
    paths,
    purged_folds,
    walk_forward,
    within,
)

from .market import synthetic_bars

BARS = synthetic_bars(900)
ASSETS = (asset(BARS), asset(synthetic_bars(700, seed=2, asset="gap").take(np.arange(700) % 150 != 140)))
CLOSES_NS = np.concatenate([each.series.close_ns for each in ASSETS])
FIRST_NS, LAST_NS = int(CLOSES_NS.min()), int(CLOSES_NS.max())


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 10), st.floats(0.1, 0.4))
def test_no_label_of_a_training_row_meets_one_of_the_test(count: int, horizon: int, embargo: int, share: float) -> None:
    plan = walk_forward(CLOSES_NS, folds=count, embargo_ns=embargo * INTERVAL_NS, valid_share=share, final_share=share)
    for fold in (*plan.folds, plan.final):
        for one in ASSETS:
            last_ns = [ends(one, horizon)[within(one, horizon, span)] for span in (fold.train, fold.valid)]
            for other in ASSETS:
                begun = [other.series.close_ns[within(other, horizon, span)] for span in (fold.valid, fold.test)]
                for before, after in ((last_ns[0], begun[0]), (last_ns[0], begun[1]), (last_ns[1], begun[1])):
                    if len(before) and len(after):
                        assert before.max() + embargo * INTERVAL_NS <= after.min()


def test_folds_walk_forward_over_all_that_was_before() -> None:
    plan = walk_forward(CLOSES_NS, folds=5)
    assert len(plan.folds) == 5
    assert {fold.train.from_ns for fold in (*plan.folds, plan.final)} == {FIRST_NS}
    tests = [fold.test for fold in (*plan.folds, plan.final)]
    assert [each.to_ns for each in tests[:-1]] == [each.from_ns for each in tests[1:]]
    assert tests[-1].to_ns == LAST_NS
    counts = [int(((each.from_ns <= CLOSES_NS) & (each.to_ns > CLOSES_NS)).sum()) for each in tests]
    assert counts == pytest.approx([0.85 * len(CLOSES_NS) / 6] * 5 + [0.15 * len(CLOSES_NS)], abs=3)
    sizes = [fold.valid.to_ns - FIRST_NS for fold in plan.folds]
    assert sizes == sorted(sizes)


def test_the_final_test_is_in_no_fold() -> None:
    plan = walk_forward(CLOSES_NS)
    assert max(fold.test.to_ns for fold in plan.folds) <= plan.final.test.from_ns


def test_an_asset_that_goes_on_for_longer_is_not_all_that_the_final_test_has() -> None:
    later = asset(synthetic_bars(200, seed=4, start_ns=LAST_NS))
    closes = np.concatenate([CLOSES_NS, later.series.close_ns])
    test = walk_forward(closes).final.test
    assert within(ASSETS[0], 1, test).sum() > 0
    assert within(later, 1, test).sum() > 0


def test_a_longer_history_of_one_asset_moves_no_row_across_an_edge() -> None:
    plan = walk_forward(CLOSES_NS)
    cut = asset(BARS.take(np.arange(600)))
    for fold in plan.folds[:2]:
        np.testing.assert_array_equal(within(cut, 16, fold.train)[:500], within(ASSETS[0], 16, fold.train)[:500])


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"folds": 0}, "folds was 0"),
        ({"valid_share": 1.0}, "valid_share 1.0"),
        ({"final_share": 0.0}, "final_share 0.0"),
        ({"embargo_ns": 900 * INTERVAL_NS}, "has nothing to train on, or to judge by"),
    ],
)
def test_settings_that_leave_nothing_are_refused(settings_: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        walk_forward(CLOSES_NS, **settings_)  # type: ignore[arg-type]


@settings(max_examples=40)
@given(st.integers(2, 8), st.data(), st.integers(1, 30), st.integers(0, 30))
def test_cross_validation_is_purged_and_embargoed(groups: int, data: st.DataObject, horizon: int, embargo: int) -> None:
    tested = data.draw(st.integers(1, groups - 1))
    starts = np.sort(np.random.default_rng(horizon).integers(0, 3_000, 400)).astype(np.int64)
    stops = starts + horizon
    splits = combinatorial_folds(starts, stops, groups=groups, tested=tested, embargo_ns=embargo)
    assert len(splits) == comb(groups, tested)
    for split in splits:
        assert not (split.train & split.test).any()
        for start, stop in zip(starts[split.train], stops[split.train], strict=True):
            meets = (starts[split.test] < stop) & (stops[split.test] + embargo > start)
            assert not meets.any()
    times_tested = np.sum([split.test for split in splits], axis=0)
    assert (times_tested == comb(groups - 1, tested - 1)).all()


def test_each_row_is_tested_once_in_a_purged_k_fold() -> None:
    starts = np.arange(1_000, dtype=np.int64)
    splits = purged_folds(starts, starts + 5, groups=10, embargo_ns=embargo_of(starts))
    assert np.sum([split.test for split in splits], axis=0).tolist() == [1] * 1_000
    middle = splits[4]
    assert np.flatnonzero(~middle.train).tolist() == list(range(396, 499 + 5 + 9))


def test_the_paths_of_combinatorial_cross_validation_are_counted() -> None:
    """Lopez de Prado 2018, chapter 12: 6 groups of which 2 are tested make 15 splits and 5 paths."""
    assert paths(6, 2) == 5
    assert paths(10, 8) == 36
    starts = np.arange(60, dtype=np.int64)
    assert len(combinatorial_folds(starts, starts + 1, groups=6, tested=2)) == 15


@pytest.mark.parametrize(("groups", "tested", "rows"), [(5, 5, 100), (5, 0, 100), (5, 1, 4)])
def test_groups_that_leave_nothing_are_refused(groups: int, tested: int, rows: int) -> None:
    starts = np.arange(rows, dtype=np.int64)
    with pytest.raises(BadInput, match=f"groups was {groups}, tested {tested}, of {rows} rows"):
        combinatorial_folds(starts, starts + 1, groups=groups, tested=tested)
