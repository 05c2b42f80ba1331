"""Replicas on real servers: one is stopped, its shards are given to another, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import asyncpg
import pytest
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.nats.users import EVERYTHING, service_permissions
from huracan.clock import SystemClock
from huracan.contracts.decision import Decision, Vote
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickColumns, tick_batch
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.ticklog.jetstream import JetStreamLog
from huracan_persister.config import PersisterConfig
from huracan_persister.service import NAME, Persister
from huracan_persister.share import Share
from huracan_persister.spec import SPEC

OF = 64
PARTS = (6, 7)
COUNT = 600
"""Decisions of each shard, and batches of ticks of each key."""
ROWS = 5
"""Ticks of a batch."""
PASSWORD = "secret"


def _config(*parts: int) -> PersisterConfig:
    return PersisterConfig(linger_ms=5, shards=parts, of=OF, tables=("ticks",), tables_every_s=0.02)


def _symbol(part: int) -> str:
    """Return a symbol whose key of the log is in a part."""
    return next(
        name for name in (f"s{number}" for number in range(10_000)) if Share((part,), OF).has_key(f"sim.{name}")
    )


INSTRUMENTS = {
    part: InstrumentDefinition(id=InstrumentId(venue="sim", symbol=_symbol(part)), shard=part) for part in PARTS
}


@pytest.fixture
def nats_url() -> Iterator[str]:
    """Run a server whose persister may do what its access says, and no more."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-replicas-"))
    server = NatsServer(directory=directory, port=free_port(), monitor_port=free_port())
    allowed = service_permissions(NAME, SPEC.access(_config(*PARTS)))
    users = [
        NatsUser(name="admin", password=PASSWORD, publish=EVERYTHING.publish, subscribe=EVERYTHING.subscribe),
        NatsUser(name=NAME, password=PASSWORD, publish=allowed.publish, subscribe=allowed.subscribe),
    ]
    with running(server.prepare(users)):
        yield server.url
    rmtree(directory)


@dataclass
class Replica:
    """A persister with a connection and a store of its own."""

    persister: Persister
    bus: NatsBus
    serving: asyncio.Task[None]


@asynccontextmanager
async def _connected(url: str, name: str) -> AsyncIterator[NatsBus]:
    connection = Connection(NatsLogin(url=url, name=name, password=SecretStr(PASSWORD)))
    await connection.open()
    try:
        yield NatsBus(connection, wall=SystemClock())
    finally:
        await connection.close()


@asynccontextmanager
async def _replica(nats_url: str, postgres_url: str, *parts: int) -> AsyncIterator[Replica]:
    """Run a replica; at the end it is stopped in the middle of whatever it does."""
    store = PostgresStore(postgres_url)
    async with _connected(nats_url, NAME) as bus:
        ports = Ports(bus=bus, log=JetStreamLog(bus), clock=SystemClock(), store=store, rng=SeededRng(1))
        persister = Persister(ports, _config(*parts))
        serving = asyncio.create_task(persister.run())
        try:
            await asyncio.wait(
                [serving, asyncio.create_task(persister.ready.wait())], return_when=asyncio.FIRST_COMPLETED
            )
            yield Replica(persister, bus, serving)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await store.close()


async def _publish(bus: NatsBus, first: int, last: int) -> None:
    log = JetStreamLog(bus)
    for number in range(first, last):
        for part, instrument in INSTRUMENTS.items():
            decision_id = part.to_bytes(4, "big") + number.to_bytes(12, "big")
            votes = [Vote(expert="flow", opinion_id=decision_id)]
            decision = Decision(decision_id=decision_id, instrument=instrument.id, shard=part, step=number, votes=votes)
            subject = subjects.decision("core", part, instrument.id)
            numbers = list(range(number * ROWS, number * ROWS + ROWS))
            columns = TickColumns(*([numbers] * 4), *([[1] * ROWS] * 3), *([numbers] * 2))
            batch = tick_batch(instrument=instrument, epoch=1, batch=number, columns=columns, watermark_ns=1)
            key = f"sim.{instrument.id.symbol}"
            await asyncio.gather(
                bus.publish_acknowledged(subject, decision, message_id=decision_id),
                log.append(subjects.TICKS_TOPIC, key, batch, record_id=decision_id),
            )


async def _until(persister: Persister, name: str, count: int) -> None:
    async with asyncio.timeout(30):
        while persister.counts[name] < count:  # noqa: ASYNC110 - counted by another task
            await asyncio.sleep(0.005)


async def _ended(replica: Replica) -> None:
    await replica.bus.drain()
    await replica.serving


def test_shards_of_a_stopped_replica_go_on_in_another(nats_url: str, postgres_url: str) -> None:
    first, second = PARTS

    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        async with _connected(nats_url, "admin") as admin:
            await make_streams(admin.connection)
            async with _replica(nats_url, postgres_url, second) as staying:
                async with _replica(nats_url, postgres_url, first) as leaving:
                    publishing = asyncio.create_task(_publish(admin, 0, COUNT // 2))
                    await _until(leaving.persister, "decisions", 50)
                    await _until(leaving.persister, "log.records", 50)
                await _until(staying.persister, "decisions", 100)
            async with _replica(nats_url, postgres_url, *PARTS) as heir:
                await publishing
                await _publish(admin, COUNT // 2, COUNT)
                async with asyncio.timeout(60):
                    await _ended(heir)
        connection = await asyncpg.connect(postgres_url)
        decided = await connection.fetch("select symbol, step from moe_analysis.decisions order by symbol, step")
        rested = await connection.fetchval("select count(*) from moe_analysis.lineage")
        ticks = await connection.fetch("select symbol, ingest_seq from market_data.ticks order by log_offset, row")
        await connection.close()
        symbols = sorted(instrument.id.symbol for instrument in INSTRUMENTS.values())
        assert [tuple(row) for row in decided] == [(symbol, step) for symbol in symbols for step in range(COUNT)]
        assert rested == 2 * COUNT
        for symbol in symbols:
            assert [row["ingest_seq"] for row in ticks if row["symbol"] == symbol] == list(range(COUNT * ROWS))

    asyncio.run(main())


def test_a_replica_may_read_nothing_but_its_share(nats_url: str, postgres_url: str) -> None:
    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        async with _connected(nats_url, "admin") as admin:
            await make_streams(admin.connection)
        async with _replica(nats_url, postgres_url, 8) as replica:
            with pytest.raises(Exception, match="no permission for publish on"):
                await replica.serving

    asyncio.run(main())
