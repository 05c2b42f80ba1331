"""How far the log is kept: records and the mark of their topic and key, in one transaction (law 8)."""


# ruff: noqa: S608 - every name in a statement comes from `huracan.store.logged`

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from huracan.errors import PoisonMessage
from huracan.ports import Record
from huracan.store.logged import LOGGED, TICK_TIME, TICKS, Values, rows

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

MARKS, SKIPPED = "tick_log.marks", "tick_log.skipped"
NOTHING = -1
"""The mark of a topic and key of which nothing is kept."""
_MARK = f"select last_offset from {MARKS} where topic = $1 and key = $2"
_SKIP = f"insert into {SKIPPED} (topic, key, log_offset, schema, raw) values ($1, $2, $3, $4, $5)"
_RESTORE = f"delete from {SKIPPED} where topic = $1 and key = $2 and log_offset = $3 returning log_offset"
_BEGIN = f"insert into {MARKS} (topic, key, last_offset) values ($1, $2, $3) on conflict do nothing"
_TIME = (
    f"select coalesce((select {TICK_TIME} from {TICKS.sql} where symbol = $1 and venue = $2"
    f" order by {TICK_TIME} desc limit 1), (extract(epoch from now()) * 1000000000)::bigint)"
)
_MOVE = f"update {MARKS} set last_offset = $3 where topic = $1 and key = $2"


def after(records: Sequence[Record], mark: int) -> list[Record]:
    """Return the records after a mark: of those that straddle it the rest is kept already."""
    return [record for record in records if record.offset > mark]


async def read_mark(connection: Connection, topic: str, key: str) -> int:
    """Return the offset of the newest record kept, or NOTHING."""
    mark = await connection.fetchval(_MARK, topic, key)
    return NOTHING if mark is None else int(mark)


async def keep_records(connection: Connection, topic: str, key: str, records: Sequence[Record]) -> int:
    """Copy the records after the mark into their table and move it; return how many there were.

    Call it within a transaction. The mark is locked, so two writers of one key take turns and the later one finds
    nothing left. Raises PoisonMessage when a value does not fit its column.
    """
    new = after(records, await _locked_mark(connection, topic, key))
    if new:
        await _copy(connection, topic, key, new)
        await connection.execute(_MOVE, topic, key, new[-1].offset)
    return len(new)


async def skip_record(connection: Connection, topic: str, key: str, offset: int, schema: str, raw: bytes) -> None:
    """Move the mark past a record and keep its bytes alone; nothing if the mark is there. Within a transaction."""
    if offset > await _locked_mark(connection, topic, key):
        await connection.execute(_SKIP, topic, key, offset, schema, raw)
        await connection.execute(_MOVE, topic, key, offset)


async def restore_record(connection: Connection, topic: str, key: str, record: Record) -> int:
    """Keep a record that was skipped; return how many were: 0 where it was not, or is kept by now.

    Call it within a transaction. Raises PoisonMessage when a value does not fit its column.
    """
    if await connection.fetchval(_RESTORE, topic, key, record.offset) is None:
        return 0
    await _copy(connection, topic, key, [record])
    return 1


async def _locked_mark(connection: Connection, topic: str, key: str) -> int:
    await connection.execute(_BEGIN, topic, key, NOTHING)
    return int(await connection.fetchval(f"{_MARK} for update", topic, key))


async def _copy(connection: Connection, topic: str, key: str, records: Sequence[Record]) -> None:
    logged = LOGGED[topic]
    schema, _, name = logged.sql.partition(".")
    try:
        columns = logged.columns(key, records)
        if logged is TICKS and not any(columns[TICK_TIME]):
            columns[TICK_TIME] = await _times(connection, columns)
        await connection.copy_records_to_table(
            name, schema_name=schema, records=rows(columns), columns=list(logged.types)
        )
    except (ValueError, ArithmeticError, asyncpg.DataError) as error:
        place = f"{topic} {key} {records[0].offset} to {records[-1].offset}"
        raise PoisonMessage("unsaveable", f"{logged.sql} cannot hold {place}: {error}") from None


async def _times(connection: Connection, columns: dict[str, Values]) -> list[int]:
    """Return times for ticks that say none: of the newest before them, else now, so that they have a day."""
    symbol, venue = columns["symbol"][0], columns["venue"][0]
    return [int(await connection.fetchval(_TIME, symbol, venue))] * len(columns[TICK_TIME])
