"""Binance USD-M futures, as a venue of the gateway."""

from __future__ import annotations

from functools import partial

from huracan_gateway.adapter import Adapter, TradeIds
from huracan_gateway.binance import definition, frames
from huracan_gateway.binance_usdm.data import VENUE, Decoder
from huracan_gateway.binance_usdm.http import HTTP
from huracan_gateway.binance_usdm.websocket import WEBSOCKET

ADAPTER = Adapter(
    venue=VENUE,
    versions="fapi v1, streams of 2026-04-23; developers.binance.com/docs/derivatives/usds-margined-futures",
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
