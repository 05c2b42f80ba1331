"""Stores: each message once under its id, listings in their order, and runs on disk that come back to the byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message

from huracan.contracts.codec import encode
from huracan.contracts.context import Context, ContextRef
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import AccountState, Fill, Order, OrderReason, OrderState, RiskState, Side
from huracan.contracts.journal import JournalEntry, WindowOpened
from huracan.contracts.market import (
    Anomaly,
    AnomalyKind,
    AnomalyPolicy,
    Bar,
    Evidence,
    InstrumentDefinition,
    InstrumentId,
    InstrumentType,
    Reliability,
    ReliabilityPart,
)
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan.contracts.ops import FeedChanged, FeedState, ServiceChanged, ServiceReport, service_report
from huracan.errors import BadInput
from huracan.ports import Store
from huracan.store import parquet, postgres
from huracan.store.memory import MemoryStore
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.tables import MESSAGE, TABLE_OF, TABLES

M = TypeVar("M", bound=Message)

BTC = InstrumentId(venue="sim", symbol="btc-usdt-perp", definition_version=1)
ETH = InstrumentId(venue="sim", symbol="eth-usdt-perp", definition_version=1)


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _decision(number: int, *, step: int = 0, instrument: InstrumentId = BTC, strategy: str = "core") -> Decision:
    return Decision(
        decision_id=_id(number),
        step=step,
        instrument=instrument,
        strategy=strategy,
        direction=Direction.DIRECTION_HOLD,
    )


def _order(number: int, revision: int, *, created_ns: int = 0, account: str = "paper") -> Order:
    state = OrderState.ORDER_STATE_FILLED if revision > 1 else OrderState.ORDER_STATE_PENDING
    return Order(
        order_id=_id(number),
        revision=revision,
        created_ns=created_ns,
        account=account,
        state=state,
        side=Side.SIDE_BUY,
        instrument=BTC,
    )


def _reliability(to_ns: int, score: float = 100.0) -> Reliability:
    parts = [ReliabilityPart(name="missing", value=0.0125, limit=0.02, weight=0.3), ReliabilityPart(name="gap")]
    return Reliability(instrument=BTC, hour_ns=3_600, from_ns=3_600, to_ns=to_ns, score=score, parts=parts, frames=9)


def _of_each_kind() -> list[Message]:
    return [
        _decision(1),
        Opinion(opinion_id=_id(1), instrument=BTC, step=3, expert="flow", expected_move_bps=0.0),
        Context(ref=ContextRef(kind="mood", key="BTC", version=1), epoch=1),
        _order(1, 1),
        Fill(fill_id=_id(1), account="paper", side=Side.SIDE_SELL, instrument=BTC, fee="-0.5"),
        AccountState(account="paper", epoch=1, as_of_ns=5, cash="100000", risk_state=RiskState.RISK_STATE_ACTIVE),
        Bar(instrument=BTC, interval_ns=60, open_ns=120, open="1.5", partial=True),
        Anomaly(
            anomaly_id=_id(1),
            instrument=BTC,
            kind=AnomalyKind.ANOMALY_KIND_PRICE_JUMP,
            policy=AnomalyPolicy.ANOMALY_POLICY_HOLD,
            ingest_seq=7,
            score=35.25,
            threshold=12.0,
            evidence=[Evidence(name="move_bps", value=35.25), Evidence(name="scale_bps", value=1 / 3)],
        ),
        _reliability(3_660),
        FeedChanged(change_id=_id(1), instrument=BTC, state=FeedState.FEED_STATE_RATE_LIMITED, provider="rest"),
        InstrumentDefinition(
            id=BTC,
            type=InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
            venue_symbol="BTCUSDT",
            price_increment="0.10",
            shard=6,
        ),
        service_report("orchestrator", {"decisions": 7, "abstained.late": 1}, started_ns=5, at_ns=6),
        ServiceChanged(service="gateway", at_ns=5, running=True),
    ]


@dataclass
class Kept:
    """A store in an event loop of its own."""

    store: Store
    loop: asyncio.Runner

    def save(self, *messages: Message) -> int:
        return self.loop.run(self.store.save(messages))

    def load(self, kind: type[M]) -> list[M]:
        return self.loop.run(self.store.load(kind))


@pytest.fixture(params=["memory", "postgres", "postgres copying"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Give every store of which the port's promises hold, empty."""
    if request.param == "postgres copying":
        monkeypatch.setattr(postgres, "COPIED_FROM", 1)
    with asyncio.Runner() as loop:
        if request.param == "memory":
            yield Kept(MemoryStore(), loop)
            return
        url = request.getfixturevalue("postgres_url")
        loop.run(migrate(url, migrations_directory()))
        store = PostgresStore(url)
        yield Kept(store, loop)
        loop.run(store.close())


def test_there_is_a_table_for_each_kind_of_this_list() -> None:
    assert [type(message) for message in _of_each_kind()] == [table.kind for table in TABLES]
    assert list(TABLE_OF) == [table.kind for table in TABLES]
    assert len({table.name for table in TABLES}) == len(TABLES)


@pytest.mark.parametrize("message", _of_each_kind(), ids=lambda message: TABLE_OF[type(message)].name)
def test_the_same_message_twice_is_kept_once(kept: Kept, message: Message) -> None:
    assert kept.save(message, message) == 1
    assert kept.save(message) == 0
    assert kept.load(type(message)) == [message]


OTHER = [
    _decision(2),
    Opinion(opinion_id=_id(2), instrument=BTC),
    Context(ref=ContextRef(kind="mood", key="BTC", version=2)),
    Context(ref=ContextRef(kind="mood", key="ETH", version=1)),
    Context(ref=ContextRef(kind="regime", key="BTC", version=1)),
    _order(2, 1),
    Fill(fill_id=_id(2), account="paper"),
    AccountState(account="paper", epoch=1, as_of_ns=6),
    AccountState(account="paper", epoch=2, as_of_ns=5),
    AccountState(account="other", epoch=1, as_of_ns=5),
    Bar(instrument=BTC, interval_ns=60, open_ns=180),
    Bar(instrument=BTC, interval_ns=900, open_ns=120),
    Bar(instrument=ETH, interval_ns=60, open_ns=120),
    Anomaly(anomaly_id=_id(2), instrument=BTC),
    Reliability(instrument=BTC, hour_ns=7_200),
    Reliability(instrument=ETH, hour_ns=3_600),
    Reliability(instrument=InstrumentId(venue="okx", symbol=BTC.symbol), hour_ns=3_600),
    FeedChanged(change_id=_id(2), instrument=BTC),
    InstrumentDefinition(id=ETH),
    InstrumentDefinition(id=InstrumentId(venue=BTC.venue, symbol=BTC.symbol, definition_version=2)),
    ServiceReport(service="orchestrator", started_ns=6),
    ServiceReport(service="other", started_ns=5),
    ServiceChanged(service="gateway", at_ns=5, running=False),
    ServiceChanged(service="gateway", at_ns=6, running=True),
    ServiceChanged(service="flow", at_ns=5, running=True),
]


def test_each_part_of_an_id_makes_another_row(kept: Kept) -> None:
    assert kept.save(*_of_each_kind()) == len(TABLES)
    for message in OTHER:
        assert kept.save(message) == 1
        assert message in kept.load(type(message))


@pytest.mark.parametrize("one_by_one", [False, True], ids=["in one batch", "one by one"])
@pytest.mark.parametrize("revisions", [(1, 2, 3), (3, 2, 1), (2, 3, 1, 3)])
def test_of_an_order_the_latest_revision_stays_whatever_the_arrival(
    kept: Kept, revisions: tuple[int, ...], one_by_one: bool
) -> None:
    orders = [_order(1, revision) for revision in revisions]
    new = sum(kept.save(order) for order in orders) if one_by_one else kept.save(*orders)
    assert new == 1
    assert kept.load(Order) == [_order(1, 3)]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["in one batch", "one by one"])
@pytest.mark.parametrize("minutes", [(1, 2, 60), (60, 2, 1), (2, 60, 1, 60)])
def test_of_an_hour_what_was_observed_longest_stays_whatever_the_arrival(
    kept: Kept, minutes: tuple[int, ...], one_by_one: bool
) -> None:
    hours = [_reliability(3_600 + minute, score=100.0 - minute) for minute in minutes]
    new = sum(kept.save(hour) for hour in hours) if one_by_one else kept.save(*hours)
    assert new == 1
    assert kept.load(Reliability) == [_reliability(3_660, score=40.0)]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["in one batch", "one by one"])
def test_of_anything_else_the_first_stays(kept: Kept, one_by_one: bool) -> None:
    first, second = _decision(1), _decision(1)
    second.size = 5
    new = sum(kept.save(message) for message in (first, second)) if one_by_one else kept.save(first, second)
    assert new == 1
    assert kept.load(Decision) == [first]


def test_of_two_orders_with_one_revision_the_first_stays(kept: Kept) -> None:
    first, second = _order(1, 1), _order(1, 1)
    second.quantity = 5
    kept.save(first, second)
    kept.save(second)
    assert kept.load(Order) == [first]


def test_a_batch_of_every_kind_with_repeats_is_counted_by_its_new_keys(kept: Kept) -> None:
    assert kept.save(*_of_each_kind(), *OTHER, *_of_each_kind()) == len(TABLES) + len(OTHER)
    assert kept.save(*OTHER, _decision(9)) == 1


def test_thousands_of_messages_are_saved_at_once(kept: Kept) -> None:
    decisions = [_decision(number, step=number) for number in range(5_000)]
    assert kept.save(*decisions) == 5_000
    assert kept.save(*decisions, _decision(5_000, step=5_000)) == 1
    assert kept.load(Decision) == [*decisions, _decision(5_000, step=5_000)]


def test_nothing_to_save_is_nothing_new(kept: Kept) -> None:
    assert kept.save() == 0
    assert kept.load(Decision) == []


def test_a_kind_without_a_table_is_refused(kept: Kept) -> None:
    with pytest.raises(KeyError):
        kept.save(WindowOpened())
    with pytest.raises(KeyError):
        kept.load(WindowOpened)


def test_what_is_kept_and_returned_are_copies(kept: Kept) -> None:
    decision = _decision(1)
    kept.save(decision)
    decision.size = 5
    kept.load(Decision)[0].size = 6
    assert kept.load(Decision) == [_decision(1)]


def test_the_bytes_of_a_message_come_back(kept: Kept) -> None:
    messages = [*_of_each_kind(), *OTHER]
    kept.save(*messages)
    for table in TABLES:
        wanted = sorted((message for message in messages if type(message) is table.kind), key=table.order)
        assert [encode(message) for message in kept.load(table.kind)] == [encode(message) for message in wanted]


def _steps(decisions: Sequence[Decision]) -> list[tuple[str, int, str, bytes]]:
    return [(row.instrument.symbol, row.step, row.strategy, row.decision_id) for row in decisions]


@pytest.mark.parametrize("seed", range(3))
def test_decisions_are_listed_by_instrument_step_strategy_and_id(kept: Kept, seed: int) -> None:
    parts = [(instrument, step, name) for instrument in (BTC, ETH) for step in (2, 10, 10) for name in "ab"]
    random.Random(seed).shuffle(parts)
    for number, (instrument, step, name) in enumerate(parts):
        kept.save(_decision(number, instrument=instrument, step=step, strategy=name))
    listed = _steps(kept.load(Decision))
    assert listed == sorted(listed)
    assert len(listed) == len(parts)


def test_orders_are_listed_by_account_and_time(kept: Kept) -> None:
    kept.save(_order(1, 1, created_ns=9), _order(3, 1, created_ns=5), _order(2, 1, created_ns=5, account="z"))
    assert [order.order_id for order in kept.load(Order)] == [_id(3), _id(1), _id(2)]


def test_what_is_said_of_data_is_listed_by_instrument_and_time(kept: Kept) -> None:
    elsewhere = InstrumentId(venue="okx", symbol=BTC.symbol)
    places = [(elsewhere, 1), (ETH, 1), (BTC, 9), (BTC, 5)]
    for number, (instrument, at_ns) in enumerate(places):
        kept.save(
            Anomaly(anomaly_id=_id(number), instrument=instrument, at_ns=at_ns),
            Reliability(instrument=instrument, hour_ns=at_ns),
            FeedChanged(change_id=_id(number), instrument=instrument, at_ns=at_ns),
        )
    listed = [(BTC, 5), (BTC, 9), (ETH, 1), (elsewhere, 1)]
    listed.sort(key=lambda place: (place[0].venue, place[0].symbol, place[1]))
    assert [(row.instrument, row.at_ns) for row in kept.load(Anomaly)] == listed
    assert [(row.instrument, row.hour_ns) for row in kept.load(Reliability)] == listed
    assert [(row.instrument, row.at_ns) for row in kept.load(FeedChanged)] == listed


# On disk.


def _written(directory: Path, *messages: Message) -> dict[str, int]:
    store = MemoryStore()
    asyncio.run(store.save(messages))
    return asyncio.run(parquet.write_run(store, directory))


def test_a_run_comes_back_from_disk_to_the_byte(tmp_path: Path) -> None:
    messages = [*_of_each_kind(), *OTHER]
    counts = _written(tmp_path, *messages)
    assert sum(counts.values()) == len(messages)
    for table in TABLES:
        wanted = sorted((message for message in messages if type(message) is table.kind), key=table.order)
        read = parquet.read_table(tmp_path, table.kind)
        assert [encode(message) for message in read] == [encode(message) for message in wanted]
        assert counts[table.name] == len(read) > 0


def test_an_empty_run_has_every_file_with_its_columns_and_no_rows(tmp_path: Path) -> None:
    assert set(_written(tmp_path).values()) == {0}
    for table in TABLES:
        assert parquet.read_table(tmp_path, table.kind) == []
        names = pq.read_schema(tmp_path / f"{table.name}.parquet").names
        assert names == [*table.columns(table.kind()), MESSAGE]


def test_people_read_names_not_numbers(tmp_path: Path) -> None:
    decision = _decision(1)
    decision.abstained, decision.reason = True, AbstainReason.ABSTAIN_REASON_LATE
    order = _order(1, 1)
    order.reason = OrderReason.ORDER_REASON_LATE
    _written(tmp_path, decision, _decision(2, step=1), order, *_of_each_kind()[1:3], *_of_each_kind()[4:])

    def rows(table: str, *columns: str) -> list[tuple[object, ...]]:
        listed = pq.read_table(tmp_path / f"{table}.parquet", columns=list(columns)).to_pylist()
        return [tuple(row[column] for column in columns) for row in listed]

    assert rows("decisions", "decision_id", "direction", "reason") == [
        (_id(1).hex(), "HOLD", "LATE"),
        (_id(2).hex(), "HOLD", None),
    ]
    assert rows("orders", "side", "state", "reason") == [("BUY", "PENDING", "LATE")]
    assert rows("opinions", "venue", "symbol", "expected_move_bps", "reason") == [("sim", "btc-usdt-perp", 0.0, None)]
    assert rows("contexts", "kind", "key", "version") == [("mood", "BTC", 1)]
    assert rows("fills", "side", "fee") == [("SELL", "-0.5")]
    assert rows("accounts", "risk_state", "cash") == [("ACTIVE", "100000")]
    assert rows("bars", "open", "partial") == [("1.5", True)]
    assert rows("anomalies", "anomaly_id", "kind", "policy", "ingest_seq", "evidence") == [
        (_id(1).hex(), "price_jump", "hold", 7, "move_bps=35.25, scale_bps=0.333333")
    ]
    assert rows("reliability", "score", "parts", "frames") == [(100.0, "missing=0.0125, gap=0", 9)]
    assert rows("feed_changes", "state", "provider", "attempt") == [("rate_limited", "rest", 0)]
    assert rows("instruments", "venue_symbol", "type", "price_increment", "expiry_ns") == [
        ("BTCUSDT", "linear_perpetual", "0.10", None)
    ]
    assert rows("orchestrator_stats", "service", "counts") == [
        ("orchestrator", '{"abstained.late": 1, "decisions": 7}')
    ]
    assert rows("uptime_logs", "service", "running") == [("gateway", True)]


def test_messages_without_a_table_keep_their_order_and_bytes(tmp_path: Path) -> None:
    entries = [JournalEntry(key="shard.06", at_ns=at) for at in (3, 1, 2)]
    parquet.write_messages(entries, tmp_path / "some.parquet")
    assert parquet.read_messages(tmp_path / "some.parquet", JournalEntry) == entries
    parquet.write_messages([], tmp_path / "none.parquet")
    assert parquet.read_messages(tmp_path / "none.parquet", JournalEntry) == []


def test_every_journal_of_a_run_comes_back_in_its_order(tmp_path: Path) -> None:
    journals = {key: [JournalEntry(key=key, at_ns=at) for at in (3, 1, 2)] for key in ("shard.06", "account.paper")}
    parquet.write_journals(journals, tmp_path)
    for key, entries in journals.items():
        assert parquet.read_journal(tmp_path, key) == entries
    assert parquet.read_journal(tmp_path, "shard.07") == []
    parquet.write_journals({}, tmp_path)
    assert parquet.read_journal(tmp_path, "shard.06") == []


def test_a_default_message_is_a_row_of_no_bytes(tmp_path: Path) -> None:
    parquet.write_messages([JournalEntry(), JournalEntry(key="k")], tmp_path / "m.parquet")
    assert parquet.read_messages(tmp_path / "m.parquet", JournalEntry) == [JournalEntry(), JournalEntry(key="k")]


def test_a_run_that_is_not_there_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        parquet.read_table(tmp_path, Decision)
    wanted = f"{tmp_path}/decisions.parquet was not found: is {tmp_path} the --out directory of a run?"
    assert str(refused.value) == wanted


def _damage(name: str, path: Path) -> None:
    whole = path.read_bytes()
    match name:
        case "text":
            path.write_text("no parquet")
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        case "scrambled":
            footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
            path.write_bytes(whole[:4] + bytes(byte ^ 0xFF for byte in whole[4:footer]) + whole[footer:])
        case "another file":
            pq.write_table(pa.table({"price": [1.0]}), path)
        case "another column":
            pq.write_table(pa.table({MESSAGE: [1, 2]}), path)
        case "another message":
            pq.write_table(pa.table({MESSAGE: [b"\xff\xff"]}), path)


@pytest.mark.parametrize(
    "damage", ["text", "empty", "truncated", "scrambled", "another file", "another column", "another message"]
)
def test_a_file_that_cannot_be_read_is_one_clear_sentence(tmp_path: Path, damage: str) -> None:
    _written(tmp_path, *_of_each_kind())
    path = tmp_path / "decisions.parquet"
    _damage(damage, path)
    with pytest.raises(BadInput) as refused:
        parquet.read_table(tmp_path, Decision)
    assert str(refused.value).startswith(f"{path} was not written by Huracan, or is damaged: ")
    assert "\n" not in str(refused.value)


def test_a_folder_in_place_of_a_file_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "decisions.parquet").mkdir()
    with pytest.raises(BadInput, match="was not found"):
        parquet.read_table(tmp_path, Decision)
