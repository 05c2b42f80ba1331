"""A gateway, an orchestrator and a supervisor around one executor, on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import Message

from huracan import ids
from huracan.bus import subjects
from huracan.bus.memory import MemoryBus, MemoryInbox
from huracan.clock import step_close, step_of, step_open
from huracan.contracts import codec
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import OrderReason, OrderState
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.contracts.ops import DeadLetter, StepAcknowledged
from huracan.errors import HuracanError, Recoverable
from huracan.ids import derived_id
from huracan.ports import Bus, Ports, Record, TickLog
from huracan.rng import SeededRng
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.store.memory import MemoryStore
from huracan.ticklog.memory import MemoryLog
from huracan_executor.config import ExecutorConfig
from huracan_executor.link import VenueLink
from huracan_executor.service import Executor

from .market import BTC, MS, Row, batch_of, book_around

T = TypeVar("T")
FIRST_STEP = step_of(1_700_000_000 * 10**9)
CONFIG = ExecutorConfig()
ACCOUNT_KEY, VENUE_KEY = subjects.account_key("paper"), subjects.venue_key("paper")


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

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[int]:
        return [await self.append(topic, key, message, record_id=record_id) for message, record_id in records]

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]:
        return await self.log.read(topic, key, offset, limit=limit)

    async def keys(self, topic: str) -> Sequence[str]:
        return await self.log.keys(topic)

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
        batch = batch_of(rows, watermark_ns, number, of, epoch or self._epoch)
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


def decision_at(
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


def run_desk(
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


async def lockstep(desk: Desk, step: int, size: int, rows: Sequence[Row] | None = None) -> None:
    """One step in lockstep: ticks, decision, acknowledgement."""
    await desk.ticks(book_around(step_close(step) - 5 * MS, 500_000) if rows is None else rows, step_close(step))
    await desk.decide(decision_at(step, size))
    await desk.acknowledged(step)


async def more_ticks(desk: Desk, after: int, steps: int = 10, mid: int = 500_000) -> None:
    for step in range(after + 1, after + 1 + steps):
        await desk.ticks(book_around(step_close(step) - 5 * MS, mid), step_close(step))
    await desk.settle(step_close(after + steps) + 1)


def states_of(desk: Desk) -> list[str]:
    orders = desk.executor.account.orders()
    return [OrderState.Name(order.state).removeprefix("ORDER_STATE_") for order in orders]


def denials_of(desk: Desk) -> list[str]:
    orders = desk.executor.account.orders()
    return [OrderReason.Name(order.reason).removeprefix("ORDER_REASON_") for order in orders if order.reason]


def position_of(desk: Desk, of: InstrumentDefinition = BTC) -> int:
    return desk.executor.account.exposure(instrument_key(of.id)).position
