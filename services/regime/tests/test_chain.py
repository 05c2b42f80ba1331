"""A Markov chain of regimes: counted, forgotten, and stepped over the bars ahead."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.features.regimes import UNKNOWN
from huracan_regime.chain import RegimeChain

BAR_NS = 10
EVEN = np.full((4, 4), 0.25)
FOR_EVER = 1e12


def _closes(count: int, first: int = 1) -> NDArray[np.int64]:
    return BAR_NS * np.arange(first, first + count, dtype=np.int64)


def _followed(known: list[int], half_life_bars: float = FOR_EVER) -> RegimeChain:
    chain = RegimeChain(EVEN, half_life_bars)
    chain.follow(np.array(known), _closes(len(known)), BAR_NS)
    return chain


def test_transitions_are_counted_beside_those_of_training() -> None:
    transition = _followed([0, 0, 0, 1, 0]).transition()
    assert transition[0] == pytest.approx([(2 + 1) / 7, (1 + 1) / 7, 1 / 7, 1 / 7])
    assert transition[1] == pytest.approx([2 / 5, 1 / 5, 1 / 5, 1 / 5])
    assert transition[2] == pytest.approx([0.25] * 4), "as in training where none was seen"
    assert transition.sum(axis=1) == pytest.approx(1)


def test_what_was_long_ago_is_forgotten() -> None:
    chain = _followed([0, 1] + [2] * 10, half_life_bars=5.0)
    weight = 0.5 ** (10 / 5)
    assert chain.transition()[0] == pytest.approx(np.array([1, 1 + weight, 1, 1]) / (4 + weight))


def test_windows_that_overlap_count_each_bar_once() -> None:
    known = np.array([0, 0, 1, 1, 1, 0])
    once, twice = _followed(known.tolist()), RegimeChain(EVEN, FOR_EVER)
    twice.follow(known[:4], _closes(4), BAR_NS)
    twice.follow(known[2:], _closes(4, first=3), BAR_NS)
    assert np.array_equal(once.transition(), twice.transition())
    assert once.known == twice.known == 0


def test_no_transition_leads_over_a_gap_or_over_a_bar_of_no_known_regime() -> None:
    assert np.array_equal(_followed([0, UNKNOWN, 1]).transition(), EVEN)
    apart = RegimeChain(EVEN, FOR_EVER)
    apart.follow(np.array([0, 1]), np.array([BAR_NS, 3 * BAR_NS]), BAR_NS)
    assert np.array_equal(apart.transition(), EVEN)


def test_a_forecast_is_the_chain_stepped_from_the_newest_regime() -> None:
    chain = _followed([0] * 50 + [1] * 50 + [0] * 20)
    rows = [chain.transition()]
    for _ in range(2):
        rows.append(rows[-1] @ chain.transition())
    assert chain.ahead(3) == pytest.approx(rows[-1][0])
    assert chain.ahead(3).sum() == pytest.approx(1)
    assert chain.ahead(1)[0] > chain.ahead(16)[0], "the further ahead, the less is certain"


def test_a_regime_that_stays_is_expected_to_last() -> None:
    lasting, restless = _followed([0] * 100), _followed([0, 1] * 50 + [0])
    assert lasting.expected_bars() == pytest.approx(1 / (1 - lasting.transition()[0, 0]))
    assert lasting.expected_bars() > 30 > 2 > restless.expected_bars()


def test_without_a_known_regime_there_is_nothing_to_go_on_from() -> None:
    chain = _followed([0, 1, UNKNOWN])
    assert chain.known == UNKNOWN
    with pytest.raises(ValueError, match="no regime is known to go on from"):
        chain.ahead(1)
    with pytest.raises(ValueError, match="no regime is known that could end"):
        chain.expected_bars()
