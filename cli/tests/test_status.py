"""`huracan status`: what real processes, a real bus and a real database say of themselves."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.clock import SystemClock
from huracan.contracts.decision import Decision
from huracan.contracts.ops import service_changed
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.errors import BadInput
from huracan.service.endpoint import Endpoint, Watched
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan_cli.state import FILE, RunState
from huracan_cli.status import Status, render, status
from huracan_cli.system import OPERATOR

NOWHERE = "postgresql://huracan:secret@127.0.0.1:1/huracan"
"""A port on which nobody listens."""


@pytest.fixture(scope="module")
def bus(server_directory: Path) -> Iterator[RunState]:
    """Run a NATS server with the streams of a system; give the state of one that has no process."""
    server = NatsServer(directory=server_directory / "status-nats", port=free_port(), monitor_port=free_port())
    password = secrets.token_urlsafe(16)
    operator = NatsUser(name=OPERATOR, password=password, publish=(">",), subscribe=(">",))
    with running(server.prepare([operator])):
        asyncio.run(_make_streams(server.url, password))
        yield RunState(
            pid=os.getpid(),
            started_ns=SystemClock().now_ns(),
            source="day.jsonl.gz",
            simulated=True,
            instrument="simulated.btc-usdt-perp",
            layout="seven",
            nats_url=server.url,
            nats_user=None,
            passwords={OPERATOR: SecretStr(password)},
            postgres_url=SecretStr(NOWHERE),
            http_ports={},
        )


async def _make_streams(url: str, password: str) -> None:
    connection = Connection(NatsLogin(url=url, name=OPERATOR, password=SecretStr(password)))
    await connection.open()
    await make_streams(connection)
    await connection.close()


def _watched(name: str, counts: dict[str, int] | None = None, *, ready: bool = True) -> Watched:
    return Watched(name, alive=lambda: True, ready=lambda: ready, counts=lambda: counts or {}, bus_counts=dict)


@asynccontextmanager
async def _process(*services: Watched) -> AsyncIterator[int]:
    """Serve what a process serves, and give its port."""
    endpoint, port = Endpoint(lambda: services), free_port()
    await endpoint.open("127.0.0.1", port)
    try:
        yield port
    finally:
        await endpoint.close()


def _status(state: RunState, directory: Path) -> Awaitable[Status]:
    state.write(directory)
    return status(directory)


def _shown(told: Status) -> str:
    console = Console(width=140, color_system=None)
    with console.capture() as capture:
        console.print(render(told))
    return capture.get()


def test_each_process_tells_whether_it_is_ready_and_what_it_counted(bus: RunState, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            _process(_watched("gateway", {"windows": 1_200, "frames_in": 9, "last.bid": 5})) as gateway,
            _process(_watched("flow"), _watched("regime", ready=False)) as experts,
            _process(_watched("orchestrator", {"decisions": 7})) as orchestrator,
            _process(_watched("executor", {"order.pending": 3, "order.denied": 1, "order.filled": 3, "fill": 4})) as ex,
        ):
            ports = {"gateway": gateway, "experts": experts, "orchestrator": orchestrator, "executor": ex}
            told = await _status(bus.model_copy(update={"http_ports": ports}), tmp_path)
        assert (told.running, told.ready, told.source, told.pid) == (True, False, "day.jsonl.gz", os.getpid())
        by_name = {process.name: process for process in told.processes}
        assert {name: process.ready for name, process in by_name.items()} == {
            "gateway": True,
            "experts": False,
            "orchestrator": True,
            "executor": True,
        }
        assert by_name["experts"].services == {"flow": True, "regime": False}
        assert [process.counts for process in told.processes] == [
            {"windows": 1_200},
            {},
            {"decisions": 7},
            {"orders": 4, "fills": 4},
        ]
        shown = _shown(told)
        assert "SIMULATED" in shown
        assert "NOT READY" in shown
        assert "not ready: regime" in shown
        assert "1,200 windows" in shown

    asyncio.run(scenario())


def test_all_ready_is_ready_and_json_holds_no_secret(bus: RunState, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _process(_watched("gateway")) as port:
            told = await _status(bus.model_copy(update={"http_ports": {"gateway": port}}), tmp_path)
        assert told.ready
        assert Status.model_validate_json(told.model_dump_json()) == told
        for secret in (*(password.get_secret_value() for password in bus.passwords.values()), "secret"):
            assert secret not in told.model_dump_json()
            assert secret not in _shown(told)

    asyncio.run(scenario())


def test_a_process_that_does_not_answer_is_shown_as_such(
    bus: RunState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huracan_cli.status.ANSWER_WITHIN_S", 0.3)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nno JSON")
        writer.close()

    async def scenario() -> None:
        async with (
            await asyncio.start_server(hang, "127.0.0.1", 0) as hanging,
            await asyncio.start_server(babble, "127.0.0.1", 0) as babbling,
        ):
            ports = {
                "dead": free_port(),
                "hanging": hanging.sockets[0].getsockname()[1],
                "babbling": babbling.sockets[0].getsockname()[1],
            }
            told = await _status(bus.model_copy(update={"http_ports": ports}), tmp_path)
        assert [(process.answers, process.ready, process.counts) for process in told.processes] == [
            (False, False, {})
        ] * 3
        assert not told.ready
        assert f"does not answer on port {ports['dead']}" in _shown(told)

    asyncio.run(scenario())


def test_restarts_are_the_starts_since_all_were_up(bus: RunState, tmp_path: Path) -> None:
    async def scenario() -> None:
        login = NatsLogin(url=bus.nats_url, name=OPERATOR, password=bus.passwords[OPERATOR])
        connection = Connection(login)
        await connection.open()
        said = NatsBus(connection, wall=SystemClock())

        async def announce(number: int, service: str, *, running: bool = True) -> None:
            changed = service_changed(service, running=running, at_ns=number)
            await said.publish_acknowledged(f"ops.v1.{service}.service", changed, message_id=number.to_bytes(16, "big"))

        await announce(1, "flow")
        await announce(2, "gateway")
        started_ns = SystemClock().now_ns()
        for number in (3, 4):
            await announce(2 * number, "flow", running=False)
            await announce(2 * number + 1, "flow")
        await connection.close()
        state = bus.model_copy(update={"started_ns": started_ns})
        async with _process(_watched("flow")) as flow, _process(_watched("gateway")) as gateway:
            ports = {"flow": flow, "gateway": gateway, "regime": free_port()}
            several = await asyncio.gather(
                *(_status(state.model_copy(update={"http_ports": ports}), tmp_path) for _ in range(3))
            )
        for told in several:
            assert [process.restarts for process in told.processes] == [2, 0, 0]

    asyncio.run(scenario())


def test_servers_that_are_away_are_said_to_be_and_the_rest_is_told(bus: RunState, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _process(_watched("gateway", {"windows": 5})) as port:
            away = {"http_ports": {"gateway": port}, "nats_url": f"nats://127.0.0.1:{free_port()}"}
            told = await _status(bus.model_copy(update=away), tmp_path)
        assert told.processes[0].ready
        assert told.processes[0].counts == {"windows": 5}
        assert told.processes[0].restarts is None
        assert told.rows is None
        assert told.database.startswith("PostgreSQL is away")
        assert "database: PostgreSQL is away" in _shown(told)

    asyncio.run(scenario())


def test_rows_of_the_database_are_counted(bus: RunState, tmp_path: Path, postgres_url: str) -> None:
    async def scenario() -> None:
        await migrate(postgres_url, migrations_directory())
        store = PostgresStore(postgres_url, 1)
        await store.save([Decision(decision_id=b"\x01" * 16), Decision(decision_id=b"\x02" * 16)])
        await store.close()
        told = await _status(bus.model_copy(update={"postgres_url": SecretStr(postgres_url)}), tmp_path)
        assert told.rows is not None
        assert told.rows["decisions"] == 2
        assert told.database == ""
        assert "2 decisions" in _shown(told)

    asyncio.run(scenario())


@contextmanager
def _started_with(settings: Path) -> Iterator[int]:
    """Run a process that was started as a service is, with its settings last."""
    waits = [sys.executable, "-c", "input()", "--config", str(settings)]
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as process:
        yield process.pid


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the operating system has no /proc")
def test_the_pid_of_a_process_is_found_by_its_settings(bus: RunState, tmp_path: Path) -> None:
    async def scenario() -> None:
        ports = {"gateway": free_port(), "flow": free_port()}
        told = await _status(bus.model_copy(update={"http_ports": ports}), tmp_path)
        assert [process.pid for process in told.processes] == [pid, None]
        assert "unknown" in _shown(told)

    with _started_with((tmp_path / "gateway.json").resolve()) as pid:
        asyncio.run(scenario())


def test_nothing_runs_where_nothing_was_started_or_it_was_killed(bus: RunState, tmp_path: Path) -> None:
    told = asyncio.run(status(tmp_path / "missing"))
    assert not told.running
    assert not told.ready
    assert "start it with `huracan up`" in _shown(told)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    bus.model_copy(update={"pid": ended.pid}).write(tmp_path)
    told = asyncio.run(status(tmp_path))
    assert not told.running
    assert "has ended without tidying up" in told.reason


def test_a_state_that_cannot_be_read_does_not_mean_that_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        asyncio.run(status(tmp_path))
