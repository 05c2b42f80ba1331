"""Bybit v5: what its frames say, exactly; the best prices told one side at a time; what is sent and asked."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.clock import MINUTE_NS
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan.errors import BadInput
from huracan.market.book import Applied, DepthUpdate, Level, SyncedBook
from huracan_gateway.adapter import Control
from huracan_gateway.bybit.adapter import ADAPTER
from huracan_gateway.bybit.data import Decoder, owns, symbol_of
from huracan_gateway.bybit.definition import category, implied
from huracan_gateway.events import NO_TIME, RECENT_TRADES, Defined, Depth, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.identity import define
from huracan_gateway.instrument import Instrument
from huracan_gateway.reject import Reason, Rejected

from .venue_examples import Examples, Says, fixtures, raw, read, told

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
FIXTURES = SHARED / "ws_raw" / "nautilus_fixtures" / "bybit.jsonl.gz"
MESSAGES = SHARED / "ws_raw" / "tardis_messages.jsonl.gz"
RAW_BOOK = SHARED / "ticks" / "nautilus" / "xrpusdt-ob500.data.zip"
MS = 1_723_161_256_322
NS = MS * 1_000_000
SYMBOL = "BTCUSDT"
PERPETUAL = implied(SYMBOL, "0.10", "0.001")
UUID = "20f43950-d8dd-5b31-9112-a178eb6023af"
UUID_BITS = 0x1112A178EB6023AF
BOOK: dict[str, Any] = {"s": SYMBOL, "b": [["61800.20", "2"]], "a": [["61800.40", "1.5"]], "u": 100, "seq": 7961}
TRADE = {"T": MS, "s": SYMBOL, "S": "Buy", "v": "0.001", "p": "61800.30", "L": "PlusTick", "i": UUID, "BT": False}
RECENT = {"execId": UUID, "symbol": SYMBOL, "price": "61800.30", "size": "0.001", "side": "Buy", "time": str(MS)}
TICKER = {
    "symbol": SYMBOL, "markPrice": "61800.33", "indexPrice": "61807.36", "fundingRate": "-0.000212",
    "nextFundingTime": str(MS),
}  # fmt: skip
CLOSED = {"T": MS, "s": SYMBOL, "S": "Sell", "v": "0.003", "p": "61900.20"}
CLOSED_BEFORE = {"updatedTime": MS, "symbol": SYMBOL, "side": "Buy", "size": "0.003", "price": "61900.20"}
INSTRUMENT = {
    "symbol": SYMBOL, "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": "BTC", "quoteCoin": "USDT",
    "settleCoin": "USDT", "deliveryTime": "0", "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"qtyStep": "0.001"},
}  # fmt: skip
BIDS, ASKS = [(618_002, 2_000)], [(618_004, 1_500)]


def of(topic: str, data: object, kind: str = "snapshot", **more: object) -> bytes:
    return raw({"topic": f"{topic}.{SYMBOL}", "type": kind, "ts": MS, "data": data, **more})


def answer(result: object, **more: object) -> bytes:
    return raw({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": MS, **more})


UPDATE = DepthUpdate(101, 101, 100, BIDS, [])
SAYS: list[tuple[bytes, Says]] = [
    (of("publicTrade", [TRADE]), ("trade", [Trade(NS, UUID_BITS, 618_003, 1, 1)])),
    (of("publicTrade", [{**TRADE, "S": "Sell"}, TRADE]),
     ("trade", [Trade(NS, UUID_BITS, 618_003, 1, -1), Trade(NS, UUID_BITS, 618_003, 1, 1)])),
    (of("orderbook.1", BOOK), ("quote", [Quote(NS, 7961, *BIDS[0], *ASKS[0])])),
    (of("orderbook.200", BOOK), ("snapshot", [Snapshot(NS, 100, BIDS, ASKS, True, 7961)])),
    (of("orderbook.50", {**BOOK, "u": 1}, cts=MS - 9),
     ("snapshot", [Snapshot(NS - 9_000_000, 1, BIDS, ASKS, True, 7961)])),
    (of("orderbook.1000", {**BOOK, "u": 101, "a": []}, "delta"), ("depth", [Depth(NS, UPDATE, 7961)])),
    (of("tickers", TICKER),
     ("mark", [Mark(NS, Decimal("61800.33"), Decimal("61807.36"), Decimal("-0.000212"), NS)])),
    (of("tickers", {"symbol": SYMBOL, "indexPrice": "5"}, "delta"), ("mark", [Mark(NS, index=Decimal(5))])),
    (of("tickers", {"symbol": SYMBOL, "bid1Price": "5"}, "delta"), ("mark", [Mark(NS)])),
    (of("tickers", {**TICKER, "fundingRate": "", "nextFundingTime": ""}),
     ("mark", [Mark(NS, Decimal("61800.33"), Decimal("61807.36"))])),
    (of("allLiquidation", [CLOSED, {**CLOSED, "S": "Buy"}]),
     ("liquidation", [Liquidation(NS, 619_002, 3, 1), Liquidation(NS, 619_002, 3, -1)])),
    (of("liquidation", CLOSED_BEFORE), ("liquidation", [Liquidation(NS, 619_002, 3, -1)])),
    (answer({**BOOK, "ts": MS, "cts": MS - 9}),
     ("snapshot", [Snapshot(NS - 9_000_000, 0, BIDS, ASKS, True, 7961)])),
    (answer({"category": "linear", "list": [{**RECENT, "side": "Sell"}, RECENT]}),
     (RECENT_TRADES, [Trade(NS, UUID_BITS, 618_003, 1, 1), Trade(NS, UUID_BITS, 618_003, 1, -1)])),
    (raw(INSTRUMENT), ("instrument", [Defined(NO_TIME, PERPETUAL)])),
]  # fmt: skip


def test_a_frame_says_its_symbol() -> None:
    assert {symbol_of(frame) for frame, _ in SAYS} == {SYMBOL}


WRONG: list[tuple[bytes, Reason, str]] = [
    (b"{", Reason.BAD_JSON, "{"),
    (b"null", Reason.BAD_FIELD, "object"),
    (raw({"success": True, "ret_msg": "pong", "op": "ping"}), Reason.UNKNOWN_STREAM, "op was 'ping'"),
    (b"{}", Reason.UNKNOWN_STREAM, "no topic"),
    (of("kline.5", []), Reason.UNKNOWN_STREAM, "kline.5"),
    (of("orderbook.rpi", BOOK), Reason.UNKNOWN_STREAM, "orderbook.rpi"),
    (of("trade.linear", [TRADE]), Reason.UNKNOWN_STREAM, "trade.linear"),
    (raw({"topic": "", "ts": MS, "data": []}), Reason.UNKNOWN_STREAM, "''"),
    (of("publicTrade", []), Reason.BAD_FIELD, "empty"),
    (of("publicTrade", [{**TRADE, "s": "ETHUSDT"}]), Reason.OTHER_SYMBOL, "ETHUSDT"),
    (raw({"topic": "tickers.ETHUSDT", "ts": MS, "data": TICKER}), Reason.OTHER_SYMBOL, "ETHUSDT"),
    (of("publicTrade", [{**TRADE, "i": "2290000000050703789"}]), Reason.OTHER_VENUE, "spot"),
    (of("publicTrade", [{**TRADE, "i": "x"}]), Reason.BAD_FIELD, "no UUID"),
    (of("publicTrade", [{**TRADE, "S": "buy"}]), Reason.BAD_FIELD, "S"),
    (of("publicTrade", [{**TRADE, "T": -1}]), Reason.NEGATIVE_TIME, "T"),
    (of("publicTrade", [{**TRADE, "T": MS * 1_000}]), Reason.IMPOSSIBLE_TIME, "T"),
    (of("publicTrade", [{**TRADE, "p": "61800.35"}]), Reason.OFF_INCREMENT, "price"),
    (of("publicTrade", [{**TRADE, "v": "-1"}]), Reason.NOT_POSITIVE, "size"),
    (of("orderbook.200", BOOK, "partial"), Reason.BAD_FIELD, "partial"),
    (of("orderbook.200", {**BOOK, "u": 0}, "delta"), Reason.BAD_FIELD, "u was 0"),
    (of("orderbook.200", {**BOOK, "u": 1}, "delta"), Reason.BAD_FIELD, "u was 1"),
    (answer({**BOOK, "u": -1, "ts": MS}), Reason.BAD_FIELD, "u"),
    (of("orderbook.200", {**BOOK, "u": 2**63}), Reason.BAD_FIELD, "u"),
    (of("orderbook.200", {**BOOK, "seq": None}), Reason.BAD_FIELD, "seq"),
    (of("orderbook.200", {**BOOK, "b": [["0", "1"]]}), Reason.NOT_POSITIVE, "b"),
    (of("orderbook.200", {**BOOK, "s": "ETHUSDT"}), Reason.OTHER_SYMBOL, "ETHUSDT"),
    (of("orderbook.1", {**BOOK, "a": []}), Reason.OUT_OF_ORDER, "best ask was not told"),
    (raw({"topic": f"tickers.{SYMBOL}", "data": TICKER}), Reason.BAD_FIELD, "ts was missing"),
    (of("tickers", {**TICKER, "markPrice": "0"}), Reason.NOT_POSITIVE, "markPrice"),
    (of("tickers", {**TICKER, "indexPrice": "9" * 18}), Reason.NOT_A_NUMBER, "beyond"),
    (of("tickers", {**TICKER, "fundingRate": "NaN"}), Reason.NOT_A_NUMBER, "fundingRate"),
    (of("tickers", {**TICKER, "nextFundingTime": "soon"}), Reason.BAD_FIELD, "nextFundingTime"),
    (raw({"retCode": 10001, "retMsg": "params error", "result": {}}), Reason.BAD_FIELD, "params error"),
    (answer({"category": "linear", "list": [{}]}), Reason.UNKNOWN_STREAM, "neither"),
    (answer({"category": "linear", "list": [{**RECENT, "time": "-5"}]}), Reason.NEGATIVE_TIME, "time"),
    (answer({"category": "linear", "list": [{**RECENT, "time": "9" * 20}]}), Reason.BAD_FIELD, "time"),
    (raw({**INSTRUMENT, "contractType": "Option"}), Reason.BAD_FIELD, "contractType"),
    (raw({**INSTRUMENT, "baseCoin": ""}), Reason.BAD_FIELD, "baseCoin"),
    (raw({**INSTRUMENT, "symbol": "ETHUSDT"}), Reason.OTHER_SYMBOL, "ETHUSDT"),
]  # fmt: skip


def best(u: int, bids: list[list[str]], asks: list[list[str]], kind: str = "delta") -> bytes:
    return of("orderbook.1", {"s": SYMBOL, "b": bids, "a": asks, "u": u, "seq": u}, kind)


def test_a_side_that_a_delta_does_not_tell_is_the_one_before() -> None:
    decoder = Decoder(PERPETUAL)
    told = [
        best(7, [["100.0", "1"]], [["100.2", "2"]], "snapshot"),
        best(8, [["100.0", "3"]], []),
        best(9, [], [["100.2", "0"], ["100.1", "4"]]),
        best(10, [["99.9", "5"], ["100.0", "0"]], []),
        best(10, [["100.0", "1"]], [["100.2", "2"]], "snapshot"),
        best(1, [["98.0", "1"]], [["98.1", "2"]], "snapshot"),
    ]
    quotes = [event for frame in told for event in decoder.decode(frame)[1]]
    assert quotes == [
        Quote(NS, 7, 1_000, 1_000, 1_002, 2_000),
        Quote(NS, 8, 1_000, 3_000, 1_002, 2_000),
        Quote(NS, 9, 1_000, 3_000, 1_001, 4_000),
        Quote(NS, 10, 999, 5_000, 1_001, 4_000),
        Quote(NS, 10, 1_000, 1_000, 1_002, 2_000),
        Quote(NS, 1, 980, 1_000, 981, 2_000),
    ]


def test_after_a_gap_a_side_is_not_known_until_it_is_told_again() -> None:
    decoder = Decoder(PERPETUAL)
    decoder.decode(best(7, [["100.0", "1"]], [["100.2", "2"]], "snapshot"))
    with pytest.raises(Rejected, match="out_of_order: best ask was not told before u 9"):
        decoder.decode(best(9, [["99.0", "1"]], []))
    [quote] = decoder.decode(best(10, [], [["99.1", "2"]]))[1]
    assert quote == Quote(NS, 10, 990, 1_000, 991, 2_000)


@pytest.mark.parametrize(("u", "reason"), [(7, Reason.DUPLICATE), (6, Reason.OUT_OF_ORDER)])
def test_a_delta_that_came_before_changes_nothing(u: int, reason: Reason) -> None:
    decoder = Decoder(PERPETUAL)
    decoder.decode(best(7, [["100.0", "1"]], [["100.2", "2"]], "snapshot"))
    with pytest.raises(Rejected) as caught:
        decoder.decode(best(u, [["99.0", "1"]], []))
    assert caught.value.reason is reason
    assert decoder.decode(best(8, [], [["100.1", "2"]]))[1] == [Quote(NS, 8, 1_000, 1_000, 1_001, 2_000)]


def test_a_damaged_delta_is_a_gap_and_not_half_taken() -> None:
    decoder = Decoder(PERPETUAL)
    decoder.decode(best(7, [["100.0", "1"]], [["100.2", "2"]], "snapshot"))
    with pytest.raises(Rejected, match="off_increment"):
        decoder.decode(best(8, [["99.9", "1"]], [["100.15", "2"]]))
    with pytest.raises(Rejected, match="best bid was not told"):
        decoder.decode(best(9, [], [["100.1", "2"]]))


def two_sided(bid: str, u: int, seq: int) -> dict[str, Any]:
    return {"s": SYMBOL, "b": [[bid, "1"]], "a": [["70000.00", "1"]], "u": u, "seq": seq, "ts": MS}


@pytest.mark.parametrize("asked", [7, 1_000_001, 9_000_000])
def test_a_book_that_was_asked_for_counts_whatever_its_number_and_no_update_continues_it(asked: int) -> None:
    instrument = Instrument(PERPETUAL, epoch=1, batch_rows=64, adapter=ADAPTER)
    decoder = Decoder(PERPETUAL)

    def take(number: int, frame: bytes) -> None:
        for event in decoder.decode(frame)[1]:
            instrument.take(event, recv_ns=NS + number, ingest_seq=number)

    def book() -> Level | None:
        return instrument.book.book.best_bid() if instrument.book.synced else None

    take(1, of("orderbook.200", two_sided("61000.00", 1_000_000, 50)))
    take(2, best(3, [["61000.00", "1"]], [["70000.00", "1"]], "snapshot"))
    for number, bid in ((3, "62000.00"), (4, "63000.00")):
        take(number, answer(two_sided(bid, asked + number, 50 + number)))
        assert book() == (int(Decimal(bid) * 10), 1_000)
    assert instrument.gaps == []
    take(5, of("orderbook.200", {**BOOK, "u": 1_000_001, "seq": 60}, "delta"))
    assert book() is None
    assert [gap.stream for gap in instrument.gaps] == ["depth"], "whoever watches is told, and has a new book asked for"
    take(6, best(4, [["64000.00", "1"]], []))
    assert instrument.check.last_quote == Quote(NS, 4, 640_000, 1_000, 700_000, 1_000), "quotes go on"
    take(7, of("orderbook.200", two_sided("64000.00", 1_000_001, 70)))
    take(8, of("orderbook.200", {**BOOK, "u": 1_000_002, "a": [], "seq": 71}, "delta"))
    assert book() == (640_000, 1_000)
    assert len(instrument.gaps) == 1


def test_the_shared_book_is_rebuilt_without_a_gap_or_a_cross() -> None:
    if not RAW_BOOK.is_file():
        pytest.skip(f"needs {RAW_BOOK.name} in ../shared")
    with zipfile.ZipFile(RAW_BOOK) as packed:
        frames = packed.read(packed.namelist()[0]).splitlines()
    decoder, synced = Decoder(implied("XRPUSDT", "0.0001", "1")), SyncedBook()
    kinds: Counter[str] = Counter()
    for frame in frames:
        kind, [event] = decoder.decode(frame)
        kinds[kind] += 1
        if isinstance(event, Snapshot):
            synced.snapshot(event.last_update_id, event.bids, event.asks, restart=event.restart)
        else:
            assert isinstance(event, Depth)
            assert synced.apply(event.update) is Applied.APPLIED
        bid, ask = synced.book.best_bid(), synced.book.best_ask()
        assert bid is not None
        assert ask is not None
        assert bid[0] < ask[0]
    assert kinds == {"snapshot": 1, "depth": len(frames) - 1}
    assert [len(side) for side in synced.book.levels()] == [500, 500]


def fixed(symbol: str) -> InstrumentDefinition:
    """Return a definition fine enough for the frames of any symbol."""
    return define(
        venue="bybit", venue_symbol=symbol, type=InstrumentType.INSTRUMENT_TYPE_SPOT, base="BASE", quote="USDT",
        settle="USDT", price_increment=Decimal("1e-8"), size_increment=Decimal("1e-8"),
    )  # fmt: skip


def kind_of(frame: bytes) -> str:
    return told(ADAPTER, fixed(symbol_of(frame) or SYMBOL), frame)


def test_every_shared_message_of_v5_futures_is_read() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for line in read(MESSAGES):
        entry = json.loads(line)
        frame = raw(entry["message"])
        if entry["exchange"] == "bybit" and owns(frame):
            kinds[str(entry["message"]["topic"]).partition(".")[0], kind_of(frame)] += 1
    assert kinds == {
        ("publicTrade", "trade"): 2,
        ("orderbook", "quote"): 2,
        ("orderbook", Reason.OUT_OF_ORDER): 1,  # a delta alone, of one side
        ("orderbook", "snapshot"): 1,
        ("orderbook", "depth"): 1,
        ("tickers", "mark"): 5,
        ("liquidation", "liquidation"): 2,
        ("allLiquidation", "liquidation"): 2,
    }


def test_trades_of_spot_are_told_from_those_of_futures_by_their_numbers() -> None:
    trades = 0
    for line in read(MESSAGES):
        entry = json.loads(line)
        if entry["exchange"] == "bybit-spot" and str(entry["message"]["topic"]).startswith("publicTrade."):
            trades += 1
            assert kind_of(raw(entry["message"])) == Reason.OTHER_VENUE
    assert trades == 2


READ = {
    "http_get_orderbook": "snapshot", "http_get_trades_recent": RECENT_TRADES, "ws_orderbook_snapshot": "quote",
    "ws_ticker_linear": "mark", "ws_ticker_option": "mark",
}  # fmt: skip


def test_every_shared_fixture_is_read_as_what_it_is_or_refused() -> None:
    frames = fixtures(FIXTURES)
    assert len(frames) == 23
    for name, frame in frames.items():
        kind = kind_of(frame)
        if name in READ:
            assert kind == READ[name], name
        else:
            assert kind in (Reason.UNKNOWN_STREAM, Reason.OUT_OF_ORDER), f"{name}: {kind}"


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("linear", "BTCUSDT"), ("linear", "ETHUSDT"), ("inverse", "BTCUSD"), ("inverse_symbol_type", "BRENTUSD"),
     ("linear_symbol_type", "TSLAUSDT")],
)  # fmt: skip
def test_a_symbol_implies_what_the_venue_defines(name: str, symbol: str) -> None:
    cut = ADAPTER.http.instrument(fixtures(FIXTURES)[f"http_get_instruments_{name}"], symbol)
    definition = ADAPTER.defines(cut)
    assert definition is not None
    assert ADAPTER.implied(symbol, definition.price_increment, definition.size_increment) == definition


LINEAR, INVERSE = InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL, InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL
LINEAR_DATED, INVERSE_DATED = (
    InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE,
    InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE,
)
SEPTEMBER_NS = 1_695_974_400 * 10**9
"""2023-09-29 08:00 UTC, a Friday."""


@pytest.mark.parametrize(
    ("symbol", "venue", "named", "kind", "settle", "expiry_ns"),
    [
        ("BTCUSDT", "bybit", "btc-usdt-perp", LINEAR, "USDT", 0),
        ("1000PEPEUSDT", "bybit", "1000pepe-usdt-perp", LINEAR, "USDT", 0),
        ("BTCPERP", "bybit", "btc-usdc-perp", LINEAR, "USDC", 0),
        ("BTCUSD", "bybit", "btc-usd-perp", INVERSE, "BTC", 0),
        ("BTCUSDU23", "bybit", "btc-usd-230929", INVERSE_DATED, "BTC", SEPTEMBER_NS),
        ("BTC-29SEP23", "bybit", "btc-usdc-230929", LINEAR_DATED, "USDC", SEPTEMBER_NS),
        ("BTCUSDT-29SEP23", "bybit", "btc-usdt-230929", LINEAR_DATED, "USDT", SEPTEMBER_NS),
        ("SIMUSDT", "sim", "sim-usdt-perp-bybit", LINEAR, "USDT", 0),
    ],
)  # fmt: skip
def test_a_symbol_says_what_it_is_and_simulated_data_is_labelled(
    symbol: str, venue: str, named: str, kind: InstrumentType, settle: str, expiry_ns: int
) -> None:
    made = implied(symbol, "0.1", "1E-8")
    assert (made.id.venue, made.id.symbol, made.type) == (venue, named, kind)
    assert (made.settle, made.expiry_ns, made.multiplier) == (settle, expiry_ns, "1")
    future = {"contractType": "LinearFutures" if kind == LINEAR_DATED else "InverseFutures"}
    if expiry_ns:
        told = {
            **INSTRUMENT, **future, "symbol": symbol, "baseCoin": made.base, "quoteCoin": made.quote,
            "settleCoin": settle, "deliveryTime": str(expiry_ns // 1_000_000), "priceFilter": {"tickSize": "0.1"},
            "lotSizeFilter": {"qtyStep": "0.00000001"},
        }  # fmt: skip
        assert ADAPTER.defines(raw(told)) == implied(symbol, "0.1", "0.00000001")


@pytest.mark.parametrize(
    "symbol", ["BTC", "btcusdt", "BTCEUR", "BTC-31FEB26", "BTC-1XXX26", "BTC-26JUN26-9000-C", "USDT"]
)
def test_a_symbol_that_cannot_be_split_is_refused(symbol: str) -> None:
    with pytest.raises(Rejected, match="other_symbol"):
        implied(symbol, "0.1", "1")


changes = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=3)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3), changes, changes), max_size=12))
def test_best_prices_are_those_of_the_same_frames_whenever_they_are_decoded(
    frames: list[tuple[bool, int, list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    def run() -> list[object]:
        decoder, u = Decoder(PERPETUAL), 0
        seen: list[object] = []
        for whole, ahead, bids, asks in frames:
            u += ahead - 1
            bid, ask = ([[f"{price}.0", str(size)] for price, size in side] for side in (bids, asks))
            try:
                seen.append(decoder.decode(best(u, bid, ask, "snapshot" if whole else "delta"))[1][0])
            except Rejected as error:
                seen.append(error.detail)
        return seen

    first = run()
    assert first == run()
    assert all(min(q.bid_size, q.ask_size) > 0 for q in first if isinstance(q, Quote))


ROW = ["1723161180000", "61800", "61810.5", "61790", "61801", "12.5", "772500"]


def klines(*rows: list[str], symbol: str = SYMBOL) -> bytes:
    return answer({"category": "linear", "symbol": symbol, "list": rows})


def test_closed_bars_are_read_oldest_first() -> None:
    still_open, before = ["1723161240000", *ROW[1:]], ["1723161120000", *ROW[1:]]
    first, second = ADAPTER.http.bars(klines(still_open, ROW, before), PERPETUAL, MINUTE_NS)
    assert (first.open_ns, second.open_ns) == (1723161120000000000, 1723161180000000000)
    assert (second.open, second.high, second.low, second.close) == ("61800", "61810.5", "61790", "61801")
    assert second.volume == "12.5"


def test_bars_of_another_symbol_are_refused() -> None:
    with pytest.raises(Rejected, match="ETHUSDT"):
        ADAPTER.http.bars(klines(ROW, symbol="ETHUSDT"), PERPETUAL, MINUTE_NS)


def test_what_is_asked_names_category_and_symbol() -> None:
    http, inverse = ADAPTER.http, implied("BTCUSD", "0.5", "1")
    asked = http.klines(PERPETUAL, 15 * MINUTE_NS, NS, 64)
    assert asked.path == f"/v5/market/kline?category=linear&symbol={SYMBOL}&interval=15&end={MS - 1}&limit=64"
    assert http.snapshot(inverse).path == "/v5/market/orderbook?category=inverse&symbol=BTCUSD&limit=200"
    assert http.instruments("BTCUSDU23").path.endswith("?category=inverse&symbol=BTCUSDU23")
    assert (category("BTCPERP"), category("BTC-26JUN26")) == ("linear", "linear")
    with pytest.raises(BadInput, match="Bybit has 1, 3"):
        http.klines(PERPETUAL, 7 * MINUTE_NS, NS, 1)


@pytest.mark.parametrize(
    ("limit", "left", "share"),
    [
        ("600", "150", 0.75),
        ("50", "50", 0.0),
        ("50", "-1", None),
        ("0", "0", None),
        ("50", "60", 0.0),
        ("x", "1", None),
    ],
)
def test_the_share_of_the_limit_that_is_used_is_told(limit: str, left: str, share: float | None) -> None:
    assert ADAPTER.http.used({"x-bapi-limit": limit, "x-bapi-limit-status": left}) == share


def test_streams_are_topics_and_inverse_contracts_have_an_address_of_their_own() -> None:
    spec, inverse = ADAPTER.websocket, implied("BTCUSD", "0.5", "1")
    topics = spec.streams(PERPETUAL)
    assert topics == [f"{topic}.{SYMBOL}" for topic in ("orderbook.200", "orderbook.1", "publicTrade", "tickers",
                                                        "allLiquidation")]  # fmt: skip
    assert spec.address(spec.url, topics) == "wss://stream.bybit.com/v5/public/linear"
    assert spec.address(spec.url, spec.streams(inverse)) == "wss://stream.bybit.com/v5/public/inverse"
    with pytest.raises(BadInput, match="connections of their own"):
        spec.address(spec.url, [*topics, *spec.streams(inverse)])
    [message] = spec.subscribe(topics, 7)
    assert json.loads(message) == {"req_id": "7", "op": "subscribe", "args": topics}
    assert [len(json.loads(each)["args"]) for each in spec.unsubscribe([f"tickers.A{n}" for n in range(51)], 8)] == [
        50,
        1,
    ]


CONTROLS: list[tuple[object, Control | None]] = [
    ({"success": True, "ret_msg": "pong", "conn_id": "a", "req_id": "", "op": "ping"}, Control.PONG),
    ({"op": "pong", "args": ["1675418560633"], "conn_id": "a"}, Control.PONG),
    ({"success": True, "ret_msg": "", "conn_id": "a", "req_id": "1", "op": "subscribe"}, Control.ACKNOWLEDGED),
    ({"success": True, "ret_msg": "", "conn_id": "a", "op": "unsubscribe"}, Control.ACKNOWLEDGED),
    ({"success": False, "ret_msg": "error:already subscribed,topic:x", "op": "subscribe"}, Control.ACKNOWLEDGED),
    ({"success": False, "ret_msg": "Invalid topic: x.BTCUSDT", "op": "subscribe"}, Control.REFUSED),
    ({"success": False, "ret_msg": "Too many visits!", "op": "subscribe"}, Control.RATE_LIMITED),
    ({"topic": "tickers.BTCUSDT", "ts": MS, "data": TICKER}, None),
    ([], None),
]
EXAMPLES = Examples(
    adapter=ADAPTER,
    definition=PERPETUAL,
    says=SAYS,
    wrong=WRONG,
    no_trades=answer({"category": "linear", "list": []}),
    row=ROW,
    bars=klines,
    messages=[(raw(message), control) for message, control in CONTROLS],
)
