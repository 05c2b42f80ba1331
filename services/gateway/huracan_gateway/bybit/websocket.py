"""How Bybit's public stream is talked to (API documentation v5: "Connect", "Websocket Stream: Public").

Limits: 500 connections in 5 minutes for each address, 21,000 characters of topics for each connection. A connection
without a `ping` every 20 s may be closed. Linear and inverse contracts have an address each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from huracan.contracts.market import InstrumentDefinition
from huracan.errors import BadInput
from huracan_gateway.adapter import Control, Websocket
from huracan_gateway.bybit.data import BOOK_DEPTH
from huracan_gateway.bybit.definition import category
from huracan_gateway.reading import DAMAGED
from huracan_gateway.reject import Rejected
from huracan_gateway.subscription import in_messages

URL = "wss://stream.bybit.com/v5/public/linear"
_LINEAR = "/linear"
_TOO_MANY = ("too many", "too frequent", "rate limit")
_ALREADY = "already subscribed"


class _Message(msgspec.Struct):
    op: str
    success: bool | None = None
    ret_msg: str = ""
    retMsg: str = ""  # noqa: N815 - the venue's name


_MESSAGE = msgspec.json.Decoder(_Message)


def streams(definition: InstrumentDefinition) -> list[str]:
    """Return the topics of an instrument."""
    symbol = definition.venue_symbol
    return [
        book_stream(definition),
        *(f"{topic}.{symbol}" for topic in ("orderbook.1", "publicTrade", "tickers", "allLiquidation")),
    ]


def book_stream(definition: InstrumentDefinition) -> str:
    """Return the topic of an instrument's order book."""
    return f"orderbook.{BOOK_DEPTH}.{definition.venue_symbol}"


def address(url: str, wanted: Sequence[str]) -> str:
    """Return the address for topics, which are of linear or of inverse contracts; raise BadInput for both at once."""
    try:
        categories = {category(topic.rpartition(".")[2]) for topic in wanted}
    except Rejected as error:
        raise BadInput(f"streams: {error}") from None
    if len(categories) > 1:
        raise BadInput("streams were of linear and of inverse contracts: Bybit sends them on connections of their own")
    return f"{url.removesuffix(_LINEAR)}/inverse" if categories == {"inverse"} else url


def control(raw: bytes) -> tuple[Control, str] | None:
    """Return what a message is that is no market data, with its text; None for market data and what cannot be read."""
    try:
        message = _MESSAGE.decode(raw)
    except DAMAGED:
        return None
    said = message.ret_msg or message.retMsg
    if message.op == "pong" or said == "pong":
        return Control.PONG, "pong"
    text = f"{message.op} {said}".strip()
    if message.success is not False or _ALREADY in said:
        return Control.ACKNOWLEDGED, text
    limited = any(words in said.lower() for words in _TOO_MANY)
    return Control.RATE_LIMITED if limited else Control.REFUSED, text


def _request(operation: str, streams: Sequence[str], number: int) -> dict[str, object]:
    return {"req_id": str(number), "op": operation, "args": streams}


WEBSOCKET = Websocket(
    url=URL,
    address=address,
    streams=streams,
    book_stream=book_stream,
    subscribe=partial(in_messages, _request, "subscribe"),
    unsubscribe=partial(in_messages, _request, "unsubscribe"),
    control=control,
    ping=b'{"op":"ping"}',
    ping_every_s=20.0,
    silent_after_s=30.0,
    resubscribe_for_snapshot=True,  # `u` of the book that is asked for counts another depth's updates
)
"""Bybit's public stream."""
