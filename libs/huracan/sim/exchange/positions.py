"""The stock of leveraged positions of one listing, by the price at which each is closed by force."""

from __future__ import annotations

import heapq
from typing import Final, NamedTuple

LEAST_MARGIN_BPS: Final = 15.0


class Position(NamedTuple):
    """One leveraged position."""

    side: int
    """+1 long, -1 short."""
    ticks: int
    """The price that ends it."""
    lots: int


class Positions:
    """Hold positions of both sides, those nearest to their end first."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Keyed by -side * ticks: a long ends when the price falls to its ticks, so the highest is first.
        self._stock: dict[int, list[tuple[int, int]]] = {1: [], -1: []}

    def open(self, position: Position) -> None:
        """Take in a position, unless the stock of its side is full."""
        stock = self._stock[position.side]
        if len(stock) < self._most:
            heapq.heappush(stock, (-position.side * position.ticks, position.lots))

    def close(self, side: int, mid_ticks: float) -> Position | None:
        """Remove and return a position of a side that a mid price ends, or None."""
        stock = self._stock[side]
        if not stock or -side * mid_ticks < stock[0][0]:
            return None
        key, lots = heapq.heappop(stock)
        return Position(side, -side * key, lots)
