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
_APPLIED = "select max(version) from supabase_migrations.schema_migrations"


async def check_version(connection: Connection) -> None:
    """Raise BadInput when a database has an older or a newer schema than this release: nothing is written into it."""
    applied = await connection.fetchval(_APPLIED) or "none"
    if applied == VERSION:
        return
    if applied != "none" and applied > VERSION:
        raise BadInput(f"database has schema {applied}, which this release does not know: upgrade Huracan")
    raise BadInput(f"database has schema {applied}, and this release needs {VERSION}: run `huracan migrate`")
