"""A listing's book as the venue knows it: what its snapshots and checksums are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from huracan.sim.told import Book, Changed, Level

Sides = tuple[dict[int, int], dict[int, int]]
"""Bids and asks: ticks -> lots."""


class LiveBook:
    """Two dictionaries, ticks -> lots."""

    def __init__(self, opening: Book) -> None:
        self.at_ns = opening.at_ns
        self.last_id = opening.last_id
        self.bids: dict[int, int] = dict(opening.bids)
        self.asks: dict[int, int] = dict(opening.asks)

    def apply(self, changed: Changed) -> None:
        """Take what changed; updates that the book already holds change nothing."""
        if changed.last_id <= self.last_id:
            return
        self.at_ns, self.last_id = changed.at_ns, changed.last_id
        for side, levels in ((self.bids, changed.bids), (self.asks, changed.asks)):
            for ticks, lots in levels:
                if lots:
                    side[ticks] = lots
                else:
                    side.pop(ticks, None)

    def top(self, depth: int) -> Sides:
        """Return the best levels of each side, best first."""
        bids, asks = self.bids, self.asks
        return (
            {ticks: bids[ticks] for ticks in sorted(bids, reverse=True)[:depth]},
            {ticks: asks[ticks] for ticks in sorted(asks)[:depth]},
        )


def difference(before: Mapping[int, int], now: Mapping[int, int]) -> list[Level]:
    """Return the levels that turn one side into another: removed ones with 0 lots, then new and changed ones."""
    gone = [(ticks, 0) for ticks in before if ticks not in now]
    return gone + [(ticks, lots) for ticks, lots in now.items() if before.get(ticks) != lots]


class Increments:
    """Write multiples of an increment as a venue writes them."""

    def __init__(self, increment: Decimal, *, trimmed: bool = False) -> None:
        _, digits, exponent = increment.as_tuple()
        assert isinstance(exponent, int), "an increment is a number"
        self._units = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
        self._places = max(-exponent, 0)
        self._trimmed = trimmed
        self._texts: dict[int, str] = {}

    def text(self, count: int) -> str:
        """Return so many increments in decimal places of the increment, without trailing zeros when trimmed."""
        found = self._texts.get(count)
        if found is None:
            found = self._texts[count] = self._write(count)
        return found

    def _write(self, count: int) -> str:
        value, places = count * self._units, self._places
        sign, value = ("-", -value) if value < 0 else ("", value)
        whole, fraction = divmod(value, 10**places)
        if not places or (self._trimmed and not fraction):
            return f"{sign}{whole}"
        text = f"{sign}{whole}.{fraction:0{places}d}"
        return text.rstrip("0") if self._trimmed else text


def rows(levels: Iterable[Level], price: Increments, size: Increments, more: str = "") -> str:
    """Return levels as JSON rows `["price","size"]`, each with `more` at its end, without the outer brackets."""
    of_price, of_size = price.text, size.text
    return ",".join([f'["{of_price(ticks)}","{of_size(lots)}"{more}]' for ticks, lots in levels])
