"""Ticks at rest, row by row: every one of them, and where it came from."""

from __future__ import annotations

import asyncio

import pytest

from huracan.bus.subjects import TICKS_TOPIC
from huracan.contracts.market import TickBatch
from huracan.errors import BadInput
from huracan.ports import Record
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.ticks import TickRow, tick_rows

from .logged_records import ticks


def test_every_row_is_there_in_the_order_of_the_log_and_batches_without_rows_have_none(postgres_url: str) -> None:
    batches = [ticks(1, rows=2), ticks(2, rows=0), TickBatch(rows=3), ticks(4, rows=1)]

    async def main() -> list[TickRow]:
        await migrate(postgres_url, migrations_directory())
        store = PostgresStore(postgres_url)
        try:
            await store.save_records(
                TICKS_TOPIC, "sim.btc-usdt-perp", [Record(10 * at, batch) for at, batch in enumerate(batches, start=1)]
            )
        finally:
            await store.close()
        return await tick_rows(postgres_url)

    rows = asyncio.run(main())
    assert [(row.log_offset, row.row, row.batch, row.ingest_seq) for row in rows] == [
        (10, 0, 1, 1_000),
        (10, 1, 1, 1_001),
        (40, 0, 4, 4_000),
    ]
    assert {(row.venue, row.symbol, row.epoch) for row in rows} == {("sim", "btc-usdt-perp", 1)}
    assert [row.venue_seq - 2**62 for row in rows] == [row.ingest_seq for row in rows]


def test_a_database_that_was_not_migrated_has_no_ticks_to_read(postgres_url: str) -> None:
    with pytest.raises(BadInput, match="huracan migrate"):
        asyncio.run(tick_rows(postgres_url))
