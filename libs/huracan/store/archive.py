"""The archive: the log as Parquet files by topic, day and key, from which each record comes back to the byte."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError

from huracan.bus import subjects
from huracan.clock import NANOSECONDS
from huracan.errors import BadInput, PoisonMessage, Recoverable
from huracan.ports import Record
from huracan.store.files import sync_directory
from huracan.store.logged import HEADER, LOGGED, OFFSET, SCHEMA, LoggedTopic, Values, carried

NOTHING = -1
"""The mark of a topic and key of which nothing is archived."""
PARQUET, _UNFINISHED = ".parquet", ".tmp"
LONGEST_NAME = 255
"""Bytes that file systems hold of a name."""
_DAY_S = 86_400
_LOOKS = 5
"""Times that a reader lists a key whose files are being merged."""
_TYPES = {
    "bigint": pa.int64(),
    "text": pa.string(),
    "bytea": pa.binary(),
    "real[]": pa.list_(pa.float32()),
}
"""Types in files by the type in SQL."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A record that this release cannot read: its file, place in the log, and why."""

    path: Path
    offset: int
    why: str


class Archive:
    """Files `<directory>/<topic>/<day>/<key>/<first offset>-<last offset>.parquet`; one writer for each key.

    A file comes into being whole: written under another name, synced, renamed, and its directory synced. Its name is
    the mark, so what is archived and how far never disagree. Days are those of market time, UTC.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._marks: dict[tuple[str, str], int] = {}

    async def mark(self, topic: str, key: str) -> int:
        """Return the offset of the newest record archived of a topic and key, -1 when there is none.

        Raises PoisonMessage for a key that no folder can have: none of its records has a place here.
        """
        if (topic, key) not in self._marks:
            try:
                key_folder(key)
            except BadInput as error:
                raise PoisonMessage("unsaveable", f"the archive cannot hold {topic}: {error}") from None
            self._marks[topic, key] = await asyncio.to_thread(self._found, topic, key)
        return self._marks[topic, key]

    def _found(self, topic: str, key: str) -> int:
        """Return the mark that the files give, and remove what a writer that was killed left unfinished."""
        ours = f"*/{key_folder(key)}/*"
        for path in (self._directory / LOGGED[topic].name).glob(f"{ours}{_UNFINISHED}"):
            path.unlink()
        return max((span(path)[1] for path in _files(self._directory, topic, key)), default=NOTHING)

    async def save_records(self, topic: str, key: str, records: Sequence[Record]) -> int:
        """Archive the records after the mark, a file for each day, and return how many there were.

        One that says no time has the day of the one before it.

        Raises Recoverable when a file cannot be written, with the mark after those that were, and PoisonMessage for a
        value that has no place in its column.
        """
        mark = await self.mark(topic, key)
        new = [record for record in records if record.offset > mark]
        logged = LOGGED[topic]
        times = carried([logged.time_ns(record.message) for record in new])
        if times and not times[0]:
            newest = await asyncio.to_thread(self._newest_day, topic, key)
            await asyncio.to_thread(self._write, logged, key, newest, new)
            return len(new)
        for day, of_day in groupby(zip(times, new, strict=True), key=lambda timed: day_of(timed[0])):
            await asyncio.to_thread(self._write, logged, key, day, [record for _, record in of_day])
        return len(new)

    async def skip(self, topic: str, key: str, offset: int, *, schema: str, raw: bytes) -> None:
        """Archive a record that cannot be read as its bytes, with the day of the one before it.

        A release that can read it, reads it there. Raises Recoverable when the file cannot be written.
        """
        if offset > await self.mark(topic, key):
            logged = LOGGED[topic]
            day = await asyncio.to_thread(self._newest_day, topic, key)
            await asyncio.to_thread(self._put, logged, key, day, (offset, offset), _unread(logged, offset, schema, raw))

    def _newest_day(self, topic: str, key: str) -> date:
        paths = sorted(_files(self._directory, topic, key), key=span)
        return date.fromisoformat(paths[-1].parts[-3]) if paths else day_of(0)

    def _write(self, logged: LoggedTopic, key: str, day: date, records: Sequence[Record]) -> None:
        first, last = records[0].offset, records[-1].offset
        try:
            table = _table(logged, logged.columns(key, records))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            place = f"{logged.topic} {key} {first} to {last}"
            raise PoisonMessage("unsaveable", f"the archive cannot hold {place}: {error}") from None
        self._put(logged, key, day, (first, last), table)

    def _put(self, logged: LoggedTopic, key: str, day: date, offsets: tuple[int, int], table: pa.Table) -> None:
        first, last = offsets
        path = self._directory / logged.name / day.isoformat() / key_folder(key) / f"{first:020d}-{last:020d}{PARQUET}"
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            for directory in list(path.parents)[:4]:
                sync_directory(directory)
        except OSError as error:
            raise Recoverable(f"archive {path} cannot be written: {error.strerror or error}; make room there") from None
        self._marks[logged.topic, key] = last


def read_archived(
    directory: Path, topic: str, key: str, *, day: date | None = None, unread: list[Unread] | None = None
) -> list[Record]:
    """Return the archived records of a topic and key, of a day or of all, in the order of their offsets.

    Raises BadInput, naming it, for a file that is damaged or not ours, and for one with a record that this release
    cannot read; where `unread` is given, such records are added to it instead, and the others are returned.
    """
    # Files may be merged meanwhile: what is not there any more is in one that is.
    for _ in range(_LOOKS):
        paths = sorted(_standing(_files(directory, topic, key, day)), key=span)
        try:
            found = [each for path in paths for each in _read(LOGGED[topic], path)]
        except FileNotFoundError:
            continue
        poison = [each for each in found if isinstance(each, Unread)]
        if poison and unread is None:
            first = poison[0]
            raise BadInput(
                f"{first.path} has a record that this release cannot read: {first.why}; it is kept whole there"
            )
        if unread is not None:
            unread += poison
        # What is merged spans days, whose records may lie between each other.
        records = [each for each in found if isinstance(each, Record)]
        return sorted(records, key=lambda record: record.offset)
    raise Recoverable(f"archive {directory} is changing all the time: try again")


def standing(paths: Iterable[Path]) -> list[Path]:
    """Return the files of a folder that no other of them holds, in the order of their offsets.

    What is merged holds its parts until these are removed. Raises BadInput where two files overlap otherwise.
    """
    chosen: list[Path] = []
    for path in sorted(paths, key=lambda path: (span(path)[0], -span(path)[1])):
        if chosen and span(path)[0] <= span(chosen[-1])[1]:
            if span(path)[1] > span(chosen[-1])[1]:
                raise BadInput(
                    f"{path} overlaps {chosen[-1].name}: two writers had this key; move one of them elsewhere"
                )
            continue
        chosen.append(path)
    return chosen


def is_unread(path: Path) -> bool:
    """Return whether a file holds one record that was skipped as its bytes: nothing else of it is known."""
    first, last = span(path)
    if first != last:
        return False
    with pq.ParquetFile(path) as file:
        rows = file.read(columns=["epoch"]).to_pylist() if file.metadata.num_rows == 1 else []
    return any("epoch" in row and row["epoch"] is None for row in rows)


def day_folders(directory: Path, before: date) -> list[Path]:
    """Return the folders of all topics, days before one, and keys, oldest day first for each topic."""
    return [
        folder
        for logged in LOGGED.values()
        for day in sorted(directory.joinpath(logged.name).glob("*-*-*"))
        if day.name < before.isoformat()
        for folder in sorted(day.iterdir())
    ]


def key_folder(key: str) -> str:
    """Return the name of a key's folder: no key leads out of its parent.

    Raises BadInput for a key with an empty part, and for one that is too long for a name once it is escaped.
    """
    parts = key.split(".")
    if not all(parts):
        raise BadInput(f"key was {key[:LONGEST_NAME]!r}: a folder takes no key with an empty part")
    folder = ".".join(subjects.token(part) for part in parts)
    if len(folder) > LONGEST_NAME:
        raise BadInput(f"key was {key[:LONGEST_NAME]!r}: escaped it is {len(folder)} long, over {LONGEST_NAME}")
    return folder


def _standing(paths: Iterable[Path]) -> Iterator[Path]:
    """Give the files that stand, folder by folder: spans of two days may lie within each other."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    for files in folders.values():
        yield from standing(files)


def _files(directory: Path, topic: str, key: str, day: date | None = None) -> Iterator[Path]:
    days = day.isoformat() if day else "*"
    return (directory / LOGGED[topic].name).glob(f"{days}/{key_folder(key)}/*{PARQUET}")


def span(path: Path) -> tuple[int, int]:
    """Return the first and last offset that a file has by its name; raise BadInput when it is named otherwise."""
    first, _, last = path.stem.partition("-")
    try:
        return int(first), int(last)
    except ValueError:
        raise BadInput(f"{path} is no file of the archive: move it elsewhere") from None


def day_of(time_ns: int) -> date:
    """Return the day, UTC, of nanoseconds since the Unix epoch."""
    return datetime.fromtimestamp(time_ns // NANOSECONDS // _DAY_S * _DAY_S, UTC).date()


def _table(logged: LoggedTopic, columns: dict[str, Values]) -> pa.Table:
    return pa.table({name: pa.array(values, _TYPES[logged.types[name]]) for name, values in columns.items()})


def _unread(logged: LoggedTopic, offset: int, schema: str, raw: bytes) -> pa.Table:
    known: dict[str, Values] = {OFFSET: [offset], SCHEMA: [schema], HEADER: [raw]}
    return _table(logged, {name: known.get(name, [None]) for name in logged.types})


def _read(logged: LoggedTopic, path: Path) -> list[Record] | list[Record | Unread]:
    try:
        table = pq.read_table(path, columns=list(logged.types))
        columns = {name: _values(table[name], kind) for name, kind in logged.types.items()}
        try:
            return logged.records(columns)
        except PoisonMessage:
            return list(_one_by_one(logged, path, columns))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, DecodeError) as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(f"{path} was not written by Huracan, or is damaged: {first_line}") from None


def _one_by_one(logged: LoggedTopic, path: Path, columns: Mapping[str, list[Any]]) -> Iterator[Record | Unread]:
    starts = [at for at, header in enumerate(columns[HEADER]) if header is not None]
    for start, end in pairwise([*starts, len(columns[HEADER])]):
        try:
            yield from logged.records({name: values[start:end] for name, values in columns.items()})
        except PoisonMessage as poison:
            yield Unread(path, columns[OFFSET][start], str(poison))


def _values(column: Any, kind: str) -> list[Any]:
    if kind != "real[]":
        return list(column.to_pylist())
    # Not over Python's numbers, which would not keep the bits of every NaN.
    return [np.asarray(each.values) if each.is_valid else None for each in column]
