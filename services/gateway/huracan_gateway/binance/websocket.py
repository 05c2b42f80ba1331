"""What Binance's websockets share: names of streams, addresses that say them, and messages that are no market data.

The address names all streams, so nothing is sent: the server pings, and a ping is answered by the connection. Source:
"WebSocket Streams" (spot) and "Websocket Market Streams" (futures).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan_gateway.adapter import Control
from huracan_gateway.reading import DAMAGED

BOOK = "depth@100ms"
"""The fastest speed that is documented of all three markets."""
_SHUTDOWN = "serverShutdown"
_RATE_LIMITED = (-1003, 418, 429)
"""Codes of requests that came too fast."""
_MOST_TEXT = 200


class _Message(msgspec.Struct):
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    code: int | None = None
    msg: str = ""
    e: str = ""
    event: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    code: int | None = None
    msg: str = ""
    e: str = ""


_MESSAGE = msgspec.json.Decoder(_Message)
_ERROR = msgspec.json.Decoder(_Error)


def stream(definition: InstrumentDefinition, channel: str) -> str:
    """Return the name of a stream: `btcusdt@depth@100ms`."""
    return f"{definition.venue_symbol.lower()}@{channel}"


def streams(*channels: str) -> Callable[[InstrumentDefinition], Sequence[str]]:
    """Return what names the streams of an instrument."""
    return lambda definition: [stream(definition, channel) for channel in channels]


def book_stream(definition: InstrumentDefinition) -> str:
    """Return the name of the stream that carries an instrument's order book."""
    return stream(definition, BOOK)


def address(base: str, wanted: Sequence[str]) -> str:
    """Return the address of streams in the combined form."""
    return f"{base.rstrip('/')}/stream?streams={'/'.join(wanted)}"


def nothing_to_send(_streams: Sequence[str], _number: int) -> Sequence[bytes]:
    """Return no messages: the address says it all."""
    return ()


def control(raw: bytes) -> tuple[Control, str] | None:
    """Return what a message is that is no market data, with its text; None for market data and for what is damaged."""
    if raw.startswith((b'{"stream"', b"[")) and _SHUTDOWN.encode() not in raw:
        return None
    try:
        message = _MESSAGE.decode(raw)
        told = _ERROR.decode(bytes(message.error or message.event or message.data) or b"{}")
    except DAMAGED:
        return None
    if _SHUTDOWN in (message.e, told.e):
        return Control.RECONNECT, _SHUTDOWN
    code = message.code if message.code is not None else told.code
    if code is not None:
        text = f"{code}: {message.msg or told.msg}"[:_MOST_TEXT]
        return (Control.RATE_LIMITED if code in _RATE_LIMITED else Control.REFUSED), text
    if bytes(message.result) and message.id is not None:
        return Control.ACKNOWLEDGED, f"request {message.id}"[:_MOST_TEXT]
    return None
