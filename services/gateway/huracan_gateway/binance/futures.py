"""Frames that only the futures markets of Binance send, decoded.

Newer frames of both say `ps` (the pair) and `st` (1: USD-M, 2: COIN-M), older ones `ps` in COIN-M alone; the symbol
tells the market in all ("Diff. Book Depth Streams").
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from huracan.contracts.market import FUNDING_UNIT, MARK_UNIT, InstrumentDefinition
from huracan.market.book import DepthUpdate
from huracan_gateway.binance.data import BinanceDecoder
from huracan_gateway.events import Depth, Liquidation, Mark, Quote
from huracan_gateway.reading import checked_id, event_ns
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale, read_levels

_SIDES = {"BUY": 1, "SELL": -1}


class _Depth(msgspec.Struct):
    e: str
    E: int
    s: str
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _Quote(msgspec.Struct):
    e: str
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    E: int


class _Mark(msgspec.Struct):
    e: str
    E: int
    s: str
    p: str
    i: str | None = None
    r: str = ""
    T: int = 0


class _Order(msgspec.Struct):
    s: str
    S: str
    q: str
    p: str


class _ForceOrder(msgspec.Struct):
    e: str
    E: int
    o: _Order


_DEPTH = msgspec.json.Decoder(_Depth)
_QUOTE = msgspec.json.Decoder(_Quote)
_MARK = msgspec.json.Decoder(_Mark)
_FORCE_ORDER = msgspec.json.Decoder(_ForceOrder)


class FuturesDecoder(BinanceDecoder):
    """Decode the frames of one futures instrument."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        super().__init__(definition)
        self._mark_price = Scale(MARK_UNIT)
        self._funding = Scale(FUNDING_UNIT)
        self._channels |= {
            "depth": ("depth", _DEPTH, self._depth),
            "bookTicker": ("quote", _QUOTE, self._quote),
            "markPrice": ("mark", _MARK, self._mark),
            "forceOrder": ("liquidation", _FORCE_ORDER, self._liquidation),
        }

    def _depth(self, data: _Depth) -> Depth:
        self._belongs(data.s)
        update = DepthUpdate(
            checked_id(data.U, "U"),
            checked_id(data.u, "u"),
            checked_id(data.pu, "pu"),
            read_levels(self._price, self._size, data.b, "b"),
            read_levels(self._price, self._size, data.a, "a"),
        )
        if not update.previous <= update.final or update.first > update.final:
            raise Rejected(Reason.OUT_OF_ORDER, f"U was {data.U}, u was {data.u}, pu was {data.pu}")
        return Depth(event_ns(data.E, "E"), update)

    def _quote(self, data: _Quote) -> Quote:
        self._belongs(data.s)
        return Quote(
            event_ns(data.E, "E"),
            checked_id(data.u, "u"),
            self._price.read(data.b, "b"),
            self._size.read(data.B, "B"),
            self._price.read(data.a, "a"),
            self._size.read(data.A, "A"),
        )

    def _mark(self, data: _Mark) -> Mark:
        """Read a mark price; a contract with delivery has no funding: its time is 0, its rate 0 or an empty text."""
        self._belongs(data.s)
        funded = data.T != 0
        return Mark(
            event_ns(data.E, "E"),
            self._positive(data.p, "p"),
            None if data.i is None else self._positive(data.i, "i"),
            self._rate(data.r) if funded else None,
            event_ns(data.T, "T") if funded else 0,
        )

    def _positive(self, text: str, field: str) -> Decimal:
        units = self._mark_price.read(text, field)
        if not units:
            raise Rejected(Reason.NOT_POSITIVE, f"{field} was {text[:40]}")
        return units * MARK_UNIT

    def _rate(self, text: str) -> Decimal:
        negative = text.startswith("-")
        rate = self._funding.read(text.removeprefix("-"), "r") * FUNDING_UNIT
        return -rate if negative else rate

    def _liquidation(self, data: _ForceOrder) -> Liquidation:
        """Read the order by its own price and quantity: its average price is no multiple of the increment."""
        order = data.o
        self._belongs(order.s)
        if order.S not in _SIDES:
            raise Rejected(Reason.BAD_FIELD, f"S was {order.S[:40]!r}")
        price, size = self._price.read(order.p, "p"), self._size.read(order.q, "q")
        if not price or not size:
            raise Rejected(Reason.NOT_POSITIVE, f"p was {order.p[:40]}, q was {order.q[:40]}")
        return Liquidation(event_ns(data.E, "E"), price, size, _SIDES[order.S])
