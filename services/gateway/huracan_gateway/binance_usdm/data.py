"""Frames of Binance USD-M futures, decoded.

Streams: `<symbol>@depth@0ms` (and `@100ms`, `@500ms`), `<symbol>@bookTicker`, `<symbol>@trade` in the combined form
`{"stream": …, "data": …}`, and the REST depth snapshot as the venue returns it. Source: Binance USD-M futures
documentation, websocket market streams and `GET /fapi/v1/depth`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TypeVar

import msgspec

from huracan.clock import MILLISECOND_NS
from huracan.contracts.market import InstrumentDefinition, InstrumentType, instrument_definition
from huracan.market.book import DepthUpdate, Level
from huracan_gateway.events import Depth, Event, Quote, Snapshot, Trade
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale

T = TypeVar("T")

VENUE = "binance_usdm"
SIMULATED_VENUE = "sim"
SIMULATED_SYMBOL = "SIMUSDT"
"""Reserved: whatever is sent for this symbol was made by the simulated market, and is labelled so everywhere."""

_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "USD", "BTC")
_EARLIEST_MS, _LATEST_MS = 1_483_228_800_000, 4_102_444_800_000
"""2017 to 2100: what an event time may be at all."""


class Frame(msgspec.Struct):
    """The outer form of a frame: a stream with its data, or a snapshot."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name
    E: int | None = None
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


class _Depth(msgspec.Struct):
    e: str
    E: int
    s: str
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    ps: str | None = None


class _Quote(msgspec.Struct):
    e: str
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    E: int
    ps: str | None = None


class _Trade(msgspec.Struct):
    e: str
    E: int
    s: str
    t: int
    p: str
    q: str
    X: str
    m: bool


_FRAME = msgspec.json.Decoder(Frame)
_DEPTH = msgspec.json.Decoder(_Depth)
_QUOTE = msgspec.json.Decoder(_Quote)
_TRADE = msgspec.json.Decoder(_Trade)
_DAMAGED = (msgspec.DecodeError, ValueError, RecursionError)
"""What damaged JSON raises: bad syntax; no UTF-8, or an integer of thousands of digits; nesting without end."""
_OTHERS = {"channel": "hyperliquid", "topic": "bybit", "arg": "okx", "jsonrpc": "deribit", "table": "bitmex"}


class Decoder:
    """Decode the frames of one instrument."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        self._symbol = definition.venue_symbol
        self._price = Scale(Decimal(definition.price_increment))
        self._size = Scale(Decimal(definition.size_increment))

    def decode(self, raw: bytes) -> tuple[str, Event]:
        """Return the kind of a frame (depth, quote, trade, snapshot) and what it says; raise Rejected."""
        frame = parse(raw)
        if frame.stream is None:
            return "snapshot", self._snapshot(frame)
        _, _, channel = frame.stream.partition("@")
        data = bytes(frame.data) or b"null"
        match channel.partition("@")[0]:
            case "depth":
                return "depth", self._depth(_typed(_DEPTH, data, raw))
            case "bookTicker":
                return "quote", self._quote(_typed(_QUOTE, data, raw))
            case "trade":
                return "trade", self._trade(_typed(_TRADE, data, raw))
        raise Rejected(Reason.UNKNOWN_STREAM, f"stream was {frame.stream[:60]!r}")

    def _snapshot(self, frame: Frame) -> Snapshot:
        if frame.lastUpdateId is None or frame.E is None:
            raise Rejected(Reason.BAD_FIELD, "lastUpdateId or E was missing in a snapshot")
        return Snapshot(
            _event_ns(frame.E),
            _id(frame.lastUpdateId, "lastUpdateId"),
            self._levels(frame.bids, "bids"),
            self._levels(frame.asks, "asks"),
        )

    def _depth(self, data: _Depth) -> Depth:
        self._belongs(data.s, data.ps)
        update = DepthUpdate(
            _id(data.U, "U"),
            _id(data.u, "u"),
            _id(data.pu, "pu"),
            self._levels(data.b, "b"),
            self._levels(data.a, "a"),
        )
        if not update.previous <= update.final or update.first > update.final:
            raise Rejected(Reason.OUT_OF_ORDER, f"U was {data.U}, u was {data.u}, pu was {data.pu}")
        return Depth(_event_ns(data.E), update)

    def _quote(self, data: _Quote) -> Quote:
        self._belongs(data.s, data.ps)
        return Quote(
            _event_ns(data.E),
            _id(data.u, "u"),
            self._price.read(data.b, "b"),
            self._size.read(data.B, "B"),
            self._price.read(data.a, "a"),
            self._size.read(data.A, "A"),
        )

    def _trade(self, data: _Trade) -> Trade:
        self._belongs(data.s, None)
        return Trade(
            _event_ns(data.E),
            _id(data.t, "t"),
            self._price.read(data.p, "p"),
            self._size.read(data.q, "q"),
            -1 if data.m else 1,
        )

    def _levels(self, levels: list[tuple[str, str]], field: str) -> list[Level]:
        price, size = self._price.read, self._size.read
        read = [(price(at, field), size(of, field)) for at, of in levels]
        if any(at <= 0 for at, _ in read):
            raise Rejected(Reason.NOT_POSITIVE, f"{field} had a price of 0")
        return read

    def _belongs(self, symbol: str, pair: str | None) -> None:
        if pair is not None:
            raise Rejected(Reason.OTHER_VENUE, f"ps was {pair!r}: a binance_coinm frame")
        if symbol != self._symbol:
            raise Rejected(Reason.OTHER_SYMBOL, f"s was {symbol[:40]!r}, not {self._symbol}")


def _event_ns(event_ms: int) -> int:
    if event_ms < 0:
        raise Rejected(Reason.NEGATIVE_TIME, "E was negative")
    if not _EARLIEST_MS <= event_ms <= _LATEST_MS:
        raise Rejected(Reason.IMPOSSIBLE_TIME, f"E was {_short(event_ms)} ms")
    return event_ms * MILLISECOND_NS


def _id(value: int, field: str) -> int:
    if not 0 <= value < 2**63:
        raise Rejected(Reason.BAD_FIELD, f"{field} was {_short(value)}")
    return value


def _short(value: int) -> str:
    return str(value) if abs(value) < 2**64 else "beyond 64 bits"


def parse(raw: bytes) -> Frame:
    """Return the outer form of a frame; raise Rejected when it is no JSON, or no frame of this venue."""
    try:
        frame = _FRAME.decode(raw)
    except msgspec.ValidationError as error:
        raise _foreign(raw) or Rejected(Reason.BAD_FIELD, str(error)) from None
    except _DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, f"{error}; began with {raw[:60]!r}") from None
    if frame.stream is None and frame.lastUpdateId is None:
        raise _foreign(raw) or Rejected(
            Reason.UNKNOWN_STREAM, f"no stream and no lastUpdateId; began with {raw[:60]!r}"
        )
    return frame


def _typed(decoder: msgspec.json.Decoder[T], data: bytes, raw: bytes) -> T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _foreign(raw) or Rejected(Reason.BAD_FIELD, str(error)) from None
    except _DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, str(error)) from None


def _foreign(raw: bytes) -> Rejected | None:
    venue = foreign_venue(raw)
    return Rejected(Reason.OTHER_VENUE, f"a {venue} frame") if venue else None


def foreign_venue(raw: bytes) -> str | None:
    """Return the venue that a frame looks to be from when it is not this one, or None."""
    try:
        frame = msgspec.json.decode(raw)
    except _DAMAGED:
        return None
    if not isinstance(frame, dict):
        return None
    for field, venue in _OTHERS.items():
        if field in frame:
            return venue
    data = frame.get("data", frame)
    if not isinstance(data, dict):
        return None
    if "ps" in data or str(data.get("s", "")).endswith("_PERP"):
        return "binance_coinm"
    return "binance_spot" if _is_spot(data) else None


def _is_spot(data: dict[str, object]) -> bool:
    """Spot depth has no `pu`, spot bookTickers no `e`, spot trades an `M`; its snapshots have no `E`."""
    match data.get("e"):
        case "depthUpdate":
            return "pu" not in data
        case "trade":
            return "M" in data
        case None:
            return {"u", "b", "B", "a", "A"} <= data.keys() or ("lastUpdateId" in data and "E" not in data)
    return False


def symbol_of(raw: bytes) -> str | None:
    """Return the venue symbol that a stream frame is about, or None; raise Rejected as `parse` does."""
    frame = parse(raw)
    if frame.stream is None or not bytes(frame.data):
        return None
    try:
        data = msgspec.json.decode(frame.data)
    except _DAMAGED:
        return None
    symbol = data.get("s") if isinstance(data, dict) else None
    return symbol if isinstance(symbol, str) else None


def definition(venue_symbol: str, price_increment: Decimal, size_increment: Decimal) -> InstrumentDefinition:
    """Return the definition of a venue symbol; raise Rejected when it cannot be split into base and quote."""
    pair, _, delivery = venue_symbol.partition("_")
    quote = next((quote for quote in _QUOTES if pair.endswith(quote) and pair != quote), None)
    if quote is None or not re.fullmatch(r"[A-Z0-9]+", pair):
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {venue_symbol[:40]!r}: no known quote asset at its end")
    base = pair.removesuffix(quote)
    return instrument_definition(
        venue=SIMULATED_VENUE if venue_symbol == SIMULATED_SYMBOL else VENUE,
        symbol=f"{base}-{quote}-{delivery or 'perp'}".lower(),
        venue_symbol=venue_symbol,
        type=(
            InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE
            if delivery
            else InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL
        ),
        base=base,
        quote=quote,
        settle=quote,
        price_increment=price_increment,
        size_increment=size_increment,
    )
