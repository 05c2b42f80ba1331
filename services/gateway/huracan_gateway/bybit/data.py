"""Frames of Bybit futures (API v5), decoded.

Topics: `publicTrade`, `orderbook.1` (best bid and ask), `orderbook.50` to `orderbook.1000` (the order book), `tickers`,
`allLiquidation` and its predecessor `liquidation`; the answers of `GET /v5/market/orderbook` and
`/v5/market/recent-trade` as the venue returns them; one instrument cut from `GET /v5/market/instruments-info`. Source:
Bybit API documentation v5, "Websocket Stream: Public" and "Market".

Sizes are in the base asset for linear contracts, in US dollars for inverse ones: a contract is one of either.
"""

from __future__ import annotations

import re
from calendar import FRIDAY, monthrange
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeVar

import msgspec

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.contracts.market import FUNDING_UNIT, MARK_UNIT, InstrumentDefinition, InstrumentType
from huracan.market.book import DepthUpdate, Level
from huracan_gateway.events import NO_TIME, Defined, Depth, Event, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.identity import define
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale

T = TypeVar("T")

VENUE = "bybit"
INVERSE_QUOTE = "USD"
"""Quote of inverse contracts, and of no linear one."""

_EARLIEST_MS, _LATEST_MS = 1_483_228_800_000, 4_102_444_800_000
"""2017 to 2100: what an event time may be at all."""
_DELIVERY_HOUR = 8
"""UTC, at which dated futures expire."""
_DECIMAL = re.compile(r"-?\d{1,18}(\.\d{1,30})?", re.ASCII)
_INCREMENT = re.compile(r"\d{1,18}(\.\d{1,30})?(E[+-]\d)?|\dE-[12]\d", re.ASCII)
_SYMBOL = re.compile(r"([A-Z0-9]+?)(USDT|USDC|USD|PERP)?(?:-(\d{1,2}[A-Z]{3}\d{2})|([HMUZ]\d{2}))?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII)
_ID_BITS = 2**63 - 1
_QUARTERS = {"H": 3, "M": 6, "U": 9, "Z": 12}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_TYPES = {
    "LinearPerpetual": InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    "LinearFutures": InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
    "InversePerpetual": InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL,
    "InverseFutures": InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE,
}
_TAKER = {"Buy": 1, "Sell": -1}
_CLOSING = {"Buy": -1, "Sell": 1}
"""Side of the order that closes a position: `Buy` is a long one."""

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


class _PriceFilter(msgspec.Struct):
    tickSize: str  # noqa: N815


class _LotSizeFilter(msgspec.Struct):
    qtyStep: str  # noqa: N815


class _Instrument(msgspec.Struct):
    symbol: str
    contractType: str  # noqa: N815
    baseCoin: str  # noqa: N815
    quoteCoin: str  # noqa: N815
    settleCoin: str  # noqa: N815
    priceFilter: _PriceFilter  # noqa: N815
    lotSizeFilter: _LotSizeFilter  # noqa: N815
    deliveryTime: str = "0"  # noqa: N815


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
_INSTRUMENT = msgspec.json.Decoder(_Instrument)
_NAMES = msgspec.json.Decoder(_NamedList)
DAMAGED = (msgspec.DecodeError, ValueError, RecursionError)
"""What damaged JSON raises: bad syntax; no UTF-8, or an integer of thousands of digits; nesting without end."""


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
            raise Rejected(reason, f"u was {_short(update)} after {self._last}")
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
        frame = parse(raw)
        if frame.op is not None:
            raise Rejected(Reason.UNKNOWN_STREAM, f"op was {frame.op[:40]!r}: no market data")
        if frame.topic is not None:
            kind, events = self._of_topic(frame, frame.topic)
        elif frame.retCode is not None:
            kind, events = self._of_answer(frame)
        elif frame.symbol is not None and frame.contractType is not None:
            kind, events = "instrument", [self._defined(raw)]
        else:
            raise _unknown(raw)
        if not events:
            raise Rejected(Reason.BAD_FIELD, "data was empty")
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

    def _of_answer(self, frame: Frame) -> tuple[str, list[Event]]:
        if frame.retCode != 0:
            raise Rejected(Reason.BAD_FIELD, f"retCode was {_short(frame.retCode)}: {frame.retMsg[:100]}")
        result = bytes(frame.result) or b"null"
        if b'"execId"' in result:
            trades = typed(_RECENT_TRADES, result).trades
            return "trade", [self._recent_trade(trade) for trade in reversed(trades)]  # the newest comes first
        if _is_book(result):
            book = typed(_BOOK, result)
            return "snapshot", [self._snapshot(book, _book_ns(book.ts, book.cts), restart=False)]
        raise Rejected(
            Reason.UNKNOWN_STREAM, f"answer was neither of an order book nor of trades; began with {result[:60]!r}"
        )

    def _orderbook(self, frame: Frame, depth: str, book: _Book) -> tuple[str, list[Event]]:
        if frame.type not in ("snapshot", "delta"):
            raise Rejected(Reason.BAD_FIELD, f"type was {str(frame.type)[:40]!r}")
        event_ns, whole = _book_ns(frame.ts, frame.cts), frame.type == "snapshot"
        if depth == "1":
            return "quote", [self._quote(book, event_ns, whole=whole)]
        if whole:
            return "snapshot", [self._snapshot(book, event_ns, restart=True)]
        return "depth", [self._depth(book, event_ns)]

    def _quote(self, book: _Book, event_ns: int, *, whole: bool) -> Quote:
        self._belongs(book.s)
        update, sequence = _id(book.u, "u"), _id(book.seq, "seq")
        bid, ask = self._best.take(update, self._levels(book.b, "b"), self._levels(book.a, "a"), whole=whole)
        if bid is None or ask is None:
            raise Rejected(Reason.OUT_OF_ORDER, f"best {'ask' if bid else 'bid'} was not told before u {update}")
        return Quote(event_ns, sequence, *bid, *ask)

    def _snapshot(self, book: _Book, event_ns: int, *, restart: bool) -> Snapshot:
        self._belongs(book.s)
        bids, asks = self._levels(book.b, "b"), self._levels(book.a, "a")
        return Snapshot(event_ns, _id(book.u, "u"), bids, asks, restart, _id(book.seq, "seq"))

    def _depth(self, book: _Book, event_ns: int) -> Depth:
        self._belongs(book.s)
        update = _id(book.u, "u")
        if update == 0:
            raise Rejected(Reason.BAD_FIELD, "u was 0 in a delta")
        changed = DepthUpdate(update, update, update - 1, self._levels(book.b, "b"), self._levels(book.a, "a"))
        return Depth(event_ns, changed, _id(book.seq, "seq"))

    def _levels(self, levels: Sequence[tuple[str, str]], field: str) -> list[Level]:
        price, size = self._price.read, self._size.read
        read = [(price(at, field), size(of, field)) for at, of in levels]
        if any(at <= 0 for at, _ in read):
            raise Rejected(Reason.NOT_POSITIVE, f"{field} had a price of 0")
        return read

    def _trades(self, frame: Frame, data: bytes) -> list[Event]:  # noqa: ARG002 - one form for all topics
        return [
            self._trade(trade.s, trade.T, "T", trade.i, "i", trade.p, trade.v, trade.S)
            for trade in typed(_TRADES, data)
        ]

    def _recent_trade(self, trade: _RecentTrade) -> Trade:
        at_ms = _milliseconds(trade.time, "time")
        return self._trade(trade.symbol, at_ms, "time", trade.execId, "execId", trade.price, trade.size, trade.side)

    def _trade(
        self, symbol: str, at_ms: int, time: str, name: str, field: str, price: str, size: str, side: Side
    ) -> Trade:
        self._belongs(symbol)
        return Trade(
            _event_ns(at_ms, time),
            _trade_id(name, field),
            self._price.read(price, "price"),
            self._size.read(size, "size"),
            _TAKER[side],
        )

    def _ticker(self, frame: Frame, data: bytes) -> list[Event]:
        ticker = typed(_TICKER, data)
        self._belongs(ticker.symbol)
        told = ticker.nextFundingTime not in ("", "0")
        return [
            Mark(
                _event_ns(frame.ts, "ts"),
                mark=_price(ticker.markPrice, "markPrice") if ticker.markPrice else None,
                index=_price(ticker.indexPrice, "indexPrice") if ticker.indexPrice else None,
                funding_rate=_rate(ticker.fundingRate, "fundingRate") if ticker.fundingRate else None,
                next_funding_ns=_time_ns(ticker.nextFundingTime, "nextFundingTime") if told else 0,
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
        return Liquidation(_event_ns(at_ms, "time"), at, of, _CLOSING[side])

    def _defined(self, raw: bytes) -> Defined:
        definition = defines(raw)
        assert definition is not None
        self._belongs(definition.venue_symbol)
        return Defined(NO_TIME, definition)

    def _belongs(self, symbol: str) -> None:
        if symbol != self._symbol:
            raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {symbol[:40]!r}, not {self._symbol}")


def parse(raw: bytes) -> Frame:
    """Return the outer form of a frame; raise Rejected when it is no JSON, or one of another form."""
    try:
        return _FRAME.decode(raw)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.BAD_FIELD, str(error)) from None
    except DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, f"{error}; began with {raw[:60]!r}") from None


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


def _is_book(result: bytes) -> bool:
    return b'"seq"' in result and b'"list"' not in result


def defines(raw: bytes) -> InstrumentDefinition | None:
    """Return what a frame of kind `instrument` defines; None for another; raise Rejected for a damaged one."""
    frame = parse(raw)
    if frame.topic is not None or frame.symbol is None or frame.contractType is None:
        return None
    instrument = typed(_INSTRUMENT, raw)
    kind = _TYPES.get(instrument.contractType)
    if kind is None:
        raise Rejected(Reason.BAD_FIELD, f"contractType was {instrument.contractType[:40]!r}")
    dated = instrument.contractType.endswith("Futures")
    expiry_ns = _time_ns(instrument.deliveryTime, "deliveryTime") if dated else 0
    return define(
        venue=VENUE,
        venue_symbol=instrument.symbol,
        type=kind,
        base=_coin(instrument.baseCoin, "baseCoin"),
        quote=_coin(instrument.quoteCoin, "quoteCoin"),
        settle=_coin(instrument.settleCoin, "settleCoin"),
        price_increment=positive(instrument.priceFilter.tickSize, "tickSize"),
        size_increment=positive(instrument.lotSizeFilter.qtyStep, "qtyStep"),
        expiry_ns=expiry_ns,
        delivery=_delivery(expiry_ns) if dated else "",
    )


def implied(symbol: str, price_increment: str, size_increment: str) -> InstrumentDefinition:
    """Return the definition that a symbol and its increments imply; raise Rejected for one that cannot be split.

    Forms: BTCUSDT, BTCPERP (quoted in USDC), BTCUSD (inverse), BTCUSDU23 (inverse, the last Friday of September 2023),
    BTCUSDT-26JUN26, BTC-26JUN26 (quoted in USDC).
    """
    base, quote, expiry = _split(symbol)
    dated, inverse = expiry is not None, quote == INVERSE_QUOTE
    expiry_ns = int(expiry.timestamp()) * NANOSECONDS if expiry else 0
    return define(
        venue=VENUE,
        venue_symbol=symbol,
        type=_TYPES[("Inverse" if inverse else "Linear") + ("Futures" if dated else "Perpetual")],
        base=base,
        quote=quote,
        settle=base if inverse else quote,
        price_increment=_increment(price_increment, "price increment"),
        size_increment=_increment(size_increment, "size increment"),
        expiry_ns=expiry_ns,
        delivery=_delivery(expiry_ns) if dated else "",
    )


def category(symbol: str) -> str:
    """Return the venue's category of a symbol, `linear` or `inverse`; raise Rejected for one that cannot be split."""
    return "inverse" if _split(symbol)[1] == INVERSE_QUOTE else "linear"


def _split(symbol: str) -> tuple[str, str, datetime | None]:
    match = _SYMBOL.fullmatch(symbol)
    if match is None or not (match[2] or match[3]):
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {symbol[:40]!r}: no known quote asset and no delivery in it")
    base, quote, day, quarter = match.groups()
    expiry = _day(day) if day else _last_friday(quarter) if quarter else None
    return base, "USDC" if quote in (None, "PERP") else quote, expiry


def _day(text: str) -> datetime:
    day, month, year = int(text[:-5]), text[-5:-2], 2000 + int(text[-2:])
    if month not in _MONTHS:
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol ended with {text}, which is no day")
    number = _MONTHS.index(month) + 1
    if not 1 <= day <= monthrange(year, number)[1]:
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol ended with {text}, which is no day")
    return datetime(year, number, day, _DELIVERY_HOUR, tzinfo=UTC)


def _last_friday(quarter: str) -> datetime:
    year, month = 2000 + int(quarter[1:]), _QUARTERS[quarter[0]]
    last = datetime(year, month, monthrange(year, month)[1], _DELIVERY_HOUR, tzinfo=UTC)
    return last - timedelta(days=(last.weekday() - FRIDAY) % 7)


def _delivery(expiry_ns: int) -> str:
    return datetime.fromtimestamp(expiry_ns // NANOSECONDS, tz=UTC).strftime("%y%m%d")


def _coin(text: str, field: str) -> str:
    if not (text.isascii() and text.isalnum()):
        raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}")
    return text


def _trade_id(text: str, field: str) -> int:
    """Return the low 63 bits of an identifier: those that are not its version."""
    if not _UUID.fullmatch(text):
        if text.isascii() and text.isdigit():
            raise Rejected(
                Reason.OTHER_VENUE, f"{field} was {text[:40]}, a number: of Bybit spot, which is not read here"
            )
        raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}, no UUID")
    return int(text.replace("-", ""), 16) & _ID_BITS


def typed(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Return what JSON says in the form of a decoder; raise Rejected for other or damaged JSON."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.BAD_FIELD, str(error)) from None
    except DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, str(error)) from None


def _book_ns(ts: int | None, cts: int | None) -> int:
    """Return when the matching engine made an order book (`cts`), as trades have it; else when it was sent."""
    return _event_ns(ts, "ts") if cts is None else _event_ns(cts, "cts")


def _event_ns(event_ms: int | None, field: str) -> int:
    if event_ms is None:
        raise Rejected(Reason.BAD_FIELD, f"{field} was missing")
    if event_ms < 0:
        raise Rejected(Reason.NEGATIVE_TIME, f"{field} was negative")
    if not _EARLIEST_MS <= event_ms <= _LATEST_MS:
        raise Rejected(Reason.IMPOSSIBLE_TIME, f"{field} was {_short(event_ms)} ms")
    return event_ms * MILLISECOND_NS


def _milliseconds(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}")
    return int(text)


def _time_ns(text: str, field: str) -> int:
    return _event_ns(_milliseconds(text, field), field)


def _id(value: int, field: str) -> int:
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
    return Rejected(Reason.UNKNOWN_STREAM, f"no topic, no retCode and no instrument; began with {raw[:60]!r}")
