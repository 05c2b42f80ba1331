"""What a decision rests on and led to, from the database: for whoever explains it."""

# ruff: noqa: S608 - every name in a statement comes from `huracan.store.tables` and `huracan.store.logged`

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.clock import MINUTE_NS, STEP_NS
from huracan.contracts.context import Context, ContextRef
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Fill, Order
from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.opinion import Opinion
from huracan.errors import BadInput
from huracan.ports import Record
from huracan.store.logged import FEATURES, JOURNAL, OFFSET, TICKS, LoggedTopic
from huracan.store.marks import SKIPPED
from huracan.store.postgres import connected
from huracan.store.tables import LINEAGE_SCHEMA, LINEAGE_TABLE, MESSAGE, TABLE_OF

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

M = TypeVar("M", bound=Message)
LAST = "last"
"""Stands for the newest decision that was not to hold, if there is one."""
AROUND_NS = WINDOW_ROWS * STEP_NS + MINUTE_NS
"""How far from its close the ticks of a window are looked for."""
_ID = re.compile(r"[0-9a-f]{1,32}")
_SKIPPED = f"select min({OFFSET}) from {SKIPPED} where topic = $1 and key = $2"
_OF_JOURNAL = f"""
key = $1 and ($3::bigint is null or {OFFSET} < $3) and {OFFSET} <= all (
    select {OFFSET} from {JOURNAL.sql} where key = $1 and kind = 'epoch_started' and epoch > $2
)"""
"""A writer that takes over decides whatever the one before left open."""
_DECISIONS = TABLE_OF[Decision].sql


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A decision, and of what it rests on and led to all that the database keeps."""

    decision: Decision
    messages: list[Message]
    """The decision, its opinions and contexts, and its orders and fills."""
    journal: list[Record]
    """Of its shard, what is kept before the first record that was skipped, and up to the next writer's first: nothing
    that comes later has a part in the decision."""
    skipped: int | None
    """Offset of the first record of that journal that was skipped; None where none was."""
    rows: list[Record]
    """Feature rows of its window, as far as they are kept."""
    ticks: tuple[int, int] | None
    """First and last offset in the log of the ticks that its frames gave; None where they are not kept."""


async def evidence(url: str, wanted: str) -> Evidence:
    """Return what the database keeps of a decision, named by its id, the beginning of it, or `last`.

    Raises BadInput when the id names none or several, or the URL is refused, and Recoverable while the server is away.
    """
    async with connected(url) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        decision = await _named(connection, wanted.lower())
        shard = subjects.journal_key(decision.shard)
        skipped = await connection.fetchval(_SKIPPED, subjects.JOURNAL_TOPIC, shard)
        return Evidence(
            decision=decision,
            messages=await _messages(connection, decision),
            journal=await _records(connection, JOURNAL, _OF_JOURNAL, shard, decision.epoch, skipped),
            skipped=skipped,
            rows=await _records(
                connection,
                FEATURES,
                "venue = $1 and symbol = $2 and epoch = $3 and step > $4 and step <= $5",
                decision.instrument.venue,
                decision.instrument.symbol,
                decision.gateway_epoch,
                decision.step - WINDOW_ROWS,
                decision.step,
            ),
            ticks=await _ticks(connection, decision),
        )


async def _named(connection: Connection, wanted: str) -> Decision:
    if wanted == LAST:
        for condition in ("direction <> 'HOLD'", "true"):
            newest = f"select {MESSAGE} from {_DECISIONS} where {condition} order by close_ns desc, decision_id limit 1"
            if found := await connection.fetch(newest):
                return Decision.FromString(found[0][MESSAGE])
    if not _ID.fullmatch(wanted):
        raise BadInput(f"decision id was {wanted!r}: the database has none that begins so")
    # As a range, which every collation orders alike: `g` comes after all digits of an id.
    found = await connection.fetch(
        f"select {MESSAGE} from {_DECISIONS} where decision_id >= $1 and decision_id < $1 || 'g' limit 2", wanted
    )
    if len(found) != 1:
        count = "several" if found else "none"
        raise BadInput(f"decision id was {wanted!r}: the database has {count} that begin so")
    return Decision.FromString(found[0][MESSAGE])


async def _messages(connection: Connection, decision: Decision) -> list[Message]:
    lineage = await connection.fetch(
        f"select opinion_id from {LINEAGE_SCHEMA}.{LINEAGE_TABLE}"
        " where close_ns = $1 and decision_id = $2 and kind = 'opinion'",
        decision.close_ns,
        decision.decision_id.hex(),
    )
    opinions = await _kept(
        connection,
        Opinion,
        "close_ns = $1 and opinion_id = any ($2::text[])",
        decision.close_ns,
        [row["opinion_id"] for row in lineage],
    )
    refs: Iterable[ContextRef] = [*decision.contexts, *(ref for opinion in opinions for ref in opinion.contexts)]
    named = sorted({(ref.kind, ref.key, ref.version) for ref in refs})
    contexts = await _kept(
        connection,
        Context,
        "(kind, key, version) in (select * from unnest($1::text[], $2::text[], $3::bigint[]))",
        *([ref[place] for ref in named] for place in range(3)),
    )
    since = "symbol = $1 and {} >= $2 and decision_id = $3"
    came = (decision.instrument.symbol, decision.close_ns, decision.decision_id.hex())
    orders = await _kept(connection, Order, since.format("created_ns"), *came)
    fills = await _kept(connection, Fill, since.format("matched_ns"), *came)
    return [decision, *opinions, *contexts, *orders, *fills]


async def _kept(connection: Connection, kind: type[M], condition: str, *values: object) -> list[M]:
    rows = await connection.fetch(f"select {MESSAGE} from {TABLE_OF[kind].sql} where {condition}", *values)
    return [kind.FromString(row[MESSAGE]) for row in rows]


async def _records(connection: Connection, logged: LoggedTopic, condition: str, *values: object) -> list[Record]:
    rows = await connection.fetch(
        f"select {', '.join(logged.types)} from {logged.sql} where {condition} order by {OFFSET}", *values
    )
    return logged.records({name: [row[name] for row in rows] for name in logged.types})


async def _ticks(connection: Connection, decision: Decision) -> tuple[int, int] | None:
    row = await connection.fetchrow(
        f"select min({OFFSET}), max({OFFSET}) from {TICKS.sql} where symbol = $1 and venue = $2"
        f" and {TICKS.by_day} between $3 and $4 and epoch = $5 and ingest_seq between $6 and $7",
        decision.instrument.symbol,
        decision.instrument.venue,
        decision.close_ns - AROUND_NS,
        decision.close_ns + AROUND_NS,
        decision.gateway_epoch,
        decision.first_ingest_seq,
        decision.last_ingest_seq,
    )
    return None if row is None or row[0] is None else (row[0], row[1])
