"""Instruments of OKX: as `GET /api/v5/public/instruments` defines them, and as their symbols imply them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import msgspec

from huracan.clock import NANOSECONDS
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan_gateway.identity import SIMULATED_ASSETS, define
from huracan_gateway.reading import event_ns_of, increment_of, positive, typed
from huracan_gateway.reject import Reason, Rejected

VENUE: Final = "okx"
_DELIVERY_HOUR = 8
"""UTC, at which dated futures expire."""
_SYMBOL = re.compile(r"([A-Z0-9]+)-([A-Z0-9_]+)-(SWAP|\d{6})", re.ASCII)
_PERPETUAL, _DATED = "SWAP", "FUTURES"
_TYPES = {
    ("linear", _PERPETUAL): InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    ("linear", _DATED): InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
    ("inverse", _PERPETUAL): InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL,
    ("inverse", _DATED): InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE,
}
_LINEAR_CONTRACTS = {"BTC-USDT": Decimal("0.01"), "ETH-USDT": Decimal("0.1")}
_INVERSE_CONTRACTS = {"BTC": Decimal(100)}
_INVERSE_CONTRACT = Decimal(10)
"""US dollars; of Bitcoin 100. Those of linear contracts follow no rule."""


class _Typed(msgspec.Struct):
    instType: str | None = None  # noqa: N815 - the venue's name, here and below


class _Instrument(msgspec.Struct):
    instId: str  # noqa: N815
    instType: str  # noqa: N815
    ctType: str  # noqa: N815
    ctVal: str  # noqa: N815
    ctMult: str  # noqa: N815
    settleCcy: str  # noqa: N815
    tickSz: str  # noqa: N815
    lotSz: str  # noqa: N815
    expTime: str  # noqa: N815


_TYPED = msgspec.json.Decoder(_Typed)
_INSTRUMENT = msgspec.json.Decoder(_Instrument)


def defined(raw: bytes) -> InstrumentDefinition:
    """Return what a frame of kind `instrument` defines; raise Rejected for a damaged one and for other types."""
    of_type = typed(_TYPED, raw).instType
    if of_type not in (_PERPETUAL, _DATED):
        was = str(of_type)[:20]
        raise Rejected(Reason.OTHER_SYMBOL, f"instType was {was!r}: of OKX SWAP and FUTURES are read here")
    instrument = typed(_INSTRUMENT, raw)
    base, quote, delivery = _split(instrument.instId)
    kind = _TYPES.get((instrument.ctType, instrument.instType))
    if kind is None:
        raise Rejected(Reason.BAD_FIELD, f"ctType was {instrument.ctType[:20]!r}")
    dated = instrument.instType == _DATED
    return define(
        venue=VENUE,
        venue_symbol=instrument.instId,
        type=kind,
        base=base,
        quote=quote,
        settle=instrument.settleCcy,
        price_increment=positive(instrument.tickSz, "tickSz"),
        size_increment=positive(instrument.lotSz, "lotSz"),
        multiplier=positive(instrument.ctVal, "ctVal") * positive(instrument.ctMult, "ctMult"),
        expiry_ns=event_ns_of(instrument.expTime, "expTime") if dated else 0,
        delivery=delivery if dated else "",
    )


def implied(symbol: str, price_increment: str, size_increment: str) -> InstrumentDefinition:
    """Return the definition that a symbol and its increments imply.

    What a contract is worth follows from the symbol of inverse contracts alone; of linear ones the two largest are
    known here. Raises Rejected for any other, whose instrument the recording has to hold, and for what is no swap or
    future.
    """
    base, quote, delivery = _split(symbol)
    dated = delivery != _PERPETUAL
    inverse = quote == "USD"
    return define(
        venue=VENUE,
        venue_symbol=symbol,
        type=_TYPES["inverse" if inverse else "linear", _DATED if dated else _PERPETUAL],
        base=base,
        quote=quote,
        settle=base if inverse else quote,
        price_increment=increment_of(price_increment, "price increment"),
        size_increment=increment_of(size_increment, "size increment"),
        multiplier=_contract(base, quote, inverse=inverse),
        expiry_ns=_expiry_ns(delivery) if dated else 0,
        delivery=delivery if dated else "",
    )


def _contract(base: str, quote: str, *, inverse: bool) -> Decimal:
    if base in SIMULATED_ASSETS:
        return Decimal(1)
    if inverse:
        return _INVERSE_CONTRACTS.get(base, _INVERSE_CONTRACT)
    contract = _LINEAR_CONTRACTS.get(f"{base}-{quote}")
    if contract is None:
        raise Rejected(
            Reason.BAD_FIELD,
            f"what a contract of {base}-{quote} is worth is not told: record its instrument too (GET "
            "/api/v5/public/instruments)",
        )
    return contract


def _split(symbol: str) -> tuple[str, str, str]:
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        raise Rejected(Reason.OTHER_SYMBOL, f"instId was {symbol[:40]!r}: no BASE-QUOTE-SWAP or BASE-QUOTE-YYMMDD")
    base, quote, delivery = match.groups()
    return base, quote, delivery


def _expiry_ns(delivery: str) -> int:
    year, month, day = 2000 + int(delivery[:2]), int(delivery[2:4]), int(delivery[4:])
    try:
        expiry = datetime(year, month, day, _DELIVERY_HOUR, tzinfo=UTC)
    except ValueError:
        raise Rejected(Reason.OTHER_SYMBOL, f"instId ended with {delivery}, which is no day") from None
    return int(expiry.timestamp()) * NANOSECONDS
