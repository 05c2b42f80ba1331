"""A live feed against a venue on this machine that speaks a toy protocol, and misbehaves as real ones do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from huracan.clock import SystemClock
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan.contracts.ops import FeedState, feed_state_name
from huracan.errors import BadInput, Fatal, Recoverable
from huracan.rng import SeededRng
from huracan_gateway.adapter import Adapter, Control, Http, Request, TradeIds, Websocket
from huracan_gateway.events import Event
from huracan_gateway.identity import define as identify
from huracan_gateway.live.config import FallbackConfig, LiveConfig
from huracan_gateway.live.feed import LiveFeed, define
from huracan_gateway.live.http import VenueHttp
from huracan_gateway.live.lines import BookLost, LineQueue
from huracan_gateway.recording import Line, read_lines
from huracan_gateway.reject import Reason, Rejected

PATIENCE_S = 30.0
"""Bound of a whole scenario; none comes near it."""
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
Session = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]
Answer = Callable[[int], web.Response]
Change = tuple[str, str]


class ToyDecoder:
    def decode(self, raw: bytes) -> tuple[str, Sequence[Event]]:
        try:
            return json.loads(raw)["k"], ()
        except (ValueError, TypeError, KeyError):
            raise Rejected(Reason.BAD_JSON, "no frame of the toy venue") from None


def control(raw: bytes) -> tuple[Control, str] | None:
    if not raw.startswith(b"{"):
        return None
    frame = json.loads(raw)
    kinds = {kind.value: kind for kind in Control}
    return next(((kinds[key], str(text)) for key, text in frame.items() if key in kinds), None)


def cut(body: bytes, symbol: str) -> bytes:
    if not body.startswith(b"{"):
        raise Rejected(Reason.BAD_JSON, "no frame of the toy venue")
    if json.loads(body).get("symbol") != symbol:
        raise Rejected(Reason.OTHER_SYMBOL, f"no {symbol}")
    return body


def levels(raw: bytes) -> Sequence[tuple[str, str]] | None:
    return () if json.loads(raw).get("k") == "snapshot" else None


def symbol_of(raw: bytes) -> str | None:
    try:
        found = json.loads(raw).get("s")
    except ValueError:
        raise Rejected(Reason.BAD_JSON, "no frame of the toy venue") from None
    return found if isinstance(found, str) else None


def toy(port: int) -> Adapter:
    """Return the adapter of the toy venue: streams `book` and `trade`, one object with its kind a frame."""
    return Adapter(
        venue="toy",
        versions="toy 1",
        decoder=lambda _: ToyDecoder(),
        owns=lambda raw: b'"k"' in raw,
        symbol_of=symbol_of,
        levels=levels,
        implied=lambda *_: TOY,
        defines=lambda raw: TOY if b'"symbol"' in raw else None,
        book_marks=(b'"depth"', b'"snapshot"'),
        write_book=lambda _: b"",
        trade_ids=TradeIds.CONTIGUOUS,
        websocket=Websocket(
            url=f"ws://127.0.0.1:{port}/stream",
            address=lambda url, _: url,
            streams=lambda _: ("book", "trade"),
            book_stream=lambda _: "book",
            subscribe=lambda streams, number: [b"+ %d %s" % (number, " ".join(streams).encode())],
            unsubscribe=lambda streams, number: [b"- %d %s" % (number, " ".join(streams).encode())],
            control=control,
            ping=None,
            ping_every_s=0.05,
            silent_after_s=5.0,
            messages_per_s=1_000.0,
        ),
        http=Http(
            url=f"http://127.0.0.1:{port}",
            instruments=lambda symbol: Request(path=f"/instrument?symbol={symbol}"),
            instrument=cut,
            snapshot=lambda _: Request(path="/book"),
            trades=lambda _: Request(path="/trades"),
            klines=lambda *_: Request(path="/klines"),
            bars=lambda *_: (),
            most_bars=10,
            used=lambda _: None,
            weight_per_s=1_000.0,
        ),
    )


@dataclass
class Venue:
    """What a venue does on its connections, one after the other, and answers; and what it was told and asked."""

    sessions: Sequence[Session] = ()
    answers: dict[str, Answer] = field(default_factory=dict)
    handshakes: Sequence[web.Response] = ()
    """Answers to the first handshakes, in place of a connection."""
    port: int = 0
    connections: int = 0
    told: list[str] = field(default_factory=list)
    ponged: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.connections += 1
        number = self.connections - len(self.handshakes)
        if number <= 0:
            return self.handshakes[number - 1]
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        hearing = asyncio.create_task(self._hear(socket))
        try:
            await self.sessions[min(number, len(self.sessions)) - 1](socket, request)
        except ConnectionError:
            pass  # the other side has left
        finally:
            hearing.cancel()
        return socket

    async def _hear(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.told.append(message.data)
            elif message.type is WSMsgType.PONG:
                self.ponged.append(bytes(message.data))

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return self.answers[request.path](self.asked.count(request.path))


@asynccontextmanager
async def opened(venue: Venue) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/stream", venue.stream)
    app.router.add_get("/{rest}", venue.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", venue.port)
    await site.start()
    venue.port = runner.addresses[0][1]
    try:
        yield
    finally:
        await runner.cleanup()


class Told:
    """What a feed says of itself."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str, int]] = []

    def __call__(self, state: FeedState, provider: str, detail: str, attempt: int) -> None:
        self.changes.append((feed_state_name(state), provider, detail, attempt))

    @property
    def states(self) -> list[str]:
        return [state for state, _, _, _ in self.changes]

    def details(self, state: str) -> list[str]:
        return [detail for was, _, detail, _ in self.changes if was == state]


def config(**changes: object) -> LiveConfig:
    usual: dict[str, object] = {
        "venue": "toy",
        "symbol": "TOY",
        "silent_after_ms": 60_000,
        "calm_ms": 100,
        "connects_per_minute": 6_000.0,
        "rate_limited_pause_s": 0.05,
        "connect_timeout_s": 2.0,
        "request_timeout_s": 2.0,
        "book_begins_within_ms": 2_000,
    }
    return LiveConfig.model_validate(usual | changes)


FIRST = Line(1, b'{"symbol": "TOY"}')


@asynccontextmanager
async def live(
    venue: Venue, told: Told, *, settings: LiveConfig | None = None, **spec: object
) -> AsyncIterator[LiveFeed]:
    """Open a venue and a feed from it; both are closed in the end, and the scenario is bounded."""
    async with asyncio.timeout(PATIENCE_S), opened(venue):
        adapter = toy(venue.port)
        adapter = replace(adapter, websocket=replace(adapter.websocket, **spec))  # type: ignore[arg-type]
        clock, rng = SystemClock(), SeededRng(1)
        http = VenueHttp(adapter, settings or config(), clock=clock, rng=rng)
        feed = LiveFeed(adapter, settings or config(), TOY, FIRST, http=http, clock=clock, rng=rng)
        feed.on_change = told
        try:
            yield feed
        finally:
            await feed.aclose()


def frame(kind: str, number: int = 0) -> bytes:
    return json.dumps({"k": kind, "n": number, "s": "TOY"}).encode()


def say(*frames: bytes | str) -> Session:
    """Return a session that says some frames and stays, mute."""

    async def session(socket: web.WebSocketResponse, _: web.Request) -> None:
        for one in frames:
            await socket.send_str(one if isinstance(one, str) else one.decode())
        await asyncio.Event().wait()

    return session


def keep_saying(kind: str, *, first: Sequence[bytes] = (), every_s: float = 0.01, until: int = 10**6) -> Session:
    async def session(socket: web.WebSocketResponse, _: web.Request) -> None:
        for one in first:
            await socket.send_str(one.decode())
        for number in range(until):
            await socket.send_str(frame(kind, number).decode())
            await asyncio.sleep(every_s)
        await asyncio.Event().wait()

    return session


async def take(feed: LiveFeed) -> Line:
    line = await feed.next_line()
    assert line is not None
    return line


async def happens(condition: Callable[[], bool]) -> None:
    """Return once a condition holds; the scenario bounds the wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for is not ours to signal
        await asyncio.sleep(0.01)


async def until(feed: LiveFeed, wanted: bytes) -> list[bytes]:
    """Return frames up to the wanted one."""
    came = [(await take(feed)).raw]
    while came[-1] != wanted:
        came.append((await take(feed)).raw)
    return came


async def hold(feed: LiveFeed, condition: Callable[[], bool]) -> list[bytes]:
    """Take lines until a condition holds, and return them."""
    came: list[bytes] = []
    while not condition():
        try:
            async with asyncio.timeout(0.02):
                came.append((await take(feed)).raw)
        except TimeoutError:
            continue
    return came


ACKNOWLEDGED = '{"acknowledged": ""}'
END = frame("trade", 99)


def body(payload: bytes, status: int = 200, **headers: str) -> web.Response:
    return web.Response(body=payload, status=status, headers=headers)


def test_the_definition_comes_first_then_market_data_alone() -> None:
    venue, told = Venue([say(ACKNOWLEDGED, frame("depth"), '{"pong": ""}', frame("trade"), END)]), Told()

    async def main() -> None:
        async with live(venue, told) as feed:
            assert await until(feed, END) == [FIRST.raw, frame("depth"), frame("trade"), END]
            assert feed.skipped == 0

    asyncio.run(main())
    assert told.states == ["connected"]
    assert venue.told == ["+ 1 book trade"]


def test_nothing_is_connected_before_the_first_line_is_asked_for() -> None:
    venue = Venue([say(END)])

    async def main() -> None:
        async with live(venue, Told()) as feed:
            await feed.request_snapshot()

    asyncio.run(main())
    assert venue.connections == 0
    assert venue.asked == []


def test_receive_times_never_go_back() -> None:
    class SetBack(SystemClock):
        times = iter((100, 90, 120))

        def now_ns(self) -> int:
            return next(self.times)

    lines = LineQueue(16, SetBack(), lambda: None)
    for raw in (b"1", b"2", b"3"):
        lines.put(raw)
    assert [lines.pop() for _ in range(3)] == [Line(100, b"1"), Line(100, b"2"), Line(120, b"3")]


async def _drop(socket: web.WebSocketResponse, request: web.Request) -> None:
    await socket.send_str(frame("depth").decode())
    assert request.transport is not None
    request.transport.abort()


async def _close(socket: web.WebSocketResponse, _: web.Request) -> None:
    await socket.close(code=4_001, message=b"maintenance")


async def _half_open(socket: web.WebSocketResponse, _: web.Request) -> None:
    await socket.send_str(ACKNOWLEDGED)
    await asyncio.Event().wait()


async def _slow_loris(socket: web.WebSocketResponse, request: web.Request) -> None:
    assert request.transport is not None
    request.transport.write(b"\x81\x7e\x20\x00{")  # a text of 8,192 bytes begins
    while not request.transport.is_closing():
        request.transport.write(b" ")
        await asyncio.sleep(0.01)


async def _oversized(socket: web.WebSocketResponse, _: web.Request) -> None:
    await socket.send_str(" " * 20_000)
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        (_drop, "toy TOY: the "),
        (_close, "4001: maintenance"),
        (_half_open, "no message for 0.3 s"),
        (_slow_loris, "no message for 0.3 s"),
        (_oversized, "exceeds limit 16384"),
        (say('{"reconnect": "we restart"}'), "a new connection: we restart"),
    ],
    ids=["dropped", "closed", "half-open", "slow-loris", "oversized", "asked-to-leave"],
)
def test_a_connection_that_fails_is_replaced_and_the_reason_told(misbehaviour: Session, reason: str) -> None:
    venue, told = Venue([misbehaviour, say(END)]), Told()

    async def main() -> None:
        async with live(venue, told, max_frame_bytes=16_384, silent_after_s=0.3) as feed:
            assert (await until(feed, END))[0] == FIRST.raw

    asyncio.run(main())
    assert venue.connections == 2
    assert told.states[-2:] == ["reconnecting", "connected"]
    assert reason in told.details("reconnecting")[0]


def test_a_connection_that_answers_heartbeats_alone_is_replaced_in_the_end() -> None:
    async def mute(socket: web.WebSocketResponse, _: web.Request) -> None:
        while True:
            await socket.send_str('{"pong": ""}')
            await asyncio.sleep(0.02)

    venue, told = Venue([mute, say(END)]), Told()

    async def main() -> None:
        async with live(venue, told, settings=config(muted_after_s=0.4), ping=b"ping", silent_after_s=0.4) as feed:
            await until(feed, END)

    asyncio.run(main())
    assert "no market data for 0.4 s" in told.details("reconnecting")[0]
    assert venue.told.count("ping") > 2


def test_pings_keep_a_quiet_connection_and_are_answered() -> None:
    async def quiet(socket: web.WebSocketResponse, _: web.Request) -> None:
        for number in range(10):
            await socket.ping(b"%d" % number)
            await asyncio.sleep(0.1)
        await socket.send_str(END.decode())
        await asyncio.Event().wait()

    venue, told = Venue([quiet]), Told()

    async def main() -> None:
        async with live(venue, told, silent_after_s=0.8) as feed:
            await until(feed, END)

    asyncio.run(main())
    assert venue.connections == 1
    assert venue.ponged == [b"%d" % number for number in range(10)]


def test_a_connection_is_renewed_before_the_venue_closes_it() -> None:
    venue, told = Venue([keep_saying("trade", until=50), say(END)]), Told()

    async def main() -> None:
        async with live(venue, told, longest_s=0.2) as feed:
            await until(feed, END)

    asyncio.run(main())
    assert "renewed" in told.details("reconnecting")[0]


def test_a_refused_subscription_ends_the_feed_naming_venue_and_symbol() -> None:
    venue, told = Venue([say('{"refused": "no such channel"}')]), Told()

    async def main() -> None:
        async with live(venue, told) as feed:
            assert await feed.next_line() == FIRST
            with pytest.raises(Fatal, match=r"toy TOY: .* no such channel"):
                await feed.next_line()

    asyncio.run(main())
    assert told.states == ["refused"]


@pytest.mark.parametrize(
    ("handshakes", "sessions"),
    [
        ([body(b"", 429, **{"Retry-After": "0"}), body(b"", 418)], [say(END)]),
        ([], [say('{"rate_limited": "too many"}'), say('{"rate_limited": "still"}'), say(END)]),
    ],
    ids=["handshake", "message"],
)
def test_who_is_rate_limited_says_so_and_waits(handshakes: list[web.Response], sessions: list[Session]) -> None:
    venue, told = Venue(sessions, handshakes=handshakes), Told()

    async def main() -> None:
        async with live(venue, told) as feed:
            await until(feed, END)

    asyncio.run(main())
    assert told.states == ["rate_limited", "reconnecting"] * 2 + ["connected"]


def test_a_venue_that_is_away_is_tried_until_it_is_back_with_rising_attempts() -> None:
    venue, told = Venue([say(END)]), Told()

    async def main() -> None:
        async with opened(venue):
            pass
        async with asyncio.timeout(PATIENCE_S):
            adapter, clock, rng = toy(venue.port), SystemClock(), SeededRng(1)
            http = VenueHttp(adapter, config(), clock=clock, rng=rng)
            feed = LiveFeed(adapter, config(), TOY, FIRST, http=http, clock=clock, rng=rng)
            feed.on_change = told
            try:
                await hold(feed, lambda: told.states.count("reconnecting") >= 4)
                async with opened(venue):
                    await until(feed, END)
            finally:
                await feed.aclose()

    asyncio.run(main())
    assert [attempt for state, _, _, attempt in told.changes if state == "reconnecting"][:4] == [1, 2, 3, 4]
    assert told.states[-1] == "connected"


def test_a_snapshot_is_asked_for_once_however_often_it_is_wanted_and_until_it_comes() -> None:
    def book(number: int) -> web.Response:
        bodies = {1: body(b"oops", 500), 2: body(b'{"error": "busy"}'), 3: body(frame("snapshot"))}
        return bodies.get(number, body(b"", 500))

    venue, told = Venue([keep_saying("depth", first=[frame("trade")])], {"/book": book}), Told()

    async def main() -> None:
        async with live(venue, told) as feed:
            await feed.request_snapshot()
            came = [(await take(feed)).raw]
            while came[-1] != frame("snapshot"):
                await feed.request_snapshot()
                came.append((await take(feed)).raw)
            assert came.index(frame("depth")) < came.index(frame("snapshot"))

    asyncio.run(main())
    assert venue.asked == ["/book"] * 3
    assert [attempt for state, _, _, attempt in told.changes if state == "resyncing"] == [1, 2, 3]
    assert "busy" in told.details("resyncing")[2]


@pytest.mark.parametrize(
    ("held_s", "attempts"), [(60.0, [1, 2, 3, 4]), (1e-9, [1, 1, 1, 1])], ids=["broke at once", "held"]
)
@pytest.mark.parametrize("by_stream", [False, True])
def test_books_that_break_at_once_are_asked_for_ever_later(
    held_s: float, attempts: list[int], *, by_stream: bool
) -> None:
    async def session(socket: web.WebSocketResponse, _: web.Request) -> None:
        seen = 0
        while True:
            for text in venue.told[seen:]:
                seen += 1
                gives = by_stream and text.startswith("+")
                await socket.send_str(frame("snapshot").decode() if gives else ACKNOWLEDGED)
            await socket.send_str(frame("depth").decode())
            await asyncio.sleep(0.005)

    venue, told = Venue([session], {"/book": lambda _: body(frame("snapshot"))}), Told()

    async def main() -> None:
        async with live(
            venue, told, settings=config(stable_after_s=held_s), resubscribe_for_snapshot=by_stream
        ) as feed:
            for _ in range(5 if by_stream else 4):
                await feed.request_snapshot()
                await until(feed, frame("snapshot"))

    asyncio.run(main())
    unasked = 1 if by_stream and held_s > 1 else 0  # the first book comes with the subscription
    told_attempts = [attempt for state, _, _, attempt in told.changes if state == "resyncing"]
    assert told_attempts == [attempt + unasked for attempt in attempts]


def test_a_book_is_lost_in_the_order_of_the_lines_when_its_connection_ends_and_asked_for_anew() -> None:
    async def drop(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(ACKNOWLEDGED)
        await happens(lambda: frame("snapshot", 1) in came)
        await _drop(socket, request)

    venue, told = Venue([drop, keep_saying("depth")], {"/book": lambda number: body(frame("snapshot", number))}), Told()
    came: list[bytes | str] = []

    async def main() -> None:
        async with live(venue, told, settings=config(book_begins_within_ms=20)) as feed:
            feed.on_book_lost = lambda _: came.append("lost")
            await feed.request_snapshot()
            while frame("snapshot", 2) not in came:
                came.append((await take(feed)).raw)

    asyncio.run(main())
    assert came[:1] == [FIRST.raw]
    assert came.count("lost") == 1
    assert came.index(frame("snapshot", 1)) < came.index("lost") < came.index(frame("snapshot", 2))


def test_a_connection_beside_that_of_the_order_book_takes_no_book_with_it() -> None:
    async def session(socket: web.WebSocketResponse, request: web.Request) -> None:
        if request.query_string == "trade" and not told.states.count("reconnecting"):
            await _drop(socket, request)
        await keep_saying("depth")(socket, request)

    venue, told, lost = Venue([session]), Told(), list[str]()

    def address(url: str, streams: Sequence[str]) -> str:
        return f"{url}?{streams[0]}"

    async def main() -> None:
        async with live(venue, told, apart=lambda stream: stream, address=address) as feed:
            feed.on_book_lost = lost.append
            await hold(feed, lambda: told.states.count("connected") == 3)

    asyncio.run(main())
    assert told.states.count("reconnecting") == 1
    assert lost == []


def test_on_a_quiet_market_a_snapshot_is_asked_for_without_waiting_for_updates() -> None:
    venue = Venue([say(ACKNOWLEDGED)], {"/book": lambda _: body(frame("snapshot"))})

    async def main() -> None:
        async with live(venue, Told(), settings=config(book_begins_within_ms=50)) as feed:
            await feed.request_snapshot()
            assert await until(feed, frame("snapshot")) == [FIRST.raw, frame("snapshot")]

    asyncio.run(main())


def test_a_refused_snapshot_ends_the_feed() -> None:
    venue, told = Venue([keep_saying("depth")], {"/book": lambda _: body(b"invalid symbol", 400)}), Told()

    async def main() -> None:
        async with live(venue, told) as feed:
            await feed.request_snapshot()
            with pytest.raises(Fatal, match="toy GET /book was answered 400: invalid symbol"):
                await until(feed, END)

    asyncio.run(main())
    assert "refused" in told.states


def test_where_the_book_comes_in_the_stream_it_is_subscribed_to_again() -> None:
    async def session(socket: web.WebSocketResponse, _: web.Request) -> None:
        seen = 0
        while True:
            for text in venue.told[seen:]:
                seen += 1
                if text.startswith("+"):
                    await socket.send_str(ACKNOWLEDGED)
                    await socket.send_str(frame("snapshot", seen).decode())
            await socket.send_str(frame("depth").decode())
            await asyncio.sleep(0.01)

    venue, told = Venue([session]), Told()

    async def main() -> None:
        async with live(venue, told, resubscribe_for_snapshot=True) as feed:
            await feed.request_snapshot()
            await until(feed, frame("snapshot", 1))
            await until(feed, frame("depth"))
            assert venue.told == ["+ 1 book trade"], "the first subscription gave it"
            await feed.request_snapshot()
            await feed.request_snapshot()
            await until(feed, frame("snapshot", 3))

    asyncio.run(main())
    assert venue.told == ["+ 1 book trade", "- 2 book", "+ 3 book"]
    assert told.states == ["connected", "resyncing"]


def test_when_the_websocket_is_silent_rest_takes_over_until_it_is_back() -> None:
    async def away_then_back(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(frame("depth", 1).decode())
        while venue.asked.count("/trades") < 3:
            await socket.send_str('{"pong": ""}')
            await asyncio.sleep(0.01)
        await keep_saying("trade")(socket, request)

    venue = Venue(
        [away_then_back],
        {
            "/book": lambda number: body(frame("snapshot", number)),
            "/trades": lambda number: web.Response(status=503) if number == 1 else body(b'{"k": "trade",\n"n": -1}'),
        },
    )
    told = Told()
    settings = config(silent_after_ms=150, fallback=FallbackConfig(poll_interval_ms=30), book_begins_within_ms=50)

    async def main() -> None:
        async with live(venue, told, settings=settings) as feed:
            came = await hold(feed, lambda: "returned" in told.states)
            polls = len(venue.asked)
            came += await hold(feed, lambda: "resyncing" in told.states)
            for _ in range(20):
                await take(feed)
            assert len(venue.asked) <= polls + 1, "polling has ended"
            assert came[:2] == [FIRST.raw, frame("depth", 1)]
            assert {frame("snapshot", 1), frame("snapshot", 2)} <= set(came)
            assert came.count(b'{"k": "trade", "n": -1}') == 1, "what the venue repeats is one line"

    asyncio.run(main())
    states = [(state, provider) for state, provider, _, _ in told.changes]
    assert states[:3] == [("connected", "websocket"), ("silent", "websocket"), ("fallback", "rest")]
    assert ("fallback", "rest") in states[3:], "a poll that fails says so"
    assert states.count(("returned", "websocket")) == 1


def test_without_a_fallback_silence_is_told_and_nothing_is_asked() -> None:
    async def pause(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(frame("depth").decode())
        await happens(lambda: "silent" in told.states)
        await keep_saying("trade")(socket, request)

    venue, told, lost = Venue([pause]), Told(), list[str]()
    settings = config(silent_after_ms=100, fallback=FallbackConfig(kind="none"))

    async def main() -> None:
        async with live(venue, told, settings=settings) as feed:
            feed.on_book_lost = lost.append
            await hold(feed, lambda: "returned" in told.states)

    asyncio.run(main())
    assert told.states == ["connected", "silent", "returned"]
    assert venue.asked == []
    assert lost == ["no market data for 100 ms"]


def test_no_book_is_asked_for_in_a_silence_that_nothing_stands_in_for_and_one_after_it() -> None:
    async def pause(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(frame("depth").decode())
        await happens(lambda: "silent" in told.states)
        await socket.send_str(END.decode())
        silences.append(len(venue.asked))
        await keep_saying("depth")(socket, request)

    venue, told, silences = Venue([pause], {"/book": lambda _: body(frame("snapshot"))}), Told(), list[int]()
    settings = config(silent_after_ms=100, fallback=FallbackConfig(kind="none"))

    async def main() -> None:
        async with live(venue, told, settings=settings) as feed:
            await until(feed, END)
            await feed.request_snapshot()
            await until(feed, frame("snapshot"))

    asyncio.run(main())
    assert silences == [0]
    assert told.states == ["connected", "silent", "returned", "resyncing"]


def test_garbage_and_frames_of_other_instruments_are_lines_but_no_sign_of_life() -> None:
    other = '{"k": "liquidation", "s": "OTHER"}'

    async def noise(socket: web.WebSocketResponse, _: web.Request) -> None:
        while True:
            await socket.send_str(other)
            await socket.send_str("garbage")
            await asyncio.sleep(0.01)

    venue, told = Venue([noise]), Told()
    settings = config(silent_after_ms=100, fallback=FallbackConfig(kind="none"))

    async def main() -> None:
        async with live(venue, told, settings=settings) as feed:
            came = await hold(feed, lambda: "silent" in told.states)
            assert {other.encode(), b"garbage"} < set(came)

    asyncio.run(main())


def test_a_polled_book_that_has_not_changed_comes_again_when_it_is_asked_for() -> None:
    venue = Venue([say(ACKNOWLEDGED)], {"/book": lambda _: body(frame("snapshot")), "/trades": lambda _: body(END)})
    settings = config(silent_after_ms=50, fallback=FallbackConfig(poll_interval_ms=20))

    async def main() -> None:
        async with live(venue, Told(), settings=settings) as feed:
            assert await until(feed, END) == [FIRST.raw, frame("snapshot"), END]
            polls = len(venue.asked)
            await happens(lambda: len(venue.asked) > polls + 3)
            await feed.request_snapshot()
            assert (await take(feed)).raw == frame("snapshot")

    asyncio.run(main())


def test_one_message_is_no_return() -> None:
    async def hiccup(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str(frame("depth").decode())
        await happens(lambda: "silent" in told.states)
        await socket.send_str(frame("depth", 2).decode())
        await asyncio.sleep(0.15)
        hiccups.append(list(told.states))
        await keep_saying("trade")(socket, request)

    hiccups: list[list[str]] = []
    venue, told = Venue([hiccup]), Told()
    settings = config(silent_after_ms=100, fallback=FallbackConfig(kind="none"))

    async def main() -> None:
        async with live(venue, told, settings=settings) as feed:
            await hold(feed, lambda: "returned" in told.states)

    asyncio.run(main())
    assert hiccups == [["connected", "silent"]]


def test_a_full_queue_lets_the_oldest_lines_go_counts_them_and_asks_for_a_snapshot() -> None:
    frames = [frame("depth", number) for number in range(100)]
    venue, told = Venue([say(*frames)], {"/book": lambda _: body(frame("snapshot"))}), Told()

    async def main() -> None:
        settings = config(queue_lines=32, book_begins_within_ms=50)
        async with live(venue, told, settings=settings) as feed:
            assert await feed.next_line() == FIRST
            await happens(lambda: "resyncing" in told.states)
            came = await until(feed, frame("snapshot"))
            assert feed.skipped == 100 - (len(came) - 1)
            assert came[:-1] == frames[feed.skipped :]
            assert 0 < len(came) <= 33

    asyncio.run(main())


def test_what_defines_the_instrument_and_the_loss_of_the_book_outlive_an_overflow() -> None:
    lines = LineQueue(16, SystemClock(), lambda: None)
    for number in range(40):
        lines.put(b"%d" % number, keep=number == 3)
        if number < 4:
            lines.put_loss("the connection ended")
    lost, *left = [lines.pop() for _ in range(len(lines))]
    assert lost == BookLost("the connection ended"), "it is told once"
    raw = [line.raw for line in left if isinstance(line, Line)]
    assert raw == [b"3", *(b"%d" % number for number in range(40 - len(left) + 1, 40))]
    assert lines.skipped == 40 - len(left)


def test_a_changed_definition_comes_as_a_line_once() -> None:
    changed = b'{"symbol": "TOY", "tick": 2}'

    def instrument(number: int) -> web.Response:
        return {1: body(FIRST.raw), 2: body(b"", 500), 3: body(b'{"symbol": "OTHER"}')}.get(number, body(changed))

    venue, told = Venue([keep_saying("trade")], {"/instrument": instrument}), Told()

    async def main() -> None:
        async with live(venue, told, settings=config(definition_every_s=0.02)) as feed:
            came = await hold(feed, lambda: len(venue.asked) > 7)
            assert came.count(changed) == 1
            assert came.count(FIRST.raw) == 1

    asyncio.run(main())
    assert [provider for state, provider, _, _ in told.changes if state == "refused"] == ["rest"]


def test_lines_that_are_written_down_are_read_again_as_they_were(tmp_path: Path) -> None:
    snapshot = b'{"k": "snapshot",\r\n "n": 1}'
    venue = Venue([keep_saying("depth")], {"/book": lambda _: body(snapshot)})
    lines: list[Line] = []

    async def main() -> None:
        async with live(venue, Told()) as feed:
            await feed.request_snapshot()
            lines.append(await take(feed))
            while b"snapshot" not in lines[-1].raw:
                lines.append(await take(feed))

    asyncio.run(main())
    path = tmp_path / "recording"
    path.write_bytes(b"".join(b"%d %s\n" % (line.recv_ns, line.raw) for line in lines))
    assert list(read_lines(path))[1:] == lines[1:]
    assert json.loads(lines[-1].raw) == json.loads(snapshot)


def test_closing_ends_the_feed_and_leaves_no_task() -> None:
    venue = Venue([keep_saying("trade")])

    async def main() -> None:
        async with live(venue, Told()) as feed:
            await until(feed, frame("trade", 3))
            waiting = asyncio.create_task(until(feed, b"never"))
            await feed.aclose()
            with pytest.raises(AssertionError):
                await waiting
            assert await feed.next_line() is None
            await feed.request_snapshot()
            assert not feed._tasks

    asyncio.run(main())


def test_an_instrument_is_defined_by_its_venue_or_refused_by_name() -> None:
    def instrument(number: int) -> web.Response:
        return body(b"", 503) if number == 1 else body(FIRST.raw)

    async def defined(symbol: str, **changes: object) -> tuple[InstrumentDefinition, Line]:
        async with asyncio.timeout(PATIENCE_S), opened(venue):
            settings = config(symbol=symbol, **changes)
            http = VenueHttp(toy(venue.port), settings, clock=SystemClock(), rng=SeededRng(1))
            try:
                return await define(toy(venue.port), settings, http, SystemClock())
            finally:
                await http.aclose()

    venue = Venue(answers={"/instrument": instrument})
    definition, line = asyncio.run(defined("TOY"))
    assert (definition, line.raw) == (TOY, FIRST.raw)
    assert line.recv_ns > 10**18
    with pytest.raises(BadInput, match="symbol was 'NONE', which toy does not define: other_symbol: no NONE"):
        asyncio.run(defined("NONE"))
    venue.answers["/instrument"] = lambda _: body(b'{"code": "51001", "msg": "Instrument ID does not exist"}')
    with pytest.raises(BadInput, match="symbol was 'TOY', which toy does not define: code 51001: Instrument ID"):
        asyncio.run(defined("TOY"))
    venue.answers["/instrument"] = lambda _: body(b"", 503)
    with pytest.raises(Recoverable, match=r"no good answer within 0.1 s: .* answered 503"):
        asyncio.run(defined("TOY", answer_within_s=0.1))


def test_an_answer_that_cannot_be_read_at_the_start_is_told_and_asked_for_again() -> None:
    def instrument(number: int) -> web.Response:
        bodies = {1: b"<html>502</html>", 2: b'{"retCode": 10006, "retMsg": "Too many visits!"}'}
        return body(bodies.get(number, FIRST.raw))

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S), opened(venue):
            adapter, clock = toy(venue.port), SystemClock()
            async with VenueHttp(adapter, config(), clock=clock, rng=SeededRng(1)) as http:
                definition, _ = await define(
                    adapter, config(), http, clock, lambda error, attempt: failures.append((str(error), attempt))
                )
                assert definition == TOY

    venue, failures = Venue(answers={"/instrument": instrument}), list[tuple[str, int]]()
    asyncio.run(main())
    assert [attempt for _, attempt in failures] == [1, 2]
    assert "cannot be read: bad_json" in failures[0][0]
    assert "Too many visits!" in failures[1][0]
