"""Requests to Binance spot.

Source: spot documentation, "Exchange information", "Order book", "Recent trades list", "Kline/Candlestick data",
"Limits" (6,000 weight a minute).
"""

from __future__ import annotations

from functools import partial

from huracan_gateway.adapter import Http, Request
from huracan_gateway.binance import http
from huracan_gateway.binance_spot.data import VENUE

MOST_BARS = 1_000

HTTP = Http(
    url="https://api.binance.com",
    instruments=lambda symbol: Request(path=f"/api/v3/exchangeInfo?symbol={symbol}", weight=20.0),
    instrument=partial(http.instrument, venue=VENUE),
    snapshot=http.ask(f"/api/v3/depth?symbol={{}}&limit={http.SNAPSHOT_LEVELS}", weight=50.0),
    trades=http.ask(f"/api/v3/trades?symbol={{}}&limit={http.TRADES}", weight=25.0),
    klines=partial(http.klines, path="/api/v3/klines", weight=2.0),
    bars=partial(http.bars, venue=VENUE),
    most_bars=MOST_BARS,
    used=partial(http.used, weight_per_minute=6_000.0),
    weight_per_s=50.0,
)
