"""The NATS server of our own: passwords, permissions, 127.0.0.1 alone, and streams that survive."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import State, Supervisor, running
from huracan.errors import BadInput
from huracan.rng import SeededRng

from .listening import listening

ADMIN = NatsUser(name="admin", password="right", publish=(">",), subscribe=(">",))
READER = NatsUser(name="reader", password="reads", publish=(), subscribe=("feat.>",))


def _server(directory: Path) -> NatsServer:
    return NatsServer(directory=directory, port=free_port(), monitor_port=free_port())


async def _greet(server: NatsServer, credentials: dict[str, str]) -> bytes:
    """Return the first line that the server answers to these credentials."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await reader.readline()
    writer.write(f"CONNECT {json.dumps({'verbose': False, **credentials})}\r\nPING\r\n".encode())
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def _connect(server: NatsServer, user: NatsUser = ADMIN, errors: list[str] | None = None) -> Client:
    async def heard(error: Exception) -> None:
        if errors is not None:
            errors.append(str(error))

    return await nats.connect(
        server.url,
        user=user.name,
        password=user.password,
        allow_reconnect=False,
        connect_timeout=30,
        error_cb=heard,
    )


def _running(server: NatsServer, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    with running(server.prepare([ADMIN, READER])):
        asyncio.run(main())


def test_nobody_comes_in_without_a_password_or_with_a_wrong_one(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")

    async def scenario() -> None:
        for credentials in ({}, {"user": "admin"}, {"user": "admin", "pass": "wrong"}, {"user": "x", "pass": "right"}):
            assert await _greet(server, credentials) == b"-ERR 'Authorization Violation'\r\n"
        assert await _greet(server, {"user": "admin", "pass": "right"}) == b"PONG\r\n"

    _running(server, scenario)


def test_a_user_publishes_and_hears_what_it_may_and_no_more(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")

    async def scenario() -> None:
        errors: list[str] = []
        reader, admin = await _connect(server, READER, errors), await _connect(server)
        allowed = await reader.subscribe("feat.v1.micro")
        await reader.subscribe("exec.v1.order")
        await reader.publish("feat.v1.micro", b"from the reader")
        for _ in range(2):  # the client writes the first ping ahead of what waits to be written
            await reader.flush()
        await admin.publish("feat.v1.micro", b"from the admin")
        assert (await allowed.next_msg(timeout=30)).data == b"from the admin"
        assert len(errors) == 2
        assert 'permissions violation for subscription to "exec.v1.order"' in errors[0]
        assert 'permissions violation for publish to "feat.v1.micro"' in errors[1]
        await reader.close()
        await admin.close()

    _running(server, scenario)


def test_secrets_are_ours_alone_and_the_url_has_none(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")
    server.prepare([ADMIN])
    server.prepare([ADMIN, READER])
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.directory / "nats-server.conf").stat().st_mode) == 0o600
    assert server.url == f"nats://127.0.0.1:{server.port}"


def test_it_listens_on_127_0_0_1_alone(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")
    with running(server.prepare([ADMIN])) as pid:
        assert listening(pid) == {("127.0.0.1", server.port), ("127.0.0.1", server.monitor_port)}


def test_a_killed_server_is_back_with_its_streams(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")

    async def main() -> None:
        programs = Supervisor(SeededRng(1))
        await programs.start(server.prepare([ADMIN]))
        client = await _connect(server)
        await client.jetstream().add_stream(name="ticks", subjects=["ticks"])
        await client.jetstream().publish("ticks", b"kept")
        programs.send("nats", signal.SIGKILL)
        await _until(lambda: programs.restarts["nats"] == 1 and programs.state("nats") is State.READY)
        await client.close()
        client = await _connect(server)
        assert (await client.jetstream().get_msg("ticks", 1)).data == b"kept"
        await client.close()
        await programs.stop_all()
        assert await programs.finished("nats") == 0

    asyncio.run(main())

    async def again() -> None:
        client = await _connect(server)
        assert (await client.jetstream().get_msg("ticks", 1)).data == b"kept"
        await client.close()

    _running(server, again)


def test_what_the_configuration_cannot_hold_is_refused(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")
    with pytest.raises(BadInput, match="users was empty"):
        server.prepare([])
    with pytest.raises(BadInput, match="password was a secret with a quote"):
        server.prepare([NatsUser(name="x", password='a"b', publish=(), subscribe=())])
    with pytest.raises(BadInput, match=r'subject was "a\\nb" with a quote'):
        server.prepare([NatsUser(name="x", password="x", publish=("a\nb",), subscribe=())])


def test_a_port_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    server = _server(tmp_path / "nats")
    with running(server.prepare([ADMIN])):
        for field, other in (
            ("port", NatsServer(directory=tmp_path / "other", port=server.port, monitor_port=free_port())),
            ("monitor_port", NatsServer(directory=tmp_path / "other", port=free_port(), monitor_port=server.port)),
        ):
            with pytest.raises(
                BadInput, match=f"^{field} was {server.port}, which cannot be had: Address already in use"
            ):
                other.prepare([ADMIN])


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "nats"):
        with pytest.raises(BadInput, match=f"directory was {directory}, which"):
            _server(directory).prepare([ADMIN])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.02)
