"""Regimes of bars that are over: by the cuts of a bundle, from the columns of a window."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.clock import MINUTE_NS
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import linear_perpetual
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan.features.regimes import REGIMES, UNKNOWN, RegimeThresholds, read_regimes, regimes

BAR_NS = 15 * MINUTE_NS
EVEN = ((0.25,) * 4,) * 4
TOLD = RegimeThresholds(
    horizon_bars=16,
    cuts={"sim_BTCUSDT": (0.01, 0.03, 0.5), "*": (0.1, 0.3, 0.5)},
    transition=EVEN,
    half_life_bars=2_000,
)


def _window(volatility: NDArray[np.float64], efficiency: NDArray[np.float64], base: str = "BTC") -> FeatureWindow:
    values = np.zeros((WINDOW_ROWS, BAR.columns), dtype=np.float32)
    values[:, BAR.names.index("realised_volatility_16")] = volatility
    values[:, BAR.names.index("efficiency_ratio_16")] = efficiency
    return feature_window(
        instrument=linear_perpetual(base, venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001")),
        epoch=1,
        feature_set="bar_15m",
        feature_set_digest=BAR.digest,
        interval_ns=BAR_NS,
        step=WINDOW_ROWS,
        first_step=1,
        close_ns=BAR_NS * (WINDOW_ROWS + 1),
        values=values,
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=1,
        book_synced=True,
    )


def test_a_regime_is_the_first_that_holds() -> None:
    volatility, efficiency = np.array([0.04, 0.005, 0.02, 0.02, 0.03]), np.array([0.9, 0.9, 0.9, 0.1, 0.5])
    told = regimes(volatility, efficiency, (0.01, 0.03, 0.5))
    assert [REGIMES[number] for number in told] == [
        "High_Volatility", "Low_Volatility", "Trending", "Ranging", "Ranging",
    ]  # fmt: skip


def test_an_asset_has_its_own_cuts_and_another_those_of_all() -> None:
    window = _window(np.full(WINDOW_ROWS, 0.02), np.full(WINDOW_ROWS, 0.1))
    assert set(TOLD.known(window)) == {REGIMES.index("Ranging")}
    other = _window(np.full(WINDOW_ROWS, 0.02), np.full(WINDOW_ROWS, 0.1), "ETH")
    assert set(TOLD.known(other)) == {REGIMES.index("Low_Volatility")}


def test_where_a_bar_is_missing_none_is_known() -> None:
    volatility, efficiency = np.full(WINDOW_ROWS, 0.02), np.full(WINDOW_ROWS, 0.1)
    volatility[3], efficiency[7] = np.nan, np.nan
    known = TOLD.known(_window(volatility, efficiency))
    assert np.flatnonzero(known == UNKNOWN).tolist() == [3, 7]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cuts": {"sim_BTCUSDT": [0.01, 0.03, 0.5]}}, r"cuts has no \*"),
        ({"cuts": {"*": [0.01, 0.03]}}, r"regimes\.json: cuts\.\*"),
        ({"transition": [[0.25] * 4] * 3}, "transition is not 4 rows of 4"),
        ({"transition": [[0.25] * 3] * 4}, "transition is not 4 rows of 4"),
        ({"transition": [[0.3] * 4] * 4}, "transition is not 4 rows of 4"),
        ({"transition": [[1.5, 0, 0, -0.5]] * 4}, r"regimes\.json: transition\.0\.0"),
        ({"half_life_bars": 0}, r"regimes\.json: half_life_bars"),
        ({"horizon_bars": 0}, r"regimes\.json: horizon_bars"),
        ({"horizon_bars": 17}, "horizon_bars was 17: bar has no realised_volatility_17 and efficiency_ratio_17"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_field(changes: dict[str, object], reason: str) -> None:
    told = json.loads(TOLD.canonical_json())
    assert read_regimes(json.dumps(told).encode(), "regimes.json") == TOLD
    with pytest.raises(BadInput, match=reason):
        read_regimes(json.dumps({**told, **changes}).encode(), "regimes.json")


def test_a_file_that_is_no_json_is_refused() -> None:
    with pytest.raises(BadInput, match=r"regimes\.json: it: "):
        read_regimes(b"{", "regimes.json")
