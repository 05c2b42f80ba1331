"""Recordings: `<receive_time_ns> <raw frame>` a line, gzip or plain."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

from huracan.clock import NANOSECONDS
from huracan.contracts.market import InstrumentDefinition
from huracan.errors import BadInput
from huracan_gateway import venues
from huracan_gateway.adapter import Adapter
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import implied_increment

_EARLIEST_NS, _LATEST_NS = 1_483_228_800 * NANOSECONDS, 4_102_444_800 * NANOSECONDS
"""2017 to 2100: a receive time in another unit is not one in nanoseconds."""
HEAD_LINES = 20_000
"""Lines searched for the symbol and the snapshot: a minute of a busy instrument."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its receive time and frame, or why it is none."""

    recv_ns: int
    raw: bytes
    rejected: Rejected | None = None


def read_lines(path: Path) -> Iterator[Line]:
    """Yield every line of a recording, damaged ones with their reason; raise BadInput when it cannot be opened.

    A gzip file that breaks off yields what can be read, then one line rejected as `truncated_gzip`.
    """
    with _open(path) as stream:
        try:
            for text in stream:
                if text.strip():
                    yield _line(text.rstrip(b"\r\n"))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Line(0, b"", Rejected(Reason.TRUNCATED_GZIP, f"{path.name}: {error}"))


def _open(path: Path) -> IO[bytes]:
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"recording {path} cannot be read: it is no regular file, and it is read more than once")
        with path.open("rb") as start:
            packed = start.read(2) == b"\x1f\x8b"
        return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")
    except OSError as error:
        raise BadInput(f"recording {path} cannot be read: {error.strerror}") from None


def _line(text: bytes) -> Line:
    head, _, raw = text.partition(b" ")
    digits = head.removeprefix(b"-")
    if not raw or not digits.isdigit() or len(digits) > 19:
        return Line(
            0,
            text,
            Rejected(Reason.BAD_LINE, f"line began with {text[:60]!r}, not <receive_time_ns> <frame>"),
        )
    recv_ns = int(head)
    if recv_ns < 0:
        return Line(recv_ns, raw, Rejected(Reason.NEGATIVE_TIME, f"receive time was {recv_ns}"))
    if not _EARLIEST_NS <= recv_ns <= _LATEST_NS:
        return Line(0, raw, Rejected(Reason.IMPOSSIBLE_TIME, f"receive time was {recv_ns}"))
    return Line(recv_ns, raw)


@dataclass(frozen=True, slots=True)
class Head:
    """What a recording is about: its venue, its one instrument and its first receive time."""

    adapter: Adapter
    definition: InstrumentDefinition
    first_recv_ns: int


def read_head(path: Path) -> Head:
    """Return what a recording is about.

    The instrument is what the venue said of it, where that was recorded, else what the first order book snapshot
    implies, which lists hundreds of neighbouring prices. Raises BadInput, in one sentence, for a recording of a venue
    that is not read, or one with neither.
    """
    found = _Found()
    for line in islice(read_lines(path), HEAD_LINES):
        if found.take(line):
            break
    adapter, definition = _defined(path, found)
    return Head(adapter, definition, _first_recv_ns(path, adapter, definition))


class _Found:
    """What the first lines of a recording tell."""

    def __init__(self) -> None:
        self.adapter: Adapter | None = None
        self.symbol: str | None = None
        self.levels: Sequence[tuple[str, str]] = ()
        self.definition: InstrumentDefinition | None = None
        self.foreign: str | None = None
        self.refused: Rejected | None = None

    def take(self, line: Line) -> bool:
        """Take a line and return whether all is known."""
        if line.rejected is not None:
            self.refused = self.refused or line.rejected
            return False
        adapter = self.adapter or venues.owner(line.raw)
        if adapter is None or not adapter.owns(line.raw):
            self.foreign = self.foreign or venues.foreign(line.raw, adapter.venue if adapter else "")
            self.refused = self.refused or Rejected(Reason.UNKNOWN_STREAM, f"began with {line.raw[:60]!r}")
            return False
        self.adapter = adapter
        try:
            self.definition = adapter.defines(line.raw)
            self.symbol = self.symbol or adapter.symbol_of(line.raw)
            self.levels = self.levels or adapter.levels(line.raw) or ()
        except Rejected as rejected:
            self.refused = self.refused or rejected
        return self.definition is not None or bool(self.symbol and self.levels)


def _defined(path: Path, found: _Found) -> tuple[Adapter, InstrumentDefinition]:
    if found.adapter is not None and found.definition is not None:
        return found.adapter, found.definition
    if found.adapter is None:
        what = f"it looks like {found.foreign}" if found.foreign else None
        what = what or (f"its first fault: {found.refused}" if found.refused else "it is empty")
        raise BadInput(f"recording {path} has no frame of {', '.join(venues.ADAPTERS)}, the venues read here: {what}")
    if found.symbol is None:
        told = "no frame in its first lines names the symbol; record the definition too, or a stream"
        raise BadInput(f"recording {path} is of {found.adapter.venue}, but {told}")
    try:
        prices = implied_increment(price for price, _ in found.levels)
        sizes = implied_increment(size for _, size in found.levels)
        return found.adapter, found.adapter.implied(found.symbol, str(prices), str(sizes))
    except (ArithmeticError, ValueError) as error:
        told = "there is none in its first lines"
        why = f"its snapshot is damaged ({type(error).__name__})" if found.levels else told
        raise BadInput(f"recording {path} needs an order book snapshot to begin with: {why}") from None
    except Rejected as error:
        raise BadInput(f"recording {path}: {error}") from None


def _first_recv_ns(path: Path, adapter: Adapter, definition: InstrumentDefinition) -> int:
    """Return the receive time of the first line that can be read; a refused one tells no time."""
    decoder = adapter.decoder(definition)
    for line in read_lines(path):
        try:
            if line.rejected is None and decoder.decode(line.raw):
                return line.recv_ns
        except Rejected:
            continue
    raise BadInput(f"recording {path} has no line that can be read")
