"""Damaged data score what the definition says, and nothing is trained on what scores 80 or less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.errors import BadInput
from huracan_gateway.reliability import PARTS
from huracan_training.bars import INTERVAL_NS, Bars
from huracan_training.integrity import Span, from_bars, repaired, report, require, verify, verify_steps

from .market import START_NS, Regimes, synthetic_bars

CALM = Regimes(volatilities=(0.001,), drifts=(0.0,))
COUNT = 1_000


def _calm(count: int = COUNT) -> Bars:
    return synthetic_bars(count, regimes=CALM)


def _without(bars: Bars, rows: Sequence[int]) -> Bars:
    return bars.take(np.delete(np.arange(len(bars)), rows))


def test_a_file_without_a_fault_scores_100() -> None:
    told = verify(_calm())
    assert (told.score, told.reasons(), told.missing, told.usable) == (100.0, [], (), True)
    assert list(told.parts) == list(PARTS)


def test_ten_bars_missing_of_a_thousand_score_50() -> None:
    """missing 0.01 of 0.02 and gap 0.01 of 0.02: 100 * (1 - max(0.3 * 0.5 + 0.2 * 0.5, 0.5))."""
    told = verify(_without(_calm(), range(50, 1_000, 100)))
    assert [told.parts["missing"], told.parts["gap"]] == pytest.approx([0.01, 0.01])
    assert told.score == pytest.approx(50.0)
    assert not told.usable


def test_sixty_per_cent_missing_score_0() -> None:
    told = verify(_without(_calm(), [at for at in range(1, COUNT - 1) if at % 5 > 1]))
    assert told.parts["missing"] > 0.59
    assert told.score == 0.0


def test_the_worst_of_many_small_faults_decides() -> None:
    """missing .15 of its limit, gap .05, duplicate and out of order 2 / 999 of .01, outlier 1 / 996 of .005.

    The weighted sum is .3 * .15 + .2 * .05 + .1 * .6 = .115; the largest, the outlier's .2008, leaves 79.92.
    """
    bars = _without(_calm(), [400, 401, 402])
    close = bars.close.copy()
    close[700] *= 1.5
    spiked = replace(bars, close=close, high=np.maximum(bars.high, close))
    order = np.array([*range(100), 99, *range(100, 200), 199, 201, 200, *range(202, 300), 301, 300, *range(302, 997)])
    told = verify(spiked.take(order))
    parts = {"missing": 0.003, "gap": 0.001, "duplicate": 2 / 999, "out_of_order": 2 / 999, "outlier": 1 / 996}
    assert {name: value for name, value in told.parts.items() if value} == pytest.approx(parts)
    assert told.score == pytest.approx(100 * (1 - 200 / 996))


def test_faults_of_which_none_is_ruinous_add_up() -> None:
    """All seven at 3 tenths of their limits: the weighted sum is 0.3, as each; weights of 1 add up to it exactly."""
    told = report("BTC", {name: 0.3 * part.limit for name, part in PARTS.items()}, rows=1, expected=1)
    assert told.score == pytest.approx(70.0)


def test_three_hundred_bars_on_another_clock_score_0() -> None:
    bars = _calm()
    drifted = replace(bars, open_ns=bars.open_ns + np.where(np.arange(COUNT) > 700, 2_000_000_000, 0))
    told = verify(drifted)
    assert told.parts["clock_drift"] == 2.0
    assert told.score == 0.0


def test_a_feed_that_hangs_is_stale() -> None:
    bars = _calm()
    values = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for column in values.values():
        column[300:320] = column[299]
    told = verify(replace(bars, **values))
    assert told.parts["stale"] == pytest.approx(0.02)
    assert told.score == pytest.approx(100 * (1 - 0.4))


def test_a_bar_in_which_nothing_is_traded_is_stale() -> None:
    bars = _calm()
    flat = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close", "volume")}
    for name in ("open", "high", "low", "close"):
        flat[name][500] = flat["close"][499]
    flat["volume"][500] = 0.0
    assert verify(replace(bars, **flat)).parts["stale"] == pytest.approx(0.001)


def test_a_price_that_comes_back_is_an_outlier_and_a_wild_day_is_none() -> None:
    bars = _calm()
    spike = bars.close.copy()
    spike[500] *= 1.03
    assert verify(replace(bars, close=spike, high=np.maximum(bars.high, spike))).parts["outlier"] == pytest.approx(
        1 / (COUNT - 1)
    )
    wild = Regimes(volatilities=(0.0005, 0.02), drifts=(0.0, 0.0), stay=0.99)
    assert verify(synthetic_bars(4_000, seed=3, regimes=wild)).parts["outlier"] < 0.001


def test_prices_that_never_move_have_no_outlier() -> None:
    bars = _calm()
    still = np.full(COUNT, 5.0)
    parts = verify(replace(bars, open=still, high=still, low=still, close=still)).parts
    assert parts["outlier"] == 0.0
    assert verify(bars.take(np.arange(10))).parts["outlier"] == 0.0


def test_a_broken_row_is_missing() -> None:
    bars = _calm()
    high = bars.high.copy()
    high[500] = bars.low[500] / 2
    told = verify(replace(bars, high=high))
    assert told.missing == (Span(int(bars.open_ns[500]), int(bars.open_ns[500])),)


@settings(max_examples=20)
@given(st.sets(st.integers(1, 298), max_size=20), st.integers(1, 298))
def test_the_score_never_rises_above_what_its_worst_part_leaves(some: set[int], other: int) -> None:
    told = verify(_without(_calm(300), sorted(some | {other})))
    worst = max(min(1.0, value / PARTS[name].limit) for name, value in told.parts.items())
    assert 0.0 <= told.score <= 100.0 * (1.0 - worst) + 1e-9
    assert told.parts["missing"] == pytest.approx(len(some | {other}) / 300)


def test_training_is_refused_at_80_with_the_parts() -> None:
    at_80 = report("BTC", {"missing": 0.004}, rows=1, expected=1)
    assert at_80.score == pytest.approx(80.0)
    with pytest.raises(BadInput, match=r"BTC scored 80\.0: missing was 0\.004 \(0 points at 0\.02\); fetch"):
        require([report("ETH", {}, rows=1, expected=1), replace(at_80, score=80.0)])
    require([report("BTC", {"missing": 0.0039}, rows=1, expected=1)])


def test_what_is_missing_is_asked_for_and_the_result_is_verified_again() -> None:
    whole = _calm()
    asked: list[Sequence[Span]] = []

    def refetch(bars: Bars, missing: Sequence[Span]) -> Bars:
        asked.append(missing)
        return whole.take(np.arange(COUNT)[::-1])

    filled, told = repaired(_without(whole, [100, 101, 102, 500]), refetch)
    opens = whole.open_ns.tolist()
    assert asked == [(Span(opens[100], opens[102]), Span(opens[500], opens[500]))]
    assert told.score == 100.0
    assert filled.digest() == whole.digest()
    assert repaired(whole, refetch)[1].score == 100.0
    assert len(asked) == 1


def test_what_is_there_is_never_replaced_and_faults_are_not_hidden() -> None:
    whole = _calm()
    other = replace(whole, close=whole.low, open=whole.low)
    damaged = whole.take(np.array([*range(500), 499, *range(501, COUNT)]))
    filled, told = repaired(damaged, from_bars(other))
    assert filled.close[filled.open_ns == whole.open_ns[499]].tolist() == [whole.close[499]] * 2
    assert filled.close[filled.open_ns == whole.open_ns[500]].tolist() == [whole.low[500]]
    assert told.parts["missing"] == 0.0
    assert told.parts["duplicate"] > 0.0


def test_a_broken_row_gives_way_to_a_good_one() -> None:
    whole = _calm()
    close = whole.close.copy()
    close[500] = np.nan
    filled, told = repaired(replace(whole, close=close), from_bars(whole))
    assert filled.digest() == whole.digest()
    assert told.score == 100.0


def test_bars_of_another_interval_fill_nothing() -> None:
    hours = replace(_calm(), interval_ns=4 * INTERVAL_NS)
    with pytest.raises(BadInput, match="bars of 900 s were asked for, and bars of 3600 s came"):
        repaired(_without(_calm(), [5]), from_bars(hours))


def test_weekends_that_are_missing_are_explained() -> None:
    days = np.busday_offset("2024-01-02", np.arange(30), roll="forward").astype("datetime64[ns]").astype(np.int64)
    daily = replace(synthetic_bars(30), interval_ns=86_400_000_000_000, open_ns=days)
    assert verify(daily).reasons()[-1] == "no bar is of a Saturday or Sunday: is it --calendar us_equities?"


def test_bars_of_which_none_is_where_it_should_be_score_0() -> None:
    bars = _calm(3)
    nowhere = replace(bars, open_ns=START_NS + 1 + np.arange(3), interval_ns=INTERVAL_NS)
    assert verify(nowhere).score == 0.0


def test_steps_are_scored_by_what_is_lost_repeated_and_idle() -> None:
    steps = np.delete(np.arange(5_000, 6_000), [10, 500, 501])
    told = verify_steps("sim", steps, np.zeros(len(steps)), np.arange(len(steps)) < 10)
    assert told.parts["missing"] == pytest.approx(0.003)
    assert told.parts["gap"] == pytest.approx(0.002)
    assert told.parts["stale"] == pytest.approx(10 / 997)
    assert "clock_drift" not in told.parts
