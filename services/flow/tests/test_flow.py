"""The order-flow expert."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.opinion import AbstainReason
from huracan.expert.check import check_expert
from huracan.expert.port import Forecast
from huracan.expert.score import Term
from huracan.features.micro import MICRO
from huracan_flow.config import FlowConfig
from huracan_flow.expert import expert
from huracan_flow.responder import FlowResponder


def _window(**last: float) -> NDArray[np.float32]:
    window = np.zeros((WINDOW_ROWS, MICRO.columns), dtype=np.float32)
    for name, value in last.items():
        window[-3:, MICRO.names.index(name)] = value
    return window


def _forecast(window: NDArray[np.float32], config: FlowConfig | None = None) -> Forecast:
    answer = FlowResponder(config or FlowConfig()).forecast(window, {})
    assert isinstance(answer, Forecast)
    return answer


def test_the_flow_expert_keeps_the_laws() -> None:
    check_expert(expert(), MICRO, other=expert(FlowConfig(flat_threshold=1.4)))


@pytest.mark.parametrize("feature", ["queue_imbalance", "ofi_integrated", "trade_imbalance"])
def test_buying_pressure_points_up_and_selling_pressure_down(feature: str) -> None:
    up, down = _forecast(_window(**{feature: 1.0})), _forecast(_window(**{feature: -1.0}))
    assert up.p_up > up.p_down
    assert (up.p_up, up.p_down) == (down.p_down, down.p_up)
    assert (up.expected_move_bps or 0) > 0 > (down.expected_move_bps or 0)


def test_without_pressure_it_says_flat() -> None:
    still = _forecast(_window())
    assert still.p_up == still.p_down
    assert still.p_flat > 0.5
    assert still.expected_move_bps == 0


def test_the_newest_step_counts_more_than_the_oldest() -> None:
    new, old = _window(), _window()
    column = MICRO.names.index("queue_imbalance")
    new[-1, column] = old[0, column] = 1
    assert _forecast(new).p_up > _forecast(old).p_up


def test_one_outlier_does_not_decide() -> None:
    wild = _forecast(_window(ofi_integrated=1e30))
    assert wild.p_up < 0.5


def test_missing_values_count_as_no_pressure() -> None:
    holes = _window(queue_imbalance=1)
    holes[:, MICRO.names.index("trade_imbalance")] = np.nan
    assert _forecast(holes) == _forecast(_window(queue_imbalance=1))


def test_with_everything_it_looks_at_missing_there_is_no_input() -> None:
    window = _window(spread_bps=1)
    for term in FlowConfig().terms:
        window[:, MICRO.names.index(term.column)] = np.nan
    answer = FlowResponder(FlowConfig()).forecast(window, {})
    assert answer == AbstainReason.ABSTAIN_REASON_NO_INPUT


@given(seed=st.integers(0, 2**32 - 1))
def test_any_window_gets_odds_or_no_input(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, (WINDOW_ROWS, MICRO.columns), dtype=np.uint32)
    answer = FlowResponder(FlowConfig()).forecast(bits.view(np.float32), {})
    assert isinstance(answer, Forecast)
    assert abs(answer.p_down + answer.p_flat + answer.p_up - 1) < 1e-9


def test_a_strong_queue_is_enough_for_the_gate() -> None:
    strong = _forecast(_window(queue_imbalance=0.9))
    assert strong.p_up - strong.p_down >= 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        {"flat_threshold": -1},
        {"flat_threshold": float("nan")},
        {"horizon_ms": 0},
        {"terms": ()},
        {"terms": (Term(column="queue_imbalance"),), "speed": 1},
        {"terms": ({"column": "queue_imbalance", "limit": 0},)},
        {"terms": ({"column": "queue_imbalance", "half_life_steps": 0},)},
    ],
)
def test_a_configuration_outside_its_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FlowConfig.model_validate(wrong)
