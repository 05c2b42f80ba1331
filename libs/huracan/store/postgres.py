"""The store on PostgreSQL 15 or newer: a batch is one transaction, and each message is kept once under its id."""

# ruff: noqa: S608 - every name in a statement comes from `huracan.store.tables`

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.contracts.decision import Decision
from huracan.contracts.execution import AccountState
from huracan.contracts.market import Anomaly
from huracan.contracts.ops import FeedChanged
from huracan.errors import BadInput, Fatal, PoisonMessage, Recoverable
from huracan.ports import Record
from huracan.store import partitions
from huracan.store.derived import ALERTS, POSITIONS, Alert, Position, alerts, positions
from huracan.store.marks import keep_records, read_mark, restore_record, skip_record
from huracan.store.schema import check_version
from huracan.store.tables import (
    LINEAGE_SCHEMA,
    LINEAGE_TABLE,
    MESSAGE,
    NUMERIC,
    TABLE_OF,
    TABLES,
    Column,
    Lineage,
    Table,
    lineage,
)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

M = TypeVar("M", bound=Message)

TIMEOUT_S = 30.0
"""Bound of connecting and of every statement: a batch of thousands of rows takes well under a second."""
APPLICATION = {"application_name": "huracan"}
"""How the server's own listings name our connections."""
COPIED_FROM = 500
"""Rows of one kind from which COPY into a temporary table is the faster way; for fewer, arrays in one statement save
two round trips, and the system catalogs the making and dropping of the table."""
_FETCHED_AT_ONCE = 5_000

_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    ssl.SSLCertVerificationError,
)
"""The server is there and will not have us: the URL is wrong."""
_NOT_OURS = (asyncpg.SyntaxOrAccessError, asyncpg.InvalidSchemaNameError)
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What passes by itself: restarts, fail-overs, deadlocks, time-outs, full disks and too many connections."""
_UNFIT = (
    ValueError,
    ArithmeticError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""What a value can be guilty of, on this side of the wire or on the other."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises as what the caller must do about it: Recoverable, BadInput or Fatal.

    The messages are the server's own, which name hosts, users and databases but never a password.
    """
    try:
        yield
    except _REFUSED as error:
        raise BadInput(
            f"database URL was refused: {said(error)}; correct user, password or database in store.url of the settings"
            " (HURACAN_STORE__URL), or in --postgres-url"
        ) from None
    except (ValueError, OverflowError):
        # The parser quotes what it could not read, and that may be part of the password.
        raise BadInput(
            "database URL cannot be read: it is postgresql://user:password@host:port/database, with any of :/?#[]@%"
            " in the password percent-encoded"
        ) from None
    except _NOT_OURS as error:
        raise BadInput(f"database is not as this release needs it: {said(error)}; run `huracan migrate`") from None
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise Recoverable(f"PostgreSQL is read-only: {said(error)}; is it a standby, or told to be?") from None
    except asyncpg.DiskFullError as error:
        raise Recoverable(f"PostgreSQL has no room left: {said(error)}; make room on its disk") from None
    except AWAY as error:
        raise Recoverable(f"PostgreSQL is away: {said(error)}") from None
    except asyncpg.PostgresError as error:
        raise Fatal(f"PostgreSQL cannot go on: {said(error)}") from None


@asynccontextmanager
async def connected(
    url: str, *, timeout_s: float = TIMEOUT_S, command_timeout_s: float | None = TIMEOUT_S
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Give a connection of its own, closed in the end; raise within it as `translated` does.

    Connecting and closing take at most `timeout_s` each, a statement `command_timeout_s`, or as long as it takes.
    """
    with translated():
        connection = await asyncpg.connect(
            url, timeout=timeout_s, command_timeout=command_timeout_s, server_settings=APPLICATION
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=timeout_s)


def said(error: BaseException) -> str:
    """Return the first line of an error, or its kind where it has no words."""
    return str(error).partition("\n")[0] or type(error).__name__


class PostgresStore:
    """The Store port on PostgreSQL, through `pool_size` connections that are made when they are needed.

    Raises Recoverable while the server is away, and connects again at the next call; BadInput when the URL is refused
    or the database was not migrated. A connection and a statement take at most `timeout_s` each.
    """

    def __init__(self, url: str, pool_size: int = 4, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._pool_size = pool_size
        self._timeout_s = timeout_s
        self._opening = asyncio.Lock()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Connect now instead of at the first call, and see that the database was migrated."""
        looks = "; ".join(f"select from {name} limit 0" for name in (*(table.sql for table in TABLES), *_DERIVED))
        async with self._connection() as connection:
            await connection.execute(looks)

    async def close(self) -> None:
        """Close all connections, by force where the server does not answer."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await pool.close()
        except (*AWAY, asyncpg.PostgresError):
            pool.terminate()

    async def save(self, messages: Sequence[Message]) -> int:
        """Keep the messages in one transaction, all or none, and return how many were new.

        Of messages with one id the first stays, or the highest revision where there are some (`Table.revised_by`). A
        new decision brings its lineage, an account its positions, and an anomaly or a feed the alert it gives rise to.
        Raises KeyError for a kind that has no table and PoisonMessage when a value does not fit its column.
        """
        batch = _batch(messages)
        if not batch:
            return 0
        async with self._connection() as connection, connection.transaction():
            # In one order of tables and keys, so that no two writers wait for each other.
            return sum([await _keep(connection, table, batch[table.kind]) for table in TABLES if table.kind in batch])

    async def load(self, kind: type[M]) -> list[M]:
        """Return all messages of a kind in the order of its table."""
        table = TABLE_OF[kind]
        async with self._connection() as connection, connection.transaction():
            cursor = connection.cursor(f"select {MESSAGE} from {table.sql}", prefetch=_FETCHED_AT_ONCE)
            messages = [kind.FromString(row[MESSAGE]) async for row in cursor]
        return sorted(messages, key=table.order)

    async def mark(self, topic: str, key: str) -> int:
        """Return the offset of the newest record kept of a topic and key, -1 when there is none."""
        async with self._connection() as connection:
            return await read_mark(connection, topic, key)

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Keep the records after the mark and move it, in one transaction, and return how many there were."""
        async with self._connection() as connection, connection.transaction():
            return await keep_records(connection, topic, key, records)

    async def skip(self, topic: str, key: str, offset: int, *, schema: str, raw: bytes) -> None:
        """Move the mark past a record that cannot be kept, and keep its bytes; nothing if the mark is there already."""
        async with self._connection() as connection, connection.transaction():
            await skip_record(connection, topic, key, offset, schema, raw)

    async def restore(self, topic: str, key: str, record: Record) -> int:
        """Keep a record that was skipped, once, and return how many were: 0 where it was not skipped or is kept.

        Raises PoisonMessage when a value does not fit its column; then it stays skipped.
        """
        async with self._connection() as connection, connection.transaction():
            return await restore_record(connection, topic, key, record)

    async def count(self) -> dict[str, int]:
        """Return the rows of each table by its name."""
        counts = ", ".join(f"(select count(*) from {table.sql}) as {table.name}" for table in TABLES)
        async with self._connection() as connection:
            row = await connection.fetchrow(f"select {counts}")
        return {table.name: row[table.name] for table in TABLES} if row else {}

    async def maintain(
        self, now_ns: int, *, keep_days: int | None = None, ahead_days: int = partitions.AHEAD_DAYS
    ) -> dict[str, int]:
        """Make the days of partitioned tables that are needed from `now_ns` on, and detach those that are too old.

        Return what was done, by name and count, with `last.in_default`: the rows that have no day, of which an alert
        is kept. See `huracan.store.partitions`. Raises Recoverable where somebody reads for too long.
        """
        async with self._connection() as connection, connection.transaction():
            done = await partitions.maintain(connection, now_ns, ahead_days=ahead_days, keep_days=keep_days)
            await _keep_alerts(connection, [partitions.in_default_alert(stray, now_ns) for stray in done.in_default])
        return {
            "partitions.made": len(done.made),
            "partitions.detached": len(done.detached),
            "last.in_default": sum(stray.rows for stray in done.in_default),
        }

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with translated():
            pool = await self._opened()
            async with pool.acquire(timeout=self._timeout_s) as connection:
                yield connection

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._pool_size,
                    timeout=self._timeout_s,
                    command_timeout=self._timeout_s,
                    server_settings=APPLICATION,
                )
                try:
                    async with pool.acquire(timeout=self._timeout_s) as connection:
                        await check_version(connection)
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
            return self._pool


def _batch(messages: Sequence[Message]) -> dict[type[Message], list[Any]]:
    """Return what is to be kept of each kind, each key once."""
    batch: dict[type[Message], dict[tuple[object, ...], Message]] = {}
    for message in messages:
        table = TABLE_OF[type(message)]
        rows, key = batch.setdefault(table.kind, {}), table.key(message)
        if key not in rows or table.revision(rows[key]) < table.revision(message):
            rows[key] = message
    return {kind: list(rows.values()) for kind, rows in batch.items()}


async def _keep(connection: Connection, table: Table[M], messages: Sequence[M]) -> int:
    """Keep messages of one kind, each key once among them, and return how many were new."""
    try:
        source, values = await _offered(connection, table, [_record(table, message) for message in messages])
        new = await connection.fetch(_insert(table, source), *values)
        if table.revised_by:
            await connection.execute(_revise(table, source), *values)
        if table.kind is Decision:
            await _keep_lineage(connection, messages, {row["decision_id"] for row in new})
        elif table.kind is AccountState:
            await _keep_positions(connection, messages)
        elif table.kind in (Anomaly, FeedChanged):
            await _keep_alerts(connection, alerts(messages))
    except _UNFIT as error:
        raise PoisonMessage("unsaveable", f"{table.sql} cannot hold it: {said(error)}") from None
    return len(new)


async def _offered(
    connection: Connection, table: Table[Any], records: Sequence[tuple[object, ...]]
) -> tuple[str, list[list[object]]]:
    """Return what a statement reads the records from, with its arguments."""
    if len(records) < COPIED_FROM:
        types = [*(column.type for column in table.fields), "bytea"]
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, start=1))
        source = f"unnest({arrays}) as offered ({', '.join(_columns(table))})"
        return source, [list(values) for values in zip(*records, strict=True)]
    staged = f"staged_{table.name}"
    await connection.execute(f"create temp table {staged} (like {table.sql}) on commit drop")
    await connection.copy_records_to_table(staged, records=records, columns=_columns(table))
    return f"{staged} as offered", []


async def _keep_lineage(connection: Connection, decisions: Iterable[Any], new: Container[str]) -> None:
    records = [row for decision in decisions for row in lineage(decision) if row.decision_id in new]
    await connection.copy_records_to_table(
        LINEAGE_TABLE, schema_name=LINEAGE_SCHEMA, records=records, columns=Lineage._fields
    )


async def _keep_positions(connection: Connection, states: Iterable[Any]) -> None:
    await connection.executemany(_POSITION, positions(states))


async def _keep_alerts(connection: Connection, found: Sequence[Alert]) -> None:
    await connection.executemany(_ALERT, found)


def _record(table: Table[M], message: M) -> tuple[object, ...]:
    return *(_value(column, message) for column in table.fields), codec.encode(message)


def _value(column: Column[M], message: M) -> object:
    value = column.value(message)
    if column.type != NUMERIC:
        return value
    return _decimal(column.name, str(value)) if value else None


def _decimal(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f"{name} was {text!r}, which is no decimal")
    return number


def _placed(fields: Sequence[str]) -> str:
    """Return `(names) values (places)` of an insert."""
    return f"({', '.join(fields)}) values ({', '.join(f'${number}' for number in range(1, len(fields) + 1))})"


_DERIVED = (f"{LINEAGE_SCHEMA}.{LINEAGE_TABLE}", POSITIONS, ALERTS)
_ALERT = f"insert into {ALERTS} {_placed(Alert._fields)} on conflict do nothing"
_POSITION = (
    f"insert into {POSITIONS} as kept {_placed(Position._fields)} on conflict (account, venue, symbol) do update"
    " set quantity = excluded.quantity, epoch = excluded.epoch, as_of_ns = excluded.as_of_ns"
    " where (kept.epoch, kept.as_of_ns) < (excluded.epoch, excluded.as_of_ns)"
)


def _columns(table: Table[Any]) -> list[str]:
    return [*(column.name for column in table.fields), MESSAGE]


def primary_key(table: Table[Any]) -> list[str]:
    """Return the columns that are unique together in SQL: the time by which rows have their day, and the id."""
    key = [column.name for column in table.fields if column.key]
    return key if table.by_day in ("", *key) else [table.by_day, *key]


def _insert(table: Table[Any], source: str) -> str:
    columns, key = ", ".join(_columns(table)), ", ".join(primary_key(table))
    return (
        f"insert into {table.sql} ({columns}) select {columns} from {source} order by {key}"
        f" on conflict ({key}) do nothing returning {key}"
    )


def _revise(table: Table[Any], source: str) -> str:
    values = ", ".join(f"{column} = offered.{column}" for column in _columns(table))
    same = " and ".join(f"kept.{column} = offered.{column}" for column in primary_key(table))
    return (
        f"update {table.sql} as kept set {values} from {source}"
        f" where {same} and kept.{table.revised_by} < offered.{table.revised_by}"
    )
