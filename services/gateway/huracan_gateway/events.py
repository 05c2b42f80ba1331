"""What venues say, decoded: integer prices and sizes in increments, event time in Unix nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from huracan.market.book import DepthUpdate, Level


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade; side +1 when the buyer was the aggressor."""

    event_ns: int
    trade_id: int
    price: int
    size: int
    side: int


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask."""

    event_ns: int
    update_id: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int


@dataclass(frozen=True, slots=True)
class Depth:
    """Changed levels of the book."""

    event_ns: int
    update: DepthUpdate


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole book as of an update id."""

    event_ns: int
    last_update_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]


Event = Trade | Quote | Depth | Snapshot
