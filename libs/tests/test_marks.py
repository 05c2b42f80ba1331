"""Marks: what is read from the log is kept once, whatever is brought again and wherever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.features import FeatureRow
from huracan.contracts.market import TickBatch
from huracan.errors import PoisonMessage
from huracan.ports import Record, Store
from huracan.store.logged import LOGGED
from huracan.store.memory import MemoryStore
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore

from .logged_records import entry, features, ticks

KEY = "sim.btc-usdt-perp"
SAMPLES: dict[str, Sequence[Message]] = {
    TICKS_TOPIC: [ticks(number, rows=number % 3) for number in range(1, 8)],
    FEATURES_TOPIC: [features(number) for number in range(1, 8)],
    JOURNAL_TOPIC: [entry(number) for number in range(1, 8)],
}
ROWS = {TICKS_TOPIC: 9, FEATURES_TOPIC: 7, JOURNAL_TOPIC: 7}
"""Rows that the samples make: a batch without ticks has one."""


def _records(topic: str) -> list[Record]:
    return [Record(3 * number, message) for number, message in enumerate(SAMPLES[topic])]


def _in_memory(scenario: Callable[[Store], Awaitable[None]]) -> None:
    asyncio.run(_awaited(scenario(MemoryStore())))


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _in_postgres(url: str, scenario: Callable[[PostgresStore], Awaitable[None]]) -> None:
    async def main() -> None:
        await migrate(url, migrations_directory())
        store = PostgresStore(url)
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


async def _rows(url: str, table: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(f"select * from {table}")
    finally:
        await connection.close()


@pytest.fixture(params=["memory", "postgres"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Store], Awaitable[None]]], None]:
    """Give what runs a scenario over one kind of store."""
    if request.param == "memory":
        return _in_memory
    url: str = request.getfixturevalue("postgres_url")
    return lambda scenario: _in_postgres(url, scenario)


@pytest.mark.parametrize("topic", LOGGED)
def test_a_batch_that_straddles_the_mark_brings_only_what_is_after_it(
    topic: str, run: Callable[[Callable[[Store], Awaitable[None]]], None]
) -> None:
    async def scenario(store: Store) -> None:
        records = _records(topic)
        assert await store.mark(topic, KEY) == -1
        assert await store.save_records(topic, KEY, records[:4]) == 4
        assert await store.mark(topic, KEY) == records[3].offset
        assert await store.save_records(topic, KEY, records[2:6]) == 2
        assert await store.save_records(topic, KEY, records[:6]) == 0
        assert await store.save_records(topic, KEY, []) == 0
        assert await store.mark(topic, KEY) == records[5].offset
        assert await store.mark(topic, "another") == -1

    run(scenario)


@pytest.mark.parametrize("topic", LOGGED)
def test_what_is_kept_comes_back_from_the_rows_as_it_was_logged(topic: str, postgres_url: str) -> None:
    records = _records(topic)

    async def scenario(store: PostgresStore) -> None:
        await store.save_records(topic, KEY, records[:5])
        await store.save_records(topic, KEY, records[3:])
        rows = await _rows(postgres_url, LOGGED[topic].sql)
        assert len(rows) == ROWS[topic]
        columns = {name: [row[name] for row in rows] for name in LOGGED[topic].types}
        assert LOGGED[topic].records(columns) == records

    _in_postgres(postgres_url, scenario)


def test_two_writers_of_one_key_keep_each_record_once(postgres_url: str) -> None:
    records = [Record(number, ticks(number)) for number in range(40)]

    async def scenario(store: PostgresStore) -> None:
        other = PostgresStore(postgres_url)
        batches = [records[start : start + 15] for start in (0, 10, 20, 30)]
        for batch in batches:
            counts = await asyncio.gather(*(each.save_records(TICKS_TOPIC, KEY, batch) for each in (store, other)))
            assert min(counts) == 0
        await other.close()
        kept = [row["log_offset"] for row in await _rows(postgres_url, "market_data.ticks") if row["row"] == 0]
        assert kept == list(range(40))

    _in_postgres(postgres_url, scenario)


def test_a_record_that_is_skipped_is_restored_once_in_its_place(
    run: Callable[[Callable[[Store], Awaitable[None]]], None],
) -> None:
    async def scenario(store: Store) -> None:
        records = _records(TICKS_TOPIC)
        await store.save_records(TICKS_TOPIC, KEY, records[:2])
        for _ in range(2):
            await store.skip(TICKS_TOPIC, KEY, records[2].offset, schema="later", raw=b"raw")
        assert await store.mark(TICKS_TOPIC, KEY) == records[2].offset
        assert await store.save_records(TICKS_TOPIC, KEY, records[:5]) == 2
        assert await store.restore(TICKS_TOPIC, KEY, records[1]) == 0
        assert await store.restore(TICKS_TOPIC, "another", records[2]) == 0
        restored = await asyncio.gather(*(store.restore(TICKS_TOPIC, KEY, records[2]) for _ in range(3)))
        assert sorted(restored) == [0, 0, 1]
        assert await store.mark(TICKS_TOPIC, KEY) == records[4].offset

    run(scenario)


def test_what_is_skipped_stays_with_its_bytes_until_it_fits(postgres_url: str) -> None:
    async def scenario(store: PostgresStore) -> None:
        await store.skip(FEATURES_TOPIC, KEY, 1, schema="later", raw=b"raw")
        with pytest.raises(PoisonMessage, match="feature_rows cannot hold"):
            await store.restore(FEATURES_TOPIC, KEY, Record(1, FeatureRow(epoch=2**63)))
        assert [tuple(row) for row in await _rows(postgres_url, "tick_log.skipped")] == [
            (FEATURES_TOPIC, KEY, 1, "later", b"raw")
        ]
        assert await store.restore(FEATURES_TOPIC, KEY, Record(1, features(1))) == 1
        assert await _rows(postgres_url, "tick_log.skipped") == []
        assert len(await _rows(postgres_url, "tick_log.feature_rows")) == 1

    _in_postgres(postgres_url, scenario)


def test_a_value_that_does_not_fit_keeps_nothing_and_moves_no_mark(postgres_url: str) -> None:
    records = [Record(1, features(1)), Record(2, FeatureRow(epoch=2**63))]

    async def scenario(store: PostgresStore) -> None:
        with pytest.raises(PoisonMessage, match=r"feature_rows cannot hold huracan\.features\.v1 .* 1 to 2"):
            await store.save_records(FEATURES_TOPIC, KEY, records)
        assert await store.mark(FEATURES_TOPIC, KEY) == -1
        assert await _rows(postgres_url, "tick_log.feature_rows") == []

    _in_postgres(postgres_url, scenario)


odd = st.one_of(
    st.builds(TickBatch, rows=st.integers(0, 3), price=st.binary(max_size=25), batch=st.integers(0, 2**63 - 1)),
    st.sampled_from([ticks(number, rows=number % 5) for number in range(10)]),
    st.builds(FeatureRow, values=st.binary(max_size=12), step=st.integers(-(2**63), 2**63 - 1)),
    st.sampled_from([entry(1), entry(2)]),
)


@given(messages=st.lists(odd, max_size=4), topic=st.sampled_from(list(LOGGED)))
def test_any_record_comes_back_from_its_columns_to_the_byte(messages: list[Message], topic: str) -> None:
    logged, records = LOGGED[topic], [Record(number, message) for number, message in enumerate(messages)]
    columns = {name: list(values) for name, values in logged.columns(KEY, records).items()}
    assert list(columns) == list(logged.types)
    again = logged.records(columns)
    assert [(each.offset, schema_of(each.message), encode(each.message)) for each in again] == [
        (each.offset, schema_of(each.message), encode(each.message)) for each in records
    ]
