"""Three venues on this machine: clients that follow the venues' documentation by hand rebuild the market's own book."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from huracan.clock import MILLISECOND_NS, MINUTE_NS
from huracan.sim.told import Trade
from huracan.sim.venue.__main__ import UNUSABLE, main
from huracan.sim.venue.book import Increments

from .venue_client import (
    BOOKS,
    START_NS,
    SYMBOLS,
    TRADES,
    VENUES,
    WITHIN_S,
    Client,
    Frame,
    StubMarket,
    is_book,
    is_trade,
    next_frame,
    okx_checksum,
    put_levels,
    with_server,
)


def _of(channel: str) -> Callable[[Frame], bool]:
    return lambda frame: (
        "data" in frame
        and (
            frame.get("stream", "").endswith(f"@{channel}")
            or frame.get("topic", "").startswith(f"{channel}.")
            or frame.get("arg", {}).get("channel") == channel
        )
    )


def test_a_binance_book_by_the_documented_rule_is_the_markets_book() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("binance_usdm", "depth@100ms", "bookTicker")
        buffered = [(await next_frame(socket, is_book))["data"]]
        snapshot = await client.get("/binance_usdm/fapi/v1/depth?symbol=SIMUSDT&limit=1000")
        last = snapshot["lastUpdateId"]
        bids: dict[Decimal, Decimal] = {}
        asks: dict[Decimal, Decimal] = {}
        put_levels(bids, snapshot["bids"])
        put_levels(asks, snapshot["asks"])
        assert (bids, asks) == market.sides("binance_usdm", last)
        final, compared = None, 0
        while compared < 8:
            data = buffered.pop() if buffered else (await next_frame(socket, is_book))["data"]
            if data["u"] < last:
                continue
            assert data["U"] <= last + 1 <= data["u"] + 1 if final is None else data["pu"] == final
            final = data["u"]
            put_levels(bids, data["b"])
            put_levels(asks, data["a"])
            if final >= last:
                assert (bids, asks) == market.sides("binance_usdm", final)
                compared += 1

    with_server(test)


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
            assert data["checksum"] == okx_checksum(*texts)
            rebuilt = tuple({at: Decimal(text.partition(":")[2]) for at, text in side.items()} for side in texts)
            assert rebuilt == market.sides("okx", last)
        asked = (await client.get("/okx/api/v5/market/books?instId=SIM-USDT-SWAP&sz=400"))["data"][0]
        following = (await next_frame(socket, lambda frame: frame["data"][0]["prevSeqId"] >= asked["seqId"]))["data"][0]
        assert following["prevSeqId"] == asked["seqId"]

    # 25 levels a side, so that every checksum covers all it can
    with_server(test, market=StubMarket(levels=60))


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
            put_levels(bids, data["b"])
            put_levels(asks, data["a"])
            all_bids, all_asks = market.sides("bybit", data["seq"])
            assert bids == {price: all_bids[price] for price in sorted(all_bids, reverse=True)[:depth]}
            assert asks == {price: all_asks[price] for price in sorted(all_asks)[:depth]}

    with_server(test, market=StubMarket(levels=70))


def test_trades_come_in_every_venues_form_with_ids_that_rise_by_one() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        numbers: dict[str, list[int]] = {venue: [] for venue in VENUES}
        for venue in VENUES:
            socket = await client.open(venue, TRADES[venue])
            while len(numbers[venue]) < 4:
                data = (await next_frame(socket, is_trade))["data"]
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

    with_server(test)


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

    with_server(test)


def test_instruments_trades_and_bars_are_answered_by_each_venue() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("binance_usdm", "trade")
        await next_frame(socket, is_trade)
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

    with_server(test)


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
        await next_frame(usdm, is_trade)
        await usdm.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 4})
        assert (await next_frame(usdm, lambda frame: frame.get("id") == 4))["result"] == ["simusdt@trade"]
        okx = await client.open("okx", "nothing")
        assert (await okx.receive_json())["code"] == "60018"
        await okx.send_str("{}")
        assert (await okx.receive_json())["code"] == "60012"
        bybit = await client.open("bybit", "nothing")
        assert (await bybit.receive_json())["success"] is False

    with_server(test)


@pytest.mark.parametrize("venue", VENUES)
def test_nothing_more_comes_after_unsubscribing_and_a_new_snapshot_after_subscribing_again(venue: str) -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open(venue, BOOKS[venue], TRADES[venue])
        await next_frame(socket, is_book)
        topics = {"okx": {"channel": "books", "instId": SYMBOLS["okx"]}, "bybit": "orderbook.50.SIMUSDT"}
        topic = topics.get(venue, "simusdt@depth@100ms")
        key = "op" if venue != "binance_usdm" else "method"
        for operation in ("unsubscribe", "subscribe"):
            verb = operation.upper() if venue == "binance_usdm" else operation
            await socket.send_json({key: verb, "args" if venue != "binance_usdm" else "params": [topic], "id": "1"})
            await next_frame(socket, lambda frame: "data" not in frame)
            if operation == "unsubscribe":
                for _ in range(12):
                    assert not is_book(await socket.receive_json())
        again = await next_frame(socket, is_book)
        assert venue == "binance_usdm" or "snapshot" in {again.get("type"), again.get("action")}

    with_server(test)


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

    with_server(test)


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

    with_server(test, patience=0.001)


def test_a_binance_client_that_talks_too_much_is_closed() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open("binance_usdm")
        for number in range(11):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)

    with_server(test)


@pytest.mark.parametrize("venue", VENUES)
def test_what_is_sent_follows_from_the_source_alone(venue: str) -> None:
    heard: list[dict[str, bytes]] = []

    async def test(client: Client, market: StubMarket) -> None:
        socket = await client.open(venue, BOOKS[venue], TRADES[venue])
        frames: dict[str, bytes] = {}
        while len(frames) < 40:
            text = (await socket.receive()).data
            frame = json.loads(text)
            if is_trade(frame) or (is_book(frame) and "snapshot" not in text):
                # Bybit numbers what it sends to a topic from its first subscriber on
                frames[_identity(frame)] = text.partition('"u":')[0].encode() if venue == "bybit" else text.encode()
        heard.append(frames)

    for _ in range(2):
        with_server(test, speed=2.0)  # so that a client that comes later still hears much of the same
    both = heard[0].keys() & heard[1].keys()
    assert len(both) > 5
    assert {key: heard[0][key] for key in both} == {key: heard[1][key] for key in both}


def _identity(frame: Frame) -> str:
    data = frame["data"][0] if isinstance(frame["data"], list) else frame["data"]
    return str([data.get(name) for name in ("t", "u", "tradeId", "seqId", "i")] if "seq" not in data else data["seq"])


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


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_that_repeats_trades_sends_the_newest_first_and_then_goes_on(venue: str) -> None:
    told: list[int] = []

    async def test(client: Client, market: StubMarket) -> None:
        first = await client.open(venue, TRADES[venue])
        while len(told) < 6:
            told.extend(_trade_ids((await next_frame(first, is_trade))["data"]))
        second, again = await client.open(venue, TRADES[venue]), list[int]()
        again.extend(_trade_ids((await next_frame(second, is_trade))["data"]))
        own = [each for each in market.told if isinstance(each, Trade) and each.listing == f"{venue}.SIM"]
        while len(again) < 6:
            again.extend(_trade_ids((await next_frame(second, is_trade))["data"]))
        assert again[:3] == list(range(again[0], again[0] + 3))
        assert again[0] <= own[-1].trade_id - 2, "what was told before comes first"
        assert again[5] >= told[-1], "and it goes on"

    with_server(test, repeats=3)


def _trade_ids(data: object) -> list[int]:
    """Return the numbers of trades in any venue's form."""
    numbers = []
    for trade in [data] if isinstance(data, dict) else data if isinstance(data, list) else []:
        text = trade.get("tradeId") or str(trade.get("i", "-0")).rpartition("-")[2]
        numbers.append(int(trade["t"]) if "t" in trade else int(text, 10 if "tradeId" in trade else 16))
    return numbers
