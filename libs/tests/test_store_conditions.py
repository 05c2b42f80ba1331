"""What can be wrong with a database: one clear error each, and nothing half kept."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from huracan.contracts.execution import Fill
from huracan.errors import BadInput, Recoverable
from huracan.service.settings import StoreConfig
from huracan.store.migrate import migrate, migrations_directory, read_migrations
from huracan.store.postgres import PostgresStore, connected, translated
from huracan.store.schema import VERSION

FILL = Fill(fill_id=b"1", account="paper")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def test_the_release_needs_the_newest_of_its_migrations() -> None:
    assert read_migrations(migrations_directory())[-1].version == VERSION


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "insert into supabase_migrations.huracan_checksums (version, sha256) values ('29990101000000', 'c0ffee')",
            "database has schema 29990101000000, which this release does not know: upgrade Huracan",
        ),
        (
            f"delete from supabase_migrations.schema_migrations where version = '{VERSION}'",
            f"database has schema [0-9]+, and this release needs {VERSION}: run `huracan migrate`",
        ),
        (
            "delete from supabase_migrations.schema_migrations",
            f"database has schema none, and this release needs {VERSION}: run `huracan migrate`",
        ),
        (
            "drop schema supabase_migrations cascade",
            "database is not as this release needs it: .*; run `huracan migrate`",
        ),
    ],
    ids=["newer", "older", "none", "no history"],
)
def test_an_unknown_schema_is_refused_before_anything_is_written(postgres_url: str, change: str, told: str) -> None:
    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        await _execute(postgres_url, change)
        store = PostgresStore(postgres_url)
        for _ in range(2):
            with pytest.raises(BadInput, match=told):
                await store.save([FILL])
        await store.close()
        connection = await asyncpg.connect(postgres_url)
        assert await connection.fetchval("select count(*) from trading.fills") == 0
        await connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("others", ["20240101000000", "29990101000000"], ids=["before ours", "after ours"])
def test_a_project_that_has_migrations_of_its_own_is_migrated_and_written_to(postgres_url: str, others: str) -> None:
    async def main() -> None:
        await _execute(
            postgres_url,
            "create schema supabase_migrations; create table supabase_migrations.schema_migrations"
            " (version text not null primary key, statements text[], name text);"
            f"insert into supabase_migrations.schema_migrations (version, name) values ('{others}', 'of others')",
        )
        assert len(await migrate(postgres_url, migrations_directory())) > 1
        assert await migrate(postgres_url, migrations_directory()) == []
        store = PostgresStore(postgres_url)
        await store.save([FILL])
        await store.close()

    asyncio.run(main())


def test_what_the_supabase_cli_applied_alone_is_written_to(postgres_url: str) -> None:
    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        await _execute(postgres_url, "drop table supabase_migrations.huracan_checksums")
        store = PostgresStore(postgres_url)
        await store.save([FILL])
        await store.close()

    asyncio.run(main())


def test_a_read_only_database_is_told_and_written_to_once_it_is_not(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]

    async def main() -> None:
        await migrate(postgres_url, migrations_directory())
        await _execute(postgres_url, f"alter database {name} set default_transaction_read_only = on")
        store = PostgresStore(postgres_url)
        with pytest.raises(Recoverable, match=r"PostgreSQL is read-only: .*; is it a standby, or told to be\?"):
            await store.save([FILL])
        await store.close()
        await _execute(postgres_url, f"alter database {name} reset all")
        assert await store.save([FILL]) == 1
        await store.close()

    asyncio.run(main())


def test_a_full_disk_of_the_server_is_told() -> None:
    with (
        pytest.raises(Recoverable, match="PostgreSQL has no room left: could not extend file; make room"),
        translated(),
    ):
        raise asyncpg.DiskFullError("could not extend file")


def test_a_connection_of_its_own_ends_with_what_it_was_for_whatever_came_of_it(postgres_url: str) -> None:
    async def main() -> None:
        async with connected(postgres_url) as connection:
            assert await connection.fetchval("select current_setting('application_name')") == "huracan"
        assert connection.is_closed()
        for statement, raised in (("select from nowhere", BadInput), ("select pg_sleep(600)", Recoverable)):
            with pytest.raises(raised):
                async with connected(postgres_url, command_timeout_s=0.5) as connection:
                    await connection.execute(statement)
            assert connection.is_closed()

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, 21])
def test_a_pool_is_of_1_to_20_connections(size: int) -> None:
    with pytest.raises(ValueError, match="pool_size"):
        StoreConfig(pool_size=size)
