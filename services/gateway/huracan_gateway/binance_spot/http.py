"""Requests to Binance spot.

Source: spot documentation, "Exchange information", "Order book", "Recent trades list", "Kline/Candlestick data",
"Limits" (6,000 weight a minute).
"""

from __future__ import annotations

from huracan_gateway.adapter import Request
from huracan_gateway.binance import http
from huracan_gateway.binance_spot.data import VENUE

HTTP = http.market(
    venue=VENUE,
    url="https://api.binance.com",
    root="/api/v3",
    trades="trades",
    instruments=lambda symbol: Request(path=f"/api/v3/exchangeInfo?symbol={symbol}", weight=20.0),
    weights={"depth": 50.0, "trades": 25.0, "klines": 2.0},
    weight_per_minute=6_000.0,
    weight_per_s=50.0,
)
