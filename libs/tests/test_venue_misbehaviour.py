"""What venues do wrong on command: each kind is seen by the client, and listed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from huracan.sim.venue.misbehaviour import Channel, Kind, Misbehaviour

from .venue_client import (
    BOOKS,
    VENUES,
    Client,
    Frame,
    StubMarket,
    is_book,
    is_trade,
    next_frame,
    okx_checksum,
    with_server,
)


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
    await next_frame(socket, is_book)
    client.last = _sequence(await next_frame(socket, is_book))
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

    with_server(test)


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
        before, after = client.last, _sequence(await next_frame(socket, is_book))
        while after[0] == before[1]:
            before, after = after, _sequence(await next_frame(socket, is_book))
        assert after[0] > before[1]

    _does(Kind.GAP, venue, check, count=2)


@pytest.mark.parametrize("venue", VENUES)
def test_a_duplicate_comes_twice_and_a_reordered_frame_after_the_next(venue: str) -> None:
    async def check_duplicate(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        frames = [await next_frame(socket, is_book)]
        while len(frames) < LONGEST_LOOK and frames[-1] not in frames[:-1]:  # what was sent before comes first
            frames.append(await next_frame(socket, is_book))
        assert frames[-1] == frames[-2]

    async def check_reorder(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        numbers = [_sequence(await next_frame(socket, is_book))]
        while len(numbers) < LONGEST_LOOK and numbers == sorted(numbers):  # what was sent before comes first
            numbers.append(_sequence(await next_frame(socket, is_book)))
        assert numbers != sorted(numbers)
        assert all(one[1] == other[0] for one, other in pairwise(sorted(numbers)))

    _does(Kind.DUPLICATE, venue, check_duplicate, stream=Channel.BOOK)
    _does(Kind.REORDER, venue, check_reorder, stream=Channel.BOOK)


def test_frames_are_late_and_keep_their_order_under_delay() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        before, at_s = client.last, loop.time()
        for _ in range(12):
            after, now_s = _sequence(await next_frame(socket, is_book)), loop.time()
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
        await next_frame(socket, is_book)

    _does(Kind.SILENCE, "okx", check, duration_s=60.0)


def test_a_silenced_okx_connection_is_closed_like_any_that_nothing_is_sent_on() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        client.server.misbehave(_command(Kind.SILENCE, "okx", duration_s=60.0))
        socket = await client.open("okx", "books")
        while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert socket.close_code == 4004

    with_server(test, patience=0.005)


def test_a_bad_checksum_is_that_of_no_book_and_only_okx_has_one() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        client.server.misbehave(_command(Kind.BAD_CHECKSUM, "okx"))
        socket = await client.open("okx", "books")
        checksums = []
        for _ in range(2):
            data = (await next_frame(socket, is_book))["data"][0]
            bids, asks = market.sides("okx", data["seqId"])
            texts = [
                {price: f"{price.normalize():f}:{size.normalize():f}" for price, size in side.items()}
                for side in (bids, asks)
            ]
            checksums.append(data["checksum"] == okx_checksum(*texts))
        assert checksums == [False, True]

    with_server(test, market=StubMarket(levels=60))
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
        refused = await next_frame(socket, lambda frame: "data" not in frame and "result" not in frame)
        while "subscribe" in (refused.get("event"), refused.get("op")) and refused.get("success", True):
            refused = await next_frame(socket, lambda frame: "data" not in frame)
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
        while (await next_frame(socket, is_book))["data"]["s"] != "XSIMUSDT":
            pass
        assert (await next_frame(socket, is_book))["data"]["s"] == "SIMUSDT"

    _does(Kind.GARBAGE, "binance_usdm", check_garbage)
    _does(Kind.WRONG_SYMBOL, "bybit", check_symbol)


def test_an_oversized_frame_is_as_long_as_was_said() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        while len(text := (await socket.receive()).data) < 3_000_000:
            pass
        assert len(text) == 3_000_000
        assert is_book(json.loads(text))

    _does(Kind.OVERSIZED, "okx", check, size_bytes=3_000_000)


def test_a_slow_loris_holds_up_everything_behind_it_and_is_whole_in_the_end() -> None:
    async def check(client: Client, socket: aiohttp.ClientWebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        before, at_s = client.last, loop.time()
        while True:
            after, now_s = _sequence(await next_frame(socket, is_book)), loop.time()
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
            ({"kind": "silence", "venue": "okx", "duration_s": 1e300}, "duration_s"),
            ({"kind": "delay", "venue": "okx", "delay_s": 1e300}, "delay_s"),
            ({"kind": "gap", "venue": "okx", "count": 10**40}, "count"),
            ({"kind": "gap", "venue": "okx", "stream": "rest"}, "stream: was rest, which no gap is done to; use one"),
            ({"kind": "refuse", "venue": "okx", "stream": "book"}, "use one of rest"),
            ({"kind": "drop", "venue": "okx", "stream": "book"}, "leave it out"),
            ({"kind": "bad_checksum", "venue": "okx", "stream": "trade"}, "use one of book"),
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

    with_server(test)


def test_only_the_venue_and_the_stream_that_were_named_misbehave() -> None:
    async def test(client: Client, market: StubMarket) -> None:
        client.server.misbehave(_command(Kind.SILENCE, "bybit", stream="book", symbol="SIMUSDT", duration_s=60.0))
        okx, bybit = await _booked(client, "okx"), await client.open("bybit", "orderbook.50", "publicTrade")
        await next_frame(okx, is_book)
        begin = await next_frame(bybit, is_book)
        assert begin["type"] == "snapshot", "who subscribes is answered though the updates are silent"
        for _ in range(5):
            frame = await next_frame(bybit, lambda frame: "data" in frame)
            assert is_trade(frame)

    with_server(test)
