"""Bybit as a venue."""

from __future__ import annotations

from huracan_gateway.adapter import Adapter, TradeIds
from huracan_gateway.bybit import data, definition
from huracan_gateway.bybit.http import HTTP
from huracan_gateway.bybit.websocket import WEBSOCKET

ADAPTER = Adapter(
    venue=definition.VENUE,
    versions="API v5, https://bybit-exchange.github.io/docs/v5/intro",
    decoder=data.Decoder,
    owns=data.owns,
    symbol_of=data.symbol_of,
    levels=data.levels,
    implied=definition.implied,
    defines=data.defines,
    book_marks=data.BOOK_MARKS,
    write_book=data.write_book,
    trade_ids=TradeIds.NAMES,
    quotes_repeat=True,
    websocket=WEBSOCKET,
    http=HTTP,
)
"""Linear and inverse contracts."""
