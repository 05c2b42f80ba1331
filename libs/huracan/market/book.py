"""The order book of one instrument: integer prices and sizes, sorted levels, and the venue's rule of continuity."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from huracan.errors import SequenceGap

BID = 1
ASK = -1

Level = tuple[int, int]
"""Price and size in increments."""


class _Side:
    """Levels of one side: the size at each price, and the prices in ascending order.

    A list is moved in one piece on each insertion, which for the few thousand levels of a book costs less than a tree.
    """

    __slots__ = ("prices", "sizes")

    def __init__(self) -> None:
        self.prices: list[int] = []
        self.sizes: dict[int, int] = {}

    def set(self, levels: Iterable[Level]) -> None:
        prices, sizes = self.prices, self.sizes
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif sizes.pop(price, 0):
                del prices[bisect_left(prices, price)]

    def clear(self) -> None:
        self.prices.clear()
        self.sizes.clear()


class OrderBook:
    """Hold the price levels of both sides. Sizes are positive; setting a level to 0 removes it."""

    def __init__(self) -> None:
        self._bids = _Side()
        self._asks = _Side()

    def clear(self) -> None:
        """Remove every level."""
        self._bids.clear()
        self._asks.clear()

    def set_level(self, side: int, price: int, size: int) -> None:
        """Set the size at a price: side +1 bid, -1 ask."""
        self.set_levels(side, ((price, size),))

    def set_levels(self, side: int, levels: Iterable[Level]) -> None:
        """Set the sizes at several prices of a side, in their order: +1 bid, -1 ask."""
        (self._bids if side == BID else self._asks).set(levels)

    def walk(self, side: int) -> Iterator[Level]:
        """Yield the levels of a side, best first."""
        levels = self._bids if side == BID else self._asks
        for price in reversed(levels.prices) if side == BID else levels.prices:
            yield price, levels.sizes[price]

    def bids(self, depth: int) -> list[Level]:
        """Return up to `depth` bid levels, best first."""
        sizes = self._bids.sizes
        return [(price, sizes[price]) for price in self._bids.prices[: -depth - 1 : -1]]

    def asks(self, depth: int) -> list[Level]:
        """Return up to `depth` ask levels, best first."""
        sizes = self._asks.sizes
        return [(price, sizes[price]) for price in self._asks.prices[:depth]]

    def best_bid(self) -> Level | None:
        """Return the best bid, or None when there is none."""
        prices = self._bids.prices
        return (prices[-1], self._bids.sizes[prices[-1]]) if prices else None

    def best_ask(self) -> Level | None:
        """Return the best ask, or None when there is none."""
        prices = self._asks.prices
        return (prices[0], self._asks.sizes[prices[0]]) if prices else None

    def levels(self) -> tuple[list[Level], list[Level]]:
        """Return all bids and all asks, best first."""
        return list(self.walk(BID)), list(self.walk(ASK))


@dataclass(frozen=True, slots=True)
class DepthUpdate:
    """Changed levels of one update; it spans the ids `first` to `final`, and `previous` is the final id before it."""

    first: int
    final: int
    previous: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class Applied(Enum):
    """What became of an update."""

    APPLIED = "applied"
    BUFFERED = "buffered"
    """No snapshot yet."""
    OUTDATED = "outdated"
    """The book already has it: sent twice, or older than the snapshot."""


class SyncedBook:
    """An order book that knows whether it is right: bootstrapped from a snapshot, continued without a gap.

    The rule, in which each venue's own can be said: an update follows when its `previous` is the book's final id, even
    where it sets that id back (OKX: maintenance) or leaves it (OKX: nothing has changed). After a snapshot that was
    asked for, the first update may also span the snapshot's id (Binance: "How to manage a local order book correctly");
    those before it were buffered, and older ones are outdated. A snapshot that came in the stream of updates starts
    anew (OKX, Bybit). Anything else is a gap: the book is dropped and waits for the next snapshot.
    """

    _BUFFER = 4096
    """Updates kept while waiting for a snapshot: minutes of a busy instrument, a few megabytes; the oldest go first."""

    def __init__(self) -> None:
        self.book = OrderBook()
        self.synced = False
        self.final = 0
        self._pending: deque[DepthUpdate] = deque(maxlen=self._BUFFER)
        self._awaits_first = False

    def snapshot(
        self, last_update_id: int, bids: Iterable[Level], asks: Iterable[Level], *, restart: bool = False
    ) -> list[DepthUpdate]:
        """Load a snapshot and return the buffered updates, oldest first, for the caller to apply next.

        A snapshot older than the book changes nothing. One that the updates do not continue shows as a gap when the
        first of them is applied. With `restart` it came in the stream of updates: what came before is past.
        """
        if self.synced and last_update_id < self.final and not restart:
            return []
        if restart:
            self._pending.clear()
        self.book.clear()
        self.book.set_levels(BID, bids)
        self.book.set_levels(ASK, asks)
        self.final, self.synced, self._awaits_first = last_update_id, True, not restart
        pending = list(self._pending)
        self._pending.clear()
        return pending

    def apply(self, update: DepthUpdate) -> Applied:
        """Take an update; raise SequenceGap, with the book dropped, when it does not follow the one before."""
        if not self.synced:
            self._pending.append(update)
            return Applied.BUFFERED
        follows = self._follows(update)
        if not follows and (update.final < self.final or (update.final == self.final and not self._awaits_first)):
            return Applied.OUTDATED
        if not follows:
            expected = self.final
            self.drop()
            self._pending.append(update)
            raise SequenceGap(expected, update.previous)
        self._awaits_first = False
        self.book.set_levels(BID, update.bids)
        self.book.set_levels(ASK, update.asks)
        self.final = update.final
        return Applied.APPLIED

    def _follows(self, update: DepthUpdate) -> bool:
        return update.previous == self.final or (self._awaits_first and update.first <= self.final <= update.final)

    def drop(self) -> None:
        """Forget the book: nothing is known until the next snapshot."""
        self.book.clear()
        self.synced = False
        self._pending.clear()
