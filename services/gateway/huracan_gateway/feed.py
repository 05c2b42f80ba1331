"""Where frames come from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, InstrumentId
from huracan.contracts.ops import FeedState
from huracan_gateway.adapter import Adapter
from huracan_gateway.config import FeedConfig
from huracan_gateway.recording import Head, Line, read_head, read_lines


class Feed(Protocol):
    """Frames of one instrument in the order of their receipt."""

    adapter: Adapter
    definition: InstrumentDefinition

    @property
    def skipped(self) -> int:
        """Return how many lines passed while nobody listened: the gateway was down, or behind."""

    @property
    def oldest_ns(self) -> int | None:
        """Return the receive time of the oldest line that waits; None where none does."""

    async def next_line(self) -> Line | None:
        """Wait for the next line; None at the end."""

    async def request_snapshot(self) -> None:
        """Ask the venue for its order book; it comes as a frame, if it comes."""

    async def aclose(self) -> None:
        """Let go of whatever is open."""


OnChange = Callable[[FeedState, str, str, int], None]
"""Takes what happened, who provides the data or is asked (`websocket`, `rest`), the reason, and attempts in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the feed of one instrument comes from."""

    instrument: InstrumentId
    open: Callable[[OnChange], Awaitable[Feed]]
    """Returns a feed once it is there, however long that takes, and has told meanwhile why; raises Fatal, BadInput
    among them, when it cannot be had."""
    settings: FeedConfig | None = None
    """Of a live feed."""


def opened(feed: Feed) -> Source:
    """Return the source of a feed that is there already."""

    async def give(_on_change: OnChange) -> Feed:
        return feed

    return Source(instrument=feed.definition.id, open=give)


class RecordingFeed:
    """Play a recording as fast as it is read. Its snapshots come when they were recorded."""

    def __init__(self, path: Path) -> None:
        self.skipped = 0
        self.oldest_ns: int | None = None
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
    """The file's name."""
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
