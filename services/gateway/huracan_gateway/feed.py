"""Where frames come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from huracan.contracts.market import InstrumentDefinition
from huracan_gateway.recording import Head, Line, read_head, read_lines


class Feed(Protocol):
    """Frames of one instrument in the order of their receipt."""

    definition: InstrumentDefinition

    async def next_line(self) -> Line | None:
        """Wait for the next line; None at the end."""

    async def request_snapshot(self) -> None:
        """Ask the venue for its order book; it comes as a frame, if it comes."""


class RecordingFeed:
    """Play a recording as fast as it is read. Its snapshots come when they were recorded."""

    def __init__(self, path: Path) -> None:
        self.head: Head = read_head(path)
        self.definition = self.head.definition
        self._lines: Iterator[Line] = read_lines(path)

    async def next_line(self) -> Line | None:
        """Return the next line at once."""
        return next(self._lines, None)

    async def request_snapshot(self) -> None:
        """Do nothing: a recording cannot be asked."""
