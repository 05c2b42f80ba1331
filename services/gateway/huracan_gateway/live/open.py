"""Open a live feed: ask the venue what the instrument is, and for the bars that warm its windows."""

from __future__ import annotations

import asyncio
from functools import partial

from huracan.clock import MINUTE_NS
from huracan.contracts.market import InstrumentId
from huracan.contracts.ops import FeedState
from huracan.errors import HuracanError, Recoverable
from huracan.ports import Ports
from huracan_gateway import venues
from huracan_gateway.adapter import Adapter
from huracan_gateway.config import FeedConfig
from huracan_gateway.feed import OnChange, Source
from huracan_gateway.live.feed import REST, LiveFeed, define
from huracan_gateway.live.history import fetch_bars
from huracan_gateway.live.http import VenueHttp
from huracan_gateway.reject import Rejected

WARM_INTERVAL_NS = 15 * MINUTE_NS
WARM_BARS = 512
"""As many as are read from a history file."""


def live_source(config: FeedConfig, ports: Ports) -> Source:
    """Return the source of an instrument's live feed; raise BadInput for a venue that is not read."""
    instrument = _expected(venues.named(config.venue), config.symbol)
    return Source(instrument=instrument, open=partial(open_feed, config, ports), settings=config)


def _expected(adapter: Adapter, symbol: str) -> InstrumentId:
    """Return what an instrument will be called: as its symbol implies, else the symbol, until its venue says more."""
    try:
        return adapter.implied(symbol, "1", "1").id
    except Rejected:
        return InstrumentId(venue=adapter.venue, symbol=symbol.lower(), definition_version=1)


async def open_feed(config: FeedConfig, ports: Ports, on_change: OnChange) -> LiveFeed:
    """Return the feed of an instrument, not connected yet, once its venue answers; until then it is told why not.

    A venue that gives no bars is read without them: its windows of bars warm as time goes on. Raises BadInput for a
    venue or symbol that is not there, Fatal when the venue refuses.
    """
    adapter = venues.named(config.venue)
    http = VenueHttp(adapter, config, clock=ports.clock, rng=ports.rng)
    http.on_limited = lambda text: on_change(FeedState.FEED_STATE_RATE_LIMITED, REST, text, 0)

    def failed(error: Recoverable, attempt: int) -> None:
        on_change(FeedState.FEED_STATE_RECONNECTING, REST, str(error), attempt)

    why = f"{config.name} has not answered for {config.silent_after_ms} ms"
    silence = asyncio.get_running_loop().call_later(
        config.silent_after_ms / 1_000, on_change, FeedState.FEED_STATE_SILENT, REST, why, 0
    )
    try:
        definition, first = await define(adapter, config, http, ports.clock, failed)
        silence.cancel()
        feed = LiveFeed(adapter, config, definition, first, http=http, clock=ports.clock, rng=ports.rng)
        if config.history is None:
            try:
                feed.bars = await fetch_bars(
                    adapter, http, definition, WARM_INTERVAL_NS, ports.clock.now_ns(), WARM_BARS
                )
            except (HuracanError, Rejected):
                feed.bars = []
    except BaseException:
        silence.cancel()
        await http.aclose()
        raise
    return feed
