"""How instruments are named: one rule for all venues, and what is simulated never bears a real name."""

from __future__ import annotations

from decimal import Decimal

from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, InstrumentType, instrument_definition

SIMULATED_ASSETS = ("SIM", "SIMA", "SIMB")
"""Reserved base assets: whatever is sent of them was made by the simulated market, and is labelled so everywhere."""
_UNMARKED = "binance_usdm"
"""The venue whose protocol a simulated instrument speaks where its name does not say."""
INVERSE = (InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL, InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE)


def define(
    *,
    venue: str,
    venue_symbol: str,
    type: InstrumentType,  # noqa: A002 - the field's name in the contract
    base: str,
    quote: str,
    settle: str,
    price_increment: Decimal,
    size_increment: Decimal,
    multiplier: Decimal = Decimal(1),
    expiry_ns: int = 0,
    delivery: str = "",
) -> InstrumentDefinition:
    """Return a definition, named `base-quote`, with `-perp` or the delivery (`240927`) where it is no spot pair.

    A simulated asset is of venue `sim`, and its name ends with the venue whose protocol it speaks.
    """
    spot = type == InstrumentType.INSTRUMENT_TYPE_SPOT
    symbol = "-".join([base, quote, *([] if spot else [delivery or "perp"])]).lower()
    simulated = base.upper() in SIMULATED_ASSETS
    if simulated and venue != _UNMARKED:
        symbol = f"{symbol}-{venue}"
    return instrument_definition(
        venue=SIMULATED_VENUE if simulated else venue,
        symbol=symbol,
        venue_symbol=venue_symbol,
        type=type,
        base=base,
        quote=quote,
        settle=settle,
        price_increment=price_increment,
        size_increment=size_increment,
        multiplier=multiplier,
        expiry_ns=expiry_ns,
    )
