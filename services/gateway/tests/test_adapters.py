"""Every venue keeps the laws of an adapter; and what is Binance's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from huracan.clock import MINUTE_NS
from huracan.contracts.market import InstrumentType
from huracan.errors import BadInput
from huracan_gateway.adapter import Adapter, Control, Request
from huracan_gateway.binance_coinm.adapter import ADAPTER as COINM
from huracan_gateway.binance_spot.adapter import ADAPTER as SPOT
from huracan_gateway.binance_usdm.adapter import ADAPTER as USDM
from huracan_gateway.binance_usdm.websocket import path_of
from huracan_gateway.check import check_adapter
from huracan_gateway.events import Trade
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.venues import ADAPTERS

E_MS = 1_723_161_256_322
DELIVERED_NS = 1_727_424_000_000_000_000
"""2024-09-27 08:00 UTC."""


def raw(frame: object) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()


def stream(name: str, **data: Any) -> bytes:
    return raw({"stream": name, "data": data})


def futures(symbol: str, name: str, price: str, size: str, **more: Any) -> list[bytes]:
    """Frames of a futures symbol: every stream, both kinds of trades that can be asked for, a book and its updates."""
    of = {"E": E_MS, "s": symbol, **more}
    order = {"s": symbol, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": size, "p": price, "ap": "61800.12345678",
             "X": "FILLED", "l": size, "z": size, "T": E_MS}  # fmt: skip
    return [
        stream(f"{name}@depth@100ms", e="depthUpdate", T=E_MS, U=90, u=99, pu=89, b=[], a=[], **of),
        stream(f"{name}@depth@100ms", e="depthUpdate", T=E_MS, U=100, u=110, pu=99, b=[[price, size]], a=[], **of),
        stream(f"{name}@depth@0ms", e="depthUpdate", T=E_MS, U=115, u=120, pu=110, b=[[price, "0"]], a=[], **of),
        stream(f"{name}@bookTicker", e="bookTicker", u=125, b=price, B=size, a="61900.3", A=size, T=E_MS, **of),
        stream(f"{name}@trade", e="trade", T=E_MS, t=5266583935, p=price, q=size, X="MARKET", m=False, **of),
        stream(f"{name}@aggTrade", e="aggTrade", T=E_MS, a=2206, p=price, q=size, f=7, l=9, m=True, nq=size, **of),
        stream(f"{name}@markPrice@1s", e="markPriceUpdate", p="61799.27730000", i="61807.03400000", P="61735.8",
               r="-0.00038167", T=E_MS + 3_600_000, **of),
        stream(f"{name}@forceOrder", e="forceOrder", E=E_MS, o=order),
        raw([{"a": 2207, "p": price, "q": size, "f": 9, "l": 9, "T": E_MS, "m": True}]),
    ]  # fmt: skip


LOTS = {"filterType": "LOT_SIZE", "minQty": "1", "maxQty": "1000000"}
ASKED_TRADE = {"id": 28457, "qty": "1", "time": E_MS, "isBuyerMaker": True}
USDM_SYMBOL = {
    "symbol": "BTCUSDT", "pair": "BTCUSDT", "contractType": "PERPETUAL", "deliveryDate": 4133404800000,
    "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "marginAsset": "USDT", "pricePrecision": 2,
    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10"}, {**LOTS, "stepSize": "0.001"}],
}  # fmt: skip
COINM_SYMBOL = {
    "symbol": "BTCUSD_PERP", "pair": "BTCUSD", "contractType": "PERPETUAL", "deliveryDate": 4133404800000,
    "contractStatus": "TRADING", "contractSize": 100, "baseAsset": "BTC", "quoteAsset": "USD", "marginAsset": "BTC",
    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.1"}, {**LOTS, "stepSize": "1"}],
}  # fmt: skip
OKX_INSTRUMENT = {
    "instType": "SWAP", "instId": "BTC-USDT-SWAP", "instFamily": "BTC-USDT", "uly": "BTC-USDT", "ctType": "linear",
    "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC", "settleCcy": "USDT", "tickSz": "0.1", "lotSz": "0.01",
    "expTime": "", "state": "live",
}  # fmt: skip
BYBIT_INSTRUMENT = {
    "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC",
    "quoteCoin": "USDT", "settleCoin": "USDT", "deliveryTime": "0", "priceScale": "2",
    "priceFilter": {"tickSize": "0.10"}, "lotSizeFilter": {"qtyStep": "0.001"},
}  # fmt: skip
SPOT_SYMBOL = {
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "baseAssetPrecision": 8, "quoteAsset": "USDT",
    "isSpotTradingAllowed": True, "permissionSets": [["SPOT"]],
    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01000000"}, {**LOTS, "stepSize": "0.00001000"}],
}  # fmt: skip
INSTRUMENTS: dict[str, bytes] = {
    "binance_usdm": raw({"timezone": "UTC", "symbols": [{**USDM_SYMBOL, "symbol": "ETHUSDT"}, USDM_SYMBOL]}),
    "binance_coinm": raw({"timezone": "UTC", "symbols": [COINM_SYMBOL]}),
    "binance_spot": raw({"timezone": "UTC", "symbols": [SPOT_SYMBOL]}),
    "okx": raw({"code": "0", "msg": "", "data": [OKX_INSTRUMENT]}),
    "bybit": raw({"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [BYBIT_INSTRUMENT]}}),
}
BOOK = {"lastUpdateId": 105, "bids": [["61800.2", "2"], ["61800.1", "1"]], "asks": [["61800.4", "1"]]}
OKX_OF = {"instId": "BTC-USDT-SWAP"}
OKX_TRADE = {**OKX_OF, "tradeId": "1306394", "px": "61800.3", "sz": "4", "side": "buy", "ts": str(E_MS)}
OKX_BOOK = {"bids": [["61800.2", "2", "0", "1"]], "asks": [["61800.4", "1", "0", "1"]], "ts": str(E_MS), "checksum": 0}


def okx(channel: str, data: object, **more: object) -> bytes:
    return raw({"arg": {"channel": channel, **OKX_OF}, **more, "data": [data]})


BYBIT_BOOK = {"s": "BTCUSDT", "b": [["61800.20", "2"]], "a": [["61800.40", "1"]], "u": 100, "seq": 7961638724}
BYBIT_EXECUTION = {"execId": "a905d5c3-1ed0-4f37-83e4-9c73a2fe2f01", "symbol": "BTCUSDT", "price": "61800.30",
                   "size": "0.005", "side": "Buy", "time": str(E_MS), "isBlockTrade": False}  # fmt: skip


def bybit(topic: str, data: object, kind: str = "snapshot") -> bytes:
    return raw({"topic": f"{topic}.BTCUSDT", "type": kind, "ts": E_MS, "data": data, "cts": E_MS})


EXAMPLES: dict[str, list[bytes]] = {
    "binance_usdm": [
        *futures("BTCUSDT", "btcusdt", "61800.3", "0.006"),
        raw({**BOOK, "E": E_MS, "T": E_MS}),
        raw([{**ASKED_TRADE, "price": "61800.3", "quoteQty": "61800.3", "isRPITrade": False}]),
    ],
    "binance_coinm": [
        *futures("BTCUSD_PERP", "btcusd_perp", "61800.3", "4", ps="BTCUSD"),
        raw({**BOOK, "E": E_MS, "T": E_MS, "symbol": "BTCUSD_PERP", "pair": "BTCUSD"}),
        raw([{**ASKED_TRADE, "price": "61800.3", "baseQty": "0.00161813"}]),
    ],
    "binance_spot": [
        stream("btcusdt@depth@100ms", e="depthUpdate", E=E_MS, s="BTCUSDT", U=100, u=110, b=[["61800.3", "1"]], a=[]),
        raw(BOOK),
        stream("btcusdt@depth@100ms", e="depthUpdate", E=E_MS, s="BTCUSDT", U=111, u=120, b=[["61800.3", "0"]], a=[]),
        stream("btcusdt@bookTicker", u=125, s="BTCUSDT", b="61837.63", B="3.78826", a="61837.64", A="1.54698"),
        stream("btcusdt@trade", e="trade", E=E_MS, s="BTCUSDT", t=37, p="61837.63", q="0.02", T=E_MS, m=True, M=True),
        stream("btcusdt@aggTrade", e="aggTrade", E=E_MS, s="BTCUSDT", a=15, p="61837.63", q="0.02", f=1, l=1, T=E_MS,
               m=False, M=True),
        raw([{**ASKED_TRADE, "price": "61800.3", "quoteQty": "61800.3", "isBestMatch": True}]),
        raw([{"a": 26129, "p": "61800.3", "q": "4.7", "f": 1, "l": 1, "T": E_MS, "m": True, "M": True}]),
    ],
    "okx": [
        okx("books", {**OKX_BOOK, "seqId": 100, "prevSeqId": -1}, action="snapshot"),
        okx("books", {**OKX_BOOK, "seqId": 110, "prevSeqId": 100, "asks": []}, action="update"),
        okx("bbo-tbt", {**OKX_BOOK, "seqId": 105}),
        okx("trades", OKX_TRADE),
        okx("mark-price", {"instType": "SWAP", **OKX_OF, "markPx": "61800.1", "ts": str(E_MS)}),
        okx("funding-rate", {**OKX_OF, "fundingRate": "-0.0001", "fundingTime": str(E_MS), "ts": str(E_MS)}),
        raw({"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": [
            {**OKX_OF, "details": [{"side": "buy", "posSide": "short", "sz": "2", "bkPx": "61900", "ts": str(E_MS)}]},
        ]}),
        raw({"code": "0", "msg": "", "data": [{**OKX_BOOK, "seqId": 110}]}),
        raw({"code": "0", "msg": "", "data": [OKX_TRADE]}),
    ],
    "bybit": [
        bybit("orderbook.200", BYBIT_BOOK),
        bybit("orderbook.200", {**BYBIT_BOOK, "u": 101, "a": []}, "delta"),
        bybit("orderbook.1", BYBIT_BOOK),
        bybit("publicTrade", [{"T": E_MS, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "61800.30",
                               "i": "20f43950-d8dd-5b31-9112-a178eb6023af", "BT": False}]),
        bybit("tickers", {"symbol": "BTCUSDT", "markPrice": "61800.33", "indexPrice": "61807.36",
                          "fundingRate": "-0.000212", "nextFundingTime": str(E_MS)}),
        bybit("tickers", {"symbol": "BTCUSDT", "bid1Price": "61800.30"}, "delta"),
        bybit("allLiquidation", [{"T": E_MS, "s": "BTCUSDT", "S": "Sell", "v": "0.003", "p": "61900.20"}]),
        raw({"retCode": 0, "retMsg": "OK", "result": {**BYBIT_BOOK, "u": 101, "ts": E_MS, "cts": E_MS}, "time": E_MS}),
        raw({"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [BYBIT_EXECUTION]}, "time": E_MS}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("venue", ADAPTERS)
def test_every_adapter_keeps_the_laws(venue: str) -> None:
    check_adapter(ADAPTERS[venue], EXAMPLES[venue], INSTRUMENTS[venue], others=ADAPTERS.values())


BROKEN = {
    "owned a frame": replace(SPOT, venue="other", owns=lambda _raw: True),
    "did not own": replace(USDM, owns=lambda _raw: False),
    "control claimed market data": replace(
        USDM, websocket=replace(USDM.websocket, control=lambda _raw: (Control.PONG, ""))
    ),
    "is not among": replace(USDM, websocket=replace(USDM.websocket, book_stream=lambda _definition: "none")),
    "path was": replace(
        USDM, http=replace(USDM.http, instruments=lambda _symbol: Request(path="fapi/v1/exchangeInfo"))
    ),
    "symbol was": replace(USDM, symbol_of=lambda given: "BTCUSDT" if b"depth" in given else "ETHUSDT"),
    "as implied": replace(USDM, implied=lambda *_texts: SPOT.implied("BTCUSDT", "0.10", "0.001")),
    "did not own the book": replace(USDM, write_book=SPOT.write_book),
    "written at 105 and read at 106": replace(
        USDM, write_book=lambda book: USDM.write_book(book._replace(number=book.number + 1))
    ),
    "was another when": replace(USDM, write_book=lambda book: USDM.write_book(book._replace(bids=book.bids[:1]))),
    "is in": replace(USDM, book_marks=[b"@depth"]),
    "JSONDecodeError": replace(USDM, symbol_of=lambda given: USDM.symbol_of(given) if json.loads(given) else None),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_an_adapter_that_breaks_a_law_is_told_which(sentence: str) -> None:
    broken = BROKEN[sentence]
    checked = USDM if broken.venue == "other" else broken
    with pytest.raises(AssertionError, match=sentence):
        check_adapter(checked, EXAMPLES["binance_usdm"], INSTRUMENTS["binance_usdm"], others=[broken])


def test_a_crossed_book_among_the_examples_is_told() -> None:
    crossed = raw({**BOOK, "E": E_MS, "bids": [["61800.9", "2"]]})
    with pytest.raises(AssertionError, match="best bid was 618009, best ask 618004"):
        check_adapter(USDM, [*EXAMPLES["binance_usdm"][:2], crossed], INSTRUMENTS["binance_usdm"])


@pytest.mark.parametrize(
    ("adapter", "symbol", "named", "kind", "multiplier", "expiry_ns"),
    [
        (USDM, "BTCUSDT", "btc-usdt-perp", InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL, "1", 0),
        (USDM, "BTCUSDT_240927", "btc-usdt-240927", InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE, "1", DELIVERED_NS),
        (COINM, "BTCUSD_PERP", "btc-usd-perp", InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL, "100", 0),
        (COINM, "BTCUSD_240927", "btc-usd-240927", InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE, "100", DELIVERED_NS),
        (COINM, "ETHUSD_PERP", "eth-usd-perp", InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL, "10", 0),
        (SPOT, "ETHBTC", "eth-btc", InstrumentType.INSTRUMENT_TYPE_SPOT, "1", 0),
    ],
)
def test_a_symbol_implies_what_the_venue_defines(
    adapter: Adapter, symbol: str, named: str, kind: InstrumentType, multiplier: str, expiry_ns: int
) -> None:
    made = adapter.implied(symbol, "0.1", "1")
    assert (made.id.venue, made.id.symbol, made.type) == (adapter.venue, named, kind)
    assert (made.multiplier, made.expiry_ns) == (multiplier, expiry_ns)
    told = {
        "symbol": symbol, "contractType": "CURRENT_QUARTER", "deliveryDate": DELIVERED_NS // 1_000_000,
        "contractSize": int(multiplier), "baseAsset": made.base, "quoteAsset": made.quote, "marginAsset": made.settle,
        "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.1"}, {**LOTS, "stepSize": "1"}],
    }  # fmt: skip
    assert adapter.defines(raw({"symbols": [told]})) == made


@pytest.mark.parametrize(
    ("adapter", "symbol", "named"),
    [
        (USDM, "SIMUSDT", "sim-usdt-perp"),
        (COINM, "SIMUSD_PERP", "sim-usd-perp-binance_coinm"),
        (SPOT, "SIMUSDT", "sim-usdt-binance_spot"),
    ],
)
def test_what_is_simulated_is_labelled_so(adapter: Adapter, symbol: str, named: str) -> None:
    made = adapter.implied(symbol, "0.1", "1")
    assert (made.id.venue, made.id.symbol) == ("sim", named)


@pytest.mark.parametrize(
    ("adapter", "symbol"),
    [(USDM, "BTCUSD_PERP"), (USDM, "BTCUSD_240927"), (USDM, "BTCUSDT_991399"), (COINM, "BTCUSDT"), (COINM, "BTCUSD"),
     (SPOT, "BTCUSDT_240927"), (SPOT, "BTCUSD_PERP")],
)  # fmt: skip
def test_a_symbol_of_another_market_is_no_instrument_here(adapter: Adapter, symbol: str) -> None:
    with pytest.raises(Rejected, match="other_symbol"):
        adapter.implied(symbol, "0.1", "1")


@pytest.mark.parametrize(
    "changed",
    [{"filters": []}, {"contractSize": 0}, {"contractSize": None}, {"baseAsset": ""}, {"quoteAsset": 5},
     {"filters": [{"filterType": "PRICE_FILTER", "tickSize": "0"}, {**LOTS, "stepSize": "1"}]},
     {"filters": [{"filterType": "PRICE_FILTER", "tickSize": "1e999999"}, {**LOTS, "stepSize": "1"}]}],
)  # fmt: skip
def test_a_damaged_definition_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        COINM.defines(raw({"symbols": [{**COINM_SYMBOL, **changed}]}))


def test_a_definition_is_cut_out_of_the_answer_with_its_bytes_unchanged() -> None:
    symbol = b'{ "symbol":"BTCUSDT",' + raw(USDM_SYMBOL)[len(b'{"symbol":"BTCUSDT",') :]
    body = b'{"timezone":"UTC","symbols":[' + raw({**USDM_SYMBOL, "symbol": "ETHUSDT"}) + b"," + symbol + b"]}"
    assert USDM.http.instrument(body, "BTCUSDT") == b'{"symbols":[' + symbol + b"]}"
    with pytest.raises(Rejected, match="XRPUSDT"):
        USDM.http.instrument(body, "XRPUSDT")


BAR = [1499040000000, "0.01634790", "0.80000000", "0.01575800", "0.01577100", "148976", 1499040899999, "2434.19", 308,
       "1756.87402397", "28.46694368", "0"]  # fmt: skip


def test_bars_are_read_as_the_venue_says_them() -> None:
    later = [BAR[0] + 900_000, *BAR[1:]]  # type: ignore[operator]
    first, second = USDM.http.bars(raw([BAR, later]), USDM.implied("BTCUSDT", "0.1", "0.001"), 15 * MINUTE_NS)
    assert (first.open_ns, second.open_ns) == (1499040000000000000, 1499040900000000000)
    assert (first.open, first.high, first.low, first.close) == ("0.01634790", "0.80000000", "0.01575800", "0.01577100")
    assert (first.volume, first.trades, first.partial) == ("148976", 308, False)


def test_the_volume_of_inverse_contracts_is_their_worth() -> None:
    (bar,) = COINM.http.bars(raw([BAR]), COINM.implied("BTCUSD_PERP", "0.1", "1"), MINUTE_NS)
    assert Decimal(bar.volume) == 148_976 * 100


@pytest.mark.parametrize(
    "rows",
    [[BAR[:8]], [[*BAR[:1], 5, *BAR[2:]]], [[1499040000001, *BAR[1:]]], [[-1, *BAR[1:]]], [BAR, BAR], [[]], ["x"], {},
     [[BAR[0], "0.9", *BAR[2:]]], [[*BAR[:3], "0", *BAR[4:]]], [[*BAR[:8], -1]], [[BAR[0], "NaN", *BAR[2:]]]],
)  # fmt: skip
def test_damaged_bars_are_refused(rows: object) -> None:
    with pytest.raises(Rejected):
        USDM.http.bars(raw(rows), USDM.implied("BTCUSDT", "0.1", "0.001"), MINUTE_NS)


def test_only_bars_that_have_closed_are_asked_for() -> None:
    definition = USDM.implied("BTCUSDT", "0.1", "0.001")
    asked = USDM.http.klines(definition, 15 * MINUTE_NS, 1_723_161_256_322_000_000, 512)
    assert asked.path == "/fapi/v1/klines?symbol=BTCUSDT&interval=15m&endTime=1723160699999&limit=512"
    with pytest.raises(BadInput, match="the venue has 1m, 3m"):
        USDM.http.klines(definition, 7 * MINUTE_NS, 0, 1)


@pytest.mark.parametrize(
    ("adapter", "path", "weight"),
    [(USDM, "/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20),
     (COINM, "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000", 20),
     (SPOT, "/api/v3/depth?symbol=BTCUSDT&limit=1000", 50)],
)  # fmt: skip
def test_a_snapshot_is_asked_for_at_its_weight(adapter: Adapter, path: str, weight: float) -> None:
    symbol = "BTCUSD_PERP" if adapter is COINM else "BTCUSDT"
    asked = adapter.http.snapshot(adapter.implied(symbol, "0.1", "1"))
    assert (asked.path, asked.weight) == (path, weight)


@pytest.mark.parametrize(
    ("adapter", "text", "share"),
    [(USDM, "1200", 0.5), (COINM, "2400", 1.0), (SPOT, "3000", 0.5), (USDM, "9999", 1.0), (USDM, "x", None),
     (USDM, "-1", None), (USDM, "", None)],
)  # fmt: skip
def test_the_share_of_the_limit_that_is_used_is_told(adapter: Adapter, text: str, share: float | None) -> None:
    assert adapter.http.used({"x-mbx-used-weight-1m": text}) == share


def test_streams_are_named_in_the_address() -> None:
    spec, definition = SPOT.websocket, SPOT.implied("BTCUSDT", "0.01", "0.00001")
    assert list(spec.streams(definition)) == ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"]
    address = "wss://stream.binance.com:9443/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
    assert spec.address(spec.url, spec.streams(definition)) == address
    assert not [*spec.subscribe(spec.streams(definition), 1), *spec.unsubscribe(spec.streams(definition), 2)]


def test_books_and_trades_of_usd_m_futures_have_addresses_of_their_own() -> None:
    spec = USDM.websocket
    streams = spec.streams(USDM.implied("BTCUSDT", "0.1", "0.001"))
    public, market = ([name for name in streams if path_of(name) == path] for path in ("/public", "/market"))
    base = "wss://fstream.binance.com"
    assert spec.address(base, public) == f"{base}/public/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker"
    assert spec.address(base, market) == (
        f"{base}/market/stream?streams=btcusdt@aggTrade/btcusdt@markPrice@1s/btcusdt@forceOrder"
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b'{"result":null,"id":312}', Control.ACKNOWLEDGED),
        (b'{"id":"a","result":[]}', Control.ACKNOWLEDGED),
        (b'{"error":{"code":2,"msg":"Invalid request: unknown variant"},"id":1}', Control.REFUSED),
        (b'{"code":3,"msg":"Invalid JSON"}', Control.REFUSED),
        (b'{"error":{"code":-1003,"msg":"Too many requests"},"id":1}', Control.RATE_LIMITED),
        (b'{"e":"serverShutdown","E":1770123456789}', Control.RECONNECT),
        (b'{"event":{"e":"serverShutdown","E":1770123456789}}', Control.RECONNECT),
        (b'{"stream":"x","data":{"e":"serverShutdown","E":1770123456789}}', Control.RECONNECT),
        (b'{"stream":"x","data":{"e":"trade","s":"serverShutdown"}}', None),
        (b'{"stream":"x"}', None),
        (b'{"result":null', None),
        (b"{}", None),
    ],
)
def test_messages_that_are_no_market_data_are_told(message: bytes, told: Control | None) -> None:
    answer = SPOT.websocket.control(message)
    assert (answer[0] if answer else None) is told


def made(trade: Sequence[Any]) -> list[int]:
    return [each.trade_id for each in trade if isinstance(each, Trade)]


@pytest.mark.parametrize(("first", "second", "asked"), [("trade", "aggTrade", "quoteQty"), ("aggTrade", "trade", "f")])
def test_the_same_trades_are_not_taken_from_two_streams(first: str, second: str, asked: str) -> None:
    decoder = USDM.decoder(USDM.implied("BTCUSDT", "0.1", "0.001"))
    of = {
        name: next(each for each in EXAMPLES["binance_usdm"] if f"@{name}".encode() in each) for name in (first, second)
    }
    rows = next(each for each in EXAMPLES["binance_usdm"] if each.startswith(b"[") and f'"{asked}"'.encode() in each)
    assert made(decoder.decode(of[first])[1])
    with pytest.raises(Rejected, match=f"@{second} after @{first}") as refused:
        decoder.decode(of[second])
    assert refused.value.reason is Reason.UNKNOWN_STREAM
    assert made(decoder.decode(of[first])[1])
    assert made(decoder.decode(rows)[1]), "trades of the same kind, asked for, go on from the stream"
