"""The way to a venue: submit, query, hear. Tests put loss, duplication and delay in between."""

from __future__ import annotations

from typing import Protocol

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.contracts.execution import ExecutionReport, Order
from huracan.contracts.journal import JournalEntry, journal_entry
from huracan.contracts.market import TickBatch
from huracan.ids import derived_id
from huracan.ports import Ports
from huracan_executor.config import PaperVenueConfig
from huracan_executor.venue import PaperVenue


class VenueLink(Protocol):
    """What the executor asks of a venue. Every call may raise Recoverable: then what it did is not known."""

    async def recover(self) -> None:
        """Get ready after a start, before anything else is called."""

    async def advance(self, batch: TickBatch) -> None:
        """Pass on what the market did; only a paper venue listens."""

    async def submit(self, order: Order, sent_ns: int) -> None:
        """Send an order; a client order id that the venue knows changes nothing."""

    async def query(self, client_order_id: str) -> ExecutionReport | None:
        """Return what the venue knows of an order, None when it never saw the id."""

    def take_reports(self) -> list[ExecutionReport]:
        """Return the reports that came since the last call, each with the time at which we hear it."""


class PaperLink:
    """The direct way to a paper venue in this process, with its record in the journal topic.

    An order counts as accepted once its acceptance is recorded; a report is handed on once it is recorded.
    """

    def __init__(self, config: PaperVenueConfig, ports: Ports, *, account: str) -> None:
        self.venue = PaperVenue(config)
        self._key = subjects.venue_key(account)
        self._log = ports.log
        self._backoff = Backoff(ports.rng, self._key)
        self._heard: list[ExecutionReport] = []

    async def recover(self) -> None:
        """Take back the venue's record."""
        records = await self._log.read(subjects.JOURNAL_TOPIC, self._key, 0)
        self.venue.restore([record.message for record in records if isinstance(record.message, JournalEntry)])

    async def advance(self, batch: TickBatch) -> None:
        """Match what the batch passes, record the reports, then hand them on."""
        for report in self.venue.advance(batch):
            await self._record("report", report, report.order, report.received_ns)
            self._heard.append(report)

    async def submit(self, order: Order, sent_ns: int) -> None:
        """Accept an order, unless its client order id is known."""
        accepted = self.venue.submit(order, sent_ns)
        if accepted is not None:
            await self._record("accepted", accepted, accepted, accepted.updated_ns)

    async def query(self, client_order_id: str) -> ExecutionReport | None:
        """Return what the venue knows of an order."""
        return self.venue.query(client_order_id)

    def take_reports(self) -> list[ExecutionReport]:
        """Return the reports that came since the last call."""
        heard, self._heard = self._heard, []
        return heard

    async def _record(self, what: str, payload: Order | ExecutionReport, order: Order, at_ns: int) -> None:
        entry = journal_entry(self._key, payload, epoch=order.epoch, at_ns=at_ns)
        record_id = derived_id(self._key, what, order.client_order_id)
        await self._backoff.until_done(
            lambda: self._log.append(subjects.JOURNAL_TOPIC, self._key, entry, record_id=record_id)
        )
