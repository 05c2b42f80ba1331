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
from datetime import UTC, datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Literal, TypeVar

import msgspec

from huracan.clock import MILLISECOND_NS
from huracan.contracts.market import FUNDING_UNIT, MARK_UNIT, InstrumentDefinition, InstrumentType
from huracan.market.book import DepthUpdate, Level, OrderBook
from huracan_gateway.events import (
    NO_TIME,
    Defined,
    Depth,
    Event,
    Liquidation,
    Mark,
    Quote,
    Snapshot,
    Trade,
)
from huracan_gateway.identity import SIMULATED_ASSETS, define
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale

T = TypeVar("T")

VENUE = "okx"
CHECKSUM_DEPTH = 25
"""Levels a side that a checksum covers."""

_EARLIEST_MS, _LATEST_MS = 1_483_228_800_000, 4_102_444_800_000
"""2017 to 2100: what an event time may be at all."""
_NO_UPDATE_BEFORE = -1
"""`prevSeqId` of a snapshot."""
_DELIVERY_HOUR = 8
"""UTC, at which dated futures expire."""
_SYMBOL = re.compile(r"([A-Z0-9]+)-([A-Z0-9_]+)-(SWAP|\d{6})", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,18}(\.\d{1,30})?", re.ASCII)
_INCREMENT = re.compile(r"\d{1,18}(\.\d{1,30})?(E[+-]\d)?|\dE-[12]\d", re.ASCII)
_CODE = re.compile(r"0|[1-6]\d{4}", re.ASCII)
"""Of success, or of an error."""
_PERPETUAL = "SWAP"
_TYPES = {
    ("linear", "SWAP"): InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    ("linear", "FUTURES"): InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
    ("inverse", "SWAP"): InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL,
    ("inverse", "FUTURES"): InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE,
}
_SIDES = {"buy": 1, "sell": -1}
_LINEAR_CONTRACTS = {"BTC-USDT": Decimal("0.01"), "ETH-USDT": Decimal("0.1")}
_INVERSE_CONTRACTS = {"BTC": Decimal(100)}
_INVERSE_CONTRACT = Decimal(10)
"""US dollars; of Bitcoin 100. Those of linear contracts follow no rule."""

Levels = list[tuple[str, ...]]
"""Price, size in contracts, a field without use, number of orders."""


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
    instType: str | None = None  # noqa: N815
    tickSz: str | None = None  # noqa: N815


class _Trade(msgspec.Struct):
    instId: str  # noqa: N815
    tradeId: str  # noqa: N815
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str


class _Book(msgspec.Struct):
    asks: Levels
    bids: Levels
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
    fundingRate: str  # noqa: N815
    fundingTime: str  # noqa: N815
    ts: str | None = None


class _Closed(msgspec.Struct):
    side: Literal["buy", "sell"]
    sz: str
    bkPx: str  # noqa: N815
    ts: str


class _Liquidated(msgspec.Struct):
    instId: str  # noqa: N815
    details: list[_Closed]


class _Instrument(msgspec.Struct):
    instId: str  # noqa: N815
    instType: str  # noqa: N815
    ctType: str  # noqa: N815
    ctVal: str  # noqa: N815
    ctMult: str  # noqa: N815
    settleCcy: str  # noqa: N815
    tickSz: str  # noqa: N815
    lotSz: str  # noqa: N815
    expTime: str  # noqa: N815


class _Named(msgspec.Struct):
    instId: str | None = None  # noqa: N815


_FRAME = msgspec.json.Decoder(Frame)
_TRADES = msgspec.json.Decoder(list[_Trade])
_BOOKS = msgspec.json.Decoder(list[_Book])
_MARK_PRICES = msgspec.json.Decoder(list[_MarkPrice])
_FUNDINGS = msgspec.json.Decoder(list[_Funding])
_LIQUIDATIONS = msgspec.json.Decoder(list[_Liquidated])
_INSTRUMENT = msgspec.json.Decoder(_Instrument)
_NAMES = msgspec.json.Decoder(list[_Named])
DAMAGED = (msgspec.DecodeError, ValueError, RecursionError)
"""What damaged JSON raises: bad syntax; no UTF-8, or an integer of thousands of digits; nesting without end."""


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
        frame = parse(raw)
        if frame.event is not None:
            raise Rejected(Reason.UNKNOWN_STREAM, f"event was {frame.event[:40]!r}: no market data")
        if frame.arg is not None:
            kind, events = self._of_channel(frame, frame.arg)
        elif frame.code is not None:
            kind, events = self._of_answer(frame)
        elif frame.instId is not None and frame.tickSz is not None:
            kind, events = "instrument", [self._defined(raw)]
        else:
            raise _unknown(raw)
        if not events:
            raise Rejected(Reason.BAD_FIELD, "data was empty")
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
        if b'"tradeId"' in data:
            return "trade", self._trades(data)[::-1]  # the newest comes first
        raise Rejected(Reason.UNKNOWN_STREAM, f"answer was neither of books nor of trades; began with {data[:60]!r}")

    def _trades(self, data: bytes) -> list[Event]:
        return [self._trade(trade) for trade in typed(_TRADES, data)]

    def _trade(self, trade: _Trade) -> Trade:
        self._belongs(trade.instId)
        return Trade(
            _event_ns(trade.ts),
            _whole(trade.tradeId, "tradeId"),
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
        return Quote(_event_ns(book.ts), _sequence(book.seqId, "seqId"), *bids[0], *asks[0])

    def _depth(self, book: _Book) -> Depth:
        final, previous = _sequence(book.seqId, "seqId"), _sequence(book.prevSeqId, "prevSeqId")
        if (book.seqId is None) != (book.prevSeqId is None):
            raise Rejected(Reason.BAD_FIELD, "seqId or prevSeqId was missing")
        # an answer to a request that lies between the two is continued too
        first = min(previous + 1, final)
        update = DepthUpdate(first, final, previous, self._levels(book.bids, "bids"), self._levels(book.asks, "asks"))
        return Depth(_event_ns(book.ts), update, final, _checksum(book.checksum))

    def _snapshot(self, book: _Book, *, restart: bool) -> Snapshot:
        if book.prevSeqId not in (None, _NO_UPDATE_BEFORE):
            raise Rejected(Reason.BAD_FIELD, f"prevSeqId was {_short(book.prevSeqId)} in a snapshot")
        sequence = _sequence(book.seqId, "seqId")
        bids, asks = self._levels(book.bids, "bids"), self._levels(book.asks, "asks")
        checksum = _checksum(book.checksum)
        return Snapshot(_event_ns(book.ts), sequence, bids, asks, restart, sequence, checksum)

    def _levels(self, levels: Levels, field: str) -> list[Level]:
        price, size = self._price.read, self._size.read
        try:
            read = [(price(level[0], field), size(level[1], field)) for level in levels]
        except IndexError:
            raise Rejected(Reason.BAD_FIELD, f"{field} had a level without price or size") from None
        if any(at <= 0 for at, _ in read):
            raise Rejected(Reason.NOT_POSITIVE, f"{field} had a price of 0")
        return read

    def _marks(self, data: bytes) -> list[Event]:
        marks = typed(_MARK_PRICES, data)
        for mark in marks:
            self._belongs(mark.instId)
        return [Mark(_event_ns(mark.ts), mark=_price(mark.markPx, "markPx")) for mark in marks]

    def _fundings(self, data: bytes) -> list[Event]:
        fundings = typed(_FUNDINGS, data)
        for funding in fundings:
            self._belongs(funding.instId)
        return [
            Mark(
                _event_ns(funding.ts) if funding.ts else NO_TIME,
                funding_rate=_rate(funding.fundingRate, "fundingRate"),
                # `nextFundingTime` is that of the rate after this one
                next_funding_ns=_event_ns(funding.fundingTime, "fundingTime"),
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
                _event_ns(closed.ts),
                self._price.read(closed.bkPx, "bkPx"),
                self._size.read(closed.sz, "sz"),
                _SIDES[closed.side],
            )
            for closed in ours
        ]

    def _defined(self, raw: bytes) -> Defined:
        definition = defines(raw)
        assert definition is not None
        self._belongs(definition.venue_symbol)
        return Defined(NO_TIME, definition)

    def _belongs(self, symbol: str) -> None:
        if symbol != self._symbol:
            raise Rejected(Reason.OTHER_SYMBOL, f"instId was {symbol[:40]!r}, not {self._symbol}")


BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt")
"""Channels of the order book in updates."""


def parse(raw: bytes) -> Frame:
    """Return the outer form of a frame; raise Rejected when it is no JSON, or one of another form."""
    try:
        return _FRAME.decode(raw)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.BAD_FIELD, str(error)) from None
    except DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, f"{error}; began with {raw[:60]!r}") from None


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
        return [(level[0], level[1]) for book in _BOOKS.decode(data) for level in [*book.bids, *book.asks]]
    except (*DAMAGED, IndexError):
        return None


def _is_book(data: bytes) -> bool:
    return b'"asks"' in data[:100] or b'"bids"' in data[:100]


def defines(raw: bytes) -> InstrumentDefinition | None:
    """Return what a frame of kind `instrument` defines; None for another; raise Rejected for a damaged one."""
    frame = parse(raw)
    if frame.arg is not None or frame.instId is None or frame.tickSz is None:
        return None
    if frame.instType not in ("SWAP", "FUTURES"):
        was = str(frame.instType)[:20]
        raise Rejected(Reason.OTHER_SYMBOL, f"instType was {was!r}: of OKX SWAP and FUTURES are read here")
    instrument = typed(_INSTRUMENT, raw)
    base, quote, delivery = _split(instrument.instId)
    kind = _TYPES.get((instrument.ctType, instrument.instType))
    if kind is None:
        raise Rejected(Reason.BAD_FIELD, f"ctType was {instrument.ctType[:20]!r}")
    dated = instrument.instType == "FUTURES"
    return define(
        venue=VENUE,
        venue_symbol=instrument.instId,
        type=kind,
        base=base,
        quote=quote,
        settle=instrument.settleCcy,
        price_increment=positive(instrument.tickSz, "tickSz"),
        size_increment=positive(instrument.lotSz, "lotSz"),
        multiplier=positive(instrument.ctVal, "ctVal") * positive(instrument.ctMult, "ctMult"),
        expiry_ns=_event_ns(instrument.expTime, "expTime") if dated else 0,
        delivery=delivery if dated else "",
    )


def implied(symbol: str, price_increment: str, size_increment: str) -> InstrumentDefinition:
    """Return the definition that a symbol and its increments imply.

    What a contract is worth follows from the symbol of inverse contracts alone; of linear ones the two largest are
    known here. Raises Rejected for any other, whose instrument the recording has to hold, and for what is no swap or
    future.
    """
    base, quote, delivery = _split(symbol)
    dated = delivery != _PERPETUAL
    inverse = quote == "USD"
    return define(
        venue=VENUE,
        venue_symbol=symbol,
        type=_TYPES["inverse" if inverse else "linear", "FUTURES" if dated else "SWAP"],
        base=base,
        quote=quote,
        settle=base if inverse else quote,
        price_increment=_increment(price_increment, "price increment"),
        size_increment=_increment(size_increment, "size increment"),
        multiplier=_contract(base, quote, inverse=inverse),
        expiry_ns=_expiry_ns(delivery) if dated else 0,
        delivery=delivery if dated else "",
    )


def _contract(base: str, quote: str, *, inverse: bool) -> Decimal:
    if base in SIMULATED_ASSETS:
        return Decimal(1)
    if inverse:
        return _INVERSE_CONTRACTS.get(base, _INVERSE_CONTRACT)
    contract = _LINEAR_CONTRACTS.get(f"{base}-{quote}")
    if contract is None:
        raise Rejected(
            Reason.BAD_FIELD,
            f"what a contract of {base}-{quote} is worth is not told: record its instrument too (GET "
            "/api/v5/public/instruments)",
        )
    return contract


def _split(symbol: str) -> tuple[str, str, str]:
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        raise Rejected(Reason.OTHER_SYMBOL, f"instId was {symbol[:40]!r}: no BASE-QUOTE-SWAP or BASE-QUOTE-YYMMDD")
    base, quote, delivery = match.groups()
    return base, quote, delivery


def _expiry_ns(delivery: str) -> int:
    year, month, day = 2000 + int(delivery[:2]), int(delivery[2:4]), int(delivery[4:])
    try:
        expiry = datetime(year, month, day, _DELIVERY_HOUR, tzinfo=UTC)
    except ValueError:
        raise Rejected(Reason.OTHER_SYMBOL, f"instId ended with {delivery}, which is no day") from None
    return int(expiry.timestamp()) * 1_000 * MILLISECOND_NS


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
        raise Rejected(Reason.BAD_FIELD, f"checksum was {_short(value)}")
    return value


def typed(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Return what JSON says in the form of a decoder; raise Rejected for other or damaged JSON."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.BAD_FIELD, str(error)) from None
    except DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, str(error)) from None


def _event_ns(text: str, field: str = "ts") -> int:
    if text[:1] == "-" and text[1:].isdigit():
        raise Rejected(Reason.NEGATIVE_TIME, f"{field} was negative")
    event_ms = _whole(text, field)
    if not _EARLIEST_MS <= event_ms <= _LATEST_MS:
        raise Rejected(Reason.IMPOSSIBLE_TIME, f"{field} was {event_ms} ms")
    return event_ms * MILLISECOND_NS


def _whole(text: str, field: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else -1
    if not 0 <= value < 2**63:
        raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}")
    return value


def _sequence(value: int | None, field: str) -> int:
    """Return a number of the sequence; 0 where the venue sent none, as until 2023: all updates then follow."""
    if value is None:
        return 0
    if not 0 <= value < 2**63:
        raise Rejected(Reason.BAD_FIELD, f"{field} was {_short(value)}")
    return value


def decimal_of(text: str, field: str) -> Decimal:
    """Return the number that plain decimal text says; raise Rejected naming the field for any other text."""
    if not _DECIMAL.fullmatch(text):
        raise Rejected(Reason.NOT_A_NUMBER, f"{field} was {text[:40]!r}")
    return Decimal(text)


def positive(text: str, field: str) -> Decimal:
    """Return the number above 0 that plain decimal text says; raise Rejected naming the field for any other text."""
    value = decimal_of(text, field)
    if value <= 0:
        raise Rejected(Reason.NOT_POSITIVE, f"{field} was {text[:40]}")
    return value


def _increment(text: str, field: str) -> Decimal:
    """Read an increment of ours, which may be written with an exponent."""
    if not _INCREMENT.fullmatch(text):
        raise Rejected(Reason.NOT_A_NUMBER, f"{field} was {text[:40]!r}")
    return positive(f"{Decimal(text):f}", field)


def _price(text: str, field: str) -> Decimal:
    return _kept(positive(text, field), MARK_UNIT, field)


def _rate(text: str, field: str) -> Decimal:
    return _kept(decimal_of(text, field), FUNDING_UNIT, field)


def _kept(value: Decimal, unit: Decimal, field: str) -> Decimal:
    if abs(value) >= unit * 2**63:
        raise Rejected(Reason.NOT_A_NUMBER, f"{field} was {value}, beyond what can be kept")
    return value


def _short(value: int | None) -> str:
    return str(value) if value is None or abs(value) < 2**64 else "beyond 64 bits"


def _unknown(raw: bytes) -> Rejected:
    return Rejected(Reason.UNKNOWN_STREAM, f"no arg, no code and no instrument; began with {raw[:60]!r}")
