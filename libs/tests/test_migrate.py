"""Migrations: each file once, whole and in order, however many start at once; and a schema that fits the code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints
from urllib.parse import urlsplit

import asyncpg
import pytest

from huracan.errors import BadInput, Fatal, Recoverable
from huracan.store import migrate as module
from huracan.store.derived import ALERTS, POSITIONS, Alert, Position
from huracan.store.logged import LOGGED
from huracan.store.marks import MARKS, SKIPPED
from huracan.store.migrate import migrate, migrations_directory, read_migrations
from huracan.store.postgres import primary_key
from huracan.store.tables import BIGINT, DOUBLE, LINEAGE_SCHEMA, LINEAGE_TABLE, MESSAGE, TABLES, TEXT, Lineage

FIRST, SECOND, THIRD = "20260101000000_first.sql", "20260102000000_second.sql", "20260103000000_third.sql"
FILES = {
    FIRST: "create table things (id bigint primary key);",
    SECOND: "insert into things values (1);\ninsert into things values (2);",
}
CONCURRENTLY = f"{module.NO_TRANSACTION}\ncreate index concurrently if not exists by_id on things (id);"


def _write(directory: Path, files: dict[str, str]) -> Path:
    for name, sql in files.items():
        (directory / name).write_text(sql)
    return directory


def _migrate(url: str, directory: Path) -> list[str]:
    return asyncio.run(migrate(url, directory))


async def _fetch(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def _rows(url: str, query: str) -> list[tuple[object, ...]]:
    return asyncio.run(_fetch(url, query))


def _things(url: str) -> list[tuple[object, ...]]:
    return _rows(url, "select id from things order by id")


# Applying.


def test_files_are_applied_in_order_and_once(postgres_url: str, tmp_path: Path) -> None:
    directory = _write(tmp_path, dict(reversed(FILES.items())))
    assert _migrate(postgres_url, directory) == [FIRST, SECOND]
    assert _things(postgres_url) == [(1,), (2,)]
    assert _migrate(postgres_url, directory) == []
    _write(tmp_path, {THIRD: "insert into things values (3)"})
    assert _migrate(postgres_url, directory) == [THIRD]
    assert _things(postgres_url) == [(1,), (2,), (3,)]


def test_the_history_is_the_one_that_the_supabase_cli_reads(postgres_url: str, tmp_path: Path) -> None:
    _migrate(postgres_url, _write(tmp_path, FILES))
    history = _rows(postgres_url, "select version, name, statements from supabase_migrations.schema_migrations")
    assert history == [
        ("20260101000000", "first", [FILES[FIRST]]),
        ("20260102000000", "second", [FILES[SECOND]]),
    ]


def test_of_several_that_start_at_once_one_applies_and_all_succeed(postgres_url: str, tmp_path: Path) -> None:
    directory = _write(tmp_path, FILES | {THIRD: CONCURRENTLY})

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(migrate(postgres_url, directory) for _ in range(4)))

    assert sorted(asyncio.run(main())) == [[], [], [], [FIRST, SECOND, THIRD]]
    assert _things(postgres_url) == [(1,), (2,)]


def test_a_file_that_fails_leaves_nothing_of_it_and_keeps_those_before(postgres_url: str, tmp_path: Path) -> None:
    directory = _write(tmp_path, FILES | {THIRD: "insert into things values (3);\ninsert into thinsg values (4);"})
    with pytest.raises(Fatal, match=f'{THIRD} failed: relation "thinsg" does not exist'):
        _migrate(postgres_url, directory)
    assert _things(postgres_url) == [(1,), (2,)]
    _write(tmp_path, {THIRD: "insert into things values (3);\ninsert into things values (4);"})
    assert _migrate(postgres_url, directory) == [THIRD]
    assert _things(postgres_url) == [(1,), (2,), (3,), (4,)]


def test_what_cannot_run_in_a_transaction_runs_without_when_its_first_line_says_so(
    postgres_url: str, tmp_path: Path
) -> None:
    directory = _write(tmp_path, FILES | {THIRD: CONCURRENTLY})
    assert _migrate(postgres_url, directory) == [FIRST, SECOND, THIRD]
    assert _rows(postgres_url, "select indexname from pg_indexes where indexname = 'by_id'") == [("by_id",)]
    assert _migrate(postgres_url, directory) == []


def test_a_migration_that_is_cut_in_the_middle_is_applied_the_next_time(postgres_url: str, tmp_path: Path) -> None:
    directory = _write(tmp_path, FILES)

    async def main() -> list[str]:
        await migrate(postgres_url, directory)
        _write(tmp_path, {THIRD: "create table others ();\ninsert into things values (3);"})
        admin = await asyncpg.connect(postgres_url)
        async with admin.transaction():
            await admin.execute("lock table things in access exclusive mode")
            migrating = asyncio.create_task(migrate(postgres_url, directory))
            async with asyncio.timeout(30):
                while not await admin.fetch(
                    "select pg_terminate_backend(pid) from pg_locks where not granted and relation = 'things'::regclass"
                ):
                    pass
            with pytest.raises(Recoverable):
                await migrating
        await admin.close()
        return await migrate(postgres_url, directory)

    assert asyncio.run(main()) == [THIRD]
    assert _things(postgres_url) == [(1,), (2,), (3,)]


def test_whoever_waits_too_long_for_another_is_told_to_try_again(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TRIES", 2)
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0)

    async def main() -> None:
        other = await asyncpg.connect(postgres_url)
        await other.execute("select pg_advisory_lock($1)", module._LOCK)
        with pytest.raises(Recoverable, match="hold the lock"):
            await migrate(postgres_url, _write(tmp_path, FILES))
        await other.close()

    asyncio.run(main())
    assert _migrate(postgres_url, tmp_path) == [FIRST, SECOND]


# Refusing.


def test_an_edited_migration_is_refused_by_name(postgres_url: str, tmp_path: Path) -> None:
    directory = _write(tmp_path, FILES)
    _migrate(postgres_url, directory)
    _write(tmp_path, {FIRST: FILES[FIRST] + "\n", THIRD: "insert into things values (3)"})
    with pytest.raises(BadInput, match=f"{FIRST} was edited after it was applied"):
        _migrate(postgres_url, directory)
    assert _things(postgres_url) == [(1,), (2,)]


def test_what_the_supabase_cli_applied_is_taken_as_it_is_and_from_then_on_not_edited(
    postgres_url: str, tmp_path: Path
) -> None:
    directory = _write(tmp_path, FILES)
    _migrate(postgres_url, directory)
    _rows(postgres_url, "delete from supabase_migrations.huracan_checksums")
    assert _migrate(postgres_url, directory) == []
    _write(tmp_path, {SECOND: "-- nothing"})
    with pytest.raises(BadInput, match=f"{SECOND} was edited"):
        _migrate(postgres_url, directory)


def test_a_database_that_is_ahead_of_this_release_is_refused(postgres_url: str, tmp_path: Path) -> None:
    directory = _write(tmp_path, FILES)
    _migrate(postgres_url, directory)
    (directory / SECOND).unlink()
    with pytest.raises(BadInput, match="20260102000000_second; upgrade Huracan"):
        _migrate(postgres_url, directory)


@pytest.mark.parametrize(
    "name",
    [
        "first.sql",
        "2026010100000_first.sql",
        "202601010000000_first.sql",
        "20260101000000.sql",
        "20260101000000_.sql",
        "20260101000000_first.SQL",
        "20260101000000_first.sql~",
        "20260101000000_first table.sql",
        "٢٠٢٦٠١٠١٠٠٠٠٠٠_first.sql",
        "README.md",
    ],
)
def test_a_file_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_migrations(_write(tmp_path, FILES | {name: ""}))
    assert str(refused.value) == f"migration was named {name}: rename it to <14 digits>_<name>.sql"


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    migrations = read_migrations(_write(tmp_path, FILES | {".gitkeep": ""}))
    assert [migration.name for migration in migrations] == [FIRST, SECOND]


def test_two_files_with_the_same_digits_are_refused(tmp_path: Path) -> None:
    directory = _write(tmp_path, FILES | {"20260101000000_other.sql": ""})
    with pytest.raises(BadInput, match=f"20260101000000_other.sql has the digits of {FIRST}"):
        read_migrations(directory)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / FIRST).write_bytes(b"\xff")
    with pytest.raises(BadInput, match=f"{FIRST} was no UTF-8 text"):
        read_migrations(tmp_path)


def _missing(directory: Path) -> Path:
    return directory / "nowhere"


def _file(directory: Path) -> Path:
    (directory / "file").write_text("")
    return directory / "file"


def _folder_in_place_of_a_file(directory: Path) -> Path:
    (directory / FIRST).mkdir()
    return directory


@pytest.mark.parametrize("make", [_missing, _file, _folder_in_place_of_a_file])
def test_a_directory_that_cannot_be_read_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(BadInput, match="migrations cannot be read"):
        read_migrations(make(tmp_path))


def test_a_server_that_is_away_is_recoverable_and_no_password_is_told(tmp_path: Path) -> None:
    with pytest.raises(Recoverable) as away:
        _migrate("postgresql://huracan:geheim@127.0.0.1:1/huracan", _write(tmp_path, FILES))
    assert "geheim" not in str(away.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda url: f"{url}_not_there",
        lambda url: url.replace("huracan:", "huracan:x"),
        lambda url: url.replace("postgresql:", "mysql:"),
    ],
    ids=["database", "password", "scheme"],
)
def test_a_url_that_cannot_work_is_refused_without_its_password(
    postgres_url: str, tmp_path: Path, change: Callable[[str], str]
) -> None:
    password = urlsplit(postgres_url).password
    assert password
    with pytest.raises(BadInput, match="database URL") as refused:
        _migrate(change(postgres_url), _write(tmp_path, FILES))
    assert password not in str(refused.value)


# The schema.


def test_the_migrations_of_this_checkout_are_found() -> None:
    assert read_migrations(migrations_directory())


def test_without_a_checkout_the_directory_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "huracan" / "store" / "migrate.py"))
    with pytest.raises(BadInput, match="name the directory"):
        migrations_directory()


KEPT_BY_DAY = (
    {f"{LINEAGE_SCHEMA}.{LINEAGE_TABLE}": "close_ns"}
    | {table.sql: table.by_day for table in TABLES if table.by_day}
    | {logged.sql: logged.by_day for logged in LOGGED.values()}
)
SCHEMAS = "('market_data', 'moe_analysis', 'trading', 'usage_stats', 'system_health', 'tick_log')"


def _of(derived: type[Alert | Lineage | Position]) -> list[tuple[str, str, str]]:
    types = {str: TEXT, int: BIGINT, float: DOUBLE}
    columns = []
    for name, hint in get_type_hints(derived).items():
        (python,) = (part for part in get_args(hint) or (hint,) if part is not NoneType)
        columns.append((name, types[python], "YES" if NoneType in get_args(hint) else "NO"))
    return columns


def test_the_columns_of_the_schema_are_those_of_the_code(postgres_url: str) -> None:
    _migrate(postgres_url, migrations_directory())
    rows = _rows(
        postgres_url,
        "select table_schema || '.' || table_name, column_name, data_type, is_nullable"
        " from information_schema.columns join information_schema.tables using (table_schema, table_name)"
        f" where table_schema in {SCHEMAS} and table_type = 'BASE TABLE' order by table_name, ordinal_position",
    )
    schema: dict[object, list[tuple[object, ...]]] = {}
    for table, *column in rows:
        schema.setdefault(table, []).append(tuple(column))
    code = {
        table.sql: [
            *((column.name, column.type, "YES" if column.nullable else "NO") for column in table.fields),
            (MESSAGE, "bytea", "NO"),
        ]
        for table in TABLES
    }
    for logged in LOGGED.values():
        types = [(name, kind.replace("real[]", "ARRAY")) for name, kind in logged.types.items()]
        assert [column[:2] for column in schema.pop(logged.sql)] == types
    del schema[MARKS], schema[SKIPPED]
    lineage = f"{LINEAGE_SCHEMA}.{LINEAGE_TABLE}"
    assert schema == code | {lineage: _of(Lineage), POSITIONS: _of(Position), ALERTS: _of(Alert)}


def test_the_primary_keys_of_the_schema_are_those_of_the_code(postgres_url: str) -> None:
    _migrate(postgres_url, migrations_directory())
    rows = _rows(
        postgres_url,
        "select indrelid::regclass::text, array_agg(attname::text order by array_position(indkey::int2[], attnum))"
        " from pg_index join pg_attribute on attrelid = indrelid and attnum = any (indkey)"
        f" where indisprimary and (select nspname from pg_class join pg_namespace n on n.oid = relnamespace"
        f" where pg_class.oid = indrelid) in {SCHEMAS} group by indrelid",
    )
    code = [(table.sql, primary_key(table)) for table in TABLES]
    derived: list[tuple[object, ...]] = [
        ("moe_analysis.lineage", ["close_ns", "decision_id", "position"]),
        (POSITIONS, ["account", "venue", "symbol"]),
        (ALERTS, ["alert_id"]),
        (MARKS, ["topic", "key"]),
        (SKIPPED, ["topic", "key", "log_offset"]),
    ]
    assert {name: set(key) for name, key in rows} == {name: set(key) for name, key in [*code, *derived]}  # type: ignore[call-overload]


def test_tables_are_kept_by_the_day_that_the_code_says(postgres_url: str) -> None:
    _migrate(postgres_url, migrations_directory())
    rows = _rows(
        postgres_url,
        "select distinct parent::text, partitions.time_of(parent) from partitions.days",
    )
    assert {(table, column) for table, column in KEPT_BY_DAY.items()} == set(rows)
