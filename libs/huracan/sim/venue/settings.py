"""What a venue process is told: what it shows, where, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from huracan.config import Config
from huracan.ports import Clock
from huracan.sim.exchange import SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.venue.recording import Recording
from huracan.sim.venue.server import VenueServer

NS_PER_TRADE_ID = 100_000
"""Ten thousand trades a second, which no listing has for long: their numbers stay behind the time."""


class VenueSettings(Config):
    """Configure a venue process; raises pydantic's ValidationError for what cannot be."""

    exchange: SimulatedExchangeConfig | None = None
    """A simulated exchange: its seed, assets and venues."""
    recordings: tuple[Path, ...] = ()
    """Recorded frames of Binance USD-M, a symbol each."""
    start_now: bool = True
    """The exchange starts at the wall time of the process, and event times are wall times; else at its `start_ns`.
    Numbers of trades then come of that time too, so that they go on rising when the process is started again."""
    port: int = Field(default=0, ge=0, le=65_535)
    """Of 127.0.0.1; 0 takes a free one."""
    speed: PositiveFloat = Field(default=1.0, le=1_000)
    """Of recordings, and of an exchange that does not start now."""
    patience: PositiveFloat = Field(default=1.0, le=100)
    """Stretches the times after which venues ping and close idle connections; below 1 they hurry."""

    @model_validator(mode="after")
    def _has_something_to_show(self) -> Self:
        if self.exchange is None and not self.recordings:
            raise ValueError("exchange: was not given, and no recordings were; give one of them")
        return self


def server(settings: VenueSettings, clock: Clock) -> VenueServer:
    """Return the server of these settings; raise BadInput for a recording that cannot be played."""
    config, on_wall_time = settings.exchange, settings.start_now and settings.exchange is not None
    if config is not None and settings.start_now:
        now_ns = clock.now_ns()
        config = config.model_copy(update={"start_ns": now_ns, "first_trade_id": now_ns // NS_PER_TRADE_ID})
    exchange = None if config is None else SimulatedExchange(config)
    return VenueServer(
        market=exchange,
        injected=tuple if exchange is None else lambda: exchange.injected,
        recordings=[Recording(path) for path in settings.recordings],
        port=settings.port,
        speed=settings.speed,
        on_wall_time=on_wall_time,
        patience=settings.patience,
        clock=clock,
    )
