"""Rows into PostgreSQL and out of it, way beside way on one server of our own: `bench/persist_sql.py [--rows N]`.

Writing: decisions one INSERT at a time (the baseline of every ratio), by executemany, through the store, by COPY with a
high-water mark in the same transaction, by psql's \\copy and by COPY of the server from a file; into the tables as they
are, with days, indexes and policies, and COPY into a bare table as well. Ticks: out of log records, by executemany,
and as the store writes them. Reading: what `huracan query` asks, of N rows in a table with a primary key alone, with
days, with indexes, and with both; and then as a desk, with policies.
Medians of rounds in which the ways come in a shuffled order.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from huracan.clock import DAY_NS, MILLISECOND_NS, MINUTE_NS, STEP_NS
from huracan.contracts import codec
from huracan.contracts.context import ContextRef
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickColumns, tick_batch
from huracan.embedded import binaries
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import running
from huracan.ids import derived_id
from huracan.ports import Record
from huracan.rng import SeededRng
from huracan.store import query
from huracan.store.logged import TICKS
from huracan.store.logged import rows as tuples
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.tables import MESSAGE, TABLE_OF

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

TABLE = TABLE_OF[Decision]
COLUMNS = [*(column.name for column in TABLE.fields), MESSAGE]
BATCH = 5_000
WRITTEN = 50_000
ONE_BY_ONE = 1_000
"""Rows of the slowest way: each waits for the disk."""
ROUNDS = 5
DAYS = 10
SYMBOLS = 100
FIRST_NS = 1_772_323_200_000_000_000
"""2026-03-01 00:00:00 UTC."""
DESK = "00000000-0000-4000-8000-000000000001"
PLACES = ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
INSERT = f"insert into {TABLE.sql} ({', '.join(COLUMNS)}) values ({PLACES})"  # noqa: S608 - names of our own
MARK = (
    "insert into bench.marks values ('ticks', 0, $1) on conflict (topic, part) do update set mark = excluded.mark"
    " where marks.mark < excluded.mark returning mark"
)

Row = dict[str, str | float]
_ORDER = SeededRng(1).stream("ways")


def _shuffled(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return _ORDER.sample(listed, len(listed))


def decisions(count: int, first: int = 0) -> list[Decision]:
    """Return decisions of a day, each with three votes and two contexts."""
    return [
        Decision(
            decision_id=derived_id("bench", number),
            strategy="core",
            instrument=InstrumentId(venue="sim", symbol=f"sym-{number % SYMBOLS:03}", definition_version=1),
            step=number,
            close_ns=FIRST_NS + number * STEP_NS,
            direction=Direction.DIRECTION_HOLD,
            confidence=0.5,
            p_flat=1.0,
            votes=[Vote(expert=name, opinion_id=bytes(16), weight=1 / 3) for name in ("regime", "flow", "sentiment")],
            contexts=[ContextRef(kind=kind, key="BTC", version=number) for kind in ("regime", "mood")],
        )
        for number in range(first, first + count)
    ]


def records(messages: Sequence[Decision]) -> list[tuple[object, ...]]:
    """Return decisions as rows."""
    return [(*TABLE.columns(message).values(), codec.encode(message)) for message in messages]


def batches(rows: Sequence[tuple[object, ...]]) -> list[Sequence[tuple[object, ...]]]:
    """Return rows in batches of BATCH."""
    return [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]


class Writing:
    """The ways to write, each of which returns how many rows it wrote."""

    def __init__(self, url: str, folder: Path, connection: Connection) -> None:
        self._url = url
        self._connection = connection
        self._store = PostgresStore(url, 1)
        self._messages = decisions(WRITTEN)
        self._rows = records(self._messages)
        self._file = folder / "decisions.copy"
        self.ways: dict[str, Callable[[], Awaitable[int]]] = {
            "INSERT, one by one": self.one_by_one,
            "executemany": self.executemany,
            "store, once under each id": self.stored,
            "COPY with mark": self.copied,
            "COPY, bare table": self.copied_bare,
            "psql \\copy": self.psql,
            "COPY by the server": self.by_server,
        }

    async def prepare(self) -> None:
        """Make the bare table, the marks and the file."""
        await self._connection.execute(
            f"create schema bench; create table bench.bare (like {TABLE.sql});"
            "create table bench.marks (topic text, part integer, mark bigint, primary key (topic, part))"
        )
        await self.copied_bare()
        await self._connection.copy_from_table("bare", schema_name="bench", output=self._file, format="binary")
        self._file.chmod(0o644)

    async def close(self) -> None:
        """Close what was opened."""
        await self._store.close()

    async def empty(self) -> None:
        """Remove all rows, and let the server write what it has to."""
        await self._connection.execute(
            f"truncate {TABLE.sql}, moe_analysis.lineage, bench.bare, bench.marks; checkpoint"
        )

    async def one_by_one(self) -> int:
        """Insert a row in each transaction."""
        for row in self._rows[:ONE_BY_ONE]:
            await self._connection.execute(INSERT, *row)
        return ONE_BY_ONE

    async def executemany(self) -> int:
        """Insert a batch in each transaction."""
        for batch in batches(self._rows):
            await self._connection.executemany(INSERT, batch)
        return len(self._rows)

    async def stored(self) -> int:
        """Save through the store, which keeps each id once, and lineage too."""
        for at in range(0, WRITTEN, BATCH):
            await self._store.save(self._messages[at : at + BATCH])
        return WRITTEN

    async def copied(self) -> int:
        """Copy a batch in each transaction, with the mark of how far it goes."""
        schema, name = TABLE.sql.split(".")
        for number, batch in enumerate(batches(self._rows), 1):
            async with self._connection.transaction():
                assert await self._connection.fetchval(MARK, number * BATCH)
                await self._connection.copy_records_to_table(name, schema_name=schema, columns=COLUMNS, records=batch)
        return len(self._rows)

    async def copied_bare(self) -> int:
        """Copy into a table without days, indexes, marks and policies."""
        for batch in batches(self._rows):
            await self._connection.copy_records_to_table("bare", schema_name="bench", columns=COLUMNS, records=batch)
        return len(self._rows)

    async def psql(self) -> int:
        """Have psql copy the file, in one transaction."""
        command = f"\\copy {TABLE.sql} from '{self._file}' (format binary)"
        program = str(binaries.postgres_bin() / "psql")
        done = await asyncio.create_subprocess_exec(program, "-q", "-X", self._url, "-c", command)
        assert await done.wait() == 0
        return WRITTEN

    async def by_server(self) -> int:
        """Have the server copy the file, in one transaction."""
        await self._connection.execute(f"copy {TABLE.sql} from '{self._file}' (format binary)")
        return WRITTEN


async def written(url: str, folder: Path) -> list[Row]:
    """Measure the ways to write; return rows a second."""
    connection = await asyncpg.connect(url)
    writing = Writing(url, folder, connection)
    await writing.prepare()
    rates: dict[str, list[float]] = {name: [] for name in writing.ways}
    for _ in range(ROUNDS):
        for name in _shuffled(rates):
            await writing.empty()
            since_s = time.perf_counter()
            count = await writing.ways[name]()
            rates[name].append(count / (time.perf_counter() - since_s))
    await writing.empty()
    await writing.close()
    await connection.close()
    return _told({name: statistics.median(each) for name, each in rates.items()}, "rows/s", faster=True)


# Ticks.

TICK_BATCHES = 256
TICK_ROWS = 250
TICKS_AT_ONCE = 64
"""Batches of one transaction, as the persister takes them."""
_TICK_PLACES = ", ".join(f"${number}" for number in range(1, len(TICKS.types) + 1))
INSERT_TICK = f"insert into {TICKS.sql} ({', '.join(TICKS.types)}) values ({_TICK_PLACES})"  # noqa: S608 - our names


def tick_records() -> list[Record]:
    """Return batches of ticks as the log has them."""
    instrument = InstrumentDefinition(id=InstrumentId(venue="sim", symbol="sym-001", definition_version=1))
    batches = []
    for number in range(TICK_BATCHES):
        rows = list(range(number * TICK_ROWS, (number + 1) * TICK_ROWS))
        times = [FIRST_NS + row * MILLISECOND_NS for row in rows]
        small = [row % 5 for row in rows]
        columns = TickColumns(rows, times, times, rows, small, small, [1] * TICK_ROWS, rows, rows)
        batch = tick_batch(instrument=instrument, epoch=1, batch=number, columns=columns, watermark_ns=times[-1])
        batches.append(Record(number, batch))
    return batches


async def ticks_written(url: str) -> list[Row]:
    """Measure ticks from messages of the log into rows: by executemany, and as the store does; return rows a second."""
    connection, store = await asyncpg.connect(url), PostgresStore(url, 1)
    records = tick_records()
    parts = [records[at : at + TICKS_AT_ONCE] for at in range(0, TICK_BATCHES, TICKS_AT_ONCE)]

    async def executemany(_: str) -> None:
        for part in parts:
            async with connection.transaction():
                await connection.executemany(INSERT_TICK, tuples(TICKS.columns("key", part)))

    async def stored(key: str) -> None:
        for part in parts:
            await store.save_records(TICKS.topic, key, part)

    ways = {"ticks: executemany": executemany, "ticks: store, COPY with mark": stored}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in _shuffled(ways):
            await connection.execute(f"truncate {TICKS.sql}; checkpoint")
            since_s = time.perf_counter()
            await ways[name](str(number))
            rates[name].append(TICK_BATCHES * TICK_ROWS / (time.perf_counter() - since_s))
    await connection.execute(f"truncate {TICKS.sql}")
    await store.close()
    await connection.close()
    return _told({name: statistics.median(each) for name, each in rates.items()}, "rows/s", faster=True)


# Reading.

SCHEMAS = {
    "primary key alone": "bench_bare",
    "days": "bench_days",
    "indexes": "bench_indexed",
    "days and indexes": "moe_analysis",
}
HOUR_NS = 60 * MINUTE_NS
LAST_NS = FIRST_NS + DAYS * DAY_NS
QUESTIONS: dict[str, tuple[str | None, int | None, int | None, int]] = {
    "newest 100 of an instrument": ("sim.sym-042", None, None, 100),
    "an hour of an instrument": ("sim.sym-042", LAST_NS - 30 * HOUR_NS, LAST_NS - 29 * HOUR_NS, 100),
    "newest 100 of all in an hour": (None, LAST_NS - 30 * HOUR_NS, LAST_NS - 29 * HOUR_NS, 100),
    "newest 5,000 of all in a day": (None, LAST_NS - DAY_NS, LAST_NS, 5_000),
    "a page in the middle of an instrument": ("sim.sym-042", None, LAST_NS - DAYS // 2 * DAY_NS, 100),
}
"""Instrument, since, until and limit of what is asked."""


async def filled(connection: Connection, rows: int) -> None:
    """Make four tables with the same rows: DAYS of them, of SYMBOLS in turn."""
    await connection.execute("set synchronous_commit = off")
    for schema in SCHEMAS.values():
        if schema == "moe_analysis":
            continue
        await connection.execute(f"create schema {schema}")
        by_day = "partition by range (close_ns)" if schema == "bench_days" else ""
        key = "close_ns, decision_id" if schema == "bench_days" else "decision_id"
        await connection.execute(
            f"create table {schema}.decisions (like {TABLE.sql} including defaults, primary key ({key})) {by_day}"
        )
    for day in range(DAYS):
        from_ns = FIRST_NS + day * DAY_NS
        await connection.execute(
            f"create table bench_days.d{day} partition of bench_days.decisions"
            f" for values from ({from_ns}) to ({from_ns + DAY_NS})"
        )
    await connection.execute("select partitions.maintain($1, $2, null)", FIRST_NS, DAYS - 1)
    values = (
        "md5(n::text) as decision_id, case when n % 200 < 100 then 'core' else 'other' end as strategy, 'sim' as venue,"
        f" 'sym-' || lpad((n % {SYMBOLS})::text, 3, '0') as symbol, 1 as epoch, n as step,"
        f" {FIRST_NS} + n * ({DAYS * DAY_NS} / $1::bigint) as close_ns, 'HOLD' as direction, 0.5 as confidence,"
        " 0 as size, false as abstained, null as reason, 0 as valid_until_ns, 0.0 as p_down, 1.0 as p_flat,"
        " 0.0 as p_up, 0.0 as disagreement, n as first_ingest_seq, n as last_ingest_seq, ''::bytea as message"
    )
    for schema in ("moe_analysis", "bench_bare", "bench_days", "bench_indexed"):
        source = "generate_series(0, $1::bigint - 1) as n" if schema == "moe_analysis" else TABLE.sql
        chosen = values if schema == "moe_analysis" else "*"
        order = "" if schema == "moe_analysis" else " where $1::bigint > 0 order by close_ns"
        names = ", ".join(COLUMNS)
        await connection.execute(
            f"insert into {schema}.decisions ({names}) select {chosen} from {source}{order}",  # noqa: S608 - our names
            rows,
            timeout=3_600,
        )
    await connection.execute(
        "create index on bench_indexed.decisions (symbol, close_ns, decision_id);"
        "create index on bench_indexed.decisions (close_ns, decision_id)",
        timeout=3_600,
    )
    await connection.execute("vacuum analyze", timeout=3_600)
    await connection.execute("insert into desks.strategy_entitlements values ($1, 'core'), ($1, 'other')", DESK)


def _asked(schema: str, question: str) -> tuple[str, list[object]]:
    instrument, since_ns, until_ns, limit = QUESTIONS[question]
    listing = dataclasses.replace(query.LISTINGS[TABLE.name], source=f"{schema}.decisions")
    begins = [until_ns, "f"] if "page" in question else None
    return query.statement(listing, instrument, since_ns, None if begins else until_ns, limit, begins)


async def _took_s(connection: Connection, statement: str, values: Sequence[object]) -> float:
    since_s = time.perf_counter()
    await connection.fetch(statement, *values)
    return time.perf_counter() - since_s


async def read(connection: Connection) -> list[Row]:
    """Measure what the read side asks of each table; return milliseconds."""
    told: list[Row] = []
    for question in QUESTIONS:
        took: dict[str, list[float]] = {name: [] for name in SCHEMAS}
        answers = {}
        for _ in range(ROUNDS):
            for name in _shuffled(SCHEMAS):
                statement, values = _asked(SCHEMAS[name], question)
                answers[name] = [tuple(row) for row in await connection.fetch(statement, *values)]
                took[name].append(await _took_s(connection, statement, values))
        assert len(answers["days"]) > 0
        assert all(answer == answers["days"] for answer in answers.values())
        medians = {f"{question}: {name}": statistics.median(each) * 1e3 for name, each in took.items()}
        told += _told(medians, "ms", faster=False)
    return told


async def read_as_desk(connection: Connection) -> list[Row]:
    """Measure what policies cost: as the owner with the same condition written out, and as a desk."""
    told: list[Row] = []
    for question in QUESTIONS:
        took: dict[str, list[float]] = {"owner": [], "desk": []}
        for _ in range(4 * ROUNDS):
            for who in _shuffled(took):
                statement, values = _asked("moe_analysis", question)
                if who == "owner":
                    statement = statement.replace("where true", "where strategy = any ('{core,other}')")
                async with connection.transaction(readonly=True):
                    if who == "desk":
                        await query.become(connection, query.desk(DESK))
                    await connection.fetch(statement, *values)
                    took[who].append(
                        statistics.median([await _took_s(connection, statement, values) for _ in range(5)])
                    )
        medians = {f"{question}: {who}": statistics.median(each) * 1e3 for who, each in took.items()}
        told += _told(medians, "ms", faster=False)
    return told


def _told(medians: dict[str, float], unit: str, *, faster: bool) -> list[Row]:
    """Print and return rows whose ratio says how many times better than the first one each is."""
    baseline = next(iter(medians.values()))
    rows: list[Row] = [
        {
            "name": name,
            "value": value,
            "unit": unit,
            "baseline": baseline,
            "ratio": value / baseline if faster else baseline / value,
        }
        for name, value in medians.items()
    ]
    for row in rows:
        print(f"{row['name']:60} {row['value']:12,.2f} {row['unit']:8} {row['ratio']:8.2f}x", flush=True)  # noqa: T201
    return rows


async def measured(url: str, folder: Path, rows: int) -> list[Row]:
    """Migrate and measure everything."""
    await migrate(url, migrations_directory())
    store = PostgresStore(url, 1)
    await store.maintain(FIRST_NS)
    await store.close()
    told = await written(url, folder)
    told += await ticks_written(url)
    connection = await asyncpg.connect(url, statement_cache_size=100)
    await filled(connection, rows)
    told += await read(connection)
    told += await read_as_desk(connection)
    await connection.close()
    return told


def main() -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each table that is read")
    parser.add_argument("--out", type=Path, default=Path("out/bench/persist_sql.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = PostgresServer(directory=folder / "postgres", port=free_port())
        with running(server.prepare()):
            rows = asyncio.run(measured(server.url, folder, given.rows))
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine, "load": os.getloadavg()[0], "table_rows": given.rows, "rows": rows}
    given.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
