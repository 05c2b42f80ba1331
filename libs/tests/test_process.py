"""A process as an operator sees it: started, watched, its server taken away, killed, told to stop."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.clock import SystemClock
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import InstrumentId
from huracan.contracts.ops import ServiceChanged, ServiceReport
from huracan.embedded.kafka import KafkaServer
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Program, running
from huracan.service.service import combined
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.topics import make_topics

WITHIN_S = 60.0
"""Bound of every wait: a first start compiles and imports."""
PASSWORD = "s3cret-and-nobodys-business"
WINDOWS = 12_000
"""More than a process takes off its socket at once."""


class Server(Protocol):
    """A NATS server that runs; the URL has user and password in it."""

    url: str


@dataclass(frozen=True)
class Hosting:
    """A process of services that runs."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def status(self, path: str) -> int:
        """Return the status of a path, 0 while nobody listens."""
        return self.get(path)[0]

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a path, 0 and nothing while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def until(self, path: str, status: int) -> None:
        """Wait until a path has a status."""
        _until(lambda: self.process.poll() is not None or self.status(path) == status)
        assert self.status(path) == status, self.log.read_text()

    def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)

    def lines(self) -> list[dict[str, object]]:
        """Return what it has logged: a JSON object a line."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def _until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until_s, "waited too long"
        time.sleep(0.02)


@contextmanager
def _hosting(
    directory: Path, server_url: str, services: dict[str, dict[str, object]] | None = None, **more: object
) -> Iterator[Hosting]:
    """Run a process; whatever the test does, it is gone afterwards."""
    url, user, password = _login(server_url)
    port = free_port()
    settings = {
        "services": services or {"flow": {}},
        "nats": {"url": url, "user": user, "passwords": {user: password}},
        "http_port": port,
        **more,
    }
    path, log = directory / "settings.json", directory / "process.log"
    path.write_text(json.dumps(settings))
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "huracan.service", "--config", str(path)], stderr=stderr, cwd=directory
        )
    try:
        yield Hosting(process, port, log)
    finally:
        process.kill()
        process.wait()


def _login(url: str) -> tuple[str, str, str]:
    credentials, _, host = url.removeprefix("nats://").partition("@")
    user, _, password = credentials.partition(":")
    return f"nats://{host}", user, password


def _own_server(directory: Path) -> tuple[Program, str]:
    """Return a server that the test may stop and start, with its URL."""
    server = NatsServer(directory=directory / "nats", port=free_port(), monitor_port=free_port())
    program = server.prepare([NatsUser(name="admin", password=PASSWORD, publish=(">",), subscribe=(">",))])
    return program, server.url.replace("nats://", f"nats://admin:{PASSWORD}@")


async def _connected(server_url: str) -> Connection:
    url, user, password = _login(server_url)
    connection = Connection(NatsLogin(url=url, name=secrets.token_hex(4), user=user, password=SecretStr(password)))
    await connection.open()
    await make_streams(connection)
    return connection


def _make_streams(server_url: str) -> None:
    async def main() -> None:
        await (await _connected(server_url)).close()

    asyncio.run(main())


def _send_windows(server_url: str, count: int) -> None:
    """Send windows as fast as they go, and return once the server has them."""

    async def main() -> None:
        connection = await _connected(server_url)
        bus = NatsBus(connection, wall=SystemClock())
        for step in range(count):
            window = FeatureWindow(epoch=1, step=step)
            window.instrument.id.CopyFrom(InstrumentId(venue="sim", symbol="sim-usdt-perp"))
            await bus.publish("feat.v1.micro.00.sim.sim-usdt-perp", window)
        await connection.flush()
        await connection.close()

    asyncio.run(main())


def _said(server_url: str, service: str, since_ns: int) -> tuple[list[ServiceReport], list[ServiceChanged]]:
    """Return what a service has said of itself since a time, oldest first."""

    async def main() -> list[object]:
        connection = await _connected(server_url)
        try:
            bus = NatsBus(connection, wall=SystemClock())
            inbox = bus.inbox()
            inbox.everything(subjects.ops(service, "report"))
            inbox.everything(subjects.ops(service, "service"))
            await bus.prepared()
            await inbox.catch_up()
            await inbox.drain()
            return [delivery.decode() async for delivery in inbox]
        finally:
            await connection.close()

    messages = asyncio.run(main())
    return (
        [message for message in messages if isinstance(message, ServiceReport) and message.started_ns >= since_ns],
        [message for message in messages if isinstance(message, ServiceChanged) and message.at_ns >= since_ns],
    )


def _counts(report: ServiceReport) -> Counter[str]:
    return Counter({count.name: count.value for count in report.counts})


def test_a_process_waits_for_its_server_and_outlives_its_absence(tmp_path: Path) -> None:
    program, url = _own_server(tmp_path)
    with _hosting(tmp_path, url) as hosting:
        hosting.until("/healthz", 200)
        away = f"NATS at {_login(url)[0]} is away"
        assert hosting.status("/readyz") == 503
        assert json.loads(hosting.get("/readyz")[1]) == {"flow": away}
        with running(program):
            _make_streams(url)
            hosting.until("/readyz", 200)
            assert json.loads(hosting.get("/readyz")[1]) == {"flow": True}
        hosting.until("/readyz", 503)
        assert json.loads(hosting.get("/readyz")[1]) == {"flow": away}
        assert hosting.status("/healthz") == 200
        with running(program):
            hosting.until("/readyz", 200)
            assert hosting.stopped() == 0
        assert PASSWORD not in hosting.log.read_text()


def test_a_process_is_not_ready_while_the_kafka_of_its_log_is_away_and_says_so(
    nats_server: Server, kafka_server: Server, tmp_path: Path
) -> None:
    del kafka_server  # where that cannot be had, ours cannot
    broker = KafkaServer(
        directory=tmp_path / "kafka", port=free_port(), controller_port=free_port(), heap_mb=256, quick_start=True
    )
    kafka = {"servers": broker.address}
    away = {"flow": f"Kafka at {broker.address} is away"}
    _make_streams(nats_server.url)
    with ExitStack() as hosted:
        with running(broker.prepare()) as pid:
            asyncio.run(make_topics(KafkaConfig.model_validate(kafka)))
            hosting = hosted.enter_context(_hosting(tmp_path, nats_server.url, ticklog="kafka", kafka=kafka))
            hosting.until("/readyz", 200)
            os.kill(pid, signal.SIGKILL)
            hosting.until("/readyz", 503)
        assert json.loads(hosting.get("/readyz")[1]) == away
        assert hosting.status("/healthz") == 200
        with running(broker.prepare()):
            hosting.until("/readyz", 200)
            assert hosting.stopped() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_process_after_all_that_had_been_sent(
    number: signal.Signals, nats_server: Server, tmp_path: Path
) -> None:
    since_ns = time.time_ns()
    _make_streams(nats_server.url)
    with _hosting(tmp_path, nats_server.url, drain_timeout_s=WITHIN_S) as hosting:
        hosting.until("/readyz", 200)
        hosting.process.send_signal(signal.SIGSTOP)  # so that all of it is still on its way when the signal comes
        _send_windows(nats_server.url, WINDOWS)
        hosting.process.send_signal(number)
        assert hosting.stopped(signal.SIGCONT) == 0
        lines = hosting.lines()
    assert [line["event"] for line in lines if "service.st" in str(line["event"])] == [
        "service.started",
        "service.stopped",
    ]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    reports, changes = _said(nats_server.url, "flow", since_ns)
    assert _counts(reports[-1])["abstained"] == WINDOWS
    assert [change.running for change in changes] == [True, False]


def test_signals_that_come_until_the_very_end_do_not_make_it_look_like_a_crash(
    nats_server: Server, tmp_path: Path
) -> None:
    _make_streams(nats_server.url)
    with _hosting(tmp_path, nats_server.url) as hosting:
        hosting.until("/readyz", 200)
        until_s = time.monotonic() + WITHIN_S
        while hosting.process.poll() is None:
            assert time.monotonic() < until_s, "waited too long"
            hosting.process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        assert hosting.process.returncode == 0, hosting.log.read_text()


def test_metrics_are_what_prometheus_reads(nats_server: Server, tmp_path: Path) -> None:
    _make_streams(nats_server.url)
    with _hosting(tmp_path, nats_server.url) as hosting:
        hosting.until("/readyz", 200)
        _send_windows(nats_server.url, 10)
        _until(lambda: "abstained" in hosting.get("/metrics")[1])
        status, body = hosting.get("/metrics")
        families = list(text_string_to_metric_families(body))
        assert hosting.stopped() == 0
    assert status == 200
    values = {
        (sample.name, sample.labels.get("event", "")): sample.value for family in families for sample in family.samples
    }
    assert values["huracan_flow_events_total", "abstained"] > 0
    assert values["huracan_service_ready", ""] == 1
    assert values["huracan_bus_events_total", "published"] > 0
    assert values["huracan_bus_events_total", "dropped"] == 0


def test_a_server_that_hangs_does_not_keep_a_process_that_is_told_to_stop(tmp_path: Path) -> None:
    program, url = _own_server(tmp_path)
    with running(program) as pid, _hosting(tmp_path, url, drain_timeout_s=0.2) as hosting:
        _make_streams(url)
        hosting.until("/readyz", 200)
        server = _child(pid)
        os.kill(server, signal.SIGSTOP)
        try:
            assert hosting.stopped() == 0
        finally:
            os.kill(server, signal.SIGCONT)


def _child(pid: int) -> int:
    """Return the process that a leash holds, or the process itself where the leash has become it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def test_a_killed_process_leaves_its_counts_and_the_next_one_adds_to_them(nats_server: Server, tmp_path: Path) -> None:
    since_ns = time.time_ns()
    _make_streams(nats_server.url)
    with _hosting(tmp_path, nats_server.url) as hosting:
        hosting.until("/readyz", 200)
        _send_windows(nats_server.url, 20)
        _until(
            lambda: any(_counts(report)["abstained"] == 20 for report in _said(nats_server.url, "flow", since_ns)[0])
        )
        assert hosting.stopped(signal.SIGKILL) == -signal.SIGKILL
    with _hosting(tmp_path, nats_server.url) as hosting:
        hosting.until("/readyz", 200)
        _send_windows(nats_server.url, 30)
        assert hosting.stopped() == 0
    reports, changes = _said(nats_server.url, "flow", since_ns)
    newest = {report.started_ns: _counts(report) for report in reports}
    assert len(newest) == 2
    assert combined([counts for _, counts in sorted(newest.items())])["abstained"] == 50
    assert [change.running for change in changes] == [True, True, False]


def test_settings_that_cannot_be_used_end_a_process_with_one_line(tmp_path: Path) -> None:
    with _hosting(tmp_path, "nats://nobody:nothing@127.0.0.1:1", {"flow": {"colour": "red"}}) as hosting:
        assert hosting.process.wait(WITHIN_S) == 2
        (line,) = hosting.log.read_text().splitlines()
    assert "services.flow.colour: Extra inputs are not permitted" in line


@pytest.mark.parametrize("services", [{"gateway": {}}, {"flow": {}, "gateway": {}}])
def test_a_service_that_cannot_start_ends_its_process_and_is_named(
    services: dict[str, dict[str, object]], nats_server: Server, tmp_path: Path
) -> None:
    _make_streams(nats_server.url)
    with _hosting(tmp_path, nats_server.url, services) as hosting:
        assert hosting.process.wait(WITHIN_S) == 2
        failed = [line for line in hosting.lines() if line["event"] == "service.failed"]
    assert [(line["service"], line["kind"]) for line in failed] == [("gateway", "BadInput")]
    assert "neither recording nor feeds" in str(failed[0]["error"])
