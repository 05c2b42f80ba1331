"""`huracan explain` of what a database and a log keep: the same as of the files of the run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest
from typer.testing import CliRunner

from huracan.bus import subjects
from huracan.contracts.decision import Decision
from huracan.contracts.features import FeatureRow
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition, TickColumns, instrument_key, tick_batch
from huracan.errors import BadInput
from huracan.ports import Record
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.store.evidence import evidence
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.parquet import read_journals, read_messages, read_table
from huracan.store.postgres import PostgresStore
from huracan.store.tables import TABLES
from huracan.ticklog.memory import MemoryLog
from huracan_cli import stored
from huracan_cli.explain import Explanation, explain
from huracan_cli.main import app
from huracan_cli.replay import Replay, replay
from huracan_cli.state import RunState
from huracan_cli.stored import Found, explain_stored, in_log

pytestmark = pytest.mark.usefixtures("untraced_module")
MARKET = SimulatedMarketConfig(seed=5, duration_s=12.0, regime_switch_s=4.0)
FIRST, LAST = 40, 47
"""Offsets of the batches that have the frames of the window."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the files of a run."""
    out = tmp_path_factory.mktemp("run")
    write_recording(MARKET, out / "market.jsonl.gz")
    replay(Replay(recording=out / "market.jsonl.gz", history=None, news=None, seed=0, out=out), lambda _: None)
    return out


def _ticks(told: Explanation) -> list[Record]:
    """Return batches before, in and after the window of a decision."""
    venue, _, symbol = told.instrument.partition(".")
    instrument = InstrumentDefinition()
    instrument.id.venue, instrument.id.symbol = venue, symbol
    first, last = told.ingest_seq
    batches = {10: first - 1, FIRST: first, 43: first + 1, LAST: last, 60: last + 1}
    return [
        Record(
            offset,
            tick_batch(
                instrument=instrument,
                epoch=told.gateway_epoch,
                batch=offset,
                columns=TickColumns([number], [1], [told.close_ns], [1], [1], [0], [1], [1], [1]),
                watermark_ns=told.close_ns,
            ),
        )
        for offset, number in batches.items()
    ]


async def _stored(url: str, run: Path, *, log: bool) -> None:
    await migrate(url, migrations_directory())
    store = PostgresStore(url, 1)
    for table in TABLES:
        await store.save(read_table(run, table.kind))
    if log:
        told = explain(run, "last")
        for key, entries in read_journals(run).items():
            await store.save_records(subjects.JOURNAL_TOPIC, key, [Record(*each) for each in enumerate(entries)])
        rows = [Record(*each) for each in enumerate(read_messages(run / "features.parquet", FeatureRow))]
        await store.save_records(subjects.FEATURES_TOPIC, told.instrument, rows)
        await store.save_records(subjects.TICKS_TOPIC, told.instrument, _ticks(told))
    await store.close()


def test_a_decision_is_explained_from_the_database_as_from_its_run(postgres_url: str, run: Path) -> None:
    asyncio.run(_stored(postgres_url, run, log=True))
    expected = explain(run, "last")
    for name in (expected.decision_id, expected.decision_id[:12].upper()):
        told = asyncio.run(explain_stored(name, postgres_url))
        assert Explanation.model_validate(told.model_dump(include=set(Explanation.model_fields))) == expected
        assert (told.tick_offsets, told.tick_source) == ((FIRST, LAST), "database")
    done = CliRunner().invoke(app, ["explain", "last", "--database", postgres_url, "--json"])
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert (said["same_bytes"], said["direction"] != "HOLD", said["tick_source"]) == (True, True, "database")
    assert {vote["proof"] for vote in said["votes"]} == {"same bytes"}
    shown = CliRunner().invoke(app, ["explain", expected.decision_id, "--database", postgres_url])
    assert f"their ticks: database at offsets {FIRST} to {LAST}" in shown.stdout


def test_what_the_database_does_not_keep_is_told(postgres_url: str, run: Path) -> None:
    asyncio.run(_stored(postgres_url, run, log=False))
    decision_id = explain(run, "last").decision_id
    with pytest.raises(BadInput, match=rf"{decision_id} was found, and the journal shard\.\d\d .* was not: .*--live"):
        asyncio.run(explain_stored(decision_id, postgres_url))
    for wanted, count in (("", "none that begins so"), ("zz", "none that begins so"), ("0" * 32, "none that begin")):
        with pytest.raises(BadInput, match=f"decision id was '{wanted}': the database has {count}"):
            asyncio.run(explain_stored(wanted, postgres_url))
    with pytest.raises(BadInput, match="--run was given with --database or --live"):
        CliRunner().invoke(app, ["explain", "last", "--run", "x", "--live"], catch_exceptions=False)


async def _change(url: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *values)
    await connection.close()


JOURNALS = "delete from tick_log.journal where log_offset "
SKIP = "insert into tick_log.skipped (topic, key, log_offset, schema, raw) values ($1, $2, $3, 'x', '')"


def test_a_journal_that_the_database_has_in_part_proves_nothing(postgres_url: str, run: Path) -> None:
    asyncio.run(_stored(postgres_url, run, log=True))
    told = explain(run, "last")
    shard = next(each for each in read_table(run, Decision) if each.decision_id.hex() == told.decision_id).shard
    key, decided = subjects.journal_key(shard), told.journal_entries - 1

    def refused(part: str) -> None:
        with pytest.raises(BadInput, match=rf"{told.decision_id} was found, and the journal {key} .* {part}.*--live"):
            asyncio.run(explain_stored(told.decision_id, postgres_url))

    asyncio.run(_change(postgres_url, SKIP, subjects.JOURNAL_TOPIC, key, decided + 1))
    assert asyncio.run(explain_stored(told.decision_id, postgres_url)).same_bytes  # what came later has no part in it
    asyncio.run(_change(postgres_url, SKIP, subjects.JOURNAL_TOPIC, key, decided))
    refused(f"is here without its record at offset {decided}, which was skipped")
    asyncio.run(_change(postgres_url, "truncate tick_log.skipped"))
    asyncio.run(_change(postgres_url, f"{JOURNALS} >= {decided}"))
    refused(f"is here up to offset {decided - 1} only, from which it does not follow")
    asyncio.run(_change(postgres_url, f"{JOURNALS} < 3"))
    refused("is here from offset 3 on only")


def test_what_the_database_lacks_of_a_journal_is_read_from_the_log(
    postgres_url: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(_stored(postgres_url, run, log=True))
    asyncio.run(_change(postgres_url, f"{JOURNALS} < 3"))
    expected = explain(run, "last")

    @asynccontextmanager
    async def reached(_state: RunState) -> AsyncIterator[SimpleNamespace]:
        log = MemoryLog().node("x")
        for key, entries in read_journals(run).items():
            for number, entry in enumerate(entries):
                await log.append(subjects.JOURNAL_TOPIC, key, entry, record_id=b"%d" % number)
        yield SimpleNamespace(log=log)

    monkeypatch.setattr(stored, "reached", reached)
    told = asyncio.run(explain_stored("last", postgres_url, RunState.model_construct()))
    assert (told.same_bytes, told.journal_entries) == (True, expected.journal_entries)
    assert (told.tick_offsets, told.tick_source) == ((FIRST, LAST), "database")


def test_a_journal_is_read_up_to_the_writer_that_closed_what_the_one_of_the_decision_left_open(
    postgres_url: str, run: Path
) -> None:
    asyncio.run(_stored(postgres_url, run, log=True))
    told = explain(run, "last")
    asyncio.run(
        _change(
            postgres_url,
            "insert into tick_log.journal (log_offset, key, epoch, at_ns, kind, schema, header)"
            " select max(log_offset) + later, key, epoch + 1, max(at_ns), 'epoch_started', min(schema), ''"
            " from tick_log.journal, generate_series(1, 2) as later group by key, epoch, later",
        )
    )
    kept = asyncio.run(evidence(postgres_url, told.decision_id))
    assert kept.skipped is None
    assert [record.offset for record in kept.journal] == list(range(len(kept.journal)))
    assert kept.journal[-1].message == JournalEntry()  # the first of them alone
    assert kept.journal[-2].message != JournalEntry()


@pytest.mark.parametrize("at_once", [1, stored.RECORDS_AT_ONCE])
def test_what_only_the_log_has_is_read_from_it(run: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RECORDS_AT_ONCE", at_once)
    told = explain(run, "last")
    decision = next(each for each in read_table(run, Decision) if each.decision_id.hex() == told.decision_id)
    journal = read_journals(run)[subjects.journal_key(decision.shard)]
    rows = [row for row in read_messages(run / "features.parquet", FeatureRow) if instrument_key(row.instrument)]
    nothing = Found(journal=[], rows=[], ticks=None, source="never logged")

    async def main() -> None:
        log = MemoryLog()
        port = log.node("x")
        assert await in_log(nothing, port, decision) == nothing
        for number, entry in enumerate(journal):
            await port.append(
                subjects.JOURNAL_TOPIC, subjects.journal_key(decision.shard), entry, record_id=b"%d" % number
            )
        for number, row in enumerate(rows):
            await port.append(subjects.FEATURES_TOPIC, told.instrument, row, record_id=b"%d" % number)
        for record in _ticks(told):
            await port.append(subjects.TICKS_TOPIC, told.instrument, record.message, record_id=b"%d" % record.offset)
        found = await in_log(nothing, port, decision)
        assert (found.journal, found.ticks, found.source) == (journal, (1, 3), "log")
        window = [row for row in rows if decision.step - 64 < row.step <= decision.step]
        assert found.rows == window
        kept = replace(found, ticks=(7, 8), source="database")
        assert await in_log(kept, port, decision) == kept

    asyncio.run(main())
