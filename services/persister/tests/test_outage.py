"""A database that is really away: killed, stopped, started again; what came meanwhile is kept once."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree

import pytest

from huracan.bus import subjects
from huracan.bus.transport import PERFECT
from huracan.clock import SystemClock
from huracan.contracts.execution import Fill
from huracan.contracts.market import InstrumentId
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import Supervisor
from huracan.ids import derived_id
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.sim.world import World
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan_persister.config import PersisterConfig, SpillConfig
from huracan_persister.service import NAME, Persister

SUBJECT = subjects.execution("paper", "fill", InstrumentId(venue="sim", symbol="btc"))


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory that every user can pass through, as PostgreSQL under root needs it."""
    made = Path(tempfile.mkdtemp(prefix="huracan-outage-"))
    made.chmod(0o711)
    yield made
    rmtree(made)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.01)


async def publish(world: World, first: int, last: int) -> None:
    bus = world.ports("desk").bus
    for number in range(first, last):
        fill = Fill(fill_id=number.to_bytes(4, "big"), account="paper")
        await bus.publish_acknowledged(SUBJECT, fill, message_id=derived_id(number))
        await asyncio.sleep(0)


def test_fills_of_an_outage_wait_on_disk_and_are_kept_once(directory: Path) -> None:
    async def main() -> None:
        programs = Supervisor(SeededRng(1))
        server = PostgresServer(directory=directory / "postgres", port=free_port())
        program = server.prepare()
        await programs.start(program)
        await migrate(server.url, migrations_directory())
        store = PostgresStore(server.url)
        world = World(SystemClock(), seed=1, transport=PERFECT)
        config = PersisterConfig(linger_ms=0, spill=SpillConfig(directory=directory / "spill"))

        def make(ports: Ports) -> Persister:
            return Persister(Ports(ports.bus, ports.log, ports.clock, store, ports.rng), config)

        task = world.start(NAME, make)
        persister = world.services[NAME]
        await publish(world, 0, 100)
        await until(lambda: persister.counts["fills"] == 100)
        await programs.stop("postgres")
        await publish(world, 100, 200)
        await until(lambda: persister.counts["spill.messages"] == 100)
        assert persister.report()["last.spill_bytes"] > 0
        await programs.start(program)
        await until(lambda: persister.counts["fills"] == 200)
        publishing = asyncio.create_task(publish(world, 200, 400))
        programs.send("postgres", signal.SIGKILL)
        await publishing
        await world.ports(NAME).bus.drain()
        async with asyncio.timeout(60):
            await task
        kept = [int.from_bytes(fill.fill_id, "big") for fill in await store.load(Fill)]
        assert sorted(kept) == list(range(400))
        assert persister.report()["last.spill_bytes"] == 0
        await store.close()
        await programs.stop_all()

    asyncio.run(main())
