"""VPIN: the published definition, and buckets of equal volume."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.features.vpin import VolumeBuckets, vpin

SECOND = 1_000_000_000


def test_vpin_of_bulk_classified_buckets_is_the_golden_value() -> None:
    closes = [100, 101, 100.5, 100.5, 102, 101]
    changes = [b - a for a, b in pairwise(closes)]
    sigma = stdev(changes)
    buy = [1000 * NormalDist().cdf(change / sigma) for change in changes]
    assert sigma == pytest.approx(1.03682, abs=5e-6)
    assert buy == pytest.approx([832.5987, 314.8167, 500, 926.0135, 167.4013], abs=5e-5)
    assert vpin(buy, [1000 - volume for volume in buy]) == pytest.approx(0.51055771, abs=5e-9)


def test_the_bucket_is_a_tenth_of_the_volume_of_the_first_ten_seconds() -> None:
    buckets = VolumeBuckets()
    for trade in range(100):
        buckets.add(7, 1, trade * SECOND // 10)
    assert buckets.volume == 0
    buckets.add(1, 1, 10 * SECOND)
    assert buckets.volume == 70


def test_the_bucket_waits_for_fifty_trades() -> None:
    buckets = VolumeBuckets()
    for trade in range(50):
        buckets.add(4, 1, trade * SECOND)
        assert buckets.volume == 0
    buckets.add(4, 1, 50 * SECOND)
    assert buckets.volume == 20


def calibrated(volume: int, count: int = 3, history: int = 4) -> VolumeBuckets:
    buckets = VolumeBuckets(count, history, calibration_trades=1)
    buckets.add(10 * volume, 1, 0)
    return buckets


def test_a_trade_is_split_over_the_buckets_it_fills() -> None:
    buckets = calibrated(10)
    for size, side in ((6, 1), (9, -1), (15, 1)):
        buckets.add(size, side, 10 * SECOND)
    assert buckets.level == (abs(6 - 4) + abs(5 - 5) + 10) / 30


def test_a_trade_larger_than_all_buckets_fills_each_of_them() -> None:
    buckets = calibrated(10)
    buckets.add(5, -1, 10 * SECOND)
    buckets.add(10**12, 1, 10 * SECOND)
    assert buckets.level == pytest.approx(20 / 30)
    buckets.add(30, -1, 10 * SECOND)
    assert buckets.level == pytest.approx(1 - (5 + 5 - abs(5 - 5)) / 30)


def test_there_is_no_vpin_before_its_buckets_are_full() -> None:
    buckets = calibrated(10)
    buckets.add(29, 1, 10 * SECOND)
    assert math.isnan(buckets.level)
    assert math.isnan(buckets.rank)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 25), st.sampled_from((1, -1))), max_size=60))
def test_buckets_are_those_of_the_stream_of_single_units(trades: list[tuple[int, int]]) -> None:
    buckets = calibrated(10)
    units: list[int] = []
    levels: list[float] = []
    for size, side in trades:
        buckets.add(size, side, 10 * SECOND)
        full = len(units) // 10
        units += [side] * size
        closed = range(max(3, full + 1), len(units) // 10 + 1)
        levels += [sum(abs(sum(units[10 * b : 10 * b + 10])) for b in range(end - 3, end)) / 30 for end in closed]
    if not levels:
        assert math.isnan(buckets.level)
        return
    trailing = levels[-4:]
    rank = sum(level <= levels[-1] for level in trailing) / len(trailing) if len(levels) >= 3 else math.nan
    assert buckets.level == levels[-1]
    assert buckets.rank == pytest.approx(rank, nan_ok=True)
