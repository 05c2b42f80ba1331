"""`huracan archive` as people type it: old days leave the database as files, and small files become one."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from huracan.bus import subjects
from huracan.clock import DAY_NS, SystemClock
from huracan.contracts.execution import Fill, Side
from huracan.contracts.journal import DeadlineFired, journal_entry
from huracan.contracts.market import InstrumentId
from huracan.ports import Record
from huracan.store.archive import Archive, read_archived
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.parquet import read_messages
from huracan.store.postgres import PostgresStore
from huracan_cli.main import entry_point

KEY = "shard.01"


def _typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return what the command prints."""
    monkeypatch.setattr(sys, "argv", ["huracan", "archive", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        entry_point()
    said = capsys.readouterr()
    return f"exit {ended.value.code}: {said.err}" if ended.value.code else said.out


def test_days_that_are_old_leave_the_database_as_files(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ns = SystemClock().now_ns()
    instrument = InstrumentId(venue="sim", symbol="btc-usdt-perp")
    old, new = (
        Fill(
            fill_id=bytes([age]), account="paper", instrument=instrument, side=Side.SIDE_BUY, matched_ns=at_ns, fee="1"
        )
        for age, at_ns in ((9, now_ns - 9 * DAY_NS), (0, now_ns))
    )

    async def save() -> None:
        await migrate(postgres_url, migrations_directory())
        store = PostgresStore(postgres_url, 1)
        await store.save([old, new])
        await store.maintain(now_ns)
        await store.close()

    async def left() -> list[Fill]:
        store = PostgresStore(postgres_url, 1)
        try:
            return await store.load(Fill)
        finally:
            await store.close()

    asyncio.run(save())
    directory = tmp_path / "days"
    days = ("days", directory, "--postgres-url", postgres_url)
    assert _typed(monkeypatch, capsys, *days) == "no day was put aside\n"
    told = json.loads(_typed(monkeypatch, capsys, *days, "--keep-days", "5", "--json"))
    (file,) = [Path(name) for name in told["files"] if Path(name).name.startswith("fills")]
    assert read_messages(file, Fill) == [old]
    assert asyncio.run(left()) == [new]
    assert "cannot be made" in _typed(monkeypatch, capsys, "days", file / "within", *days[2:])


@pytest.mark.parametrize("command", [["merge"], ["days", "--postgres-url", "postgresql://huracan@127.0.0.1:1/huracan"]])
def test_an_empty_directory_is_refused_and_is_not_the_one_where_one_stands(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "error: directory was ''" in _typed(monkeypatch, capsys, *command, "")
    assert list(tmp_path.iterdir()) == []
    assert "directory was" not in _typed(monkeypatch, capsys, *command, ".")


def test_small_files_of_a_day_that_is_over_become_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [journal_entry(KEY, DeadlineFired(step=step), epoch=1, at_ns=10**18) for step in range(3)]

    async def save() -> None:
        for offset, entry in enumerate(entries):
            await Archive(tmp_path).save_records(subjects.JOURNAL_TOPIC, KEY, [Record(offset, entry)])

    asyncio.run(save())
    (told,) = json.loads(_typed(monkeypatch, capsys, "merge", tmp_path, "--json"))["merged"]
    assert (told["files"], told["rows"]) == (3, 3)
    assert [record.message for record in read_archived(tmp_path, subjects.JOURNAL_TOPIC, KEY)] == entries
    assert _typed(monkeypatch, capsys, "merge", tmp_path) == "nothing to merge\n"
    assert "cannot be merged" in _typed(monkeypatch, capsys, "merge", tmp_path / "nowhere")
