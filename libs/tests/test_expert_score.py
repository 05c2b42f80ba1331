"""Scores and the odds they give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.config import Config
from huracan.contracts.features import WINDOW_ROWS
from huracan.errors import BadInput
from huracan.expert.score import Score, Term, engine_digest, forecast, kernel

NAMES = ("a", "b")
values32 = st.floats(width=32, allow_nan=True, allow_infinity=True)


def _window(a: float = 0.0, b: float = 0.0) -> NDArray[np.float32]:
    return np.tile(np.array([[a, b]], dtype=np.float32), (WINDOW_ROWS, 1))


def test_recent_weights_halve_every_half_life_and_sum_to_1() -> None:
    weights = kernel(Term(column="a", half_life_steps=4))
    assert weights.sum() == pytest.approx(1)
    assert weights[-5] / weights[-1] == pytest.approx(0.5)


@given(st.lists(st.floats(-3, 3), min_size=WINDOW_ROWS, max_size=WINDOW_ROWS))
def test_displacement_is_how_far_the_running_sum_ends_from_its_mean(changes: list[float]) -> None:
    path = np.cumsum(changes)
    weighted = (kernel(Term(column="a", kernel="displacement")) * np.array(changes)).sum()
    assert weighted == pytest.approx(path[-1] - path.mean(), abs=1e-9)


def test_a_value_counts_at_most_its_limit_times_its_weight() -> None:
    score = Score(NAMES, [Term(column="b", limit=2, weight=-0.5)])
    assert score.contributions(_window(b=100)) == pytest.approx([-1.0])
    assert score.contributions(_window(b=-100)) == pytest.approx([1.0])


def test_a_missing_value_contributes_nothing() -> None:
    window = _window(a=1)
    window[-1] = np.nan
    (added,) = Score(NAMES, [Term(column="a", half_life_steps=1)]).contributions(window) or []
    assert added == pytest.approx(0.5, rel=1e-6)


def test_a_window_without_any_value_has_no_score() -> None:
    score = Score(NAMES, [Term(column="b")])
    assert score.contributions(_window(a=1, b=np.nan)) is None


def test_asking_does_not_change_the_window() -> None:
    window = _window(a=np.nan, b=9)
    before = window.copy()
    Score(NAMES, [Term(column="a"), Term(column="b")]).contributions(window)
    np.testing.assert_array_equal(window, before)


def test_a_column_that_the_set_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match="term column was 'c'"):
        Score(NAMES, [Term(column="c")])


@given(st.floats(allow_nan=False), st.floats(0, 10), st.floats(0, 1000))
def test_odds_are_probabilities_that_mirror_the_score(score: float, threshold: float, move_bps: float) -> None:
    up = forecast(score, flat_threshold=threshold, move_bps=move_bps)
    down = forecast(-score, flat_threshold=threshold, move_bps=move_bps)
    assert min(up.p_down, up.p_flat, up.p_up) >= 0
    assert abs(up.p_down + up.p_flat + up.p_up - 1) <= 1e-12
    assert (up.p_up, up.p_down, up.p_flat) == (down.p_down, down.p_up, down.p_flat)
    assert up.expected_move_bps == (up.p_up - up.p_down) * move_bps


def test_a_larger_score_leans_further_up_and_a_larger_threshold_is_flatter() -> None:
    odds = [forecast(score, flat_threshold=1.3, move_bps=1) for score in (-2, -1, 0, 1, 2)]
    leans = [each.p_up - each.p_down for each in odds]
    assert leans == sorted(leans)
    assert leans[2] == 0
    flats = [forecast(0, flat_threshold=threshold, move_bps=1).p_flat for threshold in (0, 1, 2, 3)]
    assert flats == sorted(flats)
    assert flats[0] == 0


def test_the_engine_digest_follows_method_config_and_fitted_parameters() -> None:
    class Some(Config):
        number: int = 1

    digests = {
        engine_digest("m 1", Some()),
        engine_digest("m 2", Some()),
        engine_digest("m 1", Some(number=2)),
        engine_digest("m 1", Some(), b"x"),
        engine_digest("m 1", Some(), b"x", b""),
    }
    assert len(digests) == 5
    assert engine_digest("m 1", Some()) == engine_digest("m 1", Some())
