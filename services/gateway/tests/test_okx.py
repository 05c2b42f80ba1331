"""OKX v5: what its frames say, exactly; its sequence and its checksum; what is sent and asked."""

from __future__ import annotations

import json
import zlib
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
from huracan.market.book import ASK, BID, Applied, DepthUpdate, OrderBook, SyncedBook
from huracan_gateway.adapter import Control
from huracan_gateway.events import NO_TIME, RECENT_TRADES, Defined, Depth, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.identity import define
from huracan_gateway.okx.adapter import ADAPTER
from huracan_gateway.okx.data import Decoder, checksum, levels, owns, symbol_of
from huracan_gateway.okx.definition import implied
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import implied_increment

from .venue_examples import Examples, Says, fixtures, raw, read, told

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "ws_raw"
CAPTURE = SHARED / "cryptofeed" / "OKX.ws.1.0.txt.gz"
FIXTURES = SHARED / "nautilus_fixtures" / "okx.jsonl.gz"
MESSAGES = SHARED / "tardis_messages.jsonl.gz"
MS = 1_723_161_256_322
NS = MS * 1_000_000
SYMBOL = "BTC-USDT-SWAP"
SWAP = implied(SYMBOL, "0.1", "0.01")
ARG = {"instId": SYMBOL}
BOOK = {"bids": [["61800.2", "2", "0", "1"]], "asks": [["61800.4", "1.5", "0", "3"]], "ts": str(MS)}
TRADE = {**ARG, "tradeId": "1306394", "px": "61800.3", "sz": "4", "side": "buy", "ts": str(MS), "count": "3"}
MARK = {**ARG, "instType": "SWAP", "markPx": "61800.123", "ts": str(MS)}
FUNDING = {**ARG, "fundingRate": "-0.0001", "fundingTime": str(MS), "nextFundingTime": str(MS + 1), "ts": str(MS)}
CLOSED = {"side": "buy", "posSide": "short", "sz": "2", "bkPx": "61900", "ts": str(MS)}
INSTRUMENT = {
    "instType": "SWAP", "instId": SYMBOL, "instFamily": "BTC-USDT", "ctType": "linear", "ctVal": "0.01", "ctMult": "1",
    "ctValCcy": "BTC", "settleCcy": "USDT", "tickSz": "0.1", "lotSz": "0.01", "expTime": "",
}  # fmt: skip
BIDS, ASKS = [(618_002, 200)], [(618_004, 150)]


def of(channel: str, *data: object, **more: object) -> bytes:
    return raw({"arg": {"channel": channel, **ARG}, **more, "data": data})


def book(action: str, **more: object) -> bytes:
    return of("books", {**BOOK, **more}, action=action)


def liquidations(*contracts: object) -> bytes:
    return raw({"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": contracts})


def answer(*data: object) -> bytes:
    return raw({"code": "0", "msg": "", "data": data})


def decoded(frame: bytes) -> tuple[str, list[Any]]:
    kind, events = Decoder(SWAP).decode(frame)
    return kind, list(events)


UPDATE = DepthUpdate(101, 110, 100, BIDS, ASKS)
SAYS: list[tuple[bytes, Says]] = [
    (of("trades", TRADE), ("trade", [Trade(NS, 1306394, 618_003, 400, 1)])),
    (of("trades", {**TRADE, "side": "sell"}, TRADE),
     ("trade", [Trade(NS, 1306394, 618_003, 400, -1), Trade(NS, 1306394, 618_003, 400, 1)])),
    (of("bbo-tbt", {**BOOK, "seqId": 105}), ("quote", [Quote(NS, 105, *BIDS[0], *ASKS[0])])),
    (book("snapshot", seqId=100, prevSeqId=-1, checksum=-855196043),
     ("snapshot", [Snapshot(NS, 100, BIDS, ASKS, True, 100, -855196043)])),
    (book("update", seqId=110, prevSeqId=100, checksum=7), ("depth", [Depth(NS, UPDATE, 110, 7)])),
    (book("update", seqId=110, prevSeqId=100, checksum=0), ("depth", [Depth(NS, UPDATE, 110, None)])),
    (book("update", seqId=110, prevSeqId=110, bids=[], asks=[]),
     ("depth", [Depth(NS, DepthUpdate(110, 110, 110, [], []), 110)])),
    (of("mark-price", MARK), ("mark", [Mark(NS, mark=Decimal("61800.123"))])),
    (of("funding-rate", FUNDING), ("mark", [Mark(NS, funding_rate=Decimal("-0.0001"), next_funding_ns=NS)])),
    (of("funding-rate", {**FUNDING, "fundingRate": ""}), ("mark", [Mark(NS, next_funding_ns=NS)])),
    (of("funding-rate", {**ARG, "fundingTime": str(MS), "nextFundingRate": "0.0005"}),
     ("mark", [Mark(NO_TIME, next_funding_ns=NS)])),
    (liquidations({**ARG, "details": [CLOSED, {**CLOSED, "side": "sell"}]}),
     ("liquidation", [Liquidation(NS, 619_000, 200, 1), Liquidation(NS, 619_000, 200, -1)])),
    (liquidations({"instId": "ETH-USDT-SWAP", "details": [CLOSED]}, {**ARG, "details": [CLOSED]}),
     ("liquidation", [Liquidation(NS, 619_000, 200, 1)])),
    (answer({**BOOK, "seqId": 110}), ("snapshot", [Snapshot(NS, 110, BIDS, ASKS, False, 110)])),
    (answer(BOOK), ("snapshot", [Snapshot(NS, 0, BIDS, ASKS)])),
    (answer({**TRADE, "tradeId": "2"}, {**TRADE, "tradeId": "1"}),
     (RECENT_TRADES, [Trade(NS, 1, 618_003, 400, 1), Trade(NS, 2, 618_003, 400, 1)])),
    (raw(INSTRUMENT), ("instrument", [Defined(NO_TIME, SWAP)])),
]  # fmt: skip


WRONG: list[tuple[bytes, Reason, str]] = [
    (b"pong", Reason.BAD_JSON, "pong"),
    (b"[]", Reason.BAD_FIELD, "object"),
    (raw({"arg": {"channel": "books", **ARG}, "event": "subscribe"}), Reason.UNKNOWN_STREAM, "subscribe"),
    (of("index-tickers", {}), Reason.UNKNOWN_STREAM, "index-tickers"),
    (of("books5", BOOK), Reason.UNKNOWN_STREAM, "books5"),
    (of("trades"), Reason.BAD_FIELD, "empty"),
    (of("trades", {**TRADE, "instId": "ETH-USDT-SWAP"}), Reason.OTHER_SYMBOL, "ETH-USDT-SWAP"),
    (raw({"arg": {"channel": "trades", "instId": "ETH-USDT-SWAP"}, "data": [TRADE]}), Reason.OTHER_SYMBOL, "ETH"),
    (liquidations({"instId": "ETH-USDT-SWAP", "details": [CLOSED]}), Reason.OTHER_SYMBOL, "ETH-USDT-SWAP"),
    (of("trades", {**TRADE, "px": "61800.35"}), Reason.OFF_INCREMENT, "px"),
    (of("trades", {**TRADE, "sz": "-1"}), Reason.NOT_POSITIVE, "sz"),
    (of("trades", {**TRADE, "tradeId": "1" * 20}), Reason.BAD_FIELD, "tradeId"),
    (of("trades", {**TRADE, "side": "both"}), Reason.BAD_FIELD, "side"),
    (of("trades", {**TRADE, "ts": "-5"}), Reason.NEGATIVE_TIME, "ts"),
    (of("trades", {**TRADE, "ts": "1723161256"}), Reason.IMPOSSIBLE_TIME, "ts"),
    (of("bbo-tbt", {**BOOK, "asks": []}), Reason.BAD_FIELD, "asks 0"),
    (book("update", seqId=110), Reason.BAD_FIELD, "prevSeqId was missing"),
    (book("update", seqId=110, prevSeqId=-1), Reason.BAD_FIELD, "prevSeqId was -1"),
    (book("snapshot", seqId=110, prevSeqId=100), Reason.BAD_FIELD, "in a snapshot"),
    (book("partial", seqId=110), Reason.BAD_FIELD, "partial"),
    (book("update", bids=[["1"]]), Reason.BAD_FIELD, "bids"),
    (book("update", bids=[["0", "1"]]), Reason.NOT_POSITIVE, "bids"),
    (book("update", checksum=2**31), Reason.BAD_FIELD, "checksum"),
    (of("mark-price", {**MARK, "markPx": "0"}), Reason.NOT_POSITIVE, "markPx"),
    (of("mark-price", {**MARK, "markPx": "1e5"}), Reason.NOT_A_NUMBER, "markPx"),
    (of("mark-price", {**MARK, "markPx": "9" * 18}), Reason.NOT_A_NUMBER, "beyond"),
    (of("funding-rate", {**FUNDING, "fundingRate": "1000"}), Reason.NOT_A_NUMBER, "beyond"),
    (raw({"code": "51001", "msg": "Instrument ID does not exist", "data": []}), Reason.BAD_FIELD, "does not exist"),
    (answer({"instId": SYMBOL, "markPx": "1"}), Reason.UNKNOWN_STREAM, "neither"),
    (raw({**INSTRUMENT, "instType": "SPOT"}), Reason.OTHER_SYMBOL, "SPOT"),
    (raw({**INSTRUMENT, "ctType": ""}), Reason.BAD_FIELD, "ctType"),
    (raw({**INSTRUMENT, "tickSz": "0"}), Reason.NOT_POSITIVE, "tickSz"),
    (raw({"table": "spot/depth"}), Reason.UNKNOWN_STREAM, "spot/depth"),
]  # fmt: skip


def test_the_sequence_of_the_documentation_is_followed_through_a_keep_alive_and_a_reset() -> None:
    """API guide v5, "Order book channel: Sequence ID": 10, 15, the same again, back to 3, on to 5."""
    decoder, synced = Decoder(SWAP), SyncedBook()
    synced.snapshot(10, BIDS, ASKS, restart=True)
    for previous, final in ((10, 15), (15, 15), (15, 3), (3, 5)):
        _, [depth] = decoder.decode(book("update", seqId=final, prevSeqId=previous))
        assert isinstance(depth, Depth)
        assert synced.apply(depth.update) is Applied.APPLIED
        assert synced.final == final


@pytest.mark.parametrize("asked", [100, 105, 110])
def test_a_book_that_was_asked_for_is_continued_by_the_update_around_it(asked: int) -> None:
    """API guide v5, "How to manage a local order book correctly"."""
    synced = SyncedBook()
    update = decoded(book("update", seqId=110, prevSeqId=100))[1][0].update
    synced.apply(update)
    assert [synced.apply(waiting) for waiting in synced.snapshot(asked, BIDS, ASKS)] == [Applied.APPLIED]


def captured() -> dict[str, list[bytes]]:
    """Return the frames of the capture by symbol, those of channels that are read here."""
    frames: dict[str, list[bytes]] = {}
    for line in read(CAPTURE):
        text = line.partition(": ")[2].strip().encode()
        if text and not line.startswith("wss"):
            frames.setdefault(str(symbol_of(text)), []).append(text)
    return frames


def definition_of(symbol: str, frames: list[bytes]) -> InstrumentDefinition:
    told = next(whole for frame in frames if (whole := levels(frame)))
    increments = (implied_increment(price for price, _ in told), implied_increment(size for _, size in told))
    base, quote, *_ = symbol.split("-")
    kind = InstrumentType.INSTRUMENT_TYPE_SPOT
    return define(
        venue="okx", venue_symbol=symbol, type=kind, base=base, quote=quote, settle=quote,
        price_increment=increments[0], size_increment=increments[1],
    )  # fmt: skip


def test_every_checksum_of_the_capture_is_that_of_the_book_built_from_it() -> None:
    seen: Counter[str] = Counter()
    for symbol, frames in captured().items():
        definition = definition_of(symbol, frames)
        decoder, verify, synced = Decoder(definition), checksum(definition), SyncedBook()
        for frame in frames:
            try:
                _, events = decoder.decode(frame)
            except Rejected as error:
                seen[error.reason] += 1
                continue
            for event in events:
                seen[type(event).__name__] += 1
                if isinstance(event, Snapshot):
                    synced.snapshot(event.last_update_id, event.bids, event.asks, restart=event.restart)
                elif isinstance(event, Depth):
                    assert synced.apply(event.update) is Applied.APPLIED
                else:
                    continue
                assert verify(synced.book) == event.checksum
                seen["matched"] += 1
    assert seen == {"matched": 290, "Snapshot": 3, "Depth": 287, "Trade": seen["Trade"], Reason.UNKNOWN_STREAM: 46}
    assert seen["Trade"] >= 74


UNREAD = {"tickers", "opt-summary", "open-interest", "price-limit", "liquidations", "index-tickers",
          "trades-all", "sprd-public-trades", "sprd-books5", "sprd-bbo-tbt"}  # fmt: skip


def fixed(symbol: str) -> InstrumentDefinition:
    """Return a definition fine enough for the frames of any symbol."""
    base, quote, *_ = f"{symbol}-".split("-")
    return define(
        venue="okx", venue_symbol=symbol, type=InstrumentType.INSTRUMENT_TYPE_SPOT, base=base, quote=quote,
        settle=quote, price_increment=Decimal("1e-8"), size_increment=Decimal("1e-8"),
    )  # fmt: skip


def kind_of(frame: bytes) -> str:
    return told(ADAPTER, fixed(symbol_of(frame) or SYMBOL), frame)


def test_every_shared_message_of_v5_is_read_or_of_a_channel_that_is_not() -> None:
    kinds: Counter[str] = Counter()
    for line in read(MESSAGES):
        entry = json.loads(line)
        message = entry["message"]
        if not str(entry["exchange"]).startswith("okex") or "arg" not in message:
            continue
        kind = kind_of(raw(message))
        unread = message["arg"]["channel"] in UNREAD or "event" in message
        assert (kind == Reason.UNKNOWN_STREAM) == unread, f"{kind}: {message}"
        kinds[kind] += 1
    assert kinds["trade"] >= 2
    assert kinds["depth"] >= 2
    assert kinds["snapshot"] >= 2
    assert kinds["mark"] >= 2
    assert kinds["liquidation"] >= 1
    assert set(kinds) <= {"trade", "depth", "snapshot", "mark", "liquidation", Reason.UNKNOWN_STREAM}


READ = {
    "ws_bbo_tbt": "quote", "ws_books_snapshot": "snapshot", "ws_books_update": "depth", "ws_funding_rate": "mark",
    "ws_trades": "trade", "http_get_trades": RECENT_TRADES,
}  # fmt: skip


def test_every_shared_fixture_is_read_as_what_it_is_or_refused() -> None:
    frames = fixtures(FIXTURES)
    assert len(frames) == 27
    for name, frame in frames.items():
        kind = kind_of(frame)
        if name in READ:
            assert kind == READ[name], name
        else:
            assert kind in (Reason.UNKNOWN_STREAM, Reason.BAD_FIELD), f"{name}: {kind}"


@pytest.mark.parametrize(
    ("name", "symbol", "multiplier"),
    [("swap", "BTC-USD-SWAP", "100"), ("swap", "ETH-USDT-SWAP", "0.1"), ("swap", SYMBOL, "0.01"),
     ("futures", "BTC-USD-241220", "100"), ("futures", "BTC-USD-241227", "100")],
)  # fmt: skip
def test_a_symbol_implies_what_the_venue_defines(name: str, symbol: str, multiplier: str) -> None:
    cut = ADAPTER.http.instrument(fixtures(FIXTURES)[f"http_get_instruments_{name}"], symbol)
    definition = ADAPTER.defines(cut)
    assert definition is not None
    assert definition.multiplier == multiplier
    assert ADAPTER.implied(symbol, definition.price_increment, definition.size_increment) == definition


@pytest.mark.parametrize(
    ("symbol", "venue", "named", "kind", "expiry_ns"),
    [
        (SYMBOL, "okx", "btc-usdt-perp", InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL, 0),
        ("UNI-USD-SWAP", "okx", "uni-usd-perp", InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL, 0),
        ("BTC-USD-220527", "okx", "btc-usd-220527", InstrumentType.INSTRUMENT_TYPE_INVERSE_FUTURE, 1653638400 * 10**9),
        ("SIM-USDT-SWAP", "sim", "sim-usdt-perp-okx", InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL, 0),
    ],
)
def test_a_symbol_says_what_it_is_and_simulated_data_is_labelled(
    symbol: str, venue: str, named: str, kind: InstrumentType, expiry_ns: int
) -> None:
    made = implied(symbol, "0.1", "1")
    assert (made.id.venue, made.id.symbol, made.type, made.expiry_ns) == (venue, named, kind, expiry_ns)


@pytest.mark.parametrize("symbol", ["BTC-USDT", "BTCUSDT", "BTC-USD-241399", "BTC-USD-241220-9000-C", "BTC-USD-٢٤١٢٢٠"])
def test_a_symbol_of_another_market_is_no_instrument_here(symbol: str) -> None:
    with pytest.raises(Rejected, match="other_symbol"):
        implied(symbol, "0.1", "1")


def test_what_a_contract_is_worth_is_not_made_up() -> None:
    with pytest.raises(Rejected, match="DOGE-USDT is worth is not told: record its instrument too"):
        implied("DOGE-USDT-SWAP", "0.00001", "0.01")


book_levels = st.dictionaries(st.integers(1, 10**9), st.integers(1, 10**9), max_size=40)
increments = st.builds(lambda unit, decimals: Decimal(unit).scaleb(-decimals), st.integers(1, 500), st.integers(0, 8))


@given(book_levels, book_levels, increments, increments)
def test_a_checksum_is_that_of_the_venues_own_texts(
    bids: dict[int, int], asks: dict[int, int], tick: Decimal, lot: Decimal
) -> None:
    """Formulated anew: from decimals written out, sides laid one into the other, read back as a signed integer."""
    definition = implied(SYMBOL, str(tick), str(lot))
    of_levels = OrderBook()
    for side, side_levels in ((BID, bids), (ASK, asks)):
        for price, size in side_levels.items():
            of_levels.set_level(side, price, size)

    def written(number: Decimal) -> str:
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    best = [sorted(bids.items(), reverse=True)[:25], sorted(asks.items())[:25]]
    ranked = sorted((rank, side, level) for side in (0, 1) for rank, level in enumerate(best[side]))
    text = ":".join(f"{written(price * tick)}:{written(size * lot)}" for _, _, (price, size) in ranked)
    expected = int.from_bytes(zlib.crc32(text.encode()).to_bytes(4, "big"), "big", signed=True)
    assert checksum(definition)(of_levels) == expected


ROW = ["1747093920000", "102800", "102807", "102783", "102806", "1", "0.01", "1028.06", "1"]
CANDLES = answer(
    ["1747094040000", "102806.1", "102820.4", "102806.1", "102820.4", "1040.37", "10.4037", "1069603.34883", "0"],
    ["1747093980000", "102806", "102820.5", "102783.1", "102806.1", "7164.04", "71.6404", "7364701.57952", "1"],
    ROW,
)


def test_closed_bars_are_read_oldest_first_with_volume_in_base_units() -> None:
    first, second = ADAPTER.http.bars(CANDLES, SWAP, MINUTE_NS)
    assert (first.open_ns, second.open_ns) == (1747093920000000000, 1747093980000000000)
    assert (second.open, second.high, second.low, second.close) == ("102806", "102820.5", "102783.1", "102806.1")
    assert Decimal(second.volume) == Decimal("71.6404")


def test_what_is_asked_names_the_instrument() -> None:
    http = ADAPTER.http
    asked = http.klines(SWAP, 15 * MINUTE_NS, NS, 64)
    assert asked.path == f"/api/v5/market/history-candles?instId={SYMBOL}&bar=15m&after={MS}&limit=64"
    assert http.snapshot(SWAP).path == f"/api/v5/market/books?instId={SYMBOL}&sz=400&source=0"
    assert http.instruments("BTC-USD-241220").path.endswith("?instType=FUTURES&instId=BTC-USD-241220")
    with pytest.raises(BadInput, match="OKX has 1m, 3m"):
        http.klines(SWAP, 7 * MINUTE_NS, NS, 1)
    with pytest.raises(Rejected, match="51001"):
        http.instrument(raw({"code": "51001", "msg": "", "data": []}), SYMBOL)


def test_streams_are_subscribed_by_channel_and_instrument() -> None:
    spec = ADAPTER.websocket
    assert spec.streams(SWAP) == [
        f"books:{SYMBOL}", f"bbo-tbt:{SYMBOL}", f"trades:{SYMBOL}", f"mark-price:{SYMBOL}", f"funding-rate:{SYMBOL}",
        "liquidation-orders:SWAP",
    ]  # fmt: skip
    assert spec.streams(implied("BTC-USD-220527", "0.1", "1"))[-1] == "liquidation-orders:FUTURES"
    [message] = spec.subscribe([spec.book_stream(SWAP), "liquidation-orders:SWAP"], 7)
    assert json.loads(message) == {
        "id": "7", "op": "subscribe",
        "args": [{"channel": "books", "instId": SYMBOL}, {"channel": "liquidation-orders", "instType": "SWAP"}],
    }  # fmt: skip
    many = spec.unsubscribe([f"trades:{number}" for number in range(101)], 8)
    assert [len(json.loads(message)["args"]) for message in many] == [50, 50, 1]


CONTROLS: list[tuple[bytes, Control | None]] = [
    (b"pong", Control.PONG),
    (raw({"event": "subscribe", "arg": {"channel": "books", **ARG}, "connId": "a4d3ae55"}), Control.ACKNOWLEDGED),
    (raw({"event": "channel-conn-count", "channel": "books", "connCount": "2"}), Control.ACKNOWLEDGED),
    (raw({"event": "error", "code": "60018", "msg": "Wrong URL or channel"}), Control.REFUSED),
    (raw({"event": "error", "code": "60014", "msg": "Requests too frequent"}), Control.RATE_LIMITED),
    (raw({"event": "channel-conn-count-error", "channel": "books"}), Control.RATE_LIMITED),
    (raw({"event": "notice", "code": "64008", "msg": "The connection will soon be closed"}), Control.RECONNECT),
    (of("trades", TRADE), None),
    (b"{", None),
]


def test_another_venue_that_shares_the_form_is_not_owned() -> None:
    bitget = {"action": "snapshot", "arg": {"instType": "USDT-FUTURES", "channel": "books", "instId": "BTCUSDT"}}
    assert not owns(raw({**bitget, "data": []}))
    assert not owns(raw({"code": "00000", "msg": "success", "data": []}))
    assert symbol_of(liquidations({**ARG, "details": []}, {"instId": "ETH-USDT-SWAP", "details": []})) is None


EXAMPLES = Examples(
    adapter=ADAPTER,
    definition=SWAP,
    says=SAYS,
    wrong=WRONG,
    no_trades=answer(),
    row=ROW,
    bars=answer,
    messages=CONTROLS,
)
