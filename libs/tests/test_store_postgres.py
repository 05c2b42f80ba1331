"""The store on PostgreSQL: all of a batch or nothing, through whatever happens to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
from google.protobuf.message import Message

from huracan.contracts.context import ContextRef
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.execution import Fill, Order, Side
from huracan.contracts.market import Anomaly, AnomalyKind, AnomalyPolicy, Bar, Evidence, InstrumentId, Reliability
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import FeedChanged
from huracan.errors import BadInput, PoisonMessage, Recoverable
from huracan.store import postgres
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.tables import TABLES

BTC = InstrumentId(venue="sim", symbol="btc-usdt-perp", definition_version=1)
NOWHERE = "postgresql://huracan:geheim@127.0.0.1:1/huracan"
"""A port on which nobody listens."""

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]
    Scenario = Callable[[PostgresStore, Admin], Awaitable[None]]


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _decision(number: int) -> Decision:
    return Decision(decision_id=_id(number), step=number, instrument=BTC, direction=Direction.DIRECTION_HOLD)


def _fill(number: int) -> Fill:
    return Fill(fill_id=_id(number), account="paper", side=Side.SIDE_BUY, instrument=BTC, fee="0.10")


def _run(url: str, scenario: Scenario, *, timeout_s: float = 30.0, pool_size: int = 4) -> None:
    async def main() -> None:
        await migrate(url, migrations_directory())
        store, admin = PostgresStore(url, pool_size, timeout_s=timeout_s), await asyncpg.connect(url)
        try:
            await scenario(store, admin)
        finally:
            await store.close()
            await admin.close()

    asyncio.run(main())


async def _blocked(admin: Admin) -> int:
    """Return the process of the store's connection once it waits for a lock."""
    async with asyncio.timeout(30):
        while True:
            waiting = await admin.fetchval(
                "select pid from pg_locks where not granted and database = "
                "(select oid from pg_database where datname = current_database())"
            )
            if isinstance(waiting, int):
                return waiting


async def _terminate_idle(admin: Admin) -> None:
    async with asyncio.timeout(30):
        while await admin.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        ):
            pass


def _rows(**counts: int) -> dict[str, int]:
    return {table.name: counts.get(table.name, 0) for table in TABLES}


def test_rows_are_counted_by_table(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        assert await store.count() == _rows()
        await store.save([_decision(1), _decision(2), _fill(1)])
        assert await store.count() == _rows(decisions=2, fills=1)

    _run(postgres_url, scenario)


def test_people_read_names_and_exact_numbers(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        bar = Bar(instrument=BTC, interval_ns=60, open_ns=120, open="64250.10", volume="1E-8")
        await store.save([_fill(1), bar, Opinion(opinion_id=_id(1), instrument=BTC, p_up=0.5)])
        fill = await admin.fetchrow("select fill_id, side, fee from trading.fills")
        assert fill is not None
        assert tuple(fill) == (_id(1).hex(), "BUY", Decimal("0.10"))
        assert str(fill["fee"]) == "0.10"
        ohlc = await admin.fetchrow("select symbol, open, high, volume from market_data.underlying_ohlc")
        assert ohlc is not None
        assert tuple(ohlc) == ("btc-usdt-perp", Decimal("64250.10"), None, Decimal("0.00000001"))
        opinion = await admin.fetchrow("select p_up, expected_move_bps, reason from moe_analysis.expert_responses")
        assert opinion is not None
        assert tuple(opinion) == (0.5, None, None)

    _run(postgres_url, scenario)


def test_an_anomaly_reads_as_names_and_numbers_and_without_a_frame_as_null(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        anomaly = Anomaly(
            anomaly_id=_id(1),
            instrument=BTC,
            kind=AnomalyKind.ANOMALY_KIND_FEED_SILENCE,
            policy=AnomalyPolicy.ANOMALY_POLICY_TAG,
            score=6.5,
            threshold=5.0,
            evidence=[Evidence(name="silent_s", value=6.5)],
        )
        await store.save([anomaly])
        row = await admin.fetchrow(
            "select anomaly_id, kind, policy, score, threshold, evidence, ingest_seq from market_data.anomalies"
        )
        assert row is not None
        assert tuple(row) == (_id(1).hex(), "feed_silence", "tag", 6.5, 5.0, "silent_s=6.5", None)

    _run(postgres_url, scenario)


@pytest.mark.parametrize(
    "unsaveable",
    [
        Anomaly(anomaly_id=_id(1), instrument=BTC, kind=99),  # type: ignore[arg-type] # of a later release
        FeedChanged(change_id=_id(1), instrument=BTC, detail="\0"),
    ],
    ids=["unknown kind", "text that SQL cannot hold"],
)
def test_what_a_gateway_says_that_cannot_be_kept_is_poison(postgres_url: str, unsaveable: Message) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        with pytest.raises(PoisonMessage, match="market_data"):
            await store.save([unsaveable])
        assert await store.count() == _rows()

    _run(postgres_url, scenario)


def test_an_hour_under_way_is_replaced_in_every_column(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        for to_ns, score, epoch in ((60, 90.0, 1), (3_600, 75.5, 2), (120, 80.0, 1)):
            await store.save([Reliability(instrument=BTC, to_ns=to_ns, score=score, epoch=epoch, frames=to_ns)])
        rows = await admin.fetch("select score, epoch, frames, to_ns, message from market_data.reliability")
        assert [tuple(row)[:4] for row in rows] == [(75.5, 2, 3_600, 3_600)]
        assert Reliability.FromString(rows[0]["message"]).score == 75.5

    _run(postgres_url, scenario)


def test_a_later_revision_replaces_every_column_and_the_bytes(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        await store.save([Order(order_id=_id(1), revision=1, quantity=5, account="paper")])
        await store.save([Order(order_id=_id(1), revision=2, quantity=5, filled_quantity=3, account="paper")])
        row = await admin.fetchrow("select revision, filled_quantity, message from trading.orders")
        assert row is not None
        assert (row["revision"], row["filled_quantity"]) == (2, 3)
        assert Order.FromString(row["message"]).filled_quantity == 3

    _run(postgres_url, scenario)


# Lineage.


@pytest.mark.parametrize("copied_from", [1, 1_000], ids=["copied", "in arrays"])
def test_a_decision_brings_what_it_rests_on(
    postgres_url: str, copied_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "COPIED_FROM", copied_from)
    decision = _decision(1)
    decision.votes.extend(
        [
            Vote(expert="regime", opinion_id=_id(11), weight=0.25),
            Vote(expert="flow"),
            Vote(expert="sentiment", opinion_id=_id(12), weight=0.75),
        ]
    )
    decision.contexts.append(ContextRef(kind="mood", key="BTC", version=7))
    other = Decision.FromString(decision.SerializeToString())
    other.votes[0].weight = 1.0

    async def scenario(store: PostgresStore, admin: Admin) -> None:
        for _ in range(2):
            await store.save([decision, other, _decision(2)])
        rows = await admin.fetch(
            "select decision_id, kind, opinion_id, weight, context_kind, context_key, context_version"
            " from moe_analysis.lineage order by decision_id, position"
        )
        assert [tuple(row) for row in rows] == [
            (_id(1).hex(), "opinion", _id(11).hex(), 0.25, None, None, None),
            (_id(1).hex(), "opinion", _id(12).hex(), 0.75, None, None, None),
            (_id(1).hex(), "context", None, None, "mood", "BTC", 7),
        ]

    _run(postgres_url, scenario)


def test_a_decision_is_not_kept_without_its_lineage(postgres_url: str) -> None:
    decision = _decision(1)
    decision.contexts.append(ContextRef(kind="mood", key="BTC", version=2**64 - 1))

    async def scenario(store: PostgresStore, admin: Admin) -> None:
        with pytest.raises(PoisonMessage):
            await store.save([decision])
        assert await store.count() == _rows()

    _run(postgres_url, scenario)


# What does not fit.

UNFIT: dict[str, Message] = {
    "a number past 63 bits": Decision(decision_id=_id(9), direction=Direction.DIRECTION_HOLD, epoch=2**63),
    "text that is no number": Bar(instrument=BTC, open="many"),
    "not a number": Bar(instrument=BTC, open="NaN"),
    "a number without end": Fill(fill_id=_id(9), fee="Infinity"),
    "a number of absurd size": Bar(instrument=BTC, open="1E+999999"),
    "a zero byte": Fill(fill_id=_id(9), account="pa\0per"),
    "a key too long for an index": Bar(instrument=InstrumentId(symbol="".join(map(chr, range(1, 40_000))))),
    "a name of a later release": Decision.FromString(b"\x40\x63"),  # direction 99
}


@pytest.mark.parametrize("copied_from", [1, 1_000], ids=["copied", "in arrays"])
@pytest.mark.parametrize("message", UNFIT.values(), ids=list(UNFIT))
def test_of_a_batch_with_an_unsaveable_message_nothing_is_kept(
    postgres_url: str, message: Message, copied_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "COPIED_FROM", copied_from)

    async def scenario(store: PostgresStore, admin: Admin) -> None:
        with pytest.raises(PoisonMessage) as poison:
            await store.save([_decision(1), _fill(1), Bar(instrument=BTC, open_ns=1), message, _decision(2)])
        assert poison.value.reason == "unsaveable"
        assert "cannot hold it" in poison.value.detail
        assert len(poison.value.detail) < 200
        assert await store.count() == _rows()
        assert await store.save([_decision(1), _fill(1)]) == 2

    _run(postgres_url, scenario)


# The server.


def test_a_connection_that_was_cut_while_idle_is_made_again(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        await store.save([_decision(1)])
        await _terminate_idle(admin)
        with suppress(Recoverable):  # whether the cut is noticed before or by the next call is a race
            await store.save([_decision(1), _decision(2)])
        assert await store.save([_decision(1), _decision(2), _decision(3)]) >= 1
        assert await store.count() == _rows(decisions=3)

    _run(postgres_url, scenario)


def test_a_connection_that_is_cut_in_the_middle_leaves_nothing_half_written(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        batch = [_decision(1), _decision(2), _fill(1)]
        async with admin.transaction():
            await admin.execute("lock table trading.fills in access exclusive mode")
            saving = asyncio.create_task(store.save(batch))
            await admin.execute("select pg_terminate_backend($1)", await _blocked(admin))
            with pytest.raises(Recoverable):
                await saving
        assert await store.count() == _rows()
        assert await store.save(batch) == 3
        assert await store.count() == _rows(decisions=2, fills=1)

    _run(postgres_url, scenario)


def test_a_server_that_does_not_answer_in_time_is_recoverable(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        async with admin.transaction():
            await admin.execute("lock table trading.fills in access exclusive mode")
            with pytest.raises(Recoverable):
                await store.save([_decision(1), _fill(1)])
        assert await store.save([_decision(1), _fill(1)]) == 2

    _run(postgres_url, scenario, timeout_s=0.5)


def test_a_cancelled_save_keeps_nothing_and_gives_its_connection_back(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        async with admin.transaction():
            await admin.execute("lock table trading.fills in access exclusive mode")
            saving = asyncio.create_task(store.save([_decision(1), _fill(1)]))
            await _blocked(admin)
            saving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saving
        assert await store.count() == _rows()
        assert await store.save([_decision(1), _fill(1)]) == 2

    _run(postgres_url, scenario, pool_size=1)


def test_a_deadlock_is_recoverable(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        await admin.execute("set deadlock_timeout = '1h'")  # the store's connection shall be the one to give way
        async with admin.transaction():
            await admin.execute("lock table trading.fills in access exclusive mode")
            saving = asyncio.create_task(store.save([_decision(1), _fill(1)]))
            await _blocked(admin)
            blocking = asyncio.create_task(admin.execute("lock table moe_analysis.decisions in access exclusive mode"))
            with pytest.raises(Recoverable):
                await saving
            await blocking
        assert await store.save([_decision(1), _fill(1)]) == 2

    _run(postgres_url, scenario)


def test_writers_of_the_same_messages_at_the_same_time_keep_each_once(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        decisions = [_decision(number) for number in range(500)]
        batches = (decisions, decisions[::-1], decisions[250:] + decisions[:250])
        assert sum(await asyncio.gather(*(store.save(batch) for batch in batches))) == 500
        assert await store.count() == _rows(decisions=500)

    _run(postgres_url, scenario)


def test_a_server_that_is_away_is_recoverable_and_no_password_is_told() -> None:
    async def main() -> None:
        store = PostgresStore(NOWHERE)
        for attempt in (store.open, store.count, lambda: store.save([_decision(1)]), lambda: store.load(Decision)):
            with pytest.raises(Recoverable) as away:
                await attempt()
            assert "geheim" not in str(away.value)
        await store.close()

    asyncio.run(main())


def test_a_closed_store_opens_again_when_it_is_needed(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        await store.open()
        await store.save([_decision(1)])
        await store.close()
        await store.close()
        assert await store.load(Decision) == [_decision(1)]

    _run(postgres_url, scenario)


def test_closing_ends_also_what_the_server_does_not_answer(postgres_url: str) -> None:
    async def scenario(store: PostgresStore, admin: Admin) -> None:
        async with admin.transaction():
            await admin.execute("lock table trading.fills in access exclusive mode")
            saving = asyncio.create_task(store.save([_fill(1)]))
            await _blocked(admin)
            await store.close()
            with pytest.raises(Recoverable):
                await saving
        assert await store.count() == _rows()

    _run(postgres_url, scenario, timeout_s=1.0)


def test_a_database_that_was_not_migrated_says_what_to_run(postgres_url: str) -> None:
    async def main() -> None:
        store = PostgresStore(postgres_url)
        for attempt in (store.open, store.count, lambda: store.save([_decision(1)])):
            with pytest.raises(BadInput, match="run `huracan migrate`"):
                await attempt()
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "change",
    [
        lambda url: f"{url}_not_there",
        lambda url: url.replace("huracan:", "huracan:x"),
        lambda url: url.replace("huracan:", "nobody:"),
        lambda url: url.replace("postgresql:", "mysql:"),
        lambda url: url.replace("huracan:", "huracan:a/"),
        lambda url: url.replace("huracan:", "huracan:["),
        lambda url: f"{url}?sslmode=perhaps",
    ],
    ids=["database", "password", "user", "scheme", "slash in password", "bracket in password", "option"],
)
def test_a_url_that_cannot_work_is_refused_without_its_password(
    postgres_url: str, change: Callable[[str], str]
) -> None:
    url, password = change(postgres_url), urlsplit(postgres_url).password

    assert password

    async def main() -> None:
        store = PostgresStore(url)
        with pytest.raises(BadInput, match="database URL") as refused:
            await store.open()
        assert password not in str(refused.value)
        await store.close()

    asyncio.run(main())
