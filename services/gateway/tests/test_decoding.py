"""Frames of Binance: exact numbers in increments, or one reason why not."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from huracan.contracts import codec
from huracan.contracts.market import InstrumentType
from huracan.contracts.ops import dead_letter
from huracan.market.book import DepthUpdate
from huracan_gateway.adapter import Adapter
from huracan_gateway.binance import frames
from huracan_gateway.binance_coinm.adapter import ADAPTER as COINM
from huracan_gateway.binance_spot.adapter import ADAPTER as SPOT
from huracan_gateway.binance_usdm.adapter import ADAPTER as USDM
from huracan_gateway.events import NO_TIME, RECENT_TRADES, Depth, Event, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.scale import Scale, implied_increment

E_MS = 1_723_161_256_322
E_NS = E_MS * 1_000_000

DEPTH = {
    "stream": "btcusdt@depth@0ms",
    "data": {
        "e": "depthUpdate", "E": E_MS, "T": E_MS, "s": "BTCUSDT", "U": 5123107832006, "u": 5123107837557,
        "pu": 5123107831937, "b": [["58710.20", "0.014"], ["61510.90", "0.000"]], "a": [["61800.30", "2.510"]],
    },
}  # fmt: skip
QUOTE = {
    "stream": "btcusdt@bookTicker",
    "data": {
        "e": "bookTicker", "u": 5123107839020, "s": "BTCUSDT", "b": "61800.20", "B": "2.507", "a": "61800.30",
        "A": "2.510", "T": E_MS, "E": E_MS,
    },
}  # fmt: skip
TRADE = {
    "stream": "btcusdt@trade",
    "data": {
        "e": "trade", "E": E_MS, "T": E_MS, "s": "BTCUSDT", "t": 5266583935, "p": "61800.30", "q": "0.006",
        "X": "MARKET", "m": False,
    },
}  # fmt: skip
SNAPSHOT = {
    "lastUpdateId": 5123107852948, "E": E_MS, "T": E_MS,
    "bids": [["61800.20", "2.909"], ["61800.10", "0.696"]], "asks": [["61800.30", "1.000"]],
}  # fmt: skip
MARK = {
    "stream": "btcusdt@markPrice@1s",
    "data": {
        "e": "markPriceUpdate", "E": E_MS, "s": "BTCUSDT", "p": "11857.56000000", "i": "11851.86949091",
        "P": "11784.25641265", "r": "-0.00015640", "T": E_MS + 1_000,
    },
}  # fmt: skip
FORCED: dict[str, Any] = {
    "stream": "btcusdt@forceOrder",
    "data": {
        "e": "forceOrder", "E": E_MS, "o": {
            "s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910.00000000",
            "ap": "9910.12345678", "X": "FILLED", "l": "0.014", "z": "0.014", "T": E_MS,
        },
    },
}  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"id": 7, "price": "61800.30", "qty": "0.006", "quoteQty": "370.8", "time": E_MS, "isBuyerMaker": True},
    {"id": 8, "price": "61800.20", "qty": "0.007", "quoteQty": "432.6", "time": E_MS, "isBuyerMaker": False},
]  # fmt: skip
REAL: list[dict[str, Any]] = [DEPTH, QUOTE, TRADE, SNAPSHOT, MARK, FORCED]

BTCUSDT = USDM.implied("BTCUSDT", "0.10", "0.001")


def changed(frame: dict[str, Any], **fields: Any) -> bytes:
    """Return a frame with other values in its data; None takes the field away."""
    data = {**(frame.get("data") or frame), **fields}
    data = {name: value for name, value in data.items() if value is not None}
    return json.dumps({**frame, "data": data} if "data" in frame else data).encode()


def decoded(raw: bytes, adapter: Adapter = USDM) -> tuple[str, Event]:
    """Return the kind of a frame with one event, and the event."""
    kind, (event,) = adapter.decoder(DEFINITIONS[adapter.venue]).decode(raw)
    return kind, event


def refused(raw: bytes, adapter: Adapter = USDM) -> Rejected:
    with pytest.raises(Rejected) as caught:
        decoded(raw, adapter)
    return caught.value


def foreign_venue(raw: bytes, adapter: Adapter = USDM) -> str | None:
    return frames.foreign_venue(raw, adapter.venue)


def test_a_depth_update_becomes_exact_integers() -> None:
    bids, asks = [(587_102, 14), (615_109, 0)], [(618_003, 2_510)]
    update = DepthUpdate(5123107832006, 5123107837557, 5123107831937, bids, asks)
    assert decoded(changed(DEPTH)) == ("depth", Depth(E_NS, update))


def test_a_quote_becomes_exact_integers() -> None:
    assert decoded(changed(QUOTE)) == ("quote", Quote(E_NS, 5123107839020, 618_002, 2_507, 618_003, 2_510))


@pytest.mark.parametrize(("maker", "side"), [(False, 1), (True, -1)])
def test_a_trade_becomes_exact_integers_with_the_side_of_its_aggressor(maker: bool, side: int) -> None:
    assert decoded(changed(TRADE, m=maker)) == ("trade", Trade(E_NS, 5266583935, 618_003, 6, side))


def test_a_snapshot_becomes_exact_integers() -> None:
    levels = [(618_002, 2_909), (618_001, 696)], [(618_003, 1_000)]
    assert decoded(changed(SNAPSHOT)) == ("snapshot", Snapshot(E_NS, 5123107852948, *levels))


@pytest.mark.parametrize("stream", ["btcusdt@depth", "btcusdt@depth@100ms", "btcusdt@depth@500ms"])
def test_every_speed_of_the_depth_stream_is_read(stream: str) -> None:
    assert decoded(json.dumps({**DEPTH, "stream": stream}).encode())[0] == "depth"


def test_a_mark_price_is_read_with_its_funding() -> None:
    mark = Mark(E_NS, Decimal("11857.56"), Decimal("11851.86949091"), Decimal("-0.0001564"), E_NS + 1_000_000_000)
    assert decoded(changed(MARK)) == ("mark", mark)


@pytest.mark.parametrize("rate", ["", "0.00000000", None])
def test_a_contract_with_delivery_has_no_funding(rate: str | None) -> None:
    assert decoded(changed(MARK, r=rate, T=0, i=None)) == ("mark", Mark(E_NS, Decimal("11857.56")))


@pytest.mark.parametrize(("side", "number"), [("BUY", 1), ("SELL", -1)])
def test_a_liquidation_is_read_by_the_price_and_quantity_of_its_order(side: str, number: int) -> None:
    order = {**FORCED["data"]["o"], "S": side}
    assert decoded(changed(FORCED, o=order)) == ("liquidation", Liquidation(E_NS, 99_100, 14, number))


def test_trades_that_were_asked_for_are_told_one_by_one() -> None:
    kind, events = USDM.decoder(BTCUSDT).decode(json.dumps(ROWS).encode())
    assert (kind, list(events)) == (RECENT_TRADES, [Trade(E_NS, 7, 618_003, 6, -1), Trade(E_NS, 8, 618_002, 7, 1)])


def test_an_answer_without_trades_tells_nothing_and_settles_no_kind_of_trades() -> None:
    decoder = USDM.decoder(BTCUSDT)
    assert [decoder.decode(raw) for raw in (b"[]", changed(TRADE), b"[]")][::2] == [(RECENT_TRADES, [])] * 2


@pytest.mark.parametrize("kind", ["MARKET", "INSURANCE_FUND", "ADL", None])
def test_positions_that_were_handed_over_count_as_trades(kind: str | None) -> None:
    assert decoded(changed(TRADE, X=kind)) == ("trade", Trade(E_NS, 5266583935, 618_003, 6, 1))


def test_a_number_without_a_trade_is_refused() -> None:
    error = refused(changed(TRADE, X="NA", p="0", q="0"))
    assert (error.reason, "'NA'" in error.detail) == (Reason.NOT_POSITIVE, True)


def test_frames_of_usd_m_futures_may_say_pair_and_type() -> None:
    for frame in (DEPTH, QUOTE, TRADE, MARK):
        raw = changed(frame, ps="BTCUSDT", st=1)
        assert decoded(raw) == decoded(changed(frame))
        assert USDM.owns(raw)


def test_spot_says_no_previous_id_and_no_time_of_quotes_and_snapshots() -> None:
    bids, asks = [(5_871_020, 1_400), (6_151_090, 0)], [(6_180_030, 251_000)]
    update = DepthUpdate(5123107832006, 5123107837557, 5123107832005, bids, asks)
    assert decoded(SPOT_DEPTH, SPOT) == ("depth", Depth(E_NS, update))
    quote = Quote(NO_TIME, 5123107839020, 6_180_020, 250_700, 6_180_030, 251_000)
    assert decoded(SPOT_QUOTE, SPOT) == ("quote", quote)
    levels = [(6_180_020, 290_900), (6_180_010, 69_600)], [(6_180_030, 100_000)]
    assert decoded(SPOT_SNAPSHOT, SPOT) == ("snapshot", Snapshot(NO_TIME, 5123107852948, *levels))


@pytest.mark.parametrize(("text", "lots"), [("25.42618900", 2_542_619), ("0.00000001", 1), ("0.00000000", 0)])
def test_a_spot_size_finer_than_the_lot_is_rounded_up_so_that_no_level_vanishes(text: str, lots: int) -> None:
    _, depth = decoded(SPOT_DEPTH.replace(b"2.510", text.encode()), SPOT)
    assert isinstance(depth, Depth)
    assert depth.update.asks == [(6_180_030, lots)]
    with pytest.raises(Rejected, match="off_increment"):
        decoded(SPOT_DEPTH.replace(b"2.510", b"0." + b"9" * 5_000), SPOT)
    with pytest.raises(Rejected, match="off_increment: b was"):
        decoded(SPOT_DEPTH.replace(b"58710.20", b"58710.205"), SPOT)


def test_the_size_of_a_coin_m_frame_is_a_number_of_contracts() -> None:
    assert decoded(COINM_QUOTE, COINM) == ("quote", Quote(E_NS, 5123107839020, 618_047, 35, 618_048, 1_645))


def test_fields_that_are_not_known_are_let_through() -> None:
    assert decoded(changed(TRADE, later="added by the venue"))[0] == "trade"


SPOT_DEPTH = changed({"stream": "btcusdt@depth@100ms", "data": DEPTH["data"]}, pu=None, T=None)
SPOT_QUOTE = changed(QUOTE, e=None, E=None, T=None)
SPOT_TRADE = changed(TRADE, X=None, M=True)
SPOT_SNAPSHOT = changed(SNAPSHOT, E=None, T=None)
COINM_DEPTH = changed(DEPTH, s="BTCUSD_PERP", ps="BTCUSD", b=[["61773.6", "1001"]], a=[])
COINM_QUOTE = changed(QUOTE, s="BTCUSD_PERP", ps="BTCUSD", B="35", A="1645", b="61804.7", a="61804.8")
COINM_TRADE = changed(TRADE, s="BTCUSD_PERP", q="4")
COINM_SNAPSHOT = changed(SNAPSHOT, symbol="BTCUSD_PERP", pair="BTCUSD", bids=[["61804.7", "35"]], asks=[])
HYPERLIQUID = b'{"channel":"l2Book","data":{"coin":"BTC","time":1737918843893,"levels":[[],[]]}}'
BYBIT = b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[],"a":[],"u":1,"seq":1}}'
OKX = b'{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"update","data":[{"asks":[],"bids":[]}]}'
DERIBIT = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.raw","data":{}}}'
BITMEX = b'{"table":"trade","action":"insert","data":[{"symbol":"XBTUSD","price":1}]}'
FOREIGN = {
    "binance_spot": [SPOT_DEPTH, SPOT_QUOTE, SPOT_TRADE, SPOT_SNAPSHOT],
    "binance_coinm": [COINM_DEPTH, COINM_QUOTE, COINM_TRADE, COINM_SNAPSHOT],
    "hyperliquid": [HYPERLIQUID],
    "bybit": [BYBIT],
    "okx": [OKX],
    "deribit": [DERIBIT],
    "bitmex": [BITMEX],
}


@pytest.mark.parametrize(("venue", "raw"), [(venue, raw) for venue, raws in FOREIGN.items() for raw in raws])
def test_a_frame_of_another_venue_is_refused_by_that_venues_name(venue: str, raw: bytes) -> None:
    error = refused(raw)
    assert error.reason is Reason.OTHER_VENUE
    assert venue in error.detail
    assert foreign_venue(raw) == venue
    assert not USDM.owns(raw)


@pytest.mark.parametrize("adapter", [COINM, SPOT], ids=lambda adapter: adapter.venue)
@pytest.mark.parametrize("frame", [DEPTH, QUOTE, TRADE, SNAPSHOT], ids=["depth", "quote", "trade", "snapshot"])
def test_the_other_markets_refuse_usd_m_frames_by_name(adapter: Adapter, frame: dict[str, Any]) -> None:
    error = refused(changed(frame), adapter)
    assert error.reason is Reason.OTHER_VENUE
    assert "binance_usdm" in error.detail


@pytest.mark.parametrize("frame", REAL)
def test_no_frame_of_this_venue_looks_like_anothers(frame: dict[str, Any]) -> None:
    assert foreign_venue(changed(frame)) is None
    assert USDM.symbol_of(changed(frame)) == ("BTCUSDT" if "data" in frame else None)
    assert USDM.owns(changed(frame))


@pytest.mark.parametrize(
    ("raw", "reason", "named"),
    [
        (b"", Reason.BAD_JSON, "truncated"),
        (b"not json", Reason.BAD_JSON, "not json"),
        (changed(TRADE)[:-1], Reason.BAD_JSON, "btcusdt"),
        (b"\xff\xfe" + changed(TRADE), Reason.BAD_JSON, "xff"),
        (changed(TRADE).replace(b"MARKET", b"\xff"), Reason.BAD_JSON, "utf-8"),
        (b"[" * 100_000, Reason.BAD_FIELD, "object"),
        (b'{"stream":"btcusdt@trade","data":' + b"[" * 100_000, Reason.BAD_JSON, "recursion"),
        (b'{"stream":"btcusdt@trade","data":' + b'{"a":' * 100_000, Reason.BAD_JSON, "recursion"),
        (b"null", Reason.BAD_FIELD, "object"),
        (b"[1]", Reason.BAD_FIELD, "object"),
        (b"1e999", Reason.BAD_FIELD, ""),
        (b'{"stream":5,"data":{}}', Reason.BAD_FIELD, "$.stream"),
        (b'{"stream":"btcusdt@trade"}', Reason.BAD_FIELD, "null"),
        (b'{"stream":"btcusdt@trade","data":[]}', Reason.BAD_FIELD, "array"),
        (changed(DEPTH, pu=None, e="other"), Reason.BAD_FIELD, "pu"),
        (changed(DEPTH, E=None), Reason.BAD_FIELD, "E"),
        (changed(QUOTE, A=None), Reason.BAD_FIELD, "A"),
        (changed(QUOTE, E=None), Reason.BAD_FIELD, "E"),
        (changed(TRADE, m=None), Reason.BAD_FIELD, "m"),
        (changed(SNAPSHOT, E=None), Reason.BAD_FIELD, "E"),
        (b'{"E":1723161256322,"bids":[],"asks":[]}', Reason.UNKNOWN_STREAM, "lastUpdateId"),
        (changed(TRADE, p=61800.3), Reason.BAD_FIELD, "$.p"),
        (changed(TRADE, t="5266583935"), Reason.BAD_FIELD, "$.t"),
        (changed(TRADE, m="false"), Reason.BAD_FIELD, "$.m"),
        (changed(DEPTH, b=[["61800.20"]]), Reason.BAD_FIELD, "$.b"),
        (changed(DEPTH, a={"61800.20": "1"}), Reason.BAD_FIELD, "$.a"),
        (changed(SNAPSHOT, lastUpdateId=2**63), Reason.BAD_FIELD, "lastUpdateId"),
        (changed(SNAPSHOT, lastUpdateId=10**400), Reason.BAD_FIELD, "lastUpdateId"),
        (changed(TRADE, t=-1), Reason.BAD_FIELD, "t was -1"),
        (changed(TRADE).replace(b"5266583935", b"9" * 5_000), Reason.BAD_FIELD, "$.t"),
        (changed(TRADE, E=-1), Reason.NEGATIVE_TIME, "E"),
        (changed(DEPTH, E=-(10**400)), Reason.NEGATIVE_TIME, "E"),
        (changed(TRADE, E=0), Reason.IMPOSSIBLE_TIME, "E was 0 ms"),
        (changed(QUOTE, E=E_MS // 1_000), Reason.IMPOSSIBLE_TIME, "1723161256 ms"),
        (changed(QUOTE, E=E_MS * 1_000), Reason.IMPOSSIBLE_TIME, "E"),
        (changed(SNAPSHOT, E=10**400), Reason.IMPOSSIBLE_TIME, "E"),
        (b"{}", Reason.UNKNOWN_STREAM, "no stream"),
        (b'{"result":null,"id":1}', Reason.UNKNOWN_STREAM, "result"),
        (b'{"stream":"btcusdt@kline_1m","data":{}}', Reason.UNKNOWN_STREAM, "kline_1m"),
        (b'{"stream":"btcusdt@depth20@100ms","data":{}}', Reason.UNKNOWN_STREAM, "depth20"),
        (b'{"stream":"","data":{}}', Reason.UNKNOWN_STREAM, "''"),
        (b'{"stream":"btcusdt@rpiDepth@500ms","data":{}}', Reason.UNKNOWN_STREAM, "rpiDepth"),
        (changed(MARK, p="0"), Reason.NOT_POSITIVE, "p was 0"),
        (changed(MARK, i="x"), Reason.NOT_A_NUMBER, "i was"),
        (changed(MARK, p="1e9"), Reason.NOT_A_NUMBER, "p was"),
        (changed(MARK, r="--1"), Reason.NOT_POSITIVE, "r was"),
        (changed(MARK, r=""), Reason.NOT_A_NUMBER, "r was"),
        (changed(MARK, T=-1), Reason.NEGATIVE_TIME, "T"),
        (changed(FORCED, o={"s": "BTCUSDT", "S": "HOLD", "p": "1", "q": "1"}), Reason.BAD_FIELD, "HOLD"),
        (changed(FORCED, o={"s": "BTCUSDT", "S": "BUY", "p": "0", "q": "1"}), Reason.NOT_POSITIVE, "p was 0"),
        (changed(FORCED, o={"s": "ETHUSDT", "S": "BUY", "p": "1", "q": "1"}), Reason.OTHER_SYMBOL, "ETHUSDT"),
        (b'{"symbols":[]}', Reason.BAD_FIELD, "empty"),
        (b'{"symbols":5}', Reason.BAD_FIELD, "array"),
        (json.dumps([{**ROWS[0], "qty": "x"}]).encode(), Reason.NOT_A_NUMBER, "q was"),
        (json.dumps([{**ROWS[0], "time": 5}]).encode(), Reason.IMPOSSIBLE_TIME, "time was 5"),
        (json.dumps([{**ROWS[0], "isBestMatch": True}]).encode(), Reason.OTHER_VENUE, "binance_spot"),
        (json.dumps([{**ROWS[0], "baseQty": "1"}]).encode(), Reason.OTHER_VENUE, "binance_coinm"),
        (changed(TRADE, s="ETHUSDT"), Reason.OTHER_SYMBOL, "ETHUSDT"),
        (changed(DEPTH, s=""), Reason.OTHER_SYMBOL, "BTCUSDT"),
        (changed(QUOTE, s="btcusdt"), Reason.OTHER_SYMBOL, "btcusdt"),
        (changed(TRADE, p="61800.35"), Reason.OFF_INCREMENT, "p was 61800.35, not a multiple of 0.10"),
        (changed(DEPTH, b=[["61800.20", "0.0005"]]), Reason.OFF_INCREMENT, "b"),
        (changed(TRADE, p="-61800.30"), Reason.NOT_POSITIVE, "p"),
        (changed(QUOTE, B="-2.507"), Reason.NOT_POSITIVE, "B"),
        (changed(DEPTH, a=[["0.00", "1.000"]]), Reason.NOT_POSITIVE, "a"),
        (changed(SNAPSHOT, bids=[["0.0", "0"]]), Reason.NOT_POSITIVE, "bids"),
        (changed(DEPTH, U=5123107837558), Reason.OUT_OF_ORDER, "U"),
        (changed(DEPTH, pu=5123107837558), Reason.OUT_OF_ORDER, "pu"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_frame_is_named(raw: bytes, reason: Reason, named: str) -> None:
    error = refused(raw)
    assert error.reason is reason, error
    assert named in error.detail


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "inf", "Infinity", "", " ", ".", ".5", "1e5", "0x10", "1,000.0", "1_000", "+1", "--1", "- 1", "1.-5",
     "61800.30 ", "٣", "６１８００", "1.2.3", "9" * 19, "9" * 5_000, "9" * 18 + ".9", "922337203685477580.8"],
)  # fmt: skip
@pytest.mark.parametrize(("frame", "field"), [(TRADE, "p"), (QUOTE, "A")])
def test_text_that_is_no_number_or_cannot_be_kept_exactly_is_refused(
    frame: dict[str, Any], field: str, text: str
) -> None:
    tenths = USDM.decoder(USDM.implied("BTCUSDT", "0.1", "0.1"))
    with pytest.raises(Rejected, match=f"not_a_number: {field} was"):
        tenths.decode(changed(frame, **{"q": "1", "B": "2", "A": "3", field: text}))


def test_the_readme_explains_every_reason_and_no_other() -> None:
    table = (Path(__file__).parents[1] / "README.md").read_text().partition("| reason |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Reason)


ADAPTERS = (USDM, COINM, SPOT)
DEFINITIONS = {
    "binance_usdm": BTCUSDT,
    "binance_coinm": COINM.implied("BTCUSD_PERP", "0.1", "1"),
    "binance_spot": SPOT.implied("BTCUSDT", "0.01000000", "0.00001000"),
}
ALL = [
    *((USDM, changed(frame)) for frame in REAL),
    (USDM, json.dumps(ROWS).encode()),
    (USDM, json.dumps([{"a": 1, "p": "1", "q": "1", "f": 1, "l": 1, "T": E_MS, "m": True}]).encode()),
    *((COINM, raw) for raw in (COINM_DEPTH, COINM_QUOTE, COINM_TRADE, COINM_SNAPSHOT)),
    *((SPOT, raw) for raw in (SPOT_DEPTH, SPOT_QUOTE, SPOT_TRADE, SPOT_SNAPSHOT)),
]


def survives(raw: bytes, adapters: Sequence[Adapter] = ADAPTERS) -> None:
    """Decode a frame; if it is refused, the refusal must fit into a dead letter."""
    for adapter in adapters:
        try:
            adapter.decoder(DEFINITIONS[adapter.venue]).decode(raw)
        except Rejected as error:
            letter = dead_letter(
                raw=raw, source="x", schema="frame", reason=error.reason, detail=error.detail, attempt=1, at_ns=0
            )
            assert len(codec.encode(letter)) < len(raw) + 1_000, "a reason is short, whatever the frame"
        adapter.symbol_of(raw)
        adapter.owns(raw)
        adapter.levels(raw)
        adapter.websocket.control(raw)
        foreign_venue(raw, adapter)
        with contextlib.suppress(Rejected):
            adapter.defines(raw)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(
    [*"eEsUubBaAtpqXmMroiT", "pu", "ps", "st", "stream", "data", "lastUpdateId", "bids", "asks", "channel", "symbols",
     "symbol", "filters", "error", "id", "result"]
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)


@given(st.binary(max_size=300))
def test_no_bytes_however_random_stop_the_decoder(raw: bytes) -> None:
    survives(raw)


@given(st.dictionaries(names, values, max_size=5))
def test_no_json_however_odd_stops_the_decoder(frame: dict[str, Any]) -> None:
    survives(json.dumps(frame).encode())
    survives(json.dumps([frame]).encode())


@example(TRADE, "t", 10**5_000)
@example(TRADE, "p", "9" * 5_000)
@given(st.sampled_from(REAL), names, values | st.from_regex(r"-?\d{0,25}(\.\d{0,25})?", fullmatch=True))
def test_no_field_of_a_real_frame_however_wrong_stops_the_decoder(
    frame: dict[str, Any], field: str, value: object
) -> None:
    if isinstance(value, int) and abs(value) > 2**200:
        survives(changed(frame, **{field: 0}).replace(b": 0", b": " + b"9" * 5_000))
    else:
        survives(changed(frame, **{field: value}))


@given(st.sampled_from(ALL), st.data())
def test_no_damage_to_the_bytes_of_a_real_frame_stops_the_decoder(
    frame: tuple[Adapter, bytes], data: st.DataObject
) -> None:
    adapter, real = frame
    raw = bytearray(real)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        until = data.draw(st.integers(at, min(len(raw), at + 40)))
        raw[at:until] = data.draw(st.binary(max_size=3) | st.sampled_from([b"[", b'"', b"\\u", b"9" * 30, b"-", b"e9"]))
        if not raw:
            break
    survives(bytes(raw), [adapter])


@pytest.mark.parametrize(("adapter", "raw"), ALL)
def test_every_real_frame_is_decoded_by_its_market(adapter: Adapter, raw: bytes) -> None:
    kind, events = adapter.decoder(DEFINITIONS[adapter.venue]).decode(raw)
    assert events, kind
    assert adapter.owns(raw) is not raw.startswith(b'[{"a"'), "aggregated trades that were asked for name no market"


increments = st.builds(
    lambda unit, decimals: Decimal(unit).scaleb(-decimals), st.integers(1, 500), st.integers(0, 8)
)  # fmt: skip


@given(increments, st.integers(0, 2**50), st.integers(0, 3))
def test_decimal_text_and_increments_are_the_same_number_both_ways(increment: Decimal, count: int, zeros: int) -> None:
    scale = Scale(increment)
    text = f"{increment * count:f}"
    padded = (text if "." in text else f"{text}.") + "0" * zeros
    assert scale.read(padded, "p") == count
    assert scale.read(padded, "p") == count, "remembered"
    assert increment * scale.read(text, "p") == Decimal(text)


@given(increments, st.integers(0, 2**50), st.integers(1, 999))
def test_a_number_between_two_increments_is_never_rounded(increment: Decimal, count: int, part: int) -> None:
    text = f"{increment * count + increment * part / 1_000:f}"
    with pytest.raises(Rejected, match="off_increment: p was"):
        Scale(increment).read(text, "p")


@pytest.mark.parametrize(("text", "count"), [("61800.3", 618_003), ("61800.300000", 618_003), ("7", 70), ("0.0", 0)])
def test_zeros_at_the_end_change_nothing(text: str, count: int) -> None:
    assert Scale(Decimal("0.10")).read(text, "p") == count


@given(increments, st.integers(1, 2**40), st.lists(st.integers(0, 2**40)))
def test_the_increment_of_neighbouring_numbers_is_found(increment: Decimal, start: int, others: list[int]) -> None:
    texts = [f"{increment * count:f}" for count in (start, start + 1, *others)]
    assert implied_increment(texts) == increment


@given(st.lists(st.integers(1, 2**40), min_size=1), increments)
def test_all_numbers_are_multiples_of_the_increment_they_imply(counts: list[int], unit: Decimal) -> None:
    texts = [f"{unit * count:f}" for count in counts]
    increment = implied_increment(texts)
    assert increment % unit == 0
    assert all(Scale(increment).read(text, "p") * increment == Decimal(text) for text in texts)


@pytest.mark.parametrize("texts", [[], ["0", "0.0"], ["NaN"], ["Infinity"], ["abc"]])
def test_no_increment_is_made_up(texts: list[str]) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        implied_increment(texts)


def test_remembered_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huracan_gateway.scale._CACHE_BOUND", 3)
    scale = Scale(Decimal("0.1"))
    assert [scale.read(f"{count}.0", "p") for count in range(10)] == [count * 10 for count in range(10)]
    assert len(scale.known) <= 3


@pytest.mark.parametrize(
    ("venue_symbol", "venue", "symbol", "base", "kind"),
    [
        ("BTCUSDT", "binance_usdm", "btc-usdt-perp", "BTC", InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL),
        ("ETHUSDC", "binance_usdm", "eth-usdc-perp", "ETH", InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL),
        ("1000PEPEUSDT", "binance_usdm", "1000pepe-usdt-perp", "1000PEPE",
         InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL),
        ("BTCUSDT_240927", "binance_usdm", "btc-usdt-240927", "BTC", InstrumentType.INSTRUMENT_TYPE_LINEAR_FUTURE),
        ("SIMUSDT", "sim", "sim-usdt-perp", "SIM", InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL),
    ],
)  # fmt: skip
def test_a_venue_symbol_says_what_it_is_and_simulated_data_is_labelled(
    venue_symbol: str, venue: str, symbol: str, base: str, kind: InstrumentType
) -> None:
    made = USDM.implied(venue_symbol, "0.1", "0.001")
    assert (made.id.venue, made.id.symbol, made.base, made.type) == (venue, symbol, base, kind)
    assert (made.price_increment, made.size_increment, made.multiplier) == ("0.1", "0.001", "1")


@pytest.mark.parametrize("venue_symbol", ["", "USDT", "BTCEUR", "btcusdt", "BTC-USDT", "BTC.USDT", "бтцUSDT"])
def test_a_symbol_that_cannot_be_split_is_refused(venue_symbol: str) -> None:
    with pytest.raises(Rejected, match="other_symbol"):
        USDM.implied(venue_symbol, "0.1", "0.001")
