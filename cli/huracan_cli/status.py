"""`huracan status`: what runs, whether it is ready, and what it has done."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr, TypeAdapter, ValidationError
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huracan.bus.nats.bus import NatsBus, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.clock import NANOSECONDS, SystemClock
from huracan.config import Config
from huracan.contracts.ops import ServiceChanged
from huracan.errors import BadInput, HuracanError
from huracan.store.postgres import PostgresStore
from huracan_cli.composition import GATEWAY
from huracan_cli.state import FILE, RunState, load
from huracan_cli.system import OPERATOR

ANSWER_WITHIN_S = 2.0
"""Longest wait for one answer of a process: its event loop hangs when it takes longer."""
RESTARTS_WITHIN_S = 3.0
COUNT_WITHIN_S = 10.0
"""Longest wait for the database to count its rows."""
COUNTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "windows": (GATEWAY, ("windows",)),
    "decisions": ("orchestrator", ("decisions",)),
    "orders": ("executor", ("order.pending", "order.denied")),
    "fills": ("executor", ("fill",)),
}
"""What is told of each service's counters: the service and the events that add up to it."""

_READINESS = TypeAdapter(dict[str, bool | str])


class ProcessStatus(Config):
    """One service process."""

    name: str
    port: int
    pid: int | None
    """None where the operating system does not tell."""
    answers: bool
    """Whether it answered in time."""
    ready: bool
    services: dict[str, bool | str]
    """Whether each service in it is ready, or which server it misses; empty when it did not answer."""
    counts: dict[str, int]
    """Windows, decisions, orders and fills since its last start, as far as its services make them."""
    restarts: int | None
    """Since the system was up; None when the bus does not tell."""


class Status(Config):
    """What runs."""

    running: bool
    ready: bool = False
    """Whether every process is."""
    reason: str = ""
    """Why nothing runs."""
    pid: int | None = None
    """Of `huracan up`."""
    started_ns: int | None = None
    source: str = ""
    simulated: bool = False
    instrument: str = ""
    layout: str = ""
    nats_url: str = ""
    ticklog: str = ""
    """Where the log is kept: the servers of the bus or of Kafka."""
    processes: tuple[ProcessStatus, ...] = ()
    rows: dict[str, int] | None = None
    """Rows of each table; None when the database did not answer."""
    database: str = ""
    """What is wrong with the database; empty when nothing is."""


async def status(directory: Path) -> Status:
    """Return what runs of a state directory; it is asked for some seconds at most.

    Raises BadInput for a state that belongs to another user, for it does not say whether anything runs.
    """
    try:
        state = load(directory)
    except BadInput as error:
        if _closed(directory / FILE):
            raise
        return Status(running=False, reason=str(error))
    restarting, counting = asyncio.create_task(_restarts(state)), asyncio.create_task(_rows(state))
    answers = await asyncio.gather(*(_answers(port) for port in state.http_ports.values()))
    restarts, (rows, database) = await restarting, await counting
    pids = _pids(directory, state)
    processes = tuple(
        _process(name, port, answer, pids.get(name), restarts)
        for (name, port), answer in zip(state.http_ports.items(), answers, strict=True)
    )
    return Status(
        running=True,
        ready=bool(processes) and all(process.ready for process in processes),
        pid=state.pid,
        started_ns=state.started_ns,
        source=state.source,
        simulated=state.simulated,
        instrument=state.instrument,
        layout=state.layout,
        nats_url=state.nats_url,
        ticklog=f"Kafka at {state.kafka.servers}" if state.kafka else f"JetStream at {state.nats_url}",
        processes=processes,
        rows=rows,
        database=database,
    )


def _closed(path: Path) -> bool:
    """Return whether a file may be there, but not for us."""
    try:
        path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


_Answer = tuple[dict[str, bool | str] | None, dict[str, int]]


def _process(name: str, port: int, answer: _Answer, pid: int | None, restarts: Counter[str] | None) -> ProcessStatus:
    services, counts = answer
    hosted = services or {}
    return ProcessStatus(
        name=name,
        port=port,
        pid=pid,
        answers=services is not None,
        ready=bool(hosted) and all(state is True for state in hosted.values()),
        services=hosted,
        counts=counts,
        restarts=None if restarts is None else max(restarts[service] for service in hosted or (name,)),
    )


async def _answers(port: int) -> _Answer:
    """Return the readiness of a process's services and what they counted; None when it does not answer."""
    base = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)) as session:
            async with session.get(f"{base}/readyz") as response:
                services = _READINESS.validate_json(await response.read())
            async with session.get(f"{base}/metrics") as response:
                return services, _counts(await response.text())
    except (aiohttp.ClientError, OSError, TimeoutError, ValidationError, ValueError):
        return None, {}


def _counts(metrics: str) -> dict[str, int]:
    events: dict[str, Counter[str]] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if (
                sample.name.startswith("huracan_")
                and sample.name.endswith("_events_total")
                and "event" in sample.labels
            ):
                service = sample.name.removeprefix("huracan_").removesuffix("_events_total")
                events.setdefault(service, Counter())[sample.labels["event"]] += int(sample.value)
    return {
        name: sum(events[service][event] for event in added)
        for name, (service, added) in COUNTED.items()
        if service in events
    }


async def _rows(state: RunState) -> tuple[dict[str, int] | None, str]:
    store = PostgresStore(state.postgres_url.get_secret_value(), 1, timeout_s=COUNT_WITHIN_S)
    try:
        return await store.count(), ""
    except HuracanError as error:
        return None, str(error)
    finally:
        await store.close()


async def _restarts(state: RunState) -> Counter[str] | None:
    """Return how often each service has announced itself since all were up; None when the bus does not tell."""
    if not await reachable(state.nats_url):
        return None
    user = OPERATOR if state.nats_user is None else state.nats_user
    password = state.passwords.get(user, SecretStr(""))
    # A name of its own: two that look at once must not take each other's place in the stream.
    name = f"status-{os.getpid()}-{SystemClock().now_ns()}"
    connection = Connection(NatsLogin(url=state.nats_url, name=name, user=user, password=password))
    try:
        async with asyncio.timeout(RESTARTS_WITHIN_S):
            await connection.open()
            bus = NatsBus(connection, wall=SystemClock())
            inbox = bus.inbox()
            inbox.everything("ops.v1.*.service")
            await bus.prepared()
            counting = asyncio.create_task(_announced(inbox, state.started_ns))
            try:
                await inbox.catch_up()
                await inbox.drain()
                return await counting
            finally:
                counting.cancel()
    except (HuracanError, TimeoutError):
        return None
    finally:
        await connection.close()


async def _announced(inbox: NatsInbox, since_ns: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    async for delivery in inbox:
        with contextlib.suppress(HuracanError):
            message = delivery.decode()
            if isinstance(message, ServiceChanged) and message.running and delivery.sent_ns >= since_ns:
                counts[message.service] += 1
        delivery.ack()
    return counts


async def reachable(url: str, default_port: int = 4222) -> bool:
    """Return whether somebody takes connections at the host and port of a URL; ValueError for one without a host."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("URL has no host")
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or default_port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _pids(directory: Path, state: RunState) -> dict[str, int]:
    """Return the process ids that /proc tells, by the settings file that each process was started with."""
    files = {str((directory / f"{name}.json").resolve()): name for name in state.http_ports}
    found: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:  # ended meanwhile, or another user's
            continue
        if len(words) > 1 and words[-2] == "--config" and words[-1] in files:
            found[files[words[-1]]] = int(process.name)
    return found


# For people.


def render(told: Status) -> RenderableType:
    """Return what people see: what runs, a row for each process, and the rows of the database."""
    if not told.running:
        return Text(told.reason)
    parts: list[RenderableType] = []
    if told.simulated:
        parts.append(Text(" SIMULATED market: nothing of it happened on any venue ", style="black on yellow"))
    state = ("ready", "green") if told.ready else ("NOT READY", "bold red")
    parts.append(
        Text.assemble(
            state,
            f"  {told.source}, {told.instrument}, layout {told.layout}, since {_since(told.started_ns or 0)}",
            (f", pid {told.pid}", "dim"),
        )
    )
    parts += [_processes(told), Text(f"log: {told.ticklog}"), _database(told)]
    return Group(*parts)


def _since(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // NANOSECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _processes(told: Status) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold")
    table.add_column("process")
    table.add_column("state")
    table.add_column("pid", justify="right")
    table.add_column("restarts", justify="right")
    table.add_column("since its start")
    for process in told.processes:
        table.add_row(
            process.name,
            _state(process),
            str(process.pid or "unknown"),
            "unknown" if process.restarts is None else f"{process.restarts}",
            ", ".join(f"{count:,} {name}" for name, count in process.counts.items()),
        )
    return table


def _state(process: ProcessStatus) -> Text:
    if not process.answers:
        return Text(f"does not answer on port {process.port}", style="bold red")
    if process.ready:
        return Text("ready", style="green")
    late = [
        name if state is False else f"{name} ({state})" for name, state in process.services.items() if state is not True
    ]
    return Text(f"not ready: {', '.join(late) or 'no service'}", style="yellow")


def _database(told: Status) -> Text:
    if told.rows is None:
        return Text(f"database: {told.database}", style="bold red")
    return Text("database: " + ", ".join(f"{count:,} {name}" for name, count in told.rows.items()))
