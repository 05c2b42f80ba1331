"""The PostgreSQL server of our own: a password, 127.0.0.1 alone, never root, and data that survives."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from huracan.embedded import binaries, postgres
from huracan.embedded.files import closed_to
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import State, Supervisor, leashed, running
from huracan.errors import BadInput
from huracan.rng import SeededRng

from .listening import listening

IS_ROOT = os.geteuid() == 0
ROOT_ONLY = pytest.mark.skipif(not IS_ROOT, reason="root: only root must become another user to run PostgreSQL")
PACKAGES = [path for path in sys.path if Path(path).name == "site-packages" or Path(path, "huracan").is_dir()]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Give a directory that every user can pass through."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-postgres-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Give a prepared server, started by each test that wants it: initdb takes a second."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-postgres-"))
    directory.chmod(0o711)
    server = PostgresServer(directory=directory / "kept", port=free_port())
    server.prepare()
    yield server
    shutil.rmtree(directory)


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.02)


def test_the_database_is_ours_empty_and_in_utf8(made: PostgresServer) -> None:
    with running(made.prepare()):
        assert asyncio.run(_value(made.url, "select current_user || '@' || current_database()")) == "huracan@huracan"
        assert asyncio.run(_value(made.url, "select count(*) from pg_tables where schemaname = 'public'")) == 0
        settings = {"server_encoding": "UTF8", "fsync": "on", "password_encryption": "scram-sha-256"}
        for name, value in settings.items():
            assert asyncio.run(_value(made.url, f"show {name}")) == value
        assert asyncio.run(_value(made.url, "select datcollate from pg_database where datname = 'huracan'")) == "C"


def test_a_wrong_password_is_refused_and_the_right_one_is_a_secret(made: PostgresServer) -> None:
    password = made.directory / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert len(password.read_text()) >= 32
    with running(made.prepare()):
        for wrong in (
            made.url.replace(password.read_text(), "wrong"),
            made.url.replace(f":{password.read_text()}", ""),
        ):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError), match="password"):
                asyncio.run(_value(wrong, "select 1"))
        assert asyncio.run(_value(made.url, "select 1")) == 1


def test_it_listens_on_127_0_0_1_alone_and_on_no_socket(made: PostgresServer) -> None:
    with running(made.prepare()) as pid:
        assert listening(pid) == {("127.0.0.1", made.port)}


def test_data_and_password_are_kept_and_a_wiped_directory_starts_empty(open_directory: Path) -> None:
    server = PostgresServer(directory=open_directory / "kept", port=free_port())
    with pytest.raises(BadInput, match="has no password yet; prepare the server first"):
        _ = server.url
    with running(server.prepare()):
        asyncio.run(_execute(server.url, "create table bars (close int); insert into bars values (7)"))
    url = server.url
    with running(server.prepare()):
        assert server.url == url
        assert asyncio.run(_value(server.url, "select close from bars")) == 7
    shutil.rmtree(server.directory)
    with running(server.prepare()):
        assert server.url != url
        assert asyncio.run(_value(server.url, "select to_regclass('bars')")) is None


def test_a_first_start_that_was_cut_short_is_made_anew(open_directory: Path) -> None:
    server = PostgresServer(directory=open_directory / "kept", port=free_port())
    (server.directory / "data.new").mkdir(parents=True)
    (server.directory / "data.new" / "PG_VERSION").write_text("18\n")
    server.directory.chmod(0o711)
    with running(server.prepare()):
        assert asyncio.run(_value(server.url, "select 1")) == 1
    assert not (server.directory / "data.new").exists()


def test_a_killed_server_is_back_with_its_data_while_its_children_still_work(made: PostgresServer) -> None:
    async def main() -> None:
        programs = Supervisor(SeededRng(1))
        await programs.start(made.prepare())
        await _execute(made.url, "create table fills (size int); insert into fills values (3)")
        busy = await asyncpg.connect(made.url)
        # It notices that the server is gone only when it is done: until then the data is in use.
        work = asyncio.create_task(
            busy.fetchval("select count(*) from generate_series(1, 10000000) as n where n % 7 = 0")
        )
        await _until_active(made.url)
        programs.send("postgres", signal.SIGKILL)
        await _until(lambda: programs.restarts["postgres"] > 0 and programs.state("postgres") is State.READY)
        assert programs.failure is None
        assert await _value(made.url, "select size from fills") == 3
        await asyncio.gather(work, return_exceptions=True)  # it may have been answered before its end
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await busy.fetchval("select 1")
        await programs.stop_all()
        assert await programs.finished("postgres") == 0

    asyncio.run(main())


def test_a_server_whose_parent_was_killed_too_can_be_started_at_once(made: PostgresServer) -> None:
    parent = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from huracan.embedded.postgres import PostgresServer\n"
        "from huracan.embedded.supervisor import running\n"
        "server = PostgresServer(directory=Path(sys.argv[1]), port=int(sys.argv[2]))\n"
        "with running(server.prepare()) as pid:\n"
        "    print(pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, made.directory, str(made.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None
        pid = int(killed.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        killed.kill()
    with running(made.prepare()):
        assert asyncio.run(_value(made.url, "select 1")) == 1
    assert not postgres._processes_on(made.directory / "data")


def test_a_lock_that_names_another_process_is_in_nobodys_way(made: PostgresServer) -> None:
    """The number of a server that died with its machine may be another process's, and even the same user's, by now."""
    data = made.directory / "data"
    user = (data.stat().st_uid, data.stat().st_gid) if IS_ROOT else None
    lock = data / "postmaster.pid"
    with subprocess.Popen(leashed(["sleep", "600"], user)) as sleeper:
        lock.write_text(f"{sleeper.pid}\n{data}\n1\n{made.port}\n\n127.0.0.1\n0 0\nready\n")
        lock.chmod(0o600)
        os.chown(lock, *(user or (-1, -1)))
        with running(made.prepare()):
            assert asyncio.run(_value(made.url, "select 1")) == 1
        sleeper.kill()


def test_data_that_another_server_uses_is_refused(made: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LET_GO_WITHIN_S", 0.2)
    other = PostgresServer(directory=made.directory, port=free_port())
    with running(made.prepare()) as pid:
        with pytest.raises(BadInput, match=r"data was in use by process \d+; stop that server first"):
            other.prepare()
        assert Path(f"/proc/{pid}").exists()


def test_data_of_another_major_version_is_refused(open_directory: Path) -> None:
    server = PostgresServer(directory=open_directory, port=free_port())
    (open_directory / "data").mkdir()
    (open_directory / "data" / "PG_VERSION").write_text("13\n")
    if IS_ROOT:
        os.chown(open_directory / "data", 65534, 65534)
    with pytest.raises(BadInput, match=r"was written by PostgreSQL 13, and PostgreSQL \S+ cannot read it; install 13"):
        server.prepare()


def test_a_port_that_is_taken_is_refused(made: PostgresServer, open_directory: Path) -> None:
    other = PostgresServer(directory=open_directory / "other", port=made.port)
    with running(made.prepare()), pytest.raises(BadInput, match=f"port was {made.port}, which cannot be had"):
        other.prepare()


@ROOT_ONLY
def test_a_directory_that_the_servers_user_cannot_reach_is_refused_and_left_as_it_is(open_directory: Path) -> None:
    home = open_directory / "home"
    home.mkdir(mode=0o700)
    server = PostgresServer(directory=home / "huracan", port=free_port())
    with pytest.raises(BadInput, match=f"directory was {home}/huracan, but {home} is closed to the user with the id"):
        server.prepare()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@ROOT_ONLY
def test_programs_that_the_servers_user_cannot_reach_are_copied_once(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_directory / "home"
    home.mkdir(mode=0o700)
    package = binaries.postgres_bin().parents[1]
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), home / name)
    closed = home / binaries.postgres_bin().relative_to(package.parent)
    monkeypatch.setattr(binaries, "postgres_bin", lambda: closed)
    server = PostgresServer(directory=open_directory / "kept", port=free_port())
    program = server.prepare()
    copied = Path(program.command[0])
    assert copied.is_relative_to(server.directory)
    assert closed_to(copied, (65534, 65534)) is None
    with running(program):
        assert asyncio.run(_value(server.url, "select 1")) == 1
    before = copied.stat().st_ino
    assert server.prepare().command == program.command
    assert copied.stat().st_ino == before
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


AS_ANOTHER_USER = """
import asyncio, os, sys
from pathlib import Path
import asyncpg, nats
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import Supervisor
from huracan.rng import SeededRng

async def main():
    directory = Path(sys.argv[1])
    bus = NatsServer(directory=directory / "nats", port=free_port(), monitor_port=free_port())
    store = PostgresServer(directory=directory / "postgres", port=free_port())
    programs = Supervisor(SeededRng(1))
    try:
        await programs.start(bus.prepare([NatsUser(name="a", password="b", publish=(">",), subscribe=(">",))]))
        await programs.start(store.prepare())
        client = await nats.connect(bus.url, user="a", password="b")
        await client.close()
        connection = await asyncpg.connect(store.url)
        assert await connection.fetchval("select current_user") == "huracan"
        await connection.close()
        owners = {os.stat(f"/proc/{programs.pid(name)}").st_uid for name in ("nats", "postgres")}
        assert owners == {os.getuid()}, owners
        assert (directory / "postgres").stat().st_mode & 0o777 == 0o700
    finally:
        await programs.stop_all()
    print("done", os.getuid())

asyncio.run(main())
"""


def test_both_servers_run_as_an_ordinary_user(open_directory: Path) -> None:
    user = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.getuid())
    python = _python_for(user.pw_uid, user.pw_gid)
    home = open_directory / "home"
    home.mkdir()
    if IS_ROOT:
        os.chown(home, user.pw_uid, user.pw_gid)
    done = subprocess.run(
        leashed([python, "-c", AS_ANOTHER_USER, str(home)], (user.pw_uid, user.pw_gid) if IS_ROOT else None),
        cwd=home,
        env={
            "PYTHONPATH": os.pathsep.join(PACKAGES),
            "PATH": os.pathsep.join([str(binaries.nats_server().parent), *os.get_exec_path()]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"done {user.pw_uid}\n", 0), done.stderr


def _python_for(uid: int, gid: int) -> str:
    """Return a Python of our version that a user can run: ours may stand in a closed home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable, *(f"{directory}/{name}" for directory in ("/usr/bin", "/usr/local/bin"))]
    for candidate in candidates:
        if Path(candidate).exists() and closed_to(Path(candidate), (uid, gid)) is None:
            return candidate
    pytest.skip(f"{name} in /usr/bin, or one in a place that user {uid} can reach")


async def _until_active(url: str) -> None:
    query = "select count(*) from pg_stat_activity where query like '%generate_series(%' and pid <> pg_backend_pid()"
    async with asyncio.timeout(60):
        while await _value(url, query) != 1:
            pass
