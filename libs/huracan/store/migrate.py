"""Migrations: SQL files that are applied in order, once each, in the form that the Supabase CLI reads."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from huracan.errors import BadInput, Fatal, Recoverable
from huracan.store.postgres import AWAY, connected, said

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

NO_TRANSACTION = "-- no-transaction"
"""First line of a file whose one statement cannot run in a transaction; it may be run again after a kill."""
FILE_TIMEOUT_S = 3_600.0
"""Bound of one file: an index on a large table takes its time."""
LOCK_TRIES = 3_000
LOCK_WAIT_S = 0.2
"""Between two tries for the lock: whoever has it applies files, for ten minutes at most."""
_LOCK = 0x48555241_43414E00
"""Number of the advisory lock: `HURACAN` in ASCII."""
_NAME = re.compile(r"(\d{14})_\w+\.sql", re.ASCII)

_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key, statements text[], name text
);
create table if not exists supabase_migrations.huracan_checksums (
    version text not null primary key, sha256 text not null
);
"""
_READABLE = """
do $$ begin
    if exists (select from pg_roles where rolname = 'service_role') and exists (
        select from pg_class
        where oid = 'supabase_migrations.huracan_checksums'::regclass and pg_has_role(relowner, 'usage')
    ) then
        grant select on supabase_migrations.huracan_checksums to service_role;
    end if;
end $$
"""
"""Services compare their version with it."""
_APPLIED = """
select history.version, history.name, checksums.sha256
from supabase_migrations.schema_migrations as history
left join supabase_migrations.huracan_checksums as checksums using (version)
order by version
"""
_ADD_HISTORY = "insert into supabase_migrations.schema_migrations (version, statements, name) values ($1, $2, $3)"
_ADD_CHECKSUM = "insert into supabase_migrations.huracan_checksums (version, sha256) values ($1, $2)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of migrations."""

    version: str
    """Fourteen digits."""
    name: str
    """Name of the file."""
    sql: str
    sha256: str


def migrations_directory() -> Path:
    """Return `supabase/migrations` of the checkout that this code runs from; raise BadInput when there is none."""
    directory = Path(__file__).resolve().parents[3] / "supabase" / "migrations"
    if not directory.is_dir():
        raise BadInput(f"{directory} was not found: run from a checkout, or name the directory of the migrations")
    return directory


def read_migrations(directory: Path) -> list[Migration]:
    """Return the migrations of a directory in their order.

    Raises BadInput for a file whose name is not fourteen digits, `_`, a name and `.sql`, or whose digits are taken.
    Hidden files are not looked at.
    """
    migrations: dict[str, Migration] = {}
    for name, data in _files(directory).items():
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise BadInput(f"migration was named {name}: rename it to <14 digits>_<name>.sql")
        version = parts[1]
        if version in migrations:
            raise BadInput(f"migration {name} has the digits of {migrations[version].name}: give it later ones")
        try:
            sql = data.decode()
        except UnicodeDecodeError as error:
            raise BadInput(f"migration {name} was no UTF-8 text: {error}; save it as UTF-8") from None
        migrations[version] = Migration(version, name, sql, hashlib.sha256(data).hexdigest())
    return list(migrations.values())


def _files(directory: Path) -> dict[str, bytes]:
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
        return {path.name: path.read_bytes() for path in paths}
    except OSError as error:
        raise BadInput(f"migrations cannot be read: {error}; name the directory that holds them") from None


async def migrate(url: str, directory: Path) -> list[str]:
    """Apply what is missing, each file in a transaction of its own, and return the names of the files applied.

    Any number may start at once: one applies, the others wait and find nothing to do. The URL must lead to the server
    itself, not to a pooler in transaction mode, for the lock lives in the session.

    Raises BadInput for a URL that is refused, when an applied file was edited since, and when the database has a
    migration of Huracan that the directory lacks, for then a newer release was here; those of others, which the
    history of a Supabase project has too, are left alone. Raises Recoverable while the server is away,
    and Fatal when a file fails, which leaves nothing of it but keeps the files before it.
    """
    migrations = read_migrations(directory)
    async with connected(url) as connection:
        # The lock ends with its session.
        await _lock(connection)
        await connection.execute(_HISTORY)
        pending = await _pending(connection, migrations)
        for migration in pending:
            await _apply(connection, migration)
        await connection.execute(_READABLE)
    return [migration.name for migration in pending]


async def _lock(connection: Connection) -> None:
    # Asked again and again, for whoever waits within pg_advisory_lock holds a snapshot, and
    # `create index concurrently` would wait for that in turn.
    for _ in range(LOCK_TRIES):
        if await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
            return
        await asyncio.sleep(LOCK_WAIT_S)
    raise Recoverable("migrations of another process still hold the lock: wait for it, or end its session")


async def _pending(connection: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    applied = {row["version"]: row for row in await connection.fetch(_APPLIED)}
    known = {migration.version for migration in migrations}
    ours = {version: row for version, row in applied.items() if row["sha256"] is not None}
    if ahead := [f"{version}_{row['name']}" for version, row in ours.items() if version not in known]:
        raise BadInput(f"database has migrations that this release lacks: {', '.join(ahead)}; upgrade Huracan")
    for migration in migrations:
        row = applied.get(migration.version)
        if row is not None and row["sha256"] is None:
            # The Supabase CLI applied it, and keeps no checksums.
            await connection.execute(_ADD_CHECKSUM, migration.version, migration.sha256)
        elif row is not None and row["sha256"] != migration.sha256:
            raise BadInput(f"migration {migration.name} was edited after it was applied: restore it, and add a new one")
    return [migration for migration in migrations if migration.version not in applied]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if migration.sql.partition("\n")[0].strip() == NO_TRANSACTION:
            await connection.execute(migration.sql, timeout=FILE_TIMEOUT_S)
            async with connection.transaction():
                await _note(connection, migration)
        else:
            async with connection.transaction():
                await connection.execute(migration.sql, timeout=FILE_TIMEOUT_S)
                await _note(connection, migration)
    except asyncpg.PostgresError as error:
        if isinstance(error, AWAY):
            raise
        raise Fatal(f"migration {migration.name} failed: {said(error)}") from None


async def _note(connection: Connection, migration: Migration) -> None:
    name = migration.name.removeprefix(f"{migration.version}_").removesuffix(".sql")
    await connection.execute(_ADD_HISTORY, migration.version, [migration.sql], name)
    await connection.execute(_ADD_CHECKSUM, migration.version, migration.sha256)
