"""Open a live feed: ask the venue what the instrument is, and for the bars that warm its windows."""

from __future__ import annotations

from huracan.clock import MINUTE_NS
from huracan.errors import HuracanError
from huracan.ports import Ports
from huracan_gateway import venues
from huracan_gateway.config import FeedConfig
from huracan_gateway.live.feed import LiveFeed, define
from huracan_gateway.live.history import fetch_bars
from huracan_gateway.live.http import VenueHttp
from huracan_gateway.reject import Rejected

WARM_INTERVAL_NS = 15 * MINUTE_NS
WARM_BARS = 512
"""As many as are read from a history file."""


async def open_feed(config: FeedConfig, ports: Ports) -> LiveFeed:
    """Return the feed of an instrument, not connected yet; raise BadInput for a venue or symbol that is not there.

    A venue that gives no bars is read without them: its windows of bars warm as time goes on.
    """
    adapter = venues.named(config.venue)
    http = VenueHttp(adapter, config, clock=ports.clock, rng=ports.rng)
    try:
        definition, first = await define(adapter, config, http, ports.clock)
        feed = LiveFeed(adapter, config, definition, first, http=http, clock=ports.clock, rng=ports.rng)
        if config.history is None:
            try:
                feed.bars = await fetch_bars(
                    adapter, http, definition, WARM_INTERVAL_NS, ports.clock.now_ns(), WARM_BARS
                )
            except (HuracanError, Rejected):
                feed.bars = []
    except BaseException:
        await http.aclose()
        raise
    return feed
