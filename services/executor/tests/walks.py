"""Seeded walks of a market and its targets through a desk, and what must be true of it afterwards."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from huracan.clock import step_close
from huracan.contracts.codec import encode
from huracan.contracts.execution import Fill, Order, Side
from huracan.contracts.journal import JournalEntry

from .desk import FIRST_STEP, LINE_IS_GOOD, VENUE_KEY, Desk, Start, decision_at, more_ticks, position_of, run_desk
from .market import MS, book_around


def targets(seed: int, steps: int) -> list[tuple[int, int, int]]:
    """Return a seeded walk: mid, size at each level, target, for each step."""
    rng, mid, steps_taken = random.Random(seed), 500_000, []
    for _ in range(steps):
        mid += rng.randrange(-40, 41)
        steps_taken.append((mid, rng.choice([1, 3, 20, 1_000]), rng.choice([-90, -30, -1, 0, 0, 5, 40, 100])))
    return steps_taken


def walk(seed: int, steps: int) -> Callable[[Desk], Awaitable[None]]:
    async def scenario(desk: Desk) -> None:
        last = FIRST_STEP
        for step, (mid, size, target) in enumerate(targets(seed, steps), FIRST_STEP):
            close_ns = step_close(step)
            rows = book_around(close_ns - 95 * MS, mid - 3, size) + book_around(close_ns - 60 * MS, mid, size)
            await desk.ticks(rows[: len(rows) // 2], close_ns - 70 * MS)
            await desk.ticks(rows[len(rows) // 2 :], close_ns)
            await desk.decide(decision_at(step, target))
            await desk.acknowledged(step)
            last = step
        await more_ticks(desk, last)

    return scenario


def outcome(desk: Desk) -> object:
    """Return all that must not depend on when the process died; epochs tell how often it did."""
    account = desk.executor.account
    orders = []
    for order in account.orders():
        copied = Order()
        copied.CopyFrom(order)
        copied.epoch = 1
        orders.append(copied)
    fills = sorted(encode(fill) for fill in account.fills())
    return orders, fills, position_of(desk), account.cash, account.fees, account.standing


def check_ledgers(desk: Desk, venue: list[JournalEntry]) -> None:
    """The account is what the venue says: nothing lost, nothing doubled, all of it published."""
    account = desk.executor.account
    reports = [entry.execution_report for entry in venue if entry.HasField("execution_report")]
    accepted = [entry.order.client_order_id for entry in venue if entry.HasField("order")]
    assert len(set(accepted)) == len(accepted)
    theirs = {fill.fill_id: encode(fill) for report in reports for fill in report.fills}
    assert {fill.fill_id: encode(fill) for fill in account.fills()} == theirs
    assert not account.open_orders()
    signed = sum(fill.quantity if fill.side == Side.SIDE_BUY else -fill.quantity for fill in account.fills())
    assert position_of(desk) == signed
    published = desk.published(Fill)
    assert sorted(fill.fill_id for fill in published) == sorted(theirs)
    revisions = [(order.order_id, order.revision) for order in desk.published(Order)]
    assert len(set(revisions)) == len(revisions)
    wanted = {(order.order_id, number) for order in account.orders() for number in range(1, order.revision + 1)}
    assert set(revisions) == wanted


def walked(seed: int, steps: int, fate: Start = LINE_IS_GOOD) -> tuple[Desk, list[JournalEntry]]:
    venue: list[JournalEntry] = []

    async def scenario(desk: Desk) -> None:
        await walk(seed, steps)(desk)
        venue.extend(await desk.journal(VENUE_KEY))

    return run_desk(scenario, fate=fate), venue
