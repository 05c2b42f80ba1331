"""How Bybit's public REST interface is asked, and its answers read (API documentation v5: "Market", "Rate Limit").

Limit: 600 requests in 5 s for each address; the headers `X-Bapi-Limit` and `X-Bapi-Limit-Status` tell what a request
has of its own limit and what is left of it, where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from huracan.clock import MILLISECOND_NS, MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition
from huracan_gateway.adapter import Http, Request
from huracan_gateway.bybit.definition import category
from huracan_gateway.reading import typed
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.rest import Row, get, interval_name, read_bar

URL = "https://api.bybit.com"
MOST_BARS = 1000
_BOOK_LEVELS = 200
_MOST_TRADES = 1000
_INTERVALS = {minutes * MINUTE_NS: str(minutes) for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)}
_DAY_NS = 24 * 60 * MINUTE_NS
_INTERVALS[_DAY_NS] = "D"


class _Listed(msgspec.Struct):
    parts: list[msgspec.Raw] = msgspec.field(name="list")
    symbol: str | None = None


class _Answer(msgspec.Struct):
    retCode: int  # noqa: N815 - the venue's name, here and below
    retMsg: str = ""  # noqa: N815
    result: msgspec.Raw = msgspec.Raw()
    time: int = 0


class _Named(msgspec.Struct):
    symbol: str


_ANSWER = msgspec.json.Decoder(_Answer)
_LISTED = msgspec.json.Decoder(_Listed)
_NAMED = msgspec.json.Decoder(_Named)
_KLINE = msgspec.json.Decoder(Row, strict=False)


def instruments(symbol: str) -> Request:
    """Return the request that defines a symbol."""
    return get("/v5/market/instruments-info", {"category": category(symbol), "symbol": symbol})


def instrument(body: bytes, symbol: str) -> bytes:
    """Return the part of an answer that defines a symbol, its bytes unchanged; raise Rejected without."""
    _, listed = _answer(body)
    for part in listed.parts:
        if typed(_NAMED, part).symbol == symbol:
            return bytes(part)
    raise Rejected(Reason.OTHER_SYMBOL, f"list had no symbol {symbol}: there is none, or it is no longer listed")


def snapshot(definition: InstrumentDefinition) -> Request:
    """Return the request for the order book; its `u` is that of `orderbook.1000`, whatever the depth."""
    return _of("/v5/market/orderbook", definition, limit=str(_BOOK_LEVELS))


def trades(definition: InstrumentDefinition) -> Request:
    """Return the request for the latest trades."""
    return _of("/v5/market/recent-trade", definition, limit=str(_MOST_TRADES))


def klines(definition: InstrumentDefinition, interval_ns: int, end_ns: int, most: int) -> Request:
    """Return the request for bars that open before a time; raise BadInput for an interval the venue does not have."""
    name = interval_name(_INTERVALS, interval_ns, "Bybit")
    before_ms = str(-(-end_ns // MILLISECOND_NS) - 1)
    return _of("/v5/market/kline", definition, interval=name, end=before_ms, limit=str(min(most, MOST_BARS)))


def bars(body: bytes, definition: InstrumentDefinition, interval_ns: int) -> list[Bar]:
    """Return the closed bars of an answer, oldest first.

    A bar is closed when the venue's time in the answer says so. Raises Rejected for a damaged or another's answer.
    """
    now_ms, listed = _answer(body)
    if listed.symbol not in (None, definition.venue_symbol):
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {str(listed.symbol)[:40]!r}, not {definition.venue_symbol}")
    read = (read_bar(typed(_KLINE, part), definition, interval_ns) for part in listed.parts)
    closed = [bar for bar in read if bar.open_ns + interval_ns <= now_ms * MILLISECOND_NS]
    return sorted(closed, key=lambda bar: bar.open_ns)


def _answer(body: bytes) -> tuple[int, _Listed]:
    """Return the venue's time in milliseconds, 0 where it does not say, and the result."""
    answer = typed(_ANSWER, body)
    if answer.retCode != 0:
        raise Rejected(Reason.BAD_FIELD, f"retCode was {str(answer.retCode)[:20]}: {answer.retMsg[:100]}")
    return answer.time, typed(_LISTED, bytes(answer.result) or b"null")


def _of(path: str, definition: InstrumentDefinition, **query: str) -> Request:
    symbol = definition.venue_symbol
    return get(path, {"category": category(symbol), "symbol": symbol, **query})


def used(headers: Mapping[str, str]) -> float | None:
    """Return the share of a request's own limit that is used up, 0 to 1; None where it has none."""
    limit, left = headers.get("x-bapi-limit", ""), headers.get("x-bapi-limit-status", "")
    if not (limit.isascii() and limit.isdigit() and left.isascii() and left.isdigit()) or int(limit) == 0:
        return None
    return min(max(1.0 - int(left) / int(limit), 0.0), 1.0)


HTTP = Http(
    url=URL,
    instruments=instruments,
    instrument=instrument,
    snapshot=snapshot,
    trades=trades,
    klines=klines,
    bars=bars,
    most_bars=MOST_BARS,
    used=used,
    weight_per_s=20.0,
)
"""Bybit's public REST interface."""
