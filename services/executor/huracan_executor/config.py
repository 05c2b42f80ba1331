"""Configuration of the executor and of its paper venue."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from huracan.config import Config

_Money = Annotated[Decimal, Field(gt=0, le=10**12, decimal_places=8)]
_Quantity = Annotated[Decimal, Field(gt=0)]
_Share = Annotated[Decimal, Field(gt=0, lt=1, decimal_places=6)]


class PaperVenueConfig(Config):
    """Configure the paper venue. Reports already on its record keep the fees and times they were made
    with."""

    taker_fee_bps: Annotated[Decimal, Field(ge=0, le=100, decimal_places=4)] = Decimal(5)
    """Fee on what takes liquidity, in basis points of the notional; 5 is Binance USD-M's list price. Safe:
    2 to 10. All orders are immediate-or-cancel, so this is the one that is paid."""
    maker_fee_bps: Annotated[Decimal, Field(ge=0, le=100, decimal_places=4)] = Decimal(2)
    """Fee on what rests in the book. Nothing rests yet: it is named so that the day it does it is not a
    guess."""
    latency_to_ms: int = Field(default=10, ge=0, le=10_000)
    """From us to the matching engine, in receive time. Safe: what you measure, 1 to 200; 0 flatters every
    result."""
    latency_back_ms: int = Field(default=10, ge=0, le=10_000)
    """From the matching engine back to us. Safe: 1 to 200."""


class ExecutorConfig(Config):
    """Configure the executor of one account; raises pydantic's ValidationError for a value outside its
    range."""

    account: str = Field(default="paper", pattern=r"^[a-z0-9_-]{1,32}$")
    """Whose orders these are. One process per account: a second one with the same name would be a second
    voice."""
    strategy: str = Field(default="core", pattern=r"^[a-z0-9_-]{1,32}$")
    """Whose decisions are acted on."""
    settlement_asset: str = Field(default="USDT", pattern=r"^[A-Z0-9]{2,12}$")
    """The one asset the account is kept in; an instrument that settles in another is not traded."""
    equity: _Money = Decimal(100_000)
    """Opening balance in the settlement asset. Only the first start of an account reads it: from then on
    its journal is what counts."""
    max_position_base: dict[str, _Quantity] = Field(default_factory=lambda: {"BTC": Decimal("0.1")})
    """Largest position in base units, long or short, by base asset. Safe: what can be closed within the
    visible book, for BTC up to about 5."""
    max_position_notional: _Money = Decimal(6_000)
    """Largest position in the settlement asset for every base asset not named above. Safe: below 10 % of
    equity."""
    max_order_notional: _Money = Decimal(10_000)
    """Largest single order, at the worse of limit and best price: a guard against a wrong size, so it
    should be no more than about twice the largest position."""
    max_gross_notional: _Money = Decimal(20_000)
    """Largest sum of all positions without regard to sign, open orders counted as filled. Safe: below 2 x
    equity."""
    orders_per_second: int = Field(default=5, ge=1, le=1_000)
    """Sustained order rate, in receive time. Venues ban above 30 to 100; one order a step is 10."""
    order_burst: int = Field(default=10, ge=1, le=1_000)
    """Orders that may follow each other at once after a pause."""
    stale_after_ms: int = Field(default=500, ge=1, le=60_000)
    """A book whose last change is this old is not traded on. Below 150 an ordinary lull on a 100 ms feed
    stops us."""
    reducing_drawdown: _Share = Decimal("0.02")
    """Share of peak equity lost at which only orders that reduce a position pass, until it is recovered."""
    halted_drawdown: _Share = Decimal("0.05")
    """Share of peak equity lost at which nothing passes any more: a latch that survives restarts and that
    only a journal entry opens. Above `reducing_drawdown`."""
    peak_step_bps: Annotated[Decimal, Field(gt=0, le=100, decimal_places=4)] = Decimal(1)
    """The peak moves in steps of this many basis points, each journalled: smaller steps cost entries,
    larger ones understate the drawdown by as much. Safe: 0.1 to 5."""
    mark_every_ms: int = Field(default=1_000, ge=100, le=3_600_000)
    """How often, in receive time, the equity of an open position is journalled and published at mid prices. Each mark
    is an entry and a message: below 1,000 they outnumber the orders."""
    limit_ticks: int = Field(default=2, ge=0, le=1_000)
    """How far past the opposite best the limit lies. 0 misses whenever the best moves within the latency;
    each tick is a tick that may be paid."""
    report_margin_ms: int = Field(default=100, ge=1, le=60_000)
    """How long after the last moment at which a report may come the venue is asked about a silent order;
    asked again as often. Below the jitter of the latencies it asks for nothing."""
    venue: PaperVenueConfig = PaperVenueConfig()

    @model_validator(mode="after")
    def _halted_lies_beyond_reducing(self) -> Self:
        if self.halted_drawdown <= self.reducing_drawdown:
            raise ValueError(
                f"halted_drawdown was {self.halted_drawdown}, must be above reducing_drawdown {self.reducing_drawdown}"
            )
        return self
