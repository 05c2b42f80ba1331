"""The network that fails on command: late, cut, held and mute, and otherwise the bytes as they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from huracan.embedded.ports import free_port
from huracan.errors import BadInput
from huracan_cli.chaos.proxy import HOST, FaultProxy, Trouble

WITHIN_S = 30.0
DELAY_S = 0.05
LOST = (ConnectionResetError, asyncio.IncompleteReadError)
Story = Callable[["Line"], Awaitable[None]]


class Line:
    """A server that answers in capitals, and a proxy in front of it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.ended = asyncio.Event()
        self.proxy: FaultProxy
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1_024):
                self.heard += data
                writer.write(data.upper())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            writer.close()

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection through the proxy, which is closed with the story."""
        reader, writer = await asyncio.open_connection(HOST, self.proxy.port)
        self._writers.append(writer)
        return reader, writer

    async def until_heard(self, count: int) -> None:
        while len(self.heard) < count:  # noqa: ASYNC110 - bounded by the story's time
            await asyncio.sleep(0.005)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


def _told(story: Story) -> None:
    async def main() -> None:
        line = Line()
        server = await asyncio.start_server(line.serve, HOST, 0)
        line.proxy = FaultProxy("line", server.sockets[0].getsockname()[1])
        await line.proxy.start()
        try:
            async with asyncio.timeout(WITHIN_S):
                await story(line)
        finally:
            line.close()
            await line.proxy.close()
            server.close()

    asyncio.run(main())


@asynccontextmanager
async def _trouble(line: Line, kind: Trouble) -> AsyncIterator[None]:
    """Make trouble while the block lasts."""
    trouble = asyncio.create_task(line.proxy.trouble(kind, WITHIN_S, delay_s=DELAY_S))
    await asyncio.sleep(0)
    yield
    trouble.cancel()
    await asyncio.wait([trouble])


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes) -> bytes:
    writer.write(said)
    return await reader.readexactly(len(said))


def test_bytes_pass_both_ways_and_so_does_the_end() -> None:
    async def story(line: Line) -> None:
        reader, writer = await line.client()
        said = bytes(range(97, 123)) * 10_000
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == said.upper()
        await line.ended.wait()
        assert line.proxy.passed_bytes == 2 * len(said)

    _told(story)


def test_what_passes_in_a_delay_is_late_and_unharmed() -> None:
    async def story(line: Line) -> None:
        reader, writer = await line.client()
        clock = asyncio.get_running_loop().time
        async with _trouble(line, Trouble.DELAY):
            began_s = clock()
            assert await _answer(reader, writer, b"late") == b"LATE"
            assert clock() - began_s >= 2 * DELAY_S, "each way is late"
        assert await _answer(reader, writer, b"soon") == b"SOON"

    _told(story)


def test_a_cut_resets_what_is_open_and_refuses_what_comes() -> None:
    async def story(line: Line) -> None:
        reader, writer = await line.client()
        assert await _answer(reader, writer, b"here") == b"HERE"
        async with _trouble(line, Trouble.CUT):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            with pytest.raises(LOST):
                await _answer(*await line.client(), b"away")
        assert await _answer(*await line.client(), b"back") == b"BACK"

    _told(story)


def test_a_partition_holds_everything_and_it_arrives_afterwards_though_its_sender_has_gone() -> None:
    async def newcomer(line: Line) -> bytes:
        return await _answer(*await line.client(), b"new")

    async def story(line: Line) -> None:
        reader, writer = await line.client()
        assert await _answer(reader, writer, b"here") == b"HERE"
        async with _trouble(line, Trouble.PARTITION):
            writer.write(b"last words")
            writer.close()
            coming = asyncio.create_task(newcomer(line))
            await asyncio.sleep(0.1)
            assert bytes(line.heard) == b"here"
            assert not coming.done()
        await line.until_heard(len(b"herelast wordsnew"))
        assert b"last words" in line.heard
        assert await coming == b"NEW"

    _told(story)


def test_whoever_is_mute_has_heard_and_its_answers_are_lost() -> None:
    async def story(line: Line) -> None:
        reader, writer = await line.client()
        async with _trouble(line, Trouble.MUTE):
            writer.write(b"order")
            await line.until_heard(5)
        with pytest.raises(LOST):
            await reader.readexactly(1)
        assert await _answer(*await line.client(), b"again") == b"AGAIN"

    _told(story)


def test_trouble_is_over_after_its_time() -> None:
    async def story(line: Line) -> None:
        for kind in Trouble:
            await line.proxy.trouble(kind, 0.01, delay_s=DELAY_S)
        assert await _answer(*await line.client(), b"calm") == b"CALM"

    _told(story)


def test_where_nobody_listens_clients_are_reset() -> None:
    async def main() -> None:
        proxy = FaultProxy("nobody", free_port())
        await proxy.start()
        try:
            async with asyncio.timeout(WITHIN_S):
                reader, writer = await asyncio.open_connection(HOST, proxy.port)
                with pytest.raises(LOST):
                    await reader.readexactly(1)
                writer.close()
        finally:
            await proxy.close()

    asyncio.run(main())


def test_trouble_without_end_is_refused() -> None:
    with pytest.raises(BadInput, match="lasts_s was 0"):
        asyncio.run(FaultProxy("line", 1).trouble(Trouble.CUT, 0.0))
