"""Frames of Binance USD-M futures, decoded.

Streams: `<symbol>@depth@0ms` (and `@100ms`, `@500ms`), `@bookTicker`, `@aggTrade` or `@trade`, `@markPrice`,
`@forceOrder` in the combined form `{"stream": …, "data": …}`, and bodies of REST answers as the venue returns them.
Source: Binance USD-M futures documentation, websocket market streams and
`GET /fapi/v1/{depth,trades,aggTrades,exchangeInfo}`.
"""

from __future__ import annotations

from typing import Final

from huracan_gateway.binance import frames
from huracan_gateway.binance.futures import FuturesDecoder

VENUE: Final = frames.USDM


class Decoder(FuturesDecoder):
    """Decode the frames of one instrument."""

    venue = VENUE
