"""Venues and API versions that are not read, told by the outer form of their frames: they are refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from huracan_gateway.reading import DAMAGED

_BYBIT_V2 = "Bybit's v2 API, which has ended: v5 is read here"
_BYBIT_SPOT = "Bybit's spot API before v5, which has ended: v5 futures are read here"
_OKX_V3 = "OKX's v3 API, which has ended: v5 is read here"
_JSON_RPC = "a JSON-RPC venue (Deribit, bitFlyer, HitBTC)"
_COINBASE = "match|last_match|l2update|snapshot|ticker|heartbeat"
_LONGEST = 4 << 20
"""Bytes of a frame that is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """An outer form: the fields that a frame has, those it has not, and what the texts in some of them match."""

    name: str
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)

    def fits(self, frame: Mapping[str, object]) -> bool:
        """Return whether a frame has this form."""
        return (
            self.has <= frame.keys()
            and self.lacks.isdisjoint(frame)
            and all(re.fullmatch(pattern, _text(frame.get(name))) for name, pattern in self.texts.items())
        )


def _form(name: str, has: str = "", lacks: str = "", **texts: str) -> Form:
    """Return a form; fields are separated by spaces, and every field with a text is one that the frame has."""
    return Form(name=name, has=frozenset([*has.split(), *texts]), lacks=frozenset(lacks.split()), texts=texts)


_FORMS = (
    _form(_BYBIT_V2, topic=r"(orderBookL2_25|orderBook_200|instrument_info|klineV2|candle)\..+"),
    _form(_BYBIT_V2, "data", lacks="ts", topic=r"(trade|liquidation|insurance)\..+"),
    _form(_BYBIT_V2, "success ret_msg request", lacks="op"),
    _form(_BYBIT_SPOT, "params", topic=r"\w+"),
    _form(_OKX_V3, "data", table=r"(spot|futures|swap|option|index)/.+"),
    _form("BitMEX", "action data", table=r"\w+"),
    _form("BitMEX", "success subscribe request"),
    _form("BitMEX", "docs version", info=r".*BitMEX.*"),
    _form("Deribit", "params", method="subscription", jsonrpc=r"2\.0"),
    _form("Deribit", "usIn usOut", jsonrpc=r"2\.0"),
    _form("bitFlyer", "params", method="channelMessage", jsonrpc=r"2\.0"),
    _form("HitBTC", "params", method=r"(snapshot|update|ticker)\w*", jsonrpc=r"2\.0"),
    _form(_JSON_RPC, jsonrpc=r"2\.0"),
    _form("Kraken futures", "product_id", feed=r"\w+"),
    _form("Kraken futures", "product_ids", feed=r"\w+"),
    _form("Kraken futures", "version", lacks="data connectionID", event="info"),
    _form("FTX, which has closed", "market", channel=r"\w+", type=r"\w+"),
    _form("Coinbase International", "product_id sequence", channel=r"[A-Z0-9_]+", type="SNAPSHOT|UPDATE"),
    _form("Coinbase", "events sequence_num timestamp", channel=r"\w+"),
    _form("Lighter", channel=r"\w+:\w+", type=r"(subscribed|update)/\w+"),
    _form("Kraken", "data", lacks="generated", channel=r"\w+", type="snapshot|update"),
    _form("Gate.io", "result", channel=r"(spot|futures|options)\.\w+"),
    _form("Gate.io", "params", method=r"(trades|depth|ticker)\.update"),
    _form("Bitstamp", event=r"bts:\w+", channel=r"\w+"),
    _form("Bitstamp", "data", event=r"trade|data", channel=r"(live_trades|order_book|diff_order_book)\w*"),
    _form("Huobi", ch=r"market\..+"),
    _form("Huobi", subbed=r"market\..+"),
    _form("Huobi", rep=r"market\..+"),
    _form("Huobi", "op data", topic=r"public\..+"),
    _form("Coinbase", product_id=r"[A-Z0-9]+-[A-Z0-9]+", type=_COINBASE),
    _form("Delta Exchange", "sequence_no symbol", type=r"l2_updates"),
    _form("Gemini", "symbol changes", type="l2_updates"),
    _form("Gemini", "symbol event_id", type="trade"),
    _form("Upbit", "code", type="orderbook|trade|ticker"),
    _form("Serum, which has ended", "market slot", type=r"\w+"),
    _form("Bitnomial", "ack_id symbol", type=r"\w+"),
    _form("Delta Exchange", "product_id symbol", type=r"\w+"),
    _form("Bullish", "data", type="snapshot|update", dataType=r"V1TA\w+"),
    _form("AscendEX", m=r"trades|depth|depth-snapshot|bbo|futures-pricing-data"),
    _form("Coinflex, which has closed", table=r"\w+"),
    _form("Polymarket", "market asset_id"),
    _form("Polymarket", "market price_changes"),
    _form("Bitget", "arg data", action="snapshot|update"),
)
"""The first that fits tells."""

_LISTS: tuple[tuple[str, Callable[[list[object]], bool]], ...] = (
    ("Kraken's API v1", lambda frame: len(frame) >= 4 and _is_pair(frame[-1]) and isinstance(frame[-2], str)),
    ("Poloniex before 2022", lambda frame: len(frame) == 3 and isinstance(frame[2], list) and _all_int(frame[:2])),
    ("Bitfinex", lambda frame: len(frame) in (2, 3) and _all_int(frame[:1]) and isinstance(frame[-1], list | str)),
    ("Polymarket", lambda frame: bool(frame) and isinstance(frame[0], dict) and "event_type" in frame[0]),
)


def named(raw: bytes) -> str | None:
    """Return the venue or API version that a frame is from, where it is one that is not read here; else None."""
    if len(raw) > _LONGEST:
        return None
    try:
        frame = msgspec.json.decode(raw)
    except DAMAGED:
        return None
    if isinstance(frame, list):
        return next((name for name, fits in _LISTS if fits(frame)), None)
    if not isinstance(frame, dict) or _is_read(frame):
        return None
    return next((form.name for form in _FORMS if form.fits(frame)), None) or _by_members(frame)


def _is_read(frame: Mapping[str, object]) -> bool:
    """Whether it has the outer form of OKX v5; a form of another venue that shares it has symbols without a dash."""
    arg = frame.get("arg")
    return isinstance(arg, dict) and "-" in _text(arg.get("instId", "-"))


def _by_members(frame: Mapping[str, object]) -> str | None:
    """Tell venues that send `channel` and `data` alone by what is in the data."""
    if not isinstance(frame.get("channel"), str) or "data" not in frame:
        return None
    if {"tsMs", "method", "type"} & frame.keys():
        return None
    data = frame["data"]
    first = data[0] if isinstance(data, list) and data else data
    if isinstance(first, dict) and "symbol" in first:
        return "Poloniex"
    return "Hyperliquid" if frame.keys() == {"channel", "data"} else None


def _text(value: object) -> str:
    """Return a text; that of anything else matches nothing that a form asks for."""
    return value if isinstance(value, str) else ""


def _is_pair(value: object) -> bool:
    return isinstance(value, str) and value.count("/") == 1


def _all_int(values: list[object]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
