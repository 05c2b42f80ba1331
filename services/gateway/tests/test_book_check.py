"""Books of the recordings are the venues' own; frames of public fixtures and captures are read, or refused by name."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from huracan.contracts.market import InstrumentDefinition
from huracan.errors import SequenceGap
from huracan.market.book import Applied, DepthUpdate, SyncedBook
from huracan_gateway.adapter import Adapter
from huracan_gateway.binance_coinm.adapter import ADAPTER as COINM
from huracan_gateway.binance_spot.adapter import ADAPTER as SPOT
from huracan_gateway.binance_usdm.adapter import ADAPTER as USDM
from huracan_gateway.book_check import UPDATES_KEPT, BookCheck
from huracan_gateway.events import RECENT_TRADES, Depth, Event, Quote, Snapshot, Trade
from huracan_gateway.reject import Rejected
from huracan_gateway.scale import implied_increment

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
TICKS, RAW = DATA / "ticks" / "hftbacktest", DATA / "ws_raw"


@dataclass(slots=True)
class Played:
    """What came of frames that were played in their order."""

    book: SyncedBook = field(default_factory=SyncedBook)
    check: BookCheck = field(default_factory=BookCheck)
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    missing_trades: int = 0
    last_trade: int | None = None

    def take(self, event: Event) -> None:
        match event:
            case Quote():
                self.check.quoted(event)
            case Depth():
                self.apply(event.update, event.sequence or event.update.final)
            case Snapshot():
                for update in self.book.snapshot(event.last_update_id, event.bids, event.asks):
                    self.apply(update, update.final)
            case Trade():
                self.missing_trades += self.last_trade is not None and event.trade_id != self.last_trade + 1
                self.last_trade = event.trade_id

    def apply(self, update: DepthUpdate, sequence: int) -> None:
        try:
            if self.book.apply(update) is Applied.APPLIED:
                self.check.updated(sequence, (self.book.book.best_bid(), self.book.book.best_ask()))
        except SequenceGap:
            self.gaps += 1


def shared(path: Path) -> Path:
    """Return a shared file, or skip by its name."""
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


def read(path: Path, separator: bytes = b" ") -> Iterator[tuple[bytes, bytes]]:
    """Yield what stands before the separator, and the frame, of the lines that hold one."""
    with gzip.open(shared(path)) as lines:
        for line in lines:
            head, _, raw = line.rstrip(b"\n").partition(separator)
            if raw.startswith(b"{"):
                yield head, raw


def implied(adapter: Adapter, symbol: str, frames: Sequence[bytes]) -> InstrumentDefinition:
    levels = next(levels for levels in map(adapter.levels, frames) if levels)
    prices, sizes = (implied_increment(level[at] for level in levels) for at in (0, 1))
    return adapter.implied(symbol, str(prices), str(sizes))


def play(adapter: Adapter, definition: InstrumentDefinition, frames: Sequence[bytes]) -> Played:
    decoder, played = adapter.decoder(definition), Played()
    for raw in frames:
        try:
            kind, events = decoder.decode(raw)
        except Rejected as refused:
            played.refused[refused.reason] += 1
            continue
        played.kinds[kind] += 1
        for event in events:
            played.take(event)
    played.check.finish()
    return played


@pytest.mark.parametrize(
    ("adapter", "name", "kinds", "matched"),
    [
        (COINM, "binance_cm_btcusd_perp", {"depth": 6_795, "quote": 4_906, "trade": 298, "snapshot": 1}, 6_772),
        (SPOT, "binance_spot_btcusdt", {"depth": 3_451, "quote": 28_040, "trade": 9_757, "snapshot": 1}, 3_449),
    ],
)
def test_the_book_of_a_recording_is_the_venues_at_every_update(
    adapter: Adapter, name: str, kinds: dict[str, int], matched: int
) -> None:
    frames = [raw for _, raw in read(TICKS / f"{name}_20240808.jsonl.gz")]
    assert all(adapter.owns(raw) for raw in frames[:2_000])
    symbol = next(symbol for symbol in map(adapter.symbol_of, frames) if symbol)
    played = play(adapter, implied(adapter, symbol, frames), frames)
    assert played.kinds == kinds
    assert (played.refused, played.gaps, played.missing_trades) == ({}, 0, 0)
    assert (played.check.compared, played.check.matched) == (matched, matched)


def captured(name: str) -> dict[str, list[tuple[float, bytes]]]:
    """Return the frames of a capture by symbol, with their snapshots, in the order of their receipt."""
    frames: dict[str, list[tuple[float, bytes]]] = defaultdict(list)
    for head, raw in read(RAW / "cryptofeed" / f"{name}.ws.1.0.txt.gz", b": "):
        frames[raw.split(b"@")[0].removeprefix(b'{"stream":"').decode().upper()].append((float(head), raw))
    for head, raw in read(RAW / "cryptofeed" / f"{name}.http.0.0.txt.gz", b": "):
        symbol = head.partition(b"symbol=")[2].partition(b"&")[0].decode()
        frames[symbol].append((float(head.partition(b"-> ")[2]), raw))
    return {symbol: sorted(each) for symbol, each in frames.items()}


@pytest.mark.parametrize(
    ("adapter", "name", "symbols", "compared", "different"),
    [(USDM, "BINANCE_FUTURES", 4, 744, 0), (COINM, "BINANCE_DELIVERY", 10, 1_788, 3)],
)
def test_the_books_of_a_capture_are_the_venues(
    adapter: Adapter, name: str, symbols: int, compared: int, different: int
) -> None:
    """Three of COIN-M differ: a snapshot without an order that quotes show, told twice, and a size that none showed."""
    total = Counter[str]()
    by_symbol = captured(name)
    assert len(by_symbol) == symbols
    for symbol, timed in by_symbol.items():
        frames = [raw for _, raw in timed]
        assert all(adapter.owns(raw) for raw in frames if b"@kline" not in raw)
        played = play(adapter, implied(adapter, symbol, frames), frames)
        assert set(played.refused) <= {"unknown_stream"}, "bars are not read"
        assert (played.gaps, played.missing_trades) == (0, 0)
        total["compared"] += played.check.compared
        total["different"] += played.check.compared - played.check.matched
    assert total == Counter(compared=compared, different=different)


def test_the_frames_of_a_spot_capture_are_spots() -> None:
    frames = [raw for _, raw in read(RAW / "cryptofeed" / "BINANCE.ws.1.0.txt.gz", b": ")]
    decoder = SPOT.decoder(SPOT.implied("NKNUSDT", "0.0001", "1"))
    own = [raw for raw in frames if SPOT.symbol_of(raw) == "NKNUSDT" and b"@kline" not in raw]
    assert len(own) == 225
    assert {decoder.decode(raw)[0] for raw in own} == {"depth", "quote", "trade"}
    assert all(SPOT.owns(raw) and not USDM.owns(raw) and not COINM.owns(raw) for raw in own)


NAUTILUS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "agg_trade_stream": ("btcusdt@aggTrade", "impossible_time", {}),
    "book_ticker_stream": ("bnbusdt@bookTicker", "quote", {"symbol": "BNBUSDT", "price": "0.0001"}),
    "depth_update_stream": ("btcusdt@depth", "impossible_time", {}),
    "kline_stream_closed": ("btcusdt@kline_1m", "unknown_stream", {}),
    "kline_stream_open": ("btcusdt@kline_1m", "unknown_stream", {}),
    "liquidation_stream": ("btcusdt@forceOrder", "liquidation", {}),
    "mark_price_stream": ("btcusdt@markPrice", "mark", {}),
    "ticker_stream": ("btcusdt@ticker", "unknown_stream", {}),
    "trade_stream": ("btcusdt@trade", "impossible_time", {}),
}


def told(adapter: Adapter, definition: InstrumentDefinition, raw: bytes) -> str:
    """Return the kind of a frame, or the reason why it is refused."""
    try:
        return adapter.decoder(definition).decode(raw)[0]
    except Rejected as refused:
        return refused.reason


def fixtures() -> dict[str, str]:
    bundle = shared(RAW / "nautilus_fixtures" / "binance.jsonl.gz")
    with gzip.open(bundle) as lines:
        return {Path(each["path"]).stem: each["text"] for each in map(json.loads, lines)}


def test_samples_of_the_futures_documentation_are_read() -> None:
    texts = fixtures()
    for name, (stream, expected, made) in NAUTILUS.items():
        raw = json.dumps({"stream": stream, "data": json.loads(texts[name])}).encode()
        definition = USDM.implied(made.get("symbol", "BTCUSDT"), made.get("price", "0.0001"), "0.001")
        assert told(USDM, definition, raw) == expected, name
        assert USDM.owns(raw) is (expected != "unknown_stream"), name


def test_samples_of_the_spot_documentation_are_read() -> None:
    texts = {name: text.encode() for name, text in fixtures().items()}
    definition = SPOT.implied("LTCBTC", "0.000001", "0.01")
    assert told(SPOT, definition, texts["depth_response"]) == "snapshot"
    assert told(SPOT, definition, texts["trades_response"]) == RECENT_TRADES
    assert told(SPOT, definition, texts["exchange_info_response"]) == "bad_field"
    assert all(SPOT.owns(texts[name]) for name in ("depth_response", "trades_response", "exchange_info_response"))
    for name in ("avg_price", "book_ticker", "ping", "server_time", "ticker_24hr", "ticker_price"):
        assert told(SPOT, definition, texts[f"{name}_response"]) == "unknown_stream"


def vendors(exchange: str) -> Iterator[bytes]:
    with gzip.open(shared(RAW / "tardis_messages.jsonl.gz")) as lines:
        for each in map(json.loads, lines):
            if each["exchange"] == exchange:
                yield json.dumps(each["message"]).encode()


TARDIS = {
    "binance": (SPOT, "0.00000001", {"trade": 2, "quote": 1, "depth": 4, "unknown_stream": 3}),
    "binance-futures": (
        USDM,
        "0.00000001",
        {"trade": 3, "quote": 1, "depth": 1, "mark": 3, "liquidation": 1, "unknown_stream": 4, "bad_field": 1,
         "out_of_order": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("exchange", TARDIS)
def test_messages_of_a_data_vendor_are_read_or_refused_by_name(exchange: str) -> None:
    adapter, increment, expected = TARDIS[exchange]
    seen = Counter[str]()
    for raw in vendors(exchange):
        definition = adapter.implied(adapter.symbol_of(raw) or "BTCUSDT", increment, "0.00000001")
        seen[told(adapter, definition, raw)] += 1
    assert seen == expected


@pytest.mark.parametrize("exchange", ["binance-dex", "binance-european-options"])
def test_messages_of_options_and_of_the_former_exchange_of_tokens_are_not_taken(exchange: str) -> None:
    for raw in vendors(exchange):
        for adapter in (USDM, COINM, SPOT):
            reason = told(adapter, adapter.implied("BTCUSD_PERP" if adapter is COINM else "BTCUSDT", "0.1", "1"), raw)
            assert reason in {"unknown_stream", "other_symbol", "other_venue", "bad_field"}
            assert reason == "unknown_stream" or not adapter.owns(raw)


def quote(update_id: int) -> Quote:
    return Quote(0, update_id, 10, 1, 11, 1)


def test_the_place_among_quotes_decides_whatever_came_first() -> None:
    check = BookCheck()
    check.updated(7, ((10, 1), (11, 1)))
    check.quoted(quote(6))
    check.quoted(quote(9))
    assert (check.compared, check.matched) == (1, 1)


def test_quotes_without_a_number_are_known_but_decide_nothing() -> None:
    check = BookCheck()
    check.updated(7, ((10, 1), (11, 1)))
    check.quoted(quote(0))
    check.finish()
    assert (check.compared, check.last_quote, check.ratio) == (0, quote(0), None)


def test_updates_do_not_wait_for_quotes_without_bound() -> None:
    check = BookCheck()
    for sequence in range(1, UPDATES_KEPT + 100):
        check.updated(sequence, (None, None))
    check.quoted(quote(50))
    check.finish()
    assert check.compared == UPDATES_KEPT, "the oldest went first"
