"""Open a live feed: ask the venue what the instrument is, and for the bars that warm its windows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from huracan.clock import MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition, InstrumentId
from huracan.contracts.ops import FeedState
from huracan.errors import HuracanError, Recoverable
from huracan.features.bar import WARM_UP_BARS
from huracan.ports import Clock, Ports
from huracan_gateway import venues
from huracan_gateway.adapter import Adapter
from huracan_gateway.config import FeedConfig
from huracan_gateway.feed import OnChange, Source
from huracan_gateway.live.feed import REST, LiveFeed, define
from huracan_gateway.live.history import fetch_bars
from huracan_gateway.live.http import VenueHttp, rest_url
from huracan_gateway.live.limits import VenueLimits
from huracan_gateway.reject import Rejected

WARM_INTERVAL_NS = 15 * MINUTE_NS
BARS_WITHIN_S = 5.0
"""Longest that the start waits for them: half a dozen requests of a tenth of a second."""


def live_sources(feeds: Sequence[FeedConfig], ports: Ports) -> list[Source]:
    """Return the source of each feed; those of one REST address share what may be asked of it.

    Raises BadInput for a venue that is not read.
    """
    shared: dict[tuple[str, str], VenueLimits] = {}
    sources = []
    for feed in feeds:
        adapter = venues.named(feed.venue)
        limits = shared.setdefault(
            (adapter.venue, rest_url(adapter, feed)), VenueLimits(ports.clock, adapter.http.weight_per_s)
        )
        opening = partial(open_feed, feed, ports, limits)
        sources.append(Source(instrument=_expected(adapter, feed.symbol), open=opening, settings=feed))
    return sources


def _expected(adapter: Adapter, symbol: str) -> InstrumentId:
    """Return what an instrument will be called: as its symbol implies, else the symbol, until its venue says more."""
    try:
        return adapter.implied(symbol, "1", "1").id
    except Rejected:
        return InstrumentId(venue=adapter.venue, symbol=symbol.lower(), definition_version=1)


async def open_feed(config: FeedConfig, ports: Ports, limits: VenueLimits, on_change: OnChange) -> LiveFeed:
    """Return the feed of an instrument, not connected yet, once its venue answers; until then it is told why not.

    A venue that gives no bars soon is read without them, and the feed says why: its windows of bars warm as time goes
    on. Raises BadInput for a venue or symbol that is not there, Fatal when the venue refuses.
    """
    adapter = venues.named(config.venue)
    http = VenueHttp(adapter, config, clock=ports.clock, rng=ports.rng, limits=limits)
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
            feed.bars, feed.without_bars = await _bars(adapter, http, definition, ports.clock)
    except BaseException:
        silence.cancel()
        await http.aclose()
        raise
    return feed


async def _bars(
    adapter: Adapter, http: VenueHttp, definition: InstrumentDefinition, clock: Clock
) -> tuple[Sequence[Bar], str]:
    """Return bars, and why there are none."""
    try:
        async with asyncio.timeout(BARS_WITHIN_S):
            return await fetch_bars(adapter, http, definition, WARM_INTERVAL_NS, clock.now_ns(), WARM_UP_BARS), ""
    except TimeoutError:
        return (), f"not within {BARS_WITHIN_S:g} s"
    except (HuracanError, Rejected) as error:
        return (), str(error)
