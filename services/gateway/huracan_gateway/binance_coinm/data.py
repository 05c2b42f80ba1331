"""Frames of Binance COIN-M futures, decoded.

Streams: `<symbol>@depth@0ms` (and `@100ms`, `@500ms`), `@bookTicker`, `@aggTrade` or `@trade`, `@markPrice`,
`@forceOrder` in the combined form `{"stream": …, "data": …}`, and bodies of REST answers as the venue returns them.
Sizes are numbers of contracts. Source: Binance COIN-M futures documentation, websocket market streams and
`GET /dapi/v1/{depth,trades,aggTrades,exchangeInfo}`.
"""

from __future__ import annotations

from typing import Final

from huracan_gateway.binance import frames
from huracan_gateway.binance.futures import FuturesDecoder

VENUE: Final = frames.COINM


class Decoder(FuturesDecoder):
    """Decode the frames of one instrument."""

    venue = VENUE
