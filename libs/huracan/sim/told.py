"""What simulated markets tell, before any venue's form: integers in increments, event times in Unix nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

Level = tuple[int, int]
"""Price in ticks and size in lots; 0 lots removes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One simulated instrument: a perpetual of a reserved asset on one venue."""

    venue: str
    """Whose protocol it speaks: binance_usdm, okx or bybit."""
    asset: str
    """SIM, SIMA or SIMB."""
    quote: str = "USDT"
    tick: Decimal = Decimal("0.1")
    lot: Decimal = Decimal("0.001")
    """In contracts."""
    contract: Decimal = Decimal(1)
    """Base units a contract is worth."""

    @property
    def key(self) -> str:
        """Return `venue.asset`."""
        return f"{self.venue}.{self.asset}"


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade; side +1 when the buyer was the aggressor. Ids rise by one for each listing."""

    at_ns: int
    listing: str
    trade_id: int
    ticks: int
    lots: int
    side: int


@dataclass(frozen=True, slots=True)
class Best:
    """The best bid and ask as of an update id."""

    at_ns: int
    listing: str
    update_id: int
    bid: Level
    ask: Level


@dataclass(frozen=True, slots=True)
class Changed:
    """Levels changed by the updates `first_id` to `last_id`; the one before ended with first_id - 1."""

    at_ns: int
    listing: str
    first_id: int
    last_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]


@dataclass(frozen=True, slots=True)
class Book:
    """The whole book as of an update id, best first."""

    at_ns: int
    listing: str
    last_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]


@dataclass(frozen=True, slots=True)
class Marked:
    """Mark and index price, and what the next funding will be."""

    at_ns: int
    listing: str
    mark: Decimal
    index: Decimal
    funding_rate: Decimal
    next_funding_ns: int


@dataclass(frozen=True, slots=True)
class Liquidated:
    """A position closed by force; side +1 when the closing order bought."""

    at_ns: int
    listing: str
    ticks: int
    lots: int
    side: int


@dataclass(frozen=True, slots=True)
class Candle:
    """A closed bar: ticks and lots."""

    open_ns: int
    open: int
    high: int
    low: int
    close: int
    lots: int
    trades: int


Told = Trade | Best | Changed | Marked | Liquidated
