"""The persister: whatever is worth keeping is kept once, and nothing stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.memory import HUB, Stored
from huracan.bus.transport import PERFECT, Transport
from huracan.clock import MINUTE_NS
from huracan.contracts.codec import encode
from huracan.contracts.context import Context, ContextRef
from huracan.contracts.decision import Decision
from huracan.contracts.execution import AccountState, ExecutionReport, Fill, Order
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import Anomaly, Bar, InstrumentDefinition, InstrumentId, Reliability
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import (
    DeadLetter,
    FeedChanged,
    GapDetected,
    ServiceChanged,
    StepAcknowledged,
    service_report,
    step_acknowledged,
)
from huracan.errors import Fatal, PoisonMessage, Recoverable
from huracan.ids import derived_id
from huracan.ports import Record
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan.store.memory import MemoryStore
from huracan.store.tables import TABLES
from huracan_persister.config import PersisterConfig
from huracan_persister.service import NAME, Persister

START_NS = 1_700_000_000_000_000_000
BTC = InstrumentId(venue="sim", symbol="btc")
DEFINITION = InstrumentDefinition(id=BTC, shard=6)


def _id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _bar(open_ns: int = 60) -> Bar:
    return Bar(instrument=BTC, interval_ns=60, open_ns=open_ns, open="1")


def _bars(name: str, open_ns: int = 60) -> tuple[str, Message]:
    return subjects.features(name, DEFINITION), FeatureWindow(instrument=DEFINITION, bar=_bar(open_ns))


ACKNOWLEDGED: dict[str, tuple[str, Message]] = {
    "decisions": (subjects.decision("core", 6, BTC), Decision(decision_id=_id(1), instrument=BTC)),
    "contexts": (subjects.context("mood", "BTC"), Context(ref=ContextRef(kind="mood", key="BTC", version=1))),
    "orders": (subjects.execution("paper", "order", BTC), Order(order_id=_id(1), revision=1)),
    "fills": (subjects.execution("paper", "fill", BTC), Fill(fill_id=_id(1))),
    "accounts": (subjects.execution("paper", "quality", BTC), AccountState(account="paper", as_of_ns=1)),
    "bars": _bars("bar_1m"),
    "anomalies": (subjects.ops("gateway", "anomaly"), Anomaly(anomaly_id=_id(1), instrument=BTC)),
    "reliability": (subjects.ops("gateway", "reliability"), Reliability(instrument=BTC, hour_ns=1, to_ns=2)),
    "feed_changes": (subjects.ops("gateway", "feed"), FeedChanged(change_id=_id(1), instrument=BTC)),
    "orchestrator_stats": (
        subjects.ops("orchestrator", "report"),
        service_report("orchestrator", {"decisions": 1}, started_ns=1, at_ns=2),
    ),
    "uptime_logs": (subjects.ops("flow", "service"), ServiceChanged(service="flow", running=True, at_ns=1)),
}
"""One message of each acknowledged kind, by the table it belongs to."""
FIRST_KEYS = {
    "decisions": "decision_id of huracan.decision.v1.Decision",
    "contexts": "kind of huracan.context.v1.Context",
    "orders": "order_id of huracan.execution.v1.Order",
    "fills": "fill_id of huracan.execution.v1.Fill",
    "accounts": "account of huracan.execution.v1.AccountState",
    "bars": "venue of huracan.market.v1.Bar",
    "anomalies": "anomaly_id of huracan.market.v1.Anomaly",
    "reliability": "venue of huracan.market.v1.Reliability",
    "feed_changes": "change_id of huracan.ops.v1.FeedChanged",
    "orchestrator_stats": "service of huracan.ops.v1.ServiceReport",
    "uptime_logs": "service of huracan.ops.v1.ServiceChanged",
}
"""What is missing first where nothing is there."""
LETTERS = subjects.dead_letters(subjects.JOURNAL_TOPIC)
OPINIONS = {name: Opinion(opinion_id=name.encode(), expert=name) for name in ("regime", "flow", "sentiment")}


@dataclass
class Losing:
    """Lose the acknowledgements of a node while it is told to; deliver the rest at once."""

    node: str
    losing: bool = True
    faulty: bool = True
    lost: int = field(default=0)

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if self.losing and (source, target) == (self.node, HUB):
            self.lost += 1
            return
        deliver()


class Failing(MemoryStore):
    """Note every save; be away, refuse some messages or fail for good while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.saves: list[list[Message]] = []
        self.tries = 0
        self.away = False
        self.unsaveable: set[bytes] = set()
        self.broken = False

    async def save(self, messages: Sequence[Message]) -> int:
        self.tries += 1
        if self.away:
            raise Recoverable("the store is away")
        if self.broken:
            raise Fatal("the store is broken")
        if any(encode(message) in self.unsaveable for message in messages):
            raise PoisonMessage("unsaveable", "it does not fit")
        self.saves.append(list(messages))
        return await super().save(messages)


@dataclass
class Noting:
    """Deliver at once and count what a node acknowledges."""

    node: str
    faulty: bool = False
    acknowledged: int = field(default=0)

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        self.acknowledged += (source, target) == (self.node, HUB)
        deliver()


async def _publish(world: World, subject: str, message: Message) -> None:
    message_id = derived_id(subject, encode(message))
    await world.ports("desk").bus.publish_acknowledged(subject, message, message_id=message_id)


async def _rows(world: World) -> dict[str, int]:
    """Count rows by table, but for what comes with the bars."""
    rows = {table.name: len(await world.store.load(table.kind)) for table in TABLES if table.name != "instruments"}
    return {name: count for name, count in rows.items() if count}


def _run(scenario: Callable[[World], Awaitable[None]], transport: Transport = PERFECT) -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, seed=1, transport=transport)
        await scenario(world)
        await world.stop()

    run_virtual(main, start_ns=START_NS)


async def _start(world: World) -> Persister:
    world.start(NAME, Persister)
    await asyncio.sleep(0.001)
    started = world.services[NAME]
    assert isinstance(started, Persister)
    return started


@pytest.mark.parametrize("table", ACKNOWLEDGED)
def test_each_acknowledged_kind_is_saved_once(table: str) -> None:
    async def scenario(world: World) -> None:
        persister = await _start(world)
        for _ in range(2):
            await _publish(world, *ACKNOWLEDGED[table])
        await asyncio.sleep(0.001)
        assert await _rows(world) == {table: 1}
        assert persister.counts == {table: 1}

    _run(scenario)


def test_what_was_published_before_it_started_is_saved_too() -> None:
    async def scenario(world: World) -> None:
        for subject, message in ACKNOWLEDGED.values():
            await _publish(world, subject, message)
        await _start(world)
        assert await _rows(world) == dict.fromkeys(ACKNOWLEDGED, 1)

    _run(scenario)


def test_the_opinions_of_all_three_experts_are_saved_by_best_effort() -> None:
    async def scenario(world: World) -> None:
        persister = await _start(world)
        for _ in range(2):
            for name, opinion in OPINIONS.items():
                await world.ports("desk").bus.publish(subjects.opinion(name, 6, BTC), opinion)
        await asyncio.sleep(0.001)
        assert await _rows(world) == {"opinions": 3}
        assert persister.counts == {"opinions": 3, "opinions.again": 3}

    _run(scenario)


def test_of_a_window_of_bars_the_bar_is_kept() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        await _publish(world, *_bars("bar_1m", 60))
        await _publish(world, *_bars("bar_15m", 120))
        await asyncio.sleep(0.001)
        assert await world.store.load(Bar) == [_bar(60), _bar(120)]

    _run(scenario)


def test_what_an_instrument_is_is_kept_once_for_each_version() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        later = InstrumentDefinition(id=InstrumentId(venue="sim", symbol="btc", definition_version=1), shard=6)
        for open_ns, definition in ((60, DEFINITION), (120, DEFINITION), (180, later), (240, DEFINITION)):
            window = FeatureWindow(instrument=definition, bar=_bar(open_ns))
            await _publish(world, subjects.features("bar_1m", definition), window)
        await asyncio.sleep(0.001)
        assert await world.store.load(InstrumentDefinition) == [DEFINITION, later]

    _run(scenario)


def test_its_own_word_is_not_kept() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        assert await _rows(world) == {}
        assert await world.store.load(ServiceChanged) == []

    _run(scenario)


class Maintained(MemoryStore):
    """Note when room is made; be away at first."""

    def __init__(self) -> None:
        super().__init__()
        self.at_ns: list[int] = []

    async def maintain(self, now_ns: int, *, keep_days: int | None = None) -> dict[str, int]:
        assert keep_days == 30
        self.at_ns.append(now_ns)
        if len(self.at_ns) == 1:
            raise Recoverable("a reader holds it up")
        return {"partitions.made": 7 if len(self.at_ns) == 2 else 0, "partitions.detached": 0, "last.in_default": 3}


def test_the_store_makes_room_each_hour_and_soon_again_where_it_could_not() -> None:
    async def scenario(world: World) -> None:
        world.store = store = Maintained()
        world.start(NAME, partial(Persister, config=PersisterConfig(linger_ms=0, keep_days=30)))
        await asyncio.sleep(0.001)
        persister = world.services[NAME]
        for minute in range(125):
            await _publish(world, *_bars("bar_1m", minute))
            await asyncio.sleep(60)
        minutes = [(at_ns - START_NS) // MINUTE_NS for at_ns in store.at_ns]
        assert minutes == [0, 1, 2, 62, 122]
        assert len(await store.load(Bar)) == 125
        assert persister.counts["maintenance.failed"] == 1
        assert (persister.counts["partitions.made"], persister.counts["last.in_default"]) == (7, 3)

    _run(scenario)


def test_the_latest_revision_of_an_order_is_kept() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        for revision in (1, 2):
            await _publish(world, subjects.execution("paper", "order", BTC), Order(order_id=_id(1), revision=revision))
        await asyncio.sleep(0.001)
        assert [order.revision for order in await world.store.load(Order)] == [2]

    _run(scenario)


def test_of_an_hour_the_reliability_that_was_observed_longest_is_kept() -> None:
    async def scenario(world: World) -> None:
        persister = await _start(world)
        for to_ns in (60, 3_600, 120):
            hour = Reliability(instrument=BTC, hour_ns=0, to_ns=to_ns)
            await _publish(world, subjects.ops("gateway", "reliability"), hour)
        await asyncio.sleep(0.001)
        assert [hour.to_ns for hour in await world.store.load(Reliability)] == [3_600]
        assert persister.counts == {"reliability": 1, "reliability.again": 2}

    _run(scenario)


def test_a_redelivered_message_is_saved_once_and_counted() -> None:
    transport = Losing(NAME, losing=False)

    async def scenario(world: World) -> None:
        persister = await _start(world)
        transport.losing = True
        await _publish(world, *ACKNOWLEDGED["fills"])
        await asyncio.sleep(0.5)
        assert transport.lost == 3
        transport.losing = False
        await asyncio.sleep(5)
        assert await _rows(world) == {"fills": 1}
        assert persister.counts == {"fills": 1, "fills.again": 3}

    _run(scenario, transport)


def test_a_kill_between_saving_and_acknowledging_doubles_nothing() -> None:
    transport = Losing(NAME, losing=False)

    async def scenario(world: World) -> None:
        await _start(world)
        transport.losing = True
        for subject, message in ACKNOWLEDGED.values():
            await _publish(world, subject, message)
        await asyncio.sleep(0.001)
        await world.kill(NAME)
        transport.losing = False
        await _start(world)
        assert await _rows(world) == dict.fromkeys(ACKNOWLEDGED, 1)
        assert all(world.counts[NAME][f"{table}.again"] == 1 for table in ACKNOWLEDGED)

    _run(scenario, transport)


def test_what_came_while_it_was_down_is_saved_when_it_is_back() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        await world.kill(NAME)
        await _publish(world, *ACKNOWLEDGED["fills"])
        assert await _rows(world) == {}
        await _start(world)
        assert await _rows(world) == {"fills": 1}

    _run(scenario)


def test_poison_is_counted_by_reason_and_stops_nothing() -> None:
    async def scenario(world: World) -> None:
        persister = await _start(world)
        world.bus.keep(Stored("exec.v1.paper.fill.sim.btc", "huracan.execution.v1.Fill", 0, b"\xff"), b"1")
        world.bus.keep(Stored("exec.v1.paper.fill.sim.btc", "huracan.gone.v1.Gone", 0, b""), b"2")
        await _publish(world, subjects.execution("paper", "fill", BTC), ExecutionReport())
        await _publish(world, *ACKNOWLEDGED["fills"])
        await asyncio.sleep(0.001)
        assert persister.counts == {
            "poison.undecodable": 1,
            "poison.unknown_schema": 1,
            "poison.unexpected_kind": 1,
            "fills": 1,
        }
        await world.kill(NAME)
        await _start(world)
        assert sum(count for name, count in world.counts[NAME].items() if name.startswith("poison")) == 3

    _run(scenario)


WINDOW_SUBJECT = subjects.features("bar_1m", DEFINITION)
INCOMPLETE: dict[str, tuple[str, Message, str]] = {
    **{
        f"{table} of no bytes": (subject, type(message)(), FIRST_KEYS[table])
        for table, (subject, message) in ACKNOWLEDGED.items()
    },
    "a fill without an id": (
        *(ACKNOWLEDGED["fills"][0], Fill(account="paper", quantity=7, price=3)),
        "fill_id of huracan.execution.v1.Fill",
    ),
    "a context of a kind alone": (
        *(ACKNOWLEDGED["contexts"][0], Context(ref=ContextRef(kind="mood", version=1))),
        "key of huracan.context.v1.Context",
    ),
    "a window without a bar": (
        *(WINDOW_SUBJECT, FeatureWindow(instrument=DEFINITION, step=5)),
        "venue of huracan.market.v1.Bar",
    ),
    "a window of no instrument": (
        *(WINDOW_SUBJECT, FeatureWindow(bar=_bar())),
        "venue of huracan.market.v1.InstrumentDefinition",
    ),
    "a bar without a symbol": (
        *(WINDOW_SUBJECT, FeatureWindow(instrument=DEFINITION, bar=Bar(instrument=InstrumentId(venue="sim")))),
        "symbol of huracan.market.v1.Bar",
    ),
}
"""Messages without what their row is kept under, each with its subject and what it lacks."""


@pytest.mark.parametrize("what", INCOMPLETE)
def test_what_lacks_the_id_of_its_row_never_becomes_one(what: str) -> None:
    subject, message, lacking = INCOMPLETE[what]

    async def scenario(world: World) -> None:
        persister = await _start(world)
        await _publish(world, subject, message)
        await asyncio.sleep(0.001)
        assert await _rows(world) == {}
        assert await world.store.load(InstrumentDefinition) == []
        assert persister.counts == {"poison.incomplete": 1}
        (letter,) = _letters(await world.ports("desk").log.read(LETTERS, NAME, 0))
        assert (letter.raw, letter.detail) == (encode(message), f"{subject}: {lacking} was empty")

    _run(scenario)


def test_a_step_is_acknowledged_after_the_executor_has_and_all_before_it_is_saved() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        inbox = world.ports("gateway").bus.inbox()
        inbox.subscribe(subjects.ops(NAME, "step"))
        await _publish(world, *ACKNOWLEDGED["fills"])
        done = step_acknowledged("executor", BTC, 7)
        await world.ports("executor").bus.publish(subjects.ops("executor", "step"), done)
        delivery = await anext(inbox)
        assert delivery.decode() == StepAcknowledged(service=NAME, instrument=BTC, step=7)
        assert await _rows(world) == {"fills": 1}

    _run(scenario)


def test_nothing_else_is_kept() -> None:
    async def scenario(world: World) -> None:
        await _start(world)
        await _publish(world, "sig.v1.signal.core.06.sim.btc", Decision(decision_id=_id(9)))
        await _publish(world, subjects.features("micro", DEFINITION), FeatureWindow(instrument=DEFINITION))
        await world.ports("gateway").bus.publish(subjects.ops("gateway", "gap"), GapDetected(instrument=BTC))
        await asyncio.sleep(0.001)
        assert await _rows(world) == {}

    _run(scenario)


def test_starting_over_a_bad_connection_it_reads_nothing_until_it_has_announced_itself() -> None:
    transport = Losing(NAME)

    async def scenario(world: World) -> None:
        await _start(world)
        await _publish(world, *ACKNOWLEDGED["fills"])
        await asyncio.sleep(0.2)
        assert await _rows(world) == {}
        transport.losing = False
        await asyncio.sleep(2)
        assert await _rows(world) == {"fills": 1}

    _run(scenario, transport)


# Batches.


def _failing(world: World) -> Failing:
    store = world.store = Failing()
    return store


def _fill(number: int) -> Fill:
    return Fill(fill_id=_id(number))


async def _publish_fills(world: World, count: int) -> None:
    for number in range(count):
        await _publish(world, subjects.execution("paper", "fill", BTC), _fill(number))


def test_what_waits_is_one_save_for_each_table() -> None:
    async def scenario(world: World) -> None:
        store = _failing(world)
        await _publish_fills(world, 500)
        await _publish(world, *ACKNOWLEDGED["decisions"])
        await _start(world)
        assert [len(messages) for messages in store.saves] == [1, 500]
        assert world.counts[NAME] == {"fills": 500, "decisions": 1}

    _run(scenario)


def test_a_repeat_within_a_batch_is_counted_as_one() -> None:
    async def scenario(world: World) -> None:
        for message_id in (b"1", b"2"):
            fill = encode(_fill(1))
            world.bus.keep(Stored("exec.v1.paper.fill.sim.btc", "huracan.execution.v1.Fill", 0, fill), message_id)
        persister = await _start(world)
        assert persister.counts == {"fills": 1, "fills.again": 1}

    _run(scenario)


def test_while_the_store_is_away_nothing_is_acknowledged_and_nothing_lost() -> None:
    transport = Noting(NAME)

    async def scenario(world: World) -> None:
        store = _failing(world)
        persister = await _start(world)
        store.away, before = True, transport.acknowledged
        await _publish_fills(world, 3)
        await asyncio.sleep(30)
        await _publish(world, *ACKNOWLEDGED["decisions"])
        await asyncio.sleep(30)
        assert store.tries > 10
        assert transport.acknowledged == before
        assert persister.counts == {}
        store.away = False
        await asyncio.sleep(2)
        assert await _rows(world) == {"fills": 3, "decisions": 1}
        assert transport.acknowledged == before + 4
        assert persister.counts == {"fills": 3, "decisions": 1}

    _run(scenario, transport)


def test_a_kill_while_the_store_is_away_loses_nothing() -> None:
    async def scenario(world: World) -> None:
        store = _failing(world)
        await _start(world)
        store.away = True
        await _publish_fills(world, 3)
        await asyncio.sleep(1)
        await world.kill(NAME)
        store.away = False
        await _start(world)
        assert await _rows(world) == {"fills": 3}

    _run(scenario)


def test_unsaveable_messages_are_buried_and_hold_up_no_other() -> None:
    transport = Noting(NAME)

    async def scenario(world: World) -> None:
        store = _failing(world)
        store.unsaveable = {encode(_fill(number)) for number in (0, 70, 71, 99)}
        await _publish_fills(world, 100)
        await _publish(world, *ACKNOWLEDGED["decisions"])
        persister = await _start(world)
        assert await _rows(world) == {"fills": 96, "decisions": 1}
        assert persister.counts == {"poison.unsaveable": 4, "fills": 96, "decisions": 1}
        letters = await world.ports("desk").log.read(LETTERS, NAME, 0)
        assert {letter.raw for letter in _letters(letters)} == store.unsaveable
        assert {(letter.reason, letter.detail) for letter in _letters(letters)} == {("unsaveable", "it does not fit")}
        await world.kill(NAME)
        saves = len(store.saves)
        await _start(world)
        assert len(store.saves) == saves

    _run(scenario, transport)


def _letters(records: Sequence[Record]) -> list[DeadLetter]:
    return [record.message for record in records if isinstance(record.message, DeadLetter)]


def test_a_step_is_acknowledged_only_once_what_came_before_it_is_saved() -> None:
    async def scenario(world: World) -> None:
        store = _failing(world)
        await _start(world)
        inbox = world.ports("gateway").bus.inbox()
        inbox.subscribe(subjects.ops(NAME, "step"))
        store.away = True
        await _publish_fills(world, 1)
        for step in (7, 8):
            done = step_acknowledged("executor", BTC, step)
            await world.ports("executor").bus.publish(subjects.ops("executor", "step"), done)
        following = asyncio.create_task(inbox.take(1))
        await asyncio.sleep(30)
        assert not following.done()
        store.away = False
        deliveries = [*await following, *await inbox.take(1)]
        assert [delivery.decode() for delivery in deliveries] == [step_acknowledged(NAME, BTC, step) for step in (7, 8)]
        assert await _rows(world) == {"fills": 1}

    _run(scenario)


def test_a_store_that_cannot_go_on_stops_it_with_nothing_acknowledged() -> None:
    async def scenario(world: World) -> None:
        store = _failing(world)
        store.broken = True
        await _publish_fills(world, 1)
        with pytest.raises(Fatal, match="the store is broken"):
            await world.start(NAME, Persister)
        store.broken = False
        await _start(world)
        assert await _rows(world) == {"fills": 1}

    _run(scenario)


def test_drained_it_saves_what_is_here_and_ends() -> None:
    async def scenario(world: World) -> None:
        task = world.start(NAME, Persister)
        await asyncio.sleep(0.001)
        await _publish_fills(world, 3)
        await world.ports(NAME).bus.drain()
        await task
        assert await _rows(world) == {"fills": 3}

    _run(scenario)
