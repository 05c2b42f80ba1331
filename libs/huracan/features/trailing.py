"""What features look back on, step by step: the mid, the flow, and the prices of trades over the last 10 s.

A step that does not follow the one before starts each of them anew. Counts are kept as running totals, so that a window
is a difference of two of them, exact and of one cost however long it is.
"""

from __future__ import annotations

import math
from collections import deque

from huracan.clock import NANOSECONDS, STEP_NS

STEPS_1S = NANOSECONDS // STEP_NS
STEPS_10S = 10 * STEPS_1S
BPS = 1e4
NAN = float("nan")

_BIPOWER = math.pi / 2 * (STEPS_10S / (STEPS_10S - 1))


class MidHistory:
    """Mids, spreads and the returns between them; a step without a mid starts them anew."""

    __slots__ = (
        "_change",
        "_downs",
        "_flow_squares",
        "_impacts",
        "_logs",
        "_products",
        "_spreads",
        "_squares",
        "downside_share",
        "jump_share",
        "kyle_lambda",
        "move_1s_bps",
        "move_10s_bps",
        "realised_volatility_bps",
        "return_bps",
        "spread_change_bps",
    )

    def __init__(self) -> None:
        self._logs: deque[float] = deque(maxlen=STEPS_10S + 1)
        self._spreads: deque[float] = deque(maxlen=STEPS_1S + 1)
        self._squares: deque[float] = deque(maxlen=STEPS_10S)
        self._downs: deque[float] = deque(maxlen=STEPS_10S)
        self._products: deque[float] = deque(maxlen=STEPS_10S - 1)
        self._impacts: deque[float] = deque(maxlen=STEPS_10S)
        self._flow_squares: deque[float] = deque(maxlen=STEPS_10S)
        self._change = NAN
        self.return_bps = self.move_1s_bps = self.move_10s_bps = NAN
        """Change of the log mid over the last step, second and 10 s; NaN if a mid between is missing."""
        self.spread_change_bps = NAN
        """Over the last second."""
        self.realised_volatility_bps = NAN
        """Root of the sum of the last 100 squared log returns."""
        self.jump_share = NAN
        self.downside_share = NAN
        self.kyle_lambda = NAN
        """Least-squares slope, through the origin, of the last 100 returns on the signed flow of their steps."""

    def close(self, follows: bool, mid: float, spread_bps: float, flow: float) -> None:
        """Take mid and spread at the close of a step, NaN where there are none, and the signed flow of the step."""
        if not follows or math.isnan(mid):
            self._forget()
        if math.isnan(mid):
            return
        log_mid, logs = math.log(mid), self._logs
        if logs:
            change = log_mid - logs[-1]
            square = change * change
            self._squares.append(square)
            self._downs.append(square if change < 0 else 0.0)
            self._impacts.append(change * flow)
            self._flow_squares.append(flow * flow)
            if len(logs) > 1:
                self._products.append(abs(change * self._change))
            self._change = change
            self.return_bps = BPS * change
        logs.append(log_mid)
        self._spreads.append(spread_bps)
        if len(logs) > STEPS_1S:
            self.move_1s_bps = BPS * (log_mid - logs[-1 - STEPS_1S])
            self.spread_change_bps = spread_bps - self._spreads[0]
        if len(logs) > STEPS_10S:
            self.move_10s_bps = BPS * (log_mid - logs[0])
            self._measure()

    def _forget(self) -> None:
        for each in (self._logs, self._spreads, self._squares, self._downs, self._products):
            each.clear()
        self._impacts.clear()
        self._flow_squares.clear()
        self.return_bps = self.move_1s_bps = self.move_10s_bps = self.spread_change_bps = NAN
        self.realised_volatility_bps = self.jump_share = self.downside_share = self.kyle_lambda = NAN

    def _measure(self) -> None:
        realised = sum(self._squares)
        self.realised_volatility_bps = BPS * math.sqrt(realised)
        if realised:
            self.jump_share = max(realised - _BIPOWER * sum(self._products), 0.0) / realised
            self.downside_share = min(sum(self._downs) / realised, 1.0)
        else:
            self.jump_share = self.downside_share = NAN
        flow = sum(self._flow_squares)
        self.kyle_lambda = BPS * sum(self._impacts) / flow if flow else NAN


class FlowHistory:
    """Volumes, numbers of trades and quotes, and order flow imbalance by step."""

    __slots__ = ("_book", "_books", "_now", "_totals")

    def __init__(self) -> None:
        self._now = (0, 0, 0, 0)
        self._totals: deque[tuple[int, int, int, int]] = deque(maxlen=STEPS_10S + 1)
        self._book = (0, 0, 0)
        self._books: deque[tuple[int, int, int]] = deque(maxlen=STEPS_10S + 1)

    def close(self, follows: bool, net: int, volume: int, trades: int, quotes: int) -> None:
        """Take what was traded in a step, buys less sells and all, and its numbers of trades and quotes."""
        before = self._now
        if not follows:
            self._totals.clear()
            self._totals.append(before)
        self._now = (before[0] + net, before[1] + volume, before[2] + trades, before[3] + quotes)
        self._totals.append(self._now)

    def close_book(self, flow: int, sizes: int, levels: int) -> None:
        """Take a step's order flow imbalance, and the sizes of all levels after each update with their number."""
        before = self._book
        if not self._books:
            self._books.append(before)
        self._book = (before[0] + flow, before[1] + sizes, before[2] + levels)
        self._books.append(self._book)

    def lose_book(self) -> None:
        """Begin anew: a step has no book, or one is missing."""
        self._books.clear()

    def over(self, steps: int) -> tuple[int, int, int, int] | None:
        """Return net volume, volume, trades and quotes of the last steps, at most 100; None if one is missing."""
        totals = self._totals
        if len(totals) <= steps:
            return None
        now, then = self._now, totals[-1 - steps]
        return now[0] - then[0], now[1] - then[1], now[2] - then[2], now[3] - then[3]

    def imbalance(self, steps: int) -> float:
        """Return order flow imbalance of the last steps, at most 100, over the mean size of a level in them.

        NaN if a step or the book was missing.
        """
        books = self._books
        if len(books) <= steps:
            return NAN
        (flow, sizes, levels), then = self._book, books[-1 - steps]
        return (flow - then[0]) * (levels - then[2]) / (sizes - then[1]) if sizes > then[1] else 0.0


class BounceHistory:
    """Last trade prices at the close of steps, and how their changes turn back on each other."""

    __slots__ = ("_prices", "_product", "_products")

    def __init__(self) -> None:
        self._prices: deque[int] = deque(maxlen=STEPS_10S + 1)
        self._products: deque[int] = deque(maxlen=STEPS_10S)
        self._product = 0

    def close(self, follows: bool, price: int | None) -> None:
        """Take the price of the last trade at the close of a step, in increments; None before the first trade."""
        if not follows:
            self._prices.clear()
            self._products.clear()
        if price is None:
            return
        prices = self._prices
        prices.append(price)
        if len(prices) > 2:
            self._product += (price - prices[-2]) * (prices[-2] - prices[-3])
        if len(prices) > 1:
            self._products.append(self._product)

    def roll_spread(self) -> float:
        """Return 2 sqrt(-cov(dp_t, dp_t-1)) of the last 100 changes, in increments (Roll 1984).

        NaN until there are as many, and where the covariance is not below zero.
        """
        prices = self._prices
        if len(prices) <= STEPS_10S:
            return NAN
        pairs = STEPS_10S - 1
        products = self._products[-1] - self._products[0]
        covariance = pairs * products - (prices[-1] - prices[1]) * (prices[-2] - prices[0])
        return 2 * math.sqrt(-covariance) / pairs if covariance < 0 else NAN
