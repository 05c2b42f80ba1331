"""`huracan tail` against a real server: who hears what, and how a message reads."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from shutil import rmtree

import pytest
from google.protobuf.message import Message
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.users import EVERYTHING, desk_permissions, watcher_permissions
from huracan.clock import MILLISECOND_NS, SystemClock
from huracan.contracts.context import ENGINE as KIND_ENGINE
from huracan.contracts.context import (
    MOOD,
    REGIME,
    EngineBundle,
    EngineStage,
    context,
    engine_choice,
    mood_state,
    regime_state,
)
from huracan.contracts.decision import Decision, Direction, Vote, trading_signal
from huracan.contracts.execution import OrderReason, OrderState, RiskState, account_state, fill
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import (
    AnomalyKind,
    AnomalyPolicy,
    ReliabilityPart,
    anomaly,
    instrument_key,
    news_item,
    reliability,
)
from huracan.contracts.opinion import AbstainReason, abstention, opinion
from huracan.contracts.ops import EngineEvent, EngineReport, FeedState, feed_changed, gap_detected
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Supervisor, running
from huracan.errors import BadInput, Fatal
from huracan.rng import SeededRng
from huracan_cli.state import RunState
from huracan_cli.system import DESK, OPERATOR, WATCHER
from huracan_cli.tail import Heard, as_json, render, tail

from .messages import bitcoin, sell_decision, sell_order, window_of

CLOSE_NS = 1_772_375_400_100 * MILLISECOND_NS
"""2026-03-01 14:30:00.100 UTC."""
BTC = bitcoin()
KEY = instrument_key(BTC.id)
ENGINE = bytes(range(32))


def _window() -> FeatureWindow:
    return window_of(BTC, 7, CLOSE_NS, epoch=3, valid_rows=60, best_bid=618_000, best_ask=618_001)


def _decision() -> Decision:
    votes = [Vote(expert="flow", opinion_id=b"\x01" * 16)]
    return sell_decision(BTC, 7, CLOSE_NS, epoch=3, gateway_epoch=3, votes=votes)


ORDER = sell_order(_decision(), OrderState.ORDER_STATE_DENIED, OrderReason.ORDER_REASON_HALTED)
FILL = fill(ORDER, number=1, quantity=37, price=618_000, fee=Decimal("1.10"), matched_ns=CLOSE_NS, received_ns=CLOSE_NS)
DECIDED = subjects.decision("core", BTC.shard, BTC.id)
ORDERED = subjects.execution("paper", "order", BTC.id)
FILLED = subjects.execution("paper", "fill", BTC.id)
ANOMALY = anomaly(
    instrument=BTC.id,
    kind=AnomalyKind.ANOMALY_KIND_PRICE_JUMP,
    policy=AnomalyPolicy.ANOMALY_POLICY_HOLD,
    at_ns=CLOSE_NS,
    epoch=3,
    ingest_seq=9,
    score=35.25,
    threshold=12.0,
    evidence={"move_bps": 35.25, "scale_bps": 1 / 3},
)
HOUR = reliability(
    instrument=BTC.id,
    hour_ns=CLOSE_NS - 1_800_100 * MILLISECOND_NS,
    epoch=3,
    score=62.54,
    parts=[
        ReliabilityPart(name="missing", value=0.0075, limit=0.02, weight=0.3),
        ReliabilityPart(name="gap", limit=0.02, weight=0.2),
    ],
    from_ns=CLOSE_NS - 600_100 * MILLISECOND_NS,
    to_ns=CLOSE_NS,
    frames=5_400,
)
CHANGED = feed_changed(
    instrument=BTC.id,
    state=FeedState.FEED_STATE_RECONNECTING,
    provider="websocket",
    detail="closed by the venue: 1006",
    at_ns=CLOSE_NS,
    epoch=3,
    number=1,
    attempt=2,
)
GAP = gap_detected(
    instrument=BTC.id,
    stream="depth",
    expected=900,
    was=931,
    at_ns=CLOSE_NS,
    ingest_seq=9,
    action="book dropped, resync started",
)
WINDOW = subjects.features(subjects.MICRO, BTC)


# On a real server.


@dataclass(frozen=True)
class Site:
    """A server with the users of `huracan up`."""

    server: NatsServer
    users: list[NatsUser]

    @property
    def state(self) -> RunState:
        return RunState(
            pid=1,
            started_ns=1,
            source="test",
            simulated=False,
            instrument=KEY,
            layout="seven",
            nats_url=self.server.url,
            nats_user=None,
            passwords={user.name: SecretStr(user.password) for user in self.users},
            postgres_url=SecretStr(""),
            http_ports={},
        )


def _site(directory: Path) -> Site:
    permissions = {
        OPERATOR: EVERYTHING,
        WATCHER: watcher_permissions(WATCHER),
        DESK: desk_permissions(DESK, strategies=("core",), accounts=("paper",)),
    }
    users = [
        NatsUser(name=name, password=f"secret-{name}", publish=allowed.publish, subscribe=allowed.subscribe)
        for name, allowed in permissions.items()
    ]
    return Site(NatsServer(directory=directory, port=free_port(), monitor_port=free_port()), users)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="huracan-tail-"))
    made = _site(directory)
    with running(made.server.prepare(made.users)):
        yield made
    rmtree(directory)


async def _publishing(site: Site, *said: tuple[str, Message]) -> None:
    """Say it again and again, until cancelled."""
    login = NatsLogin(url=site.server.url, name=OPERATOR, password=site.state.passwords[OPERATOR])
    connection = Connection(login)
    await connection.open()
    bus = NatsBus(connection, wall=SystemClock())
    try:
        while True:
            for subject, message in said:
                await bus.publish(subject, message, epoch=3)
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def _collect(listening: AsyncGenerator[Heard, None]) -> list[Heard]:
    async with aclosing(listening), asyncio.timeout(30):
        return [heard async for heard in listening]


def _run(site: Site, scenario: Callable[[], Awaitable[None]], *said: tuple[str, Message]) -> None:
    async def main() -> None:
        publishing = asyncio.create_task(_publishing(site, *said))
        try:
            await scenario()
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    asyncio.run(main())


def test_the_watcher_hears_what_matches_and_nothing_else(site: Site) -> None:
    async def scenario() -> None:
        heard = await _collect(tail(site.state, "sig.v1.decision.>", count=3))
        assert [each.subject for each in heard] == [DECIDED] * 3
        assert heard[0].message == _decision()
        assert (heard[0].schema, heard[0].epoch) == ("huracan.decision.v1.Decision", 3)
        assert heard[0].sent_ns > CLOSE_NS

    _run(site, scenario, (ORDERED, ORDER), (DECIDED, _decision()))


def test_a_desk_hears_its_decisions_and_its_account(site: Site) -> None:
    async def scenario() -> None:
        for pattern, expected in (("sig.v1.decision.core.>", _decision()), ("exec.v1.paper.order.>", ORDER)):
            heard = await _collect(tail(site.state, pattern, user=DESK, count=1))
            assert heard[0].message == expected

    _run(site, scenario, (DECIDED, _decision()), (ORDERED, ORDER))


def test_the_watcher_hears_what_happens_to_the_data(site: Site) -> None:
    said: dict[str, Message] = {
        subjects.ops("gateway", event): message
        for event, message in (("anomaly", ANOMALY), ("reliability", HOUR), ("feed", CHANGED), ("gap", GAP))
    }

    async def scenario() -> None:
        heard = await _collect(tail(site.state, "ops.v1.gateway.>", count=8))
        assert {each.subject: each.message for each in heard} == said
        assert len({render(each).plain for each in heard}) == 4

    _run(site, scenario, *said.items())


@pytest.mark.parametrize("pattern", ["feat.v1.>", "sig.v1.decision.>", "exec.v1.other.>", ">"])
def test_a_desk_is_refused_what_is_not_its_own_and_told_what_is(site: Site, pattern: str) -> None:
    with pytest.raises(Fatal, match=r"user 'desk' has no permission for subscription") as refusal:
        asyncio.run(_collect(tail(site.state, pattern, user=DESK)))
    assert "desk may hear sig.v1.decision.core.>, sig.v1.signal.core.>, exec.v1.paper.>" in str(refusal.value)
    assert "_INBOX" not in str(refusal.value)


def test_windows_tell_what_orders_and_fills_are_worth(site: Site) -> None:
    async def scenario() -> None:
        async with aclosing(tail(site.state, "exec.v1.>")) as listening, asyncio.timeout(30):
            async for heard in listening:
                assert heard.subject in (ORDERED, FILLED)
                if heard.definition is not None:
                    assert heard.definition == BTC
                    return

    _run(site, scenario, (ORDERED, ORDER), (FILLED, FILL), (WINDOW, _window()))


def test_what_cannot_be_read_is_shown_as_such(site: Site) -> None:
    async def scenario() -> None:
        login = NatsLogin(url=site.server.url, name=OPERATOR, password=site.state.passwords[OPERATOR])
        connection = Connection(login)
        await connection.open()
        listening = tail(site.state, "ops.v1.test.noise", count=1)
        hearing = asyncio.create_task(_collect(listening))
        async with asyncio.timeout(30):
            while not hearing.done():
                await connection.publish("ops.v1.test.noise", b"\xff\x00")
                await asyncio.sleep(0.01)
        await connection.close()
        (heard,) = hearing.result()
        assert heard.message is None
        assert as_json(heard)["raw"] == "ff00"
        assert "unknown_schema" in render(heard).plain

    asyncio.run(scenario())


@pytest.mark.parametrize("pattern", ["sig v1", "", "sig..v1", ">.sig", "sig.v1.\n"])
def test_a_malformed_pattern_is_refused_before_anything_is_asked(site: Site, pattern: str) -> None:
    with pytest.raises(BadInput, match=r"^subject was"):
        asyncio.run(_collect(tail(site.state, pattern)))


def test_a_count_or_a_user_that_cannot_be_is_refused(site: Site) -> None:
    with pytest.raises(BadInput, match="count was 0: give 1 or more"):
        asyncio.run(_collect(tail(site.state, "sig.v1.>", count=0)))
    with pytest.raises(BadInput, match="user was 'nobody': choose one of desk, operator, watcher"):
        asyncio.run(_collect(tail(site.state, "sig.v1.>", user="nobody")))


def test_a_wrong_password_is_refused(site: Site) -> None:
    state = site.state.model_copy(update={"passwords": {WATCHER: SecretStr("wrong")}})
    with pytest.raises(BadInput, match="refused user 'watcher'"):
        asyncio.run(_collect(tail(state, "sig.v1.>")))


def test_on_a_server_that_is_not_ours_its_one_user_listens(site: Site) -> None:
    state = site.state.model_copy(
        update={"nats_user": OPERATOR, "passwords": {OPERATOR: site.state.passwords[OPERATOR]}}
    )

    async def scenario() -> None:
        assert len(await _collect(tail(state, "sig.v1.>", count=2))) == 2
        with pytest.raises(BadInput, match="has one user for all"):
            await _collect(tail(state, "sig.v1.>", user=DESK))

    _run(site, scenario, (DECIDED, _decision()))


@asynccontextmanager
async def _served(site: Site) -> AsyncIterator[None]:
    programs = Supervisor(SeededRng(1))
    await programs.start(site.server.prepare(site.users))
    yield
    await programs.stop_all()


def test_a_server_that_is_away_is_waited_for_and_said_once(tmp_path: Path) -> None:
    site, said = _site(tmp_path / "nats"), list[str]()

    async def scenario() -> None:
        hearing = asyncio.create_task(_collect(tail(site.state, "sig.v1.>", count=1, say=said.append)))
        async with asyncio.timeout(30):
            while not said:  # noqa: ASYNC110 - the server is away, and has no event to set
                await asyncio.sleep(0.05)
        async with _served(site):
            publishing = asyncio.create_task(_publishing(site, (DECIDED, _decision())))
            assert (await hearing)[0].message == _decision()
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    asyncio.run(scenario())
    assert said == [f"{site.server.url} is away: waiting for it; Ctrl-C ends"]


# How it reads.


def _heard(subject: str, message: Message, *, known: bool = True) -> Heard:
    return Heard(
        subject=subject,
        schema=message.DESCRIPTOR.full_name,
        epoch=3,
        sent_ns=CLOSE_NS,
        message=message,
        raw=b"",
        definition=BTC if known else None,
    )


def _shown(message: Message, *, known: bool = True) -> str:
    return " ".join(render(_heard("some.subject", message, known=known)).plain.split())


def test_a_decision_reads_as_time_direction_size_and_confidence() -> None:
    assert _shown(_decision()) == f"14:30:00.100 decision {KEY} SELL -0.037 BTC confidence 62.0% core"
    assert _shown(_decision(), known=False) == f"14:30:00.100 decision {KEY} SELL -0.037 confidence 62.0% core"
    held = Decision(
        instrument=BTC.id,
        close_ns=CLOSE_NS,
        strategy="core",
        direction=Direction.DIRECTION_HOLD,
        abstained=True,
        reason=AbstainReason.ABSTAIN_REASON_WARMING,
    )
    assert _shown(held) == f"14:30:00.100 decision {KEY} HOLD abstained: WARMING core"
    assert _shown(trading_signal(_decision())) == "14:30:00.100 signal btc-usdt-perp SELL -0.037 confidence 62.0%"


def test_a_direction_has_its_colour() -> None:
    assert [str(span.style) for span in render(_heard("x", _decision())).spans] == ["dim", "bold red", "dim"]
    bought = Decision(direction=Direction.DIRECTION_BUY, instrument=BTC.id)
    assert "bold green" in [str(span.style) for span in render(_heard("x", bought)).spans]


def test_opinions_read_as_tilt_or_as_the_reason_of_the_abstention() -> None:
    made = opinion(
        _window(),
        expert="flow",
        engine_digest=ENGINE,
        horizon_ns=1,
        validity_ns=1,
        contexts=(),
        p_down=0.3,
        p_flat=0.2,
        p_up=0.5,
    )
    assert _shown(made) == f"14:30:00.100 opinion {KEY} flow +0.200 down 0.300 flat 0.200 up 0.500"
    silent = abstention(
        _window(),
        AbstainReason.ABSTAIN_REASON_NO_INPUT,
        expert="sentiment",
        engine_digest=ENGINE,
        horizon_ns=1,
        validity_ns=1,
    )
    assert _shown(silent) == f"14:30:00.100 opinion {KEY} sentiment abstained: NO_INPUT"


def test_orders_and_fills_read_in_base_units_or_in_lots_while_those_are_unknown() -> None:
    assert _shown(ORDER) == f"14:30:00.100 order {KEY} SELL 0.037 BTC at 61800.00 DENIED HALTED paper"
    assert _shown(FILL) == f"14:30:00.100 fill {KEY} SELL 0.037 BTC at 61800.00 fee 1.10 paper"
    assert _shown(FILL, known=False) == f"14:30:00.100 fill {KEY} SELL 37 lots at 618000 ticks fee 1.10 paper"


def test_accounts_contexts_and_windows_read_in_a_line() -> None:
    account = account_state(
        account="paper",
        epoch=1,
        as_of_ns=CLOSE_NS,
        cash=Decimal(1),
        fees=Decimal("3.50"),
        equity=Decimal(99_990),
        peak_equity=Decimal(100_000),
        risk_state=RiskState.RISK_STATE_REDUCING,
        positions={("binance_usdm", "btc-usdt-perp"): (BTC.id, -37)},
    )
    assert _shown(account) == f"14:30:00.100 account paper equity 99990 fees 3.50 REDUCING {KEY} -37 lots"
    times = {"epoch": 1, "as_of_ns": CLOSE_NS, "effective_from_ns": 2, "valid_until_ns": 3}
    regime = context(
        kind=REGIME,
        key=KEY,
        version=4,
        payload=regime_state(shares={"Ranging": 0.25, "High_Volatility": 0.75}, volatility=0.01, bars=64),
        engine_digest=ENGINE,
        **times,
    )
    assert _shown(regime) == f"14:30:00.100 regime {KEY} version 4 High Volatility 75% Ranging 25%"
    mood = context(
        kind=MOOD,
        key="BTC",
        version=1,
        payload=mood_state(polarity=-0.5, weight=1, headlines=2, last_news_id=b""),
        engine_digest=ENGINE,
        **times,
    )
    assert _shown(mood) == "14:30:00.100 mood BTC version 1 polarity -0.500 2 headlines"
    champion = EngineBundle(digest=ENGINE, name="flow", version=1)
    challenger = EngineBundle(digest=ENGINE[::-1], name="flow", version=2)
    choice = engine_choice(
        champion, beside=challenger, stage=EngineStage.ENGINE_STAGE_SHADOW, author="ann", reason="retrained"
    )
    offered = context(kind=KIND_ENGINE, key="flow", version=2, payload=choice, engine_digest=ENGINE, **times)
    beside = "flow 1 (000102030405) serves flow 2 (1f1e1d1c1b1a) in the shadow"
    assert _shown(offered) == f"14:30:00.100 engine flow version 2 {beside} by ann retrained"
    assert _shown(_window()) == f"14:30:00.100 window {KEY} micro step 7 60/64 rows bid 61800.00 ask 61800.10"


def test_what_happens_to_engines_reads_in_a_line() -> None:
    champion = EngineBundle(digest=ENGINE, name="flow", version=1)
    back = EngineReport(
        key="flow",
        event=EngineEvent.ENGINE_EVENT_ROLLED_BACK,
        detail="flow 2 (1f1e1d1c1b1a): errors was 0.5, and the limit 0",
        choice=engine_choice(champion, author="flow", reason="errors was 0.5, and the limit 0"),
        at_ns=CLOSE_NS,
    )
    shown = "rolled_back flow 2 (1f1e1d1c1b1a): errors was 0.5, and the limit 0 flow 1 (000102030405) serves"
    assert _shown(back) == f"14:30:00.100 engine flow {shown}"
    told = json.loads(json.dumps(as_json(_heard("ops.v1.flow.engine", back))))["message"]
    assert told["choice"]["serves"]["digest"] == ENGINE.hex()


def test_anomalies_hours_feeds_and_gaps_read_in_a_line() -> None:
    assert _shown(ANOMALY) == (
        f"14:30:00.100 anomaly {KEY} price_jump hold score 35.25, threshold 12 move_bps=35.25, scale_bps=0.333333"
    )
    assert _shown(HOUR) == f"14:30:00.100 reliable {KEY} 62.5 of 100 since 14:20:00.000 5400 frames missing=0.0075"
    assert _shown(CHANGED) == (f"14:30:00.100 feed {KEY} reconnecting attempt 2 websocket closed by the venue: 1006")
    assert _shown(GAP) == f"14:30:00.100 gap {KEY} depth expected 900, was 931 book dropped, resync started"
    styles = [str(span.style) for span in render(_heard("x", ANOMALY)).spans]
    assert styles == ["dim", "yellow", "dim"]


def test_what_a_venue_says_of_a_feed_cannot_steer_the_terminal() -> None:
    changed = feed_changed(
        instrument=BTC.id,
        state=FeedState.FEED_STATE_REFUSED,
        provider="websocket",
        detail="\x1b[2J no\nsuch symbol",
        at_ns=CLOSE_NS,
        epoch=3,
        number=1,
    )
    assert render(_heard("x", changed)).plain.isprintable()


def test_anything_else_is_one_short_line_that_cannot_steer_the_terminal() -> None:
    news = news_item(source="wire", published_ns=1, title="\x1b[2J up\nand away " + "x" * 500)
    shown = render(_heard("news.v1.wire", news)).plain
    assert shown.isprintable()
    assert "NewsItem" in shown
    assert len(shown) < 250
    odd = _decision()
    odd.instrument.symbol = "btc\x1b[31m"
    assert render(_heard("x", odd)).plain.isprintable()


def test_json_has_ids_in_hexadecimal_and_every_field_by_its_name() -> None:
    told = json.loads(json.dumps(as_json(_heard(DECIDED, _decision()))))
    assert (told["subject"], told["schema"], told["epoch"]) == (DECIDED, "huracan.decision.v1.Decision", 3)
    message = told["message"]
    assert message["decision_id"] == _decision().decision_id.hex()
    assert message["votes"][0]["opinion_id"] == "01" * 16
    assert message["direction"] == "DIRECTION_SELL"
    assert message["instrument"] == {"venue": "binance_usdm", "symbol": "btc-usdt-perp", "definition_version": 1}
    assert (message["abstained"], message["size"], message["window_digest"]) == (False, "-37", "")
