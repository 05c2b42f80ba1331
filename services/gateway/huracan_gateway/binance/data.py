"""Frames that all markets of Binance send, decoded; `futures.py` and `binance_spot/` add what is their own.

A connection carries `<symbol>@trade` or `<symbol>@aggTrade`, never both: they tell the same trades, and a decoder keeps
to the one it sees first. Trades that were asked for are of one or the other kind too.

`@trade` of futures, which the venue does not document, also tells of what no order in the book met: `X` is
INSURANCE_FUND or ADL for positions that were handed over, which count as trades, as their numbers do; and NA, with
price 0, for a number without a trade, which is refused. `@aggTrade` has neither ("Aggregate Trade Streams"), so it is
what futures subscribe to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan_gateway.binance import frames
from huracan_gateway.binance.definition import defined
from huracan_gateway.events import NO_TIME, RECENT_TRADES, Defined, Event, Snapshot, Trade
from huracan_gateway.reading import checked_id, event_ns
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale, read_levels


class _Trade(msgspec.Struct):
    E: int
    s: str
    t: int
    p: str
    q: str
    m: bool
    e: str
    M: bool | None = None
    X: str | None = None


class _AggregateTrade(msgspec.Struct):
    E: int
    s: str
    a: int
    p: str
    q: str
    m: bool
    e: str
    M: bool | None = None


class _AskedTrade(msgspec.Struct):
    """A row of `GET …/trades`."""

    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815 - the venue's name


class _AskedAggregateTrade(msgspec.Struct):
    """A row of `GET …/aggTrades`."""

    a: int
    p: str
    q: str
    T: int
    m: bool


_TRADE = msgspec.json.Decoder(_Trade)
_AGGREGATE_TRADE = msgspec.json.Decoder(_AggregateTrade)
_ASKED_TRADES = msgspec.json.Decoder(list[_AskedTrade])
_ASKED_AGGREGATE_TRADES = msgspec.json.Decoder(list[_AskedAggregateTrade])

Channel = tuple[str, "msgspec.json.Decoder[Any]", Callable[[Any], Event]]
"""Kind of the frames of a stream, schema of their data, and what reads it."""


class BinanceDecoder:
    """Decode the frames of one instrument: streams in the combined form, and the bodies of answers."""

    venue: ClassVar[str]
    sizes: ClassVar[type[Scale]] = Scale

    def __init__(self, definition: InstrumentDefinition) -> None:
        self._symbol = definition.venue_symbol
        self._price = Scale(Decimal(definition.price_increment))
        self._size = self.sizes(Decimal(definition.size_increment))
        self._trades: str | None = None
        self._channels: dict[str, Channel] = {
            "trade": ("trade", _TRADE, self._trade),
            "aggTrade": ("trade", _AGGREGATE_TRADE, self._aggregate_trade),
        }

    def decode(self, raw: bytes) -> tuple[str, Sequence[Event]]:
        """Return the kind of a frame and what it says; raise Rejected naming field and reason."""
        if raw.startswith(b"["):
            return RECENT_TRADES, self._asked_trades(raw)
        frame = frames.parse(raw, self.venue)
        if frame.stream is not None:
            return self._streamed(frame.stream, frame.data, raw)
        if frame.lastUpdateId is not None:
            return "snapshot", (self._snapshot(frame, frame.lastUpdateId, raw),)
        return "instrument", (self._defined(raw),)

    def _streamed(self, stream: str, data: msgspec.Raw, raw: bytes) -> tuple[str, Sequence[Event]]:
        channel = stream.partition("@")[2].partition("@")[0]
        if channel not in self._channels:
            raise Rejected(Reason.UNKNOWN_STREAM, f"stream was {stream[:60]!r}")
        kind, schema, read = self._channels[channel]
        event = read(frames.typed(schema, bytes(data) or b"null", raw, self.venue))
        if kind == "trade":
            self._one_kind_of_trades(channel)
        return kind, (event,)

    def _one_kind_of_trades(self, kind: str) -> None:
        if self._trades is None:
            self._trades = kind
        if kind != self._trades:
            detail = f"stream was @{kind} after @{self._trades}: both tell the same trades, and one is taken"
            raise Rejected(Reason.UNKNOWN_STREAM, detail)

    def _trade(self, data: _Trade) -> Trade:
        self._belongs(data.s)
        self._trades_of_market(data.M)
        trade = self._made(data.E, "E", data.t, "t", data.p, data.q, data.m)
        if data.X == "NA" and not trade.price:
            raise Rejected(Reason.NOT_POSITIVE, f"p was {data.p[:40]} and X was 'NA': a number without a trade")
        return trade

    def _aggregate_trade(self, data: _AggregateTrade) -> Trade:
        self._belongs(data.s)
        self._trades_of_market(data.M)
        return self._made(data.E, "E", data.a, "a", data.p, data.q, data.m)

    def _trades_of_market(self, best_match: bool | None) -> None:
        """Only spot says `M`."""
        if (best_match is None) is (self.venue == frames.SPOT):
            other = frames.USDM if best_match is None else frames.SPOT
            raise Rejected(Reason.OTHER_VENUE, f"M was {best_match}: a {other} frame")

    def _made(self, ms: int, time: str, number: int, field: str, price: str, size: str, sold: bool) -> Trade:
        return Trade(
            event_ns(ms, time),
            checked_id(number, field),
            self._price.read(price, "p"),
            self._size.read(size, "q"),
            -1 if sold else 1,
        )

    def _asked_trades(self, raw: bytes) -> Sequence[Event]:
        refused = frames.other_venue(raw, self.venue)
        if refused:
            raise refused
        events: list[Event]
        if b'"isBuyerMaker"' in raw:
            kind, trades = "trade", frames.typed(_ASKED_TRADES, raw, raw, self.venue)
            events = [
                self._made(was.time, "time", was.id, "id", was.price, was.qty, was.isBuyerMaker) for was in trades
            ]
        else:
            kind, sums = "aggTrade", frames.typed(_ASKED_AGGREGATE_TRADES, raw, raw, self.venue)
            events = [self._made(was.T, "T", was.a, "a", was.p, was.q, was.m) for was in sums]
        if events:
            self._one_kind_of_trades(kind)
        return events

    def _snapshot(self, frame: frames.Frame, last_update_id: int, raw: bytes) -> Snapshot:
        refused = frames.other_venue(raw, self.venue)
        if refused:
            raise refused
        if frame.symbol is not None:
            self._belongs(frame.symbol, "symbol")
        return Snapshot(
            self._snapshot_ns(frame),
            checked_id(last_update_id, "lastUpdateId"),
            read_levels(self._price, self._size, frame.bids, "bids"),
            read_levels(self._price, self._size, frame.asks, "asks"),
        )

    def _snapshot_ns(self, frame: frames.Frame) -> int:
        if frame.E is None:
            raise Rejected(Reason.BAD_FIELD, "lastUpdateId or E was missing in a snapshot")
        return event_ns(frame.E, "E")

    def _defined(self, raw: bytes) -> Defined:
        refused = frames.other_venue(raw, self.venue)
        if refused:
            raise refused
        definition = defined(raw, self.venue)
        self._belongs(definition.venue_symbol, "symbol")
        return Defined(NO_TIME, definition)

    def _belongs(self, symbol: str, field: str = "s") -> None:
        if symbol == self._symbol:
            return
        coinm = frames.is_coinm(symbol)
        if coinm is (self.venue != frames.COINM):
            other = frames.COINM if coinm else frames.USDM
            raise Rejected(Reason.OTHER_VENUE, f"{field} was {symbol[:40]!r}: a {other} frame")
        raise Rejected(Reason.OTHER_SYMBOL, f"{field} was {symbol[:40]!r}, not {self._symbol}")
