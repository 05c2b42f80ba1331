"""`huracan query` on a real database: what it finds, in what order, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import asyncpg
import pytest
from google.protobuf.message import Message
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner

from huracan.contracts.context import Context, ContextRef
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.execution import AccountState, Fill, Order, Position, Side
from huracan.contracts.market import (
    Anomaly,
    AnomalyKind,
    AnomalyPolicy,
    Bar,
    Evidence,
    InstrumentDefinition,
    InstrumentId,
    Reliability,
    ReliabilityPart,
)
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan.contracts.ops import FeedChanged, FeedState, ServiceChanged, service_report
from huracan.errors import BadInput, Recoverable
from huracan.store.migrate import migrate, migrations_directory
from huracan.store.postgres import PostgresStore
from huracan.store.tables import TABLES
from huracan_cli.main import app
from huracan_cli.query import TABLE_NAMES, Cell, page, parse_time, query, render

from .run_states import run_state

BTC = InstrumentId(venue="sim", symbol="btc-usdt-perp", definition_version=1)
ETH = InstrumentId(venue="sim", symbol="eth-usdt-perp", definition_version=1)
BTC_ELSEWHERE = InstrumentId(venue="okx", symbol="btc-usdt-perp", definition_version=1)
AT_NS = 1_772_375_400_000_000_000
"""2026-03-01 14:30:00 UTC."""
HOUR_NS = 3_600_000_000_000
NOWHERE = "postgresql://huracan:secret@127.0.0.1:1/huracan"
"""A port on which nobody listens."""


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _decision(number: int, instrument: InstrumentId = BTC) -> Decision:
    return Decision(
        decision_id=_id(number),
        strategy="core",
        instrument=instrument,
        step=number,
        close_ns=AT_NS + number,
        direction=Direction.DIRECTION_BUY,
        confidence=0.625,
        votes=[Vote(expert="flow", opinion_id=_id(100 + number), weight=1.0)],
        contexts=[ContextRef(kind="mood", key="BTC", version=7)],
    )


def _anomaly(number: int, instrument: InstrumentId = BTC) -> Anomaly:
    return Anomaly(
        anomaly_id=_id(number),
        instrument=instrument,
        kind=AnomalyKind.ANOMALY_KIND_QUOTE_STUFFING,
        policy=AnomalyPolicy.ANOMALY_POLICY_HOLD,
        at_ns=AT_NS + number,
        score=5_000.0,
        threshold=1_000.0,
        evidence=[Evidence(name="updates_per_s", value=5_000.0), Evidence(name="trades_per_s", value=0.5)],
    )


def _reliability(hour: int, instrument: InstrumentId = BTC) -> Reliability:
    parts = [ReliabilityPart(name="missing", value=0.005), ReliabilityPart(name="clock_drift", value=0.0)]
    hour_ns = AT_NS + hour * HOUR_NS
    return Reliability(
        instrument=instrument, hour_ns=hour_ns, score=92.5, parts=parts, from_ns=hour_ns, to_ns=hour_ns + 1, frames=12
    )


def _feed_changed(number: int, state: FeedState, detail: str = "") -> FeedChanged:
    return FeedChanged(
        change_id=_id(number),
        instrument=BTC,
        state=state,
        provider="websocket",
        detail=detail,
        at_ns=AT_NS + number,
        attempt=number,
    )


EVERYTHING: list[Message] = [
    _decision(1),
    _decision(3, ETH),
    _decision(2, BTC_ELSEWHERE),
    Opinion(
        opinion_id=_id(1),
        instrument=BTC,
        expert="flow",
        abstained=True,
        reason=AbstainReason.ABSTAIN_REASON_STALE,
        close_ns=AT_NS,
    ),
    Context(ref=ContextRef(kind="mood", key="BTC", version=7), as_of_ns=AT_NS),
    Order(order_id=_id(1), account="paper", instrument=BTC, side=Side.SIDE_SELL, created_ns=AT_NS, revision=1),
    Fill(fill_id=_id(1), account="paper", instrument=BTC, side=Side.SIDE_SELL, fee="0.10", matched_ns=AT_NS),
    AccountState(
        account="paper",
        epoch=1,
        as_of_ns=AT_NS,
        equity="99990.50",
        fees="1.25",
        positions=[Position(instrument=BTC, quantity=-5)],
    ),
    AccountState(account="paper", epoch=1, as_of_ns=AT_NS + 1, equity="99992.75", fees="1.50"),
    Bar(instrument=BTC, interval_ns=60_000_000_000, open_ns=AT_NS, open="64250.10", volume="1E-8"),
    _anomaly(1),
    _anomaly(2, ETH),
    _reliability(0),
    _reliability(1),
    _reliability(1, BTC_ELSEWHERE),
    _feed_changed(1, FeedState.FEED_STATE_RECONNECTING, "the venue closed:\x1b[2J 1006"),
    _feed_changed(2, FeedState.FEED_STATE_CONNECTED),
    InstrumentDefinition(id=BTC, price_increment="0.10", multiplier="1"),
    service_report("orchestrator", {"decisions": 3}, started_ns=AT_NS, at_ns=AT_NS + 1),
    ServiceChanged(service="gateway", at_ns=AT_NS, running=True),
]


@pytest.fixture
def filled(postgres_url: str) -> str:
    """Give a migrated database with a row or more in every table."""

    async def fill() -> None:
        await migrate(postgres_url, migrations_directory())
        store = PostgresStore(postgres_url, 1)
        await store.save(EVERYTHING)
        await store.close()

    asyncio.run(fill())
    return postgres_url


def _steps(rows: list[dict[str, Cell]]) -> list[Cell]:
    return [row["step"] for row in rows]


def test_the_newest_come_first_and_no_more_than_asked_for(filled: str) -> None:
    assert _steps(asyncio.run(query(filled, "decisions"))) == [3, 2, 1]
    assert _steps(asyncio.run(query(filled, "decisions", limit=2))) == [3, 2]


def test_every_table_gives_its_columns_but_for_the_message(filled: str) -> None:
    async def scenario() -> None:
        for table in TABLES:
            rows = await query(filled, table.name)
            assert rows, table.name
            assert list(rows[0]) == [column.name for column in table.fields]
            json.dumps(rows)
        assert {"lineage", "positions", "pnl", "alerts", "ticks", *(table.name for table in TABLES)} == set(TABLE_NAMES)

    asyncio.run(scenario())


def test_exact_numbers_stay_exact(filled: str) -> None:
    (bar,) = asyncio.run(query(filled, "bars"))
    assert (bar["open"], bar["high"], bar["volume"]) == ("64250.10", None, "0.00000001")


def test_an_instrument_is_named_with_or_without_its_venue(filled: str) -> None:
    async def scenario() -> None:
        assert _steps(await query(filled, "decisions", instrument="sim.btc-usdt-perp")) == [1]
        assert _steps(await query(filled, "decisions", instrument="btc-usdt-perp")) == [2, 1]
        assert await query(filled, "decisions", instrument="sim.doge") == []

    asyncio.run(scenario())


def test_since_is_the_first_time_and_until_the_first_after(filled: str) -> None:
    async def scenario() -> None:
        assert _steps(await query(filled, "decisions", since_ns=AT_NS + 2)) == [3, 2]
        assert _steps(await query(filled, "decisions", until_ns=AT_NS + 2)) == [1]
        assert _steps(await query(filled, "decisions", since_ns=AT_NS + 2, until_ns=AT_NS + 3)) == [2]

    asyncio.run(scenario())


def test_lineage_goes_by_the_instrument_and_time_of_its_decision(filled: str) -> None:
    async def scenario() -> None:
        rows = await query(filled, "lineage", instrument="sim.btc-usdt-perp", until_ns=AT_NS + 2)
        assert [(row["decision_id"], row["kind"], row["position"]) for row in rows] == [
            (_id(1).hex(), "opinion", 0),
            (_id(1).hex(), "context", 1),
        ]
        assert rows[0]["opinion_id"] == _id(101).hex()
        assert rows[1]["context_version"] == 7

    asyncio.run(scenario())


def test_anomalies_reliability_and_feeds_are_found_by_instrument_and_time(filled: str) -> None:
    async def scenario() -> None:
        anomalies = await query(filled, "anomalies", since_ns=AT_NS + 2)
        assert [(row["symbol"], row["at_ns"]) for row in anomalies] == [(ETH.symbol, AT_NS + 2)]
        (anomaly,) = await query(filled, "anomalies", instrument="sim.btc-usdt-perp")
        assert (anomaly["kind"], anomaly["policy"], anomaly["ingest_seq"]) == ("quote_stuffing", "hold", None)
        assert anomaly["evidence"] == "updates_per_s=5000, trades_per_s=0.5"
        hours = await query(filled, "reliability", instrument="btc-usdt-perp")
        assert [(row["venue"], row["hour_ns"]) for row in hours] == [
            ("sim", AT_NS + HOUR_NS),
            ("okx", AT_NS + HOUR_NS),
            ("sim", AT_NS),
        ]
        assert await query(filled, "reliability", until_ns=AT_NS + 1) == hours[2:]
        changes = await query(filled, "feed_changes", instrument="sim.btc-usdt-perp")
        assert [row["state"] for row in changes] == ["connected", "reconnecting"]
        assert await query(filled, "feed_changes", until_ns=AT_NS + 2) == changes[1:]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        ("things", {}, "table was 'things': choose one of decisions, opinions"),
        ("accounts", {"instrument": "sim.btc-usdt-perp"}, "accounts are not kept by instrument: leave it out"),
        ("contexts", {"instrument": "sim.btc-usdt-perp"}, "contexts are not kept by instrument"),
        ("decisions", {"instrument": ""}, "instrument was ''"),
        ("decisions", {"instrument": "sim."}, "instrument was 'sim.'"),
        ("decisions", {"instrument": "a\x00b"}, "instrument was"),
        ("decisions", {"since_ns": -1}, "since was -1"),
        ("decisions", {"until_ns": 2**63}, "until was 9223372036854775808"),
        ("decisions", {"since_ns": 5, "until_ns": 5}, "since was 5, not before until"),
        ("decisions", {"limit": 0}, "limit was 0: give 1 to 10000"),
        ("decisions", {"limit": 10_001}, "limit was 10001"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_database_is(
    table: str, arguments: dict[str, str | int], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        asyncio.run(query(NOWHERE, table, **arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--as-desk", "desk was ''"),
        ("--since", "--since was ''"),
        ("--until", "--until was ''"),
        ("--after", "after was not given with this question"),
        ("--instrument", "instrument was ''"),
    ],
)
def test_an_option_without_its_text_is_refused_and_shows_nothing(filled: str, option: str, sentence: str) -> None:
    done = CliRunner().invoke(app, ["query", "fills", option, "", "--postgres-url", filled])
    assert done.stdout == ""
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).startswith(sentence)


@pytest.mark.parametrize(
    "command",
    [["query", "fills", "--state", "{}"], ["archive", "days", "{}/days", "--state", "{}"], ["migrate"]],
    ids=lambda command: command[0],
)
def test_an_empty_database_url_is_refused_and_another_database_is_not_taken_for_it(
    filled: str, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HURACAN_POSTGRES_URL", raising=False)
    run_state(postgres_url=SecretStr(filled)).write(tmp_path)
    typed = [part.format(tmp_path) for part in command]
    done = CliRunner().invoke(app, [*typed, "--postgres-url", ""])
    assert done.stdout == ""
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).startswith("--postgres-url was ''")
    assert not (tmp_path / "days").exists()
    # Nothing in the environment is no option.
    unset = CliRunner().invoke(app, typed, env={"HURACAN_POSTGRES_URL": ""})
    assert "--postgres-url was" not in str(unset.exception)
    assert (unset.exit_code == 0) == ("--state" in typed)


def test_a_value_is_never_part_of_the_statement(filled: str) -> None:
    hostile = "x'; drop table moe_analysis.decisions; --"
    assert asyncio.run(query(filled, "decisions", instrument=hostile)) == []
    assert len(asyncio.run(query(filled, "decisions"))) == 3


def test_a_query_that_takes_too_long_is_ended_with_advice(filled: str) -> None:
    async def scenario() -> None:
        blocking = await asyncpg.connect(filled)
        try:
            async with blocking.transaction():
                await blocking.execute("lock table moe_analysis.decisions in access exclusive mode")
                with pytest.raises(BadInput, match=r"query of decisions took more than 0.2 s: name an instrument"):
                    await query(filled, "decisions", timeout_s=0.2)
        finally:
            await blocking.close()

    asyncio.run(scenario())


def test_a_database_that_is_away_or_empty_is_said_to_be(postgres_url: str) -> None:
    with pytest.raises(Recoverable, match="PostgreSQL is away"):
        asyncio.run(query(NOWHERE, "decisions"))
    with pytest.raises(BadInput, match="run `huracan migrate`"):
        asyncio.run(query(postgres_url, "decisions"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1772375400000000001", AT_NS + 1),
        ("2026-03-01T14:30:00Z", AT_NS),
        ("2026-03-01 14:30", AT_NS),
        ("2026-03-01T15:30:00+01:00", AT_NS),
        ("2026-03-01", AT_NS - 52_200 * 10**9),
        ("2026-03-01T14:30:00.25", AT_NS + 250_000_000),
        ("2026-03-01T14:30:00.123456789Z", AT_NS + 123_456_789),
        (" 2026-03-01T14:30:00.1234567Z ", AT_NS + 123_456_700),
    ],
)
def test_times_are_iso_8601_or_nanoseconds(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-02-30", "1772375400", "1772375400000", "-1", "9" * 30, "14:30", "٣", "1e18"]
)
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(BadInput, match=r"^since was .*ISO 8601"):
        parse_time(text, "since")


def test_a_number_of_any_length_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"^--since was 99.* no time in nanoseconds"):
        parse_time("9" * 5_000, "--since")


def test_a_fraction_finer_than_a_nanosecond_is_no_time() -> None:
    with pytest.raises(BadInput, match="time was"):
        parse_time("2026-03-01T14:30:00.1234567890Z")


def test_people_see_every_table_with_short_ids_and_readable_times(filled: str) -> None:
    async def rows() -> dict[str, list[dict[str, Cell]]]:
        return {name: await query(filled, name) for name in TABLE_NAMES}

    console = Console(width=160, color_system=None)
    shown = {}
    for name, found in asyncio.run(rows()).items():
        with console.capture() as capture:
            console.print(render(name, found))
        shown[name] = capture.get()
    assert "2026-03-01 14:30:00.000" in shown["decisions"]
    assert "sim.btc-usdt-perp" in shown["decisions"]
    assert _id(1).hex()[:12] in shown["decisions"]
    assert _id(1).hex() not in shown["decisions"]
    assert "0.6250" in shown["decisions"]
    assert "STALE" in shown["opinions"]
    assert "60 s" in shown["bars"]
    assert "99990.50" in shown["accounts"]
    assert "SELL" in shown["orders"]
    assert "limit (ticks)" in shown["orders"]
    assert "SELL" in shown["fills"]
    assert "mood" in shown["contexts"]
    assert "mood" in shown["lineage"]
    anomaly = "sim.btc-usdt-perp quote_stuffing hold 5000.0000 1000.0000 updates_per_s=5000, trades_per_s=0.5"
    assert anomaly in " ".join(shown["anomalies"].split())
    hour = "92.5000 12 2026-03-01 15:30:00.000 2026-03-01 15:30:00.000 missing=0.005, clock_drift=0"
    assert hour in " ".join(shown["reliability"].split())
    assert "reconnecting websocket 1 the venue closed:\N{REPLACEMENT CHARACTER}[2J 1006" in " ".join(
        shown["feed_changes"].split()
    )


# Page by page.


async def _pages(url: str, table: str, limit: int, **question: str | int) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    after: str | None = None
    while True:
        found = await page(url, table, limit=limit, after=after, **question)  # type: ignore[arg-type]
        assert len(found.rows) == limit or found.after is None
        rows += found.rows
        if found.after is None:
            return rows
        after = found.after


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_give_every_row_once_in_the_order_of_the_whole(filled: str, limit: int) -> None:
    async def scenario() -> None:
        for name in TABLE_NAMES:
            assert await _pages(filled, name, limit) == await query(filled, name), name
        of_btc = await _pages(filled, "decisions", limit, instrument="btc-usdt-perp", since_ns=AT_NS)
        assert of_btc == (await query(filled, "decisions"))[1:]

    asyncio.run(scenario())


def test_rows_that_come_between_two_pages_shift_nothing(filled: str) -> None:
    async def scenario() -> None:
        store = PostgresStore(filled, 1)
        first = await page(filled, "decisions", limit=2)
        assert _steps(first.rows) == [3, 2]
        newer, alike, older = _decision(9), _decision(4), _decision(8)
        alike.close_ns, older.close_ns = AT_NS + 2, AT_NS
        await store.save([newer, alike, older])
        second = await page(filled, "decisions", limit=2, after=first.after)
        # What is alike in time goes by its id, and belongs to the page that is over.
        assert (_steps(second.rows), second.after) == ([1, 8], None)
        await store.close()

    asyncio.run(scenario())


def test_a_cursor_belongs_to_its_question(filled: str) -> None:
    async def scenario() -> None:
        after = (await page(filled, "decisions", limit=1)).after
        assert after
        for table, question in (("opinions", {}), ("decisions", {"since_ns": 1}), ("decisions", {"instrument": "x"})):
            with pytest.raises(BadInput, match="after was not given with this question"):
                await page(filled, table, after=after, **question)
        assert len((await page(filled, "decisions", limit=7, after=after)).rows) == 2

    asyncio.run(scenario())


def _cursor_with(after: str, *values: object) -> str:
    question, *_ = json.loads(base64.urlsafe_b64decode(after + "=="))
    return base64.urlsafe_b64encode(json.dumps([question, *values]).encode()).decode()


def test_a_cursor_that_was_made_up_is_refused(filled: str) -> None:
    async def scenario() -> None:
        after = (await page(filled, "decisions", limit=1)).after
        assert after
        made_up = ["", "x", "e30", "bnVsbA", after[:-4], f"{after}AAAA", "\N{SNOWMAN}", "W10", "W1tb" * 5_000]
        made_up += [_cursor_with(after, *values) for values in ((), ("x", "y"), (1, 2), (1.5, "y"), (None, "y"))]
        made_up += [
            _cursor_with(after, *values) for values in ((2**70, "y"), (1, "\0"), ([1], "y"), (1,), (1, "y", "z"))
        ]
        for given in made_up:
            with pytest.raises(BadInput, match="after was not given with this question"):
                await page(filled, "decisions", after=given)

    asyncio.run(scenario())


def test_pnl_is_what_an_account_made_in_a_day(filled: str) -> None:
    async def scenario() -> None:
        store = PostgresStore(filled, 1)
        later = AccountState(account="paper", epoch=2, as_of_ns=AT_NS + 24 * HOUR_NS, equity="100000", fees="2")
        await store.save([later, AccountState(account="other", epoch=1, as_of_ns=AT_NS, equity="5")])
        await store.close()
        day_ns = AT_NS // (24 * HOUR_NS) * (24 * HOUR_NS)
        rows = await query(filled, "pnl")
        assert [(row["day_ns"], row["account"], row["first_equity"], row["pnl"], row["fees"]) for row in rows] == [
            (day_ns + 24 * HOUR_NS, "paper", "100000", "0", "0"),
            (day_ns, "paper", "99990.50", "2.25", "0.25"),
            (day_ns, "other", "5", "0", None),
        ]
        assert await query(filled, "pnl", until_ns=day_ns + 1) == rows[1:]

    asyncio.run(scenario())
