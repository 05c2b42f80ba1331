"""Files of the archive that are many and small become one for each topic, day and key."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from huracan.errors import BadInput
from huracan.store.archive import PARQUET, day_folders, is_unread, span, standing
from huracan.store.comparison import same_values
from huracan.store.files import sync_directory

ROWS_AT_ONCE = 250_000
"""Rows of one group of a merged file, and of what is in memory twice."""
_UNFINISHED, _LOCK = ".merging", "merge.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """One file in the place of several."""

    path: Path
    files: int
    """How many it replaces."""
    rows: int


def merge_files(directory: Path, before: date) -> list[Merged]:
    """Merge the files of each topic, day and key of an archive, for days before one, UTC; return what came of it.

    The persister may write there meanwhile. A merged file is on disk, read back and compared, before a file it
    replaces is removed; until then readers pass over those that it holds. Ended anywhere, it can be run again.
    A record that could not be read keeps a file of its own, and those before and after it become one each.
    Raises BadInput where the directory is none or cannot be written, somebody else merges there, or a file is damaged.
    """
    try:
        with locked(directory):
            return [merged for folder in day_folders(directory, before) for merged in _merge(folder)]
    except BlockingIOError:
        raise BadInput(f"archive {directory} is being merged by another process: wait until that has ended") from None
    except (OSError, pa.ArrowException) as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(f"archive {directory} cannot be merged: {first_line}; nothing of it was lost") from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only one who merges an archive; raise BlockingIOError where somebody is."""
    with (directory / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _merge(folder: Path) -> list[Merged]:
    for left in folder.glob(f"*{_UNFINISHED}"):
        left.unlink()
    every = list(folder.glob(f"*{PARQUET}"))
    files = standing(every)
    runs = [list(run) for skipped, run in groupby(files, key=is_unread) if not skipped]
    merged = [_written(folder, run) for run in runs if len(run) > 1]
    replaced = {path for run in runs if len(run) > 1 for path in run}
    kept = {each.path for each in merged} | (set(files) - replaced)
    _remove(folder, set(every) - kept)
    return merged


def _written(folder: Path, files: Sequence[Path]) -> Merged:
    path = folder / f"{span(files[0])[0]:020d}-{span(files[-1])[1]:020d}{PARQUET}"
    unfinished = path.with_suffix(_UNFINISHED)
    rows = 0
    with pq.ParquetWriter(unfinished, pq.read_schema(files[0]), compression="zstd") as writer:
        for table in _groups(files):
            writer.write_table(table, row_group_size=ROWS_AT_ONCE)
            rows += table.num_rows
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    _compare(unfinished, files)
    unfinished.replace(path)
    sync_directory(folder)
    return Merged(path=path, files=len(files), rows=rows)


def _groups(files: Sequence[Path]) -> Iterator[pa.Table]:
    """Give the rows of files in their order, as many as a group has."""
    waiting: list[pa.Table] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                waiting.append(file.read_row_group(number))
                if sum(table.num_rows for table in waiting) >= ROWS_AT_ONCE:
                    together = pa.concat_tables(waiting)
                    for start in range(0, together.num_rows - ROWS_AT_ONCE + 1, ROWS_AT_ONCE):
                        yield together.slice(start, ROWS_AT_ONCE)
                    waiting = [together.slice(together.num_rows // ROWS_AT_ONCE * ROWS_AT_ONCE)]
    rest = pa.concat_tables(waiting)
    if rest.num_rows:
        yield rest


def _compare(path: Path, files: Sequence[Path]) -> None:
    with pq.ParquetFile(path) as file:
        groups = list(range(file.num_row_groups))
        for number, expected in enumerate(_groups(files)):
            if number not in groups or not same_values(file.read_row_group(number), expected):
                raise BadInput(f"{path} does not say what it was made of: is the disk damaged? Nothing was removed")


def _remove(folder: Path, replaced: set[Path]) -> None:
    for path in sorted(replaced):
        path.unlink()
    if replaced:
        sync_directory(folder)
