"""Requests to a venue: paced, bounded, retried where that helps; bars and reachability on top of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError

from huracan.clock import MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition, InstrumentType, bar
from huracan.errors import Fatal, Recoverable
from huracan.market.history import load_history
from huracan.rng import SeededRng
from huracan.sim.loop import VirtualClock, run_virtual
from huracan_gateway.adapter import Adapter, Http, Request, TradeIds, Websocket
from huracan_gateway.identity import define as identify
from huracan_gateway.live.config import LiveConfig
from huracan_gateway.live.history import fetch_bars, write_bars
from huracan_gateway.live.http import RateLimited, VenueHttp, refusal, retries
from huracan_gateway.live.limits import TokenBucket, VenueLimits
from huracan_gateway.live.probe import reachable

START = 1_723_161_255 * 10**9
TOY = identify(
    venue="toy",
    venue_symbol="TOY",
    type=InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    base="TOY",
    quote="USD",
    settle="USD",
    price_increment=Decimal("0.1"),
    size_increment=Decimal(1),
)
CONFIG = LiveConfig(venue="toy", symbol="TOY", request_timeout_s=0.2, rate_limited_pause_s=0.1, max_body_bytes=1_000)
PING = Request(path="/ping?symbols=%5B%22A%22%5D")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def never(*_: object) -> None:
    raise AssertionError("no request needs this")


def used(headers: Mapping[str, str]) -> float | None:
    return float(headers["x-used"]) if "x-used" in headers else None


def klines(_: InstrumentDefinition, interval_ns: int, end_ns: int, most: int) -> Request:
    return Request(path=f"/klines?interval={interval_ns}&end={end_ns}&most={most}")


def minute(number: int) -> Bar:
    price = Decimal(100 + number % 7)
    return bar(
        instrument=TOY.id,
        interval_ns=MINUTE_NS,
        open_ns=number * MINUTE_NS,
        open=price,
        high=price + 2,
        low=price - 2,
        close=price + 1,
        volume=Decimal("0.5"),
    )


def bars(body: bytes, _: InstrumentDefinition, __: int) -> Sequence[Bar]:
    return [minute(number) for number in json.loads(body)]


def toy(url: str) -> Adapter:
    return Adapter(
        venue="toy",
        versions="toy 1",
        decoder=never,  # type: ignore[arg-type]
        owns=lambda _: False,
        symbol_of=never,
        levels=never,
        implied=never,  # type: ignore[arg-type]
        defines=never,
        book_marks=(),
        write_book=never,  # type: ignore[arg-type]
        trade_ids=TradeIds.NAMES,
        websocket=Websocket(
            url="ws://127.0.0.1:9",
            address=never,  # type: ignore[arg-type]
            streams=never,  # type: ignore[arg-type]
            book_stream=never,  # type: ignore[arg-type]
            subscribe=never,  # type: ignore[arg-type]
            unsubscribe=never,  # type: ignore[arg-type]
            control=never,
            ping=None,
            ping_every_s=20,
            silent_after_s=30,
        ),
        http=Http(
            url=url,
            instruments=never,  # type: ignore[arg-type]
            instrument=never,  # type: ignore[arg-type]
            snapshot=never,  # type: ignore[arg-type]
            trades=never,  # type: ignore[arg-type]
            klines=klines,
            bars=bars,
            most_bars=10,
            used=used,
            weight_per_s=1_000.0,
        ),
    )


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    """Serve every path, and bound the scenario."""
    app = web.Application()
    app.router.add_get("/{rest}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with asyncio.timeout(30):
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def monotonic() -> float:
    return asyncio.get_running_loop().time()


class LoopClock:
    """The event loop's time, from a fixed beginning."""

    def now_ns(self) -> int:
        return START + int(asyncio.get_running_loop().time() * 10**9)

    async def sleep_until(self, ns: int) -> None:
        await asyncio.sleep((ns - self.now_ns()) / 10**9)


def ask(answer: Answer, config: LiveConfig = CONFIG, *, limited: list[str] | None = None) -> bytes:
    """Return the body of one answer to one request."""

    async def main() -> bytes:
        async with served(answer) as url, VenueHttp(toy(url), config, clock=LoopClock(), rng=SeededRng(1)) as http:
            if limited is not None:
                http.on_limited = limited.append
            return await http.get(PING)

    return asyncio.run(main())


def status(number: int, text: str = "") -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=number, text=text)

    return answer


def test_a_good_answer_is_its_body_and_the_query_goes_out_as_written() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    assert ask(answer).decode() == PING.path


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, RateLimited) for number in (403, 418, 429)),
        *((number, Recoverable) for number in (204, 408, 500, 503)),
        *((number, Fatal) for number in (302, 400, 404, 451)),
    ],
)
def test_a_status_says_whether_to_try_again(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"toy GET /ping.* was answered {number}"):
        ask(status(number, "because"))


def test_an_answer_that_does_not_end_or_is_too_large_is_given_up() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    with pytest.raises(Recoverable, match=r"not answered within 0.2 s"):
        ask(endless)
    with pytest.raises(Fatal, match=r"more than max_body_bytes, 1000; raise it"):
        ask(status(200, "x" * 1_001))
    assert len(ask(status(200, "x" * 1_000))) == 1_000


def test_a_venue_that_is_away_can_be_asked_again() -> None:
    async def main() -> None:
        async with served(status(200)) as url:
            pass
        async with VenueHttp(toy(url), CONFIG, clock=LoopClock(), rng=SeededRng(1)) as http:
            with pytest.raises(Recoverable, match=r"toy GET /ping.* failed"):
                await http.get(PING)
        assert not await reachable(url, 1.0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("7", 7.0),
        ("Fri, 09 Aug 2024 00:44:25 GMT", 10.0),
        ("Thu, 08 Aug 2024 00:00:00 GMT", 0.0),
        ("soon", 0.1),
        ("Fri, 09 Aug 99999999999999999999 00:44:25 GMT", 0.1),
        ("86400", 86_400.0),
        ("86400000", 86_400.0),
        ("9" * 400, 86_400.0),
        ("Fri, 31 Dec 9999 00:00:00 GMT", 86_400.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_else_our_own_pause(header: str, pause_s: float) -> None:
    refused = refusal("it", 429, {"retry-after": header}, "", config=CONFIG, now_ns=START + 3_000 * 10**9)
    assert isinstance(refused, RateLimited)
    assert refused.pause_s == pause_s
    assert ("86400 s is the longest kept" in str(refused)) is (header != "86400" and pause_s > 10)


def test_after_being_rate_limited_nothing_is_asked_until_the_pause_is_over() -> None:
    asked: list[float] = []
    limited: list[str] = []

    async def answer(_: web.Request) -> web.Response:
        asked.append(await monotonic())
        return web.Response(status=429 if len(asked) == 1 else 200, headers={"X-Used": "0.5"})

    async def main() -> None:
        async with served(answer) as url, VenueHttp(toy(url), CONFIG, clock=LoopClock(), rng=SeededRng(1)) as http:
            http.on_limited = limited.append
            with pytest.raises(RateLimited):
                await http.get(PING)
            await asyncio.gather(http.get(PING), http.until_answered(PING))

    asyncio.run(main())
    assert len(asked) == 3
    assert min(asked[1:]) - asked[0] >= CONFIG.rate_limited_pause_s * 0.9
    assert len(limited) == 1
    assert "next request in 0.1 s" in limited[0]


@pytest.mark.parametrize(
    "said",
    [
        '{"retCode": 10006, "retMsg": "Too many visits!", "result": {}, "time": 1700000000000}',
        '{"code": "50011", "msg": "Too Many Requests", "data": []}',
    ],
)
def test_a_rate_limit_in_the_body_of_a_good_answer_is_one(said: str) -> None:
    limited: list[str] = []
    with pytest.raises(RateLimited, match="Too"):
        ask(status(200, said), limited=limited)
    assert "next request in 0.1 s" in limited[0]


@pytest.mark.parametrize("said", ['{"code": "0", "data": []}', '{"retCode": 0}', '{"retCode": 10006', "[" * 1_000])
def test_what_says_nothing_of_a_rate_limit_is_an_answer(said: str) -> None:
    assert ask(status(200, said)).decode() == said


def test_a_pause_holds_for_all_who_ask_the_same_address() -> None:
    asked: list[float] = []

    async def answer(_: web.Request) -> web.Response:
        asked.append(await monotonic())
        return web.Response(status=429 if len(asked) == 1 else 200)

    async def main() -> None:
        limits = VenueLimits(LoopClock(), 1_000.0)
        async with (
            served(answer) as url,
            VenueHttp(toy(url), CONFIG, clock=LoopClock(), rng=SeededRng(1), limits=limits) as one,
            VenueHttp(toy(url), CONFIG, clock=LoopClock(), rng=SeededRng(1), limits=limits) as other,
        ):
            with pytest.raises(RateLimited):
                await one.get(PING)
            await other.get(PING)

    asyncio.run(main())
    assert asked[1] - asked[0] >= CONFIG.rate_limited_pause_s * 0.9


def test_a_host_that_no_name_server_can_be_asked_for_can_be_asked_again() -> None:
    async def main() -> None:
        async with VenueHttp(toy("http://a..b"), CONFIG, clock=LoopClock(), rng=SeededRng(1)) as http:
            with pytest.raises(Recoverable, match=r"toy GET /ping.* failed"):
                await http.get(PING)

    asyncio.run(main())


def test_a_venue_that_has_failed_is_tried_soon_and_then_as_often_as_was_configured() -> None:
    async def main(clock: VirtualClock) -> None:
        backoff, tried_s = retries(CONFIG, SeededRng(1), "toy"), []
        for _ in range(206):
            await backoff.wait()
            tried_s.append((clock.now_ns() - START) / 10**9)
        assert tried_s[0] <= 0.1
        assert tried_s[5] < 7.0
        a_minute = 60 * 200 / (tried_s[-1] - tried_s[5])
        assert a_minute == pytest.approx(CONFIG.connects_per_minute, rel=0.05)

    run_virtual(main, start_ns=START)


def test_a_bucket_lets_a_burst_through_then_its_rate_in_the_order_of_asking() -> None:
    async def main(clock: VirtualClock) -> None:
        bucket, taken = TokenBucket(clock, per_s=10, burst=5), []

        async def take(name: str, amount: float) -> None:
            await bucket.take(amount)
            taken.append((name, round((clock.now_ns() - START) / 10**9, 3)))

        await asyncio.gather(take("a", 5), take("b", 2), take("large", 20), take("c", 1))
        assert taken == [("a", 0.0), ("b", 0.2), ("large", 0.7), ("c", 2.3)]

    run_virtual(main, start_ns=START)


def test_a_bucket_that_is_slowed_down_gives_less_and_never_stops() -> None:
    async def main(clock: VirtualClock) -> None:
        bucket = TokenBucket(clock, per_s=10, burst=1)
        await bucket.take()
        bucket.slow_to(0.5)
        await bucket.take()
        assert clock.now_ns() - START == pytest.approx(0.2 * 10**9, rel=0.01)
        bucket.slow_to(-1)
        await bucket.take()
        assert clock.now_ns() - START == pytest.approx(2.2 * 10**9, rel=0.01)
        bucket.slow_to(9)
        await bucket.take()
        assert clock.now_ns() - START == pytest.approx(2.3 * 10**9, rel=0.01)

    run_virtual(main, start_ns=START)


def test_a_clock_that_is_set_back_stops_no_bucket() -> None:
    class Back:
        now: Iterator[int] = iter([100 * 10**9, 0, *range(0, 10**10, 10**7)])

        def now_ns(self) -> int:
            return next(self.now)

        async def sleep_until(self, ns: int) -> None:
            raise AssertionError

    async def main() -> None:
        bucket = TokenBucket(Back(), per_s=1_000, burst=1)
        await bucket.take()
        await bucket.take()

    asyncio.run(main())


def test_requests_slow_down_when_the_venue_says_that_little_is_left() -> None:
    async def main() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(headers={"X-Used": shares.pop(0)})

        async with served(answer) as url, VenueHttp(toy(url), CONFIG, clock=LoopClock(), rng=SeededRng(1)) as http:
            rates = []
            for _ in range(3):
                await http.get(PING)
                rates.append(http._limits.bucket._share)
        assert rates == [1.0, pytest.approx(0.5), 1.0]

    shares = ["0.8", "0.9", "0.1"]
    asyncio.run(main())


@pytest.mark.parametrize(("number", "can_be_had"), [(200, True), (404, True), (429, False), (451, False), (502, False)])
def test_a_venue_is_reachable_when_it_answers_and_would_serve_us(number: int, can_be_had: bool) -> None:
    async def main() -> bool:
        async with served(status(number)) as url:
            return await reachable(f"{url}/time", 1.0)

    assert asyncio.run(main()) is can_be_had


def test_a_venue_that_does_not_answer_in_time_is_not_reachable() -> None:
    async def mute(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> bool:
        async with served(mute) as url:
            return await reachable(f"{url}/time", 0.05)

    assert asyncio.run(main()) is False
    assert asyncio.run(reachable("no address", 0.05)) is False


def history(known: Sequence[int], before_ns: int, count: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the minutes that were fetched, and how many bars each request asked for."""
    asked: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        end_ns, most = int(request.query["end"]), int(request.query["most"])
        asked.append(most)
        if len(asked) == 2:
            asked.append(0)
            return web.Response(status=503)
        return web.json_response([number for number in known if number * MINUTE_NS < end_ns][-most:])

    async def main() -> list[Bar]:
        async with served(answer) as url, VenueHttp(toy(url), CONFIG, clock=LoopClock(), rng=SeededRng(1)) as http:
            return await fetch_bars(toy(url), http, TOY, MINUTE_NS, before_ns, count)

    return [found.open_ns // MINUTE_NS for found in asyncio.run(main())], asked


def test_bars_are_paged_oldest_first_without_gaps_or_doubles_and_closed() -> None:
    fetched, asked = history(range(1_000), 500 * MINUTE_NS + MINUTE_NS // 2, 34)
    assert fetched == list(range(466, 500)), "500 was open"
    assert max(asked) <= 10
    assert history(range(1_000), 500 * MINUTE_NS, 3)[0] == [497, 498, 499]


def test_a_venue_with_a_short_memory_or_a_hole_in_it_gives_what_is_whole() -> None:
    assert history(range(480, 1_000), 500 * MINUTE_NS, 34)[0] == list(range(480, 500))
    holed = [number for number in range(1_000) if number != 490]
    assert history(holed, 500 * MINUTE_NS, 34)[0] == list(range(491, 500))
    assert history([], 500 * MINUTE_NS, 34)[0] == []


def test_bars_that_are_written_are_read_as_history(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    written = [minute(number) for number in range(100)]
    write_bars(written, path)
    read = load_history(path, instrument=TOY.id, interval_ns=MINUTE_NS, before_ns=100 * MINUTE_NS)
    assert [(one.open_ns, float(one.open), float(one.volume)) for one in read] == [
        (one.open_ns, float(one.open), float(one.volume)) for one in written
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["bars.parquet"]


@pytest.mark.parametrize(
    "change",
    [
        {"rest_url": "api.toy"},
        {"rest_url": "http://a..b"},
        {"rest_url": "http://[bad"},
        {"rest_url": "http://a b"},
        {"rest_url": "http://127.0.0.1:99999"},
        {"websocket_url": "http://toy"},
        {"websocket_url": "wss://toy:port"},
        {"symbol": "TOY\r\nHost: other"},
        {"silent_ms": 1},
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_field(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        LiveConfig.model_validate({"venue": "toy", "symbol": "TOY"} | change)
