"""The fair prices that nobody sees: one common factor, a part of each asset's own, and regimes that take turns.

log price of asset a = log opening price + volatility_a * (sqrt(c) * F + sqrt(1 - c) * Z_a), with F and the Z_a
independent walks of the same law, so that the correlation of the returns of any two assets is c (a one-factor model;
Sharpe 1963).
The regime is that of the whole market, a Markov chain in continuous time (Hamilton 1989); within it a walk has the
regime's volatility, a drift whose sign the walk draws for each stay, or a pull back to where the stay began
(Ornstein-Uhlenbeck).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from huracan.rng import SeededRng
from huracan.sim.exchange.config import NS_PER_MS, NS_PER_S, Regime, RegimeConfig, SimulatedExchangeConfig

GRID_NS: Final = 20 * NS_PER_MS
_BAR_S: Final = 900.0

Draw = Callable[[], float]
"""Return the next double in [0, 1)."""


def exponential(draw: Draw) -> float:
    """Return an exponential of mean 1."""
    return -math.log(1.0 - draw())


def normal(draw: Draw) -> float:
    """Return a standard normal (Box & Muller 1958); two draws."""
    return math.sqrt(-2.0 * math.log(1.0 - draw())) * math.cos(2.0 * math.pi * draw())


class Regimes:
    """Walk the Markov chain of regimes; reversible, so that it serves for the time before the start as well."""

    def __init__(self, draw: Draw, regimes: Mapping[Regime, RegimeConfig], first: Regime | None) -> None:
        self._draw = draw
        self._mean_s = {regime: config.mean_s for regime, config in regimes.items()}
        self.regime = self._stationary() if first is None else first
        self._left_s = self._mean_s[self.regime] * exponential(draw)

    def _stationary(self) -> Regime:
        where = self._draw() * sum(self._mean_s.values())
        for regime, mean_s in self._mean_s.items():
            where -= mean_s
            if where < 0:
                return regime
        return regime

    def advance(self, elapsed_s: float) -> bool:
        """Let time pass; return whether the regime changed, at most once a call."""
        self._left_s -= elapsed_s
        if self._left_s > 0:
            return False
        others = [regime for regime in self._mean_s if regime is not self.regime]
        self.regime = others[int(self._draw() * len(others))]
        self._left_s = self._mean_s[self.regime] * exponential(self._draw)
        return True


class Walk:
    """Walk one part of the log price, in steps of one length."""

    def __init__(self, draw: Draw, regimes: Mapping[Regime, RegimeConfig], step_s: float) -> None:
        self._draw = draw
        self._terms = {
            regime: (
                config.volatility_bps * 1e-4 * math.sqrt(step_s / _BAR_S),
                config.volatility_bps * 1e-4 * config.drift * step_s / _BAR_S,
                -math.expm1(-step_s / config.pull_s) if config.pull_s else 0.0,
            )
            for regime, config in regimes.items()
        }
        self.level = 0.0
        self.enter(next(iter(regimes)))

    def enter(self, regime: Regime) -> None:
        """Begin a stay in a regime."""
        self._sigma, drift, self._pull = self._terms[regime]
        self._drift = drift if self._draw() < 0.5 else -drift
        self._home = self.level

    def step(self) -> float:
        """Take one step and return the new level."""
        self.level += self._drift + self._sigma * normal(self._draw) - self._pull * (self.level - self._home)
        return self.level


class FairPrices:
    """Hold the fair log price of every asset on a grid of 20 ms, and as far back as the slowest venue looks."""

    def __init__(self, config: SimulatedExchangeConfig) -> None:
        streams = SeededRng(config.seed)
        step_s = GRID_NS / NS_PER_S
        regimes = config.regimes
        self._regimes = Regimes(streams.stream("sim.exchange.regimes").random, regimes, config.first_regime)
        self._factor = Walk(streams.stream("sim.exchange.factor").random, regimes, step_s)
        self._own = {
            asset.asset: Walk(streams.stream(f"sim.exchange.{asset.asset}.price").random, regimes, step_s)
            for asset in config.assets
        }
        self._loads = {asset.asset: loads(config, asset.volatility) for asset in config.assets}
        self._jumped: dict[str, float] = {asset.asset: math.log(asset.price) for asset in config.assets}
        kept = 2 + max(int(venue.delay_ms * NS_PER_MS) // GRID_NS for venue in config.venues)
        self._path: dict[str, deque[float]] = {
            asset: deque([level], maxlen=kept) for asset, level in self._jumped.items()
        }
        self.next_ns = config.start_ns + GRID_NS
        """When the grid has its next step."""
        for walk in (self._factor, *self._own.values()):
            walk.enter(self._regimes.regime)

    @property
    def regime(self) -> Regime:
        """Return the regime of the whole market."""
        return self._regimes.regime

    def advance(self, until_ns: int) -> None:
        """Take every step up to a time."""
        while self.next_ns <= until_ns:
            if self._regimes.advance(GRID_NS / NS_PER_S):
                for walk in (self._factor, *self._own.values()):
                    walk.enter(self._regimes.regime)
            common = self._factor.step()
            for asset, walk in self._own.items():
                shared, own = self._loads[asset]
                self._path[asset].append(self._jumped[asset] + shared * common + own * walk.step())
            self.next_ns += GRID_NS

    def jump(self, asset: str, size_bps: float) -> None:
        """Move an asset's price for good, from the next step on."""
        self._jumped[asset] += size_bps * 1e-4

    def log_price(self, asset: str, steps_ago: int = 0) -> float:
        """Return an asset's log price of now, or of so many grid steps ago."""
        path = self._path[asset]
        return path[max(-len(path), -1 - steps_ago)]


def loads(config: SimulatedExchangeConfig, volatility: float) -> tuple[float, float]:
    """Return what an asset's log price has of the common walk, and of its own."""
    return volatility * math.sqrt(config.correlation), volatility * math.sqrt(1 - config.correlation)
