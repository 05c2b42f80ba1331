"""The book of one instrument as its tick batches tell it, and the view of it that an order is made on."""

from __future__ import annotations

from dataclasses import dataclass

from huracan.contracts.market import FLAG_FIRST, FLAG_UNSYNCED, InstrumentDefinition, TickBatch, TickKind, tick_columns
from huracan.market.book import OrderBook

_SNAPSHOT = TickKind.TICK_KIND_SNAPSHOT
_BOOK_KINDS = frozenset({int(TickKind.TICK_KIND_DEPTH), int(TickKind.TICK_KIND_SNAPSHOT)})


@dataclass(frozen=True, slots=True)
class Market:
    """What is known of an instrument's market; prices in price increments, None for an empty side."""

    definition: InstrumentDefinition
    best_bid: int | None
    best_ask: int | None
    book_ns: int
    """Receive time of the book's last change, 0 when it has none."""


def apply_row(book: OrderBook, kind: int, flags: int, side: int, price: int, size: int) -> bool:
    """Apply a row and return whether it is one of the book; rows that left an unsynced book alone are not."""
    if kind not in _BOOK_KINDS or flags & FLAG_UNSYNCED:
        return False
    if kind == _SNAPSHOT and flags & FLAG_FIRST:
        book.clear()
    book.set_level(side, price, size)
    return True


class MarketBook:
    """Follow one instrument batch by batch."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        self.definition = definition
        self.book = OrderBook()
        self.book_ns = 0

    def apply(self, batch: TickBatch) -> None:
        """Apply the rows of a batch."""
        columns = tick_columns(batch)
        for recv_ns, *row in zip(
            columns.recv_ns,
            columns.kind,
            columns.flags,
            columns.side,
            columns.price,
            columns.size,
            strict=True,
        ):
            if apply_row(self.book, *row):
                self.book_ns = max(self.book_ns, recv_ns)

    def view(self) -> Market:
        """Return the market as of the last batch."""
        bid, ask = self.book.best_bid(), self.book.best_ask()
        return Market(
            definition=self.definition,
            best_bid=bid[0] if bid else None,
            best_ask=ask[0] if ask else None,
            book_ns=self.book_ns,
        )
