"""What the executor does not act on, and how losses stop it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from huracan.bus import subjects
from huracan.clock import step_close
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import Order, OrderReason, OrderState, RiskState
from huracan.contracts.journal import RiskStateChanged, journal_entry
from huracan.contracts.market import FLAG_FIRST, InstrumentDefinition, InstrumentType
from huracan.contracts.ops import DeadLetter
from huracan_executor.config import ExecutorConfig

from .desk import (
    ACCOUNT_KEY,
    FIRST_STEP,
    Desk,
    decision_at,
    denials_of,
    lockstep,
    more_ticks,
    position_of,
    run_desk,
    states_of,
)
from .market import BTC, MS, SNAPSHOT, Row, book_around, perpetual


def test_the_same_decision_twice_makes_one_order() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        again = subjects.decision("core", BTC.shard, BTC.id)
        for message_id in (b"1", b"2"):
            bus = desk.bus.node("orchestrator")
            await bus.publish_acknowledged(again, decision_at(FIRST_STEP, 10), message_id=message_id)
            await desk.acknowledged(FIRST_STEP)

    desk = run_desk(scenario)
    assert desk.executor.counts["refused.duplicate"] == 2
    assert len(desk.executor.account.orders()) == 1


def test_a_decision_that_was_denied_is_not_tried_again_after_a_restart() -> None:
    config = ExecutorConfig(max_order_notional=Decimal(100))

    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        await desk.stop()
        desk.start()
        bus, subject = desk.bus.node("orchestrator"), subjects.decision("core", BTC.shard, BTC.id)
        await bus.publish_acknowledged(subject, decision_at(FIRST_STEP, 10), message_id=b"again")
        await desk.acknowledged(FIRST_STEP)

    desk = run_desk(scenario, config)
    assert desk.executor.counts["refused.duplicate"] == 1
    assert states_of(desk) == ["DENIED"]


def test_a_hold_twice_is_a_duplicate_too() -> None:
    async def scenario(desk: Desk) -> None:
        held = decision_at(FIRST_STEP, 0, direction=Direction.DIRECTION_HOLD)
        await desk.ticks(book_around(step_close(FIRST_STEP) - 1, 500_000), step_close(FIRST_STEP))
        for message_id in (b"1", b"2"):
            bus, subject = desk.bus.node("orchestrator"), subjects.decision("core", BTC.shard, BTC.id)
            await bus.publish_acknowledged(subject, held, message_id=message_id)
            await desk.acknowledged(FIRST_STEP)

    assert run_desk(scenario).executor.counts["refused.duplicate"] == 1


def test_an_older_epoch_of_a_shard_is_refused_even_after_a_restart() -> None:
    async def scenario(desk: Desk) -> None:
        for step, epoch in ((FIRST_STEP, 2), (FIRST_STEP + 1, 1)):
            await desk.ticks(book_around(step_close(step) - 5 * MS, 500_000), step_close(step))
            await desk.decide(decision_at(step, 10 * epoch, epoch=epoch))
            if epoch == 2:
                await desk.acknowledged(step)
                await desk.stop()
                desk.start()
        await desk.settle(step_close(FIRST_STEP + 1) + MS)
        assert desk.executor.counts["refused.old_epoch"] == 1
        assert not desk._steps._queue  # not acknowledged: the step is the newer epoch's

    assert len(run_desk(scenario).executor.account.orders()) == 1


def test_a_decision_overtaken_by_a_newer_one_is_refused() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP + 1, 10)
        await desk.decide(decision_at(FIRST_STEP, -10))
        await desk.acknowledged(FIRST_STEP)

    desk = run_desk(scenario)
    assert desk.executor.counts["refused.superseded"] == 1
    assert len(desk.executor.account.orders()) == 1


def _changed(**fields: object) -> InstrumentDefinition:
    made = perpetual("BTC")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("definition", "named", "count"),
    [
        (_changed(type=InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL), BTC, "refused.unsupported"),
        (_changed(settle="USDC"), BTC, "refused.unsupported"),
        (perpetual("BTC", definition_version=2), BTC, "refused.definition_version"),
    ],
    ids=["inverse", "other settlement", "other version"],
)
def test_an_instrument_that_cannot_be_booked_is_not_traded(
    definition: InstrumentDefinition, named: InstrumentDefinition, count: str
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.ticks(book_around(step_close(FIRST_STEP) - 1, 500_000), step_close(FIRST_STEP), of=definition)
        await desk.decide(decision_at(FIRST_STEP, 10, of=named))
        await desk.acknowledged(FIRST_STEP)

    desk = run_desk(scenario)
    assert desk.executor.counts[count] == 1
    assert desk.executor.account.orders() == []


def test_a_decision_without_ticks_is_given_up_when_it_expires() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.decide(decision_at(FIRST_STEP, 10))
        await desk.acknowledged(FIRST_STEP)
        assert desk.clock.now_ns() > step_close(FIRST_STEP) + 500 * MS

    assert run_desk(scenario).executor.counts["refused.no_market"] == 1


def test_a_late_decision_is_denied_only_if_it_would_have_made_an_order() -> None:
    async def scenario(desk: Desk) -> None:
        late_ns = step_close(FIRST_STEP) + 500 * MS + 1
        await desk.ticks(book_around(late_ns - 1, 500_000), late_ns)
        await desk.decide(decision_at(FIRST_STEP, 10))
        await desk.acknowledged(FIRST_STEP)
        held = decision_at(FIRST_STEP + 1, 0, direction=Direction.DIRECTION_HOLD)
        await desk.ticks([], step_close(FIRST_STEP + 9))
        await desk.decide(held)
        await desk.acknowledged(FIRST_STEP + 1)

    desk = run_desk(scenario)
    assert denials_of(desk) == ["LATE"]
    assert (desk.executor.counts["denied.late"], desk.executor.counts["decision.hold"]) == (1, 1)


def test_poison_goes_to_the_dead_letters_and_the_next_decision_is_served() -> None:
    async def scenario(desk: Desk) -> None:
        bus, subject = desk.bus.node("orchestrator"), subjects.decision("core", BTC.shard, BTC.id)
        wrong = [
            RiskStateChanged(equity="1"),
            Decision(),
            decision_at(FIRST_STEP, -1, direction=Direction.DIRECTION_BUY),
            decision_at(FIRST_STEP, 1, direction=Direction.DIRECTION_SELL),
            decision_at(FIRST_STEP, 1, direction=Direction.DIRECTION_UNSPECIFIED),
        ]
        for number, message in enumerate(wrong):
            await bus.publish_acknowledged(subject, message, message_id=bytes([number]))
        await lockstep(desk, FIRST_STEP, 10)
        topic = subjects.dead_letters(subjects.JOURNAL_TOPIC)
        letters = [record.message for record in await desk.log.node("x").read(topic, "executor", 0)]
        assert [letter.reason for letter in letters if isinstance(letter, DeadLetter)] == ["wrong_schema"] + [
            "malformed"
        ] * 4

    desk = run_desk(scenario)
    assert (desk.executor.counts["poison.wrong_schema"], desk.executor.counts["poison.malformed"]) == (1, 4)
    assert states_of(desk) == ["PENDING"]


def test_limits_deny_before_anything_leaves() -> None:
    config = ExecutorConfig(max_order_notional=Decimal(100))

    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)

    desk = run_desk(scenario, config)
    (order,) = desk.published(Order)
    assert (order.state, order.reason) == (
        OrderState.ORDER_STATE_DENIED,
        OrderReason.ORDER_REASON_MAX_ORDER_NOTIONAL,
    )
    assert "venue.paper.order" not in desk.tap.writes


def test_a_stale_book_and_an_empty_one_are_not_traded_on() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 0)
        await lockstep(desk, FIRST_STEP + 5, 10, rows=[])
        lost: Row = (step_close(FIRST_STEP + 6) - 1, SNAPSHOT, FLAG_FIRST, 1, 0, 0)
        await lockstep(desk, FIRST_STEP + 6, 10, rows=[lost])

    assert denials_of(run_desk(scenario)) == ["STALE_MARKET", "NO_LIQUIDITY"]


def test_a_new_gateway_epoch_does_not_trade_on_the_old_book() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 0)
        await desk.ticks([], step_close(FIRST_STEP + 1), epoch=2)
        await desk.decide(decision_at(FIRST_STEP + 1, 10))
        await desk.acknowledged(FIRST_STEP + 1)

    assert denials_of(run_desk(scenario)) == ["STALE_MARKET"]


# Drawdown.


def test_losses_reduce_then_halt_and_a_restart_stays_halted() -> None:
    config = ExecutorConfig(equity=Decimal(10_000), max_gross_notional=Decimal(10**6))

    async def at(desk: Desk, step: int, mid: int, size: int) -> RiskState:
        await lockstep(desk, step, size, rows=book_around(step_close(step) - 5 * MS, mid))
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

    desk = run_desk(scenario, config)
    assert position_of(desk) == 90
    assert denials_of(desk) == ["REDUCING", "HALTED", "HALTED"]
    assert desk.counts["risk.halted"] == 1


def test_a_reset_is_a_journal_entry_and_is_read_at_the_next_start() -> None:
    config = ExecutorConfig(equity=Decimal(10_000))

    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 100)
        await lockstep(desk, FIRST_STEP + 1, 100, rows=book_around(step_close(FIRST_STEP + 1) - MS, 400_000))
        await lockstep(desk, FIRST_STEP + 2, 100, rows=book_around(step_close(FIRST_STEP + 2) - MS, 430_000))
        await lockstep(desk, FIRST_STEP + 3, 0)
        await desk.stop()
        account = desk.executor.account
        reset = RiskStateChanged(state=RiskState.RISK_STATE_ACTIVE, equity="9990", peak_equity="9990")
        entry = journal_entry(ACCOUNT_KEY, reset, epoch=account.epoch, at_ns=desk.clock.now_ns())
        await desk.log.node("operator").append(subjects.JOURNAL_TOPIC, ACCOUNT_KEY, entry, record_id=b"reset")
        desk.start()
        await lockstep(desk, FIRST_STEP + 4, 0)
        await more_ticks(desk, FIRST_STEP + 4, 1)

    desk = run_desk(scenario, config)
    assert denials_of(desk) == ["HALTED"]
    assert position_of(desk) == 0
