"""Features of the order book and the trades, one row every 100 ms of receive time.

Every rate is over one step. All ratios are of increments, so no price level and no currency enters a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from huracan.clock import NANOSECONDS, STEP_NS
from huracan.features.carry import Carry
from huracan.features.levels import (
    LEVELS,
    NO_ASK,
    NO_BID,
    Level,
    ask_flow,
    bid_flow,
    imbalance,
    padded,
    shape,
    weighted_mid,
    weighted_size,
)
from huracan.features.liquidations import Liquidations, intensity
from huracan.features.table import FeatureSet, Missing, feature
from huracan.features.trailing import STEPS_1S, STEPS_10S, BounceHistory, FlowHistory, MidHistory
from huracan.features.venues import VenueTop, compared
from huracan.features.vpin import VolumeBuckets

__all__ = ["MICRO", "MicroState"]

BPS = 1e4
NAN = float("nan")
INF = float("inf")

_LEVEL_RANGE = range(LEVELS)
_DECAY_PER_NS = 1.0 / NANOSECONDS
"""Of the intensities of trades: they halve in 0.69 s."""


class MicroState:
    """What one instrument did in the open step, and the little of earlier steps that features look back on.

    Feed it in the order of `ingest_seq`: `trade`, `quote`, `depth`, `lost_book`, and what its parts take; then `close`
    once a step. Prices and sizes are in increments; pass `size_increment * multiplier` where a contract is not one base
    unit. A step that does not end 100 ms after the last one starts the look-back anew.
    """

    __slots__ = (
        "_asks",
        "_bids",
        "_bounce",
        "_buy_heat",
        "_buy_ns",
        "_closed_ns",
        "_depth_size",
        "_depth_sum",
        "_depth_updates",
        "_flow",
        "_flow_unit",
        "_last_trade_ns",
        "_price_increment",
        "_quote",
        "_roots",
        "_sell_heat",
        "_sell_ns",
        "_size_increment",
        "ask",
        "ask_distance_bps",
        "ask_size",
        "bid",
        "bid_distance_bps",
        "bid_size",
        "book_pressure",
        "bought",
        "buckets",
        "buy_intensity",
        "carry",
        "depth_imbalance",
        "flows",
        "largest",
        "last_second",
        "last_ten",
        "last_trade",
        "lead_bps",
        "liquidations",
        "mid",
        "mid_gap_bps",
        "mids",
        "ofi",
        "quotes",
        "roll_spread",
        "sell_intensity",
        "sold",
        "spread_bps",
        "spread_gap_bps",
        "trade_age_s",
        "trades",
    )

    def __init__(self, price_increment: float, size_increment: float) -> None:
        self._price_increment = price_increment
        self._size_increment = size_increment
        self._flow_unit = math.sqrt(size_increment)
        self._quote: tuple[int, int, int, int] | None = None
        self._bids: tuple[Level, ...] | None = None
        self._asks: tuple[Level, ...] = ()
        self._depth_size = 0
        self._last_trade_ns = 0
        self._closed_ns = 0
        self._buy_ns = self._sell_ns = 0
        self._buy_heat = self._sell_heat = 0.0
        self._bounce = BounceHistory()
        self._reset_depth()
        self._roots = 0.0
        self.largest = 0
        """Largest trade of the open step."""
        self._reset_trades()
        self.buckets = VolumeBuckets()
        """Volume clock of the trades."""
        self.mids = MidHistory()
        self.flows = FlowHistory()
        self.liquidations = Liquidations()
        """Takes liquidations."""
        self.carry = Carry()
        """Takes mark, index and funding."""
        self.last_trade: int | None = None
        """Price of the last trade in increments; None before the first."""
        self.bid = self.bid_size = self.ask = self.ask_size = NAN
        """Best bid and ask at the close in increments; all NaN if one side is missing or they cross."""
        self.mid = self.spread_bps = NAN
        """Mid at the close, in the quote currency, and the spread in parts of it."""
        self.depth_imbalance = self.bid_distance_bps = self.ask_distance_bps = self.book_pressure = NAN
        self.ofi = [NAN] * LEVELS
        """Order flow imbalance of the step by level, in mean level sizes."""
        self.trade_age_s = self.buy_intensity = self.sell_intensity = self.roll_spread = NAN
        self.last_second: tuple[int, int, int, int] | None = None
        """Net volume, volume, trades and quotes; None where a step is missing."""
        self.last_ten: tuple[int, int, int, int] | None = None
        """The same of the last 10 s."""
        self.mid_gap_bps = self.lead_bps = self.spread_gap_bps = NAN

    def trade(self, price: int, size: int, side: int, recv_ns: int) -> None:
        """Take a trade; side is +1 if a buyer was the aggressor, -1 if a seller was."""
        self.trades += 1
        if side > 0:
            self.bought += size
            self._roots += math.sqrt(size)
            self._buy_heat = self._buy_heat * math.exp((self._buy_ns - recv_ns) * _DECAY_PER_NS) + 1.0
            self._buy_ns = recv_ns
        else:
            self.sold += size
            self._roots -= math.sqrt(size)
            self._sell_heat = self._sell_heat * math.exp((self._sell_ns - recv_ns) * _DECAY_PER_NS) + 1.0
            self._sell_ns = recv_ns
        if size > self.largest:
            self.largest = size
        self.last_trade = price
        self._last_trade_ns = recv_ns
        self.buckets.add(size, side, recv_ns)

    def quote(self, bid: int, bid_size: int, ask: int, ask_size: int) -> None:
        """Take the venue's best bid and ask; a side of price or size 0 is empty."""
        self.quotes += 1
        self._quote = (bid, bid_size, ask, ask_size)

    def depth(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Take the best levels of the synced book after an update, best first; a sixth and later are ignored.

        All five levels of order flow come from here, the first too, though quotes change more often: levels
        are comparable and share one mean size only if they saw the same updates, and flow at an unchanged
        price adds up to the same however seldom it is looked at.
        """
        new_bids, new_asks = padded(bids, NO_BID), padded(asks, NO_ASK)
        if self._bids is None:
            self._depth_size = sum(size for _, size in new_bids + new_asks)
        else:
            if new_bids != self._bids:
                self._add_flow(self._bids, new_bids, bid_flow)
            if new_asks != self._asks:
                self._add_flow(self._asks, new_asks, ask_flow)
        self._bids, self._asks = new_bids, new_asks
        self._depth_updates += 1
        self._depth_sum += self._depth_size

    def lost_book(self) -> None:
        """Forget the book, the quote and the order flow of this step: they are from before a gap."""
        self._quote = None
        self._bids = None
        self._reset_depth()

    def close(self, close_ns: int, others: Sequence[VenueTop] = ()) -> NDArray[np.float32]:
        """Close the step that ends at this time; return its features, shape (columns of MICRO,).

        `others` are the tops of the same underlying at other venues, at the close of the step before.
        """
        follows = close_ns - self._closed_ns == STEP_NS
        self._closed_ns = close_ns
        self._set_top()
        self._set_depth()
        self.ofi = self._normalised_flow()
        self._look_back(follows, close_ns)
        self._set_trades(close_ns)
        if others:
            self.mid_gap_bps, self.lead_bps, self.spread_gap_bps = compared(self.top_here, others)
        else:
            self.mid_gap_bps = self.lead_bps = self.spread_gap_bps = NAN
        row = MICRO.row(self)
        self._reset_depth()
        self._reset_trades()
        return row

    @property
    def top(self) -> tuple[int, int, int, int] | None:
        """Return best bid, its size, best ask, its size: of the latest quote, else of the book; or None."""
        top = self._quote
        if top is None and self._bids is not None:
            top = (*self._bids[0], *self._asks[0])
        if top is None or 0 in top or top[0] > top[2]:
            return None
        return top

    @property
    def top_here(self) -> VenueTop:
        """Return what markets of the same underlying at other venues compare themselves with."""
        return VenueTop(self.mid, self.mids.move_1s_bps, self.spread_bps)

    def volume(self, size: int) -> float:
        """Return a size of increments in base units."""
        return size * self._size_increment

    def _add_flow(self, old: tuple[Level, ...], new: tuple[Level, ...], flow_of: Callable[[Level, Level], int]) -> None:
        flow = self._flow
        for level in _LEVEL_RANGE:
            before, after = old[level], new[level]
            if before != after:
                flow[level] += flow_of(before, after)
                self._depth_size += after[1] - before[1]

    def _normalised_flow(self) -> list[float]:
        if self._bids is None:
            return [NAN] * LEVELS
        if not self._depth_sum:
            return [0.0] * LEVELS
        mean_size = self._depth_sum / (self._depth_updates * 2 * LEVELS)
        return [flow / mean_size for flow in self._flow]

    def _set_top(self) -> None:
        top = self.top
        if top is None:
            self.bid = self.bid_size = self.ask = self.ask_size = NAN
        else:
            self.bid, self.bid_size, self.ask, self.ask_size = top
        self.mid = 0.5 * (self.bid + self.ask) * self._price_increment
        self.spread_bps = 2 * BPS * (self.ask - self.bid) / (self.ask + self.bid)

    def _set_depth(self) -> None:
        bids, asks = self._bids, self._asks
        self.depth_imbalance = self.bid_distance_bps = self.ask_distance_bps = self.book_pressure = NAN
        if bids is None or not bids[0][1] or not asks[0][1]:
            return
        self.depth_imbalance = imbalance(weighted_size(bids), weighted_size(asks))
        if bids[0][0] < asks[0][0]:
            mid = 0.5 * (bids[0][0] + asks[0][0])
            bid_distance, bid_pressure = shape(bids, mid)
            ask_distance, ask_pressure = shape(asks, mid)
            self.bid_distance_bps, self.ask_distance_bps = -BPS * bid_distance / mid, BPS * ask_distance / mid
            self.book_pressure = imbalance(-bid_pressure, ask_pressure)

    def _look_back(self, follows: bool, close_ns: int) -> None:
        volume = self.bought + self.sold
        self.mids.close(follows, self.mid, self.spread_bps, self._roots * self._flow_unit)
        self.flows.close(follows, self.bought - self.sold, volume, self.trades, self.quotes)
        if not follows or self._bids is None:
            self.flows.lose_book()
        if self._bids is not None:
            self.flows.close_book(self._flow[0], self._depth_sum, self._depth_updates * 2 * LEVELS)
        self._bounce.close(follows, self.last_trade)
        self.liquidations.close(follows, close_ns, volume)
        self.carry.close(close_ns)

    def _set_trades(self, close_ns: int) -> None:
        self.last_second, self.last_ten = self.flows.over(STEPS_1S), self.flows.over(STEPS_10S)
        self.trade_age_s = (close_ns - self._last_trade_ns) / NANOSECONDS if self._last_trade_ns else NAN
        self.buy_intensity = self._buy_heat * math.exp((self._buy_ns - close_ns) * _DECAY_PER_NS)
        self.sell_intensity = self._sell_heat * math.exp((self._sell_ns - close_ns) * _DECAY_PER_NS)
        self.roll_spread = self._bounce.roll_spread()

    def _reset_depth(self) -> None:
        self._flow = [0] * LEVELS
        self._depth_sum = 0
        self._depth_updates = 0

    def _reset_trades(self) -> None:
        self.trades = 0
        self.quotes = 0
        self.bought = 0
        self.sold = 0
        self.largest = 0
        self._roots = 0.0


def _microprice_offset_bps(state: MicroState) -> float:
    mid = 0.5 * (state.bid + state.ask)
    return BPS * (weighted_mid(state.bid, state.bid_size, state.ask, state.ask_size) - mid) / mid


def _last_trade_offset(state: MicroState) -> float:
    spread = state.ask - state.bid
    if state.last_trade is None or not spread:
        return NAN
    return (state.last_trade - 0.5 * (state.bid + state.ask)) / spread


def _trade_imbalance_10s(state: MicroState) -> float:
    last = state.last_ten
    return last[0] / last[1] if last is not None and last[1] else NAN


def _trade_size_ratio(state: MicroState) -> float:
    second, ten = state.last_second, state.last_ten
    if second is None or ten is None or not second[2]:
        return NAN
    return second[1] * ten[2] / (second[2] * ten[1])


def _quote_trade_ratio(state: MicroState) -> float:
    last = state.last_ten
    return math.log((1 + last[3]) / (1 + last[2])) if last is not None else NAN


def _liquidation_intensity(state: MicroState) -> float:
    last = state.liquidations.last_minute
    return intensity(last[1] + last[2], last[0]) if last is not None else NAN


def _liquidated_volume(state: MicroState) -> float:
    last = state.liquidations.last_minute
    return math.log1p(state.volume(last[1] + last[2])) if last is not None else NAN


def _liquidation_imbalance(state: MicroState) -> float:
    last = state.liquidations.last_minute
    return imbalance(last[1], last[2]) if last is not None else NAN


def _mid_mark_basis_bps(state: MicroState) -> float:
    return BPS * (state.mid / state.carry.mark - 1)


def _ofi(level: int) -> Callable[[MicroState], float]:
    return lambda state: state.ofi[level - 1]


_OFI_SOURCE = (
    "Cont, Kukanov & Stoikov 2014, e_n summed over the depth updates of the step at level {}; "
    "over the mean size of a level in the step (Xu, Gould & Howison 2019)"
)

# fmt: off
MICRO: FeatureSet[MicroState] = FeatureSet(
    "micro",
    (
        feature(1, "mid_return_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="1e4 ln(mid_k / mid_k-1), mids at the close of the steps",
                compute=attrgetter("mids.return_bps")),
        feature(2, "spread_bps", unit="bps", low=0, high=2 * BPS, missing=Missing.NAN_IF_ONE_SIDED,
                source="quoted spread, 1e4 (P_a - P_b) / mid",
                compute=attrgetter("spread_bps")),
        feature(3, "microprice_offset_bps", unit="bps", low=-BPS, high=BPS, missing=Missing.NAN_IF_ONE_SIDED,
                source="weighted mid (P_a q_b + P_b q_a) / (q_a + q_b) against mid: the simple form that "
                       "the fitted micro-price of Stoikov 2018 starts from, not that micro-price",
                compute=_microprice_offset_bps),
        feature(4, "queue_imbalance", unit="ratio", low=-1, high=1, missing=Missing.NAN_IF_ONE_SIDED,
                source="Gould & Bonart 2016, (q_b - q_a) / (q_b + q_a)",
                compute=lambda state: imbalance(state.bid_size, state.ask_size)),
        feature(5, "depth_imbalance", unit="ratio", low=-1, high=1,
                missing=Missing.NAN_IF_NO_BOOK | Missing.NAN_IF_ONE_SIDED,
                source="queue imbalance of 5 levels, level l weighing exp(-0.5 (l - 1))",
                compute=attrgetter("depth_imbalance")),
        feature(6, "ofi_level_1", unit="mean level sizes", low=-INF, high=INF, missing=Missing.NAN_IF_NO_BOOK,
                source=_OFI_SOURCE.format(1), compute=_ofi(1)),
        feature(7, "ofi_level_2", unit="mean level sizes", low=-INF, high=INF, missing=Missing.NAN_IF_NO_BOOK,
                source=_OFI_SOURCE.format(2), compute=_ofi(2)),
        feature(8, "ofi_level_3", unit="mean level sizes", low=-INF, high=INF, missing=Missing.NAN_IF_NO_BOOK,
                source=_OFI_SOURCE.format(3), compute=_ofi(3)),
        feature(9, "ofi_level_4", unit="mean level sizes", low=-INF, high=INF, missing=Missing.NAN_IF_NO_BOOK,
                source=_OFI_SOURCE.format(4), compute=_ofi(4)),
        feature(10, "ofi_level_5", unit="mean level sizes", low=-INF, high=INF,
                missing=Missing.NAN_IF_NO_BOOK,
                source=_OFI_SOURCE.format(5), compute=_ofi(5)),
        feature(11, "ofi_integrated", unit="mean level sizes", low=-INF, high=INF,
                missing=Missing.NAN_IF_NO_BOOK,
                source="Cont, Cucuringu & Zhang 2023 with equal weights, since a first principal "
                       "component needs a training set: mean of the five levels",
                compute=lambda state: sum(state.ofi) / LEVELS),
        feature(12, "signed_volume", unit="base", low=-INF, high=INF, missing=Missing.NEVER,
                source="sum of size by the venue's aggressor flag, buys positive, over the step",
                compute=lambda state: state.volume(state.bought - state.sold)),
        feature(13, "trade_imbalance", unit="ratio", low=-1, high=1, missing=Missing.NAN_IF_NO_TRADE,
                source="(bought - sold) / (bought + sold) by aggressor over the step",
                compute=lambda state: imbalance(state.bought, state.sold)),
        feature(14, "log_trade_volume", unit="ln(1 + base)", low=0, high=INF, missing=Missing.NEVER,
                source="ln(1 + volume traded in the step)",
                compute=lambda state: math.log1p(state.volume(state.bought + state.sold))),
        feature(15, "trade_intensity", unit="1/s", low=0, high=INF, missing=Missing.NEVER,
                source="trades of the step / 0.1 s", compute=lambda state: float(state.trades * STEPS_1S)),
        feature(16, "quote_intensity", unit="1/s", low=0, high=INF, missing=Missing.NEVER,
                source="best bid and ask updates of the step / 0.1 s",
                compute=lambda state: float(state.quotes * STEPS_1S)),
        feature(17, "realised_volatility_bps", unit="bps per 10 s", low=0, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="1e4 sqrt(sum r^2), r the log returns of the mid over the last 100 steps",
                compute=attrgetter("mids.realised_volatility_bps")),
        feature(18, "mid_momentum_1s_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="1e4 ln(mid_k / mid_k-10)", compute=attrgetter("mids.move_1s_bps")),
        feature(19, "mid_momentum_10s_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="1e4 ln(mid_k / mid_k-100)", compute=attrgetter("mids.move_10s_bps")),
        feature(20, "last_trade_offset", unit="spreads", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_IF_LOCKED | Missing.NAN_BEFORE_FIRST_TRADE,
                source="(last trade price - mid) / (P_a - P_b) at the close", compute=_last_trade_offset),
        feature(21, "trade_age_s", unit="s", low=0, high=INF, missing=Missing.NAN_BEFORE_FIRST_TRADE,
                source="close of the step - receive time of the last trade",
                compute=attrgetter("trade_age_s")),
        feature(22, "vpin", unit="ratio", low=0, high=1, missing=Missing.NAN_UNTIL_FULL,
                source="Easley, Lopez de Prado & O'Hara 2012 by aggressor flag: 50 buckets of a tenth of "
                       "the volume of the first 10 s (and at least 50 trades)",
                compute=attrgetter("buckets.level")),
        feature(23, "vpin_rank", unit="ratio", low=0, high=1, missing=Missing.NAN_UNTIL_FULL,
                source="share of the last 1000 bucket closes whose VPIN was not above this one, from 50 on",
                compute=attrgetter("buckets.rank")),
        feature(24, "spread_ticks", unit="price increments", low=0, high=INF, missing=Missing.NAN_IF_ONE_SIDED,
                source="P_a - P_b", compute=lambda state: state.ask - state.bid),
        feature(25, "spread_change_1s_bps", unit="bps", low=-2 * BPS, high=2 * BPS,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="quoted spread less that of 10 steps before",
                compute=attrgetter("mids.spread_change_bps")),
        feature(26, "bid_depth_distance_bps", unit="bps", low=0, high=BPS,
                missing=Missing.NAN_IF_NO_BOOK | Missing.NAN_IF_ONE_SIDED | Missing.NAN_IF_LOCKED,
                source="sum q_l (mid - P_l) / sum q_l over 5 bid levels, 1e4 / mid: the inverse of a slope of the "
                       "book (Naes & Skjeltorp 2006)",
                compute=attrgetter("bid_distance_bps")),
        feature(27, "ask_depth_distance_bps", unit="bps", low=0, high=INF,
                missing=Missing.NAN_IF_NO_BOOK | Missing.NAN_IF_ONE_SIDED | Missing.NAN_IF_LOCKED,
                source="sum q_l (P_l - mid) / sum q_l over 5 ask levels, 1e4 / mid: the inverse of a slope of the "
                       "book (Naes & Skjeltorp 2006)",
                compute=attrgetter("ask_distance_bps")),
        feature(28, "book_pressure", unit="ratio", low=-1, high=1,
                missing=Missing.NAN_IF_NO_BOOK | Missing.NAN_IF_ONE_SIDED | Missing.NAN_IF_LOCKED,
                source="(B - A) / (B + A), B and A the sums of q_l / |P_l - mid| over 5 levels of each side",
                compute=attrgetter("book_pressure")),
        feature(29, "ofi_1s", unit="mean level sizes", low=-INF, high=INF,
                missing=Missing.NAN_IF_NO_BOOK | Missing.NAN_UNTIL_FULL,
                source="e_n of level 1 summed over the last 10 steps, over the mean size of a level in them",
                compute=lambda state: state.flows.imbalance(STEPS_1S)),
        feature(30, "ofi_10s", unit="mean level sizes", low=-INF, high=INF,
                missing=Missing.NAN_IF_NO_BOOK | Missing.NAN_UNTIL_FULL,
                source="e_n of level 1 summed over the last 100 steps, over the mean size of a level in them",
                compute=lambda state: state.flows.imbalance(STEPS_10S)),
        feature(31, "signed_volume_1s", unit="base", low=-INF, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="sum of size by the venue's aggressor flag, buys positive, over the last 10 steps",
                compute=lambda state: NAN if state.last_second is None else state.volume(state.last_second[0])),
        feature(32, "signed_volume_10s", unit="base", low=-INF, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="sum of size by the venue's aggressor flag, buys positive, over the last 100 steps",
                compute=lambda state: NAN if state.last_ten is None else state.volume(state.last_ten[0])),
        feature(33, "trade_imbalance_10s", unit="ratio", low=-1, high=1,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="(bought - sold) / (bought + sold) by aggressor over the last 100 steps",
                compute=_trade_imbalance_10s),
        feature(34, "largest_trade_share", unit="ratio", low=0, high=1, missing=Missing.NAN_IF_NO_TRADE,
                source="largest trade of the step over all volume of the step",
                compute=lambda state: state.largest / (state.bought + state.sold) if state.trades else NAN),
        feature(35, "trade_size_ratio", unit="ratio", low=0, high=INF,
                missing=Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="mean size of the trades of the last 10 steps over that of the last 100 steps; missing "
                       "without a trade in the last 10",
                compute=_trade_size_ratio),
        feature(36, "log_quote_trade_ratio_10s", unit="ln", low=-INF, high=INF, missing=Missing.NAN_UNTIL_FULL,
                source="ln((1 + best bid and ask updates) / (1 + trades)) over the last 100 steps",
                compute=_quote_trade_ratio),
        feature(37, "buy_intensity", unit="1/s", low=0, high=INF, missing=Missing.NEVER,
                source="kernel of Hawkes 1971, b sum exp(-b (t - t_i)) over all aggressive buys, b = 1/s",
                compute=attrgetter("buy_intensity")),
        feature(38, "sell_intensity", unit="1/s", low=0, high=INF, missing=Missing.NEVER,
                source="kernel of Hawkes 1971, b sum exp(-b (t - t_i)) over all aggressive sells, b = 1/s",
                compute=attrgetter("sell_intensity")),
        feature(39, "kyle_lambda_10s", unit="bps per sqrt(base)", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_VOLUME,
                source="Hasbrouck 2009, least-squares slope through the origin of the last 100 mid returns on the "
                       "sums of side sqrt(size) of their steps",
                compute=attrgetter("mids.kyle_lambda")),
        feature(40, "roll_spread_bps_10s", unit="bps", low=0, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL | Missing.NAN_BEFORE_FIRST_TRADE
                | Missing.NAN_IF_NO_BOUNCE,
                source="Roll 1984, 2 sqrt(-cov(dp_t, dp_t-1)) of the last 100 changes of the last trade price at "
                       "the close of steps, 1e4 / mid",
                compute=lambda state: 2 * BPS * state.roll_spread / (state.bid + state.ask)),
        feature(41, "jump_share_10s", unit="ratio", low=0, high=1,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Barndorff-Nielsen & Shephard 2004, max(RV - BV, 0) / RV of the last 100 mid returns, "
                       "BV = (pi / 2) (n / (n - 1)) sum |r_i| |r_i-1|",
                compute=attrgetter("mids.jump_share")),
        feature(42, "downside_share_10s", unit="ratio", low=0, high=1,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL | Missing.NAN_IF_FLAT,
                source="Barndorff-Nielsen, Kinnebrock & Shephard 2010, sum of squared mid returns below 0 over that "
                       "of all, last 100 steps",
                compute=attrgetter("mids.downside_share")),
        feature(43, "liquidation_intensity_60s", unit="ratio", low=0, high=1,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_UNTIL_FULL,
                source="liquidated volume L over traded volume V of the last 600 steps, L / max(V, L); a lower bound "
                       "where a venue tells the latest order alone",
                compute=_liquidation_intensity),
        feature(44, "log_liquidated_volume_60s", unit="ln(1 + base)", low=0, high=INF,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_UNTIL_FULL,
                source="ln(1 + volume liquidated in the last 600 steps)", compute=_liquidated_volume),
        feature(45, "liquidation_imbalance_60s", unit="ratio", low=-1, high=1,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_UNTIL_FULL | Missing.NAN_IF_NO_LIQUIDATION,
                source="(long - short) / (long + short) positions liquidated in the last 600 steps",
                compute=_liquidation_imbalance),
        feature(46, "liquidation_cascade", unit="flag", low=0, high=1,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_UNTIL_FULL,
                source="1 if in each of the last 2 windows of 10 s the intensity was above the 99th percentile of the "
                       "up to 360 before, and at least 80 % of one and the same side; needs 100 windows",
                compute=attrgetter("liquidations.cascade")),
        feature(47, "funding_rate_bps", unit="bps per funding period", low=-INF, high=INF,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_IF_STALE,
                source="the venue's funding rate; stale after 300 s",
                compute=attrgetter("carry.funding_rate_bps")),
        feature(48, "time_to_funding_h", unit="h", low=0, high=INF,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_IF_STALE,
                source="the venue's next funding time - close of the step; stale after 300 s, and once it has passed",
                compute=attrgetter("carry.time_to_funding_h")),
        feature(49, "mark_index_basis_bps", unit="bps", low=-BPS, high=INF,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_IF_STALE,
                source="1e4 (mark price / index price - 1); stale after 10 s",
                compute=attrgetter("carry.mark_index_basis_bps")),
        feature(50, "mid_mark_basis_bps", unit="bps", low=-BPS, high=INF,
                missing=Missing.NAN_WITHOUT_STREAM | Missing.NAN_IF_STALE | Missing.NAN_IF_ONE_SIDED,
                source="1e4 (mid / mark price - 1); stale after 10 s", compute=_mid_mark_basis_bps),
        feature(51, "venue_mid_gap_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_WITHOUT_PEER | Missing.NAN_IF_ONE_SIDED,
                source="1e4 ln(mid / median mid of the other venues at the close of the step before)",
                compute=attrgetter("mid_gap_bps")),
        feature(52, "venue_lead_1s_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_WITHOUT_PEER | Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="median change of the log mid of the other venues over the second up to the step before, less "
                       "our own over the last second",
                compute=attrgetter("lead_bps")),
        feature(53, "venue_spread_gap_bps", unit="bps", low=-2 * BPS, high=2 * BPS,
                missing=Missing.NAN_WITHOUT_PEER | Missing.NAN_IF_ONE_SIDED,
                source="spread_bps less the median spread_bps of the other venues at the close of the step before",
                compute=attrgetter("spread_gap_bps")),
    ),
)
# fmt: on
