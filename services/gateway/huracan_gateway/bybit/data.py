"""Frames of Bybit futures (API v5), decoded.

Topics: `publicTrade`, `orderbook.1` (best bid and ask), `orderbook.50` to `orderbook.1000` (the order book), `tickers`,
`allLiquidation` and its predecessor `liquidation`; the answers of `GET /v5/market/orderbook` and
`/v5/market/recent-trade` as the venue returns them; one instrument cut from `GET /v5/market/instruments-info`. Source:
Bybit API documentation v5, "Websocket Stream: Public" and "Market".

Sizes are in the base asset for linear contracts, in US dollars for inverse ones: a contract is one of either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan.market.book import DepthUpdate, Level
from huracan_gateway.adapter import WholeBook
from huracan_gateway.bybit.definition import defined
from huracan_gateway.events import (
    NO_TIME,
    RECENT_TRADES,
    Defined,
    Depth,
    Event,
    Liquidation,
    Mark,
    Quote,
    Snapshot,
    Trade,
)
from huracan_gateway.reading import DAMAGED, checked_id, event_ns, event_ns_of, funding_rate, mark_price, shown, typed
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale, read_levels

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII)
_EMPTY = re.compile(rb'"list"\s*:\s*\[\s*\]')
_ID_BITS = 2**63 - 1
_FIRST_UPDATE = 1
"""`u` of a stream that begins anew, always of a snapshot."""
_NO_UPDATE = 0
"""The number of a book that no delta continues."""
_TAKER = {"Buy": 1, "Sell": -1}
_CLOSING = {"Buy": -1, "Sell": 1}
"""Side of the order that closes a position: `Buy` is a long one."""

BOOK_DEPTH = 200
"""Levels a side of the stream that is subscribed to, of 50, 200 and 1,000: deep enough for every feature, told every
100 ms."""
BOOK_MARKS = (b'"orderbook.', b'"retCode"')
"""Texts of which every frame of an order book holds one: of its streams, and of answers."""

Side = Literal["Buy", "Sell"]


class Frame(msgspec.Struct):
    """The outer form of a frame: of a topic, the answer to a request, or one instrument."""

    topic: str | None = None
    type: str | None = None
    ts: int | None = None
    cts: int | None = None
    data: msgspec.Raw = msgspec.Raw()
    retCode: int | None = None  # noqa: N815 - the venue's name, here and below
    retMsg: str = ""  # noqa: N815
    result: msgspec.Raw = msgspec.Raw()
    op: str | None = None
    success: bool | None = None
    symbol: str | None = None
    contractType: str | None = None  # noqa: N815


class _Trade(msgspec.Struct):
    T: int
    s: str
    S: Side
    v: str
    p: str
    i: str


class _Book(msgspec.Struct):
    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int
    seq: int
    ts: int | None = None
    cts: int | None = None


class _Ticker(msgspec.Struct):
    symbol: str
    markPrice: str = ""  # noqa: N815
    indexPrice: str = ""  # noqa: N815
    fundingRate: str = ""  # noqa: N815
    nextFundingTime: str = ""  # noqa: N815


class _Liquidated(msgspec.Struct):
    T: int
    s: str
    S: Side
    v: str
    p: str


class _LiquidatedBefore(msgspec.Struct):
    updatedTime: int  # noqa: N815
    symbol: str
    side: Side
    size: str
    price: str


class _RecentTrade(msgspec.Struct):
    execId: str  # noqa: N815
    symbol: str
    price: str
    size: str
    side: Side
    time: str


class _RecentTrades(msgspec.Struct):
    trades: list[_RecentTrade] = msgspec.field(name="list")


class _Named(msgspec.Struct):
    symbol: str | None = None
    s: str | None = None


class _NamedList(msgspec.Struct):
    symbol: str | None = None
    s: str | None = None
    members: list[_Named] = msgspec.field(name="list", default_factory=list)


_FRAME = msgspec.json.Decoder(Frame)
_TRADES = msgspec.json.Decoder(list[_Trade])
_BOOK = msgspec.json.Decoder(_Book)
_TICKER = msgspec.json.Decoder(_Ticker)
_LIQUIDATIONS = msgspec.json.Decoder(list[_Liquidated])
_LIQUIDATION_BEFORE = msgspec.json.Decoder(_LiquidatedBefore)
_RECENT_TRADES = msgspec.json.Decoder(_RecentTrades)
_NAMES = msgspec.json.Decoder(_NamedList)


class _Best:
    """The one level a side of `orderbook.1`, of which a delta tells what has changed."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._bid: Level | None = None
        self._ask: Level | None = None

    def take(
        self, update: int, bids: Sequence[Level], asks: Sequence[Level], *, whole: bool
    ) -> tuple[Level | None, Level | None]:
        """Return the best bid and ask after an update, None where not known; raise Rejected for an earlier delta."""
        if not whole and self._last is not None and update <= self._last:
            reason = Reason.DUPLICATE if update == self._last else Reason.OUT_OF_ORDER
            raise Rejected(reason, f"u was {shown(update)} after {self._last}")
        if whole or self._last is None or update != self._last + 1:
            self._bid = self._ask = None
        self._last = update
        self._bid = max(_changed(self._bid, bids), default=None)
        self._ask = min(_changed(self._ask, asks), default=None)
        return self._bid, self._ask


def _changed(level: Level | None, changes: Sequence[Level]) -> list[Level]:
    sizes = dict([level] if level else [])
    sizes.update(changes)
    return [(price, size) for price, size in sizes.items() if size]


class Decoder:
    """Decode the frames of one instrument, each once and in order: `orderbook.1` may tell one side at a time."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        self._symbol = definition.venue_symbol
        self._price = Scale(Decimal(definition.price_increment))
        self._size = Scale(Decimal(definition.size_increment))
        self._best = _Best()
        self._topics: dict[str, tuple[str, Callable[[Frame, bytes], list[Event]]]] = {
            "publicTrade": ("trade", self._trades),
            "tickers": ("mark", self._ticker),
            "allLiquidation": ("liquidation", self._liquidations),
            "liquidation": ("liquidation", self._liquidation_before),
        }

    def decode(self, raw: bytes) -> tuple[str, Sequence[Event]]:
        """Return the kind of a frame and what it says, in the venue's order; raise Rejected naming field and reason."""
        frame = typed(_FRAME, raw)
        if frame.op is not None:
            raise Rejected(Reason.UNKNOWN_STREAM, f"op was {frame.op[:40]!r}: no market data")
        if frame.topic is not None:
            kind, events = self._of_topic(frame, frame.topic)
            if not events:
                raise Rejected(Reason.BAD_FIELD, "data was empty")
        elif frame.retCode is not None:
            kind, events = self._of_answer(frame, frame.retCode)
        elif frame.symbol is not None and frame.contractType is not None:
            kind, events = "instrument", [self._defined(raw)]
        else:
            raise _unknown(raw)
        return kind, events

    def _of_topic(self, frame: Frame, topic: str) -> tuple[str, list[Event]]:
        rest, _, symbol = topic.rpartition(".")
        head, *depth = rest.split(".")
        data = bytes(frame.data) or b"null"
        if head == "orderbook" and len(depth) == 1 and depth[0].isdigit():
            self._belongs(symbol)
            return self._orderbook(frame, depth[0], typed(_BOOK, data))
        if head not in self._topics or depth:
            raise Rejected(Reason.UNKNOWN_STREAM, f"topic was {topic[:60]!r}")
        self._belongs(symbol)
        kind, read = self._topics[head]
        return kind, read(frame, data)

    def _of_answer(self, frame: Frame, code: int) -> tuple[str, list[Event]]:
        if code != 0:
            raise Rejected(Reason.BAD_FIELD, f"retCode was {shown(code)}: {frame.retMsg[:100]}")
        result = bytes(frame.result) or b"null"
        if b'"execId"' in result or _EMPTY.search(result):  # or none
            trades = typed(_RECENT_TRADES, result).trades
            return RECENT_TRADES, [self._recent_trade(trade) for trade in reversed(trades)]  # the newest comes first
        if _is_book(result):
            return "snapshot", [self._asked(typed(_BOOK, result))]
        raise Rejected(
            Reason.UNKNOWN_STREAM, f"answer was neither of an order book nor of trades; began with {result[:60]!r}"
        )

    def _orderbook(self, frame: Frame, depth: str, book: _Book) -> tuple[str, list[Event]]:
        if frame.type not in ("snapshot", "delta"):
            raise Rejected(Reason.BAD_FIELD, f"type was {str(frame.type)[:40]!r}")
        at_ns, whole = _book_ns(frame.ts, frame.cts), frame.type == "snapshot"
        if depth == "1":
            return "quote", [self._quote(book, at_ns, whole=whole)]
        if whole:
            return "snapshot", [self._snapshot(book, at_ns, checked_id(book.u, "u"))]
        return "depth", [self._depth(book, at_ns)]

    def _quote(self, book: _Book, at_ns: int, *, whole: bool) -> Quote:
        self._belongs(book.s)
        update, sequence = checked_id(book.u, "u"), checked_id(book.seq, "seq")
        bid, ask = self._best.take(update, *self._sides(book), whole=whole)
        if bid is None or ask is None:
            raise Rejected(Reason.OUT_OF_ORDER, f"best {'ask' if bid else 'bid'} was not told before u {update}")
        return Quote(at_ns, sequence, *bid, *ask)

    def _asked(self, book: _Book) -> Snapshot:
        """Read the answer to a request: its `u` counts the updates of another stream, so that none of ours follows."""
        checked_id(book.u, "u")
        return self._snapshot(book, _book_ns(book.ts, book.cts), _NO_UPDATE)

    def _snapshot(self, book: _Book, at_ns: int, number: int) -> Snapshot:
        self._belongs(book.s)
        bids, asks = self._sides(book)
        return Snapshot(at_ns, number, bids, asks, restart=True, sequence=checked_id(book.seq, "seq"))

    def _depth(self, book: _Book, at_ns: int) -> Depth:
        self._belongs(book.s)
        update = checked_id(book.u, "u")
        if update <= _FIRST_UPDATE:
            raise Rejected(Reason.BAD_FIELD, f"u was {update} in a delta")
        changed = DepthUpdate(update, update, update - 1, *self._sides(book))
        return Depth(at_ns, changed, checked_id(book.seq, "seq"))

    def _sides(self, book: _Book) -> tuple[list[Level], list[Level]]:
        price, size = self._price, self._size
        return read_levels(price, size, book.b, "b"), read_levels(price, size, book.a, "a")

    def _trades(self, frame: Frame, data: bytes) -> list[Event]:  # noqa: ARG002 - one form for all topics
        return [
            self._trade(trade.s, event_ns(trade.T, "T"), _trade_id(trade.i, "i"), trade.p, trade.v, trade.S)
            for trade in typed(_TRADES, data)
        ]

    def _recent_trade(self, trade: _RecentTrade) -> Trade:
        at_ns, number = event_ns_of(trade.time, "time"), _trade_id(trade.execId, "execId")
        return self._trade(trade.symbol, at_ns, number, trade.price, trade.size, trade.side)

    def _trade(self, symbol: str, at_ns: int, number: int, price: str, size: str, side: Side) -> Trade:
        self._belongs(symbol)
        return Trade(at_ns, number, self._price.read(price, "price"), self._size.read(size, "size"), _TAKER[side])

    def _ticker(self, frame: Frame, data: bytes) -> list[Event]:
        ticker = typed(_TICKER, data)
        self._belongs(ticker.symbol)
        told = ticker.nextFundingTime not in ("", "0")
        return [
            Mark(
                _sent_ns(frame.ts),
                mark=mark_price(ticker.markPrice, "markPrice") if ticker.markPrice else None,
                index=mark_price(ticker.indexPrice, "indexPrice") if ticker.indexPrice else None,
                funding_rate=funding_rate(ticker.fundingRate, "fundingRate") if ticker.fundingRate else None,
                next_funding_ns=event_ns_of(ticker.nextFundingTime, "nextFundingTime") if told else 0,
            )
        ]

    def _liquidations(self, frame: Frame, data: bytes) -> list[Event]:  # noqa: ARG002 - one form for all topics
        closed = typed(_LIQUIDATIONS, data)
        return [self._liquidation(each.s, each.T, each.p, each.v, each.S) for each in closed]

    def _liquidation_before(self, frame: Frame, data: bytes) -> list[Event]:  # noqa: ARG002
        closed = typed(_LIQUIDATION_BEFORE, data)
        return [self._liquidation(closed.symbol, closed.updatedTime, closed.price, closed.size, closed.side)]

    def _liquidation(self, symbol: str, at_ms: int, price: str, size: str, side: Side) -> Liquidation:
        self._belongs(symbol)
        at, of = self._price.read(price, "price"), self._size.read(size, "size")
        return Liquidation(event_ns(at_ms, "time"), at, of, _CLOSING[side])

    def _defined(self, raw: bytes) -> Defined:
        told = defined(raw)
        self._belongs(told.venue_symbol)
        return Defined(NO_TIME, told)

    def _belongs(self, symbol: str) -> None:
        if symbol != self._symbol:
            raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {symbol[:40]!r}, not {self._symbol}")


def owns(raw: bytes) -> bool:
    """Return whether a frame can be of Bybit's v5, judged by its outer form: earlier versions send no `ts`."""
    try:
        frame = _FRAME.decode(raw)
    except DAMAGED:
        return False
    if frame.topic is not None:
        return frame.ts is not None and bool(bytes(frame.data))
    if frame.retCode is not None:
        return bool(bytes(frame.result)) or frame.op is not None
    if frame.op is not None:
        return frame.success is not None or frame.op == "pong"
    return frame.symbol is not None and frame.contractType is not None


def symbol_of(raw: bytes) -> str | None:
    """Return the symbol that a frame is about, or None where it does not say."""
    try:
        frame = _FRAME.decode(raw)
        if frame.topic is not None:
            return frame.topic.rpartition(".")[2] or None
        if frame.symbol is not None:
            return frame.symbol
        result = _NAMES.decode(bytes(frame.result) or b"{}")
    except DAMAGED:
        return None
    names = {
        named for named in (result.s, result.symbol, *(each.symbol for each in result.members)) if named is not None
    }
    return names.pop() if len(names) == 1 else None


def levels(raw: bytes) -> list[tuple[str, str]] | None:
    """Return price and size texts of all levels of a whole order book; None for another, or a damaged, frame."""
    try:
        frame = _FRAME.decode(raw)
        if frame.topic is not None:
            whole = frame.topic.startswith("orderbook.") and frame.type == "snapshot"
            book = _BOOK.decode(bytes(frame.data)) if whole and not frame.topic.startswith("orderbook.1.") else None
        else:
            result = bytes(frame.result)
            book = _BOOK.decode(result) if frame.retCode == 0 and _is_book(result) else None
    except DAMAGED:
        return None
    return [*book.b, *book.a] if book else None


def write_book(book: WholeBook) -> bytes:
    """Return the snapshot of the stream that tells a book."""
    data = {"s": book.symbol, "b": book.bids, "a": book.asks, "u": book.number, "seq": 0}
    topic = f"orderbook.{BOOK_DEPTH}.{book.symbol}"
    return msgspec.json.encode({"topic": topic, "type": "snapshot", "ts": book.event_ms, "data": data})


def _is_book(result: bytes) -> bool:
    return b'"seq"' in result and b'"list"' not in result


def defines(raw: bytes) -> InstrumentDefinition | None:
    """Return what a frame of kind `instrument` defines; None for another; raise Rejected for a damaged one."""
    frame = typed(_FRAME, raw)
    if frame.topic is not None or frame.symbol is None or frame.contractType is None:
        return None
    return defined(raw)


def _trade_id(text: str, field: str) -> int:
    """Return the low 63 bits of an identifier: those that are not its version."""
    if not _UUID.fullmatch(text):
        if text.isascii() and text.isdigit():
            raise Rejected(
                Reason.OTHER_VENUE, f"{field} was {text[:40]}, a number: of Bybit spot, which is not read here"
            )
        raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}, no UUID")
    return int(text.replace("-", ""), 16) & _ID_BITS


def _book_ns(ts: int | None, cts: int | None) -> int:
    """Return when the matching engine made an order book (`cts`), as trades have it; else when it was sent."""
    return _sent_ns(ts) if cts is None else event_ns(cts, "cts")


def _sent_ns(ts: int | None) -> int:
    if ts is None:
        raise Rejected(Reason.BAD_FIELD, "ts was missing")
    return event_ns(ts, "ts")


def _unknown(raw: bytes) -> Rejected:
    return Rejected(Reason.UNKNOWN_STREAM, f"no topic, no retCode and no instrument; began with {raw[:60]!r}")
