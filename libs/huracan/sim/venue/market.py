"""What the server asks of a simulated market."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from huracan.sim.told import Book, Candle, Listing, Told


class Market(Protocol):
    """Listings, and what happens to them."""

    @property
    def listings(self) -> Sequence[Listing]:
        """Return what is traded."""
        ...

    def events(self) -> Iterator[Told]:
        """Yield what happens, in order of event time."""
        ...

    def book(self, listing_key: str) -> Book:
        """Return the book as of the last event yielded; before the first, the opening book."""
        ...

    def candles(self, listing_key: str, interval_ns: int, end_ns: int, count: int) -> Sequence[Candle]:
        """Return up to `count` bars closed by a time and by the last event yielded, oldest first."""
        ...
