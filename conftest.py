"""Settings of every test, and the real servers that tests share: one of each per worker, on free ports."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import structlog
from hypothesis import settings

from huracan.embedded import binaries
from huracan.embedded.kafka import KafkaServer, SecuredListeners
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import Program, running
from huracan.errors import BadInput
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.topics import make_topics

settings.register_profile("huracan", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("huracan")

TEST_HEAP_MB = 256
BUSY_PERCENT = 20.0
"""Share of the time in which something waited for a processor, from which a failure alone says nothing."""
REPEATS = 2
REAL_TIME = (
    "tests/chaos/",
    "tests/integration/",
    "tests/oracle/",
    "cli/",
    "services/gateway/",
    "services/persister/",
    "libs/",
)
"""Rooms whose tests run processes and servers; elsewhere time is virtual and waits for nobody."""


def machine_was_busy() -> bool:
    """Return whether processes had to wait for a processor in the last seconds or minute, where Linux tells it."""
    pressure = Path("/proc/pressure/cpu")
    if not pressure.exists():
        return False
    told = dict(part.split("=") for part in pressure.read_text(encoding="ascii").splitlines()[0].split()[1:])
    return max(float(told["avg10"]), float(told["avg60"])) >= BUSY_PERCENT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have a test of real time that failed on a busy machine repeated."""
    for item in items:
        if item.nodeid.startswith(REAL_TIME):
            item.add_marker(pytest.mark.flaky(reruns=REPEATS, condition=machine_was_busy))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command or a process that ran within a test has set: its logs go to a stream that is closed then."""
    yield
    structlog.reset_defaults()


@contextmanager
def _untraced() -> Iterator[None]:
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Leave a test out of the coverage: whole runs are then twice as fast.

    For tests that go the ways of others with another seed or input.
    """
    with _untraced():
        yield


@pytest.fixture(scope="module")
def untraced_module() -> Iterator[None]:
    """Leave the rest of a module out of the coverage, its fixtures too."""
    with _untraced():
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that runs: how to reach it with every right."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningKafka(RunningServer):
    """A Kafka broker that runs: also behind a password, and encrypted."""

    secured: SecuredListeners
    ca_file: Path


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Give a directory that every user can pass through, as PostgreSQL under root needs it."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-tests-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def nats_server(server_directory: Path) -> Iterator[RunningServer]:
    """Run a NATS server whose only user may do everything; its name and password are in the URL."""
    server = NatsServer(directory=server_directory / "nats", port=free_port(), monitor_port=free_port())
    password = secrets.token_urlsafe(16)
    program = server.prepare([NatsUser(name="admin", password=password, publish=(">",), subscribe=(">",))])
    with running(program) as pid:
        yield RunningServer(url=server.url.replace("nats://", f"nats://admin:{password}@"), pid=pid)


def prepared(server: KafkaServer) -> Program:
    """Return what runs a Kafka broker; skip the test, or under CI=true fail it, where there is no Java or no Kafka."""
    try:
        return server.prepare()
    except BadInput as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka_server(server_directory: Path) -> Iterator[RunningKafka]:
    """Run a Kafka broker with our topics; the URL is its host and port."""
    directory = server_directory / "kafka"
    directory.mkdir()
    secured = SecuredListeners(
        sasl_port=free_port(),
        tls_port=free_port(),
        users={user: secrets.token_urlsafe(16) for user in ("flow", "executor")},
        ruled=frozenset({"executor"}),
        keystore=directory / "broker.p12",
        keystore_password=secrets.token_urlsafe(16),
    )
    server = KafkaServer(
        directory=directory,
        port=free_port(),
        controller_port=free_port(),
        heap_mb=TEST_HEAP_MB,
        quick_start=True,
        secured=secured,
    )
    program = prepared(server)
    ca_file = _certify(secured)
    with running(program) as pid:
        asyncio.run(make_topics(KafkaConfig(servers=server.address)))
        yield RunningKafka(url=server.address, pid=pid, secured=secured, ca_file=ca_file)


def _certify(secured: SecuredListeners) -> Path:
    """Give a broker a certificate that it signed itself, with the tool that comes with Java; return it as PEM."""
    certificate = secured.keystore.with_suffix(".pem")
    store = ["-keystore", str(secured.keystore), "-storepass", secured.keystore_password, "-alias", "broker"]
    make = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-ext", "SAN=ip:127.0.0.1", "-validity", "30"]
    keytool = str(binaries.java().with_name("keytool"))
    for command in ([*make, "-storetype", "PKCS12"], ["-exportcert", "-rfc", "-file", str(certificate)]):
        subprocess.run([keytool, *command, *store], check=True, capture_output=True)
    return certificate


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path) -> Iterator[RunningServer]:
    """Run a PostgreSQL server; the URL is that of its first database, as its owner."""
    server = PostgresServer(directory=server_directory / "postgres", port=free_port())
    with running(server.prepare()) as pid:
        yield RunningServer(url=server.url, pid=pid)


@pytest.fixture
def postgres_url(postgres_server: RunningServer) -> Iterator[str]:
    """Give the URL of a new, empty database, dropped afterwards."""
    with _database(postgres_server) as url:
        yield url


@pytest.fixture
def second_url(postgres_server: RunningServer) -> Iterator[str]:
    """Give the URL of a second one."""
    with _database(postgres_server) as url:
        yield url


@contextmanager
def _database(server: RunningServer) -> Iterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    asyncio.run(_execute(server.url, f"create database {name}"))
    yield f"{server.url.rpartition('/')[0]}/{name}"
    asyncio.run(_execute(server.url, f"drop database {name} with (force)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        await connection.execute(statement, timeout=60)
    finally:
        await connection.close()
