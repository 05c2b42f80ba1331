"""How OKX's public stream is talked to (API guide v5: "WebSocket", "Connect", "Subscribe", "Notification").

Limits: 3 connections a second for each address, 480 requests to subscribe or unsubscribe an hour for each connection,
64 KB for a request. A connection on which nothing came for 30 s is closed; it is kept by sending the text `ping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan_gateway.adapter import Control, Websocket
from huracan_gateway.reading import DAMAGED
from huracan_gateway.subscription import in_messages

URL = "wss://ws.okx.com:8443/ws/v5/public"
_BOOK = "books"
_LIQUIDATIONS = "liquidation-orders"
_CHANNELS = (_BOOK, "bbo-tbt", "trades", "mark-price")
_PERPETUALS = (
    InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL,
)
_TOO_MANY = ("50011", "60014", "channel-conn-count-error")
"""Codes and events that say: later again."""
_CLOSING = "64008"
"""Code of the notice that precedes a closed connection by 60 s."""


class _Message(msgspec.Struct):
    event: str
    code: str = ""
    msg: str = ""


_MESSAGE = msgspec.json.Decoder(_Message)


def streams(definition: InstrumentDefinition) -> list[str]:
    """Return the streams of an instrument, as `channel:instrument`; liquidations are those of all of its type."""
    perpetual = definition.type in _PERPETUALS
    channels = [*_CHANNELS, "funding-rate"] if perpetual else [*_CHANNELS]
    return [
        *(f"{channel}:{definition.venue_symbol}" for channel in channels),
        f"{_LIQUIDATIONS}:{'SWAP' if perpetual else 'FUTURES'}",
    ]


def book_stream(definition: InstrumentDefinition) -> str:
    """Return the stream of an instrument's order book."""
    return f"{_BOOK}:{definition.venue_symbol}"


def control(raw: bytes) -> tuple[Control, str] | None:
    """Return what a message is that is no market data, with its text; None for market data and what cannot be read."""
    if raw == b"pong":
        return Control.PONG, "pong"
    try:
        message = _MESSAGE.decode(raw)
    except DAMAGED:
        return None
    text = " ".join(part for part in (message.event, message.code, message.msg) if part)
    if message.code in _TOO_MANY or message.event in _TOO_MANY:
        return Control.RATE_LIMITED, text
    if message.code == _CLOSING:
        return Control.RECONNECT, text
    return Control.REFUSED if message.event == "error" else Control.ACKNOWLEDGED, text


def _request(operation: str, streams: Sequence[str], number: int) -> dict[str, object]:
    return {"id": str(number), "op": operation, "args": [_arg(stream) for stream in streams]}


def _arg(stream: str) -> dict[str, str]:
    channel, _, of = stream.partition(":")
    return {"channel": channel, "instType" if channel == _LIQUIDATIONS else "instId": of}


def _address(url: str, wanted: Sequence[str]) -> str:  # noqa: ARG001 - the port's form
    return url


WEBSOCKET = Websocket(
    url=URL,
    address=_address,
    streams=streams,
    book_stream=book_stream,
    subscribe=partial(in_messages, _request, "subscribe"),
    unsubscribe=partial(in_messages, _request, "unsubscribe"),
    control=control,
    ping=b"ping",
    ping_every_s=20.0,
    silent_after_s=30.0,
    messages_per_s=1.0,
    # the snapshot that opens the stream is being withdrawn (changelog, 2026-02-12); the one asked for has its seqId
    resubscribe_for_snapshot=False,
)
"""OKX's public stream."""
