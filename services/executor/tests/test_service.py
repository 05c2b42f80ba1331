"""The executor as a whole, on virtual time: what it refuses, what it survives, what it never does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan import ids
from huracan.bus import subjects
from huracan.bus.memory import MemoryBus, MemoryInbox
from huracan.clock import step_close, step_of, step_open
from huracan.contracts import codec
from huracan.contracts.codec import encode
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import (
    AccountState,
    ExecutionReport,
    Fill,
    Order,
    OrderReason,
    OrderState,
    RiskState,
    Side,
)
from huracan.contracts.journal import JournalEntry, RiskStateChanged, journal_entry
from huracan.contracts.market import (
    FLAG_FIRST,
    InstrumentDefinition,
    InstrumentType,
    TickBatch,
    TickColumns,
    TickKind,
    instrument_definition,
    instrument_key,
    tick_batch,
)
from huracan.contracts.ops import DeadLetter, StepAcknowledged
from huracan.errors import Fatal, HuracanError, Recoverable
from huracan.ids import derived_id
from huracan.ports import Bus, Ports, Record, TickLog
from huracan.rng import SeededRng
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.store.memory import MemoryStore
from huracan.ticklog.memory import MemoryLog
from huracan_executor.account import OPEN, AccountFold, definition_key
from huracan_executor.config import ExecutorConfig
from huracan_executor.link import PaperLink, VenueLink
from huracan_executor.risk import OrderRate
from huracan_executor.service import Executor

T = TypeVar("T")

MS = 1_000_000
FIRST_STEP = step_of(1_700_000_000 * 10**9)
DEPTH, SNAPSHOT = int(TickKind.TICK_KIND_DEPTH), int(TickKind.TICK_KIND_SNAPSHOT)
CONFIG = ExecutorConfig()
ACCOUNT_KEY, VENUE_KEY = subjects.account_key("paper"), subjects.venue_key("paper")


def _perpetual(
    base: str,
    *,
    settle: str = "USDT",
    kind: InstrumentType = InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    version: int = 1,
) -> InstrumentDefinition:
    return instrument_definition(
        venue="sim",
        symbol=f"{base.lower()}-usdt-perp",
        venue_symbol=f"{base}USDT",
        type=kind,
        base=base,
        quote="USDT",
        settle=settle,
        price_increment=Decimal("0.10"),
        size_increment=Decimal("0.001"),
        definition_version=version,
    )


BTC, ETH = _perpetual("BTC"), _perpetual("ETH")

Row = tuple[int, int, int, int, int, int]
"""recv_ns, kind, flags, side, price, size."""


class Killed(HuracanError):
    """The process is gone."""


@dataclass
class Tap:
    """Watch one node's appends and acknowledged publishes, and die or fail at chosen ones."""

    log: TickLog
    bus: Bus
    die_at: int = -1
    """Number of the write, counted from 0, at which to die."""
    stored: bool = False
    """Die after it is stored, instead of before."""
    fail: random.Random | None = None
    """Lose some acknowledgements."""
    writes: list[str] = field(default_factory=list)

    async def _through(self, what: str, write: Callable[[], Awaitable[T]]) -> T:
        number = len(self.writes)
        self.writes.append(what)
        if number == self.die_at and not self.stored:
            raise Killed(what)
        if self.fail is not None and self.fail.random() < 0.3:
            if self.fail.random() < 0.5:
                await write()
            raise Recoverable(what)
        done = await write()
        if number == self.die_at:
            raise Killed(what)
        return done

    async def append(self, topic: str, key: str, message: object, *, record_id: bytes) -> int:
        what = f"{key}.{message.WhichOneof('entry')}" if isinstance(message, JournalEntry) else key
        assert isinstance(message, JournalEntry | DeadLetter)
        return await self._through(what, lambda: self.log.append(topic, key, message, record_id=record_id))

    async def read(self, topic: str, key: str, offset: int) -> Sequence[Record]:
        return await self.log.read(topic, key, offset)

    async def last(self, topic: str, key: str) -> Record | None:
        return await self.log.last(topic, key)

    async def wait(self, topic: str, key: str, offset: int) -> None:
        await self.log.wait(topic, key, offset)

    async def publish(self, subject: str, message: object, *, epoch: int = 0) -> None:
        assert isinstance(message, StepAcknowledged)
        await self.bus.publish(subject, message, epoch=epoch)

    async def publish_acknowledged(self, subject: str, message: object, *, message_id: bytes, epoch: int = 0) -> None:
        assert isinstance(message, Message)  # for the type only
        await self._through(
            f"publish.{subject}",
            lambda: self.bus.publish_acknowledged(subject, message, message_id=message_id, epoch=epoch),
        )

    def inbox(self) -> MemoryInbox:
        made = self.bus.inbox()
        assert isinstance(made, MemoryInbox)
        return made

    async def drain(self) -> None:
        await self.bus.drain()


@dataclass(frozen=True)
class Start:
    """How one incarnation of the executor fares."""

    die_at: int = -1
    stored: bool = False
    fail: random.Random | None = None


LINE_IS_GOOD = Start()
LinkFactory = Callable[[Ports], VenueLink]


class Desk:
    """A gateway, an orchestrator and a supervisor around one executor."""

    def __init__(self, clock: VirtualClock, config: ExecutorConfig = CONFIG, link: LinkFactory | None = None) -> None:
        self.clock = clock
        self.config = config
        self.bus = MemoryBus()
        self.log = MemoryLog()
        self.executor: Executor
        self.tap: Tap
        self.counts: Counter[str] = Counter()
        self.starts = 0
        self.fates: Callable[[], Start] | None = None
        """Says how the next incarnation fares; without it, well."""
        self._link = link
        self._task: asyncio.Task[None] | None = None
        self._batches: Counter[str] = Counter()
        self._epoch = 1
        self._steps = self.bus.node("gateway").inbox()
        self._steps.subscribe(subjects.ops("executor", "step"))

    def start(self, fate: Start | None = None) -> None:
        if fate is None:
            fate = self.fates() if self.fates else LINE_IS_GOOD
        self.starts += 1
        self.tap = Tap(self.log.node("executor"), self.bus.node("executor"), fate.die_at, fate.stored, fate.fail)
        ports = Ports(bus=self.tap, log=self.tap, clock=self.clock, store=MemoryStore(), rng=SeededRng(self.starts))
        self.executor = Executor(self.config, ports, self._link(ports) if self._link else None)
        self._task = asyncio.create_task(self.executor.run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        _raise(self._task)
        self.counts += self.executor.counts

    async def ticks(
        self,
        rows: Sequence[Row],
        watermark_ns: int,
        of: InstrumentDefinition = BTC,
        epoch: int | None = None,
        *,
        ahead: bool = False,
    ) -> None:
        """Append a batch, once the time of its watermark has come, or ahead of it."""
        if not ahead:
            await self.clock.sleep_until(watermark_ns)
        key = instrument_key(of.id)
        self._batches[key] += 1
        number = self._batches[key]
        batch = _batch(rows, watermark_ns, number, of, epoch or self._epoch)
        record_id = derived_id("ticks", key, number)
        await self.log.node("gateway").append(subjects.TICKS_TOPIC, key, batch, record_id=record_id)

    async def decide(self, decision: Decision) -> None:
        subject = subjects.decision(decision.strategy, decision.shard, decision.instrument)
        bus = self.bus.node("orchestrator")
        await bus.publish_acknowledged(subject, decision, message_id=decision.decision_id, epoch=decision.epoch)

    async def acknowledged(self, step: int, of: InstrumentDefinition = BTC) -> None:
        """Wait for a step's acknowledgement; start the executor anew whenever it has died."""
        while True:
            heard = asyncio.ensure_future(anext(self._steps))
            assert self._task is not None
            await asyncio.wait([heard, self._task], return_when=asyncio.FIRST_COMPLETED)
            if heard.done():
                message = heard.result().decode()
                assert isinstance(message, StepAcknowledged)
                if (message.step, message.instrument) == (step, of.id):
                    return
                continue
            heard.cancel()
            self._bury()

    def _bury(self) -> None:
        assert self._task is not None
        try:
            _raise(self._task)
        except Killed:
            self.counts += self.executor.counts
            self.start()

    async def settle(self, until_ns: int) -> None:
        """Let time pass, with an executor that lives."""
        await self.clock.sleep_until(until_ns)
        if self._task is not None and self._task.done():
            self._bury()
            await self.clock.sleep_until(until_ns + 1)

    async def journal(self, key: str = ACCOUNT_KEY) -> list[JournalEntry]:
        records = await self.log.node("reader").read(subjects.JOURNAL_TOPIC, key, 0)
        entries = [record.message for record in records]
        return [entry for entry in entries if isinstance(entry, JournalEntry)]

    def published(self, kind: type[T]) -> list[T]:
        """Return the distinct messages of a kind on the acknowledged path."""
        found = [codec.decode(stored.schema, stored.data) for stored in self.bus.stream]
        return [message for message in found if isinstance(message, kind)]


def _raise(task: asyncio.Task[None]) -> None:
    if task.cancelled() or not task.done():
        return
    error = task.exception()
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if error is not None:
        raise error


def _batch(rows: Sequence[Row], watermark_ns: int, number: int, of: InstrumentDefinition, epoch: int) -> TickBatch:
    columns = TickColumns()
    for index, (recv_ns, kind, flags, side, price, size) in enumerate(rows):
        columns.ingest_seq.append(index)
        columns.event_ns.append(recv_ns)
        columns.recv_ns.append(recv_ns)
        columns.venue_seq.append(index)
        columns.kind.append(kind)
        columns.flags.append(flags)
        columns.side.append(side)
        columns.price.append(price)
        columns.size.append(size)
    return tick_batch(instrument=of, epoch=epoch, batch=number, columns=columns, watermark_ns=watermark_ns)


def _book(recv_ns: int, mid: int, size: int = 1_000) -> list[Row]:
    """Return a snapshot with two levels a side around a mid."""
    return [
        (recv_ns, SNAPSHOT, FLAG_FIRST, 1, mid - 1, size),
        (recv_ns, SNAPSHOT, 0, 1, mid - 2, size),
        (recv_ns, SNAPSHOT, 0, -1, mid + 1, size),
        (recv_ns, SNAPSHOT, 0, -1, mid + 2, size),
    ]


def _decision(
    step: int,
    size: int,
    *,
    of: InstrumentDefinition = BTC,
    epoch: int = 1,
    direction: Direction | None = None,
    abstained: bool = False,
) -> Decision:
    acting = Direction.DIRECTION_BUY if size >= 0 else Direction.DIRECTION_SELL
    return Decision(
        decision_id=ids.decision_id("core", instrument_key(of.id), epoch, step),
        strategy="core",
        instrument=of.id,
        shard=of.shard,
        epoch=epoch,
        step=step,
        close_ns=step_close(step),
        direction=acting if direction is None else direction,
        size=size,
        abstained=abstained,
        valid_until_ns=step_close(step) + 500 * MS,
        size_increment=of.size_increment,
    )


def _run(
    scenario: Callable[[Desk], Awaitable[None]],
    config: ExecutorConfig = CONFIG,
    link: LinkFactory | None = None,
    fate: Start = LINE_IS_GOOD,
) -> Desk:
    async def main(clock: VirtualClock) -> Desk:
        desk = Desk(clock, config, link)
        desk.start(fate)
        await scenario(desk)
        await desk.stop()
        return desk

    return run_virtual(main, start_ns=step_open(FIRST_STEP))


async def _step(desk: Desk, step: int, size: int, rows: Sequence[Row] | None = None) -> None:
    """One step in lockstep: ticks, decision, acknowledgement."""
    await desk.ticks(_book(step_close(step) - 5 * MS, 500_000) if rows is None else rows, step_close(step))
    await desk.decide(_decision(step, size))
    await desk.acknowledged(step)


async def _more_ticks(desk: Desk, after: int, steps: int = 10, mid: int = 500_000) -> None:
    for step in range(after + 1, after + 1 + steps):
        await desk.ticks(_book(step_close(step) - 5 * MS, mid), step_close(step))
    await desk.settle(step_close(after + steps) + 1)


def _states(desk: Desk) -> list[str]:
    orders = desk.executor.account.orders()
    return [OrderState.Name(order.state).removeprefix("ORDER_STATE_") for order in orders]


def _denied(desk: Desk) -> list[str]:
    orders = desk.executor.account.orders()
    return [OrderReason.Name(order.reason).removeprefix("ORDER_REASON_") for order in orders if order.reason]


def _position(desk: Desk, of: InstrumentDefinition = BTC) -> int:
    return desk.executor.account.exposure(instrument_key(of.id)).position


# One order from decision to fill.


def test_a_decision_becomes_an_order_a_fill_and_an_account() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        assert desk.executor.account.exposure("sim.btc-usdt-perp").open_buys == 10
        await _step(desk, FIRST_STEP + 1, 10)

    desk = _run(scenario)
    first, second = desk.published(Order)
    assert (first.state, first.revision, first.limit_price) == (OrderState.ORDER_STATE_PENDING, 1, 500_003)
    assert (second.state, second.revision, second.filled_quantity) == (OrderState.ORDER_STATE_FILLED, 2, 10)
    (fill,) = desk.published(Fill)
    close_ns = step_close(FIRST_STEP)
    assert (fill.price, fill.matched_ns, fill.received_ns) == (500_001, close_ns + 10 * MS, close_ns + 20 * MS)
    assert fill.fee == "0.2500005"
    state = desk.published(AccountState)[0]
    assert state.cash == "99499.7489995"
    assert [position.quantity for position in state.positions] == [10]
    assert _position(desk) == 10
    assert desk.executor.counts["decision.on_target"] == 1


def test_the_journals_hold_each_order_before_it_leaves_and_each_report_before_it_counts() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        await _step(desk, FIRST_STEP + 1, 10)

    desk = _run(scenario)
    kinds = [write.removeprefix("publish.") for write in desk.tap.writes if "ops" not in write]
    assert kinds == [
        "account.paper.epoch_started",
        "account.paper.epoch_started",  # the copy of the shard's
        "account.paper.order",
        "venue.paper.order",
        "exec.v1.paper.order.sim.btc-usdt-perp",
        "account.paper.published",
        "venue.paper.execution_report",
        "account.paper.execution_report",
        "exec.v1.paper.order.sim.btc-usdt-perp",
        "exec.v1.paper.fill.sim.btc-usdt-perp",
        "exec.v1.paper.quality.sim.btc-usdt-perp",
        "account.paper.published",
        "account.paper.risk_state_changed",  # the first mark at mid prices
        "exec.v1.paper.quality.sim.btc-usdt-perp",
        "account.paper.published",
    ]


@pytest.mark.parametrize(
    ("decision", "count"),
    [
        (_decision(FIRST_STEP, 0, direction=Direction.DIRECTION_HOLD), "decision.hold"),
        (_decision(FIRST_STEP, 0, abstained=True, direction=Direction.DIRECTION_HOLD), "decision.abstained"),
        (_decision(FIRST_STEP, 0), "decision.on_target"),
    ],
    ids=["hold", "abstained", "on_target"],
)
def test_what_needs_no_order_is_acknowledged_all_the_same(decision: Decision, count: str) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.ticks(_book(step_close(FIRST_STEP) - 1, 500_000), step_close(FIRST_STEP))
        await desk.decide(decision)
        await desk.acknowledged(FIRST_STEP)

    desk = _run(scenario)
    assert desk.executor.counts[count] == 1
    assert desk.published(Order) == []


def test_an_order_ends_by_ticks_alone() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        await _more_ticks(desk, FIRST_STEP, 1)

    assert _states(_run(scenario)) == ["FILLED"]


def test_a_report_is_heard_no_sooner_than_it_comes_back() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        for after_ms, states in ((10, ["PENDING"]), (19, ["PENDING"]), (20, ["FILLED"])):
            await desk.ticks([], step_close(FIRST_STEP) + after_ms * MS)
            await desk.settle(step_close(FIRST_STEP) + after_ms * MS + 1)
            assert _states(desk) == states
            assert len(await desk.journal(VENUE_KEY)) == 1 + (after_ms > 10)

    _run(scenario)


def test_a_batch_that_comes_again_is_skipped() -> None:
    async def scenario(desk: Desk) -> None:
        rows = _book(step_close(FIRST_STEP) - 5 * MS, 500_000)
        await desk.ticks(rows, step_close(FIRST_STEP))
        again = _batch(_book(step_close(FIRST_STEP) - 5 * MS, 900_000), step_close(FIRST_STEP), 1, BTC, 1)
        gateway = desk.log.node("gateway")
        await gateway.append(subjects.TICKS_TOPIC, instrument_key(BTC.id), again, record_id=b"again")
        await desk.decide(_decision(FIRST_STEP, 10))
        await desk.acknowledged(FIRST_STEP)
        await desk.settle(step_close(FIRST_STEP) + 1)

    desk = _run(scenario)
    assert desk.executor.account.orders()[0].limit_price == 500_003
    assert desk.executor.counts["ticks.repeated"] == 1


def test_a_missing_batch_is_counted() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 0)
        desk._batches["sim.btc-usdt-perp"] += 1
        await _step(desk, FIRST_STEP + 1, 0)

    assert _run(scenario).executor.counts["ticks.gap"] == 1


def test_a_decision_waits_for_the_ticks_of_its_step() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.decide(_decision(FIRST_STEP, 10))
        await desk.ticks(_book(step_close(FIRST_STEP) - 5 * MS, 500_000), step_close(FIRST_STEP))
        await desk.acknowledged(FIRST_STEP)

    assert _states(_run(scenario)) == ["PENDING"]


# What is refused.


def test_the_same_decision_twice_makes_one_order() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        again = subjects.decision("core", BTC.shard, BTC.id)
        for message_id in (b"1", b"2"):
            bus = desk.bus.node("orchestrator")
            await bus.publish_acknowledged(again, _decision(FIRST_STEP, 10), message_id=message_id)
            await desk.acknowledged(FIRST_STEP)

    desk = _run(scenario)
    assert desk.executor.counts["refused.duplicate"] == 2
    assert len(desk.executor.account.orders()) == 1


def test_a_decision_that_was_denied_is_not_tried_again_after_a_restart() -> None:
    config = ExecutorConfig(max_order_notional=Decimal(100))

    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        await desk.stop()
        desk.start()
        bus, subject = desk.bus.node("orchestrator"), subjects.decision("core", BTC.shard, BTC.id)
        await bus.publish_acknowledged(subject, _decision(FIRST_STEP, 10), message_id=b"again")
        await desk.acknowledged(FIRST_STEP)

    desk = _run(scenario, config)
    assert desk.executor.counts["refused.duplicate"] == 1
    assert _states(desk) == ["DENIED"]


def test_a_hold_twice_is_a_duplicate_too() -> None:
    async def scenario(desk: Desk) -> None:
        held = _decision(FIRST_STEP, 0, direction=Direction.DIRECTION_HOLD)
        await desk.ticks(_book(step_close(FIRST_STEP) - 1, 500_000), step_close(FIRST_STEP))
        for message_id in (b"1", b"2"):
            bus, subject = desk.bus.node("orchestrator"), subjects.decision("core", BTC.shard, BTC.id)
            await bus.publish_acknowledged(subject, held, message_id=message_id)
            await desk.acknowledged(FIRST_STEP)

    assert _run(scenario).executor.counts["refused.duplicate"] == 1


def test_an_older_epoch_of_a_shard_is_refused_even_after_a_restart() -> None:
    async def scenario(desk: Desk) -> None:
        for step, epoch in ((FIRST_STEP, 2), (FIRST_STEP + 1, 1)):
            await desk.ticks(_book(step_close(step) - 5 * MS, 500_000), step_close(step))
            await desk.decide(_decision(step, 10 * epoch, epoch=epoch))
            if epoch == 2:
                await desk.acknowledged(step)
                await desk.stop()
                desk.start()
        await desk.settle(step_close(FIRST_STEP + 1) + MS)
        assert desk.executor.counts["refused.old_epoch"] == 1
        assert not desk._steps._queue  # not acknowledged: the step is the newer epoch's

    assert len(_run(scenario).executor.account.orders()) == 1


def test_a_decision_overtaken_by_a_newer_one_is_refused() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP + 1, 10)
        await desk.decide(_decision(FIRST_STEP, -10))
        await desk.acknowledged(FIRST_STEP)

    desk = _run(scenario)
    assert desk.executor.counts["refused.superseded"] == 1
    assert len(desk.executor.account.orders()) == 1


@pytest.mark.parametrize(
    ("definition", "named", "count"),
    [
        (_perpetual("BTC", kind=InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL), BTC, "refused.unsupported"),
        (_perpetual("BTC", settle="USDC"), BTC, "refused.unsupported"),
        (_perpetual("BTC", version=2), BTC, "refused.definition_version"),
    ],
    ids=["inverse", "other settlement", "other version"],
)
def test_an_instrument_that_cannot_be_booked_is_not_traded(
    definition: InstrumentDefinition, named: InstrumentDefinition, count: str
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.ticks(_book(step_close(FIRST_STEP) - 1, 500_000), step_close(FIRST_STEP), of=definition)
        await desk.decide(_decision(FIRST_STEP, 10, of=named))
        await desk.acknowledged(FIRST_STEP)

    desk = _run(scenario)
    assert desk.executor.counts[count] == 1
    assert desk.executor.account.orders() == []


def test_a_decision_without_ticks_is_given_up_when_it_expires() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.decide(_decision(FIRST_STEP, 10))
        await desk.acknowledged(FIRST_STEP)
        assert desk.clock.now_ns() > step_close(FIRST_STEP) + 500 * MS

    assert _run(scenario).executor.counts["refused.no_market"] == 1


def test_a_late_decision_is_denied_only_if_it_would_have_made_an_order() -> None:
    async def scenario(desk: Desk) -> None:
        late_ns = step_close(FIRST_STEP) + 500 * MS + 1
        await desk.ticks(_book(late_ns - 1, 500_000), late_ns)
        await desk.decide(_decision(FIRST_STEP, 10))
        await desk.acknowledged(FIRST_STEP)
        held = _decision(FIRST_STEP + 1, 0, direction=Direction.DIRECTION_HOLD)
        await desk.ticks([], step_close(FIRST_STEP + 9))
        await desk.decide(held)
        await desk.acknowledged(FIRST_STEP + 1)

    desk = _run(scenario)
    assert _denied(desk) == ["LATE"]
    assert (desk.executor.counts["denied.late"], desk.executor.counts["decision.hold"]) == (1, 1)


def test_poison_goes_to_the_dead_letters_and_the_next_decision_is_served() -> None:
    async def scenario(desk: Desk) -> None:
        bus, subject = desk.bus.node("orchestrator"), subjects.decision("core", BTC.shard, BTC.id)
        wrong = [
            RiskStateChanged(equity="1"),
            Decision(),
            _decision(FIRST_STEP, -1, direction=Direction.DIRECTION_BUY),
            _decision(FIRST_STEP, 1, direction=Direction.DIRECTION_SELL),
            _decision(FIRST_STEP, 1, direction=Direction.DIRECTION_UNSPECIFIED),
        ]
        for number, message in enumerate(wrong):
            await bus.publish_acknowledged(subject, message, message_id=bytes([number]))
        await _step(desk, FIRST_STEP, 10)
        topic = subjects.dead_letters(subjects.JOURNAL_TOPIC)
        letters = [record.message for record in await desk.log.node("x").read(topic, "executor", 0)]
        assert [letter.reason for letter in letters if isinstance(letter, DeadLetter)] == ["wrong_schema"] + [
            "malformed"
        ] * 4

    desk = _run(scenario)
    assert (desk.executor.counts["poison.wrong_schema"], desk.executor.counts["poison.malformed"]) == (1, 4)
    assert _states(desk) == ["PENDING"]


def test_limits_deny_before_anything_leaves() -> None:
    config = ExecutorConfig(max_order_notional=Decimal(100))

    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)

    desk = _run(scenario, config)
    (order,) = desk.published(Order)
    assert (order.state, order.reason) == (
        OrderState.ORDER_STATE_DENIED,
        OrderReason.ORDER_REASON_MAX_ORDER_NOTIONAL,
    )
    assert "venue.paper.order" not in desk.tap.writes


def test_a_stale_book_and_an_empty_one_are_not_traded_on() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 0)
        await _step(desk, FIRST_STEP + 5, 10, rows=[])
        lost: Row = (step_close(FIRST_STEP + 6) - 1, SNAPSHOT, FLAG_FIRST, 1, 0, 0)
        await _step(desk, FIRST_STEP + 6, 10, rows=[lost])

    assert _denied(_run(scenario)) == ["STALE_MARKET", "NO_LIQUIDITY"]


def test_a_new_gateway_epoch_does_not_trade_on_the_old_book() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 0)
        await desk.ticks([], step_close(FIRST_STEP + 1), epoch=2)
        await desk.decide(_decision(FIRST_STEP + 1, 10))
        await desk.acknowledged(FIRST_STEP + 1)

    assert _denied(_run(scenario)) == ["STALE_MARKET"]


# Drawdown.


def test_losses_reduce_then_halt_and_a_restart_stays_halted() -> None:
    config = ExecutorConfig(equity=Decimal(10_000), max_gross_notional=Decimal(10**6))

    async def at(desk: Desk, step: int, mid: int, size: int) -> RiskState:
        await _step(desk, step, size, rows=_book(step_close(step) - 5 * MS, mid))
        return desk.executor.account.state().risk_state

    async def scenario(desk: Desk) -> None:
        first = FIRST_STEP
        assert await at(desk, first, 500_000, 100) == RiskState.RISK_STATE_ACTIVE
        assert await at(desk, first + 1, 500_000, 100) == RiskState.RISK_STATE_ACTIVE
        assert await at(desk, first + 2, 478_000, 90) == RiskState.RISK_STATE_REDUCING  # 0.1 x 2,200 lost
        assert await at(desk, first + 3, 479_000, 95) == RiskState.RISK_STATE_REDUCING  # may not grow
        assert await at(desk, first + 4, 499_000, 90) == RiskState.RISK_STATE_ACTIVE  # recovered
        assert await at(desk, first + 5, 430_000, 90) == RiskState.RISK_STATE_HALTED
        assert await at(desk, first + 6, 500_000, 0) == RiskState.RISK_STATE_HALTED
        await desk.stop()
        desk.start()
        assert await at(desk, first + 7, 500_000, 0) == RiskState.RISK_STATE_HALTED

    desk = _run(scenario, config)
    assert _position(desk) == 90
    assert _denied(desk) == ["REDUCING", "HALTED", "HALTED"]
    assert desk.counts["risk.halted"] == 1


def test_a_reset_is_a_journal_entry_and_is_read_at_the_next_start() -> None:
    config = ExecutorConfig(equity=Decimal(10_000))

    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 100)
        await _step(desk, FIRST_STEP + 1, 100, rows=_book(step_close(FIRST_STEP + 1) - MS, 400_000))
        await _step(desk, FIRST_STEP + 2, 100, rows=_book(step_close(FIRST_STEP + 2) - MS, 430_000))
        await _step(desk, FIRST_STEP + 3, 0)
        await desk.stop()
        account = desk.executor.account
        reset = RiskStateChanged(state=RiskState.RISK_STATE_ACTIVE, equity="9990", peak_equity="9990")
        entry = journal_entry(ACCOUNT_KEY, reset, epoch=account.epoch, at_ns=desk.clock.now_ns())
        await desk.log.node("operator").append(subjects.JOURNAL_TOPIC, ACCOUNT_KEY, entry, record_id=b"reset")
        desk.start()
        await _step(desk, FIRST_STEP + 4, 0)
        await _more_ticks(desk, FIRST_STEP + 4, 1)

    desk = _run(scenario, config)
    assert _denied(desk) == ["HALTED"]
    assert _position(desk) == 0


# Two instruments.


def test_instruments_share_the_gross_limit() -> None:
    config = ExecutorConfig(max_gross_notional=Decimal(5_500))

    async def scenario(desk: Desk) -> None:
        for of, mid in ((BTC, 500_000), (ETH, 20_000)):
            await desk.ticks(_book(step_close(FIRST_STEP) - MS, mid), step_close(FIRST_STEP), of=of)
        await desk.decide(_decision(FIRST_STEP, 100))
        await desk.acknowledged(FIRST_STEP)
        await desk.decide(_decision(FIRST_STEP, 300, of=ETH))
        await desk.acknowledged(FIRST_STEP, ETH)
        for of, mid in ((BTC, 500_000), (ETH, 20_000)):
            close_ns = step_close(FIRST_STEP + 1)
            await desk.ticks(_book(close_ns - MS, mid), close_ns, of=of)
        await desk.decide(_decision(FIRST_STEP + 1, 200, of=ETH))
        await desk.acknowledged(FIRST_STEP + 1, ETH)
        await desk.ticks([], step_close(FIRST_STEP + 2), of=ETH)
        await desk.settle(step_close(FIRST_STEP + 2) + 1)

    desk = _run(scenario, config)
    assert _denied(desk) == ["MAX_GROSS_NOTIONAL"]
    assert (_position(desk), _position(desk, ETH)) == (100, 200)


def test_a_silent_instrument_does_not_hold_up_another() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.decide(_decision(FIRST_STEP, 10, of=ETH))
        await _step(desk, FIRST_STEP, 10)
        assert desk.clock.now_ns() == step_close(FIRST_STEP)

    assert _states(_run(scenario)) == ["PENDING"]


def test_a_definition_that_changes_under_a_position_stops_the_executor() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        await _more_ticks(desk, FIRST_STEP, 1)
        await desk.ticks([], step_close(FIRST_STEP + 2), of=_perpetual("BTC", version=2))
        await desk.settle(step_close(FIRST_STEP + 3))

    with pytest.raises(Fatal, match="flatten it first"):
        _run(scenario)


# Killed at every write.


def _targets(seed: int, steps: int) -> list[tuple[int, int, int]]:
    """Return a seeded walk: mid, size at each level, target, for each step."""
    rng, mid, walk = random.Random(seed), 500_000, []
    for _ in range(steps):
        mid += rng.randrange(-40, 41)
        walk.append((mid, rng.choice([1, 3, 20, 1_000]), rng.choice([-90, -30, -1, 0, 0, 5, 40, 100])))
    return walk


def _walk(seed: int, steps: int) -> Callable[[Desk], Awaitable[None]]:
    async def scenario(desk: Desk) -> None:
        last = FIRST_STEP
        for step, (mid, size, target) in enumerate(_targets(seed, steps), FIRST_STEP):
            close_ns = step_close(step)
            rows = _book(close_ns - 95 * MS, mid - 3, size) + _book(close_ns - 60 * MS, mid, size)
            await desk.ticks(rows[: len(rows) // 2], close_ns - 70 * MS)
            await desk.ticks(rows[len(rows) // 2 :], close_ns)
            await desk.decide(_decision(step, target))
            await desk.acknowledged(step)
            last = step
        await _more_ticks(desk, last)

    return scenario


def _outcome(desk: Desk) -> object:
    """Return all that must not depend on when the process died; epochs tell how often it did."""
    account = desk.executor.account
    orders = []
    for order in account.orders():
        copied = Order()
        copied.CopyFrom(order)
        copied.epoch = 1
        orders.append(copied)
    fills = sorted(encode(fill) for fill in account.fills())
    return orders, fills, _position(desk), account.cash, account.fees, account.standing


def _check_ledgers(desk: Desk, venue: list[JournalEntry]) -> None:
    """The account is what the venue says: nothing lost, nothing doubled, all of it published."""
    account = desk.executor.account
    reports = [entry.execution_report for entry in venue if entry.HasField("execution_report")]
    accepted = [entry.order.client_order_id for entry in venue if entry.HasField("order")]
    assert len(set(accepted)) == len(accepted)
    theirs = {fill.fill_id: encode(fill) for report in reports for fill in report.fills}
    assert {fill.fill_id: encode(fill) for fill in account.fills()} == theirs
    assert not account.open_orders()
    signed = sum(fill.quantity if fill.side == Side.SIDE_BUY else -fill.quantity for fill in account.fills())
    assert _position(desk) == signed
    published = desk.published(Fill)
    assert sorted(fill.fill_id for fill in published) == sorted(theirs)
    revisions = [(order.order_id, order.revision) for order in desk.published(Order)]
    assert len(set(revisions)) == len(revisions)
    wanted = {(order.order_id, number) for order in account.orders() for number in range(1, order.revision + 1)}
    assert set(revisions) == wanted


def _walked(seed: int, steps: int, fate: Start = LINE_IS_GOOD) -> tuple[Desk, list[JournalEntry]]:
    venue: list[JournalEntry] = []

    async def scenario(desk: Desk) -> None:
        await _walk(seed, steps)(desk)
        venue.extend(await desk.journal(VENUE_KEY))

    return _run(scenario, fate=fate), venue


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_write_it_ends_as_if_nothing_had_happened(seed: int) -> None:
    """Every prefix of the journals is a start; only an order that never left is given up, and never sent again."""
    whole, venue = _walked(seed, 8)
    _check_ledgers(whole, venue)
    assert {"FILLED", "CANCELED"} <= set(_states(whole))
    wanted, writes = _outcome(whole), whole.tap.writes
    given_up = 0
    for number, what in enumerate(writes):
        for stored in (False, True):
            desk, record = _walked(seed, 8, Start(number, stored))
            _check_ledgers(desk, record)
            assert desk.starts == 2, (number, what)
            between = (what, stored) in (("account.paper.order", True), ("venue.paper.order", False))
            if between and _outcome(desk) != wanted:
                ends = Counter(order.reason for order in desk.executor.account.orders())
                assert ends[OrderReason.ORDER_REASON_NEVER_ARRIVED] == 1
                given_up += 1
            else:
                assert _outcome(desk) == wanted, (number, what, stored)
    assert given_up == 2 * sum(what == "venue.paper.order" for what in writes)


def test_killed_again_and_again_nothing_is_lost_or_doubled() -> None:
    for seed in range(12):
        rng = random.Random(seed)

        async def scenario(desk: Desk, rng: random.Random = rng, seed: int = seed) -> None:
            desk.fates = lambda: Start(rng.randrange(2, 25) if desk.starts < 15 else -1, rng.random() < 0.5)
            await _walk(seed, 10)(desk)
            await _more_ticks(desk, FIRST_STEP + 20, 20)
            _check_ledgers(desk, await desk.journal(VENUE_KEY))
            assert desk.starts > 3

        _run(scenario, fate=Start(die_at=3))


@pytest.mark.parametrize("seed", range(5))
def test_lost_acknowledgements_change_nothing_but_the_time(seed: int) -> None:
    desk, venue = _walked(seed, 10, Start(fail=random.Random(seed)))
    _check_ledgers(desk, venue)
    journal = [write for write in desk.tap.writes if write == "account.paper.published"]
    assert journal


def _journals(scenario: Callable[[Desk], Awaitable[None]]) -> list[list[bytes]]:
    into: list[list[bytes]] = []

    async def watched(desk: Desk) -> None:
        await scenario(desk)
        for key in (ACCOUNT_KEY, VENUE_KEY):
            into.append([encode(entry) for entry in await desk.journal(key)])  # noqa: PERF401 - awaits

    _run(watched)
    return into


def test_the_same_log_and_decisions_give_the_same_journals() -> None:
    assert _journals(_walk(7, 12)) == _journals(_walk(7, 12))


def test_ticks_that_lie_in_the_log_before_their_time_change_nothing() -> None:
    async def ahead(desk: Desk) -> None:
        walk = list(enumerate(_targets(5, 10), FIRST_STEP))
        for step, (mid, size, _) in walk:
            await desk.ticks(_book(step_close(step) - 60 * MS, mid, size), step_close(step), ahead=True)
        for step, (_, _, target) in walk:
            await desk.clock.sleep_until(step_close(step))
            await desk.decide(_decision(step, target))
            await desk.acknowledged(step)

    async def in_time(desk: Desk) -> None:
        for step, (mid, size, target) in enumerate(_targets(5, 10), FIRST_STEP):
            await desk.ticks(_book(step_close(step) - 60 * MS, mid, size), step_close(step))
            await desk.decide(_decision(step, target))
            await desk.acknowledged(step)

    assert _outcome(_run(ahead)) == _outcome(_run(in_time))


def test_folding_the_journal_of_a_run_gives_its_account_byte_for_byte() -> None:
    entries: list[JournalEntry] = []

    async def scenario(desk: Desk) -> None:
        await _walk(3, 10)(desk)
        entries.extend(await desk.journal())

    account = _run(scenario).executor.account
    again = AccountFold("paper", {definition_key(BTC.id): BTC}, OrderRate.of(CONFIG))
    for entry in entries:
        again.apply(entry)
    assert encode(again.state()) == encode(account.state())
    assert again.orders() == account.orders()
    assert again.rate == account.rate


# A venue behind a bad line.


class BadLine:
    """Lose, double and delay what passes between the executor and its venue."""

    def __init__(self, inner: VenueLink, rng: random.Random) -> None:
        self.inner = inner
        self._rng = rng
        self._submissions: list[tuple[int, Order, int]] = []
        self._reports: list[tuple[int, ExecutionReport]] = []
        self._batches = 0

    async def recover(self) -> None:
        await self.inner.recover()

    async def advance(self, batch: TickBatch) -> None:
        self._batches += 1
        due = [entry for entry in self._submissions if entry[0] <= self._batches]
        self._submissions = [entry for entry in self._submissions if entry[0] > self._batches]
        for _, order, sent_ns in due:
            await self.inner.submit(order, sent_ns)
        await self.inner.advance(batch)
        for report in self.inner.take_reports():
            late = [self._rng.choice([0, 0, 1, 3, 12]) for _ in range(self._rng.choice([0, 1, 1, 2]))]
            self._reports += [(self._batches + batches, report) for batches in late]

    async def submit(self, order: Order, sent_ns: int) -> None:
        for _ in range(self._rng.choice([0, 1, 1, 2])):
            self._submissions.append((self._batches + self._rng.choice([0, 1, 4, 14]), order, sent_ns))
        now = [entry for entry in self._submissions if entry[0] <= self._batches]
        self._submissions = [entry for entry in self._submissions if entry[0] > self._batches]
        for _, each, at_ns in now:
            await self.inner.submit(each, at_ns)
        if self._rng.random() < 0.3:
            raise Recoverable("no answer")

    async def query(self, client_order_id: str) -> ExecutionReport | None:
        if self._rng.random() < 0.3:
            raise Recoverable("no answer")
        return await self.inner.query(client_order_id)

    def take_reports(self) -> list[ExecutionReport]:
        due = [report for at, report in self._reports if at <= self._batches]
        self._reports = [entry for entry in self._reports if entry[0] > self._batches]
        return due


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_behind_a_bad_line_every_order_ends_and_every_fill_is_booked_once(seed: int) -> None:
    def bad(ports: Ports) -> VenueLink:
        return BadLine(PaperLink(CONFIG.venue, ports, account="paper"), random.Random(seed))

    async def scenario(desk: Desk) -> None:
        await _walk(seed, 10)(desk)
        await _more_ticks(desk, FIRST_STEP + 20, 40)
        _check_ledgers(desk, await desk.journal(VENUE_KEY))

    desk = _run(scenario, link=bad)
    assert not {order.state for order in desk.executor.account.orders()} & OPEN
    assert desk.executor.counts["report.illegal"] == 0


class Liar(BadLine):
    """Report more than was ordered."""

    def take_reports(self) -> list[ExecutionReport]:
        reports = self.inner.take_reports()
        for report in reports:
            for fill in report.fills:
                fill.quantity += 1
        return reports

    async def advance(self, batch: TickBatch) -> None:
        await self.inner.advance(batch)

    async def submit(self, order: Order, sent_ns: int) -> None:
        await self.inner.submit(order, sent_ns)


def test_an_impossible_report_halts_the_account_and_is_not_booked() -> None:
    def liar(ports: Ports) -> VenueLink:
        return Liar(PaperLink(CONFIG.venue, ports, account="paper"), random.Random(0))

    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        await _step(desk, FIRST_STEP + 1, 20)

    desk = _run(scenario, link=liar)
    assert desk.executor.counts["report.illegal"] == 1
    assert desk.executor.account.state().risk_state == RiskState.RISK_STATE_HALTED
    assert _denied(desk) == ["HALTED"]
    assert _position(desk) == 0


def test_an_order_that_never_arrived_expires_and_is_not_sent_again() -> None:
    class Cut(Liar):
        async def submit(self, order: Order, sent_ns: int) -> None:
            raise Recoverable("cut")

    def cut(ports: Ports) -> VenueLink:
        return Cut(PaperLink(CONFIG.venue, ports, account="paper"), random.Random(2))

    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        await _more_ticks(desk, FIRST_STEP, 6)
        assert _states(desk) == ["PENDING"]  # 600 ms: the venue might still take it
        await _more_ticks(desk, FIRST_STEP + 6, 4)
        assert await desk.journal(VENUE_KEY) == []

    desk = _run(scenario, link=cut)
    assert _states(desk) == ["EXPIRED"]
    assert _denied(desk) == ["NEVER_ARRIVED"]
    assert desk.executor.counts["submit.unknown"] == 1


def test_after_a_kill_an_order_that_may_still_arrive_stays_open() -> None:
    async def scenario(desk: Desk) -> None:
        await _step(desk, FIRST_STEP, 10)
        assert desk.starts == 2
        assert _states(desk) == ["PENDING"]
        await _more_ticks(desk, FIRST_STEP, 10)

    writes = ("epoch_started", "epoch_started", "service", "order", "venue")
    desk = _run(scenario, fate=Start(die_at=len(writes) - 1))
    assert desk.executor.account.orders()[0].reason == OrderReason.ORDER_REASON_NEVER_ARRIVED
    assert desk.executor.counts["submitted"] == 0
