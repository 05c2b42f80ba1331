"""A PostgreSQL server of our own: on 127.0.0.1 alone, with a password, never as root."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from huracan.embedded import binaries
from huracan.embedded.files import closed_to, make_directory, write_secret
from huracan.embedded.ports import require_free
from huracan.embedded.supervisor import Program, leashed
from huracan.errors import BadInput, Fatal

USER = "huracan"
"""Owner of the server and of its database."""
DATABASE = "huracan"
SERVER_USER = "nobody"
"""Who runs a new server when we are root, for PostgreSQL refuses to be root; kept data stays with its owner."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "shared_buffers": "64MB",
}
"""Settings of the server beside its port. Without a socket there is one way in, and it asks for the password."""
STOP_WITHIN_S = 20.0
"""Time for the checkpoint of a fast shutdown."""
READY_WITHIN_S = 60.0
"""Time to recover after a crash."""
LET_GO_WITHIN_S = 20.0
"""Time for the processes of a killed server to let go of its data."""

_PROTOCOL_3 = 196_608
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """Where a server keeps its data and listens; the same directory again has the same data and password."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        """Return the address of the database with user and password; BadInput before `prepare`."""
        try:
            password = (self.directory / "password").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BadInput(f"{self.directory} has no password yet; prepare the server first") from None
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> Program:
        """Make the data directory with its database where there is none, and return the program to start.

        Takes a second or two the first time. Raises BadInput when there is no PostgreSQL, the port is taken, the data
        is another user's, of another major version or in use, and, for root, when the server's user cannot reach the
        directory.
        """
        installed, data = binaries.postgres_bin(), self.directory / "data"
        user = _server_user(data)
        make_directory(self.directory, mode=0o700 if user is None else 0o711)
        if user is not None:
            if closed := closed_to(self.directory, user):
                raise BadInput(
                    f"directory was {self.directory}, but {closed} is closed to the user with the id {user[0]}, who "
                    f"runs PostgreSQL for root; choose a directory under /var/lib, or start as a user other than root"
                )
            installed = self._reachable(installed, user)
        if data.exists():
            _check_kept(data, installed, user)
            _wait_until_let_go(data)
        else:
            self._initialise(data, installed, user)
        require_free("port", self.port)
        settings = {**SETTINGS, "port": str(self.port)}
        return Program(
            name="postgres",
            command=(
                str(installed / "postgres"),
                *("-D", str(data.resolve())),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ),
            directory=self.directory,
            ready=self._answers,
            stop_signal=signal.SIGINT,
            stop_within_s=STOP_WITHIN_S,
            ready_within_s=READY_WITHIN_S,
            user=user,
        )

    async def _answers(self) -> bool:
        """Return whether the server asks for a password: it does so once it takes connections."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            body = struct.pack("!i", _PROTOCOL_3) + f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
            writer.write(struct.pack("!i", len(body) + 4) + body)
            return await reader.read(1) == b"R"
        finally:
            writer.close()

    def _initialise(self, data: Path, installed: Path, user: tuple[int, int] | None) -> None:
        """Make data and database aside and move them into place, so that a kill leaves all or nothing."""
        unfinished, password = self.directory / "data.new", self.directory / "password"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        write_secret(password, secrets.token_urlsafe(32))
        if user is not None:
            os.chown(unfinished, *user)
            os.chown(password, *user)
        self._run(
            [
                *(str(installed / "initdb"), "-D", str(unfinished.resolve()), "--username", USER),
                *("--pwfile", str(password.resolve()), "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--no-locale"),
            ],
            user,
        )
        self._run(
            [
                *(str(installed / "postgres"), "--single", "-D", str(unfinished.resolve())),
                *("-c", "exit_on_error=on", "postgres"),
            ],
            user,
            stdin=f"create database {DATABASE};\n",
        )
        unfinished.rename(data)

    def _run(self, command: list[str], user: tuple[int, int] | None, stdin: str = "") -> None:
        done = subprocess.run(
            leashed(command, user), cwd=self.directory, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Fatal(f"{command[0]} ended with {done.returncode} in {self.directory}: {done.stdout}{done.stderr}")

    def _reachable(self, installed: Path, user: tuple[int, int]) -> Path:
        """Return a bin directory that the user can run, a copy under our directory where the given one is closed."""
        if not any(closed_to(needed, user) for needed in (installed / "postgres", installed / "initdb")):
            return installed
        copy = self.directory / f"postgresql-{binaries.version(installed / 'postgres')}"
        if not copy.exists():
            unfinished = copy.with_name("postgresql.new")
            shutil.rmtree(unfinished, ignore_errors=True)
            package = installed.parent.parent
            # A wheel keeps foreign libraries beside its package, where the programs look for them by a relative path.
            for source in (installed.parent, package.with_name(f"{package.name}.libs")):
                if source.is_dir():
                    target = unfinished / source.relative_to(package.parent)
                    shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a"))
            for path in (unfinished, *unfinished.rglob("*")):
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            unfinished.rename(copy)
        return copy / installed.relative_to(installed.parents[2])


def _server_user(data: Path) -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    if data.exists():
        kept = data.stat()
        return kept.st_uid, kept.st_gid
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise BadInput(f"user {SERVER_USER} was not found, and root cannot run PostgreSQL; add the user") from None
    return entry.pw_uid, entry.pw_gid


def _check_kept(data: Path, installed: Path, user: tuple[int, int] | None) -> None:
    owner = data.stat().st_uid
    if user is None and owner != os.geteuid():
        raise BadInput(
            f"{data} belongs to the user with the id {owner}; start as that user, or choose another directory"
        )
    written_by = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    found = binaries.version(installed / "postgres")
    if found.split(".")[0] != written_by:
        raise BadInput(
            f"{data} was written by PostgreSQL {written_by}, and PostgreSQL {found} cannot read it; "
            f"install {written_by}, or move the directory away to start empty"
        )


def _wait_until_let_go(data: Path) -> None:
    """Wait for the processes of a killed server, then remove its lock: the process id in it may be another's by now."""
    lock = data / "postmaster.pid"
    if not lock.exists() or not Path("/proc/self/cwd").exists():
        return
    until_s = time.monotonic() + LET_GO_WITHIN_S
    while processes := _processes_on(data):
        if time.monotonic() > until_s:
            raise BadInput(f"{data} was in use by process {processes[0]}; stop that server first")
        time.sleep(_LOOK_EVERY_S)
    lock.unlink(missing_ok=True)


def _processes_on(data: Path) -> list[int]:
    """Return the PostgreSQL processes that run in a data directory: the server and its children all do."""
    there = data.resolve()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() == "postgres\n" and (process / "cwd").readlink() == there:
                found.append(int(process.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found
