"""The judge of an engine on trial: every bound ends a trial when it is left, and only then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.expert.trial import Answer, Flaw, SwapConfig, Trial

PLANNED = 200
CONFIG = SwapConfig(
    max_error_share=0.01,
    max_no_numbers_share=0.02,
    max_p99_us=1_000,
    max_p99_ratio=3,
    min_agreement=0.875,
    max_distance=0.125,
)
UP, DOWN, LESS_UP = (0.2, 0.2, 0.6), (0.6, 0.2, 0.2), (0.3, 0.2, 0.5)
FAST_NS = 50_000


def _answer(
    probabilities: tuple[float, float, float] | None = UP, flaw: Flaw | None = None, took_ns: int = FAST_NS
) -> Answer:
    return Answer(probabilities, flaw, took_ns)


GOOD = _answer()
ABSTAINS = _answer(None)
FAILS = _answer(None, Flaw.ERROR)
NO_NUMBERS = _answer(None, Flaw.NO_NUMBERS)


def _trial(*pairs: tuple[int, Answer, Answer], timed: bool = True, config: SwapConfig = CONFIG) -> Trial:
    """Return a trial after so many windows of each pair: what was tried, and the other."""
    trial = Trial(config, PLANNED, timed=timed)
    for count, tried, other in pairs:
        for _ in range(count):
            trial.count(tried, other)
    return trial


def _left(trial: Trial) -> str:
    found = trial.left()
    return found.bound if found else ""


def test_one_that_answers_as_the_other_keeps_within_every_bound() -> None:
    trial = _trial((PLANNED - 1, GOOD, GOOD))
    assert (trial.complete, trial.left()) == (False, None)
    trial.count(GOOD, GOOD)
    assert (trial.complete, trial.left()) == (True, None)
    told = trial.told()
    assert (told.windows, told.compared, told.disagreed, told.distance, told.left) == (PLANNED, PLANNED, 0, 0, "")
    assert (told.p99_us, told.other_p99_us) == (50, 50)


@pytest.mark.parametrize(
    ("bound", "allowed", "tried"),
    [
        ("errors", 2, FAILS),
        ("no_numbers", 4, NO_NUMBERS),
        ("no_numbers", 4, ABSTAINS),
        ("agreement", 25, _answer(DOWN)),
        ("p99", 2, _answer(took_ns=1_000_001)),
    ],
)
def test_a_bound_is_left_with_the_first_window_beyond_what_it_allows_of_all_that_are_planned(
    bound: str, allowed: int, tried: Answer
) -> None:
    config = CONFIG.model_copy(update={"max_distance": 1.0})
    for before in (0, 100):
        trial = _trial((before, GOOD, GOOD), (allowed, tried, GOOD), config=config)
        assert _left(trial) == ""
        trial.count(tried, GOOD)
        assert _left(trial) == bound
        assert trial.told().left == bound


def test_what_a_bound_was_is_told_with_its_limit() -> None:
    left = _trial((97, GOOD, GOOD), (3, FAILS, GOOD)).left()
    assert left is not None
    assert (left.was, left.limit, str(left)) == (0.03, 0.01, "errors was 0.03, and the limit 0.01")
    left = _trial((30, _answer(DOWN), GOOD), config=CONFIG.model_copy(update={"max_distance": 1.0})).left()
    assert left is not None
    assert (left.bound, left.was, left.limit) == ("agreement", 0.0, 0.875)


def test_odds_that_are_far_off_leave_the_bound_although_both_agree() -> None:
    tried = _answer((0.05, 0.05, 0.9))  # 0.3 from the other
    assert _left(_trial((83, tried, GOOD))) == ""
    assert _left(_trial((84, tried, GOOD))) == "distance"
    assert _trial((84, tried, GOOD)).told().distance == pytest.approx(0.3)
    assert _left(_trial((PLANNED, _answer(LESS_UP), GOOD))) == ""


def test_at_the_end_shares_are_of_what_could_be_compared() -> None:
    apart = (15, _answer(DOWN), GOOD)
    config = CONFIG.model_copy(update={"max_distance": 1.0})
    assert _left(_trial(apart, (PLANNED - 15, GOOD, GOOD), config=config)) == ""
    assert _left(_trial(apart, (PLANNED - 15, GOOD, ABSTAINS), config=config)) == "agreement"


def test_a_time_that_is_a_multiple_of_the_others_is_judged_at_the_end() -> None:
    slower = _answer(took_ns=3 * FAST_NS + 1_000)
    assert _left(_trial((PLANNED - 1, slower, GOOD))) == ""
    assert _left(_trial((PLANNED, slower, GOOD))) == "p99_ratio"
    assert _left(_trial((PLANNED, _answer(took_ns=3 * FAST_NS), GOOD))) == ""


def test_a_machine_that_stalls_both_engines_counts_against_neither() -> None:
    slow = _answer(took_ns=5_000_000)
    assert _left(_trial((PLANNED, slow, slow))) == ""
    assert _left(_trial((10, GOOD, slow), (12, slow, GOOD), (PLANNED - 22, GOOD, GOOD))) == ""
    assert _left(_trial((10, GOOD, slow), (22, slow, GOOD))) == ""
    assert _left(_trial((10, GOOD, slow), (23, slow, GOOD))) == "p99"


def test_few_windows_that_take_very_long_leave_a_bound_before_many_have_waited_for_them() -> None:
    slow, stalled = _answer(took_ns=6_000_000), _answer(took_ns=12_000_000)
    assert _left(_trial((1, slow, GOOD))) == ""
    found = _trial((2, slow, GOOD), (1, _answer(took_ns=1_500_000), GOOD)).left()
    assert found is not None
    assert found.bound == "p99", "three of 200"
    found = _trial((1, stalled, GOOD)).left()
    assert found is not None
    assert (found.bound, found.was, found.limit) == ("overrun", 11_000, 10_000)
    assert _left(_trial((1, stalled, stalled))) == ""
    assert _left(_trial((1, stalled, GOOD), timed=False)) == ""


def test_a_fault_that_another_net_made_up_for_is_one_all_the_same() -> None:
    made_up = _answer(UP, Flaw.NO_NUMBERS)
    assert _left(_trial((PLANNED, made_up, GOOD))) == "no_numbers"
    assert _left(_trial((4, made_up, GOOD), (PLANNED - 4, GOOD, GOOD))) == ""


def test_where_times_are_not_measured_they_are_not_judged() -> None:
    trial = _trial((PLANNED, _answer(took_ns=10**12), GOOD), timed=False)
    assert trial.left() is None
    assert (trial.told().p99_us, trial.told().other_p99_us) == (0, 0)


def test_windows_on_which_both_abstain_tell_nothing_and_one_alone_that_answers_is_no_fault() -> None:
    assert _trial((50, ABSTAINS, ABSTAINS), (50, ABSTAINS, NO_NUMBERS), (50, ABSTAINS, FAILS)).windows == 0
    trial = _trial((PLANNED, GOOD, NO_NUMBERS))
    assert (trial.complete, trial.left(), trial.told().compared) == (True, None, 0)


def test_where_the_other_fails_too_its_own_failures_count() -> None:
    assert _left(_trial((3, FAILS, FAILS))) == "errors"
    assert _left(_trial((5, NO_NUMBERS, ABSTAINS))) == "no_numbers"


_shares = st.sampled_from([UP, DOWN, LESS_UP, None])
_answers = st.builds(
    lambda shares, flaw, took_ns: Answer(None if flaw else shares, flaw, took_ns),
    _shares,
    st.sampled_from([None, None, Flaw.ERROR, Flaw.NO_NUMBERS]),
    st.integers(0, 3_000_000),
)


@given(pairs=st.lists(st.tuples(_answers, _answers), max_size=60), config=st.just(CONFIG))
def test_a_trial_that_left_a_bound_before_its_end_never_comes_back(
    pairs: list[tuple[Answer, Answer]], config: SwapConfig
) -> None:
    trial = Trial(config.model_copy(update={"max_p99_us": 10**9}), 40, timed=True)
    was = ""
    for tried, other in pairs:
        if trial.complete:
            break
        trial.count(tried, other)
        assert (_left(trial) != "") >= (was != "")
        was = _left(trial)
