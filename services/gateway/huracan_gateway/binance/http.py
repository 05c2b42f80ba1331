"""Requests to Binance's REST interfaces, and their answers.

Each market has its own address, path and weights. Source: Binance documentation, "Market Data endpoints" of spot, USD-M
and COIN-M futures; "Limits" for `x-mbx-used-weight-1m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from huracan.clock import MILLISECOND_NS, MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition, bar
from huracan.errors import BadInput
from huracan_gateway.adapter import Request
from huracan_gateway.binance.frames import typed
from huracan_gateway.reject import Reason, Rejected

SNAPSHOT_LEVELS = 1_000
"""Levels a side that a snapshot is asked for."""
TRADES = 500
"""Latest trades that are asked for at once."""
_INTERVALS = {
    **{minutes * MINUTE_NS: f"{minutes}m" for minutes in (1, 3, 5, 15, 30)},
    **{hours * 60 * MINUTE_NS: f"{hours}h" for hours in (1, 2, 4, 6, 8, 12)},
    24 * 60 * MINUTE_NS: "1d",
}
"""Longer bars are not aligned to the Unix epoch."""
_USED = "x-mbx-used-weight-1m"
_FIELDS = 9
"""Fields of a bar that are read: open time, open, high, low, close, volume, close time, quote volume, trades."""


class _Answer(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _Named(msgspec.Struct):
    symbol: str


_ANSWER = msgspec.json.Decoder(_Answer)
_NAMED = msgspec.json.Decoder(_Named)
_KLINES = msgspec.json.Decoder(list[list[int | str]])


def instrument(body: bytes, symbol: str, *, venue: str) -> bytes:
    """Cut an exchangeInfo down to one symbol, its bytes unchanged; raise Rejected when it is not there."""
    for raw in typed(_ANSWER, body, body, venue).symbols:
        found = bytes(raw)
        if typed(_NAMED, found, found, venue).symbol == symbol:
            return b'{"symbols":[' + found + b"]}"
    raise Rejected(Reason.OTHER_SYMBOL, f"symbol {symbol[:40]!r} is not among those of {venue}")


def ask(path: str, weight: float) -> Callable[[InstrumentDefinition], Request]:
    """Return what asks a path, in which `{}` stands for the symbol."""
    return lambda definition: Request(path=path.format(definition.venue_symbol), weight=weight)


def klines(
    definition: InstrumentDefinition, interval_ns: int, end_ns: int, most: int, *, path: str, weight: float
) -> Request:
    """Ask for bars that have closed by `end_ns`; raise BadInput for an interval that the venue has not.

    An answer does not say whether its last bar is closed, so one that is open at `end_ns` is not asked for.
    """
    if interval_ns not in _INTERVALS:
        raise BadInput(f"interval was {interval_ns} ns; the venue has {', '.join(_INTERVALS.values())}")
    last_ms = end_ns // interval_ns * interval_ns // MILLISECOND_NS - 1
    query = f"symbol={definition.venue_symbol}&interval={_INTERVALS[interval_ns]}&endTime={last_ms}&limit={most}"
    return Request(path=f"{path}?{query}", weight=weight)


def bars(body: bytes, definition: InstrumentDefinition, interval_ns: int, *, venue: str) -> Sequence[Bar]:
    """Return the bars of an answer, oldest first; raise Rejected for a damaged one.

    Volume is in the base asset, in the quote asset where contracts are worth a sum of it (COIN-M).
    """
    multiplier = Decimal(definition.multiplier)
    read = [_bar(row, definition, interval_ns, multiplier) for row in typed(_KLINES, body, body, venue)]
    if any(later.open_ns <= earlier.open_ns for earlier, later in pairwise(read)):
        raise Rejected(Reason.OUT_OF_ORDER, "open times of bars did not rise")
    return read


def _bar(row: list[int | str], definition: InstrumentDefinition, interval_ns: int, multiplier: Decimal) -> Bar:
    if len(row) < _FIELDS:
        raise Rejected(Reason.BAD_FIELD, f"a bar had {len(row)} fields")
    opened, trades = row[0], row[8]
    if not isinstance(opened, int) or not 0 <= opened < 2**63 // MILLISECOND_NS:
        raise Rejected(Reason.IMPOSSIBLE_TIME, f"open time of a bar was {str(opened)[:40]}")
    if opened * MILLISECOND_NS % interval_ns:
        raise Rejected(Reason.BAD_FIELD, f"open time of a bar was {opened} ms, inside the interval")
    if not isinstance(trades, int) or not 0 <= trades < 2**31:
        raise Rejected(Reason.BAD_FIELD, f"number of trades of a bar was {str(trades)[:40]}")
    first, high, low, last, volume = (_decimal(value) for value in row[1:6])
    if not 0 < low <= min(first, last) <= max(first, last) <= high:
        raise Rejected(Reason.BAD_FIELD, f"a bar had open {first}, high {high}, low {low}, close {last}")
    return bar(
        instrument=definition.id,
        interval_ns=interval_ns,
        open_ns=opened * MILLISECOND_NS,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=volume * multiplier,
        trades=trades,
    )


def _decimal(value: int | str) -> Decimal:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", value):
        raise Rejected(Reason.NOT_A_NUMBER, f"a bar had {str(value)[:40]!r}")
    return Decimal(value)


def used(headers: Mapping[str, str], *, weight_per_minute: float) -> float | None:
    """Return the share of the minute's weight that is used up, 0 to 1; None where the answer does not tell."""
    text = headers.get(_USED, "")
    return min(int(text) / weight_per_minute, 1.0) if re.fullmatch(r"[0-9]{1,9}", text) else None
