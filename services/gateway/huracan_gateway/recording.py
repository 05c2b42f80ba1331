"""Recordings: `<receive_time_ns> <raw frame>` a line, gzip or plain."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

from huracan.clock import NANOSECONDS
from huracan.contracts.market import InstrumentDefinition
from huracan.errors import BadInput
from huracan_gateway.binance_usdm import data as venue
from huracan_gateway.binance_usdm.data import Decoder
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
    if path.exists() and not path.is_file():
        raise BadInput(f"recording {path} cannot be read: it is no regular file, and it is read more than once")
    try:
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
    """What a recording is about: its one instrument and its first receive time."""

    definition: InstrumentDefinition
    first_recv_ns: int


def read_head(path: Path) -> Head:
    """Return what a recording is about.

    The increments are those of its first order book snapshot, which lists hundreds of neighbouring prices. Raises
    BadInput, in one sentence, for a recording of another venue or one without a snapshot.
    """
    symbol, snapshot, foreign, refused = None, None, None, None
    for line in islice(read_lines(path), HEAD_LINES):
        if line.rejected:
            refused = refused or line.rejected
            continue
        try:
            named = venue.symbol_of(line.raw)
            frame = venue.parse(line.raw)
        except Rejected as error:
            refused = refused or error
            foreign = foreign or venue.foreign_venue(line.raw)
            continue
        if named is None and frame.lastUpdateId is not None:
            snapshot = snapshot or frame
        elif named and not venue.foreign_venue(line.raw):
            symbol = symbol or named
        else:
            foreign = foreign or venue.foreign_venue(line.raw)
        if symbol and snapshot:
            break
    definition = _definition(path, symbol, snapshot, foreign, refused)
    return Head(definition, _first_recv_ns(path, definition))


def _first_recv_ns(path: Path, definition: InstrumentDefinition) -> int:
    """Return the receive time of the first line that can be read; a refused one tells no time."""
    decoder = Decoder(definition)
    for line in read_lines(path):
        try:
            if line.rejected is None and decoder.decode(line.raw):
                return line.recv_ns
        except Rejected:
            continue
    raise BadInput(f"recording {path} has no line that can be read")


def _definition(
    path: Path,
    symbol: str | None,
    snapshot: venue.Frame | None,
    foreign: str | None,
    refused: Rejected | None,
) -> InstrumentDefinition:
    if symbol is None:
        what = f"it looks like {foreign}" if foreign else f"its first fault: {refused}" if refused else "it is empty"
        raise BadInput(f"recording {path} has no frame of {venue.VENUE}, the one venue read here: {what}")
    levels = [*snapshot.bids, *snapshot.asks] if snapshot else []
    try:
        prices = implied_increment(price for price, _ in levels)
        sizes = implied_increment(size for _, size in levels)
        return venue.definition(symbol, prices, sizes)
    except (ArithmeticError, ValueError) as error:
        why = "there is none in its first lines" if not levels else f"its snapshot is damaged ({type(error).__name__})"
        raise BadInput(f"recording {path} needs an order book snapshot to begin with: {why}") from None
    except Rejected as error:
        raise BadInput(f"recording {path}: {error}") from None
