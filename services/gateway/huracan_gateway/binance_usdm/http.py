"""Requests to Binance USD-M futures.

Source: USD-M futures documentation, "Exchange Information", "Order Book", "Compressed/Aggregate Trades List",
"Kline/Candlestick Data", "General Info: Limits" (2,400 weight a minute).
"""

from __future__ import annotations

from huracan_gateway.adapter import Request
from huracan_gateway.binance import http
from huracan_gateway.binance_usdm.data import VENUE

HTTP = http.market(
    venue=VENUE,
    url="https://fapi.binance.com",
    root="/fapi/v1",
    trades="aggTrades",
    instruments=lambda _symbol: Request(path="/fapi/v1/exchangeInfo"),
    weights={"depth": 20.0, "aggTrades": 20.0, "klines": 5.0},
    weight_per_minute=2_400.0,
    weight_per_s=20.0,
)
