"""OKX as a venue."""

from __future__ import annotations

from huracan_gateway.adapter import Adapter, TradeIds
from huracan_gateway.okx import data, definition
from huracan_gateway.okx.http import HTTP
from huracan_gateway.okx.websocket import WEBSOCKET

ADAPTER = Adapter(
    venue=definition.VENUE,
    versions="API v5, https://www.okx.com/docs-v5/en/",
    decoder=data.Decoder,
    owns=data.owns,
    symbol_of=data.symbol_of,
    levels=data.levels,
    implied=definition.implied,
    defines=data.defines,
    book_marks=data.BOOK_MARKS,
    write_book=data.write_book,
    trade_ids=TradeIds.RISING,  # a frame may stand for several trades that one order made (`count`)
    quotes_repeat=True,
    websocket=WEBSOCKET,
    http=HTTP,
    checksum=data.checksum,
)
"""Swaps and futures."""
