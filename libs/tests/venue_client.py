"""A market of one listing a venue, and a client of the server that shows it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import aiohttp

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.rng import SeededRng
from huracan.sim.told import Best, Book, Candle, Changed, Liquidated, Listing, Marked, Told, Trade
from huracan.sim.venue.recording import Recording
from huracan.sim.venue.server import VenueServer

START_NS = 1_700_000_150_000_000_000
SPEED = 5.0
VENUES = ("binance_usdm", "okx", "bybit")
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP", "bybit": "SIMUSDT"}
WITHIN_S = 30.0
"""Longest wait for anything."""
Sides = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]
Frame = dict[str, Any]


class StubMarket:
    """One listing a venue, an event every 5 ms; every book there ever was can be looked up by its id."""

    def __init__(self, *, seconds: float = 60.0, levels: int = 30) -> None:
        self.listings: Sequence[Listing] = [Listing(venue=venue, asset="SIM") for venue in VENUES]
        self.books: dict[tuple[str, int], tuple[dict[int, int], dict[int, int]]] = {}
        self.told: list[Told] = []
        self._now: dict[str, Book] = {}
        self._end = int(seconds * 200)
        for listing in self.listings:
            bids = [(500_000 - at, 100 + at) for at in range(levels)]
            asks = [(500_001 + at, 100 + at) for at in range(levels)]
            self._keep(Book(START_NS, listing.key, 1_000, bids, asks))

    def _keep(self, book: Book) -> None:
        self._now[book.listing] = book
        self.books[book.listing, book.last_id] = dict(book.bids), dict(book.asks)

    def events(self) -> Iterator[Told]:
        """Yield a change a listing and 5 ms; every fourth a trade, every 20th a mark, every 30th a liquidation."""
        draw = SeededRng(1).stream("test.venue")
        for step in range(self._end):
            for listing in self.listings:
                for told in self._step(listing.key, START_NS + step * 5 * MILLISECOND_NS, step, draw.random):
                    self.told.append(told)
                    yield told

    def _step(self, key: str, at_ns: int, step: int, draw: Callable[[], float]) -> Iterator[Told]:
        before = self._now[key]
        sides = dict(before.bids), dict(before.asks)
        bid, ask = max(sides[0]), min(sides[1])
        side = int(draw() * 2)
        ticks = bid - int(draw() * 20) if side == 0 else ask + int(draw() * 20)
        lots = int(draw() * 400) if len(sides[side]) > 10 and draw() < 0.5 else 1 + int(draw() * 400)
        if lots:
            sides[side][ticks] = lots
        else:
            sides[side].pop(ticks, None)
        bids, asks = sorted(sides[0].items(), reverse=True), sorted(sides[1].items())
        number = before.last_id + 1
        if (bids[0], asks[0]) != (before.bids[0], before.asks[0]):
            yield Best(at_ns, key, number, bids[0], asks[0])
        self._keep(Book(at_ns, key, number, bids, asks))
        level = [(ticks, lots)]
        yield Changed(at_ns, key, number, number, [] if side else level, level if side else [])
        if step % 4 == 0:
            yield Trade(at_ns, key, step // 4 + 1, bids[0][0], 7, -1 if step % 8 else 1)
        if step % 20 == 0:
            rate = Decimal("0.0001") if step < 100 else Decimal("0.0002")
            yield Marked(at_ns, key, Decimal("50000.12"), Decimal("50000.05"), rate, START_NS + 3_600 * NANOSECONDS)
        if step % 30 == 0:
            yield Liquidated(at_ns, key, bids[0][0], 9, -1)

    def book(self, listing_key: str) -> Book:
        """Return the book as of the last event."""
        return self._now[listing_key]

    def candles(self, listing_key: str, interval_ns: int, end_ns: int, count: int) -> Sequence[Candle]:
        """Return closed bars up to a time, none later than the start."""
        last = min(end_ns, START_NS) // interval_ns
        return [
            Candle(at * interval_ns, 500_000, 500_010, 499_990, 500_005, 1_500, 3) for at in range(last - count, last)
        ]

    def sides(self, venue: str, number: int) -> Sides:
        """Return the book of an id in decimals."""
        bids, asks = self.books[f"{venue}.SIM", number]
        tick, lot = Decimal("0.1"), Decimal("0.001")
        return ({t * tick: n * lot for t, n in bids.items()}, {t * tick: n * lot for t, n in asks.items()})


class Client:
    """A websocket, and the requests beside it."""

    def __init__(self, server: VenueServer, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http
        self.last = (0, 0)
        """Numbers of the last book frame before a command."""

    async def get(self, path: str) -> Any:
        """Return the JSON of a path; it has to be there."""
        async with self.http.get(self.server.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def open(self, venue: str, *channels: str, autoping: bool = True) -> aiohttp.ClientWebSocketResponse:
        """Connect and subscribe as the venue has it."""
        paths = {"okx": "/ws/v5/public", "bybit": "/v5/public/linear"}
        path = paths.get(venue, f"/stream?streams={'/'.join(f'simusdt@{channel}' for channel in channels)}")
        # a server that says nothing does not answer the close frame either
        patience = aiohttp.ClientWSTimeout(ws_close=0.1)
        url = f"{self.server.url}/{venue}{path}"
        socket = await self.http.ws_connect(url, autoping=autoping, timeout=patience, max_msg_size=64 << 20)
        if venue == "okx" and channels:
            args = [{"channel": channel, "instId": SYMBOLS["okx"]} for channel in channels]
            await socket.send_json({"op": "subscribe", "args": args})
        elif venue == "bybit" and channels:
            topics = [f"{channel}.{SYMBOLS['bybit']}" for channel in channels]
            await socket.send_json({"op": "subscribe", "req_id": "7", "args": topics})
        return socket


BOOKS = {"binance_usdm": "depth@100ms", "okx": "books", "bybit": "orderbook.50"}
TRADES = {"binance_usdm": "trade", "okx": "trades", "bybit": "publicTrade"}


def with_server(
    test: Callable[[Client, StubMarket], Awaitable[None]],
    *,
    market: StubMarket | None = None,
    recordings: Sequence[Recording] = (),
    speed: float = SPEED,
    patience: float = 1.0,
    repeats: int = 0,
) -> None:
    source = market or StubMarket()

    async def main() -> None:
        shown = None if recordings else source
        server = VenueServer(market=shown, recordings=recordings, speed=speed, patience=patience, repeats=repeats)
        async with server, aiohttp.ClientSession() as http, asyncio.timeout(WITHIN_S):
            await test(Client(server, http), source)

    asyncio.run(main())


async def next_frame(socket: aiohttp.ClientWebSocketResponse, wanted: Callable[[Frame], bool]) -> Frame:
    """Return the next frame of a kind."""
    while True:
        frame: Frame = await socket.receive_json()
        if wanted(frame):
            return frame


def is_book(frame: Frame) -> bool:
    stream, topic, arg = frame.get("stream", ""), frame.get("topic", ""), frame.get("arg", {})
    named = "@depth" in stream or topic.startswith("orderbook.50") or arg.get("channel") == "books"
    return named and "data" in frame


def is_trade(frame: Frame) -> bool:
    stream, topic, arg = frame.get("stream", ""), frame.get("topic", ""), frame.get("arg", {})
    named = stream.endswith("@trade") or topic.startswith("publicTrade") or arg.get("channel") == "trades"
    return named and "data" in frame


def put_levels(side: dict[Decimal, Decimal], levels: Sequence[Sequence[str]]) -> None:
    for price, size, *_ in levels:
        if Decimal(size):
            side[Decimal(price)] = Decimal(size)
        else:
            side.pop(Decimal(price), None)


def okx_checksum(bids: Mapping[Decimal, str], asks: Mapping[Decimal, str]) -> int:
    texts: list[str] = []
    pairs = zip(sorted(bids, reverse=True)[:25], sorted(asks)[:25], strict=True)
    for bid, ask in pairs:
        texts += [bids[bid], asks[ask]]
    unsigned = zlib.crc32(":".join(texts).encode())
    return unsigned - (1 << 32) if unsigned & (1 << 31) else unsigned
