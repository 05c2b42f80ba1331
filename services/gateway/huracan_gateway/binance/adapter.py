"""What the markets of Binance have in common as venues."""

from __future__ import annotations

from functools import partial

from huracan_gateway.adapter import Adapter, Http, TradeIds, Websocket
from huracan_gateway.binance import definition, frames
from huracan_gateway.binance.data import BinanceDecoder


def market(*, versions: str, decoder: type[BinanceDecoder], websocket: Websocket, http: Http) -> Adapter:
    """Return the adapter of the market whose frames a decoder reads."""
    venue = decoder.venue
    return Adapter(
        venue=venue,
        versions=versions,
        decoder=decoder,
        owns=partial(frames.owns, venue=venue),
        symbol_of=frames.symbol_of,
        levels=frames.levels,
        implied=partial(definition.implied, venue=venue),
        defines=partial(definition.defines, venue=venue),
        book_marks=frames.BOOK_MARKS,
        write_book=partial(frames.write_book, venue=venue),
        trade_ids=TradeIds.CONTIGUOUS,
        websocket=websocket,
        http=http,
    )
