"""What a run left behind, from wherever it ran: its tables, journals and ledger, read, checked and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts.decision import Decision
from huracan.contracts.execution import AccountState, Fill, Order
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import Reliability
from huracan.contracts.opinion import Opinion
from huracan.ports import Record, Store
from huracan.store.parquet import write_journals, write_messages, write_run
from huracan.ticklog.jetstream import JetStreamLog
from huracan_orchestrator.fold import Fold

LATENCIES = "latency.parquet"
"""Columns `hop`, `close_ns` and `latency_us`; a run on virtual time has none."""
REFUSING = (subjects.TICKS_TOPIC, subjects.JOURNAL_TOPIC)
"""Topics with dead letters: refused frames, and messages that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What the log of a run holds besides its ticks."""

    journals: Mapping[str, Sequence[Message]]
    """By key."""
    rows: Sequence[Message]
    """Feature rows."""
    letters: Sequence[Message]
    """Dead letters."""


class KeyedLog(Protocol):
    """A log that can say which keys it has."""

    async def read(self, topic: str, key: str, offset: int) -> Sequence[Record]:
        """Return the records from an offset on."""

    async def keys(self, topic: str) -> list[str]:
        """Return the keys of a topic that have records."""


async def logged(log: KeyedLog) -> Logged:
    """Read the log of a run."""

    async def topic(name: str) -> dict[str, list[Message]]:
        return {key: [record.message for record in await log.read(name, key, 0)] for key in await log.keys(name)}

    letters = [await topic(subjects.dead_letters(name)) for name in REFUSING]
    return Logged(
        journals=await topic(subjects.JOURNAL_TOPIC),
        rows=list(chain.from_iterable((await topic(subjects.FEATURES_TOPIC)).values())),
        letters=[letter for by_key in letters for of_key in by_key.values() for letter in of_key],
    )


async def write(store: Store, kept: Logged, out: Path) -> None:
    """Write the tables, the journals, the feature rows and the dead letters of a run into a directory."""
    await write_run(store, out)
    write_journals(kept.journals, out)
    write_messages(kept.rows, out / "features.parquet")
    write_messages(kept.letters, out / "dead_letters.parquet")


def write_latencies(samples: Sequence[tuple[str, int, float]], out: Path) -> None:
    """Write how long each hop of each step took."""
    columns = {
        "hop": pa.array([hop for hop, _, _ in samples], pa.string()),
        "close_ns": pa.array([close_ns for _, close_ns, _ in samples], pa.int64()),
        "latency_us": pa.array([latency for _, _, latency in samples], pa.float64()),
    }
    pq.write_table(pa.table(columns), out / LATENCIES, compression="zstd")


def fold_decisions(entries: Sequence[Message]) -> list[Decision]:
    """Return the decisions that a shard's journal gives, in its order."""
    fold = Fold()
    return [decision for entry in entries if isinstance(entry, JournalEntry) for decision in fold.apply(entry)]


async def ledger(
    journals: Mapping[str, Sequence[Message]], log: JetStreamLog, store: Store
) -> dict[str, dict[str, int]]:
    """Compare, for each acknowledged path, what the journals give with what was published and what was stored.

    Lost is what the journals give and was not published, or not stored. Doubled is what was published twice (an order:
    the same revision of it), and what was published or stored and does not follow from the journals.
    """
    given: dict[type[Message], list[bytes]] = {Decision: [], Order: [], Fill: []}
    for key, entries in journals.items():
        if key.startswith("shard."):
            given[Decision] += [decision.decision_id for decision in fold_decisions(entries)]
        elif key.startswith("account."):
            for entry in entries:
                assert isinstance(entry, JournalEntry)
                given[Order] += [entry.order.order_id] if entry.HasField("order") else []
                given[Fill] += [fill.fill_id for fill in entry.execution_report.fills]
    published: dict[type[Message], list[tuple[bytes, int]]] = {Decision: [], Order: [], Fill: []}
    for pattern in ("sig.v1.decision.>", "exec.v1.>"):
        for _, message in await log.published(pattern):
            if type(message) in published:
                revision = message.revision if isinstance(message, Order) else 0
                published[type(message)].append((_id(message), revision))
    paths = {}
    for kind, name in ((Decision, "decisions"), (Order, "orders"), (Fill, "fills")):
        stored = [_id(row) for row in await store.load(kind)]
        wanted, said = set(given[kind]), {name for name, _ in published[kind]}
        again = len(published[kind]) - len(set(published[kind]))
        paths[name] = {
            "journal": len(wanted),
            "published": len(said),
            "stored": len(stored),
            "lost": len(wanted - set(stored)) + len(wanted - said),
            "doubled": again + len(set(stored) - wanted) + len(said - wanted),
        }
    return paths


def _id(message: Message) -> bytes:
    match message:
        case Decision():
            return message.decision_id
        case Order():
            return message.order_id
        case Fill():
            return message.fill_id
    raise TypeError(type(message).__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The tables that a summary counts."""

    decisions: Sequence[Decision]
    opinions: Sequence[Opinion]
    orders: Sequence[Order]
    fills: Sequence[Fill]
    accounts: Sequence[AccountState]
    reliability: Sequence[Reliability]


async def stored(store: Store) -> Stored:
    """Load the tables that a summary counts."""
    return Stored(
        decisions=await store.load(Decision),
        opinions=await store.load(Opinion),
        orders=await store.load(Order),
        fills=await store.load(Fill),
        accounts=await store.load(AccountState),
        reliability=await store.load(Reliability),
    )
