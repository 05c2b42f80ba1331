"""Configuration of the gateway."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from huracan.config import Config
from huracan.sim.market import SimulatedMarketConfig


class GatewayConfig(Config):
    """How the gateway runs."""

    recording: Path | None = None
    """Frames to play."""
    simulated: SimulatedMarketConfig | None = None
    """Market to play when there is no recording."""
    lockstep_services: tuple[str, ...] = ()
    """Services that must acknowledge a step before the next is published: a replay. Empty: steps close on the clock."""
    history: Path | None = None
    """Bars from before the first frame, to warm the windows of bars; without it they take 16 hours to fill."""
    news: Path | None = None
    """Headlines; each becomes visible at its own time."""
    news_max_age_h: PositiveFloat = 24.0
    """Headlines older than this at the first frame are counted and left out; the mood halves every few hours."""
    batch_rows: PositiveInt = 256
    """Rows of ticks that are logged at once; fewer cost more per tick, more reach the log later."""
    inactive_after_ms: PositiveInt = 5_000
    """An instrument without a frame for this long closes no more steps until the next frame (SEMANTICS: Step)."""
    max_event_age_s: PositiveInt = 60
    """A frame whose event time is further than this from ours, after the skew estimate, has an impossible time."""
