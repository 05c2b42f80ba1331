"""Runs of the simulated exchange, and what is read from their events."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from huracan.sim.exchange import Regime, RegimeConfig, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.told import Best, Told

NS_PER_S = 1_000_000_000
MINUTE_NS = 60 * NS_PER_S
LEADER = "binance_usdm.SIM"
LISTINGS = (LEADER, "okx.SIM", "bybit.SIM")
ALL_CALM = {"calm": RegimeConfig(mean_s=1e7, volatility_bps=7), "first_regime": Regime.CALM}
ALL_TURBULENT = {
    "turbulent": RegimeConfig(mean_s=1e7, volatility_bps=45, flow=2.0, depth=0.6),
    "first_regime": Regime.TURBULENT,
}


def config(seed: int = 0, duration_s: float = 20.0, **changes: Any) -> SimulatedExchangeConfig:
    return SimulatedExchangeConfig(seed=seed, duration_s=duration_s, **changes)


@cache
def calm() -> Sequence[Told]:
    return list(SimulatedExchange(config(1, 60, **ALL_CALM)).events())


@cache
def turbulent() -> Sequence[Told]:
    return list(SimulatedExchange(config(3, 70, positions_at_start=2_000, **ALL_TURBULENT)).events())


def of(events: Iterable[Told], listing: str) -> list[Told]:
    return [told for told in events if told.listing == listing]


def mids(events: Iterable[Told], listing: str) -> tuple[list[int], list[float]]:
    """Return the times of a listing's quotes, and the mids in ticks from then on."""
    quotes = [told for told in events if isinstance(told, Best) and told.listing == listing]
    return [quote.at_ns for quote in quotes], [(quote.bid[0] + quote.ask[0]) / 2 for quote in quotes]


def sampled(events: Sequence[Told], listing: str, every_ns: int = NS_PER_S // 2) -> list[float]:
    times, values = mids(events, listing)
    grid = range(events[0].at_ns, events[-1].at_ns, every_ns)
    return [values[max(0, bisect_right(times, at_ns) - 1)] for at_ns in grid]


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(
        sum(a * a for a in one) * sum(b * b for b in other)
    )
