"""Frames that both read: of simulated venues, of recordings and captures, of documentation; an instrument a session."""

from __future__ import annotations

import asyncio
import gzip
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from huracan.clock import MILLISECOND_NS, MINUTE_NS, NANOSECONDS, SystemClock
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan.rng import SeededRng
from huracan.sim.exchange import SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.venue.server import VenueServer
from huracan_cli.local_venues import SYMBOLS
from huracan_gateway import venues
from huracan_gateway.adapter import Adapter
from huracan_gateway.config import FeedConfig
from huracan_gateway.identity import define as identify
from huracan_gateway.live.config import FallbackConfig
from huracan_gateway.live.feed import LiveFeed, define
from huracan_gateway.live.http import VenueHttp
from huracan_gateway.recording import read_head, read_lines
from huracan_gateway.reject import Rejected
from huracan_gateway.scale import implied_increment

USDM, COINM, SPOT, OKX, BYBIT = map(venues.named, ("binance_usdm", "binance_coinm", "binance_spot", "okx", "bybit"))
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TICKS, RAW = SHARED / "ticks", SHARED / "ws_raw"
MOST_FRAMES = 3_000
"""Of a recording that are compared."""
MOST_SIMULATED = 5_000
"""Frames of a simulated venue, if one of the kinds is still missing then."""
SIMULATED_S = 12
"""Of event time, at least: a bar of a minute closes."""
SPEED = 60.0
"""Of the simulated exchange."""
KINDS = frozenset({"instrument", "snapshot", "depth", "trade", "quote", "mark", "liquidation"})
"""Of the frames of a simulated venue."""
FINE = "0.00000001"
"""An increment of which all prices and sizes here are multiples."""
PERPETUAL_MS = 4_133_404_800_000
"""Delivery of what has none, at Binance."""
TYPES = {
    InstrumentType.INSTRUMENT_TYPE_SPOT: ("spot", None, None),
    InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL: ("swap", True, False),
    InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL: ("swap", False, True),
    InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE: ("future", True, False),
    InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE: ("future", False, True),
}


@dataclass(frozen=True, slots=True)
class Session:
    """Frames of one instrument, its definition, and the text by which the venue says it."""

    adapter: Adapter
    definition: InstrumentDefinition
    text: bytes
    frames: Sequence[bytes]
    bars: bytes = b""
    """An answer with bars of one minute."""


def milliseconds(at_ns: int) -> int | None:
    """Return a time in Unix milliseconds, None where there is none."""
    return at_ns // MILLISECOND_NS or None


def shared(path: Path) -> Path:
    """Return a shared file, or skip by its name."""
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


def text(value: object) -> bytes:
    """Return a value as a venue would write it."""
    return json.dumps(value, separators=(",", ":")).encode()


def session(adapter: Adapter, told: bytes, frames: Sequence[bytes], bars: bytes = b"") -> Session:
    """Return a session of the instrument that a venue's text defines."""
    definition = adapter.defines(told)
    assert definition is not None
    return Session(adapter, definition, told, frames, bars)


def defined(adapter: Adapter, symbol: str, tick: str = FINE, lot: str = FINE) -> bytes:
    """Return the text by which a venue would define a symbol; contracts of OKX are made to be worth 1."""
    if adapter.venue == "okx":
        return _okx(symbol, tick, lot)
    implied = adapter.implied(symbol, tick, lot)
    name, linear, _ = TYPES[implied.type]
    expiry = milliseconds(implied.expiry_ns)
    if adapter.venue == "bybit":
        return text({
            "symbol": symbol, "status": "Trading", "baseCoin": implied.base, "quoteCoin": implied.quote,
            "contractType": ("Linear" if linear else "Inverse") + ("Futures" if expiry else "Perpetual"),
            "settleCoin": implied.settle, "deliveryTime": str(expiry or 0), "priceFilter": {"tickSize": tick},
            "lotSizeFilter": {"qtyStep": lot, "minOrderQty": "1"},
        })  # fmt: skip
    filters = [{"filterType": "PRICE_FILTER", "tickSize": tick}, {"filterType": "LOT_SIZE", "stepSize": lot}]
    pair = {
        "symbol": symbol, "baseAsset": implied.base, "quoteAsset": implied.quote, "status": "TRADING",
        "filters": filters,
    }  # fmt: skip
    futures = {
        "contractType": "CURRENT_QUARTER" if expiry else "PERPETUAL", "marginAsset": implied.settle,
        "deliveryDate": expiry or PERPETUAL_MS, "contractSize": int(implied.multiplier),
    }  # fmt: skip
    return text({"symbols": [pair if name == "spot" else pair | futures]})


def _okx(symbol: str, tick: str, lot: str) -> bytes:
    base, quote, kind, *_ = f"{symbol}-".split("-")
    increments = {"instId": symbol, "tickSz": tick, "lotSz": lot, "state": "live"}
    if not kind:
        return text({**increments, "instType": "SPOT", "baseCcy": base, "quoteCcy": quote})
    linear = quote != "USD"
    expiry = "" if kind == "SWAP" else str(milliseconds(OKX.implied(f"BTC-USD-{kind}", tick, lot).expiry_ns))
    return text({
        **increments, "instType": "FUTURES" if expiry else "SWAP", "uly": f"{base}-{quote}", "expTime": expiry,
        "ctType": "linear" if linear else "inverse", "ctVal": "1", "ctMult": "1",
        "settleCcy": quote if linear else base,
    })  # fmt: skip


def made(adapter: Adapter, symbol: str, frames: Sequence[bytes], tick: str = FINE, lot: str = FINE) -> Session:
    """Return a session with a definition of our making; a pair of OKX spot is read as a future would be."""
    told = defined(adapter, symbol, tick, lot)
    if b'"SPOT"' not in told:
        return session(adapter, told, frames)
    base, quote = symbol.split("-")
    pair = identify(
        venue=adapter.venue, venue_symbol=symbol, type=InstrumentType.INSTRUMENT_TYPE_SPOT, base=base, quote=quote,
        settle=quote, price_increment=Decimal(tick), size_increment=Decimal(lot),
    )  # fmt: skip
    return Session(adapter, pair, told, frames)


def of_book(adapter: Adapter, symbol: str, frames: Sequence[bytes]) -> Session:
    """Return a session with the increments that the first whole book implies."""
    levels = next(levels for levels in map(adapter.levels, frames) if levels)
    tick, lot = (f"{implied_increment(level[at] for level in levels):f}" for at in (0, 1))
    return made(adapter, symbol, frames, tick, lot)


def introduced(of_symbol: Session) -> Session:
    """Return a session that begins with its definition; pairs of OKX spot have none that the gateway reads."""
    if of_symbol.definition.type == InstrumentType.INSTRUMENT_TYPE_SPOT and of_symbol.adapter is OKX:
        return of_symbol
    return replace(of_symbol, frames=[of_symbol.text, *of_symbol.frames])


def recorded(path: Path) -> Iterator[Session]:
    """Yield the first frames of a recording."""
    head = read_head(shared(path))
    frames = [line.raw for line in islice(read_lines(path), MOST_FRAMES)]
    definition = head.definition
    increments = (f"{Decimal(each):f}" for each in (definition.price_increment, definition.size_increment))
    yield introduced(made(head.adapter, definition.venue_symbol, frames, *increments))


def packed(path: Path, separator: bytes = b": ") -> Iterator[tuple[bytes, bytes]]:
    """Yield what stands before the separator, and the frame, of lines that hold one."""
    with gzip.open(shared(path)) as lines:
        for line in lines:
            head, _, raw = line.rstrip(b"\n").partition(separator)
            if raw.startswith(b"{"):
                yield head, raw


def captured(adapter: Adapter, name: str) -> Iterator[Session]:
    """Yield a session for each symbol of a capture, with the books that were asked for."""
    timed: dict[str, list[tuple[float, bytes]]] = defaultdict(list)
    for head, raw in islice(packed(RAW / "cryptofeed" / f"{name}.ws.1.0.txt.gz"), MOST_FRAMES):
        symbol = adapter.symbol_of(raw)
        if symbol is not None and adapter.owns(raw):
            timed[symbol].append((float(head), raw))
    asked = RAW / "cryptofeed" / f"{name}.http.0.0.txt.gz"
    for head, raw in packed(asked) if asked.exists() else ():
        symbol = head.partition(b"symbol=")[2].partition(b"&")[0].decode()
        if symbol in timed:
            timed[symbol].append((float(head.partition(b"-> ")[2]), raw))
    for symbol, lines in timed.items():
        frames = [raw for _, raw in sorted(lines)]
        of_symbol = of_book if any(map(adapter.levels, frames)) else made
        yield introduced(of_symbol(adapter, symbol, frames))


def zipped(path: Path) -> Iterator[Session]:
    """Yield the frames of a Bybit book."""
    with zipfile.ZipFile(shared(path)) as archive:
        yield of_book(BYBIT, "XRPUSDT", archive.read(archive.namelist()[0]).splitlines())


def alone(adapter: Adapter, raw: bytes) -> Iterator[Session]:
    """Yield a session of one frame, unless that changes a book that is not there."""
    symbol = adapter.symbol_of(raw)
    if symbol is None or not adapter.owns(raw):
        return
    try:
        only = made(adapter, symbol, [raw])
        kind, _ = adapter.decoder(only.definition).decode(raw)
    except Rejected:
        return  # told by the tests of decoding
    if kind != "depth":
        yield only


VENDORS = {
    "binance": SPOT, "binance-futures": USDM, "okex": OKX, "okex-futures": OKX, "bybit": BYBIT,
}  # fmt: skip
"""By the names of a data vendor."""


def vendors() -> Iterator[Session]:
    """Yield the messages of a data vendor's tests, one by one."""
    with gzip.open(shared(RAW / "tardis_messages.jsonl.gz")) as lines:
        for entry in map(json.loads, lines):
            adapter = VENDORS.get(entry["exchange"])
            if adapter is not None:
                yield from alone(adapter, text(entry["message"]))


def fixtures(venue: str) -> dict[str, Any]:
    """Return samples of a venue's documentation by name."""
    with gzip.open(shared(RAW / "nautilus_fixtures" / f"{venue}.jsonl.gz")) as lines:
        return {Path(entry["path"]).stem: json.loads(entry["text"]) for entry in map(json.loads, lines)}


def documented() -> Iterator[Session]:
    """Yield samples of the venues' documentation, one by one: messages and instruments."""
    for name, sample in fixtures("binance").items():
        if name.endswith("_stream"):
            stream = {"stream": f"btcusdt@{STREAMS.get(name, 'ticker')}", "data": sample}
            yield from alone(USDM, text(stream))
    for adapter in (OKX, BYBIT):
        for name, sample in fixtures(adapter.venue).items():
            if (adapter.venue, name) == TWO_LEVELS:
                continue
            if "instruments" in name and name.startswith("http"):
                listed = sample["data"] if adapter is OKX else sample["result"]["list"]
                yield from (one for each in listed for one in _instrument(adapter, text(each)))
            else:
                yield from alone(adapter, text(sample))


TWO_LEVELS = ("bybit", "ws_orderbook_snapshot")
"""A sample of `orderbook.1` with two levels a side, which the venue does not send: ccxt takes the lower bid."""
STREAMS = {
    "book_ticker_stream": "bookTicker", "liquidation_stream": "forceOrder", "mark_price_stream": "markPrice",
}  # fmt: skip


def _instrument(adapter: Adapter, raw: bytes) -> Iterator[Session]:
    try:
        definition = adapter.defines(raw)
    except Rejected:
        return  # a pair or an option
    if definition is not None:
        yield Session(adapter, definition, raw, [raw])


async def _simulated(venue: str, server: VenueServer) -> Session:
    """Return what a feed of a simulated venue carries, from its definition to its bars."""
    adapter, clock, rng = venues.named(venue), SystemClock(), SeededRng(7)
    stream = {"binance_usdm": "", "okx": "/ws/v5/public", "bybit": "/v5/public/linear"}[venue]
    config = FeedConfig(
        venue=venue,
        symbol=SYMBOLS[venue],
        websocket_url=f"ws{server.url.removeprefix('http')}/{venue}{stream}",
        rest_url=f"{server.url}/{venue}",
        fallback=FallbackConfig(kind="none"),
    )
    http = VenueHttp(adapter, config, clock=clock, rng=rng)
    definition, first = await define(adapter, config, http, clock)
    decoder = adapter.decoder(definition)
    async with aclosing(LiveFeed(adapter, config, definition, first, http=http, clock=clock, rng=rng)) as feed:
        frames = list[bytes]()
        await feed.request_snapshot()
        kinds, last_ns = set[str](), 0
        begins_ns = SimulatedExchangeConfig().start_ns
        while len(frames) < MOST_SIMULATED and (kinds < KINDS or last_ns < begins_ns + SIMULATED_S * NANOSECONDS):
            line = await feed.next_line()
            assert line is not None
            frames.append(line.raw)
            kind, events = decoder.decode(line.raw)
            kinds.add(kind)
            last_ns = max(last_ns, events[-1].event_ns)
        frames += [await http.get(adapter.http.trades(definition)), await http.get(adapter.http.snapshot(definition))]
        bars = await http.get(adapter.http.klines(definition, MINUTE_NS, last_ns, 5))
    return session(adapter, first.raw, frames, bars)


def simulated() -> Sequence[Session]:
    """Return sessions of three simulated venues, from the local venue server."""

    async def main() -> Sequence[Session]:
        market = SimulatedExchange(SimulatedExchangeConfig(seed=7))
        async with VenueServer(market=market, speed=SPEED, clock=SystemClock()) as server:
            return await asyncio.gather(*(_simulated(venue, server) for venue in SYMBOLS))

    return asyncio.run(main())
