"""Which regime a window of `micro` is of: by what its mids did, the same whichever side they went."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.contracts.features import WINDOW_ROWS
from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan.features.regimes import REGIMES, UNKNOWN
from huracan.features.routing import MONOLITH, Routes, measured, net_of, read_routes

NOWHERE = dict.fromkeys(REGIMES, (0.0, 0.0, 0.0))
ROUTES = Routes(cuts=(0.5, 4.0, 0.8), nets=dict.fromkeys(REGIMES, MONOLITH), moves_bps=NOWHERE)
_ENDS = np.linspace(-1, 1, WINDOW_ROWS)


def _window(returns: NDArray[np.float64]) -> NDArray[np.float32]:
    window = np.full((WINDOW_ROWS, MICRO.columns), np.nan, dtype=np.float32)
    window[:, MICRO.names.index("mid_return_bps")] = returns
    return window


def _regime(returns: NDArray[np.float64]) -> str:
    return REGIMES[ROUTES.regime(_window(returns))]


@pytest.mark.parametrize(
    ("returns", "regime"),
    [
        (np.full(WINDOW_ROWS, 1.0), "High_Volatility"),
        (np.full(WINDOW_ROWS, 0.01), "Low_Volatility"),
        (np.full(WINDOW_ROWS, 0.2), "Trending"),
        (np.where(np.arange(WINDOW_ROWS) % 2, 0.2, -0.2), "Ranging"),
        (np.where(np.arange(WINDOW_ROWS) == WINDOW_ROWS // 2, 1.0, 0.0), "Ranging"),
    ],
    ids=["wild", "calm", "straight", "there and back", "one step: three quarters of a line"],
)
def test_volatility_comes_first_and_then_how_straight_it_was(returns: NDArray[np.float64], regime: str) -> None:
    assert _regime(returns) == regime
    assert _regime(-returns) == regime


def test_what_a_window_is_measured_by() -> None:
    volatility, straightness = measured(_window(np.full(WINDOW_ROWS, 0.25))) or (0.0, 0.0)
    assert volatility == pytest.approx(2.0)
    assert straightness == pytest.approx(1.0)
    assert measured(_window(np.zeros(WINDOW_ROWS))) == (0.0, 0.0)
    returns = np.random.default_rng(1).normal(0, 1, WINDOW_ROWS)
    mids = np.cumsum(returns.astype(np.float32).astype(np.float64))
    told = measured(_window(returns))
    assert told is not None
    assert told[1] == pytest.approx(np.corrcoef(mids, _ENDS)[0, 1] ** 2)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=64, max_size=64))
def test_both_sides_of_a_market_are_of_one_regime_however_far_it_goes(moves: list[float]) -> None:
    returns = np.array(moves)
    told, turned = measured(_window(returns)), measured(_window(-returns))
    assert told == turned
    assert told is not None
    assert np.isfinite(told).all()
    assert ROUTES.regime(_window(returns)) in range(len(REGIMES))


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_a_window_with_a_missing_return_does_not_say(missing: float) -> None:
    returns = np.full(WINDOW_ROWS, 0.2)
    returns[3] = missing
    assert ROUTES.regime(_window(returns)) == UNKNOWN


def test_routes_are_kept_and_read_back() -> None:
    own = ROUTES.model_copy(update={"nets": {name: net_of(name) for name in REGIMES}})
    assert read_routes(own.canonical_json().encode(), "routes.json") == own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nets": {"Trending": MONOLITH}}, "nets were of Trending: give High_Volatility, "),
        ({"moves_bps": {}}, "moves_bps were of nothing: give High_Volatility, "),
        ({"nets": dict.fromkeys(REGIMES, "trending")}, "nets had trending, .*: a regime is answered by its own, or by"),
    ],
)
def test_routes_that_lead_nowhere_are_refused(changes: dict[str, object], message: str) -> None:
    told = ROUTES.model_dump() | changes
    with pytest.raises(BadInput, match=r"there/routes\.json: .*" + message):
        read_routes(ROUTES.model_construct(**told).model_dump_json().encode(), "there/routes.json")
