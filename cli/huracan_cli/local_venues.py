"""Simulated venues on this machine: one process that speaks the public protocols of three venues."""

from __future__ import annotations

import sys
from itertools import cycle
from pathlib import Path

from huracan.embedded.files import write_secret
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Program
from huracan.errors import BadInput
from huracan.sim.exchange import AnomalyConfig, AnomalyKind, SimulatedExchangeConfig
from huracan.sim.venue.settings import VenueSettings
from huracan_cli.answers import answers
from huracan_gateway.config import FeedConfig

NAME = "venues"
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP", "bybit": "SIMUSDT"}
"""What each of them lists: perpetuals of one simulated asset."""
_STREAMS = {"binance_usdm": "", "okx": "/ws/v5/public", "bybit": "/v5/public/linear"}
"""Where the public stream is, under the path of the venue."""
READY_WITHIN_S = 30.0
_SHOWN: tuple[tuple[AnomalyKind, str, float, float], ...] = (
    (AnomalyKind.VOLUME, "binance_usdm.SIM", 60.0, 5.0),
    (AnomalyKind.SPREAD, "okx.SIM", 20.0, 5.0),
    (AnomalyKind.QUOTE_STUFFING, "bybit.SIM", 40.0, 5.0),
    (AnomalyKind.DIVERGENCE, "okx.SIM", 20.0, 6.0),
    (AnomalyKind.PRICE_JUMP, "binance_usdm.SIM", 30.0, 5.0),
)
"""Anomalies that a short run is to meet: kind, listing, size and seconds."""
_SHOWN_AT_S = (*range(30, 110, 8), *range(300, 86_400, 300))
"""Seconds after the venues start: ten while a short run lasts, which has read them for about ten seconds by the first,
then one every five minutes for a day."""


def _exchange(seed: int) -> SimulatedExchangeConfig:
    """Return the market, with known anomalies in turn; silences are for whoever commands the venues."""
    shown = (
        AnomalyConfig(kind=kind, listing=listing, size=size, duration_s=lasts_s, from_s=from_s)
        for (kind, listing, size, lasts_s), from_s in zip(cycle(_SHOWN), _SHOWN_AT_S, strict=False)
    )
    return SimulatedExchangeConfig(seed=seed, anomalies=tuple(shown))


class LocalVenues:
    """The process, its addresses, and its settings within a directory."""

    def __init__(self, directory: Path, *, seed: int) -> None:
        self._directory = directory
        self._port = free_port()
        self._settings = VenueSettings(exchange=_exchange(seed), port=self._port)

    def program(self) -> Program:
        """Write its settings, and return what is to be supervised."""
        path = self._directory / f"{NAME}.json"
        write_secret(path, self._settings.model_dump_json(indent=2))
        return Program(
            name=NAME,
            command=(sys.executable, "-m", "huracan.sim.venue", "--config", str(path.resolve())),
            directory=self._directory,
            ready=lambda: answers(self._port, "/ready"),
            ready_within_s=READY_WITHIN_S,
        )

    def feeds(self) -> list[FeedConfig]:
        """Return a feed of every venue."""
        return [self.feed(venue, symbol) for venue, symbol in SYMBOLS.items()]

    def feed(self, venue: str, symbol: str) -> FeedConfig:
        """Return a feed of one of them; raise BadInput for a venue that is not among them."""
        if venue not in SYMBOLS:
            raise BadInput(f"--venue was {venue!r}; simulated are {', '.join(SYMBOLS)}")
        host = f"127.0.0.1:{self._port}/{venue}"
        return FeedConfig(
            venue=venue,
            symbol=symbol,
            websocket_url=f"ws://{host}{_STREAMS[venue]}",
            rest_url=f"http://{host}",
        )
