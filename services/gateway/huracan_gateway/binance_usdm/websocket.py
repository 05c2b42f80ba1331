"""The public streams of Binance USD-M futures.

Source: USD-M futures documentation, "Websocket Market Streams" and "Important WebSocket Change Notice": books, quotes
and single trades are under `/public`, all else under `/market`, and since 2026-04-23 no connection carries both. The
streams of one must therefore be of one path: of a mixture `address` gives the form without, over which the venue sends
what is public alone, and says nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

from huracan_gateway.adapter import Websocket
from huracan_gateway.binance import websocket

_PUBLIC = ("depth", "bookTicker", "trade")


def path_of(stream: str) -> str:
    """Return the path under which the venue serves a stream."""
    return "/public" if stream.partition("@")[2].partition("@")[0] in _PUBLIC else "/market"


def address(base: str, streams: Sequence[str]) -> str:
    """Return the address of streams, under their path where all have the same."""
    paths = {path_of(stream) for stream in streams}
    return websocket.address(base + paths.pop() if len(paths) == 1 else base, streams)


WEBSOCKET = Websocket(
    url="wss://fstream.binance.com",
    address=address,
    streams=websocket.streams(websocket.BOOK, "bookTicker", "aggTrade", "markPrice@1s", "forceOrder"),
    book_stream=websocket.book_stream,
    apart=path_of,
    subscribe=websocket.nothing_to_send,
    unsubscribe=websocket.nothing_to_send,
    control=websocket.control,
    ping=None,
    ping_every_s=180.0,
    silent_after_s=60.0,
    messages_per_s=10.0,
)
