"""The live feed of one instrument: connected, watched, and brought back, whatever the venue does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from huracan.contracts.market import Bar, InstrumentDefinition
from huracan.contracts.ops import FeedState
from huracan.errors import BadInput, Fatal, Recoverable
from huracan.ports import Clock, Rng
from huracan_gateway.adapter import Adapter, Request
from huracan_gateway.feed import OnChange
from huracan_gateway.live.codes import Meaning, error_in
from huracan_gateway.live.config import LiveConfig
from huracan_gateway.live.http import OnFailure, RateLimited, VenueHttp, retries
from huracan_gateway.live.lines import LineQueue, one_line
from huracan_gateway.live.websocket import Connection
from huracan_gateway.recording import Line
from huracan_gateway.reject import Reason, Rejected

WEBSOCKET = "websocket"
REST = "rest"
LINES_AT_ONCE = 64
"""Lines handed out before other tasks have their turn."""
_RENEWED_AT = (0.9, 0.98)
"""Share of the longest life of a connection after which it is renewed; drawn, so that not all feeds do it at once."""
_SHOWN_BYTES = 160
_BOOK = "order book"


async def define(
    adapter: Adapter, config: LiveConfig, http: VenueHttp, clock: Clock, failed: OnFailure | None = None
) -> tuple[InstrumentDefinition, Line]:
    """Return the configured instrument's definition, and the frame that says it, which goes out first.

    Raises BadInput for a symbol that the venue does not list or that is of no kind read here, Fatal when it refuses,
    and Recoverable when it gives no answer in time that can be read; with `failed`, which hears of each failure, it has
    all the time there is.
    """
    request = _asked(adapter, config)
    raw, definition = await http.until_read(request, lambda body: _defined(adapter, config, body), failed)
    return definition, Line(clock.now_ns(), raw)


def _asked(adapter: Adapter, config: LiveConfig) -> Request:
    try:
        return adapter.http.instruments(config.symbol)
    except Rejected as error:
        raise _undefined(adapter, config, str(error)) from None


def _undefined(adapter: Adapter, config: LiveConfig, why: str) -> BadInput:
    return BadInput(f"symbol was {config.symbol!r}, which {adapter.venue} does not define: {why}")


def _defined(adapter: Adapter, config: LiveConfig, body: bytes) -> tuple[bytes, InstrumentDefinition]:
    """Return what an answer says of the instrument; raise BadInput when it says that there is none.

    One that cannot be read at all is Recoverable: a proxy's page, or an error of the moment.
    """
    match error_in(body):
        case Meaning.NO_SUCH_INSTRUMENT, text:
            raise _undefined(adapter, config, text)
    try:
        raw = one_line(adapter.http.instrument(body, config.symbol))
    except Rejected as error:
        if error.reason is Reason.OTHER_SYMBOL:
            raise _undefined(adapter, config, str(error)) from None
        raise Recoverable(f"{adapter.venue} {config.symbol}: the answer cannot be read: {error}") from None
    try:
        definition = adapter.defines(raw)
    except Rejected as error:  # it is listed, and is of a kind that is not read here
        raise _undefined(adapter, config, str(error)) from None
    if definition is None:
        raise Fatal(f"{adapter.venue} {config.symbol}: the adapter does not read the frame that it cut out")
    return raw, definition


class LiveFeed:
    """Frames of one instrument from its venue, answers to requests among them, stamped as they arrive.

    It connects when `next_line` is first awaited. What it needs, it takes over: `aclose` closes the client too. All
    that changes state is a line, so lines that are written down replay to the same.
    """

    def __init__(
        self,
        adapter: Adapter,
        config: LiveConfig,
        definition: InstrumentDefinition,
        first: Line,
        *,
        http: VenueHttp,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self.adapter = adapter
        self.definition = definition
        self.bars: Sequence[Bar] = ()
        """Bars from before, to warm windows with, where whoever opened the feed has asked for them."""
        self.without_bars = ""
        """Why they were asked for in vain; empty: they were not."""
        self.on_change: OnChange = _unheard
        self.on_book_lost: Callable[[str], None] = _nothing
        """Called with why, in the order of the lines, when updates of the order book no longer come."""
        self._config = config
        self._http = http
        self._clock = clock
        self._rng = rng
        self._name = f"{adapter.venue} {config.symbol}"
        self._lines = LineQueue(config.queue_lines, clock, self._want_snapshot)
        self._lines.put(first.raw, keep=True, recv_ns=first.recv_ns)
        self._instrument_frame = first.raw
        self._decoder = adapter.decoder(definition)
        self._handed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = False
        self._closed = False
        self._failure: BaseException | None = None
        self._connection: Connection | None = None
        self._open = asyncio.Event()
        self._data_came = asyncio.Event()
        self._data_s = 0.0
        self._run_since_s: float | None = None
        self._silent = False
        self._snapshot_wanted = False
        self._resync: asyncio.Task[None] | None = None
        self._updates_came = asyncio.Event()
        self._snapshot_came = asyncio.Event()
        self._one_book = asyncio.Lock()
        self._book_backoff = retries(config, rng, f"{self._name}.snapshot")
        self._book_s: float | None = None
        self._poll: asyncio.Task[None] | None = None
        self._polled: dict[str, bytes] = {}

    @property
    def skipped(self) -> int:
        """Return how many lines went because the gateway was behind."""
        return self._lines.skipped

    @property
    def oldest_ns(self) -> int | None:
        """Return the receive time of the oldest line that waits; None where none does."""
        return self._lines.oldest_ns

    async def next_line(self) -> Line | None:
        """Wait for the next line; None once closed. Raises Fatal when the venue refuses the instrument for good."""
        self._begin()
        self._handed += 1
        if self._handed % LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
        while True:
            while not self._lines:
                if self._failure is not None:
                    raise self._failure
                if self._closed:
                    return None
                await self._lines.wait()
            line = self._lines.pop()
            if isinstance(line, Line):
                return line
            self.on_book_lost(line.why)

    async def request_snapshot(self) -> None:
        """Have the order book sent as a line once it is there. Asked again before that, nothing more is done."""
        self._want_snapshot()

    async def aclose(self) -> None:
        """Close every connection and end every task; lines that wait can still be taken."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()
        self._lines.wake()

    def _begin(self) -> None:
        if self._begun or self._closed:
            return
        self._begun = True
        self._http.on_limited = lambda text: self._tell(FeedState.FEED_STATE_RATE_LIMITED, REST, text)
        self._data_s = asyncio.get_running_loop().time()
        for streams in self._apart():
            self._spawn(self._stay_connected(streams))
        self._spawn(self._stand_in_when_silent())
        if self._config.definition_every_s:
            self._spawn(self._look_for_redefinition(self._config.definition_every_s))
        if self._snapshot_wanted:
            self._want_snapshot()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._lines.wake()
            for other in self._tasks:
                other.cancel()

    def _tell(self, state: FeedState, provider: str, detail: str, attempt: int = 0) -> None:
        self.on_change(state, provider, detail, attempt)

    # The connection

    def _apart(self) -> list[list[str]]:
        """Return the streams of each connection."""
        spec = self.adapter.websocket
        groups: dict[str, list[str]] = {}
        for stream in spec.streams(self.definition):
            groups.setdefault(spec.apart(stream), []).append(stream)
        return list(groups.values())

    async def _stay_connected(self, streams: Sequence[str]) -> None:
        """Connect, again and again, until refused for good."""
        config, loop = self._config, asyncio.get_running_loop()
        backoff = retries(config, self._rng, f"{self._name}.connect")
        random = self._rng.stream(f"{self._name}.renewal")
        while True:
            connection = self._new_connection(streams, random.uniform(*_RENEWED_AT))
            lost = await self._end_of(connection, carries_book=self._carries_book(streams))
            if self._carries_book(streams) and connection.opened_s is not None:
                self._lines.put_loss(str(lost))
                self._want_snapshot()  # what the next one carries does not continue this
            if connection.opened_s is not None and loop.time() - connection.opened_s >= config.stable_after_s:
                backoff.reset()
            if isinstance(lost, RateLimited):
                self._tell(FeedState.FEED_STATE_RATE_LIMITED, WEBSOCKET, f"{lost}; next try in {lost.pause_s:g} s")
            self._tell(FeedState.FEED_STATE_RECONNECTING, WEBSOCKET, str(lost), backoff.failures + 1)
            if isinstance(lost, RateLimited):
                await asyncio.sleep(lost.pause_s)
            await backoff.wait()

    def _carries_book(self, streams: Sequence[str]) -> bool:
        return self.adapter.websocket.book_stream(self.definition) in streams

    def _new_connection(self, streams: Sequence[str], lasts: float) -> Connection:
        """Return a connection; that of the order book is the one whose silence is the feed's."""
        spec, carries_book = self.adapter.websocket, self._carries_book(streams)
        return Connection(
            spec,
            self._config,
            streams,
            clock=self._clock,
            lasts_s=lasts * spec.longest_s,
            opened=self._opened if carries_book else self._opened_beside,
            heard=self._heard if carries_book else self._lines.put,
        )

    async def _end_of(self, connection: Connection, *, carries_book: bool) -> Recoverable:
        if carries_book:
            self._connection = connection
        try:
            await connection.run()
        except Recoverable as lost:
            return lost
        except Fatal as refused:
            self._tell(FeedState.FEED_STATE_REFUSED, WEBSOCKET, str(refused))
            raise
        finally:
            if carries_book:
                self._connection = None
                self._run_since_s = None
                self._open.clear()
                self._updates_came.clear()

    def _opened_beside(self) -> None:
        self._tell(FeedState.FEED_STATE_CONNECTED, WEBSOCKET, f"{self._name}, beside the order book")

    def _opened(self) -> None:
        self._open.set()
        self._tell(FeedState.FEED_STATE_CONNECTED, WEBSOCKET, self._name)

    def _heard(self, raw: bytes) -> None:
        self._lines.put(raw)
        if not self._is_ours(raw):
            return
        now_s = asyncio.get_running_loop().time()
        if self._run_since_s is None or now_s - self._data_s > self._silent_after_s:
            self._run_since_s = now_s
        self._data_s = now_s
        self._data_came.set()
        if self._snapshot_wanted:
            match self._kind(raw):
                case "depth":
                    self._updates_came.set()
                case "snapshot":
                    self._answered()

    def _is_ours(self, raw: bytes) -> bool:
        """Whether a frame shows that the instrument is alive: liquidations of others, or garbage, do not."""
        try:
            return self.adapter.symbol_of(raw) == self.definition.venue_symbol
        except Rejected:
            return False

    def _kind(self, raw: bytes) -> str | None:
        try:
            return self._decoder.decode(raw)[0]
        except Rejected:
            return None

    # The order book

    def _want_snapshot(self) -> None:
        """Ask for the order book, unless it is being asked for or polled, or there are no updates to continue it."""
        self._snapshot_wanted = True
        self._polled.pop(_BOOK, None)
        if self._begun and not self._closed and self._resync is None and not self._silent:
            by_stream = self.adapter.websocket.resubscribe_for_snapshot
            self._resync = self._spawn(self._ask_by_stream() if by_stream else self._ask_by_request())

    def _answered(self) -> None:
        """Let the next request be one of its own, from the moment the answer can be taken."""
        self._resync, self._snapshot_wanted = None, False
        self._book_s = asyncio.get_running_loop().time()
        self._snapshot_came.set()

    async def _space_out(self) -> None:
        """Wait before a book is asked for after one that did not hold: that may be stale again, or be refused."""
        if self._book_s is None:
            return
        if asyncio.get_running_loop().time() - self._book_s >= self._config.stable_after_s:
            self._book_backoff.reset()
        else:
            await self._book_backoff.wait()

    async def _ask_by_request(self) -> None:
        await self._space_out()
        backoff, why = self._book_backoff, "the order book is asked for"
        while self._resync is asyncio.current_task():  # else the stream gave one meanwhile
            connection = await self._with_updates()
            self._tell(FeedState.FEED_STATE_RESYNCING, REST, why, backoff.failures + 1)
            try:
                book = await self._book()
            except Recoverable as error:
                why = str(error)
                await backoff.wait()
            except Fatal as refused:
                self._tell(FeedState.FEED_STATE_REFUSED, REST, str(refused))
                raise
            else:
                if connection is self._connection and self._open.is_set():
                    self._lines.put(book)
                    self._answered()
                    return
                why = "the connection was lost meanwhile"

    async def _with_updates(self) -> Connection | None:
        """Return the connection that updates come on; one on which there are none yet, on a quiet market."""
        await self._open.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.book_begins_within_ms / 1_000):
                await self._updates_came.wait()
        return self._connection

    async def _ask_by_stream(self) -> None:
        """Subscribe again until a snapshot comes; that of a connection which is about to open will do."""
        stream, attempt = self.adapter.websocket.book_stream(self.definition), 0
        came = self._snapshot_came = asyncio.Event()
        await self._space_out()
        while not came.is_set():
            if self._connection is not None and self._open.is_set():
                attempt += 1
                tries = self._book_backoff.failures + attempt
                self._tell(FeedState.FEED_STATE_RESYNCING, WEBSOCKET, f"{stream} is subscribed to again", tries)
                with suppress(Recoverable):  # whoever reads the connection finds it broken too
                    await self._connection.resubscribe(stream)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.snapshot_within_ms / 1_000):
                    await came.wait()

    async def _book(self) -> bytes:
        """Return the venue's order book, asked for by one at a time; raise Recoverable for an answer that is none."""
        async with self._one_book:
            body = await self._http.get(self.adapter.http.snapshot(self.definition))
        try:
            levels = self.adapter.levels(body)
        except Rejected as error:
            raise Recoverable(f"{self._name}: the order book cannot be read: {error}") from None
        if levels is None:
            raise Recoverable(f"{self._name}: asked for the order book, the venue said {body[:_SHOWN_BYTES]!r}")
        return body

    # Silence

    async def _stand_in_when_silent(self) -> None:
        fallback = self._config.fallback
        while True:
            await self._silence()
            self._run_since_s = None
            self._lose_book_in_silence()
            silent_ms = self._config.silent_after_ms
            self._tell(FeedState.FEED_STATE_SILENT, WEBSOCKET, f"no market data for {silent_ms} ms")
            if fallback.kind == "rest":
                every_ms = fallback.poll_interval_ms
                self._tell(FeedState.FEED_STATE_FALLBACK, REST, f"order book and trades, every {every_ms} ms")
                self._poll = self._spawn(self._poll_every(every_ms / 1_000))
            await self._return_of_data()
            self._silent = False
            self._tell(FeedState.FEED_STATE_RETURNED, WEBSOCKET, f"market data for {self._config.calm_ms} ms")
            if self._poll is not None:
                self._poll.cancel()
                self._poll = None
                self._snapshot_wanted = True  # updates do not continue what was polled
            if self._snapshot_wanted:
                self._want_snapshot()

    def _lose_book_in_silence(self) -> None:
        """Drop the book, and ask for none that nothing would keep up to date."""
        self._silent = self._snapshot_wanted = True
        self._lines.put_loss(f"no market data for {self._config.silent_after_ms} ms")
        if self._resync is not None:
            self._resync.cancel()
            self._resync = None

    @property
    def _silent_after_s(self) -> float:
        return self._config.silent_after_ms / 1_000

    async def _silence(self) -> None:
        time = asyncio.get_running_loop().time
        while (left_s := self._data_s + self._silent_after_s - time()) > 0:  # noqa: ASYNC110 - data puts it off
            await asyncio.sleep(left_s)

    async def _return_of_data(self) -> None:
        """Return once data has come for the calm time, without silence and on one connection."""
        while self._run_since_s is None or self._data_s - self._run_since_s < self._config.calm_ms / 1_000:
            self._data_came.clear()
            await self._data_came.wait()

    async def _poll_every(self, interval_s: float) -> None:
        """Put order books and trades into the lines, each once, however often the venue repeats it."""
        time, trades = asyncio.get_running_loop().time, self.adapter.http.trades(self.definition)
        ask: dict[str, Callable[[], Awaitable[bytes]]] = {
            _BOOK: self._book,
            "trades": lambda: self._http.get(trades),
        }
        while True:
            next_s = time() + interval_s
            for what, answer in ask.items():
                try:
                    body = await answer()
                except Recoverable as error:
                    self._tell(FeedState.FEED_STATE_FALLBACK, REST, f"{what}: {error}")
                    continue
                except Fatal as refused:
                    self._tell(FeedState.FEED_STATE_REFUSED, REST, str(refused))
                    return
                if self._polled.get(what) != body:
                    self._polled[what] = body
                    self._lines.put(body)
            await asyncio.sleep(max(next_s - time(), 0))

    # The definition

    async def _look_for_redefinition(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                body = await self._http.until_answered(self.adapter.http.instruments(self._config.symbol))
                raw, definition = _defined(self.adapter, self._config, body)
            except Recoverable:
                continue  # the next one will do
            except Fatal as refused:
                self._tell(FeedState.FEED_STATE_REFUSED, REST, f"{self._name}: its definition: {refused}")
                continue
            if raw != self._instrument_frame:
                self._instrument_frame = raw
                self._decoder = self.adapter.decoder(definition)
                self._lines.put(raw, keep=True)


def _unheard(_state: FeedState, _provider: str, _detail: str, _attempt: int) -> None: ...


def _nothing(_why: str) -> None: ...
