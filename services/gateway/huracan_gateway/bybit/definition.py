"""Instruments of Bybit: as `GET /v5/market/instruments-info` defines them, and as their symbols imply them."""

from __future__ import annotations

import re
from calendar import FRIDAY, monthrange
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from huracan.clock import NANOSECONDS
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan_gateway.identity import define
from huracan_gateway.reading import event_ns_of, increment_of, positive, typed
from huracan_gateway.reject import Reason, Rejected

VENUE: Final = "bybit"
INVERSE_QUOTE = "USD"
"""Quote of inverse contracts, and of no linear one."""
_DELIVERY_HOUR = 8
"""UTC, at which dated futures expire."""
_SYMBOL = re.compile(r"([A-Z0-9]+?)(USDT|USDC|USD|PERP)?(?:-(\d{1,2}[A-Z]{3}\d{2})|([HMUZ]\d{2}))?", re.ASCII)
_QUARTERS = {"H": 3, "M": 6, "U": 9, "Z": 12}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_TYPES = {
    "LinearPerpetual": InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    "LinearFutures": InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
    "InversePerpetual": InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL,
    "InverseFutures": InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE,
}


class _PriceFilter(msgspec.Struct):
    tickSize: str  # noqa: N815 - the venue's name, here and below


class _LotSizeFilter(msgspec.Struct):
    qtyStep: str  # noqa: N815


class _Instrument(msgspec.Struct):
    symbol: str
    contractType: str  # noqa: N815
    baseCoin: str  # noqa: N815
    quoteCoin: str  # noqa: N815
    settleCoin: str  # noqa: N815
    priceFilter: _PriceFilter  # noqa: N815
    lotSizeFilter: _LotSizeFilter  # noqa: N815
    deliveryTime: str = "0"  # noqa: N815


_INSTRUMENT = msgspec.json.Decoder(_Instrument)


def defined(raw: bytes) -> InstrumentDefinition:
    """Return what a frame of kind `instrument` defines; raise Rejected for a damaged one and for other types."""
    instrument = typed(_INSTRUMENT, raw)
    kind = _TYPES.get(instrument.contractType)
    if kind is None:
        raise Rejected(Reason.BAD_FIELD, f"contractType was {instrument.contractType[:40]!r}")
    dated = instrument.contractType.endswith("Futures")
    expiry_ns = event_ns_of(instrument.deliveryTime, "deliveryTime") if dated else 0
    return define(
        venue=VENUE,
        venue_symbol=instrument.symbol,
        type=kind,
        base=_coin(instrument.baseCoin, "baseCoin"),
        quote=_coin(instrument.quoteCoin, "quoteCoin"),
        settle=_coin(instrument.settleCoin, "settleCoin"),
        price_increment=positive(instrument.priceFilter.tickSize, "tickSize"),
        size_increment=positive(instrument.lotSizeFilter.qtyStep, "qtyStep"),
        expiry_ns=expiry_ns,
        delivery=_delivery(expiry_ns) if dated else "",
    )


def implied(symbol: str, price_increment: str, size_increment: str) -> InstrumentDefinition:
    """Return the definition that a symbol and its increments imply; raise Rejected for one that cannot be split.

    Forms: BTCUSDT, BTCPERP (quoted in USDC), BTCUSD (inverse), BTCUSDU23 (inverse, the last Friday of September 2023),
    BTCUSDT-26JUN26, BTC-26JUN26 (quoted in USDC).
    """
    base, quote, expiry = _split(symbol)
    dated, inverse = expiry is not None, quote == INVERSE_QUOTE
    expiry_ns = int(expiry.timestamp()) * NANOSECONDS if expiry else 0
    return define(
        venue=VENUE,
        venue_symbol=symbol,
        type=_TYPES[("Inverse" if inverse else "Linear") + ("Futures" if dated else "Perpetual")],
        base=base,
        quote=quote,
        settle=base if inverse else quote,
        price_increment=increment_of(price_increment, "price increment"),
        size_increment=increment_of(size_increment, "size increment"),
        expiry_ns=expiry_ns,
        delivery=_delivery(expiry_ns) if dated else "",
    )


def category(symbol: str) -> str:
    """Return the venue's category of a symbol, `linear` or `inverse`; raise Rejected for one that cannot be split."""
    return "inverse" if _split(symbol)[1] == INVERSE_QUOTE else "linear"


def _split(symbol: str) -> tuple[str, str, datetime | None]:
    match = _SYMBOL.fullmatch(symbol)
    if match is None or not (match[2] or match[3]):
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {symbol[:40]!r}: no known quote asset and no delivery in it")
    base, quote, day, quarter = match.groups()
    expiry = _day(day) if day else _last_friday(quarter) if quarter else None
    return base, "USDC" if quote in (None, "PERP") else quote, expiry


def _day(text: str) -> datetime:
    day, month, year = int(text[:-5]), text[-5:-2], 2000 + int(text[-2:])
    if month not in _MONTHS:
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol ended with {text}, which is no day")
    number = _MONTHS.index(month) + 1
    if not 1 <= day <= monthrange(year, number)[1]:
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol ended with {text}, which is no day")
    return datetime(year, number, day, _DELIVERY_HOUR, tzinfo=UTC)


def _last_friday(quarter: str) -> datetime:
    year, month = 2000 + int(quarter[1:]), _QUARTERS[quarter[0]]
    last = datetime(year, month, monthrange(year, month)[1], _DELIVERY_HOUR, tzinfo=UTC)
    return last - timedelta(days=(last.weekday() - FRIDAY) % 7)


def _delivery(expiry_ns: int) -> str:
    return datetime.fromtimestamp(expiry_ns // NANOSECONDS, tz=UTC).strftime("%y%m%d")


def _coin(text: str, field: str) -> str:
    if not (text.isascii() and text.isalnum()):
        raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}")
    return text
