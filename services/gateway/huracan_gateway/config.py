"""Configuration of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from huracan.config import Config
from huracan_gateway.live.config import LiveConfig
from huracan_gateway.quality import QualityConfig


class FeedConfig(LiveConfig):
    """One instrument that is read from its venue as it trades."""

    history: Path | None = None
    """Bars to warm its windows; without them they are asked for at the venue."""
    standby_for: str = ""
    """`venue:symbol` of another feed of this gateway: this one is read only while that one is silent. Empty: always."""

    @property
    def name(self) -> str:
        """Return `venue:symbol`."""
        return f"{self.venue}:{self.symbol}"


class GatewayConfig(Config):
    """How the gateway runs."""

    recording: Path | None = None
    """Frames to play."""
    feeds: tuple[FeedConfig, ...] = ()
    """Instruments to read live, when there is no recording; all of shards that this gateway owns."""
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
    flush_after_ms: PositiveInt = 5
    """Ticks reach the log at most this long after the first of their batch, where steps close on the clock. Below 2
    nearly every frame is a record of its own; 100 or more leaves it to the step's close, with fewer, larger records."""
    inactive_after_ms: PositiveInt = 5_000
    """An instrument without a frame for this long closes no more steps until the next frame (SEMANTICS: Step)."""
    max_event_age_s: PositiveInt = 60
    """A frame whose event time is further than this from ours, after the skew estimate, has an impossible time."""
    resync_after_ms: PositiveInt = 5_000
    """A book that is not in step for this long is asked for again; below 1,000 an answer on its way is asked twice."""
    max_close_delay_ms: PositiveInt = 1_000
    """A step whose frames still wait to be read closes at most this late. Below 10 a burst at the end of a step is not
    in it; above 5,000 decisions of a gateway that is too slow for its market come when nobody can act on them."""
    quality: QualityConfig = QualityConfig()
    """What is asked of the data."""

    @model_validator(mode="after")
    def _feeds_are_told_apart(self) -> Self:
        names = [feed.name for feed in self.feeds]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feeds: {name} was there twice; leave one out")
        for feed in self.feeds:
            if feed.standby_for and feed.standby_for not in {*names} - {feed.name}:
                raise ValueError(f"feeds: standby_for of {feed.name} was {feed.standby_for!r}, which is no other feed")
        return self
