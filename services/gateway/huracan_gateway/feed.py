"""Where frames come from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from huracan.contracts.market import InstrumentDefinition
from huracan.sim.market import SimulatedMarketConfig, recording
from huracan_gateway.adapter import Adapter
from huracan_gateway.binance_usdm.adapter import ADAPTER as SIMULATED
from huracan_gateway.identity import SIMULATED_VENUE
from huracan_gateway.recording import Head, Line, read_head, read_lines
from huracan_gateway.scale import implied_increment


class Feed(Protocol):
    """Frames of one instrument in the order of their receipt."""

    adapter: Adapter
    definition: InstrumentDefinition

    @property
    def skipped(self) -> int:
        """Return how many lines passed while nobody listened: the gateway was down, or behind."""

    async def next_line(self) -> Line | None:
        """Wait for the next line; None at the end."""

    async def request_snapshot(self) -> None:
        """Ask the venue for its order book; it comes as a frame, if it comes."""

    async def aclose(self) -> None:
        """Let go of whatever is open."""


Source = Callable[[], Awaitable[Feed]]
"""Opens a feed; raises BadInput when it cannot be had."""


def opened(feed: Feed) -> Source:
    """Return the source of a feed that is there already."""

    async def give() -> Feed:
        return feed

    return give


class RecordingFeed:
    """Play a recording as fast as it is read. Its snapshots come when they were recorded."""

    def __init__(self, path: Path) -> None:
        self.skipped = 0
        self.head: Head = read_head(path)
        self.adapter, self.definition = self.head.adapter, self.head.definition
        self._lines: Iterator[Line] = read_lines(path)

    async def next_line(self) -> Line | None:
        """Return the next line at once."""
        return next(self._lines, None)

    async def request_snapshot(self) -> None:
        """Do nothing: a recording cannot be asked."""

    async def aclose(self) -> None:
        """Do nothing: the file is closed when it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """Frames of one instrument that can be played from their beginning any number of times."""

    source: str
    """The file's name, or which simulated market it is."""
    adapter: Adapter
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
        adapter=head.adapter,
        definition=head.definition,
        first_recv_ns=head.first_recv_ns,
        simulated=head.definition.id.venue == SIMULATED_VENUE,
        lines=partial(read_lines, path),
    )


def simulated(config: SimulatedMarketConfig) -> Tape:
    """Return a simulated market as a tape that is made as it is played."""
    return Tape(
        source=f"simulated market, seed {config.seed}",
        adapter=SIMULATED,
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
    levels = next(filter(None, (SIMULATED.levels(raw) for _, raw in recording(config))))
    return SIMULATED.implied(
        config.symbol,
        str(implied_increment(price for price, _ in levels)),
        str(implied_increment(size for _, size in levels)),
    )
