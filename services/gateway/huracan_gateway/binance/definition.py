"""Instruments of Binance: as `GET …/exchangeInfo` defines them, and as their symbols imply them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan_gateway.binance import frames
from huracan_gateway.identity import define
from huracan_gateway.reading import increment_of
from huracan_gateway.reject import Reason, Rejected

_QUOTES = {
    frames.USDM: ("USDT", "USDC", "FDUSD", "BUSD", "USD1", "USD", "BTC"),
    frames.COINM: ("USD",),
    frames.SPOT: (
        "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "USD1", "USDS", "EURI", "DAI", "EUR", "GBP", "TRY", "BRL",
        "ARS", "JPY", "MXN", "PLN", "ZAR", "UAH", "AUD", "BTC", "ETH", "BNB",
    ),
}  # fmt: skip
_DELIVERY_HOUR = timedelta(hours=8)
"""Contracts are delivered at 08:00 UTC of the day in their name."""
_IMPLIED_CONTRACT = {"BTC": Decimal(100)}
_IMPLIED_CONTRACT_OTHERS = Decimal(10)
"""US dollars that a COIN-M contract is worth ("Contract Specifications")."""


class _Filter(msgspec.Struct):
    filterType: str  # noqa: N815 - the venue's name
    tickSize: str | None = None  # noqa: N815 - the venue's name
    stepSize: str | None = None  # noqa: N815 - the venue's name


class _Symbol(msgspec.Struct):
    symbol: str
    baseAsset: str  # noqa: N815 - the venue's name
    quoteAsset: str  # noqa: N815 - the venue's name
    filters: list[_Filter]
    marginAsset: str | None = None  # noqa: N815 - the venue's name
    contractSize: Decimal | None = None  # noqa: N815 - the venue's name
    deliveryDate: int = 0  # noqa: N815 - the venue's name


_SYMBOLS = msgspec.json.Decoder(list[_Symbol])


def defines(raw: bytes, venue: str) -> InstrumentDefinition | None:
    """Return what a frame of kind `instrument` defines; None for other frames; raise Rejected for a damaged one."""
    return defined(raw, venue) if frames.definitions(raw) else None


def defined(raw: bytes, venue: str) -> InstrumentDefinition:
    """Return the first definition in a frame of kind `instrument`; raise Rejected for a damaged one."""
    symbols = frames.typed(_SYMBOLS, frames.definitions(raw) or b"null", raw, venue)
    if not symbols:
        raise Rejected(Reason.BAD_FIELD, "symbols was empty")
    symbol = symbols[0]
    _, _, delivery = symbol.symbol.partition("_")
    contract = symbol.contractSize
    if venue == frames.COINM and (contract is None or not contract.is_finite() or contract <= 0):
        raise Rejected(Reason.BAD_FIELD, f"contractSize of {symbol.symbol[:40]!r} was missing or not above 0")
    expires = venue != frames.SPOT and delivery.isdigit()
    if expires and not 0 < symbol.deliveryDate < 2**63 // MILLISECOND_NS:
        raise Rejected(Reason.IMPOSSIBLE_TIME, f"deliveryDate of {symbol.symbol[:40]!r} was missing or impossible")
    for asset, field in ((symbol.baseAsset, "baseAsset"), (symbol.quoteAsset, "quoteAsset")):
        if not re.fullmatch(r"\w{1,40}", asset):
            raise Rejected(Reason.BAD_FIELD, f"{field} was {asset[:40]!r}")
    return _define(
        venue,
        symbol.symbol,
        (symbol.baseAsset, symbol.quoteAsset),
        increment_of(_filtered(symbol.filters, "PRICE_FILTER", "tickSize"), "tickSize"),
        increment_of(_filtered(symbol.filters, "LOT_SIZE", "stepSize"), "stepSize"),
        multiplier=contract if venue == frames.COINM and contract is not None else Decimal(1),
        expiry_ns=symbol.deliveryDate * MILLISECOND_NS if expires else 0,
        settle=symbol.marginAsset or "",
    )


def _filtered(filters: Sequence[_Filter], name: str, field: str) -> str:
    found = next((each for each in filters if each.filterType == name), None)
    value: str | None = getattr(found, field, None)
    if value is None:
        raise Rejected(Reason.BAD_FIELD, f"{name} had no {field}")
    return value


def implied(venue_symbol: str, price_increment: str, size_increment: str, venue: str) -> InstrumentDefinition:
    """Return the definition that a symbol of a market and increments imply.

    A COIN-M contract is taken to be worth 100 US dollars of BTC, 10 of anything else, as all are. Raises Rejected when
    the symbol cannot be split into base and quote, or is another market's, or an increment is no positive number.
    """
    pair, _, delivery = venue_symbol.partition("_")
    coinm = frames.is_coinm(venue_symbol)
    quote = next((quote for quote in _QUOTES[venue] if pair.endswith(quote) and pair != quote), None)
    if quote is None or not re.fullmatch(r"[A-Z0-9]+", pair):
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {venue_symbol[:40]!r}: no known quote asset at its end")
    if coinm is not (venue == frames.COINM) or (delivery and venue == frames.SPOT):
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {venue_symbol[:40]!r}: not one of {venue}")
    base = pair.removesuffix(quote)
    contract = _IMPLIED_CONTRACT.get(base, _IMPLIED_CONTRACT_OTHERS)
    return _define(
        venue,
        venue_symbol,
        (base, quote),
        increment_of(price_increment, "price increment"),
        increment_of(size_increment, "size increment"),
        multiplier=contract if coinm else Decimal(1),
        expiry_ns=_expiry_ns(venue_symbol, delivery) if delivery not in ("", "PERP") else 0,
    )


def _expiry_ns(venue_symbol: str, delivery: str) -> int:
    try:
        day = datetime.strptime(delivery, "%y%m%d").replace(tzinfo=UTC)
    except ValueError:
        raise Rejected(Reason.OTHER_SYMBOL, f"symbol was {venue_symbol[:40]!r}: no date after its _") from None
    return int((day + _DELIVERY_HOUR).timestamp()) * NANOSECONDS


def _define(
    venue: str,
    venue_symbol: str,
    pair: tuple[str, str],
    price_increment: Decimal,
    size_increment: Decimal,
    *,
    multiplier: Decimal,
    expiry_ns: int,
    settle: str = "",
) -> InstrumentDefinition:
    base, quote = pair
    _, _, delivery = venue_symbol.partition("_")
    perpetual, future = {
        frames.COINM: (
            InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL,
            InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE,
        ),
        frames.USDM: (
            InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
            InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
        ),
        frames.SPOT: (InstrumentType.INSTRUMENT_TYPE_SPOT, InstrumentType.INSTRUMENT_TYPE_SPOT),
    }[venue]
    return define(
        venue=venue,
        venue_symbol=venue_symbol,
        type=future if expiry_ns else perpetual,
        base=base,
        quote=quote,
        settle=settle or (base if venue == frames.COINM else quote),
        price_increment=price_increment,
        size_increment=size_increment,
        multiplier=multiplier,
        expiry_ns=expiry_ns,
        delivery="" if delivery == "PERP" else delivery,
    )
