"""Simulated venues on this machine: one process that speaks the public protocols of three venues."""

from __future__ import annotations

import sys
from pathlib import Path

from huracan.embedded.files import write_secret
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Program
from huracan.errors import BadInput
from huracan.sim.exchange import SimulatedExchangeConfig
from huracan.sim.venue.settings import VenueSettings
from huracan_cli.answers import answers
from huracan_gateway.config import FeedConfig

NAME = "venues"
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP", "bybit": "SIMUSDT"}
"""What each of them lists: perpetuals of one simulated asset."""
_STREAMS = {"binance_usdm": "", "okx": "/ws/v5/public", "bybit": "/v5/public/linear"}
"""Where the public stream is, under the path of the venue."""
READY_WITHIN_S = 30.0


class LocalVenues:
    """The process, its addresses, and its settings within a directory."""

    def __init__(self, directory: Path, *, seed: int) -> None:
        self._directory = directory
        self._port = free_port()
        self._settings = VenueSettings(exchange=SimulatedExchangeConfig(seed=seed), port=self._port)

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
