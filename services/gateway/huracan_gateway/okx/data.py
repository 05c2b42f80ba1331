"""Frames of OKX futures (API v5), decoded.

Channels: `trades`, `books` (and `books-l2-tbt`, `books50-l2-tbt`), `bbo-tbt`, `mark-price`, `funding-rate` and
`liquidation-orders`; the answers of `GET /api/v5/market/books` and `/api/v5/market/trades` as the venue returns them;
one instrument cut from `GET /api/v5/public/instruments`. Source: OKX API guide v5, "Order Book Trading: Market Data"
and "Public Data".

Sizes are in contracts, which are `ctVal` times `ctMult` of the contract's currency: the definition's multiplier.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Literal

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan.market.book import DepthUpdate, Level, OrderBook
from huracan_gateway.adapter import WholeBook
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
from huracan_gateway.okx.definition import defined
from huracan_gateway.reading import DAMAGED, checked_id, event_ns_of, funding_rate, id_of, mark_price, shown, typed
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale, read_levels

CHECKSUM_DEPTH = 25
"""Levels a side that a checksum covers."""
_NO_UPDATE_BEFORE = -1
"""`prevSeqId` of a snapshot."""
_CODE = re.compile(r"0|[1-6]\d{4}", re.ASCII)
"""Of success, or of an error."""
_EMPTY = re.compile(rb"\[\s*\]")
_SIDES = {"buy": 1, "sell": -1}


class Arg(msgspec.Struct):
    """What a frame belongs to: a channel of an instrument, or of all instruments of a type."""

    channel: str
    instId: str | None = None  # noqa: N815 - the venue's name, here and below
    instType: str | None = None  # noqa: N815


class Frame(msgspec.Struct):
    """The outer form of a frame: of a channel, the answer to a request, or one instrument."""

    arg: Arg | None = None
    action: str | None = None
    code: str | None = None
    msg: str = ""
    event: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    instId: str | None = None  # noqa: N815
    tickSz: str | None = None  # noqa: N815


class _Trade(msgspec.Struct):
    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str


class _Level(msgspec.Struct, array_like=True):
    """A field without use and the number of orders follow."""

    price: str
    size: str
    """In contracts."""


class _Book(msgspec.Struct):
    asks: list[_Level]
    bids: list[_Level]
    ts: str
    seqId: int | None = None  # noqa: N815
    prevSeqId: int | None = None  # noqa: N815
    checksum: int | None = None


class _MarkPrice(msgspec.Struct):
    instId: str  # noqa: N815
    markPx: str  # noqa: N815
    ts: str


class _Funding(msgspec.Struct):
    instId: str  # noqa: N815
    fundingTime: str  # noqa: N815
    fundingRate: str = ""  # noqa: N815 - not told of some contracts before the first rate
    ts: str | None = None


class _Closed(msgspec.Struct):
    side: Literal["buy", "sell"]
    sz: str
    bkPx: str  # noqa: N815
    ts: str


class _Liquidated(msgspec.Struct):
    instId: str  # noqa: N815
    details: list[_Closed]


class _Named(msgspec.Struct):
    instId: str | None = None  # noqa: N815


_FRAME = msgspec.json.Decoder(Frame)
_TRADES = msgspec.json.Decoder(list[_Trade])
_BOOKS = msgspec.json.Decoder(list[_Book])
_MARK_PRICES = msgspec.json.Decoder(list[_MarkPrice])
_FUNDINGS = msgspec.json.Decoder(list[_Funding])
_LIQUIDATIONS = msgspec.json.Decoder(list[_Liquidated])
_NAMES = msgspec.json.Decoder(list[_Named])


class Decoder:
    """Decode the frames of one instrument."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        self._symbol = definition.venue_symbol
        self._price = Scale(Decimal(definition.price_increment))
        self._size = Scale(Decimal(definition.size_increment))
        self._channels: dict[str, tuple[str, Callable[[bytes], list[Event]]]] = {
            "trades": ("trade", self._trades),
            "bbo-tbt": ("quote", self._quotes),
            "mark-price": ("mark", self._marks),
            "funding-rate": ("mark", self._fundings),
            "liquidation-orders": ("liquidation", self._liquidations),
        }

    def decode(self, raw: bytes) -> tuple[str, Sequence[Event]]:
        """Return the kind of a frame and what it says, in the venue's order; raise Rejected naming field and reason."""
        frame = typed(_FRAME, raw)
        if frame.event is not None:
            raise Rejected(Reason.UNKNOWN_STREAM, f"event was {frame.event[:40]!r}: no market data")
        if frame.arg is not None:
            kind, events = self._of_channel(frame, frame.arg)
            if not events:
                raise Rejected(Reason.BAD_FIELD, "data was empty")
        elif frame.code is not None:
            kind, events = self._of_answer(frame)
        elif frame.instId is not None and frame.tickSz is not None:
            kind, events = "instrument", [self._defined(raw)]
        else:
            raise _unknown(raw)
        return kind, events

    def _of_channel(self, frame: Frame, arg: Arg) -> tuple[str, list[Event]]:
        if arg.instId is not None:
            self._belongs(arg.instId)
        data = bytes(frame.data) or b"null"
        if arg.channel in BOOKS:
            if frame.action == "snapshot":
                return "snapshot", [self._snapshot(book, restart=True) for book in typed(_BOOKS, data)]
            if frame.action == "update":
                return "depth", [self._depth(book) for book in typed(_BOOKS, data)]
            raise Rejected(Reason.BAD_FIELD, f"action was {str(frame.action)[:40]!r}")
        if arg.channel not in self._channels:
            raise Rejected(Reason.UNKNOWN_STREAM, f"channel was {arg.channel[:60]!r}")
        kind, read = self._channels[arg.channel]
        return kind, read(data)

    def _of_answer(self, frame: Frame) -> tuple[str, list[Event]]:
        if frame.code != "0":
            raise Rejected(Reason.BAD_FIELD, f"code was {str(frame.code)[:20]!r}: {frame.msg[:100]}")
        data = bytes(frame.data) or b"null"
        if _is_book(data):
            return "snapshot", [self._snapshot(book, restart=False) for book in typed(_BOOKS, data)]
        if b'"tradeId"' in data or _EMPTY.fullmatch(data):  # or none
            return RECENT_TRADES, self._trades(data)[::-1]  # the newest comes first
        raise Rejected(Reason.UNKNOWN_STREAM, f"answer was neither of books nor of trades; began with {data[:60]!r}")

    def _trades(self, data: bytes) -> list[Event]:
        return [self._trade(trade) for trade in typed(_TRADES, data)]

    def _trade(self, trade: _Trade) -> Trade:
        self._belongs(trade.instId)
        return Trade(
            event_ns_of(trade.ts, "ts"),
            id_of(trade.tradeId, "tradeId"),
            self._price.read(trade.px, "px"),
            self._size.read(trade.sz, "sz"),
            _SIDES[trade.side],
        )

    def _quotes(self, data: bytes) -> list[Event]:
        return [self._quote(book) for book in typed(_BOOKS, data)]

    def _quote(self, book: _Book) -> Quote:
        bids, asks = self._levels(book.bids, "bids"), self._levels(book.asks, "asks")
        if len(bids) != 1 or len(asks) != 1:
            raise Rejected(Reason.BAD_FIELD, f"bids had {len(bids)} levels, asks {len(asks)}, not one each")
        return Quote(event_ns_of(book.ts, "ts"), _sequence(book.seqId, "seqId"), *bids[0], *asks[0])

    def _depth(self, book: _Book) -> Depth:
        final, previous = _sequence(book.seqId, "seqId"), _sequence(book.prevSeqId, "prevSeqId")
        if (book.seqId is None) != (book.prevSeqId is None):
            raise Rejected(Reason.BAD_FIELD, "seqId or prevSeqId was missing")
        # an answer to a request that lies between the two is continued too
        first = min(previous + 1, final)
        update = DepthUpdate(first, final, previous, self._levels(book.bids, "bids"), self._levels(book.asks, "asks"))
        return Depth(event_ns_of(book.ts, "ts"), update, final, _checksum(book.checksum))

    def _snapshot(self, book: _Book, *, restart: bool) -> Snapshot:
        if book.prevSeqId not in (None, _NO_UPDATE_BEFORE):
            raise Rejected(Reason.BAD_FIELD, f"prevSeqId was {shown(book.prevSeqId)} in a snapshot")
        sequence = _sequence(book.seqId, "seqId")
        bids, asks = self._levels(book.bids, "bids"), self._levels(book.asks, "asks")
        checksum = _checksum(book.checksum)
        return Snapshot(event_ns_of(book.ts, "ts"), sequence, bids, asks, restart, sequence, checksum)

    def _levels(self, levels: Sequence[_Level], field: str) -> list[Level]:
        return read_levels(self._price, self._size, [(level.price, level.size) for level in levels], field)

    def _marks(self, data: bytes) -> list[Event]:
        marks = typed(_MARK_PRICES, data)
        for mark in marks:
            self._belongs(mark.instId)
        return [Mark(event_ns_of(mark.ts, "ts"), mark=mark_price(mark.markPx, "markPx")) for mark in marks]

    def _fundings(self, data: bytes) -> list[Event]:
        fundings = typed(_FUNDINGS, data)
        for funding in fundings:
            self._belongs(funding.instId)
        return [
            Mark(
                event_ns_of(funding.ts, "ts") if funding.ts else NO_TIME,
                funding_rate=funding_rate(funding.fundingRate, "fundingRate") if funding.fundingRate else None,
                # `nextFundingTime` is that of the rate after this one
                next_funding_ns=event_ns_of(funding.fundingTime, "fundingTime"),
            )
            for funding in fundings
        ]

    def _liquidations(self, data: bytes) -> list[Event]:
        contracts = typed(_LIQUIDATIONS, data)
        ours = [closed for contract in contracts if contract.instId == self._symbol for closed in contract.details]
        if contracts and not ours:
            raise Rejected(Reason.OTHER_SYMBOL, f"instId was {contracts[0].instId[:40]!r}, none was {self._symbol}")
        return [
            Liquidation(
                event_ns_of(closed.ts, "ts"),
                self._price.read(closed.bkPx, "bkPx"),
                self._size.read(closed.sz, "sz"),
                _SIDES[closed.side],
            )
            for closed in ours
        ]

    def _defined(self, raw: bytes) -> Defined:
        told = defined(raw)
        self._belongs(told.venue_symbol)
        return Defined(NO_TIME, told)

    def _belongs(self, symbol: str) -> None:
        if symbol != self._symbol:
            raise Rejected(Reason.OTHER_SYMBOL, f"instId was {symbol[:40]!r}, not {self._symbol}")


BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt")
"""Channels of the order book in updates."""
BOOK_MARKS = (b'"books', b'"code"')
"""Texts of which every frame of an order book holds one: of its channels, and of answers."""


def owns(raw: bytes) -> bool:
    """Return whether a frame can be OKX's, judged by its outer form."""
    try:
        frame = _FRAME.decode(raw)
    except DAMAGED:
        return False
    if frame.arg is not None:
        # another venue has this form too, with symbols that have no dash
        return "-" in (frame.arg.instId or "-") and (bool(bytes(frame.data)) or frame.event is not None)
    if frame.code is not None:
        listed = bytes(frame.data).startswith(b"[")
        return _CODE.fullmatch(frame.code) is not None and (listed or frame.event in ("error", "notice"))
    return frame.instId is not None and frame.tickSz is not None


def symbol_of(raw: bytes) -> str | None:
    """Return the instrument that a frame is about; None for a book that was asked for, and for several instruments."""
    try:
        frame = _FRAME.decode(raw)
        if frame.instId is not None:
            return frame.instId
        if frame.arg is not None and frame.arg.instId is not None:
            return frame.arg.instId
        names = {named.instId for named in _NAMES.decode(bytes(frame.data) or b"[]")}
    except DAMAGED:
        return None
    return names.pop() if len(names) == 1 else None


def levels(raw: bytes) -> list[tuple[str, str]] | None:
    """Return price and size texts of all levels of a whole order book; None for another, or a damaged, frame."""
    try:
        frame = _FRAME.decode(raw)
        data = bytes(frame.data)
        streamed = frame.arg is not None and frame.arg.channel in BOOKS and frame.action == "snapshot"
        if not streamed and not (frame.code == "0" and _is_book(data)):
            return None
        return [(level.price, level.size) for book in _BOOKS.decode(data) for level in [*book.bids, *book.asks]]
    except DAMAGED:
        return None


def write_book(book: WholeBook) -> bytes:
    """Return the snapshot of the channel `books` that tells a book."""
    asks, bids = [[[*level, "0", "1"] for level in side] for side in (book.asks, book.bids)]
    data = {"asks": asks, "bids": bids, "ts": str(book.event_ms), "prevSeqId": _NO_UPDATE_BEFORE, "seqId": book.number}
    arg = {"channel": BOOKS[0], "instId": book.symbol}
    return msgspec.json.encode({"arg": arg, "action": "snapshot", "data": [data]})


def _is_book(data: bytes) -> bool:
    return b'"asks"' in data[:100] or b'"bids"' in data[:100]


def defines(raw: bytes) -> InstrumentDefinition | None:
    """Return what a frame of kind `instrument` defines; None for another; raise Rejected for a damaged one."""
    frame = typed(_FRAME, raw)
    if frame.arg is not None or frame.instId is None or frame.tickSz is None:
        return None
    return defined(raw)


def checksum(definition: InstrumentDefinition) -> Callable[[OrderBook], int]:
    """Return how the checksum of a book is computed: the signed CRC-32 of its best 25 levels a side as text.

    Levels are `price:size`, bids and asks in turn, best first, all joined by colons; where a side has fewer, those of
    the other follow one another. Texts are as the venue writes them: plain decimals without zeros at the end. Source:
    OKX API guide v5, "Order book channel: Checksum". Since 2026-06-23 the venue sends 0, which is none
    ("OKX Order Book Channels Checksum Field Deprecation").
    """
    price, size = _plain(Decimal(definition.price_increment)), _plain(Decimal(definition.size_increment))

    def of_book(book: OrderBook) -> int:
        sides = zip_longest(book.bids(CHECKSUM_DEPTH), book.asks(CHECKSUM_DEPTH))
        texts = [f"{price(level[0])}:{size(level[1])}" for pair in sides for level in pair if level is not None]
        unsigned = zlib.crc32(":".join(texts).encode())
        return unsigned - 2**32 if unsigned >= 2**31 else unsigned

    return of_book


def _plain(increment: Decimal) -> Callable[[int], str]:
    """Return how a number of increments is written: as a plain decimal without zeros at its end."""
    exponent = increment.as_tuple().exponent
    assert isinstance(exponent, int)
    decimals = max(-exponent, 0)
    unit, one = int(increment.scaleb(decimals)), 10**decimals

    def text(count: int) -> str:
        whole, part = divmod(count * unit, one)
        return f"{whole}.{part:0{decimals}d}".rstrip("0") if part else str(whole)

    return text


def _checksum(value: int | None) -> int | None:
    if value is None or value == 0:
        return None
    if not -(2**31) <= value < 2**31:
        raise Rejected(Reason.BAD_FIELD, f"checksum was {shown(value)}")
    return value


def _sequence(value: int | None, field: str) -> int:
    """Return a number of the sequence; 0 where the venue sent none, as until 2023: all updates then follow."""
    return 0 if value is None else checked_id(value, field)


def _unknown(raw: bytes) -> Rejected:
    return Rejected(Reason.UNKNOWN_STREAM, f"no arg, no code and no instrument; began with {raw[:60]!r}")
