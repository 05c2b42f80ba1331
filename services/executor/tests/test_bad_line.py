"""A venue behind a bad line, and one that lies: every order ends, every fill is booked once."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.contracts.execution import ExecutionReport, Order, RiskState
from huracan.contracts.market import TickBatch
from huracan.errors import Recoverable
from huracan.ports import Ports
from huracan_executor.account import OPEN
from huracan_executor.link import PaperLink, VenueLink

from .desk import (
    CONFIG,
    FIRST_STEP,
    VENUE_KEY,
    Desk,
    denials_of,
    lockstep,
    more_ticks,
    position_of,
    run_desk,
    states_of,
)
from .walks import check_ledgers, walk


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
        await walk(seed, 10)(desk)
        await more_ticks(desk, FIRST_STEP + 20, 40)
        check_ledgers(desk, await desk.journal(VENUE_KEY))

    desk = run_desk(scenario, link=bad)
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
        await lockstep(desk, FIRST_STEP, 10)
        await lockstep(desk, FIRST_STEP + 1, 20)

    desk = run_desk(scenario, link=liar)
    assert desk.executor.counts["report.illegal"] == 1
    assert desk.executor.account.state().risk_state == RiskState.RISK_STATE_HALTED
    assert denials_of(desk) == ["HALTED"]
    assert position_of(desk) == 0


def test_an_order_that_never_arrived_expires_and_is_not_sent_again() -> None:
    class Cut(Liar):
        async def submit(self, order: Order, sent_ns: int) -> None:
            raise Recoverable("cut")

    def cut(ports: Ports) -> VenueLink:
        return Cut(PaperLink(CONFIG.venue, ports, account="paper"), random.Random(2))

    async def scenario(desk: Desk) -> None:
        await lockstep(desk, FIRST_STEP, 10)
        await more_ticks(desk, FIRST_STEP, 6)
        assert states_of(desk) == ["PENDING"]  # 600 ms: the venue might still take it
        await more_ticks(desk, FIRST_STEP + 6, 4)
        assert await desk.journal(VENUE_KEY) == []

    desk = run_desk(scenario, link=cut)
    assert states_of(desk) == ["EXPIRED"]
    assert denials_of(desk) == ["NEVER_ARRIVED"]
    assert desk.executor.counts["submit.unknown"] == 1
