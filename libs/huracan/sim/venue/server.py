"""The venue server: three venues on one port of this machine, fed by simulated markets and recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec
from aiohttp import WSMsgType, web
from pydantic import ValidationError

from huracan.clock import MILLISECOND_NS, SystemClock
from huracan.errors import BadInput
from huracan.ports import Clock
from huracan.sim.exchange import Injected
from huracan.sim.told import Listing
from huracan.sim.venue.binance_usdm import BinanceUsdm, RecordedBoard
from huracan.sim.venue.board import TICK_NS, Board, Desk, Query, Route
from huracan.sim.venue.bybit import Bybit
from huracan.sim.venue.connection import NO_JSON, Connection
from huracan.sim.venue.market import Market
from huracan.sim.venue.misbehaviour import OF_CONNECTIONS, Channel, Command, Done, Kind, Misbehaviour, Misbehaviours
from huracan.sim.venue.okx import Okx
from huracan.sim.venue.recording import Recording

HOST: Final = "127.0.0.1"
GRAIN_NS: Final = 5 * MILLISECOND_NS
"""What is due within this of wall time is sent together: a wake-up costs more than a frame."""
AT_ONCE: Final = 64
"""Overdue events handled before clients have their turn."""
MESSAGE_BYTES: Final = 64 << 10
"""Longest message of a client."""
STOP_WITHIN_S: Final = 1.0
GOING_AWAY: Final = 1001

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class VenueServer:
    """Serve simulated markets and recordings as venues, and misbehave on command.

    Where event times are wall times (`on_wall_time`) everything is sent when it is due by the clock; else the first
    event of each source is due when the server starts, and time passes `speed` times as fast as the clock's. Frames
    follow from the sources and the commands alone. `patience` stretches the times after which venues ping and close.
    `injected` tells which anomalies the market has put in so far, for whoever asks. `repeats` is how many of the newest
    trades are sent first to whoever subscribes to them: 0 is what the simulated venues do.
    """

    def __init__(
        self,
        *,
        market: Market | None = None,
        recordings: Sequence[Recording] = (),
        port: int = 0,
        speed: float = 1.0,
        on_wall_time: bool = False,
        patience: float = 1.0,
        clock: Clock | None = None,
        injected: Callable[[], Sequence[Injected]] = tuple,
        repeats: int = 0,
    ) -> None:
        if speed <= 0 or (on_wall_time and speed != 1.0):
            raise BadInput(f"speed was {speed}; it is above 0, and 1 for markets whose event times are wall times")
        self._market = market
        self._injected = injected
        self._port = port
        self._speed = speed
        self._on_wall_time = on_wall_time
        self._patience = patience
        self._clock = clock or SystemClock()
        self._started_ns = 0
        self._wrong = Misbehaviours(self._clock)
        self._connections: dict[Connection, Desk] = {}
        self._opened = 0
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._usdm = BinanceUsdm()
        self._desks: dict[str, Desk] = {desk.token: desk for desk in (self._usdm, Okx(), Bybit())}
        self._boards: dict[str, Board] = {}
        if market is not None:
            for listing in market.listings:
                board = self._boards[listing.key] = self._desk(listing).add(listing, market)
                board.repeats = repeats
        self._recorded = [(recording, self._record(recording)) for recording in recordings]

    def _desk(self, listing: Listing) -> Desk:
        if listing.venue not in self._desks:
            raise BadInput(f"venue was {listing.venue!r}; use one of {', '.join(self._desks)}")
        return self._desks[listing.venue]

    def _record(self, recording: Recording) -> RecordedBoard:
        board = RecordedBoard(recording)
        if board.symbol in self._usdm.boards:
            raise BadInput(f"recording {recording.path.name}: {board.symbol} is there already; give one source for it")
        self._usdm.put(board)
        return board

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        assert self._runner is not None, "the server was started"
        return int(self._runner.addresses[0][1])

    @property
    def url(self) -> str:
        """Return where it is, for HTTP, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    @property
    def done(self) -> Sequence[Done]:
        """Return what was done wrong, oldest first."""
        return tuple(self._wrong.done)

    @property
    def connections(self) -> int:
        """Return how many websockets are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen and begin to play; raise BadInput when the port cannot be had."""
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=STOP_WITHIN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise BadInput(f"port was {self._port}, which cannot be had: {error.strerror}; choose another") from None
        self._started_ns = self._clock.now_ns()
        self._tasks = [asyncio.create_task(self._keep())]
        if self._market is not None:
            self._tasks.append(asyncio.create_task(self._play(self._market)))
        self._tasks += [asyncio.create_task(self._play_recording(*recorded)) for recorded in self._recorded]

    async def stop(self) -> None:
        """Close every connection and stop; raise what a source failed with."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.close(GOING_AWAY, "")
            connection.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()
        for failure in ended:
            if isinstance(failure, Exception):
                raise failure

    async def serve(self) -> None:
        """Wait for ever; raise what a source fails with."""
        await asyncio.gather(*self._tasks)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    def misbehave(self, what: Misbehaviour) -> int:
        """Do something wrong, from now on; return the command's number. Raise BadInput for what is not here."""
        desk = self._desks.get(what.venue)
        if desk is None:
            raise BadInput(f"venue was {what.venue!r}; use one of {', '.join(self._desks)}")
        if what.symbol is not None and what.symbol not in desk.boards:
            raise BadInput(f"symbol was {what.symbol!r}; {what.venue} has {', '.join(desk.boards) or 'none'}")
        command = self._wrong.begin(what)
        if what.kind in OF_CONNECTIONS:
            for connection, at in list(self._connections.items()):
                if at is desk:
                    self._afflict(connection, command)
            if command.until_ns is None:
                self._wrong.end(command)
        return command.number

    def behave(self) -> None:
        """End all misbehaviour. Connections that were left half open stay so."""
        self._wrong.end()

    def _afflict(self, connection: Connection, command: Command) -> None:
        if command.left != 0 and connection.is_about(command.what.symbol):
            connection.suffer(command)

    # what is told

    async def _play(self, market: Market) -> None:
        boards, next_tick_ns, origin_ns = list(self._boards.values()), 0, 0
        for number, told in enumerate(market.events()):
            if not number:
                origin_ns = told.at_ns
                next_tick_ns = (told.at_ns // TICK_NS + 1) * TICK_NS
            while next_tick_ns <= told.at_ns:
                await self._until(next_tick_ns, origin_ns)
                for board in boards:
                    board.tick(next_tick_ns)
                next_tick_ns += TICK_NS
            await self._until(told.at_ns, origin_ns)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            self._boards[told.listing].take(told)
        for _ in range(100):  # the last batch of every stream
            await self._until(next_tick_ns, origin_ns)
            for board in boards:
                board.tick(next_tick_ns)
            next_tick_ns += TICK_NS

    async def _play_recording(self, recording: Recording, board: RecordedBoard) -> None:
        origin_ns = 0
        for number, recorded in enumerate(recording.frames()):
            origin_ns = origin_ns or recorded.at_ns
            due_ns = self._started_ns + int((recorded.at_ns - origin_ns) / self._speed)
            await self._sleep(due_ns)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            board.play(recorded)

    async def _until(self, at_ns: int, origin_ns: int) -> None:
        if self._on_wall_time:
            await self._sleep(at_ns)
        else:
            await self._sleep(self._started_ns + int((at_ns - origin_ns) / self._speed))

    async def _sleep(self, due_ns: int) -> None:
        now_ns = self._clock.now_ns()
        if due_ns > now_ns:
            left_ns = -(-due_ns // GRAIN_NS) * GRAIN_NS - now_ns
            # in whole milliseconds, up: uvloop's timers round, and one that fires early would be set again and again
            await asyncio.sleep(-(-left_ns // MILLISECOND_NS) / 1_000)

    async def _keep(self) -> None:
        """Apply the venues' rules on idle connections."""
        every_s = min(max(0.02, self._patience), 1.0)
        while True:
            await asyncio.sleep(every_s)
            for connection, desk in list(self._connections.items()):
                connection.keep(desk.rules, self._patience)

    # what is asked

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/injected", self._truth)
        app.router.add_get("/control", self._listed)
        app.router.add_post("/control", self._commanded)
        app.router.add_delete("/control", self._pardoned)
        for token, desk in self._desks.items():
            for path in desk.websocket_paths:
                app.router.add_get(f"/{token}{path}", self._websocket(desk))
            for path, route in desk.routes().items():
                app.router.add_get(f"/{token}{path}", self._rest(desk, route))
        return app

    async def _ready(self, _: web.Request) -> web.Response:
        failed = any(task.done() and not task.cancelled() and task.exception() for task in self._tasks)
        symbols = {token: list(desk.boards) for token, desk in self._desks.items()}
        return web.json_response(symbols, status=503 if failed else 200)

    async def _truth(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._injected()), content_type="application/json")

    async def _listed(self, _: web.Request) -> web.Response:
        listed = {
            "under_way": [
                {"command": command.number, "left": command.left, **command.what.model_dump(mode="json")}
                for command in self._wrong.under_way()
            ],
            "done": list(self._wrong.done),
        }
        return web.Response(body=msgspec.json.encode(listed), content_type="application/json")

    async def _commanded(self, request: web.Request) -> web.Response:
        try:
            number = self.misbehave(Misbehaviour.model_validate_json(await request.read()))
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            return web.json_response({"error": "; ".join(faults)}, status=400)
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"command": number})

    async def _pardoned(self, _: web.Request) -> web.Response:
        self.behave()
        return web.json_response({})

    def _rest(self, desk: Desk, route: Route) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            symbol = _symbol(request.query)
            refused = self._take(desk, Kind.REFUSE, symbol, Channel.REST, request.path)
            if refused is not None:
                return _reset(request)
            delayed = self._take(desk, Kind.DELAY, symbol, Channel.REST, request.path)
            if delayed is not None:
                await asyncio.sleep(delayed.what.delay_s)
            limited = self._take(desk, Kind.RATE_LIMIT, symbol, Channel.REST, request.path)
            if limited is not None:
                after = {"Retry-After": str(limited.what.retry_after_s)}
                return web.Response(body=desk.too_many(), status=429, headers=after, content_type="application/json")
            if self._take(desk, Kind.GARBAGE, symbol, Channel.REST, request.path) is not None:
                return web.Response(body=NO_JSON, content_type="text/html")
            told = route(request.query)
            body = told.body
            if told.stale is not None and self._take(desk, Kind.STALE_SNAPSHOT, symbol, Channel.REST, request.path):
                body = told.stale
            headers = desk.headers(told.weight, self._clock.now_ns())
            return web.Response(body=body, status=told.status, headers=headers, content_type="application/json")

        return answer

    def _take(self, desk: Desk, kind: Kind, symbol: str | None, channel: Channel | None, of: str) -> Command | None:
        """Carry out the oldest command of a kind that is about this request."""
        for command in self._wrong.of(desk.token, frozenset({kind}), symbol, channel):
            self._wrong.take(command, symbol, channel, of)
            return command
        return None

    def _websocket(self, desk: Desk) -> Handler:
        async def talk(request: web.Request) -> web.StreamResponse:
            if self._take(desk, Kind.REFUSE, None, None, request.path) is not None:
                return _reset(request)
            # Pongs and closes are written by the connection: what misbehaviour holds back must not be overtaken.
            socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=MESSAGE_BYTES)
            await socket.prepare(request)
            transport = request.transport
            if transport is None:
                return socket
            self._opened += 1
            connection = Connection(desk.token, self._opened, transport, self._wrong)
            self._connections[connection] = desk
            try:
                desk.opened(connection, request.query)
                await self._converse(desk, connection, socket)
            finally:
                del self._connections[connection]
                desk.left(connection)
                connection.hang_up()
            return socket

        return talk

    async def _converse(self, desk: Desk, connection: Connection, socket: web.WebSocketResponse) -> None:
        self._afflict_newcomer(desk, connection)
        async for message in socket:
            if connection.half_open or connection.closing:
                continue
            match message.type:
                case WSMsgType.TEXT if connection.heard(desk.rules):
                    desk.heard(connection, message.data, limited=lambda: self._limited(desk))
                    self._afflict_newcomer(desk, connection)
                case WSMsgType.PING:
                    connection.active_s = asyncio.get_running_loop().time()
                    connection.pong(message.data)
                case WSMsgType.PONG:
                    connection.ponged()
        if not connection.half_open:
            connection.close(socket.close_code or 1000, "")

    def _limited(self, desk: Desk) -> bool:
        return self._take(desk, Kind.RATE_LIMIT, None, None, "request") is not None

    def _afflict_newcomer(self, desk: Desk, connection: Connection) -> None:
        for command in self._lasting(desk):
            self._afflict(connection, command)

    def _lasting(self, desk: Desk) -> Iterator[Command]:
        if not self._wrong.quiet(desk.token):
            for command in self._wrong.under_way():
                if command.what.venue == desk.token and command.what.kind in OF_CONNECTIONS:
                    yield command


def _symbol(query: Query) -> str | None:
    return query.get("symbol") or query.get("instId")


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
