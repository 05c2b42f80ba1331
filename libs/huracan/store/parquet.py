"""Runs on disk: each table as a Parquet file, its columns for people, its `message` column the exact bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.contracts.journal import JournalEntry
from huracan.errors import BadInput
from huracan.ports import Store
from huracan.store.tables import TABLE_OF, TABLES

M = TypeVar("M", bound=Message)

MESSAGE = "message"
"""Column with the deterministic bytes of the message."""


async def write_run(store: Store, directory: Path) -> dict[str, int]:
    """Write every table of a store as `<table>.parquet` into an existing directory; return the rows of each."""
    counts = {}
    for table in TABLES:
        messages = await store.load(table.kind)
        rows = [{**table.columns(message), MESSAGE: codec.encode(message)} for message in messages]
        empty = {**table.columns(table.kind()), MESSAGE: b""}
        _write(rows or [empty], directory / f"{table.name}.parquet", keep=len(rows))
        counts[table.name] = len(rows)
    return counts


def _write(rows: Sequence[Mapping[str, object]], path: Path, keep: int) -> None:
    pq.write_table(pa.Table.from_pylist(rows).slice(0, keep), path, compression="zstd")


def read_table(directory: Path, kind: type[M]) -> list[M]:
    """Return the messages of a kind that `write_run` wrote; raise BadInput when the file is not there or not ours."""
    return read_messages(directory / f"{TABLE_OF[kind].name}.parquet", kind)


def write_messages(messages: Sequence[Message], path: Path) -> None:
    """Write messages of one kind in their order, bytes only: a journal, feature rows, dead letters."""
    _write(
        [{MESSAGE: codec.encode(message)} for message in messages] or [{MESSAGE: b""}],
        path,
        keep=len(messages),
    )


def read_journal(directory: Path, key: str) -> list[JournalEntry]:
    """Return the entries of one journal of a run in their order."""
    return [entry for entry in read_messages(directory / "journal.parquet", JournalEntry) if entry.key == key]


def read_messages(path: Path, kind: type[M]) -> list[M]:
    """Return the messages that `write_messages` or `write_run` wrote to a file, in their order."""
    if not path.is_file():
        raise BadInput(f"{path} was not found: is {path.parent} the --out directory of a run?")
    try:
        column = pq.read_table(path, columns=[MESSAGE])[MESSAGE]
    except (pa.ArrowInvalid, KeyError) as error:
        raise BadInput(f"{path} was not written by Huracan: {error}") from None
    return [kind.FromString(value or b"") for value in column.to_pylist()]
