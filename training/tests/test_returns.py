"""Returns net of costs and how sure one can be of them: the published values, to their digits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.errors import BadInput
from huracan_training.chance import generator
from huracan_training.returns import (
    Costs,
    bars_per_year,
    deflated_sharpe,
    delayed,
    direction_positions,
    expected_maximum_sharpe,
    max_drawdowns,
    minimum_track_record,
    moments,
    net_returns,
    probabilistic_sharpe,
    profit_factor,
    regime_positions,
    returns_scored,
    sharpe,
    sortino,
    turnover,
)

BAR_NS = 900_000_000_000
FREE = Costs(fee_bps=0.0, slippage_bps=0.0, funding_bps_per_day=0.0)


@pytest.mark.parametrize(("skewness", "kurtosis", "psr"), [(0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)])
def test_the_probabilistic_sharpe_ratio_is_the_published_one(skewness: float, kurtosis: float, psr: float) -> None:
    assert probabilistic_sharpe(0.458, 24, skewness, kurtosis) == pytest.approx(psr, abs=5e-4)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "dsr"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_the_deflated_sharpe_ratio_is_the_published_one(
    trials: int, skewness: float, kurtosis: float, dsr: float
) -> None:
    told = deflated_sharpe(2.5 / 250**0.5, 1250, skewness, kurtosis, variance=0.5 / 250, trials=trials)
    assert told == pytest.approx(dsr, abs=5e-5)


def test_the_best_of_a_hundred_trials_without_skill_is_the_published_one() -> None:
    assert expected_maximum_sharpe(0.5 / 250, 100) == pytest.approx(0.1132, abs=5e-5)
    assert expected_maximum_sharpe(0.5 / 250, 1) == 0.0
    with pytest.raises(BadInput, match="count every strategy"):
        expected_maximum_sharpe(0.1, 0)


@pytest.mark.parametrize(("periods", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_the_minimum_track_record_is_the_published_one(periods: int, years: float) -> None:
    """Sharpe 2 against 1 a year, normal, 95 % sure: Bailey and López de Prado 2012, exhibit of daily to monthly."""
    bars = minimum_track_record(2 / periods**0.5, 0.0, 3.0, above=1 / periods**0.5)
    assert bars / periods == pytest.approx(years, abs=0.01)
    assert minimum_track_record(-0.1, 0.0, 3.0) == float("inf")


def test_a_track_record_of_the_minimum_length_is_just_sure_enough() -> None:
    bars = minimum_track_record(0.05, -1.0, 8.0)
    assert probabilistic_sharpe(0.05, bars, -1.0, 8.0) == pytest.approx(0.95)


@given(st.integers(2, 2000), st.integers(1, 500))
def test_the_more_was_tried_the_less_a_sharpe_ratio_proves(trials: int, more: int) -> None:
    few, many = (deflated_sharpe(0.1, 900, -0.5, 5.0, variance=1e-3, trials=each) for each in (trials, trials + more))
    assert many < few <= probabilistic_sharpe(0.1, 900, -0.5, 5.0)


def test_ratios_of_a_small_sample_are_what_a_pencil_gives() -> None:
    net = np.array([0.02, -0.01, 0.03, -0.02])
    assert sharpe(net) == pytest.approx(0.005 / np.std(net, ddof=1))
    assert sortino(net) == pytest.approx(0.005 / (0.0005 / 4) ** 0.5)
    assert profit_factor(net) == pytest.approx(5 / 3)
    assert max_drawdowns(net[None])[0] == pytest.approx(0.02)
    assert max_drawdowns(-net[None])[0] == pytest.approx(0.04)  # the first loss counts
    assert moments(np.array([-1.0, 1.0])) == (0.0, 1.0)


def test_what_cannot_be_said_is_not_a_number() -> None:
    flat = np.zeros(5)
    assert np.isnan([sharpe(flat), sharpe(flat[:1]), sortino(flat), profit_factor(flat), *moments(flat)]).all()
    assert profit_factor(np.ones(3)) == float("inf")
    told = returns_scored(flat, BAR_NS, trials=10, trial_variance=1e-4)
    assert np.isnan([told.sharpe, told.psr, told.dsr, told.hit_ratio]).all()
    assert (told.total, told.max_drawdown, told.bars) == (0.0, 0.0, 5)
    assert np.isnan(probabilistic_sharpe(0.1, 1, 0.0, 3.0))


def test_a_year_has_365_days_of_bars() -> None:
    assert bars_per_year(BAR_NS) == 365 * 96
    net = generator(1, "net").normal(0.001, 0.01, size=1_000)
    told = returns_scored(net, BAR_NS, trials=5, trial_variance=1e-4, traded=np.full(1_000, 0.5))
    assert told.sharpe == pytest.approx(sharpe(net) * (365 * 96) ** 0.5)
    assert told.turnover_per_day == pytest.approx(48.0)
    assert told.dsr < told.psr
    assert told.hit_ratio == pytest.approx((net > 0).mean())


def test_every_change_of_position_is_paid_and_the_way_out_too() -> None:
    positions, returns = np.array([1.0, 1.0, -1.0, 0.0]), np.array([0.01, -0.02, -0.03, 0.5])
    costs = Costs(fee_bps=5.0, slippage_bps=5.0, funding_bps_per_day=0.0)
    assert net_returns(positions, returns, FREE, BAR_NS).tolist() == pytest.approx([0.01, -0.02, 0.03, 0.0])
    assert net_returns(positions, returns, costs, BAR_NS).tolist() == pytest.approx([0.009, -0.02, 0.028, -0.001])
    assert turnover(np.array([1.0, 1.0])).tolist() == [1.0, 1.0]
    held = net_returns(np.array([-1.0]), np.zeros(1), Costs(fee_bps=0, slippage_bps=0, funding_bps_per_day=96), BAR_NS)
    assert held.tolist() == pytest.approx([-1e-4])


@given(st.floats(1.0, 3.0), st.integers(0, 100))
def test_dearer_trading_never_pays(factor: float, seed: int) -> None:
    chance = generator(seed, "dearer")
    positions, returns = chance.uniform(-1, 1, size=50), chance.normal(0, 0.01, size=50)
    cheap, dear = (net_returns(positions, returns, Costs().scaled(each), BAR_NS) for each in (1.0, factor))
    assert (dear <= cheap + 1e-15).all()


def test_a_late_position_is_held_over_later_bars() -> None:
    positions = np.array([1.0, 2.0, 3.0])
    assert delayed(positions, 0).tolist() == [1.0, 2.0, 3.0]
    assert delayed(positions, 1).tolist() == [0.0, 1.0, 2.0]
    assert delayed(positions, 9).tolist() == [0.0, 0.0, 0.0]
    late = net_returns(positions, np.array([0.1, 0.2, np.nan]), FREE, BAR_NS, latency_bars=1)
    assert late.tolist() == pytest.approx([0.0, 0.2, 0.0])
    with pytest.raises(BadInput, match="do not match"):
        net_returns(positions, np.zeros(2), FREE, BAR_NS)


def test_positions_follow_the_gates_rule_and_regimes_turn_it() -> None:
    assert direction_positions(np.array([0.1, 0.45, 0.5]), np.array([0.7, 0.5, 0.2])).tolist() == pytest.approx(
        [0.6, 0.0, -0.3]
    )
    trending, ranging, high = np.array([0.8, 0.0, 0.8, 0.5]), np.array([0.2, 0.5, 0.2, 0.5]), np.array([0, 0.5, 0, 0])
    told = regime_positions(trending, ranging, high, np.array([-0.01, 0.02, np.nan, 0.01]))
    assert told.tolist() == pytest.approx([-0.6, -0.25, 0.0, 0.0])
