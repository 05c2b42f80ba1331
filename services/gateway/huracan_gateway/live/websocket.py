"""One connection to a venue's public stream, from the handshake to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal, NoReturn, cast

import aiohttp
from aiohttp import WSMsgType

from huracan.errors import Fatal, HuracanError, Recoverable
from huracan.ports import Clock
from huracan_gateway.adapter import Control, Websocket
from huracan_gateway.live.config import LiveConfig
from huracan_gateway.live.http import RateLimited, refusal, said
from huracan_gateway.live.limits import TokenBucket
from huracan_gateway.reject import Rejected

_CLOSE_TIMEOUT_S = 0.1
"""Longest wait for the answer to a close frame: what counts is the next connection."""


class _Socket(aiohttp.ClientWebSocketResponse[bool]):
    def abandon(self) -> None:
        """Close the connection under it at once: the other side may be gone."""
        self._response.close()


_SOCKET = cast("type[aiohttp.ClientWebSocketResponse[Literal[True]]]", _Socket)  # as the session declares it


class Connection:
    """Connect, subscribe, keep alive, and hand on market data until the end."""

    def __init__(
        self,
        spec: Websocket,
        config: LiveConfig,
        streams: Sequence[str],
        *,
        clock: Clock,
        lasts_s: float,
        opened: Callable[[], None],
        heard: Callable[[bytes], None],
    ) -> None:
        self.opened_s: float | None = None
        """Loop time at which the venue took a subscription, or data came; None before."""
        self._spec = spec
        self._config = config
        self._streams = streams
        self._clock = clock
        self._lasts_s = lasts_s
        self._opened = opened
        self._heard = heard
        self._name = f"{config.venue} {config.symbol}"
        self._messages = TokenBucket(clock, per_s=spec.messages_per_s, burst=max(spec.messages_per_s, 1.0))
        self._time = asyncio.get_running_loop().time
        self._socket: _Socket | None = None
        self._message_s = self._data_s = self._began_s = self._time()
        self._requests = 0

    async def run(self) -> NoReturn:
        """Run to the end, which is an error: Recoverable (RateLimited among them), or Fatal when refused for good."""
        async with aiohttp.ClientSession(ws_response_class=_SOCKET) as session:
            self._socket = socket = await self._connect(session)
            self._message_s = self._data_s = self._began_s = self._time()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._send(lambda number: self._spec.subscribe(self._streams, number)))
                    tasks.create_task(self._watch())
                    if self._spec.ping is not None:
                        tasks.create_task(self._beat(self._spec.ping))
                    await self._read(socket)
            except ExceptionGroup as group:
                raise _worst(group) from None
            finally:
                self._socket = None
                socket.abandon()
        raise AssertionError("reading ends with an error")

    async def resubscribe(self, stream: str) -> None:
        """Leave a stream and join it again; nothing happens while there is no connection."""
        await self._send(lambda number: self._spec.unsubscribe([stream], number))
        await self._send(lambda number: self._spec.subscribe([stream], number))

    async def _connect(self, session: aiohttp.ClientSession) -> _Socket:
        address = self._spec.address(self._config.websocket_url or self._spec.url, self._streams)
        within_s = self._config.connect_timeout_s
        try:
            async with asyncio.timeout(within_s):
                socket = await session.ws_connect(
                    address,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT_S),
                    autoping=False,  # pings are signs of life, to be seen here
                    max_msg_size=self._spec.max_frame_bytes,
                    decode_text=False,
                )
                assert isinstance(socket, _Socket)
                return socket
        except TimeoutError:
            raise Recoverable(f"{self._name}: no handshake within {within_s:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            raise refusal(
                f"{self._name}: the handshake",
                error.status,
                error.headers or {},
                error.message,
                config=self._config,
                now_ns=self._clock.now_ns(),
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Recoverable(f"{self._name}: no connection: {said(error)}") from None

    async def _read(self, socket: _Socket) -> NoReturn:
        while True:
            message = await socket.receive()
            self._message_s = self._time()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self._take(message.data)
                case WSMsgType.PING:
                    await self._write(socket, WSMsgType.PONG, message.data)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.ERROR:
                    raise Recoverable(f"{self._name}: the connection broke: {message.data or socket.exception()}")
                case _:
                    said = f": {message.extra}" if message.extra else ""
                    raise Recoverable(f"{self._name}: the venue closed with code {socket.close_code}{said}")

    def _take(self, raw: bytes) -> None:
        control = self._control(raw)
        if control is None:
            self._data_s = self._message_s
            self._is_open()
            self._heard(raw)
            return
        match control:
            case Control.ACKNOWLEDGED, _:
                self._is_open()
            case Control.REFUSED, text:
                raise Fatal(f"{self._name}: the venue refused a subscription: {text}; check symbol and venue")
            case Control.RATE_LIMITED, text:
                raise RateLimited(f"{self._name}: rate limited: {text}", self._config.rate_limited_pause_s)
            case Control.RECONNECT, text:
                raise Recoverable(f"{self._name}: the venue asks for a new connection: {text}")

    def _control(self, raw: bytes) -> tuple[Control, str] | None:
        try:
            return self._spec.control(raw)
        except Rejected:
            return None  # the gateway refuses it by name

    def _is_open(self) -> None:
        if self.opened_s is None:
            self.opened_s = self._time()
            self._opened()

    async def _watch(self) -> NoReturn:
        """Raise when the connection is dead, mute, or old enough to be renewed."""
        silent_s = self._spec.silent_after_s
        muted_s = max(self._config.muted_after_s, silent_s)
        while True:
            due_s, why = min(
                (self._message_s + silent_s, f"no message for {silent_s:g} s"),
                (self._data_s + muted_s, f"no market data for {muted_s:g} s"),
                (self._began_s + self._lasts_s, f"renewed after {self._lasts_s:.0f} s, before the venue closes it"),
            )
            if due_s <= self._time():
                raise Recoverable(f"{self._name}: {why}")
            await asyncio.sleep(due_s - self._time())

    async def _beat(self, ping: bytes) -> NoReturn:
        while True:
            await asyncio.sleep(self._spec.ping_every_s)
            await self._send(lambda _: [ping])

    async def _send(self, texts: Callable[[int], Sequence[bytes]]) -> None:
        self._requests += 1
        for text in texts(self._requests):
            await self._messages.take()
            if self._socket is not None:
                await self._write(self._socket, WSMsgType.TEXT, text)

    async def _write(self, socket: _Socket, kind: WSMsgType, payload: bytes) -> None:
        try:
            await socket.send_frame(payload, kind)
        except (aiohttp.ClientError, OSError) as error:
            raise Recoverable(f"{self._name}: the connection broke: {said(error)}") from None


def _worst(group: ExceptionGroup[Exception]) -> Exception:
    """Return a bug before what is fatal, before what can be tried again."""
    errors: list[Exception] = [error for error in group.exceptions if not isinstance(error, HuracanError)]
    if errors:
        return group
    return next((error for error in group.exceptions if isinstance(error, Fatal)), group.exceptions[0])
