"""What is not read is refused by the name of its venue or version; what is read has no such name."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan_gateway.unsupported import named

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "ws_raw"
MESSAGES = SHARED / "tardis_messages.jsonl.gz"
BYBIT_V2 = "Bybit's v2 API, which has ended: v5 is read here"
BYBIT_SPOT = "Bybit's spot API before v5, which has ended: v5 futures are read here"
OKX_V3 = "OKX's v3 API, which has ended: v5 is read here"
JSON_RPC = "a JSON-RPC venue (Deribit, bitFlyer, HitBTC)"


def read(path: Path) -> Iterator[str]:
    if not path.is_file():
        pytest.skip(f"needs {path.name} in ../shared")
    with gzip.open(path, "rt") as lines:
        yield from lines


@pytest.mark.parametrize(
    ("capture", "name"),
    [
        ("BYBIT.ws.25.0", BYBIT_V2),
        ("BYBIT.ws.26.0", BYBIT_V2),
        ("BITMEX.ws.1.0", "BitMEX"),
        ("DERIBIT.ws.1.0", "Deribit"),
        ("KRAKEN_FUTURES.ws.1.0", "Kraken futures"),
        ("OKX.ws.1.0", None),
        ("BINANCE.ws.1.0", None),
        ("BINANCE_FUTURES.ws.1.0", None),
        ("BINANCE_DELIVERY.ws.1.0", None),
    ],
)
def test_every_message_of_a_shared_capture_bears_its_venues_name(capture: str, name: str | None) -> None:
    lines = (line for line in read(SHARED / "cryptofeed" / f"{capture}.txt.gz") if not line.startswith("wss"))
    messages = [text for line in lines if (text := line.partition(": ")[2].strip())]
    assert len(messages) > 100
    assert {named(text.encode()) for text in messages} == {name}


NAMES: dict[str, set[str | None]] = {
    "ascendex": {"AscendEX", None},
    "binance": {None},
    "binance-dex": {None},
    "binance-european-options": {None},
    "binance-futures": {None},
    "bitflyer": {"bitFlyer"},
    "bitmex": {"BitMEX"},
    "bitnomial": {"Bitnomial"},
    "bitstamp": {"Bitstamp", None},
    "bybit": {BYBIT_V2, None},
    "bybit-options": {None},
    "bybit-spot": {BYBIT_SPOT, None},
    "coinbase": {"Coinbase"},
    "coinbase-international": {"Coinbase International"},
    "coinflex": {"Coinflex, which has closed", OKX_V3, None},
    "delta": {"Delta Exchange", None},
    "deribit": {"Deribit"},
    "ftx": {"FTX, which has closed"},
    "ftx-us": {"FTX, which has closed"},
    "gate-io": {"Gate.io"},
    "gemini": {"Gemini", None},
    "hitbtc": {"HitBTC", JSON_RPC},
    "huobi": {"Huobi"},
    "huobi-dm-options": {"Huobi"},
    "hyperliquid": {"Hyperliquid"},
    "kraken": {"Kraken", "Kraken's API v1"},
    "lighter": {"Lighter"},
    "None": {"Bullish"},
    "okcoin": {OKX_V3, None},
    "okex": {OKX_V3, None},
    "okex-futures": {OKX_V3, None},
    "okex-options": {OKX_V3, None},
    "okex-spreads": {None},
    "poloniex": {"Poloniex", "Poloniex before 2022", None},
    "polymarket": {"Polymarket", None},
    "serum": {"Serum, which has ended"},
    "upbit": {"Upbit"},
}
"""Exchange of the shared messages: the names that they are given. None where a message alone does not tell."""


def test_every_shared_message_bears_its_venues_name_or_none() -> None:
    given_names: dict[str, set[str | None]] = {}
    told: Counter[bool] = Counter()
    for line in read(MESSAGES):
        entry = json.loads(line)
        name = named(json.dumps(entry["message"]).encode())
        given_names.setdefault(str(entry["exchange"]), set()).add(name)
        told[name is not None] += 1
    assert given_names == NAMES
    assert told[True] > 280


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"topic":"trade.BTCUSD","data":[{"symbol":"BTCUSD"}]}', BYBIT_V2),
        (b'{"topic":"liquidation.BTCUSD","data":{"symbol":"BTCUSD"}}', BYBIT_V2),
        (b'{"topic":"liquidation.BTCUSDT","ts":1,"data":{"symbol":"BTCUSDT"}}', None),
        (b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{}}', None),
        (b'{"success":true,"ret_msg":"","op":"subscribe","request":{}}', None),
        (b'{"table":"swap/depth","action":"partial","data":[]}', OKX_V3),
        (b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[]}', None),
        (b'{"arg":{"channel":"liquidation-orders","instType":"SWAP"},"data":[]}', None),
        (b'{"action":"snapshot","arg":{"channel":"books","instId":"BTCUSDT"},"data":[]}', "Bitget"),
        (b'{"stream":"btcusdt@trade","data":{}}', None),
        (b'{"lastUpdateId":1,"bids":[],"asks":[]}', None),
        (b'[1,[["1","2"]],"trade","XBT/USD"]', "Kraken's API v1"),
        (b'[17470,"hb"]', "Bitfinex"),
        (b'[{"a":1,"p":"1"}]', None),
        (b"[]", None),
        (b"1", None),
        (b"not json", None),
        (b"[" * 100_000, None),
        (b'{"table":5,"topic":[],"channel":{}}', None),
    ],
)
def test_a_name_is_told_by_the_outer_form(raw: bytes, name: str | None) -> None:
    assert named(raw) == name


fields = st.sampled_from(["topic", "table", "channel", "data", "arg", "type", "event", "feed", "jsonrpc", "method"])
values = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2) | st.just({"symbol": 1})


@given(st.dictionaries(fields, values, max_size=5) | st.lists(values, max_size=5) | st.binary(max_size=50))
def test_whatever_comes_is_named_or_not(frame: object) -> None:
    name = named(frame if isinstance(frame, bytes) else json.dumps(frame).encode())
    assert name is None or name
