"""Why a decision was made, proved from what a database and a running system's log keep of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts.decision import Decision
from huracan.contracts.features import WINDOW_ROWS, FeatureRow
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import TickBatch, instrument_key
from huracan.errors import BadInput
from huracan.ports import Record, TickLog
from huracan.store.evidence import Evidence, evidence
from huracan.store.memory import MemoryStore
from huracan_cli.dlq import reached
from huracan_cli.explain import Explanation, explain
from huracan_cli.results import Logged, write
from huracan_cli.state import RunState
from huracan_orchestrator.fold import Fold

FIRST_EPOCH = 1
"""Of the first writer of a journal, whose start is the first record of it."""
RECORDS_AT_ONCE = 2_000
"""Records of a key that are in memory at once."""


class StoredExplanation(Explanation):
    """An explanation from a database, with where in the log the frames of its window are."""

    tick_offsets: tuple[int, int] | None
    """First and last offset of the batches of ticks; None where none are kept."""
    tick_source: str
    """Where they were found: `database`, `log`, or `never logged`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of the log, of a decision's journal and window."""

    journal: Sequence[Message]
    rows: Sequence[Message]
    ticks: tuple[int, int] | None
    source: str
    lacks: str = ""
    """What the database lacks of the journal, where it has a part of it."""


async def explain_stored(decision_id: str, url: str, state: RunState | None = None) -> StoredExplanation:
    """Return the explanation of a decision that a database keeps, named as for `explain`.

    What of the log the database does not keep comes from the log of a running system, if one is given. Raises BadInput
    when the id names no decision or several, or neither has the journal it follows from, whole up
    to the decision.
    """
    kept = await evidence(url, decision_id)
    found = _in_database(kept)
    if state is not None:
        async with reached(state) as office:
            found = await in_log(found, office.log, kept.decision)
    key = subjects.journal_key(kept.decision.shard)
    if not found.journal:
        raise BadInput(
            f"decision {kept.decision.decision_id.hex()} was found, and the journal {key} that it follows from"
            f" {found.lacks or 'was not'}: have the persister keep it (`tables`), or name the running system whose log"
            " has all of it (--live)"
        )
    store = MemoryStore()
    await store.save(kept.messages)
    with TemporaryDirectory(prefix="huracan-explain-") as name:
        await write(store, Logged(journals={key: found.journal}, rows=found.rows, letters=[]), Path(name))
        explained = explain(
            Path(name), kept.decision.decision_id.hex(), library=state.engines if state is not None else None
        )
    return StoredExplanation(**explained.model_dump(), tick_offsets=found.ticks, tick_source=found.source)


def _in_database(kept: Evidence) -> Found:
    lacks = _lacks(kept)
    return Found(
        journal=[] if lacks else [record.message for record in kept.journal],
        rows=[record.message for record in kept.rows],
        ticks=kept.ticks,
        source="database" if kept.ticks else "never logged",
        lacks=lacks,
    )


def _lacks(kept: Evidence) -> str:
    """Return what is missing of a kept journal for its decision; nothing where it is whole, or none of it is kept.

    A journal is whole when it begins with the start of its first writer and, folded, gives the decision before a record
    is missing: days that were put aside are gone from its beginning, and a record that was skipped leaves a hole.
    """
    entries = [record.message for record in kept.journal if isinstance(record.message, JournalEntry)]
    if kept.skipped is None and not entries:
        return ""
    if entries and not (entries[0].HasField("epoch_started") and entries[0].epoch == FIRST_EPOCH):
        return f"is here from offset {kept.journal[0].offset} on only"
    fold = Fold()
    if any(made.decision_id == kept.decision.decision_id for entry in entries for made in fold.apply(entry)):
        return ""
    if kept.skipped is not None:
        return f"is here without its record at offset {kept.skipped}, which was skipped (`huracan dlq replay`)"
    return f"is here up to offset {kept.journal[-1].offset} only, from which it does not follow"


async def in_log(found: Found, log: TickLog, decision: Decision) -> Found:
    """Return what was found with what the log has of the rest.

    It reads the journal of the shard, unless the database has it whole, and feature rows and ticks of the instrument
    from their beginning.
    """
    key = instrument_key(decision.instrument)
    if not found.journal:
        journal = await log.read(subjects.JOURNAL_TOPIC, subjects.journal_key(decision.shard), 0)
        found = replace(found, journal=[record.message for record in journal])
    if not found.rows:
        found = replace(found, rows=await _rows(log, key, decision))
    if found.ticks is None and (ticks := await _ticks(log, key, decision)):
        found = replace(found, ticks=ticks, source="log")
    return found


async def _rows(log: TickLog, key: str, decision: Decision) -> list[Message]:
    return [
        record.message
        async for record in _records(log, subjects.FEATURES_TOPIC, key)
        if isinstance(record.message, FeatureRow)
        and record.message.epoch == decision.gateway_epoch
        and decision.step - WINDOW_ROWS < record.message.step <= decision.step
    ]


async def _ticks(log: TickLog, key: str, decision: Decision) -> tuple[int, int] | None:
    """Return first and last offset of the batches that have frames of the decision's window."""
    offsets: list[int] = []
    async for record in _records(log, subjects.TICKS_TOPIC, key):
        batch = record.message
        if not isinstance(batch, TickBatch) or not batch.rows or batch.epoch != decision.gateway_epoch:
            continue
        sequence = np.frombuffer(batch.ingest_seq, dtype="<i8")
        if sequence[0] > decision.last_ingest_seq:
            break
        if ((sequence >= decision.first_ingest_seq) & (sequence <= decision.last_ingest_seq)).any():
            offsets.append(record.offset)
    return (offsets[0], offsets[-1]) if offsets else None


async def _records(log: TickLog, topic: str, key: str) -> AsyncIterator[Record]:
    """Give every record of a key that is there now, oldest first."""
    offset = 0
    while records := await log.read(topic, key, offset, limit=RECORDS_AT_ONCE):
        for record in records:
            yield record
        offset = records[-1].offset + 1
