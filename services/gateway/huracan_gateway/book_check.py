"""The book check: the book built from depth updates against the venue's own best bid and ask (SEMANTICS)."""

from __future__ import annotations

from collections import deque

from huracan.market.book import Level
from huracan_gateway.events import Quote

Best = tuple[Level | None, Level | None]

QUOTES_KEPT = 16_384
"""Quotes kept: updates buffered until a snapshot came are compared with quotes that were long past by then."""
UPDATES_KEPT = 16_384
"""Updates that wait for a newer quote; where no quotes come the oldest go first, uncompared."""


class BookCheck:
    """Compare the best levels after each depth update with the last quote that is not newer than the update.

    Newer is what has the greater number in the venue's one sequence of both, whichever came first here: depth comes in
    batches, quotes at once. The comparison waits until a newer quote has arrived, because only then is it known which
    quote was the last.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.matched = 0
        self._waiting: deque[tuple[int, Best]] = deque(maxlen=UPDATES_KEPT)
        self._quotes: deque[Quote] = deque(maxlen=QUOTES_KEPT)
        self._last: Quote | None = None

    def updated(self, sequence: int, best: Best) -> None:
        """Take the best bid and ask after an update with this place among quotes."""
        self._waiting.append((sequence, best))
        self._settle()

    def quoted(self, quote: Quote) -> None:
        """Take a quote, and decide on the updates that it is newer than; one without a number decides nothing."""
        self._last = quote
        if quote.update_id:
            self._quotes.append(quote)
            self._settle()

    def finish(self) -> None:
        """Decide on what still waits: no newer quote will come."""
        while self._waiting:
            self._compare(*self._waiting.popleft())

    def _settle(self) -> None:
        while self._waiting and self._quotes and self._waiting[0][0] < self._quotes[-1].update_id:
            self._compare(*self._waiting.popleft())

    def _compare(self, sequence: int, best: Best) -> None:
        last = next((quote for quote in reversed(self._quotes) if quote.update_id <= sequence), None)
        if last is not None:
            self.compared += 1
            self.matched += best == ((last.bid, last.bid_size), (last.ask, last.ask_size))

    def lost(self) -> None:
        """Forget what waits: the book was dropped."""
        self._waiting.clear()

    @property
    def last_quote(self) -> Quote | None:
        """Return the newest quote, or None."""
        return self._last

    @property
    def ratio(self) -> float | None:
        """Return the share of updates that match, or None before the first comparison."""
        return self.matched / self.compared if self.compared else None
