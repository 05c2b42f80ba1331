"""A faulty way to a venue, for fault tests: orders, answers and reports are lost, or come twice."""

from __future__ import annotations

from random import Random

from huracan.contracts.execution import ExecutionReport, Order
from huracan.contracts.market import TickBatch
from huracan.errors import Recoverable
from huracan_executor.link import VenueLink

LOST = 0.05
"""Share of orders, answers and reports that are lost, and of orders and reports that come twice."""


class LossyLink:
    """Lose and double, by seed, what goes to and comes from a venue."""

    def __init__(self, link: VenueLink, rng: Random) -> None:
        self._link = link
        self._rng = rng

    def _strikes(self) -> bool:
        return self._rng.random() < LOST

    async def recover(self) -> None:
        """Get ready."""
        await self._link.recover()

    async def advance(self, batch: TickBatch) -> None:
        """Pass on what the market did."""
        await self._link.advance(batch)

    async def submit(self, order: Order, sent_ns: int) -> None:
        """Send an order, not at all, once or twice; an answer may be lost although it arrived."""
        if self._strikes():
            raise Recoverable("the order was lost on its way to the venue")
        await self._link.submit(order, sent_ns)
        if self._strikes():
            await self._link.submit(order, sent_ns)
        if self._strikes():
            raise Recoverable("the venue's answer was lost")

    async def query(self, client_order_id: str) -> ExecutionReport | None:
        """Ask, perhaps in vain."""
        if self._strikes():
            raise Recoverable("the venue did not answer")
        return await self._link.query(client_order_id)

    def take_reports(self) -> list[ExecutionReport]:
        """Return the reports that came, some not at all, some twice."""
        reports = [report for report in self._link.take_reports() if not self._strikes()]
        return [again for report in reports for again in ([report, report] if self._strikes() else [report])]
