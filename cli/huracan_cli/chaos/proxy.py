"""A network that fails on command: a TCP proxy which delays, swallows, cuts and refuses what goes through it.

Everything goes through it in the order in which it came, and nothing is changed. What a client sent before it died
arrives nevertheless, as from the buffers of a real network: late, and with the end of the connection after it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum

from huracan.errors import BadInput

HOST = "127.0.0.1"
CHUNK_BYTES = 64 << 10
"""Bytes that pass at once; while they are late no others of their connection and direction do."""
CONNECT_WITHIN_S = 5.0
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Trouble(StrEnum):
    """What a network does."""

    DELAY = "delay"
    """All that passes is late."""
    CUT = "cut"
    """Every connection is reset, and new ones are refused for a while."""
    PARTITION = "partition"
    """Nothing passes, and nobody is told: connections stay, and what was sent comes afterwards."""
    MUTE = "mute"
    """What clients say passes, what they are answered does not; then every connection is reset and answers are lost."""


class FaultProxy:
    """One port in front of another. Troubles last until they are ended; of several all are in force."""

    def __init__(self, name: str, upstream_port: int) -> None:
        """`upstream_port` is of 127.0.0.1; nobody needs to listen there yet."""
        self.name = name
        self.port = 0
        """Where clients connect, once started."""
        self.passed_bytes = 0
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._delays_s: list[float] = []
        self._refusing = 0
        self._held = 0
        self._muted = 0
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and reset every connection."""
        if self._server is not None:
            self._server.close()
        lines = list(self._lines)
        self._reset()
        await asyncio.gather(*lines, return_exceptions=True)

    async def trouble(self, kind: Trouble, lasts_s: float, *, delay_s: float = 0.0) -> None:
        """Make trouble for so long, and return when it is over; `delay_s` is of a delay."""
        if lasts_s <= 0:
            raise BadInput(f"lasts_s was {lasts_s}; trouble takes more than 0 s")
        await _MAKE[kind](self, lasts_s, delay_s)

    async def _delay(self, lasts_s: float, delay_s: float) -> None:
        self._delays_s.append(delay_s)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self._delays_s.remove(delay_s)

    async def _cut(self, lasts_s: float, _delay_s: float) -> None:
        self._refusing += 1
        self._reset()
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self._refusing -= 1

    async def _partition(self, lasts_s: float, _delay_s: float) -> None:
        self._held += 1
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self._held -= 1
            self._tell()

    async def _mute(self, lasts_s: float, _delay_s: float) -> None:
        self._muted += 1
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self._reset()
            self._muted -= 1
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _reset(self) -> None:
        for task, writers in list(self._lines.items()):
            task.cancel()
            for writer in writers:
                _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines[task] = (writer,)
        end = _abort
        try:
            if not self._refusing:
                await self._pass_on(task, reader, writer)
                end = _close
        except (OSError, TimeoutError):
            pass  # nobody is there, which the client is told by the reset
        except asyncio.CancelledError:
            pass  # it was cut
        finally:
            for open_writer in self._lines.pop(task):
                end(open_writer)

    async def _pass_on(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes both ways until the server has no more to say."""
        while self._held:
            await self._changed.wait()
        async with asyncio.timeout(CONNECT_WITHIN_S):
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._upstream_port)
        self._lines[task] = (writer, upstream_writer)
        said = asyncio.create_task(self._pump(reader, upstream_writer, answers=False))
        answered = asyncio.create_task(self._pump(upstream_reader, writer, answers=True))
        try:
            await asyncio.wait({answered})
        finally:
            for pump in (said, answered):
                pump.cancel()
            await asyncio.gather(said, answered, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        """Pass bytes on to their end, and then the end."""
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self._delays_s:
                    await asyncio.sleep(max(self._delays_s))
                while self._held or (answers and self._muted):
                    await self._changed.wait()
                writer.write(data)
                await writer.drain()
                self.passed_bytes += len(data)
        if not writer.transport.is_closing():
            with suppress(OSError):
                writer.write_eof()


_MAKE: dict[Trouble, Callable[[FaultProxy, float, float], Awaitable[None]]] = {
    Trouble.DELAY: FaultProxy._delay,  # noqa: SLF001 - its own
    Trouble.CUT: FaultProxy._cut,  # noqa: SLF001
    Trouble.PARTITION: FaultProxy._partition,  # noqa: SLF001
    Trouble.MUTE: FaultProxy._mute,  # noqa: SLF001
}


def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side sees a reset, and not an end."""
    if writer.transport.is_closing():
        return
    with suppress(OSError):
        held: socket.socket | None = writer.get_extra_info("socket")
        if held is not None:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()
