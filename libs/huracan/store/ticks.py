"""Ticks as they are at rest: row by row, for whoever counts them."""

# ruff: noqa: S608 - every name in the statement comes from `huracan.store.logged`

from __future__ import annotations

from typing import NamedTuple

from huracan.store.logged import TICKS
from huracan.store.postgres import connected

TIMEOUT_S = 60.0


class TickRow(NamedTuple):
    """One row: where it is in the log, whose it is, and its number at the venue."""

    log_offset: int
    row: int
    """Place in its batch."""
    venue: str
    symbol: str
    epoch: int
    batch: int
    ingest_seq: int
    kind: int
    """Of `huracan.contracts.market.TickKind`."""
    venue_seq: int
    """The venue's number of what the row tells: of a trade, its id."""


async def tick_rows(url: str) -> list[TickRow]:
    """Return every row of ticks in a database in the order of the log; batches without rows have none.

    Raises Recoverable while the server is away, BadInput for a database that was not migrated.
    """
    columns = ", ".join(TickRow._fields)
    async with connected(url, timeout_s=TIMEOUT_S, command_timeout_s=TIMEOUT_S) as connection:
        found = await connection.fetch(
            f"select {columns} from {TICKS.sql} where ingest_seq is not null order by log_offset, row"
        )
    return [TickRow(*row) for row in found]
