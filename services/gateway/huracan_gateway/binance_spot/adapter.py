"""Binance spot, as a venue of the gateway."""

from __future__ import annotations

from functools import partial

from huracan_gateway.adapter import Adapter, TradeIds
from huracan_gateway.binance import definition, frames
from huracan_gateway.binance_spot.data import VENUE, Decoder
from huracan_gateway.binance_spot.http import HTTP
from huracan_gateway.binance_spot.websocket import WEBSOCKET

ADAPTER = Adapter(
    venue=VENUE,
    versions="api v3; developers.binance.com/docs/binance-spot-api-docs",
    decoder=Decoder,
    owns=partial(frames.owns, venue=VENUE),
    symbol_of=frames.symbol_of,
    levels=frames.levels,
    implied=partial(definition.implied, venue=VENUE),
    defines=partial(definition.defines, venue=VENUE),
    trade_ids=TradeIds.CONTIGUOUS,
    websocket=WEBSOCKET,
    http=HTTP,
)
