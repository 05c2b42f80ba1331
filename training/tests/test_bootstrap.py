"""Intervals by the stationary block bootstrap: another library's, and wider where rows depend on each other."""

from __future__ import annotations

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap

from huracan.clock import MINUTE_NS, STEP_NS
from huracan.errors import BadInput
from huracan_training.bootstrap import bootstrapped, by_time, interval, mean_block, resampled_rows, resampled_sums
from huracan_training.chance import generator
from huracan_training.evaluation import turns_block
from huracan_training.samples import Floats


def _persistent(rows: int, name: str, keep: float = 0.9) -> Floats:
    noise = generator(1, name).normal(size=rows)
    for row in range(1, rows):
        noise[row] += keep * noise[row - 1]
    return noise


def test_means_spread_as_those_of_another_library() -> None:
    values, block = _persistent(500, "arch"), 12
    ours = resampled_sums(values[:, None], block, generator(1, "ours"), replicates=3_000)[:, 0] / values.size
    theirs = StationaryBootstrap(block, values, seed=1).apply(np.mean, 3_000)[:, 0]
    rows = np.concatenate(list(resampled_rows(values.size, block, generator(1, "rows"), replicates=3_000)))
    assert ours.std() == pytest.approx(theirs.std(), rel=0.06)
    assert values[rows].mean(axis=1).std() == pytest.approx(theirs.std(), rel=0.06)
    assert ours.mean() == pytest.approx(values.mean(), abs=4 * theirs.std() / 3_000**0.5)


def test_every_replicate_has_as_many_rows_as_the_sample() -> None:
    ones = np.ones((37, 1))
    assert (resampled_sums(ones, 5.0, generator(1, "ones"), replicates=200) == 37).all()
    assert (resampled_sums(ones, 1e9, generator(1, "long"), replicates=200) == 37).all()
    assert {part.shape[1] for part in resampled_rows(37, 5.0, generator(1, "rows"), replicates=9)} == {37}


def test_rows_of_a_block_follow_each_other() -> None:
    (rows,) = resampled_rows(1_000, 50.0, generator(1, "follow"), replicates=20)
    assert (np.diff(rows, axis=1) % 1_000 == 1).mean() == pytest.approx(1 - 1 / 50, abs=0.005)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        values = _persistent(400, f"cover {trial}", keep=0.5)[:, None]
        told = bootstrapped(
            values, lambda sums: sums[:, 0] / 400, mean_block(400, 3), generator(trial, "cover"), replicates=300
        )
        covered += told.low <= 0.0 <= told.high
    assert 0.86 <= covered / 200 <= 0.99


def test_taking_rows_one_by_one_would_flatter() -> None:
    values = _persistent(2_000, "flatter")[:, None]
    alone, blocks = (
        resampled_sums(values, block, generator(1, "flatter"), replicates=500).std() for block in (1.0, 100.0)
    )
    assert blocks > 2 * alone


def test_what_was_measured_at_one_time_is_resampled_together() -> None:
    times, sums = by_time(np.array([3, 1, 3, 2]), np.array([[1.0], [2.0], [4.0], [8.0]]))
    assert times.tolist() == [1, 2, 3]
    assert sums.tolist() == [[2.0, 1.0], [8.0, 1.0], [5.0, 2.0]]


def test_the_mean_block_is_never_shorter_than_four_horizons() -> None:
    assert mean_block(1_000, 2) == pytest.approx(10.0)
    assert mean_block(1_000, 24) == 96.0


def test_an_interval_without_replicates_is_not_above_zero() -> None:
    told = interval(1.0, np.full(3, np.nan))
    assert np.isnan(told.low)
    assert not told.above_zero


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(BadInput, match="nothing to resample"):
        resampled_sums(np.zeros((0, 1)), 5.0, generator(1, "none"))
    with pytest.raises(BadInput, match="block was"):
        next(resampled_rows(10, 0.5, generator(1, "none")))


@pytest.mark.parametrize(("rows", "interval_ns", "block"), [(600, STEP_NS, 0.0), (20 * 96, 15 * MINUTE_NS, 96.0)])
def test_turns_are_resampled_by_the_day_where_there_are_days(rows: int, interval_ns: int, block: float) -> None:
    assert turns_block(rows, horizon=10, interval_ns=interval_ns) == (block or mean_block(rows, 10))


def test_of_minutes_the_interval_of_a_share_holds_the_truth_as_often_as_it_says() -> None:
    rows, truth, held = 600, 0.7, 0
    for seed in range(200):
        chance = generator(seed, "events")
        events = (chance.random(rows) < 0.08).astype(np.float64)
        sums = np.stack([events, events * (chance.random(rows) < truth)], axis=1)
        block = turns_block(rows, horizon=10, interval_ns=STEP_NS)
        told = bootstrapped(sums, lambda each: each[:, 1] / each[:, 0], block, generator(1, f"{seed}"), replicates=300)
        held += told.low <= truth <= told.high
    assert held > 0.85 * 200
