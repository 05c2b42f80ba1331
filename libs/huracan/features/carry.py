"""What a perpetual costs to hold and how far it is from its index: funding, mark and index as the venue tells them."""

from __future__ import annotations

from decimal import Decimal

from huracan.clock import NANOSECONDS
from huracan.contracts.market import FUNDING_UNIT, MARK_UNIT, TickKind

NAN = float("nan")
BPS = 1e4
HOUR_NS = 3_600 * NANOSECONDS
MARK_STALE_NS = 10 * NANOSECONDS
"""Mark and index that are older tell nothing of now: venues send them each second or three."""
FUNDING_STALE_NS = 300 * NANOSECONDS
"""A funding rate that is older is not known to hold: the slowest venue sends it at least every 90 s."""

_MARK = float(MARK_UNIT)
_FUNDING_BPS = float(FUNDING_UNIT * Decimal(10_000))


class Carry:
    """The newest mark, index and funding of one instrument, in the integers of the log."""

    __slots__ = (
        "_funding",
        "_funding_ns",
        "_index",
        "_index_ns",
        "_mark",
        "_mark_ns",
        "_next_funding_ns",
        "funding_rate_bps",
        "mark",
        "mark_index_basis_bps",
        "time_to_funding_h",
    )

    def __init__(self) -> None:
        self._mark = self._index = self._funding = 0
        self._mark_ns = self._index_ns = self._funding_ns = 0
        self._next_funding_ns = 0
        self.mark = NAN
        """Mark price in the quote currency at the close; NaN without one, or an old one."""
        self.mark_index_basis_bps = NAN
        self.funding_rate_bps = NAN
        """Per funding period."""
        self.time_to_funding_h = NAN

    def take(self, kind: int, value: int, next_funding_ns: int, recv_ns: int) -> None:
        """Take a mark or index price in MARK_UNIT, or a funding rate in FUNDING_UNIT: the rows of the log.

        With a funding rate comes when it is next paid, 0 where that is not told. Other kinds change nothing.
        """
        if kind == TickKind.TICK_KIND_MARK:
            self._mark, self._mark_ns = value, recv_ns
        elif kind == TickKind.TICK_KIND_INDEX:
            self._index, self._index_ns = value, recv_ns
        elif kind == TickKind.TICK_KIND_FUNDING:
            self._funding, self._next_funding_ns, self._funding_ns = value, next_funding_ns, recv_ns

    def close(self, close_ns: int) -> None:
        """Say what holds at the close of a step."""
        self.mark = self.mark_index_basis_bps = self.funding_rate_bps = self.time_to_funding_h = NAN
        if self._mark_ns and close_ns - self._mark_ns <= MARK_STALE_NS:
            self.mark = self._mark * _MARK
            if self._index and close_ns - self._index_ns <= MARK_STALE_NS:
                self.mark_index_basis_bps = BPS * (self._mark / self._index - 1)
        if self._funding_ns and close_ns - self._funding_ns <= FUNDING_STALE_NS:
            self.funding_rate_bps = self._funding * _FUNDING_BPS
            if self._next_funding_ns > close_ns:
                self.time_to_funding_h = (self._next_funding_ns - close_ns) / HOUR_NS
