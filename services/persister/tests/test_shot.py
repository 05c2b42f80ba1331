"""The persister as a process of its own, on real servers: shot amid its work, and given a wrong database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.nats.users import EVERYTHING
from huracan.clock import SystemClock
from huracan.contracts.decision import Decision, Vote
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickColumns, tick_batch
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.store.migrate import migrate, migrations_directory
from huracan.ticklog.jetstream import JetStreamLog

BTC = InstrumentDefinition(id=InstrumentId(venue="sim", symbol="btc", definition_version=1), shard=6)
COUNT = 600
"""Decisions, and batches of ticks."""
ROWS = 5
SHOTS = 3
PASSWORD = "secret"


@dataclass(frozen=True, slots=True)
class Site:
    """A NATS server with streams, a database, and settings of a persister on both."""

    nats_url: str
    postgres_url: str
    directory: Path

    def settings(self, *, store_url: str | None = None) -> Path:
        """Write settings and return their file."""
        path = self.directory / "persister.json"
        config = {
            "linger_ms": 5,
            "tables": ["ticks"],
            "tables_every_s": 0.02,
            "spill": {"directory": str(self.directory / "spill")},
        }
        told = {
            "services": {"persister": config},
            "nats": {"url": self.nats_url, "user": "admin", "passwords": {"admin": PASSWORD}},
            "store": {"url": store_url or self.postgres_url},
        }
        path.write_text(json.dumps(told))
        return path

    async def rows(self, statement: str) -> list[int]:
        """Return the first column of what the database answers."""
        connection = await asyncpg.connect(self.postgres_url)
        try:
            return [row[0] for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        """Change the database, read-only or not."""
        connection = await asyncpg.connect(self.postgres_url, server_settings={"default_transaction_read_only": "off"})
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def kept(self) -> tuple[list[int], list[int]]:
        """Return the steps of decisions, and sequence numbers of ticks, each in order."""
        return (
            await self.rows("select step from moe_analysis.decisions order by step"),
            await self.rows("select ingest_seq from market_data.ticks order by ingest_seq"),
        )


@pytest.fixture
def site(postgres_url: str) -> Iterator[Site]:
    """Run a NATS server of its own beside an empty database."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-shot-"))
    server = NatsServer(directory=directory / "nats", port=free_port(), monitor_port=free_port())
    user = NatsUser(name="admin", password=PASSWORD, publish=EVERYTHING.publish, subscribe=EVERYTHING.subscribe)
    with running(server.prepare([user])):
        yield Site(server.url, postgres_url, directory)
    rmtree(directory)


@asynccontextmanager
async def _bus(site: Site) -> AsyncIterator[NatsBus]:
    await migrate(site.postgres_url, migrations_directory())
    connection = Connection(NatsLogin(url=site.nats_url, name="admin", password=SecretStr(PASSWORD)))
    await connection.open()
    try:
        await make_streams(connection)
        yield NatsBus(connection, wall=SystemClock())
    finally:
        await connection.close()


@asynccontextmanager
async def _process(settings: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "huracan.service", "--config", str(settings))
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _publish(bus: NatsBus, first: int, last: int) -> None:
    log = JetStreamLog(bus)
    for number in range(first, last):
        decision_id = number.to_bytes(16, "big")
        votes = [Vote(expert="flow", opinion_id=decision_id)]
        decision = Decision(decision_id=decision_id, instrument=BTC.id, shard=6, step=number, votes=votes)
        numbers = list(range(number * ROWS, number * ROWS + ROWS))
        columns = TickColumns(*([numbers] * 4), *([[1] * ROWS] * 3), *([numbers] * 2))
        batch = tick_batch(instrument=BTC, epoch=1, batch=number, columns=columns, watermark_ns=1)
        await asyncio.gather(
            bus.publish_acknowledged(subjects.decision("core", 6, BTC.id), decision, message_id=decision_id),
            log.append(subjects.TICKS_TOPIC, "sim.btc", batch, record_id=decision_id),
        )


async def _until(site: Site, holds: Callable[[list[int], list[int]], bool]) -> None:
    async with asyncio.timeout(90):
        while not holds(*await site.kept()):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)


def _all(count: int) -> tuple[list[int], list[int]]:
    return list(range(count)), list(range(count * ROWS))


def test_a_process_that_is_shot_in_the_middle_loses_and_doubles_nothing(site: Site) -> None:
    async def main() -> None:
        async with _bus(site) as bus:
            for shot in range(SHOTS):
                publishing = asyncio.create_task(_publish(bus, shot * COUNT // SHOTS, (shot + 1) * COUNT // SHOTS))
                async with _process(site.settings()) as process:
                    # A little further each time, so that it falls at another moment of its work.
                    enough = shot * COUNT // SHOTS + 7 * (shot + 1)
                    await _until(site, lambda steps, ticks: len(steps) >= enough and len(ticks) >= enough * ROWS)  # noqa: B023
                    os.kill(process.pid, signal.SIGKILL)
                    assert await process.wait() == -signal.SIGKILL
                await publishing
            async with _process(site.settings()):
                await _until(site, lambda steps, ticks: len(steps) >= COUNT and len(ticks) >= COUNT * ROWS)
            assert await site.kept() == _all(COUNT)
            (rested,) = await site.rows("select count(*) from moe_analysis.lineage")
            assert rested == COUNT

    asyncio.run(main())


def _other_password(url: str) -> str:
    password = urlsplit(url).password
    assert password
    return url.replace(password, "wrong")


NEWER = "insert into supabase_migrations.huracan_checksums values ('29990101000000', 'c0ffee')"


@pytest.mark.parametrize(
    ("spoil", "change", "told"),
    [
        ("", _other_password, "database URL was refused: .*correct user, password or database in store.url"),
        (NEWER, str, "database has schema 29990101000000, which this release does not know: upgrade Huracan"),
    ],
    ids=["wrong password", "unknown schema"],
)
def test_a_database_that_cannot_be_used_is_told_once_and_nothing_is_lost(
    site: Site, spoil: str, change: Callable[[str], str], told: str
) -> None:
    async def main() -> None:
        async with _bus(site) as bus:
            if spoil:
                await site.execute(spoil)
            await _publish(bus, 0, 20)
            async with _process(site.settings(store_url=change(site.postgres_url))) as process:
                assert process.stderr is not None
                said = (await process.stderr.read()).decode()
                assert await process.wait() == 2
            (failed,) = [json.loads(line) for line in said.splitlines() if '"process.failed"' in line]
            (error,) = failed["errors"]
            assert error.startswith("BadInput: ")
            with pytest.raises(AssertionError, match=told):
                raise AssertionError(error)
            assert (urlsplit(site.postgres_url).password or "") not in said
            await site.execute("delete from supabase_migrations.huracan_checksums where version = '29990101000000'")
            async with _process(site.settings()):
                await _until(site, lambda steps, ticks: (steps, ticks) == _all(20))

    asyncio.run(main())


def test_what_comes_while_the_database_is_read_only_waits_for_it(site: Site) -> None:
    name = site.postgres_url.rpartition("/")[2]

    async def main() -> None:
        async with _bus(site) as bus:
            await site.execute(f"alter database {name} set default_transaction_read_only = on")
            async with _process(site.settings()):
                await _publish(bus, 0, 20)
                spill = site.directory / "spill"
                async with asyncio.timeout(60):
                    while not any(path.stat().st_size for path in spill.glob("*.spill")):  # noqa: ASYNC110 - as above
                        await asyncio.sleep(0.02)
                assert await site.kept() == ([], [])
                await site.execute(f"alter database {name} reset all")
                # Sessions keep what they began with.
                await site.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    f" where datname = '{name}' and pid <> pg_backend_pid()"
                )
                await _until(site, lambda steps, ticks: (steps, ticks) == _all(20))

    asyncio.run(main())
