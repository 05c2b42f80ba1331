"""Which schema this release reads and writes, and whether a database has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from huracan.errors import BadInput

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

VERSION = "20261121220000"
"""Digits of the newest migration of this release."""
_APPLIED = "select version from supabase_migrations.schema_migrations"
_READABLE = """
select has_table_privilege(oid, 'select') from pg_class where oid = to_regclass('supabase_migrations.huracan_checksums')
"""
_OURS = "select max(version) from supabase_migrations.huracan_checksums"


async def check_version(connection: Connection) -> None:
    """Raise BadInput when a database has an older or a newer schema than this release: nothing is written into it.

    Migrations of others in the same history, as a Supabase project has them, say nothing of that.
    """
    applied = {row["version"] for row in await connection.fetch(_APPLIED)}
    if VERSION not in applied:
        newest = max(applied, default="none")
        raise BadInput(f"database has schema {newest}, and this release needs {VERSION}: run `huracan migrate`")
    if not await connection.fetchval(_READABLE):
        return  # the Supabase CLI applied them, which keeps no checksums
    newest = await connection.fetchval(_OURS) or VERSION
    if newest > VERSION:
        raise BadInput(f"database has schema {newest}, which this release does not know: upgrade Huracan")
