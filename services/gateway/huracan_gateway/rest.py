"""What venues' REST interfaces have in common: requests with a query, names of intervals, and rows of bars."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from urllib.parse import urlencode

import msgspec

from huracan.contracts.market import Bar, InstrumentDefinition, bar
from huracan.errors import BadInput
from huracan_gateway.adapter import Request
from huracan_gateway.reading import decimal_of, event_ns, positive
from huracan_gateway.reject import Reason, Rejected


class Row(msgspec.Struct, array_like=True):
    """What a row of bars begins with at every venue; what follows is a venue's own."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    """As the venue counts sizes."""


def get(path: str, query: Mapping[str, str], weight: float = 1.0) -> Request:
    """Return the request of a path with a query."""
    return Request(path=f"{path}?{urlencode(query)}", weight=weight)


def interval_name(names: Mapping[int, str], interval_ns: int, venue: str) -> str:
    """Return what a venue calls an interval; raise BadInput for one that it does not have."""
    if interval_ns not in names:
        raise BadInput(f"interval was {interval_ns} ns; {venue} has {', '.join(names.values())}")
    return names[interval_ns]


def read_bar(row: Row, definition: InstrumentDefinition, interval_ns: int, *, trades: int = 0) -> Bar:
    """Return the bar of a row; volume is in base units, of inverse contracts in US dollars.

    Raises Rejected for a time that is impossible or inside an interval, for what is no number or price, and for prices
    that contradict each other.
    """
    open_ns = event_ns(row.open_ms, "open time")
    if open_ns % interval_ns:
        raise Rejected(Reason.BAD_FIELD, f"open time was {row.open_ms} ms, inside an interval")
    first, last = positive(row.open, "open"), positive(row.close, "close")
    high, low = positive(row.high, "high"), positive(row.low, "low")
    volume = decimal_of(row.volume, "volume")
    if not low <= min(first, last) <= max(first, last) <= high or volume < 0:
        told = f"open {first}, high {high}, low {low}, close {last}, volume {volume}"
        raise Rejected(Reason.BAD_FIELD, f"a bar had {told}: it contradicts itself")
    return bar(
        instrument=definition.id,
        interval_ns=interval_ns,
        open_ns=open_ns,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=volume * Decimal(definition.multiplier),
        trades=trades,
    )
