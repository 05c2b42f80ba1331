"""The public streams of Binance spot. Source: spot documentation, "WebSocket Streams"."""

from __future__ import annotations

from huracan_gateway.adapter import Websocket
from huracan_gateway.binance import websocket

WEBSOCKET = Websocket(
    url="wss://stream.binance.com:9443",
    address=websocket.address,
    streams=websocket.streams(websocket.BOOK, "bookTicker", "trade"),
    book_stream=websocket.book_stream,
    subscribe=websocket.nothing_to_send,
    unsubscribe=websocket.nothing_to_send,
    control=websocket.control,
    ping=None,
    ping_every_s=20.0,
    silent_after_s=60.0,
    messages_per_s=5.0,
)
