"""Days that were put aside become Parquet files, and leave the database once they are on disk."""

# ruff: noqa: S608 - every name in a statement is one of the server's own catalog, quoted by it

from __future__ import annotations

import os
from decimal import Decimal
from itertools import count
from pathlib import Path

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq

from huracan.errors import BadInput
from huracan.store.comparison import same_values
from huracan.store.files import sync_directory
from huracan.store.postgres import connected

ROWS_AT_ONCE = 20_000
"""Rows of one group of a file, and of what is in memory."""
_ASIDE = """
select relname, oid::regclass::text, array(
    select attname || ' ' || atttypid::regtype from pg_attribute
    where attrelid = pg_class.oid and attnum > 0 and not attisdropped order by attnum
) as columns
from pg_class
where relnamespace = 'partitions'::regnamespace and relkind = 'r' and not relispartition
order by relname
"""
_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "numeric": pa.string(),
    "bytea": pa.binary(),
    "real[]": pa.list_(pa.float32()),
}
"""What columns are in files: exact decimals are text, as in those of a run."""


async def archive_days(url: str, directory: Path) -> list[Path]:
    """Write every day that was put aside as `<table>_<day>.parquet`, drop it, and return the files.

    A file is complete and on disk before its day is dropped. No file is written over: where a kill came before the
    drop, the file that is there says the same and is returned; a day that was made again, for rows that came late,
    is `<table>_<day>.2.parquet` and so on. To be called as the owner of the tables. Raises BadInput when the directory
    cannot be written or the database refuses us, Recoverable while the server is away.
    """
    files = []
    async with connected(url, command_timeout_s=None) as connection:
        for name, table, columns in await connection.fetch(_ASIDE):
            schema = pa.schema([_field(*column.split(" ", 1)) for column in columns])
            async with connection.transaction():
                # Nobody else archives it meanwhile, and nothing is added.
                await connection.execute(f"lock table {table} in share row exclusive mode")
                path = await _write(connection, table, schema, directory / name)
                await connection.execute(f"drop table {table}")
            files.append(path)
    return files


async def _write(connection: asyncpg.Connection[asyncpg.Record], table: str, schema: pa.Schema, stem: Path) -> Path:
    unfinished = stem.with_suffix(".new")
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            # In SQL, for a cursor of the driver would still hold the table when it is to be dropped.
            cursor = f'"{stem.name}"'
            columns = ", ".join(schema.names)
            await connection.execute(f"declare {cursor} cursor for select {columns} from {table} order by {columns}")
            while rows := await connection.fetch(f"fetch {ROWS_AT_ONCE} from {cursor}"):
                values = [[_cell(row[name]) for row in rows] for name in schema.names]
                writer.write_table(pa.table(values, schema=schema))
            await connection.execute(f"close {cursor}")
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        path = _place(unfinished, stem)
        unfinished.replace(path)
        sync_directory(path.parent)
        return path
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{stem}.parquet cannot be written: {getattr(error, 'strerror', None) or error}; nothing was dropped"
        ) from None


def _place(written: Path, stem: Path) -> Path:
    """Return where a written file goes: in the place of the one that says the same, or where there is none."""
    places = (stem.with_suffix(".parquet" if number == 1 else f".{number}.parquet") for number in count(1))
    return next(path for path in places if not path.exists() or _same_files(written, path))


def _same_files(one: Path, other: Path) -> bool:
    with pq.ParquetFile(one) as first, pq.ParquetFile(other) as second:
        return first.num_row_groups == second.num_row_groups and all(
            same_values(first.read_row_group(number), second.read_row_group(number))
            for number in range(first.num_row_groups)
        )


def _field(name: str, kind: str) -> pa.Field[pa.DataType]:
    return pa.field(name, _TYPES[kind])


def _cell(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value
