"""The archive: a day of the log comes back to the byte, and a restart goes on without a hole or a repeat."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC
from huracan.contracts import codec
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.features import FeatureRow
from huracan.contracts.market import TickBatch
from huracan.errors import BadInput, PoisonMessage, Recoverable
from huracan.ports import Record
from huracan.store.archive import Archive, Unread, read_archived
from huracan.store.logged import LOGGED

from .logged_records import BTC, DAY_NS, START_NS, entry, features, ticks

KEY = "sim.btc-usdt-perp"
FIRST_DAY = date(1970, 1, 1) + timedelta(days=20_000)
ODD_NAN = b"\x01\x00\xa0\x7f"
"""A signalling NaN, which Python's numbers would turn into a quiet one."""


def _time(number: int) -> int:
    """Return a time within three days, five records each."""
    return START_NS + number // 5 * DAY_NS + number


SAMPLES: dict[str, list[Message]] = {
    TICKS_TOPIC: [ticks(number, rows=number % 4, recv_ns=_time(number)) for number in range(15)],
    FEATURES_TOPIC: [
        *(features(number, close_ns=_time(number)) for number in range(14)),
        FeatureRow(values=ODD_NAN, close_ns=_time(14)),
    ],
    JOURNAL_TOPIC: [entry(number, at_ns=_time(number)) for number in range(15)],
}


def _records(topic: str) -> list[Record]:
    return [Record(7 * number, message) for number, message in enumerate(SAMPLES[topic])]


def _exact(records: list[Record]) -> list[tuple[int, str, bytes]]:
    return [(record.offset, schema_of(record.message), encode(record.message)) for record in records]


def _names(directory: Path, pattern: str = "**/*") -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.glob(pattern) if path.is_file())


@pytest.mark.parametrize("topic", LOGGED)
def test_a_day_comes_back_as_it_was_logged(topic: str, tmp_path: Path) -> None:
    records = _records(topic)
    assert asyncio.run(Archive(tmp_path).save_records(topic, KEY, records)) == 15
    assert _exact(read_archived(tmp_path, topic, KEY)) == _exact(records)
    second = read_archived(tmp_path, topic, KEY, day=FIRST_DAY + timedelta(days=1))
    assert _exact(second) == _exact(records[5:10])
    assert read_archived(tmp_path, topic, "another") == []


def test_no_key_leads_out_of_its_folder(tmp_path: Path) -> None:
    asyncio.run(Archive(tmp_path / "here").save_records(JOURNAL_TOPIC, "context.mood/x", [Record(1, entry(1))]))
    (name,) = _names(tmp_path)
    assert name.startswith(f"here/journal/{FIRST_DAY.isoformat()}/context.mood=2f=x/")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "no key with an empty part"),
        ("sim..btc", "no key with an empty part"),
        ("sim.", "no key with an empty part"),
        ("x" * 256, "escaped it is 256 long, over 255"),
        ("X" * 64, "escaped it is 256 long, over 255"),
    ],
)
def test_a_key_that_no_folder_can_have_has_no_place(key: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(PoisonMessage, match=f"the archive cannot hold {JOURNAL_TOPIC}: key was '{key[:255]}': .*{why}"):
        asyncio.run(Archive(tmp_path).mark(JOURNAL_TOPIC, key))
    with pytest.raises(BadInput, match=why):
        read_archived(tmp_path, JOURNAL_TOPIC, key)


@pytest.mark.parametrize("key", ["x" * 255, "X" * 63])
def test_the_longest_key_that_a_folder_can_have_is_archived(key: str, tmp_path: Path) -> None:
    record = Record(1, entry(1))
    asyncio.run(Archive(tmp_path).save_records(JOURNAL_TOPIC, key, [record]))
    assert _exact(read_archived(tmp_path, JOURNAL_TOPIC, key)) == _exact([record])


def test_ticks_are_columns_that_other_tools_read(tmp_path: Path) -> None:
    asyncio.run(Archive(tmp_path).save_records(TICKS_TOPIC, KEY, [Record(4, ticks(3, rows=2))]))
    (name,) = _names(tmp_path)
    assert name == f"ticks/{FIRST_DAY.isoformat()}/{KEY}/{4:020d}-{4:020d}.parquet"
    table = pq.read_table(tmp_path / name)
    assert table["price"].to_pylist() == [-3000, -3001]
    assert table["symbol"].to_pylist() == ["btc-usdt-perp"] * 2
    assert pq.ParquetFile(tmp_path / name).metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("topic", LOGGED)
def test_a_restart_goes_on_without_a_hole_or_a_repeat(topic: str, tmp_path: Path) -> None:
    records = _records(topic)

    async def main() -> None:
        for start in range(0, 15, 2):
            archive = Archive(tmp_path)
            assert await archive.mark(topic, KEY) == (records[start - 1].offset if start else -1)
            assert await archive.save_records(topic, KEY, records[max(start - 3, 0) : start + 2]) == min(2, 15 - start)

    asyncio.run(main())
    assert _exact(read_archived(tmp_path, topic, KEY)) == _exact(records)


def test_a_file_that_was_not_finished_is_written_anew(tmp_path: Path) -> None:
    records = _records(TICKS_TOPIC)
    asyncio.run(Archive(tmp_path).save_records(TICKS_TOPIC, KEY, records[:3]))
    (name,) = _names(tmp_path)
    unfinished = (tmp_path / name).parent / f"{21:020d}-{28:020d}.tmp"
    unfinished.write_bytes(b"PAR1half")
    asyncio.run(Archive(tmp_path).save_records(TICKS_TOPIC, KEY, records[:5]))
    assert not unfinished.exists()
    assert _exact(read_archived(tmp_path, TICKS_TOPIC, KEY)) == _exact(records[:5])


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_marked(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    records = _records(TICKS_TOPIC)[:1]

    async def main() -> None:
        archive = Archive(file)
        with pytest.raises(Recoverable, match=r"archive .*file/ticks/.* cannot be written: .*; make room there"):
            await archive.save_records(TICKS_TOPIC, KEY, records)
        file.unlink()
        assert await archive.mark(TICKS_TOPIC, KEY) == -1
        assert await archive.save_records(TICKS_TOPIC, KEY, records) == 1

    asyncio.run(main())


def test_what_has_no_place_in_its_column_is_poison(tmp_path: Path) -> None:
    records = [Record(1, FeatureRow(epoch=2**63))]
    with pytest.raises(PoisonMessage, match="the archive cannot hold"):
        asyncio.run(Archive(tmp_path).save_records(FEATURES_TOPIC, KEY, records))
    assert _names(tmp_path) == []


@pytest.mark.parametrize("name", [f"{0:020d}-{99:020d}.parquet", "notes.parquet"])
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "ticks" / "2026-11-21" / KEY
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=name):
        read_archived(tmp_path, TICKS_TOPIC, KEY)


def test_what_says_no_time_has_the_day_of_what_came_before_it(tmp_path: Path) -> None:
    claim, second = TickBatch(instrument=BTC, epoch=2), START_NS + DAY_NS
    batches = [[claim, ticks(1)], [claim], [ticks(2, recv_ns=second), claim], [claim, ticks(3, recv_ns=second)]]
    records = [Record(number, batch) for number, batch in enumerate(batch for group in batches for batch in group)]

    async def main() -> None:
        left = iter(records)
        for group in batches:
            await Archive(tmp_path).save_records(TICKS_TOPIC, KEY, [next(left) for _ in group])

    asyncio.run(main())
    assert _exact(read_archived(tmp_path, TICKS_TOPIC, KEY, day=FIRST_DAY)) == _exact(records[:3])
    assert _exact(read_archived(tmp_path, TICKS_TOPIC, KEY, day=FIRST_DAY + timedelta(days=1))) == _exact(records[3:])


@pytest.mark.parametrize("topic", LOGGED)
def test_a_record_that_cannot_be_read_is_told_and_the_others_are_given(topic: str, tmp_path: Path) -> None:
    records = _records(topic)

    async def main() -> None:
        archive = Archive(tmp_path)
        await archive.save_records(topic, KEY, records[:7])
        await archive.skip(topic, KEY, 43, schema="huracan.later.v1.Thing", raw=b"later")
        await archive.save_records(topic, KEY, records[7:])

    asyncio.run(main())
    with pytest.raises(BadInput, match="has a record that this release cannot read: unknown_schema"):
        read_archived(tmp_path, topic, KEY)
    unread: list[Unread] = []
    assert _exact(read_archived(tmp_path, topic, KEY, unread=unread)) == _exact(records)
    (told,) = unread
    assert (told.offset, told.path.name) == (43, f"{43:020d}-{43:020d}.parquet")
    assert told.why.startswith("unknown_schema")


@pytest.mark.parametrize("topic", LOGGED)
def test_what_cannot_be_read_among_others_of_its_file_is_told_alone(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = _records(topic)
    asyncio.run(Archive(tmp_path).save_records(topic, KEY, records))
    real, refused = codec.decode, LOGGED[topic].columns(KEY, records[8:9])["header"][0]

    def decode(schema: str, raw: bytes) -> Message:
        if raw == refused:
            raise PoisonMessage("undecodable", "it cannot be")
        return real(schema, raw)

    monkeypatch.setattr(codec, "decode", decode)
    unread: list[Unread] = []
    found = read_archived(tmp_path, topic, KEY, unread=unread)
    assert _exact(found) == _exact([*records[:8], *records[9:]])
    assert [told.offset for told in unread] == [56]
