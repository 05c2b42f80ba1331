"""Frames of Binance spot, decoded.

Streams: `<symbol>@depth@100ms` (and `@depth`), `@bookTicker`, `@trade` or `@aggTrade` in the combined form
`{"stream": …, "data": …}`, and bodies of REST answers as the venue returns them. Depth says no previous id: each update
begins where the one before ended. Best bid and ask, and snapshots, come without a time. Source: Binance spot
documentation, "WebSocket Streams" and `GET /api/v3/{depth,trades,aggTrades,exchangeInfo}`.

A size can be finer than LOT_SIZE says: orders from before a lot was enlarged rest on (25.426189 BTC, where the lot is
0.00001). It is rounded up to the lot, so that no level vanishes; to refuse it would cost the whole book.
"""

from __future__ import annotations

from typing import Final

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan.market.book import DepthUpdate
from huracan_gateway.binance import frames
from huracan_gateway.binance.data import BinanceDecoder
from huracan_gateway.events import NO_TIME, Depth, Quote
from huracan_gateway.reading import checked_id, event_ns
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import RoundedUpScale, read_levels

VENUE: Final = frames.SPOT


class _Depth(msgspec.Struct):
    e: str
    E: int
    s: str
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    pu: int | None = None


class _Quote(msgspec.Struct):
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    e: str | None = None


_DEPTH = msgspec.json.Decoder(_Depth)
_QUOTE = msgspec.json.Decoder(_Quote)


class Decoder(BinanceDecoder):
    """Decode the frames of one pair."""

    venue = VENUE
    sizes = RoundedUpScale

    def __init__(self, definition: InstrumentDefinition) -> None:
        super().__init__(definition)
        self._channels |= {"depth": ("depth", _DEPTH, self._depth), "bookTicker": ("quote", _QUOTE, self._quote)}

    def _depth(self, data: _Depth) -> Depth:
        self._belongs(data.s)
        if data.pu is not None:
            raise Rejected(Reason.OTHER_VENUE, f"pu was {data.pu}: a {frames.USDM} frame")
        first, final = checked_id(data.U, "U"), checked_id(data.u, "u")
        if not 0 < first <= final:
            raise Rejected(Reason.OUT_OF_ORDER, f"U was {first}, u was {final}")
        bids = read_levels(self._price, self._size, data.b, "b")
        asks = read_levels(self._price, self._size, data.a, "a")
        update = DepthUpdate(first, final, first - 1, bids, asks)
        return Depth(event_ns(data.E, "E"), update)

    def _quote(self, data: _Quote) -> Quote:
        self._belongs(data.s)
        if data.e is not None:
            raise Rejected(Reason.OTHER_VENUE, f"e was {data.e[:40]!r}: a {frames.USDM} frame")
        return Quote(
            NO_TIME,
            checked_id(data.u, "u"),
            self._price.read(data.b, "b"),
            self._size.read(data.B, "B"),
            self._price.read(data.a, "a"),
            self._size.read(data.A, "A"),
        )

    def _snapshot_ns(self, frame: frames.Frame) -> int:  # noqa: ARG002 - futures' snapshots say it
        return NO_TIME
