"""Three venues on this machine: clients that follow the venues' documentation by hand rebuild the market's own book."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from huracan.clock import MILLISECOND_NS, MINUTE_NS, NANOSECONDS
from huracan.errors import BadInput
from huracan.rng import SeededRng
from huracan.sim.told import Best, Book, Candle, Changed, Liquidated, Listing, Marked, Told, Trade
from huracan.sim.venue.__main__ import UNUSABLE, main
from huracan.sim.venue.book import Increments
from huracan.sim.venue.misbehaviour import Channel, Kind, Misbehaviour
from huracan.sim.venue.recording import Recording
from huracan.sim.venue.server import VenueServer

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = SHARED / "ticks" / "hftbacktest" / "binance_usdm_btcusdt_20240808.jsonl.gz"
START_NS = 1_700_000_150_000_000_000
SPEED = 5.0
VENUES = ("binance_usdm", "okx", "bybit")
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP", "bybit": "SIMUSDT"}
WITHIN_S = 8.0
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


def _with(
    test: Callable[[Client, StubMarket], Awaitable[None]],
    *,
    market: StubMarket | None = None,
    recordings: Sequence[Recording] = (),
    speed: float = SPEED,
    patience: float = 1.0,
) -> None:
    source = market or StubMarket()

    async def main() -> None:
        shown = None if recordings else source
        server = VenueServer(market=shown, recordings=recordings, speed=speed, patience=patience)
        async with server, aiohttp.ClientSession() as http, asyncio.timeout(WITHIN_S):
            await test(Client(server, http), source)

    asyncio.run(main())


async def _next(socket: aiohttp.ClientWebSocketResponse, wanted: Callable[[Frame], bool]) -> Frame:
    """Return the next frame of a kind."""
    while True:
        frame: Frame = await socket.receive_json()
        if wanted(frame):
            return frame


def _is_book(frame: Frame) -> bool:
    stream, topic, arg = frame.get("stream", ""), frame.get("topic", ""), frame.get("arg", {})
    named = "@depth" in stream or topic.startswith("orderbook.50") or arg.get("channel") == "books"
    return named and "data" in frame


def _is_trade(frame: Frame) -> bool:
    stream, topic, arg = frame.get("stream", ""), frame.get("topic", ""), frame.get("arg", {})
    named = stream.endswith("@trade") or topic.startswith("publicTrade") or arg.get("channel") == "trades"
    return named and "data" in frame


def _of(channel: str) -> Callable[[Frame], bool]:
    return lambda frame: (
        "data" in frame
        and (
            frame.get("stream", "").endswith(f"@{channel}")
            or frame.get("topic", "").startswith(f"{channel}.")
            or frame.get("arg", {}).get("channel") == channel
        )
    )


def _put(side: dict[Decimal, Decimal], levels: Sequence[Sequence[str]]) -> None:
    for price, size, *_ in levels:
        if Decimal(size):
            side[Decimal(price)] = Decimal(size)
        else:
            side.pop(Decimal(price), None)


def test_a_binance_book_by_the_documented_rule_is_the_markets_book() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("binance_usdm", "depth@100ms", "bookTicker")
        buffered = [(await _next(socket, _is_book))["data"]]
        snapshot = await client.get("/binance_usdm/fapi/v1/depth?symbol=SIMUSDT&limit=1000")
        last = snapshot["lastUpdateId"]
        bids: dict[Decimal, Decimal] = {}
        asks: dict[Decimal, Decimal] = {}
        _put(bids, snapshot["bids"])
        _put(asks, snapshot["asks"])
        assert (bids, asks) == market.sides("binance_usdm", last)
        final, compared = None, 0
        while compared < 8:
            data = buffered.pop() if buffered else (await _next(socket, _is_book))["data"]
            if data["u"] < last:
                continue
            assert data["U"] <= last + 1 <= data["u"] + 1 if final is None else data["pu"] == final
            final = data["u"]
            _put(bids, data["b"])
            _put(asks, data["a"])
            if final >= last:
                assert (bids, asks) == market.sides("binance_usdm", final)
                compared += 1

    _with(test)


def _checksum(bids: Mapping[Decimal, str], asks: Mapping[Decimal, str]) -> int:
    texts: list[str] = []
    pairs = zip(sorted(bids, reverse=True)[:25], sorted(asks)[:25], strict=True)
    for bid, ask in pairs:
        texts += [bids[bid], asks[ask]]
    unsigned = zlib.crc32(":".join(texts).encode())
    return unsigned - (1 << 32) if unsigned & (1 << 31) else unsigned


def test_an_okx_book_keeps_its_sequence_and_its_checksum() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("okx", "books")
        taken = await socket.receive_json()
        assert (taken["event"], taken["arg"]) == ("subscribe", {"channel": "books", "instId": "SIM-USDT-SWAP"})
        texts: tuple[dict[Decimal, str], dict[Decimal, str]] = {}, {}
        last = -1
        for number in range(9):
            frame = await socket.receive_json()
            assert frame["action"] == ("update" if number else "snapshot")
            data = frame["data"][0]
            assert data["prevSeqId"] == last
            last = data["seqId"]
            for side, levels in zip(texts, (data["bids"], data["asks"]), strict=True):
                for price, size, _, _ in levels:
                    side[Decimal(price)] = f"{price}:{size}"
                    if size == "0":
                        del side[Decimal(price)]
            assert data["checksum"] == _checksum(*texts)
            rebuilt = tuple({at: Decimal(text.partition(":")[2]) for at, text in side.items()} for side in texts)
            assert rebuilt == market.sides("okx", last)
        asked = (await client.get("/okx/api/v5/market/books?instId=SIM-USDT-SWAP&sz=400"))["data"][0]
        following = (await _next(socket, lambda frame: frame["data"][0]["prevSeqId"] >= asked["seqId"]))["data"][0]
        assert following["prevSeqId"] == asked["seqId"]

    # 25 levels a side, so that every checksum covers all it can
    _with(test, market=StubMarket(levels=60))


@pytest.mark.parametrize("depth", [50, 200])
def test_a_bybit_book_of_some_depth_is_the_best_of_the_markets_book(depth: int) -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("bybit", f"orderbook.{depth}")
        taken = await socket.receive_json()
        assert (taken["success"], taken["op"], taken["req_id"]) == (True, "subscribe", "7")
        bids: dict[Decimal, Decimal] = {}
        asks: dict[Decimal, Decimal] = {}
        last = 0
        for number in range(9):
            frame = await socket.receive_json()
            assert frame["type"] == ("delta" if number else "snapshot")
            data = frame["data"]
            assert data["u"] == last + 1 or not number
            last = data["u"]
            _put(bids, data["b"])
            _put(asks, data["a"])
            all_bids, all_asks = market.sides("bybit", data["seq"])
            assert bids == {price: all_bids[price] for price in sorted(all_bids, reverse=True)[:depth]}
            assert asks == {price: all_asks[price] for price in sorted(all_asks)[:depth]}

    _with(test, market=StubMarket(levels=70))


def test_trades_come_in_every_venues_form_with_ids_that_rise_by_one() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        numbers: dict[str, list[int]] = {venue: [] for venue in VENUES}
        for venue in VENUES:
            socket = await client.open(venue, TRADES[venue])
            while len(numbers[venue]) < 4:
                data = (await _next(socket, _is_trade))["data"]
                for trade in [data] if isinstance(data, dict) else data:
                    text = trade.get("tradeId") or trade.get("i", "-0").rpartition("-")[2]
                    numbers[venue].append(trade["t"] if "t" in trade else int(text, 10 if "tradeId" in trade else 16))
                    side = {"Buy": 1, "buy": 1, "Sell": -1, "sell": -1}.get(trade.get("S") or trade.get("side", ""))
                    side = (-1 if trade["m"] else 1) if side is None else side
                    at = next(
                        told
                        for told in market.told
                        if isinstance(told, Trade)
                        and told.listing == f"{venue}.SIM"
                        and told.trade_id == numbers[venue][-1]
                    )
                    assert side == at.side
                    assert Decimal(trade.get("p") or trade["px"]) == at.ticks * Decimal("0.1")
                    assert Decimal(trade.get("q") or trade.get("v") or trade["sz"]) == Decimal("0.007")
                    assert int(trade.get("T") or trade["ts"]) == at.at_ns // MILLISECOND_NS
            assert numbers[venue] == list(range(numbers[venue][0], numbers[venue][0] + len(numbers[venue])))

    _with(test)


@pytest.mark.parametrize(
    ("venue", "best", "mark", "liquidation"),
    [
        ("binance_usdm", "bookTicker", "markPrice@1s", "forceOrder"),
        ("okx", "bbo-tbt", "mark-price", "liquidation-orders"),
        ("bybit", "orderbook.1", "tickers", "allLiquidation"),
    ],
)
def test_best_mark_and_liquidations_are_told(venue: str, best: str, mark: str, liquidation: str) -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open(venue, best, mark, *([liquidation] if venue != "okx" else ["funding-rate"]))
        if venue == "okx":
            await socket.send_json({"op": "subscribe", "args": [{"channel": liquidation, "instType": "SWAP"}]})
        firsts: dict[str, Frame] = {}
        while len(firsts) < 3:
            frame = await socket.receive_json()
            firsts.update(
                {name: frame for name in (best, mark, liquidation) if name not in firsts and _of(name)(frame)}
            )
        data = firsts[best]["data"]
        first = data[0] if isinstance(data, list) else data
        if venue == "binance_usdm":
            number, bid = first["u"], (first["b"], first["B"])
        elif venue == "okx":
            number, bid = first["seqId"], tuple(first["bids"][0][:2])
        else:
            number, bid = first["seq"], tuple(first["b"][0])
        bids, _ = market.sides(venue, number)
        assert (Decimal(bid[0]), Decimal(bid[1])) == (max(bids), bids[max(bids)])
        marked = json.dumps(firsts[mark])
        assert "50000.12" in marked
        if venue != "okx":
            assert '"0.000' in marked
        sold = json.dumps(firsts[liquidation])
        assert {"binance_usdm": '"S": "SELL"', "okx": '"posSide": "long"', "bybit": '"S": "Buy"'}[venue] in sold
        assert '"0.009"' in sold

    _with(test)


def test_instruments_trades_and_bars_are_answered_by_each_venue() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("binance_usdm", "trade")
        await _next(socket, _is_trade)
        usdm = await client.get("/binance_usdm/fapi/v1/exchangeInfo")
        assert [(one["symbol"], one["baseAsset"], one["status"]) for one in usdm["symbols"]] == [
            ("SIMUSDT", "SIM", "TRADING")
        ]
        filters = {one["filterType"]: one for one in usdm["symbols"][0]["filters"]}
        assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.1", "0.001")
        swap = (await client.get("/okx/api/v5/public/instruments?instType=SWAP&instId=SIM-USDT-SWAP"))["data"][0]
        assert (swap["instId"], swap["tickSz"], swap["lotSz"], swap["ctVal"]) == ("SIM-USDT-SWAP", "0.1", "0.001", "1")
        linear = await client.get("/bybit/v5/market/instruments-info?category=linear&symbol=SIMUSDT")
        assert linear["result"]["list"][0]["priceFilter"]["tickSize"] == "0.1"
        assert (await client.get("/binance_usdm/fapi/v1/aggTrades?symbol=SIMUSDT"))[0]["a"] == 1
        assert (await client.get("/okx/api/v5/market/trades?instId=SIM-USDT-SWAP"))["data"][-1]["tradeId"] == "1"
        recent = await client.get("/bybit/v5/market/recent-trade?category=linear&symbol=SIMUSDT")
        assert recent["result"]["list"][-1]["execId"].endswith("-000000000001")
        # the market starts at 22:15:50: the last bar that has closed by then opens at 22:00
        ten_ms = START_NS // (15 * MINUTE_NS) * 15 * 60_000 - 15 * 60_000
        bars = await client.get(f"/binance_usdm/fapi/v1/klines?symbol=SIMUSDT&interval=15m&endTime={ten_ms}&limit=3")
        assert [bar[0] for bar in bars] == [ten_ms - 1_800_000, ten_ms - 900_000, ten_ms]
        bars = await client.get(
            f"/okx/api/v5/market/history-candles?instId=SIM-USDT-SWAP&bar=15m&after={ten_ms}&limit=2"
        )
        assert [int(bar[0]) for bar in bars["data"]] == [ten_ms - 900_000, ten_ms - 1_800_000]
        bars = await client.get(
            f"/bybit/v5/market/kline?category=linear&symbol=SIMUSDT&interval=15&end={ten_ms}&limit=2"
        )
        assert [int(bar[0]) for bar in bars["result"]["list"]] == [ten_ms, ten_ms - 900_000]

    _with(test)


def test_what_does_not_exist_is_refused_in_the_venues_words() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        async with client.http.get(f"{client.server.url}/binance_usdm/fapi/v1/depth?symbol=XUSDT") as response:
            assert (response.status, (await response.json())["code"]) == (400, -1121)
        assert (await client.get("/okx/api/v5/market/books?instId=X"))["code"] == "51001"
        assert (await client.get("/bybit/v5/market/orderbook?category=linear&symbol=X"))["retCode"] == 10001
        usdm = await client.open("binance_usdm")
        await usdm.send_str("no JSON")
        assert (await usdm.receive_json())["error"]["code"] == 2
        await usdm.send_json({"method": "SUBSCRIBE", "params": ["simusdt@trade"], "id": 3})
        assert await usdm.receive_json() == {"result": None, "id": 3}
        await _next(usdm, _is_trade)
        await usdm.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 4})
        assert (await _next(usdm, lambda frame: frame.get("id") == 4))["result"] == ["simusdt@trade"]
        okx = await client.open("okx", "nothing")
        assert (await okx.receive_json())["code"] == "60018"
        await okx.send_str("{}")
        assert (await okx.receive_json())["code"] == "60012"
        bybit = await client.open("bybit", "nothing")
        assert (await bybit.receive_json())["success"] is False

    _with(test)


@pytest.mark.parametrize("venue", VENUES)
def test_nothing_more_comes_after_unsubscribing_and_a_new_snapshot_after_subscribing_again(venue: str) -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open(venue, BOOKS[venue], TRADES[venue])
        await _next(socket, _is_book)
        topics = {"okx": {"channel": "books", "instId": SYMBOLS["okx"]}, "bybit": "orderbook.50.SIMUSDT"}
        topic = topics.get(venue, "simusdt@depth@100ms")
        key = "op" if venue != "binance_usdm" else "method"
        for operation in ("unsubscribe", "subscribe"):
            verb = operation.upper() if venue == "binance_usdm" else operation
            await socket.send_json({key: verb, "args" if venue != "binance_usdm" else "params": [topic], "id": "1"})
            await _next(socket, lambda frame: "data" not in frame)
            if operation == "unsubscribe":
                for _ in range(12):
                    assert not _is_book(await socket.receive_json())
        again = await _next(socket, _is_book)
        assert venue == "binance_usdm" or "snapshot" in {again.get("type"), again.get("action")}

    _with(test)


def test_pings_are_answered_as_each_venue_does() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        okx = await client.open("okx")
        await okx.send_str("ping")
        assert (await okx.receive()).data == "pong"
        bybit = await client.open("bybit")
        await bybit.send_json({"op": "ping", "req_id": "9"})
        pong = await bybit.receive_json()
        assert (pong["ret_msg"], pong["op"], pong["req_id"], pong["success"]) == ("pong", "ping", "9", True)
        usdm = await client.open("binance_usdm", autoping=False)
        await usdm.ping(b"x")
        message = await usdm.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"x")

    _with(test)


def test_whoever_breaks_the_ping_rule_is_closed_and_who_keeps_it_is_not() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        # OKX closes after 0.03 s here, Binance pings every 0.18 s and closes after 0.6 s
        okx = await client.open("okx")
        assert (await okx.receive()).type is aiohttp.WSMsgType.CLOSE
        assert okx.close_code == 4004
        good, bad = await client.open("binance_usdm"), await client.open("binance_usdm", autoping=False)
        kept = asyncio.create_task(good.receive())
        assert (await bad.receive()).type is aiohttp.WSMsgType.PING
        while (message := await bad.receive()).type is aiohttp.WSMsgType.PING:
            pass
        assert (message.type, bad.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert not kept.done()
        kept.cancel()

    _with(test, patience=0.001)


def test_a_binance_client_that_talks_too_much_is_closed() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("binance_usdm")
        for number in range(11):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)

    _with(test)


@pytest.mark.parametrize("venue", VENUES)
def test_what_is_sent_follows_from_the_source_alone(venue: str) -> None:
    heard: list[dict[str, bytes]] = []

    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open(venue, BOOKS[venue], TRADES[venue])
        frames: dict[str, bytes] = {}
        while len(frames) < 40:
            text = (await socket.receive()).data
            frame = json.loads(text)
            if _is_trade(frame) or (_is_book(frame) and "snapshot" not in text):
                # Bybit numbers what it sends to a topic from its first subscriber on
                frames[_identity(frame)] = text.partition('"u":')[0].encode() if venue == "bybit" else text.encode()
        heard.append(frames)

    for _ in range(2):
        _with(test, speed=2.0)  # so that a client that comes later still hears much of the same
    both = heard[0].keys() & heard[1].keys()
    assert len(both) > 5
    assert {key: heard[0][key] for key in both} == {key: heard[1][key] for key in both}


def _identity(frame: Frame) -> str:
    data = frame["data"][0] if isinstance(frame["data"], list) else frame["data"]
    return str([data.get(name) for name in ("t", "u", "tradeId", "seqId", "i")] if "seq" not in data else data["seq"])


def _recording(path: Path, *, compressed: bool) -> list[tuple[str, bytes]]:
    """Write a recording of four frames and a snapshot; return stream and bytes of its frames."""
    depth = '{"stream":"btcusdt@depth@0ms","data": {"e":"depthUpdate","E":%d,"T":1,"s":"BTCUSDT",%s}}'
    trade = '"e":"trade","E":2,"T":2,"s":"BTCUSDT","t":9,"p":"100.10","q":"0.500","X":"MARKET","m":true'
    bids, asks = '[["100.10","2.000"],["99.90","1.000"]]', '[["100.30","3.500"]]'
    frames = [
        ("btcusdt@depth@0ms", depth % (1, '"U":5,"u":8,"pu":4,"b":[["100.10","2.000"]],"a":[]')),
        ("btcusdt@trade", f'{{"stream":"btcusdt@trade","data":{{{trade}}}}}'),
        ("", f'{{"lastUpdateId":10,"E":3,"T":3,"bids":{bids},"asks":{asks}}}'),
        ("btcusdt@depth@0ms", depth % (4, '"U":9,"u":12,"pu":8,"b":[["99.90","0.000"]],"a":[["100.50","1.250"]]')),
    ]
    lines = "".join(f"{START_NS + at * 300 * MILLISECOND_NS} {raw}\n" for at, (_, raw) in enumerate(frames)).encode()
    path.write_bytes(gzip.compress(lines) if compressed else lines)
    return [(stream, raw.encode()) for stream, raw in frames if stream]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_recording_is_sent_byte_for_byte_and_its_book_can_be_asked_for(tmp_path: Path, compressed: bool) -> None:
    frames = _recording(tmp_path / "recording", compressed=compressed)

    async def test(client: Client, market: StubMarket) -> None:
        url = f"{client.server.url}/binance_usdm/stream?streams=btcusdt@depth@100ms/btcusdt@trade"
        async with client.http.ws_connect(url) as socket:
            first = await client.get("/binance_usdm/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
            heard = [b""]
            while heard[-1] != frames[-1][1]:  # the first was due before anybody could listen
                heard.append((await socket.receive()).data.encode())
        assert first["lastUpdateId"] == 10
        assert heard[1:] == [raw for _, raw in frames][1 - len(heard) :]
        later = await client.get("/binance_usdm/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
        assert (later["lastUpdateId"], later["bids"]) == (12, [["100.10", "2.000"]])
        assert later["asks"] == [["100.30", "3.500"], ["100.50", "1.250"]]
        listed = (await client.get("/binance_usdm/fapi/v1/exchangeInfo"))["symbols"][0]
        assert (listed["baseAsset"], listed["filters"][0]["tickSize"]) == ("BTC", "0.10")

    _with(test, recordings=[Recording(tmp_path / "recording")], speed=3.0)


def test_a_recording_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"1 {}\n")
    with pytest.raises(BadInput, match="empty: no snapshot"):
        Recording(tmp_path / "empty")
    with pytest.raises(BadInput, match="No such file"):
        Recording(tmp_path / "absent")


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL.name} is not on this machine")
def test_a_real_recording_is_played_with_its_sequence_and_its_book() -> None:
    recording = Recording(REAL)

    async def test(client: Client, market: StubMarket) -> None:
        url = f"{client.server.url}/binance_usdm/stream?streams=btcusdt@depth@0ms/btcusdt@bookTicker"
        async with client.http.ws_connect(url) as socket:
            ids: list[int] = []
            while len(ids) < 60:
                frame = await _next(socket, _is_book)
                assert not ids or frame["data"]["pu"] == ids[-1]
                ids.append(frame["data"]["u"])
        snapshot = await client.get("/binance_usdm/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
        assert snapshot["lastUpdateId"] >= ids[-1]
        assert Decimal(snapshot["bids"][0][0]) < Decimal(snapshot["asks"][0][0])

    _with(test, recordings=[recording], speed=10.0)
    assert (recording.implied.tick, recording.implied.lot) == (Decimal("0.10"), Decimal("0.001"))


@pytest.mark.parametrize(
    ("increment", "count", "fixed", "trimmed"),
    [("0.1", 612_345, "61234.5", "61234.5"), ("0.5", 4, "2.0", "2"), ("0.10", 30, "3.00", "3"), ("1", 7, "7", "7"),
     ("1E+1", 7, "70", "70"), ("0.001", 0, "0.000", "0"), ("0.001", -1_250, "-1.250", "-1.25")],
)  # fmt: skip
def test_increments_are_written_with_or_without_trailing_zeros(
    increment: str, count: int, fixed: str, trimmed: str
) -> None:
    assert Increments(Decimal(increment)).text(count) == fixed
    assert Increments(Decimal(increment), trimmed=True).text(count) == trimmed


def _command(kind: Kind, venue: str, **more: Any) -> Misbehaviour:
    return Misbehaviour.model_validate({"kind": kind, "venue": venue, **more})


LONGEST_LOOK = 200
"""Frames in which what was commanded must be seen."""


def _sequence(frame: Frame) -> tuple[int, int]:
    """Return the numbers of a book frame: that of the one before it, and its own."""
    data = frame["data"][0] if isinstance(frame["data"], list) else frame["data"]
    if "pu" in data:
        return data["pu"], data["u"]
    return (data["prevSeqId"], data["seqId"]) if "seqId" in data else (data["u"] - 1, data["u"])


async def _booked(client: Client, venue: str) -> aiohttp.ClientWebSocketResponse:
    """Return a connection on which the book has begun to come."""
    socket = await client.open(venue, BOOKS[venue])
    await _next(socket, _is_book)
    client.last = _sequence(await _next(socket, _is_book))
    return socket


def _does(
    kind: Kind, venue: str, check: Callable[[Client, aiohttp.ClientWebSocketResponse], Awaitable[None]], **more: Any
) -> None:
    """Run a check on a connection right after the command; what was done has to be listed."""

    async def test(client: Client, market: StubMarket) -> None:
        socket = await _booked(client, venue)
        number = client.server.misbehave(_command(kind, venue, **more))
        await check(client, socket)
        listed = await client.get("/control")
        assert {(done["command"], done["kind"], done["venue"]) for done in listed["done"]} == {(number, kind, venue)}
        assert len(listed["done"]) == len(client.server.done)

    _with(test)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(("kind", "code"), [(Kind.DROP, 1006), (Kind.CLOSE_CODE, 1012)])
def test_a_connection_is_lost_or_closed_with_a_code_and_the_next_one_is_well(venue: str, kind: Kind, code: int) -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert socket.close_code == code
        await _booked(client, venue)

    _does(kind, venue, check, close_code=1012)


def test_refused_connections_and_requests_are_reset_until_it_is_over() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        with pytest.raises(aiohttp.ClientError):
            await client.open("okx")
        with pytest.raises(aiohttp.ClientError):
            await client.get("/okx/api/v5/market/books?instId=SIM-USDT-SWAP")
        client.server.behave()
        await _booked(client, "okx")

    _does(Kind.REFUSE, "okx", check, duration_s=60.0)


@pytest.mark.parametrize("venue", VENUES)
def test_updates_that_are_left_out_are_missing_in_the_sequence(venue: str) -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        before, after = client.last, _sequence(await _next(socket, _is_book))
        while after[0] == before[1]:
            before, after = after, _sequence(await _next(socket, _is_book))
        assert after[0] > before[1]

    _does(Kind.GAP, venue, check, count=2)


@pytest.mark.parametrize("venue", VENUES)
def test_a_duplicate_comes_twice_and_a_reordered_frame_after_the_next(venue: str) -> None:
    async def check_duplicate(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        frames = [await _next(socket, _is_book)]
        while len(frames) < LONGEST_LOOK and frames[-1] not in frames[:-1]:  # what was sent before comes first
            frames.append(await _next(socket, _is_book))
        assert frames[-1] == frames[-2]

    async def check_reorder(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        numbers = [_sequence(await _next(socket, _is_book))]
        while len(numbers) < LONGEST_LOOK and numbers == sorted(numbers):  # what was sent before comes first
            numbers.append(_sequence(await _next(socket, _is_book)))
        assert numbers != sorted(numbers)
        assert all(one[1] == other[0] for one, other in pairwise(sorted(numbers)))

    _does(Kind.DUPLICATE, venue, check_duplicate, stream=Channel.BOOK)
    _does(Kind.REORDER, venue, check_reorder, stream=Channel.BOOK)


def test_frames_are_late_and_keep_their_order_under_delay() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        before, at_s = client.last, loop.time()
        for _ in range(12):
            after, now_s = _sequence(await _next(socket, _is_book)), loop.time()
            assert after[0] == before[1]
            if now_s - at_s > 0.2:
                return
            before, at_s = after, now_s
        raise AssertionError("no frame was late")

    _does(Kind.DELAY, "bybit", check, delay_s=0.3, count=3, stream=Channel.BOOK)


async def _goes_quiet(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Read what is on its way until nothing comes for six batches."""
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), 0.12)
        except TimeoutError:
            return
        assert message.type is aiohttp.WSMsgType.TEXT


def test_a_half_open_connection_stays_open_and_says_nothing_not_even_a_pong() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        await socket.send_str("ping")
        await _goes_quiet(socket)
        assert client.server.connections == 1
        await _booked(client, "okx")

    _does(Kind.HALF_OPEN, "okx", check)


def test_a_silent_venue_still_answers_pings() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        await _goes_quiet(socket)
        await socket.send_str("ping")
        assert (await socket.receive()).data == "pong"
        client.server.behave()
        await _next(socket, _is_book)

    _does(Kind.SILENCE, "okx", check, duration_s=60.0)


def test_a_silenced_okx_connection_is_closed_like_any_that_nothing_is_sent_on() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        client.server.misbehave(_command(Kind.SILENCE, "okx", duration_s=60.0))
        socket = await client.open("okx", "books")
        while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert socket.close_code == 4004

    _with(test, patience=0.005)


def test_a_bad_checksum_is_that_of_no_book_and_only_okx_has_one() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        client.server.misbehave(_command(Kind.BAD_CHECKSUM, "okx"))
        socket = await client.open("okx", "books")
        checksums = []
        for _ in range(2):
            data = (await _next(socket, _is_book))["data"][0]
            bids, asks = market.sides("okx", data["seqId"])
            texts = [
                {price: f"{price.normalize():f}:{size.normalize():f}" for price, size in side.items()}
                for side in (bids, asks)
            ]
            checksums.append(data["checksum"] == _checksum(*texts))
        assert checksums == [False, True]

    _with(test, market=StubMarket(levels=60))
    with pytest.raises(ValueError, match="which sends no checksum"):
        _command(Kind.BAD_CHECKSUM, "bybit")


@pytest.mark.parametrize(
    ("venue", "path", "error"),
    [
        ("binance_usdm", "/fapi/v1/depth?symbol=SIMUSDT", "Too many requests"),
        ("okx", "/api/v5/market/books?instId=SIM-USDT-SWAP", "too frequent"),
        ("bybit", "/v5/market/orderbook?category=linear&symbol=SIMUSDT", "Too many visits"),
    ],
)
def test_a_rate_limit_is_429_with_retry_after_and_the_venues_error_on_the_websocket(
    venue: str, path: str, error: str
) -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        async with client.http.get(f"{client.server.url}/{venue}{path}") as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")
            await response.json()
        key = "method" if venue == "binance_usdm" else "op"
        await socket.send_json({key: "subscribe", "id": "1", "args": []})
        refused = await _next(socket, lambda frame: "data" not in frame and "result" not in frame)
        while "subscribe" in (refused.get("event"), refused.get("op")) and refused.get("success", True):
            refused = await _next(socket, lambda frame: "data" not in frame)
        assert error.lower() in json.dumps(refused).lower()

    _does(Kind.RATE_LIMIT, venue, check, duration_s=60.0, retry_after_s=7)


def test_garbage_is_no_json_and_a_wrong_symbol_is_one_that_nobody_asked_for() -> None:
    async def check_garbage(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            text = (await socket.receive()).data
            try:
                json.loads(text)
            except ValueError:
                return

    async def check_symbol(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        while (await _next(socket, _is_book))["data"]["s"] != "XSIMUSDT":
            pass
        assert (await _next(socket, _is_book))["data"]["s"] == "SIMUSDT"

    _does(Kind.GARBAGE, "binance_usdm", check_garbage)
    _does(Kind.WRONG_SYMBOL, "bybit", check_symbol)


def test_an_oversized_frame_is_as_long_as_was_said() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        while len(text := (await socket.receive()).data) < 3_000_000:
            pass
        assert len(text) == 3_000_000
        assert _is_book(json.loads(text))

    _does(Kind.OVERSIZED, "okx", check, size_bytes=3_000_000)


def test_a_slow_loris_holds_up_everything_behind_it_and_is_whole_in_the_end() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        before, at_s = client.last, loop.time()
        while True:
            after, now_s = _sequence(await _next(socket, _is_book)), loop.time()
            assert after[0] == before[1]
            if now_s - at_s > 0.2:
                return
            before, at_s = after, now_s

    _does(Kind.SLOW_LORIS, "binance_usdm", check, byte_every_s=0.001)


@pytest.mark.parametrize(
    ("venue", "path", "number"),
    [
        ("binance_usdm", "/fapi/v1/depth?symbol=SIMUSDT", ("lastUpdateId",)),
        ("okx", "/api/v5/market/books?instId=SIM-USDT-SWAP&sz=400", ("data", 0, "seqId")),
        ("bybit", "/v5/market/orderbook?category=linear&symbol=SIMUSDT", ("result", "seq")),
    ],
)
def test_a_stale_snapshot_is_the_opening_book(venue: str, path: str, number: Sequence[str | int]) -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        numbers = []
        for _ in range(2):
            told = await client.get(f"/{venue}{path}")
            for key in number:
                told = told[key]
            numbers.append(told)
        assert numbers[0] == 1_000 < numbers[1]

    _does(Kind.STALE_SNAPSHOT, venue, check)


def test_commands_come_by_http_and_are_refused_by_field() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        url = f"{client.server.url}/control"
        for body, told in (
            ({"kind": "drop"}, "venue"),
            ({"kind": "drop", "venue": "ftx"}, "venue was 'ftx'"),
            ({"kind": "gap", "venue": "okx", "symbol": "X"}, "symbol was 'X'"),
            ({"kind": "gap", "venue": "okx", "colour": 1}, "colour"),
        ):
            async with client.http.post(url, json=body) as response:
                assert response.status == 400
                assert told in (await response.json())["error"]
        async with client.http.post(
            url, json={"kind": "gap", "venue": "bybit", "symbol": "SIMUSDT", "duration_s": 9}
        ) as ok:
            assert await ok.json() == {"command": 1}
        assert [one["kind"] for one in (await client.get("/control"))["under_way"]] == ["gap"]
        async with client.http.delete(url) as response:
            assert response.status == 200
        assert (await client.get("/control"))["under_way"] == []

    _with(test)


def test_only_the_venue_and_the_stream_that_were_named_misbehave() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        client.server.misbehave(_command(Kind.SILENCE, "bybit", stream="book", symbol="SIMUSDT", duration_s=60.0))
        okx, bybit = await _booked(client, "okx"), await client.open("bybit", "orderbook.50", "publicTrade")
        await _next(okx, _is_book)
        for _ in range(5):
            frame = await _next(bybit, lambda frame: "data" in frame)
            assert _is_trade(frame)

    _with(test)


def test_it_runs_as_a_process_until_it_is_told_to_stop(tmp_path: Path) -> None:
    config = tmp_path / "venue.json"
    config.write_text(json.dumps({"exchange": {"seed": 3, "assets": [{"asset": "SIM", "price": 50_000.05}]}}))

    async def main() -> None:
        words = (sys.executable, "-m", "huracan.sim.venue", "--config", str(config))
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            port = json.loads(await process.stdout.readline())["port"]
            async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN_S):
                async with http.get(f"http://127.0.0.1:{port}/ready") as response:
                    assert (response.status, (await response.json())["okx"]) == (200, ["SIM-USDT-SWAP"])
                async with http.ws_connect(
                    f"http://127.0.0.1:{port}/binance_usdm/stream?streams=simusdt@trade"
                ) as socket:
                    await socket.receive_json()
        finally:
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0

    asyncio.run(main())


def test_a_process_without_a_source_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "venue.json").write_text("{}")
    assert main(["--config", str(tmp_path / "venue.json")]) == UNUSABLE
    assert "exchange: was not given" in capsys.readouterr().err
