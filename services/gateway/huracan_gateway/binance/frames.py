"""The outer form of Binance's frames: which market one is from, which symbol it is about, and how it is opened."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from huracan_gateway.adapter import WholeBook
from huracan_gateway.reading import DAMAGED
from huracan_gateway.reject import Reason, Rejected

T = TypeVar("T")

USDM, COINM, SPOT = "binance_usdm", "binance_coinm", "binance_spot"
"""Tokens of the three markets."""

_COINM_SYMBOL = re.compile(r"(?!(?:BTC|ETH)BUSD_)[A-Z0-9]+USD_(?:PERP|\d{6})")
"""BTCBUSD_210129 was a USD-M contract, quoted in BUSD."""
_COINM_TYPE = 2
"""`st` of a COIN-M symbol, 1 that of a USD-M one, in frames of both since the markets share their streams."""
_OTHERS = {"channel": "hyperliquid", "topic": "bybit", "arg": "okx", "jsonrpc": "deribit", "table": "bitmex"}
_NONE: frozenset[str] = frozenset()
_FUTURES_EVENTS = ("bookTicker", "markPriceUpdate", "forceOrder")
"""Events that spot has not, or not by that name: its bookTicker says no event."""
_QUOTE_FIELDS = {"u", "b", "B", "a", "A"}
_AGGREGATE_FIELDS = {"a", "p", "q", "f", "l", "T", "m"}


BOOK_MARKS = (b"@depth", b"lastUpdateId")
"""Texts of which every frame of an order book holds one."""


class Frame(msgspec.Struct):
    """The outer form of a frame: a stream with its data, a snapshot, or definitions."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name
    E: int | None = None
    symbol: str | None = None
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []
    symbols: msgspec.Raw = msgspec.Raw()


_FRAME = msgspec.json.Decoder(Frame)


def is_coinm(symbol: str) -> bool:
    """Return whether a symbol has the form of COIN-M: BTCUSD_PERP, BTCUSD_240927."""
    return _COINM_SYMBOL.fullmatch(symbol) is not None


def parse(raw: bytes, venue: str) -> Frame:
    """Return the outer form of a frame; raise Rejected when it is no JSON, or no frame of this venue."""
    frame = typed(_FRAME, raw, raw, venue)
    if frame.stream is None and frame.lastUpdateId is None and not bytes(frame.symbols):
        detail = f"no stream and no lastUpdateId; began with {raw[:60]!r}"
        raise other_venue(raw, venue) or Rejected(Reason.UNKNOWN_STREAM, detail)
    return frame


def typed(decoder: msgspec.json.Decoder[T], data: bytes, raw: bytes, venue: str) -> T:
    """Return a frame's data by its schema; raise Rejected, naming the venue of a frame that is another's."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise other_venue(raw, venue) or Rejected(Reason.BAD_FIELD, str(error)) from None
    except DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, f"{error}; began with {raw[:60]!r}") from None


def other_venue(raw: bytes, venue: str) -> Rejected | None:
    """Return the refusal of a frame that looks to be from another venue, or None."""
    other = foreign_venue(raw, venue)
    return Rejected(Reason.OTHER_VENUE, f"a {other} frame") if other else None


def foreign_venue(raw: bytes, venue: str) -> str | None:
    """Return the venue that a frame looks to be from when it is not this one, or None."""
    frame = _opened(raw)
    possible = _markets(frame)
    if possible:
        return None if venue in possible else min(possible)
    named = (name for field, name in _OTHERS.items() if isinstance(frame, dict) and field in frame)
    return next(named, None)


def owns(raw: bytes, venue: str) -> bool:
    """Return whether a frame is from this one of the markets, judged by its outer form; False for what is no JSON.

    What can be from several is owned by none: bars of a stream, and trades that were asked for in aggregated form.
    """
    return _markets(_opened(raw)) == {venue}


def symbol_of(raw: bytes) -> str | None:
    """Return the venue symbol that a frame is about, or None where it does not say."""
    frame = _opened(raw)
    if not isinstance(frame, dict):
        return None
    symbol = _stream_symbol(frame["data"]) if isinstance(frame.get("data"), dict) else _named(frame)
    return symbol if isinstance(symbol, str) else None


def levels(raw: bytes) -> list[tuple[str, str]] | None:
    """Return price and size texts of all levels of a snapshot, None for any other frame."""
    try:
        frame = _FRAME.decode(raw)
    except DAMAGED:
        return None
    return [*frame.bids, *frame.asks] if frame.stream is None and frame.lastUpdateId is not None else None


def write_book(book: WholeBook, venue: str) -> bytes:
    """Return the answer that tells a book: spot says no time, and COIN-M alone the symbol."""
    told: dict[str, object] = {"lastUpdateId": book.number}
    if venue != SPOT:
        told |= {"E": book.event_ms, "T": book.event_ms}
    if venue == COINM:
        told["symbol"] = book.symbol
    return msgspec.json.encode({**told, "bids": book.bids, "asks": book.asks})


def definitions(raw: bytes) -> bytes | None:
    """Return the list of definitions in a frame of kind `instrument`, None for any other frame."""
    try:
        frame = _FRAME.decode(raw)
    except DAMAGED:
        return None
    return bytes(frame.symbols) if frame.stream is None and frame.lastUpdateId is None else None


def _opened(raw: bytes) -> object:
    try:
        opened: object = msgspec.json.decode(raw)
    except DAMAGED:
        return None
    return opened


def _named(frame: dict[str, object]) -> object:
    match frame.get("symbols"):
        case [{"symbol": symbol}, *_]:
            return symbol
    return frame.get("symbol")


def _stream_symbol(data: object) -> object:
    match data:
        case {"s": symbol} | {"o": {"s": symbol}}:
            return symbol
    return None


def _markets(frame: object) -> frozenset[str]:
    """Return the markets that a frame can be from."""
    match frame:
        case [{**trade}, *_]:
            return _markets_of_trades(trade)
        case {"stream": str(stream), "data": {**data}} if "@" in stream:
            return _markets_of_stream(data)
        case {"lastUpdateId": _, **rest}:
            return frozenset([_market_of_answer(rest.get("symbol"), futures="E" in rest or "T" in rest)])
        case {"symbols": [{**first}, *_]}:
            return frozenset([_market_of_answer(first.get("symbol"), futures="contractType" in first)])
    return _NONE


def _market_of_answer(symbol: object, *, futures: bool) -> str:
    if not futures:
        return SPOT
    return COINM if isinstance(symbol, str) and is_coinm(symbol) else USDM


def _markets_of_trades(trade: dict[object, object]) -> frozenset[str]:
    for field, market in (("isBestMatch", SPOT), ("baseQty", COINM), ("quoteQty", USDM)):
        if field in trade:
            return frozenset([market])
    if not trade.keys() >= _AGGREGATE_FIELDS:
        return _NONE
    return frozenset([SPOT] if "M" in trade else [USDM, COINM])


def _markets_of_stream(data: dict[object, object]) -> frozenset[str]:
    """Tell by the form of the symbol; then: spot depth has no `pu`, spot bookTickers no `e`, spot trades an `M`."""
    symbol, event = _stream_symbol(data), data.get("e")
    if data.get("st") == _COINM_TYPE or (isinstance(symbol, str) and is_coinm(symbol)):
        return frozenset([COINM])
    if isinstance(symbol, str) and "-" in symbol:
        return _NONE  # an option, or the venue's former exchange of tokens
    if event == "depthUpdate":
        return frozenset([USDM if "pu" in data else SPOT])
    if event in ("trade", "aggTrade"):
        return frozenset([SPOT if "M" in data else USDM])
    if event is None and data.keys() >= _QUOTE_FIELDS:
        return frozenset([SPOT])
    return frozenset([USDM] if event in _FUTURES_EVENTS else [USDM, SPOT])
