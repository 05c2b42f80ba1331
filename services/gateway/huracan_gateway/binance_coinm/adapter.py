"""Binance COIN-M futures, as a venue of the gateway."""

from __future__ import annotations

from huracan_gateway.binance.adapter import market
from huracan_gateway.binance_coinm.data import Decoder
from huracan_gateway.binance_coinm.http import HTTP
from huracan_gateway.binance_coinm.websocket import WEBSOCKET

ADAPTER = market(
    versions="dapi v1; developers.binance.com/docs/derivatives/coin-margined-futures",
    decoder=Decoder,
    websocket=WEBSOCKET,
    http=HTTP,
)
