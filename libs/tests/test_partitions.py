"""Tables kept by day: days ahead, days that are over, rows that have none, and the way there from the schema before."""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from huracan.contracts.context import ContextRef
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.execution import AccountState, Fill, Order, Position, Side
from huracan.contracts.market import Anomaly, AnomalyKind, AnomalyPolicy, Bar, Evidence, InstrumentId
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import FeedChanged, FeedState
from huracan.embedded import binaries
from huracan.errors import BadInput, Recoverable
from huracan.store import partitions
from huracan.store.aside import archive_days
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.parquet import read_messages
from huracan.store.postgres import PostgresStore
from huracan.store.query import query
from huracan.store.tables import TABLES, lineage

from .nats_world import RunningServer

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Scenario = Callable[[PostgresStore, Connection], Awaitable[None]]

BTC = InstrumentId(venue="sim", symbol="btc-usdt-perp", definition_version=1)
DAY_NS = 86_400_000_000_000
AT_NS = 1_772_375_400_000_000_000
"""2026-03-01 14:30:00 UTC."""
BY_DAY = 10
"""Tables that are kept by day."""
SAVED = 8
"""Rows in them of what `_messages` has: a decision brings two of lineage."""
BEFORE_DAYS = ("20261121000000_kept_messages.sql", "20261121120000_data_quality.sql")
"""The migrations of the schema before."""


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _decision(number: int, at_ns: int = AT_NS) -> Decision:
    return Decision(
        decision_id=_id(number),
        strategy="core",
        instrument=BTC,
        close_ns=at_ns,
        direction=Direction.DIRECTION_BUY,
        votes=[Vote(expert="flow", opinion_id=_id(number), weight=1.0)],
        contexts=[ContextRef(kind="mood", key="BTC", version=7)],
    )


def _messages(number: int, at_ns: int) -> list[Message]:
    """Return a message of each kind that is kept by day, and an order."""
    return [
        _decision(number, at_ns),
        Opinion(opinion_id=_id(number), instrument=BTC, expert="flow", close_ns=at_ns),
        AccountState(account="paper", epoch=1, as_of_ns=at_ns, equity="100.5"),
        Bar(instrument=BTC, interval_ns=60, open_ns=at_ns, open="1.5"),
        Anomaly(
            anomaly_id=_id(number),
            instrument=BTC,
            kind=AnomalyKind.ANOMALY_KIND_SPREAD,
            policy=AnomalyPolicy.ANOMALY_POLICY_TAG,
            at_ns=at_ns,
            score=1.0,
            threshold=1.0,
        ),
        Fill(fill_id=_id(number), account="paper", instrument=BTC, side=Side.SIDE_BUY, matched_ns=at_ns, fee="-0.25"),
        Order(order_id=_id(number), account="paper", instrument=BTC, side=Side.SIDE_BUY, created_ns=at_ns),
    ]


def _run(url: str, scenario: Scenario) -> None:
    async def main() -> None:
        await migrate(url, migrations_directory())
        store, admin = PostgresStore(url), await asyncpg.connect(url)
        try:
            await scenario(store, admin)
        finally:
            await store.close()
            await admin.close()

    asyncio.run(main())


async def _placed(admin: Connection, table: str) -> list[tuple[str, int]]:
    """Return where the rows of a table are."""
    rows = await admin.fetch(f"select tableoid::regclass::text, count(*) from {table} group by 1 order by 1")
    return [(name.removeprefix("partitions."), count) for name, count in rows]


async def _alerts(admin: Connection) -> list[tuple[object, ...]]:
    return [
        tuple(row) for row in await admin.fetch("select kind, severity, about from system_health.alerts order by 1, 3")
    ]


# Days.


def test_days_are_made_ahead_once_however_many_look(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        done = await asyncio.gather(*(store.maintain(AT_NS, ahead_days=2) for _ in range(3)))
        assert sum(each["partitions.made"] for each in done) == 3 * BY_DAY
        assert (await store.maintain(AT_NS, ahead_days=2))["partitions.made"] == 0
        assert (await store.maintain(AT_NS + DAY_NS, ahead_days=2))["partitions.made"] == BY_DAY

    _run(postgres_url, scenario)


def test_a_row_goes_to_the_day_that_it_is_about(postgres_url: str) -> None:
    midnight_ns = AT_NS // DAY_NS * DAY_NS + DAY_NS

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.maintain(AT_NS)
        for number, at_ns in enumerate((AT_NS, midnight_ns - 1, midnight_ns, midnight_ns + 1), start=1):
            assert await store.save(_messages(number, at_ns)) == 7
            assert await store.save(_messages(number, at_ns)) == 0
        for table in [table for table in TABLES if table.by_day]:
            name = table.sql.partition(".")[2]
            assert await _placed(admin, table.sql) == [(f"{name}_20260301", 2), (f"{name}_20260302", 2)]
        assert await _placed(admin, "moe_analysis.lineage") == [("lineage_20260301", 4), ("lineage_20260302", 4)]

    _run(postgres_url, scenario)


def test_rows_that_came_before_their_day_was_made_are_moved_to_it(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([*_messages(1, AT_NS), *_messages(2, AT_NS - 100 * DAY_NS)])
        assert await _placed(admin, "trading.fills") == [("fills_default", 2)]
        done = await store.maintain(AT_NS, ahead_days=0)
        assert done == {"partitions.made": BY_DAY + 7, "partitions.detached": 0, "last.in_default": 0}
        assert await _placed(admin, "trading.fills") == [("fills_20251121", 1), ("fills_20260301", 1)]
        assert await _alerts(admin) == []
        assert await store.save([*_messages(1, AT_NS), *_messages(2, AT_NS - 100 * DAY_NS)]) == 0
        assert await store.load(Decision) == [_decision(1), _decision(2, AT_NS - 100 * DAY_NS)]

    _run(postgres_url, scenario)


def test_a_backlog_that_takes_longer_than_a_statement_may_is_moved_all_the_same(postgres_url: str) -> None:
    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(
            "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(1.5); return null; end'"
        )
        await admin.execute(
            "create trigger slow after delete on partitions.fills_default for each statement execute function slow()"
        )
        store = PostgresStore(postgres_url, 1, timeout_s=1.0)
        await store.save(_messages(1, AT_NS))
        await store.maintain(AT_NS, ahead_days=0)
        assert await _placed(admin, "trading.fills") == [("fills_20260301", 1)]
        await store.close()
        await admin.close()

    asyncio.run(main())


@pytest.mark.parametrize("at_ns", [0, -1, 5, AT_NS + 30 * DAY_NS, 2**63 - 1], ids=["0", "-1", "5", "later", "last"])
def test_rows_of_a_time_that_cannot_be_stay_and_raise_an_alert_a_day(postgres_url: str, at_ns: int) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([_messages(1, at_ns)[5], *_messages(2, AT_NS)])
        for _ in range(2):
            assert (await store.maintain(AT_NS))["last.in_default"] == 1
        assert await _placed(admin, "trading.fills") == [("fills_20260301", 1), ("fills_default", 1)]
        assert await _alerts(admin) == [("in_default", "warning", "trading.fills")]
        await store.maintain(AT_NS + DAY_NS)
        (told, _) = await query(postgres_url, "alerts")
        assert told["detail"] == f"1 rows from {at_ns} to {at_ns} have no partition of their day"

    _run(postgres_url, scenario)


def test_days_that_are_old_are_detached_whole_and_what_comes_late_stays_in_default(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([*_messages(1, AT_NS - 3 * DAY_NS), *_messages(2, AT_NS - 2 * DAY_NS), *_messages(3, AT_NS)])
        await store.maintain(AT_NS, ahead_days=0)
        done = await store.maintain(AT_NS, ahead_days=0, keep_days=2)
        assert done["partitions.detached"] == 7
        assert [row.decision_id for row in await store.load(Decision)] == [_id(2), _id(3)]
        assert await admin.fetchval("select fill_id from partitions.fills_20260226") == _id(1).hex()
        await store.save(_messages(4, AT_NS - 3 * DAY_NS))
        done = await store.maintain(AT_NS, ahead_days=0, keep_days=2)
        assert done == {"partitions.made": 0, "partitions.detached": 0, "last.in_default": SAVED}
        done = await store.maintain(AT_NS, ahead_days=0)
        assert done == {"partitions.made": 0, "partitions.detached": 0, "last.in_default": SAVED}

    _run(postgres_url, scenario)


def test_while_somebody_reads_for_long_it_is_put_off(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "LOCK_WITHIN_MS", 50)

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        async with admin.transaction():
            await admin.fetch("select from trading.fills")
            with pytest.raises(Recoverable, match="lock timeout"):
                await store.maintain(AT_NS)
            assert await store.save(_messages(1, AT_NS)) == 7
        assert (await store.maintain(AT_NS))["last.in_default"] == 0

    _run(postgres_url, scenario)


def test_a_query_of_a_day_reads_that_day_alone(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.maintain(AT_NS, ahead_days=5)
        for table in [table for table in TABLES if table.by_day]:
            plan = await admin.fetch(
                f"explain (costs off) select * from {table.sql} where {table.by_day} >= $1 and {table.by_day} < $2",
                AT_NS,
                AT_NS + 60,
            )
            assert set(re.findall(r"_(\d{8}|default)\b", " ".join(line[0] for line in plan))) == {"20260301"}

    _run(postgres_url, scenario)


def test_a_decision_and_its_lineage_are_of_one_day(postgres_url: str) -> None:
    (opinion, context) = lineage(_decision(1))
    assert {(each.close_ns, each.strategy) for each in (opinion, context)} == {(AT_NS, "core")}

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([_decision(1), _decision(2, AT_NS + DAY_NS)])
        rows = await query(postgres_url, "lineage", until_ns=AT_NS + 1)
        assert [row["decision_id"] for row in rows] == [_id(1).hex()] * 2

    _run(postgres_url, scenario)


# What follows from messages.


def test_the_newest_position_stays_whatever_the_arrival(postgres_url: str) -> None:
    def state(quantity: int, at_ns: int, epoch: int = 1) -> AccountState:
        held = [Position(instrument=BTC, quantity=quantity)]
        return AccountState(account="paper", epoch=epoch, as_of_ns=at_ns, positions=held)

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([state(5, 10), state(7, 30), state(6, 20)])
        await store.save([state(1, 15)])
        assert [row["quantity"] for row in await query(postgres_url, "positions")] == [7]
        await store.save([state(-3, 25, epoch=2)])
        await store.save([state(9, 40)])
        (row,) = await query(postgres_url, "positions", instrument="sim.btc-usdt-perp")
        assert (row["account"], row["quantity"], row["epoch"]) == ("paper", -3, 2)

    _run(postgres_url, scenario)


def test_what_is_far_out_or_fails_raises_an_alert_once(postgres_url: str) -> None:
    def anomaly(number: int, score: float) -> Anomaly:
        return Anomaly(
            anomaly_id=_id(number),
            instrument=BTC,
            kind=AnomalyKind.ANOMALY_KIND_SPREAD,
            policy=AnomalyPolicy.ANOMALY_POLICY_TAG,
            at_ns=number,
            score=score,
            threshold=10.0,
            evidence=[Evidence(name="spread_bps", value=score)],
        )

    def feed(number: int, state: FeedState) -> FeedChanged:
        return FeedChanged(change_id=_id(number), instrument=BTC, state=state, at_ns=number, detail="why")

    messages = [
        *(anomaly(1, 29.0), anomaly(2, 30.0), anomaly(3, 100.0)),
        feed(4, FeedState.FEED_STATE_RECONNECTING),
        feed(5, FeedState.FEED_STATE_SILENT),
        feed(6, FeedState.FEED_STATE_REFUSED),
    ]

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        for _ in range(2):
            await store.save(messages)
        rows = await query(postgres_url, "alerts")
        assert [(row["at_ns"], row["kind"], row["severity"], row["detail"]) for row in rows] == [
            (6, "refused", "critical", "why"),
            (5, "silent", "warning", "why"),
            (3, "spread", "critical", "spread_bps=100"),
            (2, "spread", "warning", "spread_bps=30"),
        ]

    _run(postgres_url, scenario)


# From the schema before.


def dump(url: str) -> list[str]:
    """Return the schema and all rows as SQL, but for the key that a dump makes up each time."""
    command = [str(binaries.postgres_bin() / "pg_dump"), "--inserts", "--rows-per-insert=1", url]
    dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in dumped.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


async def _copied(source: Connection, target: Connection) -> None:
    """Copy the rows of every table that the target has, by the columns that it has, to it."""
    columns = await target.fetch(
        "select table_schema, table_name, array_agg(column_name::text) from information_schema.columns"
        " where table_schema in ('market_data', 'moe_analysis', 'trading') group by 1, 2"
    )
    for schema, table, names in columns:
        rows = [tuple(row) for row in await source.fetch(f"select {', '.join(names)} from {schema}.{table}")]
        await target.copy_records_to_table(table, schema_name=schema, columns=names, records=rows)


def test_from_the_schema_before_with_rows_it_ends_as_from_an_empty_database(
    postgres_url: str, second_url: str, tmp_path: Path
) -> None:
    for name in BEFORE_DAYS:
        (tmp_path / name).write_bytes((migrations_directory() / name).read_bytes())
    saved = [
        message
        for number, at_ns in enumerate((AT_NS, AT_NS + DAY_NS, AT_NS - 40 * DAY_NS, 5, 2**63 - 1), start=1)
        for message in _messages(number, at_ns)
    ]

    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        await migrate(second_url, tmp_path)
        fresh, before = await asyncpg.connect(postgres_url), await asyncpg.connect(second_url)
        store = PostgresStore(postgres_url, 1)
        assert await store.save(saved) == len(saved)
        await _copied(fresh, before)
        await migrate(second_url, migrations_directory())
        moved = PostgresStore(second_url, 1)
        for each in (store, moved):
            await each.maintain(AT_NS + DAY_NS)
            await each.close()
        assert await _placed(before, "trading.fills") == [
            ("fills_20260120", 1),
            ("fills_20260301", 1),
            ("fills_20260302", 1),
            ("fills_default", 2),
        ]
        await fresh.close()
        await before.close()

    asyncio.run(main())
    fresh, moved = dump(postgres_url), dump(second_url)
    assert len(fresh) > 1_000
    assert sorted(fresh) == sorted(moved)


# Who owns it.


def test_an_owner_with_few_rights_migrates_and_saves_as_the_service_role(
    postgres_server: RunningServer, postgres_url: str
) -> None:
    name, password = f"plain_{secrets.token_hex(4)}", secrets.token_hex(16)

    async def as_admin(*statements: str) -> None:
        admin = await asyncpg.connect(postgres_server.url)
        for statement in statements:
            await admin.execute(statement)
        await admin.close()

    async def scenario(url: str) -> None:
        await migrate(postgres_url, migrations_directory())  # by a superuser, who makes the roles
        await as_admin(f"create role {name} login password '{password}'", f"create database {name} owner {name}")
        await migrate(url, migrations_directory())
        owner = PostgresStore(url, 1)
        with pytest.raises(BadInput, match="row-level security"):
            await owner.save([_decision(1)])
        await as_admin(f"grant service_role to {name}")
        store = PostgresStore(f"{url}?role=service_role", 1)
        assert await store.save(_messages(1, AT_NS)) == 7
        assert (await owner.maintain(AT_NS, ahead_days=0))["partitions.made"] == BY_DAY
        await store.save(_messages(2, AT_NS + DAY_NS))
        done = await store.maintain(AT_NS + DAY_NS, ahead_days=0)
        assert done == {"partitions.made": BY_DAY, "partitions.detached": 0, "last.in_default": 0}
        assert len(await store.load(Decision)) == 2
        assert await owner.load(Decision) == []
        await store.close()
        admin = await asyncpg.connect(url)
        await admin.execute("insert into supabase_migrations.huracan_checksums values ('29990101000000', 'c0ffee')")
        await admin.close()
        later = PostgresStore(f"{url}?role=service_role", 1)
        with pytest.raises(BadInput, match="29990101000000, which this release does not know"):
            await later.load(Decision)
        await later.close()
        await owner.close()

    host = postgres_server.url.rpartition("@")[2].rpartition("/")[0]
    try:
        asyncio.run(scenario(f"postgresql://{name}:{password}@{host}/{name}"))
    finally:
        asyncio.run(as_admin(f"drop database if exists {name} with (force)", f"drop role if exists {name}"))


# Archives.


def test_days_that_were_put_aside_become_files_and_leave(postgres_url: str, tmp_path: Path) -> None:
    old = _messages(1, AT_NS - 30 * DAY_NS)

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([*old, *_messages(2, AT_NS)])
        await store.maintain(AT_NS, ahead_days=0)
        assert await archive_days(postgres_url, tmp_path) == []
        await store.maintain(AT_NS, ahead_days=0, keep_days=7)
        files = await archive_days(postgres_url, tmp_path)
        assert [path.name for path in files] == [
            f"{name}_20260130.parquet"
            for name in (
                "accounts",
                "anomalies",
                "decisions",
                "expert_responses",
                "fills",
                "lineage",
                "underlying_ohlc",
            )
        ]
        assert read_messages(tmp_path / "fills_20260130.parquet", Fill) == [old[5]]
        assert pq.read_table(tmp_path / "fills_20260130.parquet").to_pylist()[0]["fee"] == "-0.25"
        assert pq.read_table(tmp_path / "lineage_20260130.parquet").num_rows == 2
        assert await archive_days(postgres_url, tmp_path) == []
        assert [row.fill_id for row in await store.load(Fill)] == [_id(2)]

    _run(postgres_url, scenario)


def test_a_day_that_cannot_be_written_is_not_dropped(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "fills_20260130.new").mkdir()

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([_messages(1, AT_NS - 30 * DAY_NS)[5]])
        await store.maintain(AT_NS, ahead_days=0)
        await store.maintain(AT_NS, ahead_days=0, keep_days=7)
        with pytest.raises(BadInput, match=r"fills_20260130.parquet cannot be written: .*; nothing was dropped"):
            await archive_days(postgres_url, tmp_path)
        (tmp_path / "fills_20260130.new").rmdir()
        assert [path.name for path in await archive_days(postgres_url, tmp_path)] == ["fills_20260130.parquet"]

    _run(postgres_url, scenario)


def test_killed_before_the_drop_a_day_is_archived_once(postgres_url: str, tmp_path: Path) -> None:
    async def scenario(store: PostgresStore, admin: Connection) -> None:
        await store.save([_messages(number, AT_NS - 30 * DAY_NS)[5] for number in (1, 2)])
        await store.maintain(AT_NS, ahead_days=0)
        await store.maintain(AT_NS, ahead_days=0, keep_days=7)
        await admin.execute("create table partitions.copied (like partitions.fills_20260130)")
        await admin.execute("insert into partitions.copied select * from partitions.fills_20260130")
        await admin.execute("create schema elsewhere; alter table partitions.copied set schema elsewhere")
        (file,) = [path for path in await archive_days(postgres_url, tmp_path) if path.name.startswith("fills")]
        await admin.execute("alter table elsewhere.copied set schema partitions")
        await admin.execute("alter table partitions.copied rename to fills_20260130")
        assert await archive_days(postgres_url, tmp_path) == [file]
        assert read_messages(file, Fill) == [_messages(number, AT_NS - 30 * DAY_NS)[5] for number in (1, 2)]

    _run(postgres_url, scenario)


def test_a_day_that_was_made_again_for_what_came_late_replaces_no_file(postgres_url: str, tmp_path: Path) -> None:
    early, late = (_messages(number, AT_NS - 30 * DAY_NS)[5] for number in (1, 2))

    async def scenario(store: PostgresStore, admin: Connection) -> None:
        for message in (early, late):
            await store.save([message])
            await store.maintain(AT_NS, ahead_days=0)
            await store.maintain(AT_NS, ahead_days=0, keep_days=7)
            await archive_days(postgres_url, tmp_path)
        assert read_messages(tmp_path / "fills_20260130.parquet", Fill) == [early]
        assert read_messages(tmp_path / "fills_20260130.2.parquet", Fill) == [late]

    _run(postgres_url, scenario)
