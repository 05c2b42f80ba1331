"""Binance spot, as a venue of the gateway."""

from __future__ import annotations

from huracan_gateway.binance.adapter import market
from huracan_gateway.binance_spot.data import Decoder
from huracan_gateway.binance_spot.http import HTTP
from huracan_gateway.binance_spot.websocket import WEBSOCKET

ADAPTER = market(
    versions="api v3; developers.binance.com/docs/binance-spot-api-docs",
    decoder=Decoder,
    websocket=WEBSOCKET,
    http=HTTP,
)
