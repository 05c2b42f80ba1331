"""Alarms before changes of regime: counted as the definition says, and judged against the same alarms by chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.errors import BadInput
from huracan_training.chance import generator
from huracan_training.samples import UNKNOWN, Floats, Integers
from huracan_training.transitions import (
    RANKED_BARS,
    TransitionScores,
    Watch,
    alarm_scores,
    alarm_window,
    alarms,
    changes,
    curve,
    run_lengths,
    threshold_for_recall,
    trailing_ranks,
    transitions_scored,
)

BAR_NS = 900_000_000_000


def _watch(labels: list[int], score: list[float], bar: list[int] | None = None, group: str = "fold 1") -> Watch:
    return Watch(
        group=group,
        bar=np.array(bar if bar is not None else range(len(labels)), dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        score=np.array(score, dtype=np.float64),
    )


def _market(bars: int, seed: int, skill: float) -> Watch:
    """Return regimes of random length and a score that rises before a change by `skill` standard deviations."""
    chance = generator(seed, "market")
    labels: Integers = np.repeat(np.arange(bars) % 4, chance.integers(8, 40, size=bars))[:bars]
    soon = np.zeros(bars)
    for back in range(4):
        soon[: bars - back] += np.roll(np.diff(labels, prepend=labels[:1]) != 0, -back)[: bars - back]
    score: Floats = chance.normal(size=bars) + skill * np.minimum(soon, 1.0)
    return Watch(group=f"fold {seed}", bar=np.arange(bars), labels=labels, score=score)


def _scored(watches: list[Watch], threshold: float, window: int, permutations: int = 999) -> TransitionScores:
    return transitions_scored(watches, threshold, window, BAR_NS, generator(1, "turns"), permutations=permutations)


def test_an_alarm_within_the_window_calls_the_change_and_a_later_one_does_not() -> None:
    labels = [0] * 10 + [1] * 10 + [2] * 10
    score = [0.0] * 30
    score[8] = score[21] = 1.0  # two bars before the first change, one after the second
    told = _scored([_watch(labels, score)], 0.5, 3)
    assert (told.events, told.alarms, told.called, told.right) == (2, 2, 1, 1)
    assert (told.recall, told.precision, told.lead_bars, told.window_bars) == (0.5, 0.5, 2.0, 3)
    assert told.false_alarms_per_day == pytest.approx(1 * 96 / 30)


@pytest.mark.parametrize(("ahead", "called"), [(0, 1), (3, 1), (4, 0)])
def test_the_window_ends_with_the_change_and_is_m_bars_long(ahead: int, called: int) -> None:
    score = [0.0] * 20
    score[10 - ahead] = 1.0
    assert _scored([_watch([0] * 10 + [1] * 10, score)], 0.5, 3).called == called


def test_after_an_alarm_none_is_raised_for_the_window() -> None:
    watch = _watch([0] * 12, [1.0] * 12)
    assert np.flatnonzero(alarms(watch, np.array([0.5]), 3)[:, 0]).tolist() == [0, 4, 8]


def test_missing_bars_are_no_change_and_do_not_shorten_a_window() -> None:
    watch = _watch([0, 0, 1, 1, 0], [1.0, 0.0, 0.0, 0.0, 0.0], bar=[0, 1, 7, 8, 9])
    assert changes(watch).tolist() == [0, 0, 0, 0, 1]
    assert _scored([watch], 0.5, 4).called == 0


def test_always_alarming_calls_every_change_at_the_precision_of_chance() -> None:
    watch = _market(3_000, 1, 0.0)
    told = _scored([watch], -np.inf, 4)
    assert told.recall == 1.0
    assert told.precision == pytest.approx(told.chance_precision, abs=0.03)
    assert told.p_precision > 0.01


def test_random_alarms_are_rarely_found_better_than_chance() -> None:
    values = [_scored([_market(1_500, seed, 0.0)], 1.0, 4, 199).p_precision for seed in range(60)]
    assert np.mean([p < 0.05 for p in values]) <= 0.15
    assert 0.3 < float(np.mean(values)) < 0.7


def test_a_detector_that_knows_is_found_better_than_chance() -> None:
    told = _scored([_market(3_000, seed, 2.0) for seed in range(3)], 1.5, 4)
    assert told.precision > 2 * told.chance_precision
    assert told.p_precision == pytest.approx(1 / 1_000)
    assert told.p_recall == pytest.approx(1 / 1_000)
    assert 0 <= told.lead_bars <= 4


def test_copies_of_an_asset_are_no_more_evidence_than_one() -> None:
    watch = _market(600, 5, 0.4)
    one, many = _scored([watch], 1.0, 4), _scored([watch] * 5, 1.0, 4)
    assert many.p_precision == pytest.approx(one.p_precision)
    assert many.precision == pytest.approx(one.precision)


@given(st.integers(0, 500))
def test_scores_do_not_depend_on_the_scale_of_the_score_or_the_names_of_classes(seed: int) -> None:
    watch = _market(300, seed, 1.0)
    other = Watch(group=watch.group, bar=watch.bar + 50, labels=3 - watch.labels, score=10 * watch.score + 7)
    assert _scored([watch], 0.8, 3, 9) == _scored([other], 15.0, 3, 9)


def test_a_threshold_chosen_for_a_recall_reaches_it_at_the_best_precision() -> None:
    watches = [_market(3_000, seed, 2.0) for seed in range(2)]
    threshold = threshold_for_recall(watches, 4, goal=0.7)
    told_by = curve(watches, 4)
    told = _scored(watches, threshold, 4)
    assert told.recall >= 0.7
    assert (told_by.recall[told_by.thresholds > threshold] < 0.7).all()
    assert told_by.precision[-1] > told_by.precision[0]
    assert (np.diff(told_by.alarms) <= 0).mean() > 0.9


def test_where_no_threshold_reaches_the_goal_the_lowest_is_taken() -> None:
    quiet = _watch([0] * 10, [0.1] * 10)
    assert threshold_for_recall([quiet], 2) == pytest.approx(0.1)
    told = _scored([quiet], 0.5, 2)
    assert np.isnan([told.recall, told.precision, told.lead_bars]).all()


def test_whoever_is_sure_of_what_is_known_never_alarms() -> None:
    known = np.array([2, 0, UNKNOWN])
    scores = alarm_scores(np.array([[0.0, 0.0, 1.0], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]), known)
    assert scores.tolist() == [0.0, 0.5, 0.0]


def test_the_window_is_at_most_a_quarter_of_the_median_regime() -> None:
    assert run_lengths(np.array([0, 0, 1, 1, 1, 0])).tolist() == [2, 3, 1]
    assert alarm_window([np.repeat([0, 1, 2], [8, 20, 14]), np.repeat([0, 1], [12, 90])]) == 3
    assert run_lengths(np.zeros(0, dtype=np.int64)).size == 0
    with pytest.raises(BadInput, match="train labels"):
        alarm_window([])


def test_a_rank_is_among_the_scores_before_it() -> None:
    np.testing.assert_allclose(trailing_ranks(np.array([0.5, 0.2, 0.7, 0.5]), np.zeros(0)), [0, 0, 1, 1 / 3])
    np.testing.assert_allclose(trailing_ranks(np.array([0.5, 0.5]), np.array([0.1, 0.9])), [1 / 2, 1 / 3])
    assert trailing_ranks(np.zeros(5), np.zeros(3)).tolist() == [0, 0, 0, 0, 0], "whoever is sure never alarms"


def test_ranks_keep_the_rate_of_alarms_when_all_scores_become_louder() -> None:
    random = np.random.default_rng(0)
    quiet, loud = random.random(2 * RANKED_BARS), 5 + random.random(3 * RANKED_BARS)
    ranks = trailing_ranks(loud, quiet)
    assert (ranks[:100] >= 0.9).mean() > 0.9, "at first everything is louder than what was usual"
    assert (ranks[RANKED_BARS:] >= 0.9).mean() == pytest.approx(0.1, abs=0.02)


def test_a_rank_does_not_know_what_comes_later() -> None:
    scores, before = np.random.default_rng(1).random(5000), np.random.default_rng(2).random(300)
    np.testing.assert_array_equal(trailing_ranks(scores[:4500], before), trailing_ranks(scores, before)[:4500])
