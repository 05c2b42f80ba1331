"""Requests to Binance COIN-M futures.

Source: COIN-M futures documentation, "Exchange Information", "Order Book", "Compressed/Aggregate Trades List",
"Kline/Candlestick Data", "General Info: Limits" (2,400 weight a minute).
"""

from __future__ import annotations

from functools import partial

from huracan_gateway.adapter import Http, Request
from huracan_gateway.binance import http
from huracan_gateway.binance_coinm.data import VENUE

MOST_BARS = 1_000

HTTP = Http(
    url="https://dapi.binance.com",
    instruments=lambda _symbol: Request(path="/dapi/v1/exchangeInfo", weight=1.0),
    instrument=partial(http.instrument, venue=VENUE),
    snapshot=http.ask(f"/dapi/v1/depth?symbol={{}}&limit={http.SNAPSHOT_LEVELS}", weight=20.0),
    trades=http.ask(f"/dapi/v1/aggTrades?symbol={{}}&limit={http.TRADES}", weight=20.0),
    klines=partial(http.klines, path="/dapi/v1/klines", weight=5.0),
    bars=partial(http.bars, venue=VENUE),
    most_bars=MOST_BARS,
    used=partial(http.used, weight_per_minute=2_400.0),
    weight_per_s=20.0,
)
