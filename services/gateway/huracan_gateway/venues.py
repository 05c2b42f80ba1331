"""Every venue that is read: a folder each, found here by its token or by what its frames look like."""

from __future__ import annotations

from huracan.errors import BadInput
from huracan_gateway import unsupported
from huracan_gateway.adapter import Adapter
from huracan_gateway.binance_coinm.adapter import ADAPTER as BINANCE_COINM
from huracan_gateway.binance_spot.adapter import ADAPTER as BINANCE_SPOT
from huracan_gateway.binance_usdm.adapter import ADAPTER as BINANCE_USDM
from huracan_gateway.bybit.adapter import ADAPTER as BYBIT
from huracan_gateway.okx.adapter import ADAPTER as OKX

ADAPTERS: dict[str, Adapter] = {
    adapter.venue: adapter for adapter in (BINANCE_USDM, BINANCE_COINM, BINANCE_SPOT, OKX, BYBIT)
}


def named(venue: str) -> Adapter:
    """Return the adapter of a venue's token; raise BadInput, listing all, for another."""
    if venue not in ADAPTERS:
        raise BadInput(f"venue was {venue!r}; supported are {', '.join(ADAPTERS)}")
    return ADAPTERS[venue]


def owner(raw: bytes) -> Adapter | None:
    """Return the adapter whose venue a frame can be from, or None."""
    return next((adapter for adapter in ADAPTERS.values() if adapter.owns(raw)), None)


def foreign(raw: bytes, venue: str) -> str | None:
    """Return the name of another venue, or of a version that is not read, that a frame is from; else None."""
    found = owner(raw)
    if found is not None:
        return None if found.venue == venue else found.venue
    return unsupported.named(raw)
