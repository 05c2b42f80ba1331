"""Binance USD-M futures, as a venue of the gateway."""

from __future__ import annotations

from huracan_gateway.binance.adapter import market
from huracan_gateway.binance_usdm.data import Decoder
from huracan_gateway.binance_usdm.http import HTTP
from huracan_gateway.binance_usdm.websocket import WEBSOCKET

ADAPTER = market(
    versions="fapi v1, streams of 2026-04-23; developers.binance.com/docs/derivatives/usds-margined-futures",
    decoder=Decoder,
    websocket=WEBSOCKET,
    http=HTTP,
)
