"""The executor of one account: decisions to risk-checked orders, reports to fills, all written ahead."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from decimal import Decimal

import structlog

from huracan.bus import subjects
from huracan.clock import MILLISECOND_NS
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import ExecutionReport, Order, OrderReason, OrderState, RiskState
from huracan.contracts.execution import order as first_revision
from huracan.contracts.journal import EpochStarted, JournalEntry, Payload, RiskStateChanged
from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, InstrumentId, TickBatch, instrument_key
from huracan.errors import Fatal, PoisonMessage, Recoverable
from huracan.ids import order_id
from huracan.ports import Delivery, Ports
from huracan.service.announce import acknowledge_step
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import Service
from huracan_executor.account import ACCEPTED, EXPIRED, TRANSITIONS, AccountFold, IllegalReport
from huracan_executor.config import ExecutorConfig
from huracan_executor.feed import Feed
from huracan_executor.journal import AccountJournal
from huracan_executor.link import PaperLink, VenueLink
from huracan_executor.market import Market
from huracan_executor.money import LINEAR, plain
from huracan_executor.planner import Intent, plan
from huracan_executor.risk import AccountView, OrderRate, check, judge

SERVICE = "executor"

logger = structlog.get_logger()


class Executor(Service):
    """Run one account against one venue.

    All that changes the account happens under one lock, in an order fixed by the tick log and the
    decisions: a decision is handled on the market and the reports of its step's close. Receive time is the
    only time; a timer is set only to give up waiting for ticks once a decision has expired.
    """

    def __init__(self, config: ExecutorConfig, ports: Ports, venue_link: VenueLink | None = None) -> None:
        super().__init__(SERVICE)
        self.config = config
        self._definitions: dict[str, InstrumentDefinition] = {}
        self.account = AccountFold(config.account, self._definitions, OrderRate.of(config))
        self._ports = ports
        self._journal = AccountJournal(config, ports, self.account)
        self._link = venue_link or PaperLink(config.venue, ports, account=config.account)
        self._feeds: dict[str, Feed] = {}
        self._dead_letters = DeadLetters(ports, SERVICE, self.counts)
        self._lock = asyncio.Lock()
        self._handled: dict[str, tuple[int, bytes]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._following: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Recover, then act on decisions until cancelled."""
        async with self._lock:
            await self._recover()
        inbox = self._ports.bus.inbox()
        pattern, durable = decisions_read(self.config)
        inbox.consume(pattern, durable=durable)
        await self.listening(self._ports)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._following.append(group.create_task(self._journal.publish()))
                for feed in self._feeds.values():
                    self._start(feed)
                async for delivery in inbox:
                    await self._dispatch(delivery)
                await self._finish()
        finally:
            self._group = None
            inbox.close()

    async def _finish(self) -> None:
        """Deal with the decisions that are here, then pass what the log has: what came of the last orders is booked."""
        for feed in self._feeds.values():
            await feed.decisions.join()
        async with self._lock:  # so that nobody is cancelled between a report and the account that it changes
            for task in self._following:
                task.cancel()
            for feed in list(self._feeds.values()):
                await self._advance(feed, sys.maxsize)
            await self._journal.settle(wholly=True)

    async def _recover(self) -> None:
        """Start: the same path as after a kill."""
        records = await self._journal.read()
        for record in records:
            if isinstance(record.message, JournalEntry) and record.message.HasField("order"):
                await self._feed(record.message.order.instrument).peek()
        now_ns = self._ports.clock.now_ns()
        await self._journal.recover(records, at_ns=now_ns)
        await self._link.recover()
        for order in self.account.open_orders():
            await self._ask(self._feed(order.instrument), order)
        for feed in list(self._feeds.values()):
            await self._advance(feed, now_ns)
        await self._journal.settle()
        logger.info("executor.recovered", account=self.config.account, epoch=self.account.epoch)

    def _feed(self, instrument: InstrumentId) -> Feed:
        key = instrument_key(instrument)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(instrument, self._ports.log, self._definitions, self._count)
            self._start(feed)
        return feed

    def _start(self, feed: Feed) -> None:
        if self._group is not None:
            self._following += [
                self._group.create_task(self._follow(feed)),
                self._group.create_task(self._decide_in_turn(feed)),
            ]

    # Decisions in.

    async def _dispatch(self, delivery: Delivery) -> None:
        try:
            decision = _decision(delivery)
        except PoisonMessage as error:
            await self._dead_letters.bury(delivery, error)
            return
        await self._feed(decision.instrument).decisions.put((decision, delivery))

    async def _decide_in_turn(self, feed: Feed) -> None:
        while True:
            decision, delivery = await feed.decisions.get()
            await self._reach(feed, decision)
            async with self._lock:
                refusal = self._refusal(feed, decision)
                if refusal:
                    self.counts[f"refused.{refusal}"] += 1
                else:
                    await self._decide(feed, decision)
                await self._journal.settle()
            if refusal != "old_epoch":  # the step is the newer epoch's to acknowledge
                await acknowledge_step(self._ports, SERVICE, decision.instrument, decision.step)
            delivery.ack()  # last: a kill before it brings the decision again, and the step is acknowledged again
            feed.decisions.task_done()

    async def _reach(self, feed: Feed, decision: Decision) -> None:
        """Wait until the market has passed the step's close, or the decision has expired."""
        while True:
            async with self._lock:
                await self._advance(feed, decision.close_ns, over=True)
            if feed.watermark_ns >= decision.close_ns:
                return
            if self._ports.clock.now_ns() > decision.valid_until_ns:
                return
            expired = self._ports.clock.sleep_until(decision.valid_until_ns + 1)
            await _first(feed.grown(), feed.taken(), expired)

    def _refusal(self, feed: Feed, decision: Decision) -> str:
        """Return why a decision is not acted on at all, or nothing."""
        handled = self._handled.get(feed.key, (0, b""))
        newest = max(handled[0], self.account.newest_valid_until(feed.key))
        definition = feed.book.definition if feed.book else None
        reasons = (
            ("old_epoch", decision.epoch < self.account.shard_epochs.get(decision.shard, 0)),
            ("duplicate", self.account.order(order_id(self.config.account, decision.decision_id)) is not None),
            ("duplicate", handled[1] == decision.decision_id),
            ("superseded", decision.valid_until_ns < newest),
            ("no_market", definition is None),
            ("unsupported", definition is not None and not self._supported(definition)),
            ("definition_version", definition is not None and definition.id != decision.instrument),
        )
        return next((name for name, holds in reasons if holds), "")

    def _supported(self, definition: InstrumentDefinition) -> bool:
        return definition.type in LINEAR and definition.settle == self.config.settlement_asset

    async def _decide(self, feed: Feed, decision: Decision) -> None:
        if feed.book is None:
            return
        self._handled[feed.key] = (decision.valid_until_ns, decision.decision_id)
        at_ns = max(decision.close_ns, self._ports.clock.now_ns())
        if decision.epoch > self.account.shard_epochs.get(decision.shard, 0):
            shard = subjects.journal_key(decision.shard)
            await self._journal.write(EpochStarted(), at_ns=at_ns, key=shard, epoch=decision.epoch)
        mids = self._mids()
        await self._judge(mids, at_ns)
        market = feed.book.view()
        intent = plan(
            decision,
            self.account.exposure(feed.key),
            market,
            limit_ticks=self.config.limit_ticks,
            at_ns=at_ns,
            reducing=self.account.standing.state == RiskState.RISK_STATE_REDUCING,
        )
        if intent is None:
            self.counts["decision." + ("abstained" if decision.abstained else _no_order(decision))] += 1
            return
        await self._order(decision, intent, market, mids)

    async def _order(self, decision: Decision, intent: Intent, market: Market, mids: dict[str, Decimal]) -> None:
        key = instrument_key(decision.instrument)
        view = AccountView(
            risk_state=self.account.standing.state,
            exposure=self.account.exposure(key),
            others_gross=self.account.gross_without(key, mids),
            rate=self.account.rate,
        )
        reason = check(intent, view, market, self.config)
        denied = reason is not None
        order = first_revision(
            decision,
            account=self.config.account,
            epoch=self.account.epoch,
            side=intent.side,
            quantity=intent.quantity,
            limit_price=intent.limit_price or 0,
            state=OrderState.ORDER_STATE_DENIED if denied else OrderState.ORDER_STATE_PENDING,
            reason=reason or OrderReason.ORDER_REASON_UNSPECIFIED,
            at_ns=intent.at_ns,
        )
        await self._write(order, intent.at_ns)
        if reason is not None:
            self.counts[f"denied.{_reason(reason)}"] += 1
            return
        try:
            await self._link.submit(order, max(intent.at_ns, self._ports.clock.now_ns()))
        except Recoverable:
            self.counts["submit.unknown"] += 1  # never sent again: the venue is asked once it must have answered
        else:
            self.counts["submitted"] += 1

    def _mids(self) -> dict[str, Decimal]:
        known = {key: feed.mid() for key, feed in self._feeds.items()}
        return {key: mid for key, mid in known.items() if mid is not None}

    async def _judge(self, mids: dict[str, Decimal], at_ns: int) -> None:
        equity = self.account.equity_at(mids)
        standing = judge(self.account.standing, equity, self.config)
        due = at_ns - self.account.marked_ns >= self.config.mark_every_ms * MILLISECOND_NS
        if standing != self.account.standing or (due and equity != self.account.equity):
            await self._permit(standing.state, equity, standing.peak_equity, at_ns)

    async def _write(self, payload: Payload, at_ns: int) -> None:
        for effect in await self._journal.write(payload, at_ns=at_ns):
            if isinstance(effect.message, Order):
                self._count(f"order.{OrderState.Name(effect.message.state).removeprefix('ORDER_STATE_').lower()}")
            else:
                self._count(effect.kind)

    def _count(self, name: str) -> None:
        self.counts[name] += 1

    async def _permit(self, state: RiskState, equity: Decimal, peak: Decimal, at_ns: int) -> None:
        if state != self.account.standing.state:
            self.counts[f"risk.{RiskState.Name(state).removeprefix('RISK_STATE_').lower()}"] += 1
            logger.warning("executor.risk_state_changed", state=RiskState.Name(state), equity=str(equity))
        changed = RiskStateChanged(state=state, equity=str(plain(equity)), peak_equity=str(plain(peak)))
        await self._write(changed, at_ns)

    # The market and the venue's reports in.

    async def _follow(self, feed: Feed) -> None:
        """Advance as ticks come, never past the present: the end of an order does not wait for a decision."""
        while True:
            batch = await feed.peek()
            if batch is None:
                await feed.grown()
                continue
            await self._ports.clock.sleep_until(batch.watermark_ns)
            async with self._lock:
                await self._advance(feed, max(batch.watermark_ns, self._ports.clock.now_ns()))
                await self._journal.settle()

    async def _advance(self, feed: Feed, until_ns: int, *, over: bool = False) -> None:
        """Pass the batches that end by a time; with `over`, also the one that goes beyond it.

        The only way in which a market moves on: book, venue, reports heard, silent orders asked about.
        """
        while (batch := await feed.peek()) is not None:
            if batch.watermark_ns > until_ns and not (over and feed.watermark_ns < until_ns):
                return
            self._refuse_new_definition(feed, batch)
            feed.take()
            await self._link.advance(batch)
            for report in self._link.take_reports():
                self._feed(report.order.instrument).expect(report)
            await self._hear(feed)
            for order in self.account.open_orders(feed.key):
                if feed.watermark_ns >= self._ask_at_ns(feed, order):
                    await self._ask(feed, order)
            await self._hear(feed)

    def _refuse_new_definition(self, feed: Feed, batch: TickBatch) -> None:
        if feed.book is None or feed.book.definition.id == batch.instrument.id:
            return
        if self.account.exposure(feed.key).worst:
            way_out = "flatten it first"
            if batch.instrument.id.venue == SIMULATED_VENUE:
                way_out += ", or begin the simulated market anew (`huracan up --wipe`)"
            raise Fatal(
                f"{feed.key}: definition version was {feed.book.definition.id.definition_version}, now "
                f"{batch.instrument.id.definition_version}, with a position open: {way_out}"
            )

    async def _hear(self, feed: Feed) -> None:
        while (report := feed.hear()) is not None:
            try:
                merged = self.account.merged(report)
            except IllegalReport as error:
                self.counts["report.illegal"] += 1
                logger.error("executor.report_illegal", detail=str(error))
                await self._halt(report.received_ns)
                continue
            if merged is None:
                self.counts["report.repeated"] += 1
                continue
            await self._write(report, report.received_ns)

    async def _halt(self, at_ns: int) -> None:
        if self.account.standing.state != RiskState.RISK_STATE_HALTED:
            equity, peak = self.account.equity_at(self._mids()), self.account.standing.peak_equity
            await self._permit(RiskState.RISK_STATE_HALTED, equity, peak, at_ns)

    def _ask_at_ns(self, feed: Feed, order: Order) -> int:
        venue = self.config.venue
        wait_ms = venue.latency_to_ms + venue.latency_back_ms + self.config.report_margin_ms
        first_ns = order.valid_until_ns + wait_ms * MILLISECOND_NS
        return max(first_ns, feed.ask_at_ns.get(order.order_id, 0))

    async def _ask(self, feed: Feed, order: Order) -> None:
        """Ask the venue about a silent order; one that it does not know, and now would refuse, has
        expired."""
        over = feed.watermark_ns >= self._ask_at_ns(feed, order)
        feed.ask_at_ns[order.order_id] = feed.watermark_ns + self.config.report_margin_ms * MILLISECOND_NS
        self.counts["asked"] += 1
        try:
            report = await self._link.query(order.client_order_id)
        except Recoverable:
            self.counts["asked.unanswered"] += 1
            return
        if report is not None:
            if _tells(report):
                feed.expect(report)
        elif over:
            await self._expire(feed, order)

    async def _expire(self, feed: Feed, order: Order) -> None:
        if EXPIRED not in TRANSITIONS[order.state]:
            self.counts["report.illegal"] += 1
            logger.error("executor.venue_forgot_a_filled_order", client_order_id=order.client_order_id)
            await self._halt(feed.watermark_ns)
            return
        expired = Order()
        expired.CopyFrom(order)
        expired.state, expired.reason = EXPIRED, OrderReason.ORDER_REASON_NEVER_ARRIVED
        expired.updated_ns = feed.watermark_ns
        expired.revision += 1
        self.counts["expired"] += 1
        await self._write(expired, feed.watermark_ns)


def decisions_read(config: ExecutorConfig) -> tuple[str, str]:
    """Return the pattern of the decisions that an account acts on, and the name under which its place is kept."""
    return f"sig.v1.decision.{subjects.token(config.strategy)}.>", f"{SERVICE}.{config.account}"


def _decision(delivery: Delivery) -> Decision:
    message = delivery.decode()
    if not isinstance(message, Decision):
        raise PoisonMessage("wrong_schema", f"{delivery.subject} carried {delivery.raw[0]}, not a Decision")
    wrong = (
        ("decision_id", len(message.decision_id) != 16),
        ("instrument", not message.instrument.venue or not message.instrument.symbol),
        ("close_ns", message.close_ns <= 0),
        ("valid_until_ns", message.valid_until_ns < message.close_ns),
        ("direction", not message.abstained and message.direction == Direction.DIRECTION_UNSPECIFIED),
        ("size", message.direction == Direction.DIRECTION_BUY and message.size < 0),
        ("size", message.direction == Direction.DIRECTION_SELL and message.size > 0),
    )
    for part, holds in wrong:
        if holds:
            raise PoisonMessage("malformed", f"decision {message.decision_id.hex()}: {part} cannot be used")
    return message


def _tells(report: ExecutionReport) -> bool:
    """Return whether a report says more than that the venue has the order."""
    return report.order.state != ACCEPTED or len(report.fills) > 0


def _no_order(decision: Decision) -> str:
    return "hold" if decision.direction == Direction.DIRECTION_HOLD else "on_target"


def _reason(reason: OrderReason) -> str:
    return OrderReason.Name(reason).removeprefix("ORDER_REASON_").lower()


async def _first(*waits: Coroutine[object, object, None]) -> None:
    """Return once one of the waits is over; raise what it raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
