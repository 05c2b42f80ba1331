"""Killed at every write, doubted by its log, run again: the executor ends where it would have ended."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from huracan.clock import step_close
from huracan.contracts.codec import encode
from huracan.contracts.execution import OrderReason
from huracan.contracts.journal import JournalEntry
from huracan_executor.account import AccountFold, definition_key
from huracan_executor.risk import OrderRate

from .desk import (
    ACCOUNT_KEY,
    CONFIG,
    FIRST_STEP,
    VENUE_KEY,
    Desk,
    Start,
    decision_at,
    lockstep,
    more_ticks,
    run_desk,
    states_of,
)
from .market import BTC, MS, book_around
from .walks import check_ledgers, outcome, targets, walk, walked


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_write_it_ends_as_if_nothing_had_happened(seed: int) -> None:
    """Every prefix of the journals is a start; only an order that never left is given up, and never sent again."""
    whole, venue = walked(seed, 8)
    check_ledgers(whole, venue)
    assert {"FILLED", "CANCELED"} <= set(states_of(whole))
    wanted, writes = outcome(whole), whole.tap.writes
    given_up = 0
    for number, what in enumerate(writes):
        for stored in (False, True):
            desk, record = walked(seed, 8, Start(number, stored))
            check_ledgers(desk, record)
            assert desk.starts == 2, (number, what)
            between = (what, stored) in (("account.paper.order", True), ("venue.paper.order", False))
            if between and outcome(desk) != wanted:
                ends = Counter(order.reason for order in desk.executor.account.orders())
                assert ends[OrderReason.ORDER_REASON_NEVER_ARRIVED] == 1
                given_up += 1
            else:
                assert outcome(desk) == wanted, (number, what, stored)
    assert given_up == 2 * sum(what == "venue.paper.order" for what in writes)


def test_killed_again_and_again_nothing_is_lost_or_doubled() -> None:
    for seed in range(12):
        rng = random.Random(seed)

        async def scenario(desk: Desk, rng: random.Random = rng, seed: int = seed) -> None:
            desk.fates = lambda: Start(rng.randrange(2, 25) if desk.starts < 15 else -1, rng.random() < 0.5)
            await walk(seed, 10)(desk)
            await more_ticks(desk, FIRST_STEP + 20, 20)
            check_ledgers(desk, await desk.journal(VENUE_KEY))
            assert desk.starts > 3

        run_desk(scenario, fate=Start(die_at=3))


@pytest.mark.parametrize("seed", range(5))
def test_lost_acknowledgements_change_nothing_but_the_time(seed: int) -> None:
    desk, venue = walked(seed, 10, Start(fail=random.Random(seed)))
    check_ledgers(desk, venue)
    journal = [write for write in desk.tap.writes if write == "account.paper.published"]
    assert journal


def _journals(scenario: Callable[[Desk], Awaitable[None]]) -> list[list[bytes]]:
    into: list[list[bytes]] = []

    async def watched(desk: Desk) -> None:
        await scenario(desk)
        for key in (ACCOUNT_KEY, VENUE_KEY):
            into.append([encode(entry) for entry in await desk.journal(key)])  # noqa: PERF401 - awaits

    run_desk(watched)
    return into


def test_the_same_log_and_decisions_give_the_same_journals() -> None:
    assert _journals(walk(7, 12)) == _journals(walk(7, 12))


def test_ticks_that_lie_in_the_log_before_their_time_change_nothing() -> None:
    async def ahead(desk: Desk) -> None:
        told = list(enumerate(targets(5, 10), FIRST_STEP))
        for step, (mid, size, _) in told:
            await desk.ticks(book_around(step_close(step) - 60 * MS, mid, size), step_close(step), ahead=True)
        for step, (_, _, target) in told:
            await desk.clock.sleep_until(step_close(step))
            await desk.decide(decision_at(step, target))
            await desk.acknowledged(step)

    async def in_time(desk: Desk) -> None:
        for step, (mid, size, target) in enumerate(targets(5, 10), FIRST_STEP):
            await desk.ticks(book_around(step_close(step) - 60 * MS, mid, size), step_close(step))
            await desk.decide(decision_at(step, target))
            await desk.acknowledged(step)

    assert outcome(run_desk(ahead)) == outcome(run_desk(in_time))


def test_folding_the_journal_of_a_run_gives_its_account_byte_for_byte() -> None:
    entries: list[JournalEntry] = []

    async def scenario(desk: Desk) -> None:
        await walk(3, 10)(desk)
        entries.extend(await desk.journal())

    account = run_desk(scenario).executor.account
    again = AccountFold("paper", {definition_key(BTC.id): BTC}, OrderRate.of(CONFIG))
    for entry in entries:
        again.apply(entry)
    assert encode(again.state()) == encode(account.state())
    assert again.orders() == account.orders()
    assert again.rate == account.rate


def test_after_a_kill_an_order_that_may_still_arrive_stays_open() -> None:
    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        assert desk.starts == 2
        assert states_of(desk) == ["PENDING"]
        await more_ticks(desk, FIRST_STEP, 10)

    writes = ("epoch_started", "epoch_started", "service", "order", "venue")
    desk = run_desk(scenario, fate=Start(die_at=len(writes) - 1))
    assert desk.executor.account.orders()[0].reason == OrderReason.ORDER_REASON_NEVER_ARRIVED
    assert desk.executor.counts["submitted"] == 0
