"""Files of the archive that become one: no row is lost or doubled, wherever it is killed and whoever reads."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.features import FeatureRow
from huracan.errors import BadInput, Recoverable
from huracan.ports import Record
from huracan.store import merge
from huracan.store.archive import Archive, Unread, read_archived
from huracan.store.logged import LOGGED
from huracan.store.merge import merge_files

from .logged_records import DAY_NS, START_NS, entry, features, ticks

KEY = "sim.btc-usdt-perp"
FIRST_DAY = date(1970, 1, 1) + timedelta(days=20_000)
LATER = FIRST_DAY + timedelta(days=30)
ODD_NAN = b"\x01\x00\xa0\x7f"
"""A signalling NaN."""


def _time(number: int) -> int:
    """Return a time of the first day, or for every fifth record of the second."""
    return START_NS + number + (DAY_NS if number % 5 == 4 else 0)


SAMPLES: dict[str, list[Message]] = {
    TICKS_TOPIC: [ticks(number, rows=number % 4, recv_ns=_time(number)) for number in range(15)],
    FEATURES_TOPIC: [
        *(features(number, close_ns=_time(number)) for number in range(12)),
        *(FeatureRow(values=values, close_ns=_time(14)) for values in (ODD_NAN, b"", b"odd")),
    ],
    JOURNAL_TOPIC: [entry(number, at_ns=_time(number)) for number in range(15)],
}


def _records(topic: str) -> list[Record]:
    return [Record(7 * number, message) for number, message in enumerate(SAMPLES[topic])]


def _archive(directory: Path, topics: Sequence[str] = (TICKS_TOPIC,)) -> None:
    async def main() -> None:
        for topic in topics:
            for record in _records(topic):
                await Archive(directory).save_records(topic, KEY, [record])

    asyncio.run(main())


def _exact(records: list[Record]) -> list[tuple[int, str, bytes]]:
    return [(record.offset, schema_of(record.message), encode(record.message)) for record in records]


def _by_day(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.offset)


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and path.name != "merge.lock")


@pytest.mark.parametrize("topic", LOGGED)
@pytest.mark.parametrize("group", [1, 3, 250_000])
def test_the_files_of_a_day_become_one_with_the_same_records(
    topic: str, group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "ROWS_AT_ONCE", group)
    _archive(tmp_path, [topic])
    days = {day: read_archived(tmp_path, topic, KEY, day=day) for day in (FIRST_DAY, FIRST_DAY + timedelta(days=1))}
    assert sum(map(len, days.values())) == 15
    merged = merge_files(tmp_path, LATER)
    assert [each.files for each in merged] == [len(records) for records in days.values()]
    assert [each.rows for each in merged] == [pq.ParquetFile(each.path).metadata.num_rows for each in merged]
    assert len(_names(tmp_path)) == 2
    for day, records in days.items():
        assert _exact(read_archived(tmp_path, topic, KEY, day=day)) == _exact(records)
    assert asyncio.run(Archive(tmp_path).mark(topic, KEY)) == 98
    assert merge_files(tmp_path, LATER) == []


def test_a_day_that_is_not_over_is_left_and_what_comes_late_is_merged_in(tmp_path: Path) -> None:
    _archive(tmp_path)
    assert [each.path.parts[-3] for each in merge_files(tmp_path, FIRST_DAY + timedelta(days=1))] == ["2024-10-04"]
    late = Record(1_000, ticks(1_000, recv_ns=START_NS + 5))
    assert asyncio.run(Archive(tmp_path).save_records(TICKS_TOPIC, KEY, [late])) == 1
    assert [each.files for each in merge_files(tmp_path, LATER)] == [2, 3]
    kept = read_archived(tmp_path, TICKS_TOPIC, KEY)
    assert sorted(record.offset for record in kept) == [*range(0, 99, 7), 1_000]


def test_records_of_days_that_lie_between_each_other_come_in_the_order_of_their_offsets(tmp_path: Path) -> None:
    _archive(tmp_path)
    merge_files(tmp_path, LATER)
    assert _exact(read_archived(tmp_path, TICKS_TOPIC, KEY)) == _exact(_records(TICKS_TOPIC))


@pytest.mark.parametrize("topic", LOGGED)
@pytest.mark.parametrize("place", [0, 6, 15])
def test_a_record_that_cannot_be_read_is_left_out_and_hides_no_other(topic: str, place: int, tmp_path: Path) -> None:
    records, skipped = [Record(record.offset + 1, record.message) for record in _records(topic)], 7 * place

    async def main() -> None:
        archive = Archive(tmp_path)
        for record in records[:place]:
            await archive.save_records(topic, KEY, [record])
        await archive.skip(topic, KEY, skipped, schema="huracan.later.v1.Thing", raw=b"later")
        for record in records[place:]:
            await archive.save_records(topic, KEY, [record])

    asyncio.run(main())
    for merged in (True, False):
        assert bool(merge_files(tmp_path, LATER)) is merged
        assert len(list(tmp_path.rglob(f"{skipped:020d}-{skipped:020d}.parquet"))) == 1
        unread: list[Unread] = []
        assert _exact(read_archived(tmp_path, topic, KEY, unread=unread)) == _exact(records)
        assert [told.offset for told in unread] == [skipped]
    assert len(list(tmp_path.rglob("*.parquet"))) == (4 if place == 6 else 3)


class Killed(BaseException):
    """Stands for the end of the process."""


@contextmanager
def _killed_at(step: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """End before a step of those that change the disk, as a kill would: nothing after it is done."""
    steps = count()

    def stepping(real: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **named: object) -> object:
            if next(steps) == step:
                raise Killed
            return real(*arguments, **named)

        return stepped

    with patch.context() as patched:
        for owner, name in (
            (pq.ParquetWriter, "write_table"),
            (os, "fsync"),
            (Path, "replace"),
            (Path, "unlink"),
        ):
            patched.setattr(owner, name, stepping(getattr(owner, name)))
        yield


@pytest.mark.parametrize("topic", LOGGED)
def test_killed_at_any_step_nothing_is_lost_or_doubled_and_the_next_run_ends_it(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "ROWS_AT_ONCE", 5)
    for step in count():
        directory = tmp_path / str(step)
        directory.mkdir()
        _archive(directory, [topic])
        before = _exact(_by_day(read_archived(directory, topic, KEY)))
        killed = True
        try:
            with _killed_at(step, monkeypatch):
                merge_files(directory, LATER)
                killed = False
        except Killed:
            pass
        assert _exact(_by_day(read_archived(directory, topic, KEY))) == before
        assert asyncio.run(Archive(directory).save_records(topic, KEY, _records(topic))) == 0
        merge_files(directory, LATER)
        assert _exact(_by_day(read_archived(directory, topic, KEY))) == before
        assert len(_names(directory)) == 2
        if not killed:
            break
    assert step > 20


SHOT = """
import os, signal, sys
from datetime import date
from pathlib import Path
from huracan.store.merge import merge_files

def shot(*_, real=getattr(Path, sys.argv[2])):
    if sys.argv[3] == "after":
        real(*_)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Path, sys.argv[2], shot)
merge_files(Path(sys.argv[1]), date(2030, 1, 1))
"""


@pytest.mark.parametrize(("name", "when"), [("replace", "before"), ("replace", "after"), ("unlink", "after")])
def test_a_process_that_is_shot_leaves_every_record_once(name: str, when: str, tmp_path: Path) -> None:
    _archive(tmp_path)
    before = _exact(_by_day(read_archived(tmp_path, TICKS_TOPIC, KEY)))
    command = [sys.executable, "-c", textwrap.dedent(SHOT), str(tmp_path), name, when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert _exact(_by_day(read_archived(tmp_path, TICKS_TOPIC, KEY))) == before
    merge_files(tmp_path, LATER)
    assert _exact(_by_day(read_archived(tmp_path, TICKS_TOPIC, KEY))) == before
    assert len(_names(tmp_path)) == 2


def test_whoever_reads_meanwhile_finds_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _archive(tmp_path)
    real, looked = pq.read_table, count()

    def merged_meanwhile(*arguments: object, **named: object) -> object:
        if next(looked) == 1:
            merge_files(tmp_path, LATER)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(pq, "read_table", merged_meanwhile)
    assert len(read_archived(tmp_path, TICKS_TOPIC, KEY)) == 15


def test_what_changes_all_the_time_is_recoverable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError

    _archive(tmp_path)
    monkeypatch.setattr(pq, "read_table", gone)
    with pytest.raises(Recoverable, match="is changing all the time"):
        read_archived(tmp_path, TICKS_TOPIC, KEY)


def test_two_do_not_merge_at_once(tmp_path: Path) -> None:
    _archive(tmp_path)
    with merge.locked(tmp_path), pytest.raises(BadInput, match="is being merged by another process"):
        merge_files(tmp_path, LATER)
    assert len(merge_files(tmp_path, LATER)) == 2


def test_a_merged_file_that_reads_otherwise_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _archive(tmp_path)
    names = _names(tmp_path)
    monkeypatch.setattr(merge, "same_values", lambda *_: False)
    with pytest.raises(BadInput, match=r"does not say what it was made of: .* Nothing was removed"):
        merge_files(tmp_path, LATER)
    assert [name for name in _names(tmp_path) if name.endswith(".parquet")] == names


def test_files_that_overlap_are_refused_by_name(tmp_path: Path) -> None:
    _archive(tmp_path)
    folder = tmp_path / "ticks" / FIRST_DAY.isoformat() / KEY
    for offset, first, last in ((0, 0, 10), (14, 10, 14)):
        (folder / f"{offset:020d}-{offset:020d}.parquet").rename(folder / f"{first:020d}-{last:020d}.parquet")
    for work in (lambda: merge_files(tmp_path, LATER), lambda: read_archived(tmp_path, TICKS_TOPIC, KEY)):
        with pytest.raises(BadInput, match=r"0+10-0+14\.parquet overlaps 0+-0+10\.parquet: two writers had this key"):
            work()


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_directory_that_cannot_be_merged_is_told_and_nothing_goes(damage: str, tmp_path: Path) -> None:
    _archive(tmp_path)
    directory = tmp_path / "nowhere" if damage == "missing" else tmp_path
    if damage == "damaged":
        (tmp_path / "ticks" / FIRST_DAY.isoformat() / KEY / f"{0:020d}-{0:020d}.parquet").write_bytes(b"PAR1")
    names = _names(tmp_path)
    with pytest.raises(BadInput, match=r"archive .* cannot be merged: .*; nothing of it was lost"):
        merge_files(directory, LATER)
    assert [name for name in _names(tmp_path) if name.endswith(".parquet")] == names
