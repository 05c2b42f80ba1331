"""The public streams of Binance COIN-M futures. Source: COIN-M futures documentation, "Websocket Market Streams"."""

from __future__ import annotations

from huracan_gateway.adapter import Websocket
from huracan_gateway.binance import websocket

WEBSOCKET = Websocket(
    url="wss://dstream.binance.com",
    address=websocket.address,
    streams=websocket.streams(websocket.BOOK, "bookTicker", "aggTrade", "markPrice@1s", "forceOrder"),
    book_stream=websocket.book_stream,
    subscribe=websocket.nothing_to_send,
    unsubscribe=websocket.nothing_to_send,
    control=websocket.control,
    ping=None,
    ping_every_s=180.0,
    silent_after_s=60.0,
    messages_per_s=10.0,
)
