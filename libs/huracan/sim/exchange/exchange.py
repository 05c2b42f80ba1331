"""The exchange: all listings on one time line, their mark prices and funding, and what can be asked about them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from huracan.errors import BadInput
from huracan.sim.exchange.anomalies import Injected, Planned, planned_for_asset
from huracan.sim.exchange.candles import Bars, History
from huracan.sim.exchange.config import NS_PER_S, Regime, SimulatedExchangeConfig
from huracan.sim.exchange.hawkes import NEVER_NS
from huracan.sim.exchange.listed import ListedMarket
from huracan.sim.exchange.prices import FairPrices
from huracan.sim.told import Book, Candle, Listing, Marked, Told, Trade

FUNDING_NS: Final = 8 * 3_600 * NS_PER_S
_MARK_DIGITS: Final = 2
"""More than the tick has."""


@dataclass(slots=True)
class _Premium:
    """What the mark price and the funding rate of one listing rest on."""

    smoothed: float = 0.0
    total: float = 0.0
    count: int = 0
    next_funding_ns: int = 0


class SimulatedExchange:
    """Run a whole simulated exchange, lazily and in order of event time."""

    def __init__(self, config: SimulatedExchangeConfig) -> None:
        self.config = config
        self.listings: Sequence[Listing] = config.listings
        self._pending: deque[Told] = deque()
        self._prices = FairPrices(config)
        history = History(config, self._prices.regime)
        self._markets: dict[str, ListedMarket] = {}
        self._bars: dict[str, Bars] = {}
        self._by_asset: dict[str, list[ListedMarket]] = {}
        for asset in config.assets:
            markets: list[ListedMarket] = []
            for venue in config.venues:
                listing = next(one for one in self.listings if (one.venue, one.asset) == (venue.venue, asset.asset))
                market = ListedMarket(config, listing, asset, venue, self._prices, self._pending.append)
                markets.append(market)
                self._markets[market.key] = market
                self._bars[market.key] = Bars(config, listing, asset, venue, history)
            markets[0].followers = markets[1:]
            self._by_asset[asset.asset] = markets
        self._running = list(self._markets.values())
        self._jumps = {asset: planned_for_asset(config, asset) for asset in self._by_asset}
        self._next_jump: dict[str, Planned | None] = {asset: next(jumps, None) for asset, jumps in self._jumps.items()}
        self._jump_ns = self._first_jump_ns()
        self._mark_interval_ns = round(config.mark_interval_s * NS_PER_S)
        self._mark_ns = -(-config.start_ns // self._mark_interval_ns) * self._mark_interval_ns
        self._premiums = {key: _Premium() for key in self._markets}
        self._now_ns = config.start_ns
        self._end_ns = NEVER_NS if config.end_ns is None else config.end_ns

    @property
    def now_ns(self) -> int:
        """Return the time of the last event yielded, or the start."""
        return self._now_ns

    @property
    def regime(self) -> Regime:
        """Return the regime the market is in."""
        return self._prices.regime

    @property
    def injected(self) -> Sequence[Injected]:
        """Return every anomaly that has begun, by the time it began."""
        return sorted(
            (injected for market in self._markets.values() for injected in market.injected),
            key=lambda injected: (injected.from_ns, injected.listing),
        )

    def events(self) -> Iterator[Told]:
        """Yield what is told, in time order, for ever or until the end; a second call goes on where the first stood."""
        pending = self._pending
        while True:
            while pending:
                told = pending.popleft()
                self._now_ns = told.at_ns
                if type(told) is Trade:
                    self._bars[told.listing].add(told)
                yield told
            if not self._running:
                return
            self._step()

    def book(self, listing_key: str) -> Book:
        """Return a listing's book: what the `Changed` events yielded so far lead to.

        A `Best` yielded since may be newer. Raises BadInput for a listing that does not exist.
        """
        return self._market(listing_key).book()

    def candles(self, listing_key: str, interval_ns: int, end_ns: int, count: int) -> Sequence[Candle]:
        """Return up to `count` bars closed by `end_ns` and the last event yielded, oldest first, aligned to the epoch.

        They reach back `history_days`: at first before the start, where the last close is the opening price; a bar in
        which the market begins has both parts. Raises BadInput for an interval that is not a whole number of minutes, a
        count below 1, or a listing that does not exist.
        """
        self._market(listing_key)
        return self._bars[listing_key].candles(interval_ns, end_ns, count, self._now_ns)

    def _market(self, listing_key: str) -> ListedMarket:
        if listing_key not in self._markets:
            raise BadInput(f"listing_key: must be one of {', '.join(self._markets)}, was {listing_key}")
        return self._markets[listing_key]

    def _step(self) -> None:
        market = self._running[0]
        at_ns = market.next_ns
        for other in self._running:
            if other.next_ns < at_ns:
                market, at_ns = other, other.next_ns
        at_ns = min(at_ns, self._mark_ns, self._jump_ns)
        if at_ns >= self._end_ns:
            # One at a time, so that no book is ahead of what was yielded.
            ended = self._running.pop()
            if not ended.silent:
                ended.flush(self._end_ns)
        elif at_ns == self._jump_ns:
            self._jump(at_ns)
        elif at_ns == self._mark_ns:
            self._mark_ns += self._mark_interval_ns
            for markets in self._by_asset.values():
                self._mark(markets, at_ns)
        else:
            market.step()

    def _first_jump_ns(self) -> int:
        return min((plan.from_ns for plan in self._next_jump.values() if plan is not None), default=NEVER_NS)

    def _jump(self, at_ns: int) -> None:
        self._prices.advance(at_ns)
        for asset, plan in self._next_jump.items():
            if plan is not None and plan.from_ns <= at_ns:
                self._prices.jump(asset, plan.size)
                for market in self._by_asset[asset]:
                    market.price_jumped(self._prices.next_ns, plan.duration_ns, plan.size)
                self._next_jump[asset] = next(self._jumps[asset], None)
        self._jump_ns = self._first_jump_ns()

    def _mark(self, markets: Sequence[ListedMarket], at_ns: int) -> None:
        index = sum(market.mid for market in markets) / len(markets)
        fade = math.exp(-self._mark_interval_ns / NS_PER_S / self.config.basis_memory_s)
        for market in markets:
            premium = self._premiums[market.key]
            if at_ns >= premium.next_funding_ns:
                premium.next_funding_ns = (at_ns // FUNDING_NS + 1) * FUNDING_NS
                premium.total, premium.count = 0.0, 0
            basis = market.mid / index - 1
            premium.smoothed = fade * premium.smoothed + (1 - fade) * basis
            premium.total += basis
            premium.count += 1
            if market.silent:
                continue
            digits = -int(market.listing.tick.normalize().as_tuple().exponent) + _MARK_DIGITS
            self._pending.append(
                Marked(
                    at_ns,
                    market.key,
                    Decimal(f"{index * (1 + premium.smoothed):.{digits}f}"),
                    Decimal(f"{index:.{digits}f}"),
                    Decimal(f"{self._funding_rate(premium.total / premium.count):.8f}"),
                    premium.next_funding_ns,
                )
            )

    def _funding_rate(self, premium: float) -> float:
        """Return premium + clamp(interest - premium), capped (Binance: "Introduction to Futures Funding Rates")."""
        config = self.config
        damping = max(-config.funding_damping, min(config.funding_damping, config.interest_rate - premium))
        return max(-config.funding_cap, min(config.funding_cap, premium + damping))
