"""Exact money: increments to amounts of the settlement asset, in Decimal, with rounding made an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Clamped, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext

from huracan.contracts.market import InstrumentDefinition, InstrumentType

_EXACT = Context(prec=80, traps=[Inexact, Clamped, DivisionByZero, InvalidOperation, Overflow])
_BPS = Decimal("0.0001")
_HALF = Decimal("0.5")

LINEAR = frozenset(
    {
        InstrumentType.INSTRUMENT_TYPE_SPOT,
        InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
        InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
    }
)
"""Instruments whose value in the settlement asset is price x quantity."""


@contextmanager
def exact() -> Iterator[None]:
    """Compute with 80 digits; raise decimal.Inexact rather than round."""
    with localcontext(_EXACT):
        yield


def plain(amount: Decimal) -> Decimal:
    """Return the amount without trailing zeros or exponent, so that equal amounts have equal text."""
    with exact():
        return Decimal(format((amount + 0).normalize(), "f"))


def base_quantity(definition: InstrumentDefinition, quantity: int) -> Decimal:
    """Return a quantity of size increments in base units."""
    with exact():
        return quantity * Decimal(definition.size_increment) * Decimal(definition.multiplier)


def price_of(definition: InstrumentDefinition, ticks: int) -> Decimal:
    """Return a price of price increments in the settlement asset."""
    with exact():
        return ticks * Decimal(definition.price_increment)


def mid_of(definition: InstrumentDefinition, bid: int, ask: int) -> Decimal:
    """Return the price half-way between two prices of price increments."""
    with exact():
        return (bid + ask) * Decimal(definition.price_increment) * _HALF


def value(definition: InstrumentDefinition, quantity: int, price: Decimal) -> Decimal:
    """Return what a signed quantity of size increments is worth at a price, in the settlement asset."""
    with exact():
        return base_quantity(definition, quantity) * price


def share_bps(amount: Decimal, bps: Decimal) -> Decimal:
    """Return so many basis points of an amount."""
    with exact():
        return amount * bps * _BPS
