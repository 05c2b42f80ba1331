"""Bars: those from before the start, walked backwards from the opening price, and the market's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from huracan.errors import BadInput
from huracan.rng import SeededRng
from huracan.sim.exchange.config import AssetConfig, Regime, SimulatedExchangeConfig, VenueConfig
from huracan.sim.exchange.prices import Regimes, Walk, loads
from huracan.sim.told import Candle, Listing, Trade

MINUTE_NS: Final = 60_000_000_000
MINUTES_A_DAY: Final = 1_440
_STEPS: Final = 4
"""In a minute: enough for a high and a low."""


class Minute(NamedTuple):
    """One minute of an asset before the start: log prices against the opening price, and how much was traded."""

    open: float
    high: float
    low: float
    close: float
    activity: float
    """Against what the configured mean rates give."""


class History:
    """Walk all assets backwards, minute by minute, by the market's own law, which is the same in both directions."""

    def __init__(self, config: SimulatedExchangeConfig, first_regime: Regime) -> None:
        streams, step_s = SeededRng(config.seed), 60 / _STEPS
        self._flow = {regime: terms.flow for regime, terms in config.regimes.items()}
        self._regimes = Regimes(streams.stream("sim.exchange.history.regimes").random, config.regimes, first_regime)
        self._factor = Walk(streams.stream("sim.exchange.history.factor").random, config.regimes, step_s)
        self._loads = {asset.asset: loads(config, asset.volatility) for asset in config.assets}
        self._draws = {
            asset.asset: streams.stream(f"sim.exchange.{asset.asset}.history").random for asset in config.assets
        }
        self._own = {asset: Walk(draw, config.regimes, step_s) for asset, draw in self._draws.items()}
        self._minutes: dict[str, list[Minute]] = {asset: [] for asset in self._own}
        self._enter()

    def minute(self, asset: str, ago: int) -> Minute:
        """Return one minute of an asset; the one 0 ago ends where the market begins."""
        minutes = self._minutes[asset]
        while len(minutes) <= ago:
            self._step_back()
        return minutes[ago]

    def _enter(self) -> None:
        for walk in (self._factor, *self._own.values()):
            walk.enter(self._regimes.regime)

    def _step_back(self) -> None:
        if self._regimes.advance(60):
            self._enter()
        common = [self._factor.level, *(self._factor.step() for _ in range(_STEPS))]
        activity = self._flow[self._regimes.regime]
        for asset, walk in self._own.items():
            shared, own = self._loads[asset]
            levels = [walk.level, *(walk.step() for _ in range(_STEPS))]
            path = [shared * both + own * one for both, one in zip(common, levels, strict=True)]
            luck = 0.5 + self._draws[asset]()
            self._minutes[asset].append(Minute(path[-1], max(path), min(path), path[0], activity * luck))


class Bars:
    """Hold the minutes of one listing and add them up to bars."""

    def __init__(
        self,
        config: SimulatedExchangeConfig,
        listing: Listing,
        asset: AssetConfig,
        venue: VenueConfig,
        history: History,
    ) -> None:
        self._asset = asset.asset
        self._history = history
        self._opening = asset.price / float(listing.tick)
        self._trades = config.market_orders_per_s * venue.activity * 60
        self._lots = self._trades * config.market_order_quote / (float(listing.lot * listing.contract) * asset.price)
        self._kept = config.history_days * MINUTES_A_DAY
        # The minute in which the market starts is the first of its own; what came before in it is history.
        self._start = config.start_ns // MINUTE_NS
        self._into_first = config.start_ns % MINUTE_NS / MINUTE_NS
        self._own: dict[int, Candle] = {}
        self._last = self._start

    def add(self, trade: Trade) -> None:
        """Take in a trade, none older than the one before."""
        minute, ticks = trade.at_ns // MINUTE_NS, trade.ticks
        bar = self._own.get(minute)
        if bar is None:
            bar = self._first() if minute == self._start else _flat(minute, ticks)
            for missing in range(self._last + 1, minute):
                self._own[missing] = _flat(missing, self._close(missing - 1))
            self._last = minute
            for old in list(islice(self._own, max(0, len(self._own) - self._kept))):
                del self._own[old]
        self._own[minute] = Candle(
            bar.open_ns,
            bar.open,
            max(bar.high, ticks),
            min(bar.low, ticks),
            ticks,
            bar.lots + trade.lots,
            bar.trades + 1,
        )

    def candles(self, interval_ns: int, end_ns: int, count: int, now_ns: int) -> list[Candle]:
        """Return up to `count` bars, oldest first, closed by `end_ns` and by now.

        Raises BadInput for an interval that is not a whole number of minutes, or a count below 1.
        """
        if interval_ns < MINUTE_NS or interval_ns % MINUTE_NS:
            raise BadInput(f"interval_ns: must be a whole number of minutes, was {interval_ns}; ask for 1 m or more")
        if count < 1:
            raise BadInput(f"count: must be 1 or more, was {count}")
        width = interval_ns // MINUTE_NS
        last = min(end_ns, now_ns) // interval_ns * width
        oldest = max(self._start, self._last) - self._kept
        first = max(last - count * width, -(-oldest // width) * width)
        return [
            _joined([self._minute(minute) for minute in range(opens, opens + width)])
            for opens in range(first, last, width)
        ]

    def _minute(self, minute: int) -> Candle:
        if minute < self._start:
            return self._before(minute)
        bar = self._own.get(minute)
        if bar is not None:
            return bar
        return self._first() if minute == self._start else _flat(minute, self._close(minute - 1))

    def _close(self, minute: int) -> int:
        bar = self._own.get(min(minute, self._last))
        return self._first().close if bar is None else bar.close

    def _first(self) -> Candle:
        """Return the part of the first minute that lies before the start."""
        opening = round(self._opening)
        return self._before(self._start) if self._into_first else _flat(self._start, opening)

    def _before(self, minute: int) -> Candle:
        ago = self._start - minute - (0 if self._into_first else 1)
        part = self._history.minute(self._asset, ago)
        activity = part.activity * (self._into_first if minute == self._start else 1.0)
        return Candle(
            minute * MINUTE_NS,
            self._ticks(part.open),
            self._ticks(part.high),
            self._ticks(part.low),
            self._ticks(part.close),
            max(1, round(activity * self._lots)),
            max(1, round(activity * self._trades)),
        )

    def _ticks(self, log_price: float) -> int:
        return round(self._opening * math.exp(log_price))


def _flat(minute: int, ticks: int) -> Candle:
    return Candle(minute * MINUTE_NS, ticks, ticks, ticks, ticks, 0, 0)


def _joined(minutes: Sequence[Candle]) -> Candle:
    return Candle(
        minutes[0].open_ns,
        minutes[0].open,
        max(minute.high for minute in minutes),
        min(minute.low for minute in minutes),
        minutes[-1].close,
        sum(minute.lots for minute in minutes),
        sum(minute.trades for minute in minutes),
    )
