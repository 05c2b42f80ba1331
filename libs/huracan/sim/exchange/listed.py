"""One listing: its book, its order flow, the leveraged positions on it, and what is done to it on purpose.

The book holds price levels moved by limit orders, cancels and market orders in the manner of Smith, Farmer, Gillemot &
Krishnamurthy (2003), "Statistical theory of the continuous double auction"; their times are a Hawkes process of three
components (market buys, market sells, quotes) in place of Poisson's, as in Bacry, Mastromatteo & Muzy (2015), "Hawkes
processes in finance". Sides lean towards the fair price, so that flow leads the mid as in Cont, Kukanov & Stoikov
(2014), "The price impact of order book events", and who finds the book far from the fair price takes all of the
difference: the informed trader of Glosten & Milgrom (1985).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from huracan.rng import SeededRng
from huracan.sim.exchange.anomalies import Injected, planned_for_listing
from huracan.sim.exchange.config import (
    NS_PER_MS,
    NS_PER_S,
    AnomalyKind,
    AssetConfig,
    SimulatedExchangeConfig,
    VenueConfig,
)
from huracan.sim.exchange.hawkes import NEVER_NS, Hawkes
from huracan.sim.exchange.ladder import Ladder
from huracan.sim.exchange.positions import LEAST_MARGIN_BPS, Position, Positions
from huracan.sim.exchange.prices import GRID_NS, Draw, FairPrices, exponential, normal
from huracan.sim.told import Best, Book, Changed, Liquidated, Listing, Told, Trade

FIRST_UPDATE_ID: Final = 1_000_000

_BUY, _SELL, _QUOTE = range(3)
_BPS: Final = 1e-4
_MIN_LEVELS: Final = 20
"""A side is never taken below this many levels, so there is always a best price."""
_MAX_LEVELS: Final = 400
"""Above this far levels are cancelled, some at each `Changed`: a drifting price leaves orders behind."""
_LIMITS_AT_BEST, _CANCELS_AT_BEST = 0.7, 0.3
"""Most limit orders join the best, most cancels come from behind it: thin levels there let the price move."""
_NEAR_BPS, _NEAR_LEAST_TICKS = 0.28, 3.0
_FAR_BPS, _FAR_LEAST_TICKS, _FAR_SHARE = 3.0, 20.0, 0.1
"""How far behind the best orders are, exponentially."""
_DEEP_SIZE: Final = 0.5
"""Size of orders behind the best, against those at it."""
_LEAST_SIZE: Final = 0.25
"""Of a limit order, against the mean of the exponential part."""
_PASSIVE_TILT: Final = 0.7
"""Limit orders and cancels lean less than market orders do."""
_CANCEL_SHARE: Final = 0.7
"""A cancel at the best takes up to this share of the level; behind it, the whole level."""
_FILL_SPREAD: Final = 0.5
"""Chance per tick of extra spread that a limit order improves the price: closes the spread fast."""
_SLACK_BPS: Final = 0.15
"""How far beyond the fair price a limit order may be: without it the spread is seldom one tick."""
_ARBITRAGE_SIZE: Final = 20.0
"""Most that one who takes the difference takes, in mean market orders."""
_BASIS_MEMORY_S: Final = 60.0
_LARGEST_POSITION: Final = 10.0
"""In mean market orders."""
_RAMP_S: Final = 2.0
"""A divergence takes this long to open, or a quarter of its time if that is less."""


class ListedMarket:
    """Run one listing, event by event; `next_ns` says when `step` is due."""

    def __init__(
        self,
        config: SimulatedExchangeConfig,
        listing: Listing,
        asset: AssetConfig,
        venue: VenueConfig,
        prices: FairPrices,
        tell: Callable[[Told], None],
    ) -> None:
        self.listing = listing
        self.key = listing.key
        self.injected: list[Injected] = []
        self.followers: list[ListedMarket] = []
        self._config, self._asset, self._prices, self._tell = config, asset, prices, tell
        streams = SeededRng(config.seed)
        self._draw: Draw = streams.stream(f"sim.exchange.{self.key}.flow").random
        self._draw_basis: Draw = streams.stream(f"sim.exchange.{self.key}.basis").random
        self._draw_position: Draw = streams.stream(f"sim.exchange.{self.key}.positions").random

        tick, price = float(listing.tick), asset.price
        ticks_per_bps = price * _BPS / tick
        lot_worth = float(listing.lot * listing.contract) * price
        self._tick = tick
        self._lag_steps = int(venue.delay_ms * NS_PER_MS) // GRID_NS
        self._delay_ns = int(venue.delay_ms * NS_PER_MS)
        self._interval_ns = round(venue.depth_interval_ms * NS_PER_MS)
        self._market_lots = config.market_order_quote / lot_worth
        self._limit_lots = config.limit_order_quote / lot_worth
        self._near_ticks = max(_NEAR_LEAST_TICKS, _NEAR_BPS * ticks_per_bps)
        self._far_ticks = max(_FAR_LEAST_TICKS, _FAR_BPS * ticks_per_bps)
        self._slack_ticks = max(0.5, _SLACK_BPS * ticks_per_bps)
        self._lean_ticks = max(2.0, config.lean_bps * ticks_per_bps)
        self._arbitrage_ticks = max(3.0, config.arbitrage_bps * ticks_per_bps)
        self._ticks_per_bps = ticks_per_bps
        self._basis_decay = math.exp(-self._interval_ns / NS_PER_S / _BASIS_MEMORY_S)
        self._basis_noise = venue.basis_bps * _BPS * math.sqrt(1 - self._basis_decay**2)
        self._basis = venue.basis_bps * _BPS * normal(self._draw_basis)

        self._baseline = config.baseline_per_s(venue)
        self._flow = Hawkes(
            self._draw,
            (self._baseline[0], self._baseline[0], self._baseline[1]),
            (
                (config.self_excitation, config.cross_excitation, config.trade_to_quote),
                (config.cross_excitation, config.self_excitation, config.trade_to_quote),
                (0.0, 0.0, config.quote_excitation),
            ),
            config.excitation_decay_s,
            config.start_ns,
        )
        self._planned = planned_for_listing(config, self.key)
        self._coming = next(self._planned, None)
        self._active: list[Injected] = []
        self._jumps: deque[int] = deque()
        """When this listing sees a jump of the fair price."""
        self._silent = False
        self._offset = 0.0
        self._edge_ticks = -self._slack_ticks
        """How far from the fair price the nearest limit orders are; negative is beyond it."""
        self._market_factor = self._quote_factor = 1.0
        self._depth = 1.0
        self._regime = prices.regime

        self._update_id = self._flushed_id = FIRST_UPDATE_ID
        self._trade_id = config.first_trade_id
        self._flushed_ns = config.start_ns
        self._flush_ns = config.start_ns + self._interval_ns
        self._incoming: deque[tuple[int, int]] = deque()
        self._lean = 0.0
        self._fair = 0.0
        self._look()
        self._bids = Ladder(-1, math.floor(self._fair))
        self._asks = Ladder(1, math.floor(self._fair) + 1)
        self._quoted = (0, 0, 0, 0)
        for side in (self._bids, self._asks):
            self._requote(side, side.best)
            side.drain()
        self._update_id = FIRST_UPDATE_ID
        self._mids = deque([self.mid_ticks], maxlen=config.fast_move_s)
        self._mid_due_ns = config.start_ns + NS_PER_S
        self._positions = Positions(config.most_positions)
        self._forced_left = self._forced_most = max(1.0, config.liquidations_per_s)
        for number in range(2 * config.positions_at_start):
            self._open_earlier_position(1 if number % 2 else -1)
        self._order_ns = NEVER_NS
        self._retune(config.start_ns)
        self._quote(config.start_ns)
        self.next_ns = 0
        """When the next step is due."""
        self._plan()

    @property
    def mid_ticks(self) -> float:
        """Return the middle of the best prices, in ticks."""
        return (self._asks.best - self._bids.best) / 2

    @property
    def mid(self) -> float:
        """Return the same in quote currency."""
        return self.mid_ticks * self._tick

    @property
    def silent(self) -> bool:
        """Return whether the listing tells nothing for now."""
        return self._silent

    def step(self) -> None:
        """Do what is due first: a `Changed` and what goes with it, an excitation from the leader, or an order."""
        if self._flush_ns <= self._order_ns and not (self._incoming and self._incoming[0][0] < self._flush_ns):
            self._interval_over(self._flush_ns)
        elif self._incoming and self._incoming[0][0] <= self._order_ns:
            at_ns, component = self._incoming.popleft()
            if not self._silent:
                self._flow.advance(at_ns)
                self._flow.add(component, self._config.lead_excitation)
                self._order_ns = self._flow.next_ns()
        else:
            self._order(self._order_ns)
        self._plan()

    def _plan(self) -> None:
        due_ns = min(self._flush_ns, self._order_ns)
        if self._incoming and self._incoming[0][0] < due_ns:
            due_ns = self._incoming[0][0]
        self.next_ns = due_ns

    def hear(self, at_ns: int, component: int) -> None:
        """Take note of a market order on the leading venue; it excites this listing's after the delay."""
        self._incoming.append((at_ns + self._delay_ns, component))
        self._plan()

    def book(self) -> Book:
        """Return the book that all `Changed` told so far lead to."""
        return Book(self._flushed_ns, self.key, self._flushed_id, self._bids.as_drained(), self._asks.as_drained())

    def flush(self, at_ns: int) -> None:
        """Tell what changed since the last `Changed`, if anything."""
        if self._update_id == self._flushed_id:
            return
        first_id = self._flushed_id + 1
        self._flushed_id, self._flushed_ns = self._update_id, at_ns
        self._tell(Changed(at_ns, self.key, first_id, self._update_id, self._bids.drain(), self._asks.drain()))

    def price_jumped(self, at_ns: int, duration_ns: int, size_bps: float) -> None:
        """Take note that the fair price jumps with the grid's step at a time; it is seen here after the delay."""
        seen_ns = at_ns + self._lag_steps * GRID_NS
        self._jumps.append(seen_ns)
        self.injected.append(
            Injected(AnomalyKind.PRICE_JUMP, self.key, seen_ns, seen_ns + self._interval_ns + duration_ns, size_bps)
        )

    def _look(self) -> None:
        fair = self._prices.log_price(self._asset.asset, self._lag_steps) + self._basis + self._offset
        self._fair = math.exp(fair) / self._tick

    def _order(self, at_ns: int) -> None:
        flow, config = self._flow, self._config
        flow.advance(at_ns)
        if self._prices.next_ns <= at_ns:
            self._prices.advance(at_ns)
        self._look()
        lean = self._lean = max(-0.95, min(0.95, (self._fair - self.mid_ticks) / self._lean_ticks))
        base = self._market_base
        flow.baseline[_BUY], flow.baseline[_SELL] = base * (1 + lean), base * (1 - lean)
        component = flow.choose()
        flow.excite(component)
        if component == _QUOTE:
            if self._draw() < config.limit_share:
                self._limit_order()
            else:
                self._cancel()
        else:
            self._market_order(at_ns, component)
        self._quote(at_ns)
        self._order_ns = flow.next_ns()

    def _excite_followers(self, at_ns: int, component: int) -> None:
        for follower in self.followers:
            follower.hear(at_ns, component)

    def _edge(self, side: Ladder) -> int:
        return math.ceil(side.sign * self._fair + self._edge_ticks)

    def _depth_ticks(self, share_at_best: float) -> int:
        where = self._draw()
        if where < share_at_best:
            return 0
        scale = self._far_ticks if where > 1.0 - _FAR_SHARE else self._near_ticks
        return 1 + int(scale * exponential(self._draw))

    def _lots(self, deep: bool) -> int:
        mean = self._limit_lots * self._depth * (_DEEP_SIZE if deep else 1.0)
        return 1 + int(mean * (_LEAST_SIZE + exponential(self._draw)))

    def _limit_order(self) -> None:
        bids, asks = self._bids, self._asks
        side, other = (bids, asks) if self._draw() < 0.5 * (1.0 + _PASSIVE_TILT * self._lean) else (asks, bids)
        edge = self._edge(side)
        nearest = max(edge, 1 - other.best)
        room = side.best - nearest
        if room > 0 and self._draw() < _FILL_SPREAD * room:
            # Cubed, so that one order closes most of a wide gap: a sweep leaves a quote behind, not a void.
            key = max(nearest, side.best - 1 - int((1.0 - self._draw() ** 3) * room))
            deep = False
        else:
            depth = self._depth_ticks(_LIMITS_AT_BEST)
            key = max(side.best, edge) + depth
            deep = depth > 0
        side.add(key, self._lots(deep))
        self._update_id += 1

    def _cancel(self) -> None:
        side = self._asks if self._draw() < 0.5 * (1.0 + _PASSIVE_TILT * self._lean) else self._bids
        depth = self._depth_ticks(_CANCELS_AT_BEST)
        share = self._draw()
        key = side.best + depth
        lots = side.levels.get(key, 0)
        if not lots:
            return
        whole = depth > 0 or lots < self._limit_lots * _LEAST_SIZE or key < self._edge(side)
        cancelled = lots if whole else 1 + int(_CANCEL_SHARE * share * lots)
        if cancelled >= lots and len(side.levels) <= _MIN_LEVELS:
            return
        side.take(key, min(cancelled, lots))
        self._update_id += 1

    def _market_order(self, at_ns: int, component: int) -> None:
        sign = 1 if component == _BUY else -1
        side = self._asks if component == _BUY else self._bids
        lots = 1 + int(self._market_lots * exponential(self._draw))
        worst_key = None
        if sign * (self._fair - self.mid_ticks) > self._arbitrage_ticks:
            lots = 1 + int(_ARBITRAGE_SIZE * self._market_lots)
            worst_key = max(side.best, math.floor(side.sign * self._fair))
            if len(side.levels) < 2 * _MIN_LEVELS:
                # Makers quote anew beyond the fair price: without it the least depth would hold the price up.
                self._requote(side, max(worst_key + 1, self._edge(side)))
        filled, _ = self._take(at_ns, side, lots, worst_key)
        self._excite_followers(at_ns, component)
        if filled and self._draw_position() < self._config.leveraged_share:
            self._open_position(sign, min(filled, int(_LARGEST_POSITION * self._market_lots)), self.mid_ticks)

    def _take(self, at_ns: int, side: Ladder, lots: int, worst_key: int | None) -> tuple[int, int]:
        """Return the lots taken and the ticks of the last trade."""
        left, ticks = lots, 0
        while left > 0 and len(side.levels) > _MIN_LEVELS:
            key = side.best
            if worst_key is not None and key > worst_key:
                break
            filled = min(left, side.levels[key])
            left -= filled
            side.take(key, filled)
            ticks = side.sign * key
            self._tell(Trade(at_ns, self.key, self._trade_id, ticks, filled, side.sign))
            self._trade_id += 1
            self._update_id += 1
        return lots - left, ticks

    def _quote(self, at_ns: int) -> None:
        bids, asks = self._bids, self._asks
        quoted = (bids.best, bids.levels[bids.best], asks.best, asks.levels[asks.best])
        if quoted != self._quoted:
            self._quoted = quoted
            self._tell(Best(at_ns, self.key, self._update_id, (-quoted[0], quoted[1]), (quoted[2], quoted[3])))

    def _interval_over(self, at_ns: int) -> None:
        self._flush_ns += self._interval_ns
        self._prices.advance(at_ns)
        if not self._silent:
            self._prune()
            self.flush(at_ns)
        self._basis = self._basis * self._basis_decay + self._basis_noise * normal(self._draw_basis)
        self._inject(at_ns)
        if self._silent:
            return
        self._offset = self._diverging(at_ns)
        self._look()
        while self._jumps and self._jumps[0] <= at_ns:
            self._jumps.popleft()
            self._sweep(at_ns)
        self._liquidate(at_ns)
        self._quote(at_ns)

    def _prune(self) -> None:
        for side in (self._bids, self._asks):
            excess = len(side.levels) - _MAX_LEVELS
            if excess > 0:
                for key in sorted(side.levels)[-excess - _MAX_LEVELS // 10 :]:
                    side.take(key, side.levels[key])
                self._update_id += 1

    def _requote(self, side: Ladder, from_key: int) -> None:
        for level in range(2 * _MIN_LEVELS):
            side.add(from_key + 3 * level, 2 * self._lots(level > 0))
        self._update_id += 1

    def _sweep(self, at_ns: int) -> None:
        """Let one order take the book to where the fair price has jumped, and quotes follow it there."""
        rising = self._fair > self.mid_ticks
        side, other = (self._asks, self._bids) if rising else (self._bids, self._asks)
        self._requote(side, math.ceil(side.sign * self._fair + self._slack_ticks))
        everything = sum(side.levels.values())
        self._take(at_ns, side, everything, math.floor(side.sign * self._fair))
        self._requote(other, max(1 - side.best, math.ceil(other.sign * self._fair + self._slack_ticks)))

    def _withdraw(self, half_ticks: float) -> None:
        for side in (self._bids, self._asks):
            edge = math.ceil(side.sign * self.mid_ticks + half_ticks)
            self._requote(side, edge)
            for key in [key for key in side.levels if key < edge]:
                side.take(key, side.levels[key])
            self._update_id += 1

    def _inject(self, at_ns: int) -> None:
        """Begin and end anomalies, follow the regime, and see what it does to the flow."""
        regime, active = self._prices.regime, [injected for injected in self._active if injected.until_ns > at_ns]
        begun: list[Injected] = []
        while self._coming is not None and self._coming.from_ns <= at_ns:
            plan = self._coming
            begun.append(Injected(plan.kind, self.key, at_ns, at_ns + plan.duration_ns, plan.size))
            self._coming = next(self._planned, None)
        if not begun and len(active) == len(self._active) and regime is self._regime:
            return
        self.injected += begun
        self._active, self._regime = active + begun, regime
        self._look()
        for injected in begun:
            if injected.kind is AnomalyKind.SPREAD and not self._silent:
                self._withdraw(injected.size / 2 * self._ticks_per_bps)
        self._retune(at_ns)

    def _retune(self, at_ns: int) -> None:
        sizes: dict[AnomalyKind, float] = {}
        for injected in self._active:
            sizes[injected.kind] = max(sizes.get(injected.kind, 0.0), injected.size)
        regime = self._config.regimes[self._regime]
        self._silent = AnomalyKind.SILENCE in sizes
        self._edge_ticks = -self._slack_ticks
        if AnomalyKind.SPREAD in sizes:
            self._edge_ticks = sizes[AnomalyKind.SPREAD] / 2 * self._ticks_per_bps
        self._depth = regime.depth
        self._market_base = self._baseline[0] * regime.flow * sizes.get(AnomalyKind.VOLUME, 1.0)
        flow = self._flow
        flow.advance(at_ns)
        flow.baseline[:] = (
            self._market_base * (1 + self._lean),
            self._market_base * (1 - self._lean),
            self._baseline[1] * regime.flow * sizes.get(AnomalyKind.QUOTE_STUFFING, 1.0),
        )
        self._order_ns = NEVER_NS if self._silent else flow.next_ns()

    def _diverging(self, at_ns: int) -> float:
        offset = 0.0
        for injected in self._active:
            if injected.kind is AnomalyKind.DIVERGENCE:
                ramp_ns = min(_RAMP_S * NS_PER_S, (injected.until_ns - injected.from_ns) / 4)
                offset += injected.size * _BPS * min(1.0, (at_ns - injected.from_ns) / ramp_ns)
        return offset

    def _margin_ticks(self) -> float:
        mean = max(1.0, self._config.margin_bps - LEAST_MARGIN_BPS)
        return (LEAST_MARGIN_BPS + mean * exponential(self._draw_position)) * self._ticks_per_bps

    def _open_position(self, sign: int, lots: int, entry_ticks: float) -> None:
        if lots > 0:
            self._positions.open(Position(sign, round(entry_ticks - sign * self._margin_ticks()), lots))

    def _open_earlier_position(self, sign: int) -> None:
        """Open one from before the start: what is left of its margin is less than the whole, and never nothing."""
        left = 0.2 + 0.8 * self._draw_position()
        ticks = self.mid_ticks - sign * left * self._margin_ticks()
        lots = 1 + int(self._market_lots * exponential(self._draw_position))
        self._positions.open(Position(sign, round(ticks), min(lots, int(_LARGEST_POSITION * self._market_lots))))

    def _liquidate(self, at_ns: int) -> None:
        config = self._config
        self._forced_left = min(
            self._forced_most, self._forced_left + config.liquidations_per_s * self._interval_ns / NS_PER_S
        )
        if at_ns >= self._mid_due_ns:
            self._mids.append(self.mid_ticks)
            self._mid_due_ns += NS_PER_S
        for sign in (1, -1):
            while self._forced_left >= 1 and (position := self._positions.close(sign, self.mid_ticks)) is not None:
                extreme = max(self._mids) if sign > 0 else min(self._mids)
                if sign * (extreme - self.mid_ticks) < config.fast_move_bps * self._ticks_per_bps:
                    continue
                filled, ticks = self._take(at_ns, self._bids if sign > 0 else self._asks, position.lots, None)
                if not filled:
                    self._positions.open(position)
                    break
                self._forced_left -= 1
                self._tell(Liquidated(at_ns, self.key, ticks, filled, -sign))
                component = _SELL if sign > 0 else _BUY
                self._flow.advance(at_ns)
                self._flow.excite(component)
                self._order_ns = self._flow.next_ns()
                self._excite_followers(at_ns, component)
