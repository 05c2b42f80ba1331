"""The four tests of a backtest and the overfitting of a search: what is luck is called luck, what is not is not."""

from __future__ import annotations

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan_training.chance import generator
from huracan_training.monte_carlo import (
    LATENCIES,
    STRESSES,
    MonteCarlo,
    probability_of_overfitting,
    resampled,
    shuffled,
    stressed,
    trades,
    turned,
)
from huracan_training.returns import Costs, bars_per_year, net_returns, sharpe
from huracan_training.samples import Floats

BAR_NS = 900_000_000_000
FREE = Costs(fee_bps=0.0, slippage_bps=0.0, funding_bps_per_day=0.0)


def _market(skill: float, bars: int = 1_500, assets: int = 2) -> tuple[Floats, Floats]:
    """Return positions held for ten bars and returns that follow them by `skill` standard deviations."""
    chance = generator(1, "market")
    positions = np.repeat(chance.choice([-1.0, 0.0, 1.0], size=(bars // 10, assets)), 10, axis=0)
    return positions, 0.01 * (chance.normal(size=positions.shape) + skill * positions)


def test_returns_with_an_edge_stay_above_zero_in_other_orders_and_those_without_do_not() -> None:
    chance = generator(1, "net")
    good = resampled(chance.normal(0.002, 0.01, size=2_000), BAR_NS, 4, generator(1, "r"))
    none = resampled(chance.normal(0.0, 0.01, size=2_000), BAR_NS, 4, generator(1, "r"))
    assert (good.replicates, good.p_negative) == (1_000, 0.0)
    assert 0 < good.sharpe_5th < good.sharpe_median < good.sharpe_95th
    assert none.sharpe_5th < 0 < none.sharpe_95th
    assert 0.05 < none.p_negative < 0.95
    assert none.drawdown_95th > good.drawdown_95th > 0


def test_a_resampled_sharpe_ratio_is_that_of_its_rows() -> None:
    net = np.tile([0.02, -0.01], 200)
    told = resampled(net, BAR_NS, 400 * 400, generator(1, "r"), replicates=5)  # one block: the sample itself, turned
    assert told.sharpe_median == pytest.approx(sharpe(net) * bars_per_year(BAR_NS) ** 0.5)
    flat = resampled(np.zeros(50), BAR_NS, 4, generator(1, "r"), replicates=5)
    assert np.isnan(flat.sharpe_5th)


def test_a_trade_is_a_run_of_bars_on_one_side_with_its_way_out() -> None:
    held = np.array([0.0, 1.0, 0.5, 0.0, 0.0, -1.0, 1.0, 0.0])
    net = np.array([0.0, 1.0, 2.0, -0.5, 0.0, 4.0, 8.0, -1.0])
    assert trades(held[:, None], net[:, None]).tolist() == [2.5, 4.0, 7.0]
    both = np.stack([held, np.roll(held, 1)], axis=1)
    assert trades(both, np.stack([net, 10 * np.roll(net, 1)], axis=1)).tolist() == [2.5, 25.0, 4.0, 7.0, 40.0, 80.0]
    assert trades(np.zeros((4, 1)), np.zeros((4, 1))).size == 0


def test_an_order_of_trades_that_flattered_is_found_out() -> None:
    told = shuffled(np.tile([0.01, -0.01], 50), generator(1, "s"))
    assert told.trades == 100
    assert told.drawdown == pytest.approx(0.01)
    assert told.share_deeper > 0.95
    assert told.drawdown_95th > 5 * told.drawdown


def test_without_trades_nothing_is_lost() -> None:
    told = shuffled(np.zeros(0), generator(1, "s"))
    assert (told.trades, told.drawdown, told.drawdown_95th, told.share_deeper) == (0, 0.0, 0.0, 0.0)


def test_costs_and_delay_take_their_toll() -> None:
    told = stressed(*_market(0.3), Costs(), BAR_NS)
    assert len(told) == len(STRESSES) * len(LATENCIES)
    by_case = {(each.costs, each.latency_bars): each.sharpe for each in told}
    assert by_case[1.0, 0] > by_case[2.0, 0] > by_case[3.0, 0]
    assert by_case[1.0, 0] > by_case[1.0, 2]
    positions, returns = _market(0.3, assets=1)
    (first, *_) = stressed(positions, returns, Costs(), BAR_NS)
    expected = sharpe(net_returns(positions[:, 0], returns[:, 0], Costs(), BAR_NS)) * bars_per_year(BAR_NS) ** 0.5
    assert first.sharpe == pytest.approx(expected)


def test_timing_by_chance_is_told_from_timing_with_skill() -> None:
    skilled = turned(*_market(0.3), FREE, BAR_NS, 4, generator(1, "t"), replicates=199)
    lucky = turned(*_market(0.0), FREE, BAR_NS, 4, generator(1, "t"), replicates=199)
    assert skilled.p == pytest.approx(1 / 200)
    assert skilled.sharpe > skilled.null_95th > skilled.null_median
    assert lucky.p > 0.05
    with pytest.raises(BadInput, match="longer sample"):
        turned(np.ones((5, 1)), np.ones((5, 1)), FREE, BAR_NS, 4, generator(1, "t"))


def test_the_best_of_many_without_skill_is_overfitted_and_a_good_one_is_not() -> None:
    noise = generator(1, "noise").normal(0, 0.01, size=(1_600, 20))
    over = np.mean(
        [probability_of_overfitting(generator(k, "pbo").normal(0, 0.01, size=(800, 20)), splits=10) for k in range(12)]
    )
    assert 0.3 < over < 0.75
    skilled = noise.copy()
    skilled[:, 7] += 0.003
    assert probability_of_overfitting(skilled) < 0.05


def test_overfitting_needs_something_that_was_tried_and_enough_bars() -> None:
    assert np.isnan(probability_of_overfitting(np.ones((100, 1))))
    assert probability_of_overfitting(np.tile(np.sin(np.arange(64.0))[:, None], 3)) == 1.0  # all the same: no choice
    with pytest.raises(BadInput, match="too few"):
        probability_of_overfitting(np.ones((20, 2)))


def test_a_backtest_passes_only_with_a_known_and_low_overfitting() -> None:
    positions, returns = _market(0.3)
    net = generator(1, "net").normal(0.002, 0.01, size=1_000)
    parts = {
        "resampled": resampled(net, BAR_NS, 4, generator(1, "r"), replicates=100),
        "shuffled": shuffled(returns[:, 0], generator(1, "s"), replicates=10),
        "stresses": (),
        "turned": turned(positions, returns, FREE, BAR_NS, 4, generator(1, "t"), replicates=9),
    }
    assert MonteCarlo(**parts, pbo=0.1).passed  # type: ignore[arg-type]
    assert not MonteCarlo(**parts, pbo=0.3).passed  # type: ignore[arg-type]
    assert not MonteCarlo(**parts, pbo=float("nan")).passed  # type: ignore[arg-type]
