"""Markov states: what is told at a bar, in words of prices."""

from __future__ import annotations

import numpy as np
import pytest

from huracan.features.bar import BAR
from huracan_training.bars import INTERVAL_NS, Bars, asset
from huracan_training.markov import STATES, measures, states
from huracan_training.samples import UNKNOWN, Floats

from .market import START_NS

CUTS = (6.0, 0.6)


def _bars(close: Floats) -> Bars:
    opened = np.concatenate([[close[0]], close[:-1]])
    return Bars(
        asset="sim",
        interval_ns=INTERVAL_NS,
        unreadable=0,
        open_ns=START_NS + INTERVAL_NS * np.arange(len(close), dtype=np.int64),
        open=opened,
        high=np.maximum(opened, close) + 0.1,
        low=np.minimum(opened, close) - 0.1,
        close=close,
        volume=np.ones(len(close)),
    )


def _story() -> Floats:
    """Return 100 bars to and fro, a jump out of them with 30 bars up, and 60 bars down."""
    quiet = 100.0 + 0.3 * np.where(np.arange(100) % 2, 1.0, -1.0)
    up = 102.0 + 0.5 * np.arange(30)
    return np.concatenate([quiet, up, up[-1] - 0.5 * np.arange(1, 61)])


def _told(close: Floats) -> list[str]:
    names = [*STATES, "unknown"]
    return [names[state] for state in states(measures(asset(_bars(close))), CUTS)]


def test_a_market_is_quiet_breaks_out_trends_and_turns() -> None:
    told = _told(_story())
    assert set(told[:20]) == {"unknown"}
    assert set(told[30:100]) == {"consolidation"}
    assert told[100] == "breakout"
    assert told[128] == "trend"
    turned = told.index("reversal")
    assert 130 < turned < 150
    assert told[-1] == "trend"


def test_a_breakout_is_measured_in_what_was_known_before() -> None:
    bars = _bars(_story())
    each = asset(bars)
    atr_before = float(each.series.rows[99, BAR.names.index("atr_fraction")]) * bars.close[99]
    expected = (bars.close[100] - bars.high[80:100].max()) / atr_before
    assert measures(each)["beyond"][100] == pytest.approx(expected)
    assert measures(each)["range_over_atr"][99] == pytest.approx(
        (bars.high[80:100].max() - bars.low[80:100].min()) / atr_before
    )


def test_a_jump_out_of_a_wide_range_is_no_breakout() -> None:
    wide = 100.0 + 5.0 * np.sin(np.arange(100) / 4.0)
    assert "breakout" not in _told(np.concatenate([wide, [120.0]]))


def test_a_gap_makes_the_state_unknown() -> None:
    close = _story()
    bars = _bars(close).take(np.arange(len(close)) != 120)
    told = states(measures(asset(bars)), CUTS)
    assert told[119] != UNKNOWN
    assert set(told[120:140]) == {UNKNOWN}


def test_a_bar_without_a_sign_of_its_own_stays_in_the_state_before() -> None:
    measured = {
        "range_over_atr": np.array([9.0, 5.0, 9.0, 9.0, 9.0]),
        "efficiency": np.array([0.0, 0.0, 0.0, 0.7, 0.0]),
        "trend_t": np.zeros(5),
        "beyond": np.zeros(5),
    }
    assert states(measured, CUTS).tolist() == [UNKNOWN, 0, 0, 2, 2]
