"""Where a run's frames come from: a recording, the venues' public feeds, or simulated venues on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from pathlib import Path

from huracan.clock import MINUTE_NS, SystemClock
from huracan.config import Config
from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, instrument_key
from huracan.embedded.supervisor import Supervisor
from huracan.errors import BadInput, HuracanError, Recoverable
from huracan.rng import SeededRng
from huracan_cli.composition import GATEWAY, Inputs, configs, gateway_config, history_of
from huracan_cli.local_venues import LocalVenues
from huracan_gateway import venues
from huracan_gateway.anomaly import AnomalyConfig
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.feed import recorded
from huracan_gateway.live.feed import define
from huracan_gateway.live.history import fetch_bars, write_bars
from huracan_gateway.live.http import VenueHttp
from huracan_gateway.live.probe import reachable
from huracan_gateway.quality import QualityConfig
from huracan_gateway.reject import Rejected
from huracan_orchestrator.config import DeadlineConfig

PUBLIC = (("binance_usdm", "BTCUSDT"), ("okx", "BTC-USDT-SWAP"), ("bybit", "BTCUSDT"))
"""Venue and symbol of the markets that a run reads side by side: one underlying."""
PROBE_WITHIN_S = 3.0
ANSWER_WITHIN_S = 15.0
"""Longest wait for one answer before anything runs; a demo is to be over in a minute."""
HISTORY_INTERVAL_NS = 15 * MINUTE_NS
HISTORY_BARS = 2_000
"""Three weeks: enough to fit the regimes."""
LIVE = DeadlineConfig()
SOON_WARM = QualityConfig(anomalies=AnomalyConfig(warm_up_s=10.0))
"""Of simulated venues: they begin in ordinary times, and a demo lasts no longer than detectors else take to warm up."""
LATEST_REASK_MS, LATEST_DEADLINE_MS = 200, 400
"""Market time by which a fast played tape asks again and decides: before opinions and decisions expire."""


class Market(StrEnum):
    """Which market is read where no recording is."""

    AUTO = "auto"
    """Public feeds where they can be reached, else the simulated venues."""
    PUBLIC = "public"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """Whose time the services live in: the wall clock's without it."""

    start_ns: int
    speed: float
    """Market seconds in a second; 0: a replay in lockstep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a run reads."""

    label: str
    """The recording's file name, or which feeds."""
    simulated: bool
    """Whether all of it was made by a simulated market, now or when it was recorded."""
    inputs: Inputs
    recording: Path | None = None
    feeds: Sequence[FeedConfig] = ()
    time: Time | None = None

    @property
    def instrument(self) -> str:
        """Return the keys of all instruments."""
        return ", ".join(instrument_key(definition.id) for definition in self.inputs.definitions)

    def configs(self) -> dict[str, Config]:
        """Return the configuration of every service, the gateway included."""
        lockstep = self.time is not None and not self.time.speed
        deadlines = None if lockstep else live_deadlines(self.time.speed if self.time else 1.0)
        gateway = gateway_config(self.inputs, lockstep=lockstep, recording=self.recording, feeds=self.feeds)
        if self.time is not None and not lockstep:
            gateway = _as_long(gateway, self.time.speed)
        if self.simulated and self.feeds:
            gateway = gateway.model_copy(update={"quality": SOON_WARM})
        return {GATEWAY: gateway, **configs(self.inputs, deadlines=deadlines)}


Opening = Callable[[Supervisor, Path], Awaitable[Source]]
"""Opens a source: what it needs to have running is started with the supervisor, what it writes is in a directory."""


def _as_long(gateway: GatewayConfig, speed: float) -> GatewayConfig:
    """Return a gateway that waits as long for the machine, on a tape that is played `speed` times as fast.

    Else a stall of the machine, a tenth of a second, would look like a venue whose book fell silent.
    """
    quality = gateway.quality
    return gateway.model_copy(
        update={
            "flush_after_ms": ceil(gateway.flush_after_ms * speed),
            "quality": quality.model_copy(update={"book_silent_ms": ceil(quality.book_silent_ms * speed)}),
        }
    )


def live_deadlines(speed: float) -> DeadlineConfig:
    """Return the deadlines of a tape that is played `speed` times as fast: as long for the machine, where they can be.

    They are in market time: 25 ms and 50 ms of the machine are more of it, but never so much that what is decided at
    the deadline could no longer be acted on.
    """
    return DeadlineConfig(
        reask_after_ms=min(ceil(LIVE.reask_after_ms * speed), LATEST_REASK_MS),
        deadline_ms=min(ceil(LIVE.deadline_ms * speed), LATEST_DEADLINE_MS),
    )


def recording(path: Path, *, speed: float, history: Path | None = None, news: Path | None = None) -> Opening:
    """Return a recording, played so many market seconds in a second; 0: in lockstep.

    Raises BadInput, when opened, for one that cannot be used.
    """

    whole, bars, headlines = path.resolve(), _resolved(history), _resolved(news)

    async def opening(_supervisor: Supervisor, _directory: Path) -> Source:
        tape = await asyncio.to_thread(recorded, path)
        return Source(
            label=tape.source,
            simulated=tape.simulated,
            inputs=Inputs(
                definitions=[tape.definition],
                first_recv_ns=tape.first_recv_ns,
                history=history_of(tape.definition, bars),
                news=headlines,
            ),
            recording=whole,
            time=Time(start_ns=tape.first_recv_ns, speed=speed),
        )

    return opening


def markets(market: Market, *, seed: int, news: Path | None = None) -> Opening:
    """Return live feeds of one underlying on several venues; the seed is that of the simulated ones."""

    headlines = _resolved(news)

    async def opening(supervisor: Supervisor, directory: Path) -> Source:
        if market is not Market.SIMULATED:
            try:
                return await _live(await _public_feeds(), "public feeds", directory, headlines)
            except HuracanError:
                if market is Market.PUBLIC:
                    raise
        local = LocalVenues(directory, seed=seed)
        await supervisor.start(local.program())
        return await _live(local.feeds(), f"simulated venues, seed {seed}", directory, headlines)

    return opening


def _resolved(path: Path | None) -> Path | None:
    return path.resolve() if path else None


async def _public_feeds() -> list[FeedConfig]:
    """Return the public feeds that can be reached from here; raise Recoverable when none can."""
    probes = [reachable(_probed(venue, symbol), PROBE_WITHIN_S) for venue, symbol in PUBLIC]
    found = [market for market, there in zip(PUBLIC, await asyncio.gather(*probes), strict=True) if there]
    if not found:
        names = ", ".join(f"{venue} {symbol}" for venue, symbol in PUBLIC)
        raise Recoverable(f"none of {names} can be reached from here; try again, or take `--source simulated`")
    return [FeedConfig(venue=venue, symbol=symbol) for venue, symbol in found]


def _probed(venue: str, symbol: str) -> str:
    http = venues.named(venue).http
    return http.url.rstrip("/") + http.instruments(symbol).path


async def _live(feeds: Sequence[FeedConfig], label: str, directory: Path, news: Path | None) -> Source:
    """Ask every venue what the instruments are and for bars to warm up with."""
    warmed = await asyncio.gather(*(_warmed(feed, directory) for feed in feeds))
    definitions = [definition for definition, _ in warmed]
    names = ", ".join(f"{feed.venue} {feed.symbol}" for feed in feeds)
    histories: Mapping[str, Path] = {
        instrument_key(definition.id): feed.history for definition, feed in warmed if feed.history is not None
    }
    return Source(
        label=f"{label}: {names}",
        simulated=all(definition.id.venue == SIMULATED_VENUE for definition in definitions),
        inputs=Inputs(
            definitions=definitions,
            first_recv_ns=SystemClock().now_ns(),
            history=histories,
            news=news,
        ),
        feeds=[feed for _, feed in warmed],
    )


async def _warmed(feed: FeedConfig, directory: Path) -> tuple[InstrumentDefinition, FeedConfig]:
    """Return the definition of a feed's instrument, and the feed with its history, where the venue remembers one."""
    adapter, clock = venues.named(feed.venue), SystemClock()
    hasty = feed.model_copy(update={"answer_within_s": ANSWER_WITHIN_S})
    async with aclosing(VenueHttp(adapter, hasty, clock=clock, rng=SeededRng.fresh())) as http:
        definition, _ = await define(adapter, hasty, http, clock)
        try:
            bars = await fetch_bars(adapter, http, definition, HISTORY_INTERVAL_NS, clock.now_ns(), HISTORY_BARS)
        except Rejected as error:
            raise BadInput(f"{adapter.venue} {feed.symbol}: bars cannot be read: {error}") from None
    if len(bars) < 2:  # a file of bars tells their interval
        return definition, feed
    path = (directory / f"{instrument_key(definition.id)}.history.parquet").resolve()
    await asyncio.to_thread(write_bars, bars, path)
    return definition, feed.model_copy(update={"history": path})
