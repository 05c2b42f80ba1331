"""Recorded frames of one Binance USD-M symbol, and what they say of its book."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import IO, Final

import msgspec

from huracan.clock import MILLISECOND_NS
from huracan.errors import BadInput
from huracan.sim.told import Best, Book, Candle, Changed, Level, Listing, Marked, Told, Trade

QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD")
GZIP_MAGIC: Final = b"\x1f\x8b"


class _Data(msgspec.Struct):
    e: str = ""
    E: int = 0
    s: str = ""
    U: int = 0
    u: int = 0
    t: int = 0
    p: str = ""
    q: str = ""
    i: str = ""
    r: str = ""
    T: int = 0
    m: bool = False
    b: str | list[tuple[str, str]] = ""
    a: str | list[tuple[str, str]] | int = ""
    B: str = ""
    A: str = ""


class _Frame(msgspec.Struct):
    stream: str = ""
    data: _Data | None = None
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name
    E: int = 0
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


_FRAME = msgspec.json.Decoder(_Frame)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line: a frame of a stream, or a snapshot, which has no stream."""

    at_ns: int
    """When it was received."""
    raw: bytes
    stream: str
    told: Told | Book | None
    """What it says; None where the server need not know."""


class Recording:
    """A file of lines `<recv_ns> <raw>`, gzip or plain: a market of one listing, whose frames exist already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        snapshot, symbol = self._first_snapshot()
        quote = next((quote for quote in QUOTES if symbol.endswith(quote) and symbol != quote), None)
        if quote is None:
            raise BadInput(f"recording {path.name}: symbol was {symbol!r}, with no known quote asset at its end")
        levels = [*snapshot.bids, *snapshot.asks]
        tick, lot = _place(price for price, _ in levels), _place(size for _, size in levels)
        self.listing = Listing(
            venue="binance_usdm", asset=symbol.removesuffix(quote), quote=quote, tick=tick, lot=lot, contract=Decimal(1)
        )
        self.listings: Sequence[Listing] = (self.listing,)
        self._opening = self._book(snapshot)
        book = self._opening
        self.implied = replace(
            self.listing,
            tick=tick * math.gcd(*(ticks for ticks, _ in [*book.bids, *book.asks])),
            lot=lot * math.gcd(*(lots for _, lots in [*book.bids, *book.asks])),
        )
        """The listing with the largest increments that all levels of the first snapshot are multiples of."""

    def book(self, listing_key: str) -> Book:  # noqa: ARG002 - there is one
        """Return the first snapshot: until it was recorded, no book is known."""
        return self._opening

    def candles(self, listing_key: str, interval_ns: int, end_ns: int, count: int) -> Sequence[Candle]:  # noqa: ARG002
        """Return none: frames do not tell what was before."""
        return ()

    def events(self) -> Iterator[Told]:
        """Yield nothing: `frames` are played instead."""
        return iter(())

    def frames(self) -> Iterator[Recorded]:
        """Yield every line; raise BadInput, naming it, for one that cannot be read."""
        with closing(self._open()) as lines:
            for number, line in enumerate(lines, 1):
                received, _, raw = line.rstrip(b"\n").partition(b" ")
                try:
                    frame = _FRAME.decode(raw)
                    yield Recorded(int(received), raw, frame.stream, self._told(frame))
                except (msgspec.DecodeError, ValueError, ArithmeticError) as error:
                    raise BadInput(f"recording {self.path.name}: line {number} cannot be read: {error}") from None

    def _open(self) -> IO[bytes] | gzip.GzipFile:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise BadInput(f"recording {self.path}: {error.strerror}; name a file that can be read") from None
        compressed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if not compressed:
            return file
        file.close()
        return gzip.open(self.path, "rb")

    def _first_snapshot(self) -> tuple[_Frame, str]:
        symbol, snapshot = "", None
        with closing(self._open()) as lines:
            for line in lines:
                try:
                    frame = _FRAME.decode(line.partition(b" ")[2])
                except msgspec.DecodeError:
                    continue
                symbol = symbol or (frame.data.s if frame.data else "")
                if snapshot is None and frame.lastUpdateId is not None and frame.bids and frame.asks:
                    snapshot = frame
                if snapshot is not None and symbol:
                    return snapshot, symbol
        raise BadInput(
            f"recording {self.path.name}: no snapshot and symbol of binance_usdm were found; record one anew"
        )

    def _book(self, frame: _Frame) -> Book:
        assert frame.lastUpdateId is not None, "asked of snapshots alone"
        return Book(
            frame.E * MILLISECOND_NS,
            self.listing.key,
            frame.lastUpdateId,
            self._levels(frame.bids),
            self._levels(frame.asks),
        )

    def _told(self, frame: _Frame) -> Told | Book | None:
        data, key = frame.data, self.listing.key
        if frame.lastUpdateId is not None:
            return self._book(frame)
        if data is None:
            return None
        at_ns = data.E * MILLISECOND_NS
        match data.e, data.b, data.a:
            case "depthUpdate", list(bids), list(asks):
                return Changed(at_ns, key, data.U, data.u, self._levels(bids), self._levels(asks))
            case "bookTicker", str(bid), str(ask):
                best_bid, best_ask = self._levels([(bid, data.B), (ask, data.A)])
                return Best(at_ns, key, data.u, best_bid, best_ask)
            case "trade" | "aggTrade", _, number:
                ticks, lots = self._levels([(data.p, data.q)])[0]
                return Trade(
                    at_ns, key, number if isinstance(number, int) else data.t, ticks, lots, -1 if data.m else 1
                )
            case "markPriceUpdate", _, _:
                mark, index, rate = Decimal(data.p), Decimal(data.i), Decimal(data.r)
                return Marked(at_ns, key, mark, index, rate, data.T * MILLISECOND_NS)
        return None

    def _levels(self, levels: Iterable[tuple[str, str]]) -> Sequence[Level]:
        tick, lot = self.listing.tick, self.listing.lot
        return [(int(Decimal(price) / tick), int(Decimal(size) / lot)) for price, size in levels]


def _place(texts: Iterable[str]) -> Decimal:
    """Return 1 in the last decimal place of any of the texts."""
    return Decimal(1).scaleb(-max(len(text.partition(".")[2]) for text in texts))
