"""Runs on disk: each table as a Parquet file, its columns for people, its `message` column the exact bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError, Message

from huracan.contracts import codec
from huracan.contracts.journal import JournalEntry
from huracan.errors import BadInput
from huracan.ports import Store
from huracan.store.tables import MESSAGE, TABLE_OF, TABLES

M = TypeVar("M", bound=Message)

JOURNALS = "journal.parquet"
KEY = "key"
"""Column with the key of the journal."""


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
    """Write messages of one kind in their order, bytes only: feature rows, dead letters."""
    _write(
        [{MESSAGE: codec.encode(message)} for message in messages] or [{MESSAGE: b""}],
        path,
        keep=len(messages),
    )


def write_journals(journals: Mapping[str, Sequence[Message]], directory: Path) -> None:
    """Write every journal of a run, by its key, each in its order."""
    rows = [{KEY: key, MESSAGE: codec.encode(entry)} for key, entries in journals.items() for entry in entries]
    _write(rows or [{KEY: "", MESSAGE: b""}], directory / JOURNALS, keep=len(rows))


def read_journals(directory: Path) -> dict[str, list[JournalEntry]]:
    """Return the entries of every journal of a run, by its key, each in its order."""
    path = directory / JOURNALS
    names, messages = _columns(path, [KEY, MESSAGE])
    journals: dict[str, list[JournalEntry]] = {}
    for name, entry in zip(names, _parsed(path, JournalEntry, messages), strict=True):
        journals.setdefault(name, []).append(entry)
    return journals


def read_journal(directory: Path, key: str) -> list[JournalEntry]:
    """Return the entries of one journal of a run in their order, none when there is no such journal."""
    return read_journals(directory).get(key, [])


def read_messages(path: Path, kind: type[M]) -> list[M]:
    """Return the messages that `write_messages` or `write_run` wrote to a file, in their order."""
    (messages,) = _columns(path, [MESSAGE])
    return _parsed(path, kind, messages)


def _columns(path: Path, names: list[str]) -> list[list[Any]]:
    if not path.is_file():
        raise BadInput(f"{path} was not found: is {path.parent} the --out directory of a run?")
    try:
        table = pq.read_table(path, columns=names)
        return [table[name].to_pylist() for name in names]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(path, error) from None


def _parsed(path: Path, kind: type[M], messages: list[Any]) -> list[M]:
    try:
        return [kind.FromString(message) for message in messages]
    except (TypeError, DecodeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BadInput:
    first_line = str(error).partition("\n")[0]
    return BadInput(f"{path} was not written by Huracan, or is damaged: {first_line}")
