"""A disk of the server that is really full: it is told, messages wait, and once there is room each is kept once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import asyncpg
import pytest

from huracan.bus.transport import PERFECT
from huracan.clock import SystemClock
from huracan.contracts.execution import Fill
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import Supervisor
from huracan.errors import Recoverable
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.sim.world import World
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan_persister.config import PersisterConfig, SpillConfig
from huracan_persister.service import NAME, Persister

from .test_outage import publish, until

SIZE_MIB = 192
"""Of the small disk: a new server takes some 100 of it."""
TRIES = 20
LEFT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and who keeps it running."""

    url: str
    directory: Path
    programs: Supervisor

    async def ask(self, statement: str) -> str:
        """Return the first value of an answer."""
        connection = await asyncpg.connect(self.url)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()


class SmallDisk:
    """A disk of its own for the server, which somebody else fills: data, indexes and WAL have no room."""

    told = r"PostgreSQL has no room left: .*|PostgreSQL is away: "
    """Where the WAL has no room, the server goes down."""

    def __init__(self, directory: Path) -> None:
        self._filler = directory / "filler"

    async def fill(self, server: Server) -> None:
        """Take what is left."""
        with self._filler.open("wb") as filler:
            for tried in range(TRIES):
                found = os.statvfs(server.directory)
                try:
                    os.posix_fallocate(filler.fileno(), 0, found.f_bavail * found.f_frsize - LEFT_BYTES)
                except OSError:  # the server wrote meanwhile
                    if tried + 1 == TRIES:
                        raise
                else:
                    break

    async def free(self, server: Server) -> None:
        """Give it back; a server that it was too much for starts again."""
        self._filler.unlink()


class FullFile:
    """A table whose file takes nothing more, where no disk can be made: writes to /dev/full find no space."""

    told = r"PostgreSQL has no room left: could not extend file .*: No space left on device; make room on its disk"

    async def fill(self, server: Server) -> None:
        """Put /dev/full in the place of the file."""
        path = await self._path(server)
        path.rename(path.with_suffix(".aside"))
        path.symlink_to("/dev/full")
        await self._reopen(server)

    async def free(self, server: Server) -> None:
        """Put the file back."""
        path = await self._path(server)
        path.unlink()
        path.with_suffix(".aside").rename(path)
        await self._reopen(server)

    async def _path(self, server: Server) -> Path:
        found = await server.ask("select pg_relation_filepath('partitions.fills_default')")
        return server.directory / "data" / found

    async def _reopen(self, server: Server) -> None:
        await server.ask("select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid()")


def _mounted(directory: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=711", "tmpfs", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(params=["small disk", "full file"])
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Give a directory for the server, on a disk of its own where the test wants one and may make it."""
    made = Path(tempfile.mkdtemp(prefix="huracan-full-"))
    made.chmod(0o711)
    small = request.param == "small disk"
    if small and not _mounted(made):
        made.rmdir()
        pytest.skip("no file system can be mounted here, which takes root: the full file is tested all the same")
    yield made
    if small:
        subprocess.run(["umount", str(made)], check=True)
    rmtree(made)


@asynccontextmanager
async def _served(directory: Path) -> AsyncIterator[Server]:
    programs = Supervisor(SeededRng(1))
    server = PostgresServer(directory=directory / "postgres", port=free_port())
    await programs.start(server.prepare())
    try:
        await migrate(server.url, migrations_directory())
        yield Server(server.url, directory / "postgres", programs)
    finally:
        await programs.stop_all()


def test_what_finds_no_room_waits_and_is_kept_once_there_is_some(
    directory: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    disk = SmallDisk(directory) if "small" in request.node.callspec.id else FullFile()
    config = PersisterConfig(linger_ms=0, spill=SpillConfig(directory=tmp_path / "spill"))

    async def main() -> None:
        async with _served(directory) as server:
            store = PostgresStore(server.url, timeout_s=5)
            world = World(SystemClock(), seed=1, transport=PERFECT)

            def make(ports: Ports) -> Persister:
                return Persister(Ports(ports.bus, ports.log, ports.clock, store, ports.rng), config)

            task = world.start(NAME, make)
            persister = world.services[NAME]
            await until(persister.ready.is_set)
            await disk.fill(server)
            await publish(world, 0, 3_000)
            await until(lambda: persister.counts["spill.messages"] > 0)
            with pytest.raises(Recoverable, match=disk.told):
                await _saved_until_it_is_told(store)
            await disk.free(server)
            await until(lambda: persister.counts["fills"] >= 3_000)
            await publish(world, 3_000, 3_100)
            await world.ports(NAME).bus.drain()
            async with asyncio.timeout(60):
                await task
            kept = [int.from_bytes(fill.fill_id, "big") for fill in await store.load(Fill)]
            assert sorted(number for number in kept if number < FURTHER) == list(range(3_100))
            await store.close()

    asyncio.run(main())


FURTHER = 1_000_000


async def _saved_until_it_is_told(store: PostgresStore) -> None:
    """Save until the store says why it cannot: what is left of a disk takes a few rows."""
    for number in range(FURTHER, FURTHER + 200):
        fills = [Fill(fill_id=(number * 1_000 + each).to_bytes(8, "big"), account="paper") for each in range(1_000)]
        await store.save(fills)
