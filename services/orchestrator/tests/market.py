"""The instruments that are decided on."""

from __future__ import annotations

from decimal import Decimal

from huracan.contracts.market import InstrumentDefinition, instrument_key, linear_perpetual


def perpetual(base: str, price_increment: str = "0.1", size_increment: str = "0.001") -> InstrumentDefinition:
    """Return a perpetual of the simulated venue."""
    return linear_perpetual(
        base, venue="sim", price_increment=Decimal(price_increment), size_increment=Decimal(size_increment)
    )


BTC, ETH = perpetual("BTC"), perpetual("ETH")
KEY = instrument_key(BTC.id)
