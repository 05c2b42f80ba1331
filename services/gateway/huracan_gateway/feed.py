"""Where frames come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from huracan.contracts.market import InstrumentDefinition
from huracan.sim.market import SimulatedMarketConfig, recording
from huracan_gateway.binance_usdm import data as venue
from huracan_gateway.recording import Head, Line, read_head, read_lines
from huracan_gateway.scale import implied_increment


class Feed(Protocol):
    """Frames of one instrument in the order of their receipt."""

    definition: InstrumentDefinition
    skipped: int
    """Lines that passed while nobody listened: the gateway was down."""

    async def next_line(self) -> Line | None:
        """Wait for the next line; None at the end."""

    async def request_snapshot(self) -> None:
        """Ask the venue for its order book; it comes as a frame, if it comes."""


class RecordingFeed:
    """Play a recording as fast as it is read. Its snapshots come when they were recorded."""

    def __init__(self, path: Path) -> None:
        self.skipped = 0
        self.head: Head = read_head(path)
        self.definition = self.head.definition
        self._lines: Iterator[Line] = read_lines(path)

    async def next_line(self) -> Line | None:
        """Return the next line at once."""
        return next(self._lines, None)

    async def request_snapshot(self) -> None:
        """Do nothing: a recording cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """Frames of one instrument that can be played from their beginning any number of times."""

    source: str
    """The file's name, or which simulated market it is."""
    definition: InstrumentDefinition
    first_recv_ns: int
    """Receive time of the first line that can be read."""
    simulated: bool
    """Whether a simulated market made it, now or when it was recorded."""
    lines: Callable[[], Iterator[Line]]
    """Opens it at its beginning."""


def recorded(path: Path) -> Tape:
    """Return a recording as a tape; raise BadInput, in one sentence, for one that cannot be used."""
    head = read_head(path)
    return Tape(
        source=path.name,
        definition=head.definition,
        first_recv_ns=head.first_recv_ns,
        simulated=head.definition.id.venue == venue.SIMULATED_VENUE,
        lines=partial(read_lines, path),
    )


def simulated(config: SimulatedMarketConfig) -> Tape:
    """Return a simulated market as a tape that is made as it is played."""
    return Tape(
        source=f"simulated market, seed {config.seed}",
        definition=simulated_definition(config),
        first_recv_ns=next(simulated_lines(config)).recv_ns,
        simulated=True,
        lines=partial(simulated_lines, config),
    )


def simulated_lines(config: SimulatedMarketConfig) -> Iterator[Line]:
    """Yield every line of a simulated market as it is made: those of its recording."""
    for recv_ns, raw in recording(config):
        yield Line(recv_ns, raw)


def simulated_definition(config: SimulatedMarketConfig) -> InstrumentDefinition:
    """Return the instrument of a simulated market, which is that of its recording: its first snapshot says it."""
    frames = (venue.parse(raw) for _, raw in recording(config))
    snapshot = next(frame for frame in frames if frame.lastUpdateId is not None)
    levels = [*snapshot.bids, *snapshot.asks]
    return venue.definition(
        config.symbol,
        implied_increment(price for price, _ in levels),
        implied_increment(size for _, size in levels),
    )
