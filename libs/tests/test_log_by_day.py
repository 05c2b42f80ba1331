"""What the database keeps of the log: by day, shown to desks as far as it is market data, and kept over an upgrade."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickBatch
from huracan.errors import BadInput
from huracan.ports import Record
from huracan.store.aside import archive_days
from huracan.store.logged import LOGGED, rows
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.query import desk, page, query

from .logged_records import BTC, DAY_NS, START_NS, entry, features, ticks
from .test_partitions import dump

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

KEY = "sim.btc-usdt-perp"
DESK = "00000000-0000-4000-8000-00000000000a"
LAST_NS = START_NS + DAY_NS - 1
"""The last moment of the first day."""
SAMPLES: dict[str, Sequence[Message]] = {
    TICKS_TOPIC: [
        ticks(1, recv_ns=LAST_NS),
        ticks(2, rows=0, recv_ns=START_NS + DAY_NS + 1),
        ticks(3, rows=1, recv_ns=START_NS + 5 * DAY_NS),
        ticks(4, rows=0, recv_ns=START_NS + 5 * DAY_NS),
    ],
    FEATURES_TOPIC: [features(1, close_ns=LAST_NS), features(2, close_ns=LAST_NS + 1)],
    JOURNAL_TOPIC: [entry(1, at_ns=LAST_NS), entry(2, at_ns=LAST_NS + 1)],
}
"""Of two days at least; the first batch of ticks begins before midnight and ends after it."""
PLACED = {
    "market_data.ticks": {"ticks_20241004": 1, "ticks_20241005": 3, "ticks_20241009": 2},
    "tick_log.feature_rows": {"feature_rows_20241004": 1, "feature_rows_20241005": 1},
    "tick_log.journal": {"journal_20241004": 1, "journal_20241005": 1},
}


def _records(topic: str) -> list[Record]:
    return [Record(3 * number, message) for number, message in enumerate(SAMPLES[topic])]


def _run(url: str, scenario: Callable[[PostgresStore, Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        await migrate(url, migrations_directory())
        store, admin = PostgresStore(url), await asyncpg.connect(url)
        try:
            await scenario(store, admin)
        finally:
            await store.close()
            await admin.close()

    asyncio.run(main())


async def _save(store: PostgresStore) -> None:
    for topic in LOGGED:
        await store.save_records(topic, KEY, _records(topic))


async def _placed(admin: Connection) -> dict[str, dict[str, int]]:
    """Return how many rows of each table are where."""
    return {
        logged.sql: {
            name.removeprefix("partitions."): count
            for name, count in await admin.fetch(
                f"select tableoid::regclass::text, count(*) from {logged.sql} group by 1 order by 1"
            )
        }
        for logged in LOGGED.values()
    }


def test_rows_of_the_log_go_to_their_day_and_records_come_back_over_midnight(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.maintain(START_NS)
        await _save(store)
        assert (await store.maintain(START_NS + 6 * DAY_NS))["last.in_default"] == 0
        assert await _placed(admin) == PLACED
        rows = await admin.fetch("select * from market_data.ticks order by log_offset, row")
        columns = {name: [row[name] for row in rows] for name in LOGGED[TICKS_TOPIC].types}
        assert LOGGED[TICKS_TOPIC].records(columns) == _records(TICKS_TOPIC)

    _run(postgres_url, scenario)


def test_a_record_of_a_time_that_cannot_be_is_kept_once_and_raises_an_alert(postgres_url: str) -> None:
    record = Record(1, TickBatch(instrument=BTC, watermark_ns=1))

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        assert await store.save_records(TICKS_TOPIC, KEY, [record]) == 1
        assert await store.save_records(TICKS_TOPIC, KEY, [record]) == 0
        assert (await store.maintain(START_NS))["last.in_default"] == 1
        (alert,) = await query(postgres_url, "alerts")
        assert (alert["kind"], alert["about"]) == ("in_default", "market_data.ticks")

    _run(postgres_url, scenario)


def test_a_writer_that_claims_its_place_before_it_knows_a_time_leaves_no_row_without_a_day(postgres_url: str) -> None:
    claim = TickBatch(instrument=BTC, epoch=1, batch=1)

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        now_ns = await admin.fetchval("select (extract(epoch from now()) * 1000000000)::bigint")
        await store.save_records(TICKS_TOPIC, KEY, [Record(1, claim), Record(2, ticks(2, recv_ns=START_NS))])
        await store.save_records(TICKS_TOPIC, KEY, [Record(3, claim), Record(4, claim)])
        await store.save_records(TICKS_TOPIC, KEY, [Record(5, claim), Record(6, ticks(2, recv_ns=START_NS + DAY_NS))])
        await store.save_records(TICKS_TOPIC, "sim.eth", [Record(7, TickBatch()), Record(8, TickBatch(epoch=1))])
        assert (await store.maintain(now_ns))["last.in_default"] == 0
        rows = await admin.fetch("select * from market_data.ticks order by log_offset, row")
        times = {row["log_offset"]: row["recv_ns"] for row in rows if row["row"] is None}
        assert min(times.pop(7), times.pop(8)) >= now_ns
        assert times == {1: START_NS, 3: START_NS + 2, 4: START_NS + 2, 5: START_NS + DAY_NS}
        columns = {name: [row[name] for row in rows] for name in LOGGED[TICKS_TOPIC].types}
        assert LOGGED[TICKS_TOPIC].records(columns)[0] == Record(1, claim)

    _run(postgres_url, scenario)


def test_ticks_that_an_older_release_kept_without_a_time_get_a_day_where_one_is_known(
    postgres_url: str, tmp_path: Path
) -> None:
    for path in migrations_directory().iterdir():
        if path.name < "20261121220000":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    claim, alone = TickBatch(instrument=BTC, epoch=1), InstrumentDefinition(id=InstrumentId(venue="sim", symbol="eth"))
    second = START_NS + DAY_NS
    messages = [claim, ticks(1), claim, claim, ticks(2, recv_ns=second), claim, TickBatch(instrument=alone)]
    records = [Record(number, message) for number, message in enumerate(messages)]

    async def main() -> None:
        await migrate(postgres_url, tmp_path)
        admin = await asyncpg.connect(postgres_url)
        columns = LOGGED[TICKS_TOPIC].columns(KEY, records)
        columns["recv_ns"] = [
            0 if row is None else ns for row, ns in zip(columns["row"], columns["recv_ns"], strict=True)
        ]
        await admin.copy_records_to_table(
            "ticks", schema_name="market_data", records=rows(columns), columns=list(columns)
        )
        await admin.fetch("select partitions.maintain($1, 0)", second)
        await migrate(postgres_url, migrations_directory())
        times = await admin.fetch("select log_offset, recv_ns from market_data.ticks where row is null order by 1")
        assert [tuple(row) for row in times] == [
            *((0, START_NS), (2, START_NS), (3, START_NS), (5, second)),
            (6, 0),
        ]
        kept = await admin.fetch("select * from market_data.ticks order by log_offset, row")
        assert LOGGED[TICKS_TOPIC].records({name: [row[name] for row in kept] for name in columns}) == records
        assert [tuple(row)[:2] for row in await admin.fetch("select * from partitions.in_default()")] == [
            ("market_data.ticks", 1)
        ]
        forced = "select relforcerowsecurity from pg_class where oid = 'market_data.ticks'::regclass"
        assert await admin.fetchval(forced)
        await admin.close()

    asyncio.run(main())


def test_ticks_are_listed_page_by_page_and_shown_to_desks(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await _save(store)
        await store.maintain(START_NS + 6 * DAY_NS)
        listed, after = [], None
        while True:
            found = await page(
                postgres_url, "ticks", instrument=KEY, limit=3, after=after, identity=desk(DESK), until_ns=2**62
            )
            listed += found.rows
            after = found.after
            if after is None:
                break
        assert [(row["recv_ns"], row["price"], row["size"]) for row in listed] == [
            (START_NS + 5 * DAY_NS, -3_000, 3_000),
            *((LAST_NS + number, -1_000 - number, 1_000 + number) for number in (2, 1, 0)),
        ]
        assert await query(postgres_url, "ticks") == listed
        assert await query(postgres_url, "ticks", since_ns=LAST_NS, until_ns=LAST_NS + 1) == listed[-1:]

    _run(postgres_url, scenario)


@pytest.mark.parametrize("table", ["tick_log.feature_rows", "tick_log.journal", "tick_log.marks"])
def test_desks_see_nothing_else_of_the_log(postgres_url: str, table: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await admin.execute("set role authenticated")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await admin.execute(f"select from {table}")

    _run(postgres_url, scenario)


def test_days_of_the_log_are_put_aside_and_become_files_like_all_others(postgres_url: str, tmp_path: Path) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await _save(store)
        await store.maintain(START_NS, ahead_days=1)
        await store.maintain(START_NS + 3 * DAY_NS, ahead_days=0, keep_days=2)
        files = await archive_days(postgres_url, tmp_path)
        assert {f"{name}_20241004.parquet" for name in ("feature_rows", "journal", "ticks")} <= {
            path.name for path in files
        }
        assert pq.read_table(tmp_path / "ticks_20241004.parquet")["price"].to_pylist() == [-1_000]
        (values,) = pq.read_table(tmp_path / "feature_rows_20241004.parquet")["feature_values"].to_pylist()
        assert values is not None
        assert values[0] == 1.5
        assert await store.mark(TICKS_TOPIC, KEY) == 9
        assert await store.save_records(TICKS_TOPIC, KEY, _records(TICKS_TOPIC)) == 0

    _run(postgres_url, scenario)


def test_from_the_release_before_rows_and_marks_of_the_log_stay(
    postgres_url: str, second_url: str, tmp_path: Path
) -> None:
    for path in migrations_directory().iterdir():
        if path.name < "20261121200000":
            (tmp_path / path.name).write_bytes(path.read_bytes())

    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        await migrate(second_url, tmp_path)
        fresh, before = await asyncpg.connect(postgres_url), await asyncpg.connect(second_url)
        stores = [PostgresStore(url, 1) for url in (postgres_url, second_url)]
        await _save(stores[0])
        for logged in LOGGED.values():
            rows = await fresh.fetch(f"select * from {logged.sql}")
            # Then a record that has no rows had no time, and the second is told the one of the row before it.
            timed = [
                {**row, "recv_ns": None if row["row"] is None else row["recv_ns"]} if "recv_ns" in row else row
                for row in rows
            ]
            await before.copy_records_to_table(
                logged.name,
                schema_name="tick_log",
                records=[tuple(row.values()) for row in timed],
                columns=list(logged.types),
            )
        marks = [tuple(row) for row in await fresh.fetch("select * from tick_log.marks")]
        await before.copy_records_to_table("marks", schema_name="tick_log", records=marks)
        with pytest.raises(BadInput, match="run `huracan migrate`"):
            await stores[1].save_records(TICKS_TOPIC, KEY, _records(TICKS_TOPIC))
        await migrate(second_url, migrations_directory())
        assert await stores[1].save_records(TICKS_TOPIC, KEY, _records(TICKS_TOPIC)) == 0
        await fresh.execute(f"update market_data.ticks set recv_ns = {LAST_NS + 2} where log_offset = 3")
        for each in stores:
            await each.maintain(START_NS + 6 * DAY_NS)
            await each.close()
        assert await _placed(before) == PLACED
        await fresh.close()
        await before.close()

    asyncio.run(main())
    assert sorted(dump(postgres_url)) == sorted(dump(second_url))
