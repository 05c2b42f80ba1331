"""Requests to Binance's REST interfaces, and their answers.

Each market has its own address, path and weights. Source: Binance documentation, "Market Data endpoints" of spot, USD-M
and COIN-M futures; "Limits" for `x-mbx-used-weight-1m`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import msgspec

from huracan.clock import MILLISECOND_NS, MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition
from huracan_gateway.adapter import Http, Request
from huracan_gateway.binance.frames import typed
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.rest import Row, get, interval_name, read_bar

MOST_BARS = 1_000
_SNAPSHOT_LEVELS = 1_000
_MOST_TRADES = 500
_INTERVALS = {
    **{minutes * MINUTE_NS: f"{minutes}m" for minutes in (1, 3, 5, 15, 30)},
    **{hours * 60 * MINUTE_NS: f"{hours}h" for hours in (1, 2, 4, 6, 8, 12)},
    24 * 60 * MINUTE_NS: "1d",
}
"""Longer bars are not aligned to the Unix epoch."""
_USED = "x-mbx-used-weight-1m"


class _Answer(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _Named(msgspec.Struct):
    symbol: str


class _Kline(Row, array_like=True):
    close_ms: int
    quote_volume: str
    trades: int


_ANSWER = msgspec.json.Decoder(_Answer)
_NAMED = msgspec.json.Decoder(_Named)
_KLINES = msgspec.json.Decoder(list[_Kline])


def instrument(body: bytes, symbol: str, *, venue: str) -> bytes:
    """Cut an exchangeInfo down to one symbol, its bytes unchanged; raise Rejected when it is not there."""
    for raw in typed(_ANSWER, body, body, venue).symbols:
        found = bytes(raw)
        if typed(_NAMED, found, found, venue).symbol == symbol:
            return b'{"symbols":[' + found + b"]}"
    raise Rejected(Reason.OTHER_SYMBOL, f"symbol {symbol[:40]!r} is not among those of {venue}")


def _ask(path: str, query: Mapping[str, str], weight: float) -> Callable[[InstrumentDefinition], Request]:
    return lambda definition: get(path, {"symbol": definition.venue_symbol, **query}, weight)


def klines(
    definition: InstrumentDefinition, interval_ns: int, end_ns: int, most: int, *, path: str, weight: float
) -> Request:
    """Ask for bars that have closed by `end_ns`; raise BadInput for an interval that the venue has not.

    An answer does not say whether its last bar is closed, so one that is open at `end_ns` is not asked for.
    """
    query = {
        "symbol": definition.venue_symbol,
        "interval": interval_name(_INTERVALS, interval_ns, "the venue"),
        "endTime": str(end_ns // interval_ns * interval_ns // MILLISECOND_NS - 1),
        "limit": str(most),
    }
    return get(path, query, weight)


def bars(body: bytes, definition: InstrumentDefinition, interval_ns: int, *, venue: str) -> Sequence[Bar]:
    """Return the bars of an answer, oldest first; raise Rejected for a damaged one."""
    read = [_bar(row, definition, interval_ns) for row in typed(_KLINES, body, body, venue)]
    if any(later.open_ns <= earlier.open_ns for earlier, later in pairwise(read)):
        raise Rejected(Reason.OUT_OF_ORDER, "open times of bars did not rise")
    return read


def _bar(row: _Kline, definition: InstrumentDefinition, interval_ns: int) -> Bar:
    if not 0 <= row.trades < 2**31:
        raise Rejected(Reason.BAD_FIELD, f"number of trades of a bar was {str(row.trades)[:40]}")
    return read_bar(row, definition, interval_ns, trades=row.trades)


def used(headers: Mapping[str, str], *, weight_per_minute: float) -> float | None:
    """Return the share of the minute's weight that is used up, 0 to 1; None where the answer does not tell."""
    text = headers.get(_USED, "")
    return min(int(text) / weight_per_minute, 1.0) if re.fullmatch(r"[0-9]{1,9}", text) else None


def market(
    *,
    venue: str,
    url: str,
    root: str,
    trades: str,
    instruments: Callable[[str], Request],
    weights: Mapping[str, float],
    weight_per_minute: float,
    weight_per_s: float,
) -> Http:
    """Return the interface of a market below the path `root`.

    `trades` is the endpoint that lists the kind of trades which the market's streams tell; `weights` are those of
    requests to an endpoint.
    """
    return Http(
        url=url,
        instruments=instruments,
        instrument=partial(instrument, venue=venue),
        snapshot=_ask(f"{root}/depth", {"limit": str(_SNAPSHOT_LEVELS)}, weights["depth"]),
        trades=_ask(f"{root}/{trades}", {"limit": str(_MOST_TRADES)}, weights[trades]),
        klines=partial(klines, path=f"{root}/klines", weight=weights["klines"]),
        bars=partial(bars, venue=venue),
        most_bars=MOST_BARS,
        used=partial(used, weight_per_minute=weight_per_minute),
        weight_per_s=weight_per_s,
    )
