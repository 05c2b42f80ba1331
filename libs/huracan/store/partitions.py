"""Days of partitioned tables: made ahead, detached when they are old, and rows that found none reported.

The work is done by functions of the schema `partitions`, for whoever saves need not own the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from huracan.clock import DAY_NS
from huracan.store.derived import WARNING, Alert

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]

AHEAD_DAYS = 3
"""Days made ahead of today: whoever keeps them may be away for a long weekend."""
MOVE_WITHIN_S = 900.0
"""Longest time to make the days of rows in DEFAULT partitions, which moves them: 100,000 and more in a second."""
LOCK_WITHIN_MS = 2_000
"""Longest wait for readers of a DEFAULT partition, during which others wait too; it is tried again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InDefault:
    """Rows of a table that have no day: of a time before 2000, after the days made ahead, or before what is kept."""

    table: str
    rows: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintained:
    """What was done to the partitions, each by its name, and what cannot be done."""

    made: tuple[str, ...]
    detached: tuple[str, ...]
    """They wait in the schema `partitions` to be archived and dropped."""
    in_default: tuple[InDefault, ...]


async def maintain(
    connection: Connection, now_ns: int, *, ahead_days: int = AHEAD_DAYS, keep_days: int | None = None
) -> Maintained:
    """Make the days from today on, and those of rows that came before their day was made; detach what is old.

    To be called in a transaction. A day is detached when it ended `keep_days` before today; None keeps all of them.
    """
    await connection.execute("select set_config('lock_timeout', $1, true)", str(LOCK_WITHIN_MS))
    done = await connection.fetch(
        "select done, name from partitions.maintain($1, $2, $3)",
        now_ns,
        ahead_days,
        keep_days,
        timeout=MOVE_WITHIN_S,
    )
    stray = await connection.fetch(
        "select parent, stray, first_ns, last_ns from partitions.in_default()", timeout=MOVE_WITHIN_S
    )
    return Maintained(
        made=tuple(row["name"] for row in done if row["done"] == "made"),
        detached=tuple(row["name"] for row in done if row["done"] == "detached"),
        in_default=tuple(InDefault(table=row[0], rows=row[1], first_ns=row[2], last_ns=row[3]) for row in stray),
    )


def in_default_alert(stray: InDefault, now_ns: int) -> Alert:
    """Return the alert about rows without a day: one a day for each table."""
    return Alert(
        alert_id=f"in_default {stray.table} {now_ns // DAY_NS}",
        at_ns=now_ns,
        source="persister",
        kind="in_default",
        severity=WARNING,
        about=stray.table,
        detail=f"{stray.rows} rows from {stray.first_ns} to {stray.last_ns} have no partition of their day",
    )
