"""What venues say, decoded: integer prices and sizes in increments, event time in Unix nanoseconds.

Structs: one is made for every frame, and a frozen dataclass takes thrice as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan.market.book import DepthUpdate, Level

NO_TIME = 0
"""Event time of what the venue sends without one; it is not judged."""
RECENT_TRADES = "recent_trades"
"""Kind of an answer to a request for trades: oldest first, some or all of them known already; none where none were."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade; side +1 when the buyer was the aggressor."""

    event_ns: int
    trade_id: int
    """The venue's number, or 63 bits of its identifier where that is no number."""
    price: int
    size: int
    side: int


class Quote(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask."""

    event_ns: int
    update_id: int
    """Comparable with the `sequence` of depth updates; 0 where the venue numbers neither."""
    bid: int
    bid_size: int
    ask: int
    ask_size: int


class Depth(msgspec.Struct, frozen=True):
    """Changed levels of the book."""

    event_ns: int
    update: DepthUpdate
    sequence: int = 0
    """Place among quotes, where that is another number than the update's final id; 0: it is that id."""
    checksum: int | None = None
    """Of the book after this update, as the venue computes it (adapter.checksum)."""


class Snapshot(msgspec.Struct, frozen=True):
    """The whole book as of an update id."""

    event_ns: int
    last_update_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    restart: bool = False
    """What came before is past: it came in the stream of updates, which goes on from it, or has a number of its own."""
    sequence: int = 0
    checksum: int | None = None


class Mark(msgspec.Struct, frozen=True):
    """Mark price, index price and funding, as far as told."""

    event_ns: int
    mark: Decimal | None = None
    """In the quote asset."""
    index: Decimal | None = None
    funding_rate: Decimal | None = None
    """Per funding period: 0.0001 is one basis point."""
    next_funding_ns: int = 0


class Liquidation(msgspec.Struct, frozen=True, gc=False):
    """A position that the venue has closed by force; side +1 when the closing order bought."""

    event_ns: int
    price: int
    size: int
    side: int


class Defined(msgspec.Struct, frozen=True):
    """The instrument as the venue defines it now: version 1, whichever version it has here."""

    event_ns: int
    definition: InstrumentDefinition


Event = Trade | Quote | Depth | Snapshot | Mark | Liquidation | Defined
