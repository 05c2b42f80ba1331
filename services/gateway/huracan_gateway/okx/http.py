"""How OKX's public REST interface is asked, and its answers read (API guide v5: "Market Data", "Public Data").

Limits are for each endpoint and address: 20 requests in 2 s (instruments, history candles), 40 (books), 100 (trades).
The headers of answers tell nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from huracan.clock import MILLISECOND_NS, MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition
from huracan_gateway.adapter import Http, Request
from huracan_gateway.reading import typed
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.rest import Row, get, interval_name, read_bar

URL = "https://www.okx.com"
MOST_BARS = 100
_BOOK_LEVELS = 400
_MOST_TRADES = 500
_CLOSED = "1"
_HOUR_NS = 60 * MINUTE_NS
_INTERVALS = {
    MINUTE_NS: "1m",
    3 * MINUTE_NS: "3m",
    5 * MINUTE_NS: "5m",
    15 * MINUTE_NS: "15m",
    30 * MINUTE_NS: "30m",
    _HOUR_NS: "1H",
    2 * _HOUR_NS: "2H",
    4 * _HOUR_NS: "4H",
    6 * _HOUR_NS: "6Hutc",
    12 * _HOUR_NS: "12Hutc",
    24 * _HOUR_NS: "1Dutc",
}
_WEIGHT = 2.0
"""Of what may be asked 20 times in 2 s; the rest weighs half."""


class _Answer(msgspec.Struct):
    code: str
    data: list[msgspec.Raw]
    msg: str = ""


class _Named(msgspec.Struct):
    instId: str  # noqa: N815 - the venue's name


class _Candle(Row, array_like=True):
    base_volume: str
    quote_volume: str
    confirm: str


_ANSWER = msgspec.json.Decoder(_Answer)
_NAMED = msgspec.json.Decoder(_Named)
_CANDLE = msgspec.json.Decoder(_Candle, strict=False)


def instruments(symbol: str) -> Request:
    """Return the request that defines a symbol."""
    kind = "SWAP" if symbol.endswith("-SWAP") else "FUTURES"
    return get("/api/v5/public/instruments", {"instType": kind, "instId": symbol}, _WEIGHT)


def instrument(body: bytes, symbol: str) -> bytes:
    """Return the part of an answer that defines a symbol, its bytes unchanged; raise Rejected without."""
    for part in _answer(body):
        if typed(_NAMED, part).instId == symbol:
            return bytes(part)
    raise Rejected(Reason.OTHER_SYMBOL, f"data had no instId {symbol}: there is none, or it is no longer listed")


def snapshot(definition: InstrumentDefinition) -> Request:
    """Return the request for the order book, with the number of its last update (`source=0`)."""
    query = {"instId": definition.venue_symbol, "sz": str(_BOOK_LEVELS), "source": "0"}
    return get("/api/v5/market/books", query)


def trades(definition: InstrumentDefinition) -> Request:
    """Return the request for the latest trades."""
    return get("/api/v5/market/trades", {"instId": definition.venue_symbol, "limit": str(_MOST_TRADES)})


def klines(definition: InstrumentDefinition, interval_ns: int, end_ns: int, most: int) -> Request:
    """Return the request for bars that open before a time; raise BadInput for an interval the venue does not have."""
    query = {
        "instId": definition.venue_symbol,
        "bar": interval_name(_INTERVALS, interval_ns, "OKX"),
        "after": str(-(-end_ns // MILLISECOND_NS)),
        "limit": str(min(most, MOST_BARS)),
    }
    return get("/api/v5/market/history-candles", query, _WEIGHT)


def bars(body: bytes, definition: InstrumentDefinition, interval_ns: int) -> list[Bar]:
    """Return the closed bars of an answer, oldest first; raise Rejected for a damaged one."""
    candles = [typed(_CANDLE, part) for part in _answer(body)]
    closed = [read_bar(candle, definition, interval_ns) for candle in candles if candle.confirm == _CLOSED]
    return sorted(closed, key=lambda bar: bar.open_ns)


def _answer(body: bytes) -> list[msgspec.Raw]:
    answer = typed(_ANSWER, body)
    if answer.code != "0":
        raise Rejected(Reason.BAD_FIELD, f"code was {answer.code[:20]!r}: {answer.msg[:100]}")
    return answer.data


def used(headers: Mapping[str, str]) -> float | None:  # noqa: ARG001 - the port's form
    """Return None: the venue does not tell."""
    return None


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
    weight_per_s=10.0,
)
"""OKX's public REST interface."""
