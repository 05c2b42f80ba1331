"""Features of the order book and the trades, one row every 100 ms of receive time.

Every rate is over one step. All ratios are of increments, so no price level and no currency enters a window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from huracan.clock import NANOSECONDS, STEP_NS
from huracan.features.table import FeatureSet, Missing, feature
from huracan.features.vpin import VolumeBuckets

__all__ = ["LEVELS", "MICRO", "MicroState", "ask_flow", "bid_flow", "imbalance", "weighted_mid"]

Level = tuple[int, int]
"""Price and size, in increments."""

LEVELS = 5
STEPS_1S = NANOSECONDS // STEP_NS
STEPS_10S = 10 * STEPS_1S
BPS = 1e4
NAN = float("nan")
INF = float("inf")

_LEVEL_RANGE = range(LEVELS)
_NO_BID: Level = (0, 0)
_NO_ASK: Level = (1 << 62, 0)
_DEPTH_WEIGHTS = tuple(math.exp(-0.5 * level) for level in range(LEVELS))


def bid_flow(before: Level, after: Level) -> int:
    """Return what one change of a bid level adds to order flow imbalance: the first two terms of e_n.

    Cont, Kukanov & Stoikov 2014. An empty level is one of size 0 at the worst price.
    """
    if after[0] > before[0]:
        return after[1]
    if after[0] < before[0]:
        return -before[1]
    return after[1] - before[1]


def ask_flow(before: Level, after: Level) -> int:
    """Return what one change of an ask level adds to order flow imbalance: the last two terms of e_n."""
    if after[0] < before[0]:
        return -after[1]
    if after[0] > before[0]:
        return before[1]
    return before[1] - after[1]


def imbalance(bid: float, ask: float) -> float:
    """Return (bid - ask) / (bid + ask), in [-1, 1]; NaN if both are 0."""
    total = bid + ask
    return (bid - ask) / total if total else NAN


def weighted_mid(bid: float, bid_size: float, ask: float, ask_size: float) -> float:
    """Return (P_a q_b + P_b q_a) / (q_a + q_b): the mid, drawn to the side where less is waiting."""
    return (ask * bid_size + bid * ask_size) / (ask_size + bid_size)


class MicroState:
    """What one instrument did in the open step, and the little of earlier steps that features look back on.

    Feed it in the order of `ingest_seq`: `trade`, `quote`, `depth`, `lost_book`; then `close` once a step.
    Prices and sizes are in increments; pass `size_increment * multiplier` where a contract is not one base
    unit. A step that does not end 100 ms after the last one starts the look-back anew.
    """

    __slots__ = (
        "_asks",
        "_bids",
        "_closed_ns",
        "_depth_size",
        "_depth_sum",
        "_depth_updates",
        "_flow",
        "_last_trade_ns",
        "_log_mids",
        "_price_increment",
        "_quote",
        "_size_increment",
        "_squares",
        "ask",
        "ask_size",
        "bid",
        "bid_size",
        "bought",
        "buckets",
        "last_trade",
        "mid",
        "ofi",
        "quotes",
        "sold",
        "trade_age_s",
        "trades",
    )

    def __init__(self, price_increment: float, size_increment: float) -> None:
        self._price_increment = price_increment
        self._size_increment = size_increment
        self._quote: tuple[int, int, int, int] | None = None
        self._bids: tuple[Level, ...] | None = None
        self._asks: tuple[Level, ...] = ()
        self._depth_size = 0
        self._last_trade_ns = 0
        self._closed_ns = 0
        self._log_mids: deque[float] = deque(maxlen=STEPS_10S + 1)
        self._squares: deque[float] = deque(maxlen=STEPS_10S)
        self._reset_depth()
        self._reset_trades()
        self.buckets = VolumeBuckets()
        """Volume clock of the trades."""
        self.last_trade = NAN
        """Price of the last trade in increments; NaN before the first."""
        self.bid = self.bid_size = self.ask = self.ask_size = NAN
        """Best bid and ask at the close in increments; all NaN if one side is missing or they cross."""
        self.mid = NAN
        """Mid at the close, in the quote currency."""
        self.ofi = [NAN] * LEVELS
        """Order flow imbalance of the step by level, in mean level sizes."""
        self.trade_age_s = NAN

    def trade(self, price: int, size: int, side: int, recv_ns: int) -> None:
        """Take a trade; side is +1 if a buyer was the aggressor, -1 if a seller was."""
        self.trades += 1
        if side > 0:
            self.bought += size
        else:
            self.sold += size
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
        new_bids, new_asks = _padded(bids, _NO_BID), _padded(asks, _NO_ASK)
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

    def close(self, close_ns: int) -> NDArray[np.float32]:
        """Close the step that ends at this time; return its features, shape (columns of MICRO,)."""
        self._set_top()
        self._remember_mid(close_ns)
        self.ofi = self._normalised_flow()
        self.trade_age_s = (close_ns - self._last_trade_ns) / NANOSECONDS if self._last_trade_ns else NAN
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

    def move_bps(self, steps: int) -> float:
        """Return the change of the log mid over the last steps, in bps; NaN if a mid between is missing."""
        logs = self._log_mids
        return BPS * (logs[-1] - logs[-1 - steps]) if len(logs) > steps else NAN

    def realised_volatility_bps(self) -> float:
        """Return the root of the sum of squared log returns over the last 100 steps, in bps."""
        return BPS * math.sqrt(sum(self._squares)) if len(self._squares) == STEPS_10S else NAN

    def depth_imbalance(self) -> float:
        """Return the imbalance of five levels a side, level l weighing exp(-0.5 (l - 1))."""
        if self._bids is None or not self._bids[0][1] or not self._asks[0][1]:
            return NAN
        return imbalance(_weighted_size(self._bids), _weighted_size(self._asks))

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

    def _remember_mid(self, close_ns: int) -> None:
        logs = self._log_mids
        if close_ns - self._closed_ns != STEP_NS or math.isnan(self.mid):
            logs.clear()
            self._squares.clear()
        self._closed_ns = close_ns
        if math.isnan(self.mid):
            return
        logs.append(math.log(self.mid))
        if len(logs) > 1:
            self._squares.append((logs[-1] - logs[-2]) ** 2)

    def _reset_depth(self) -> None:
        self._flow = [0] * LEVELS
        self._depth_sum = 0
        self._depth_updates = 0

    def _reset_trades(self) -> None:
        self.trades = 0
        self.quotes = 0
        self.bought = 0
        self.sold = 0


def _padded(levels: Sequence[Level], empty: Level) -> tuple[Level, ...]:
    if len(levels) == LEVELS:
        return tuple(levels)
    return (*levels[:LEVELS], *(empty,) * (LEVELS - len(levels)))


def _weighted_size(levels: tuple[Level, ...]) -> float:
    return sum([weight * level[1] for weight, level in zip(_DEPTH_WEIGHTS, levels, strict=True)])


def _spread_bps(state: MicroState) -> float:
    return 2 * BPS * (state.ask - state.bid) / (state.ask + state.bid)


def _microprice_offset_bps(state: MicroState) -> float:
    mid = 0.5 * (state.bid + state.ask)
    return BPS * (weighted_mid(state.bid, state.bid_size, state.ask, state.ask_size) - mid) / mid


def _last_trade_offset(state: MicroState) -> float:
    spread = state.ask - state.bid
    return (state.last_trade - 0.5 * (state.bid + state.ask)) / spread if spread else NAN


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
                compute=lambda state: state.move_bps(1)),
        feature(2, "spread_bps", unit="bps", low=0, high=2 * BPS, missing=Missing.NAN_IF_ONE_SIDED,
                source="quoted spread, 1e4 (P_a - P_b) / mid", compute=_spread_bps),
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
                compute=MicroState.depth_imbalance),
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
                compute=MicroState.realised_volatility_bps),
        feature(18, "mid_momentum_1s_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="1e4 ln(mid_k / mid_k-10)", compute=lambda state: state.move_bps(STEPS_1S)),
        feature(19, "mid_momentum_10s_bps", unit="bps", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_UNTIL_FULL,
                source="1e4 ln(mid_k / mid_k-100)", compute=lambda state: state.move_bps(STEPS_10S)),
        feature(20, "last_trade_offset", unit="spreads", low=-INF, high=INF,
                missing=Missing.NAN_IF_ONE_SIDED | Missing.NAN_IF_LOCKED | Missing.NAN_BEFORE_FIRST_TRADE,
                source="(last trade price - mid) / (P_a - P_b) at the close", compute=_last_trade_offset),
        feature(21, "trade_age_s", unit="s", low=0, high=INF, missing=Missing.NAN_BEFORE_FIRST_TRADE,
                source="close of the step - receive time of the last trade",
                compute=lambda state: state.trade_age_s),
        feature(22, "vpin", unit="ratio", low=0, high=1, missing=Missing.NAN_UNTIL_FULL,
                source="Easley, Lopez de Prado & O'Hara 2012 by aggressor flag: 50 buckets of a tenth of "
                       "the volume of the first 10 s (and at least 50 trades)",
                compute=lambda state: state.buckets.level),
        feature(23, "vpin_rank", unit="ratio", low=0, high=1, missing=Missing.NAN_UNTIL_FULL,
                source="share of the last 1000 bucket closes whose VPIN was not above this one, from 50 on",
                compute=lambda state: state.buckets.rank),
    ),
)
# fmt: on
