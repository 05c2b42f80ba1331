"""What drives the simulated exchange has the law that was stated: order flow, fair prices, regimes."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from huracan.rng import SeededRng
from huracan.sim.exchange import BINANCE_USDM, BYBIT, SIM, SIMA, SIMB, Regime, RegimeConfig, SimulatedExchange
from huracan.sim.exchange.hawkes import Hawkes
from huracan.sim.exchange.prices import FairPrices, Regimes
from huracan.sim.told import Trade

from .exchange_runs import ALL_CALM, ALL_TURBULENT, LEADER, NS_PER_S, config, correlation, sampled


def distance_from_exponential(values: Iterable[float]) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance from Exp(1), and what 99 of 100 true samples stay below."""
    ordered = sorted(values)
    count = len(ordered)
    levels = [-math.expm1(-value) for value in ordered]
    distance = max(max(level - at / count, (at + 1) / count - level) for at, level in enumerate(levels))
    return distance, 1.63 / math.sqrt(count)


CHILDREN = ((0.45, 0.1, 1.5), (0.1, 0.45, 1.5), (0.0, 0.0, 0.4))
BASELINE = (1.35, 1.35, 20.0)


def flowed(count: int, outside: Callable[[int], float] = lambda _: 0.0) -> tuple[list[tuple[float, int]], int]:
    """Return (seconds, component) of events, with excitation of component 0 from outside at every full second."""
    flow = Hawkes(SeededRng(11).stream("test").random, BASELINE, CHILDREN, 0.25, 0)
    events: list[tuple[float, int]] = []
    due_ns, second = flow.next_ns(), 1
    while len(events) < count:
        if due_ns >= second * NS_PER_S and outside(second):
            flow.advance(second * NS_PER_S)
            flow.add(0, outside(second))
            second += 1
        else:
            flow.advance(due_ns)
            component = flow.choose()
            flow.excite(component)
            events.append((due_ns / NS_PER_S, component))
        due_ns = flow.next_ns()
    return events, second - 1


@pytest.mark.parametrize("from_outside", [0.0, 0.8])
def test_rescaled_by_its_intensity_every_component_of_the_flow_is_a_unit_poisson_process(from_outside: float) -> None:
    events, seconds = flowed(15_000, lambda _: from_outside)
    decay = 1 / 0.25
    for component in range(3):
        kicks = [(at, CHILDREN[by][component], by == component) for at, by in events]
        if component == 0:
            kicks = sorted([*kicks, *((float(second), from_outside, False) for second in range(1, seconds + 1))])
        residuals, compensator, last, children = [], 0.0, 0.0, 0.0  # children: those still to come
        for at, brings, own in kicks:
            born = children * -math.expm1(-decay * (at - last))
            compensator += BASELINE[component] * (at - last) + born
            children += brings - born
            last = at
            if own:
                residuals.append(compensator)
                compensator = 0.0
        distance, bound = distance_from_exponential(residuals)
        assert distance < bound, component


def test_a_poisson_process_of_the_same_rates_would_not_pass_for_this_flow() -> None:
    events, _ = flowed(15_000)
    trades = [at for at, component in events if component != 2]
    rate = len(trades) / trades[-1]
    distance, bound = distance_from_exponential(rate * (b - a) for a, b in itertools.pairwise(trades))
    assert distance > 2 * bound


@pytest.mark.usefixtures("untraced")
def test_the_flow_has_the_branching_ratio_that_was_configured() -> None:
    events, _ = flowed(40_000)
    trades = sum(component != 2 for _, component in events)
    # Of a stationary process the share of events brought forth by others is the branching ratio, here 0.45 + 0.1.
    assert 1 - 2 * BASELINE[0] * events[-1][0] / trades == pytest.approx(0.55, abs=0.03)


@pytest.mark.usefixtures("untraced")
def test_the_exchanges_rates_are_those_stated() -> None:
    stated = config(6, 180, venues=(BINANCE_USDM, BYBIT), leveraged_share=0, positions_at_start=0, **ALL_CALM)
    trades = [told for told in SimulatedExchange(stated).events() if isinstance(told, Trade)]
    for listing, activity in ((LEADER, 1.0), ("bybit.SIM", 0.7)):
        orders = {told.at_ns for told in trades if told.listing == listing}
        assert len(orders) / 180 == pytest.approx(stated.market_orders_per_s * activity, rel=0.15)


# Prices.


def test_returns_of_assets_are_correlated_as_stated() -> None:
    stated = config(9, assets=(SIM, SIMA, SIMB), correlation=0.6)
    prices = FairPrices(stated)
    paths: dict[str, list[float]] = defaultdict(list)
    for second in range(2_000):
        prices.advance(stated.start_ns + second * NS_PER_S)
        for asset in ("SIM", "SIMA", "SIMB"):
            paths[asset].append(prices.log_price(asset))
    returns = {asset: [b - a for a, b in itertools.pairwise(path)] for asset, path in paths.items()}
    for one, other in itertools.combinations(returns, 2):
        assert correlation(returns[one], returns[other]) == pytest.approx(0.6, abs=0.05)


@pytest.mark.usefixtures("untraced")
def test_mids_of_correlated_assets_move_together() -> None:
    told = list(SimulatedExchange(config(9, 50, assets=(SIM, SIMA), venues=(BINANCE_USDM,), **ALL_TURBULENT)).events())
    moves = []
    for key in (LEADER, "binance_usdm.SIMA"):
        path = sampled(told, key, 2 * NS_PER_S)
        moves.append([math.log(b / a) for a, b in itertools.pairwise(path)])
    assert 0.35 < correlation(*moves) < 0.95


def test_regimes_have_the_shares_of_time_that_their_mean_stays_state() -> None:
    stated = config(means := 3)
    regimes = Regimes(SeededRng(means).stream("test").random, stated.regimes, None)
    seconds: dict[Regime, int] = defaultdict(int)
    for _ in range(100_000):
        seconds[regimes.regime] += 20
        regimes.advance(20)
    total = sum(terms.mean_s for terms in stated.regimes.values())
    for regime, terms in stated.regimes.items():
        assert seconds[regime] / 2e6 == pytest.approx(terms.mean_s / total, abs=0.03)


def test_the_fair_price_is_as_volatile_as_its_regime_says() -> None:
    for regime, tolerance in ((Regime.CALM, 0.1), (Regime.TURBULENT, 0.1)):
        stay: dict[str, Any] = {regime.value: RegimeConfig(mean_s=1e7, volatility_bps=30)}
        stated = config(4, first_regime=regime, **stay)
        prices, path = FairPrices(stated), []
        for second in range(1_000):
            prices.advance(stated.start_ns + second * NS_PER_S)
            path.append(prices.log_price("SIM"))
        variance = sum((b - a) ** 2 for a, b in itertools.pairwise(path)) / 999
        assert math.sqrt(variance * 900) * 1e4 == pytest.approx(30, rel=tolerance)
