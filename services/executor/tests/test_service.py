"""The executor as a whole, on virtual time: one decision becomes an order, a fill and an account."""

from __future__ import annotations

from decimal import Decimal

import pytest

from huracan.bus import subjects
from huracan.clock import step_close
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import AccountState, Fill, Order, OrderState
from huracan.contracts.market import instrument_key
from huracan.errors import Fatal
from huracan_executor.config import ExecutorConfig

from .desk import (
    FIRST_STEP,
    VENUE_KEY,
    Desk,
    decision_at,
    denials_of,
    lockstep,
    more_ticks,
    position_of,
    run_desk,
    states_of,
)
from .market import BTC, ETH, MS, batch_of, book_around, perpetual

# One order from decision to fill.


def test_a_decision_becomes_an_order_a_fill_and_an_account() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        assert desk.executor.account.exposure("sim.btc-usdt-perp").open_buys == 10
        await lockstep(desk, FIRST_STEP + 1, 10)

    desk = run_desk(scenario)
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
    assert position_of(desk) == 10
    assert desk.executor.counts["decision.on_target"] == 1


def test_the_journals_hold_each_order_before_it_leaves_and_each_report_before_it_counts() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        await lockstep(desk, FIRST_STEP + 1, 10)

    desk = run_desk(scenario)
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
        (decision_at(FIRST_STEP, 0, direction=Direction.DIRECTION_HOLD), "decision.hold"),
        (decision_at(FIRST_STEP, 0, abstained=True, direction=Direction.DIRECTION_HOLD), "decision.abstained"),
        (decision_at(FIRST_STEP, 0), "decision.on_target"),
    ],
    ids=["hold", "abstained", "on_target"],
)
def test_what_needs_no_order_is_acknowledged_all_the_same(decision: Decision, count: str) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.ticks(book_around(step_close(FIRST_STEP) - 1, 500_000), step_close(FIRST_STEP))
        await desk.decide(decision)
        await desk.acknowledged(FIRST_STEP)

    desk = run_desk(scenario)
    assert desk.executor.counts[count] == 1
    assert desk.published(Order) == []


def test_an_order_ends_by_ticks_alone() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        await more_ticks(desk, FIRST_STEP, 1)

    assert states_of(run_desk(scenario)) == ["FILLED"]


def test_a_report_is_heard_no_sooner_than_it_comes_back() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        for after_ms, states in ((10, ["PENDING"]), (19, ["PENDING"]), (20, ["FILLED"])):
            await desk.ticks([], step_close(FIRST_STEP) + after_ms * MS)
            await desk.settle(step_close(FIRST_STEP) + after_ms * MS + 1)
            assert states_of(desk) == states
            assert len(await desk.journal(VENUE_KEY)) == 1 + (after_ms > 10)

    run_desk(scenario)


def test_a_batch_that_comes_again_is_skipped() -> None:
    async def scenario(desk: Desk) -> None:
        rows = book_around(step_close(FIRST_STEP) - 5 * MS, 500_000)
        await desk.ticks(rows, step_close(FIRST_STEP))
        again = batch_of(book_around(step_close(FIRST_STEP) - 5 * MS, 900_000), step_close(FIRST_STEP), 1, BTC, 1)
        gateway = desk.log.node("gateway")
        await gateway.append(subjects.TICKS_TOPIC, instrument_key(BTC.id), again, record_id=b"again")
        await desk.decide(decision_at(FIRST_STEP, 10))
        await desk.acknowledged(FIRST_STEP)
        await desk.settle(step_close(FIRST_STEP) + 1)

    desk = run_desk(scenario)
    assert desk.executor.account.orders()[0].limit_price == 500_003
    assert desk.executor.counts["ticks.repeated"] == 1


def test_a_missing_batch_is_counted() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 0)
        desk._batches["sim.btc-usdt-perp"] += 1
        await lockstep(desk, FIRST_STEP + 1, 0)

    assert run_desk(scenario).executor.counts["ticks.gap"] == 1


def test_a_decision_waits_for_the_ticks_of_its_step() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.decide(decision_at(FIRST_STEP, 10))
        await desk.ticks(book_around(step_close(FIRST_STEP) - 5 * MS, 500_000), step_close(FIRST_STEP))
        await desk.acknowledged(FIRST_STEP)

    assert states_of(run_desk(scenario)) == ["PENDING"]


# Two instruments.


def test_instruments_share_the_gross_limit() -> None:
    config = ExecutorConfig(max_gross_notional=Decimal(5_500))

    async def scenario(desk: Desk) -> None:
        for of, mid in ((BTC, 500_000), (ETH, 20_000)):
            await desk.ticks(book_around(step_close(FIRST_STEP) - MS, mid), step_close(FIRST_STEP), of=of)
        await desk.decide(decision_at(FIRST_STEP, 100))
        await desk.acknowledged(FIRST_STEP)
        await desk.decide(decision_at(FIRST_STEP, 300, of=ETH))
        await desk.acknowledged(FIRST_STEP, ETH)
        for of, mid in ((BTC, 500_000), (ETH, 20_000)):
            close_ns = step_close(FIRST_STEP + 1)
            await desk.ticks(book_around(close_ns - MS, mid), close_ns, of=of)
        await desk.decide(decision_at(FIRST_STEP + 1, 200, of=ETH))
        await desk.acknowledged(FIRST_STEP + 1, ETH)
        await desk.ticks([], step_close(FIRST_STEP + 2), of=ETH)
        await desk.settle(step_close(FIRST_STEP + 2) + 1)

    desk = run_desk(scenario, config)
    assert denials_of(desk) == ["MAX_GROSS_NOTIONAL"]
    assert (position_of(desk), position_of(desk, ETH)) == (100, 200)


def test_a_silent_instrument_does_not_hold_up_another() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.decide(decision_at(FIRST_STEP, 10, of=ETH))
        await lockstep(desk, FIRST_STEP, 10)
        assert desk.clock.now_ns() == step_close(FIRST_STEP)

    assert states_of(run_desk(scenario)) == ["PENDING"]


def test_a_definition_that_changes_under_a_position_stops_the_executor() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        await more_ticks(desk, FIRST_STEP, 1)
        await desk.ticks([], step_close(FIRST_STEP + 2), of=perpetual("BTC", definition_version=2))
        await desk.settle(step_close(FIRST_STEP + 3))

    with pytest.raises(Fatal, match=r"flatten it first, or begin the simulated market anew \(`huracan up --wipe`\)"):
        run_desk(scenario)
