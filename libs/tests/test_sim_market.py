"""The simulated market keeps the venue's promises: ids, books, quotes and trades agree with each other."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import subprocess
import sys
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from huracan.sim.market import (
    QUARTER_HOUR_NS,
    SimulatedMarket,
    SimulatedMarketConfig,
    history,
    recording,
    write_history,
    write_recording,
)

SEEDS = (0, 1, 2, 3)
NS_PER_S = 1_000_000_000

Frame = tuple[int, bytes]
Quote = tuple[float, str, float, str]


def config(seed: int = 0, duration_s: float = 20.0, **changes: Any) -> SimulatedMarketConfig:
    changes.setdefault("regime_switch_s", duration_s / 2)
    return SimulatedMarketConfig(seed=seed, duration_s=duration_s, **changes)


@cache
def recorded(seed: int, duration_s: float = 20.0) -> list[Frame]:
    return list(recording(config(seed, duration_s)))


def streamed(market: SimulatedMarket) -> list[Frame]:
    return list(iter(market.next_frame, None))


def of_stream(frames: list[Frame], stream: str) -> list[dict[str, Any]]:
    decoded = (json.loads(raw) for _, raw in frames)
    return [message["data"] for message in decoded if message.get("stream", "").endswith(f"@{stream}")]


def digest(frames: list[Frame]) -> str:
    return hashlib.sha256(b"".join(b"%d %b\n" % frame for frame in frames)).hexdigest()


@dataclass
class DictionaryBook:
    """The plainest book there is, by the venue's rules: the independent witness of these tests."""

    bids: dict[float, str] = field(default_factory=dict)
    asks: dict[float, str] = field(default_factory=dict)
    last_id: int = 0
    in_chain: bool = False

    @classmethod
    def of(cls, snapshot: dict[str, Any]) -> DictionaryBook:
        book = cls(last_id=snapshot["lastUpdateId"])
        book._put(snapshot["bids"], snapshot["asks"])
        return book

    def apply(self, update: dict[str, Any]) -> bool:
        if not self.in_chain:
            if update["u"] < self.last_id:
                return False
            assert update["U"] <= self.last_id <= update["u"]
            self.in_chain = True
        else:
            assert update["pu"] == self.last_id
        self.last_id = update["u"]
        self._put(update["b"], update["a"])
        return True

    def _put(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            for price, size in rows:
                if size == "0.000":
                    side.pop(float(price), None)
                else:
                    side[float(price)] = size

    def quote(self) -> Quote:
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]


def quote_of(ticker: dict[str, Any]) -> Quote:
    return float(ticker["b"]), ticker["B"], float(ticker["a"]), ticker["A"]


def check_book(snapshot: dict[str, Any], frames: list[Frame]) -> tuple[DictionaryBook, int]:
    """Apply the book check of SEMANTICS.md; return the final book and how many updates were checked."""
    tickers = of_stream(frames, "bookTicker")
    ids = [ticker["u"] for ticker in tickers]
    book, checked = DictionaryBook.of(snapshot), 0
    for update in of_stream(frames, "depth@0ms"):
        if book.apply(update):
            assert book.quote() == quote_of(tickers[bisect_right(ids, update["u"]) - 1]), update["u"]
            checked += 1
    return book, checked


def snapshot_of(frames: list[Frame]) -> tuple[int, dict[str, Any]]:
    ((index, raw),) = [(i, raw) for i, (_, raw) in enumerate(frames) if b"lastUpdateId" in raw]
    snapshot: dict[str, Any] = json.loads(raw)
    return index, snapshot


def mids_each_second(frames: list[Frame]) -> np.ndarray:
    tickers = of_stream(frames, "bookTicker")
    times = np.array([ticker["E"] for ticker in tickers])
    mids = np.array([(float(ticker["b"]) + float(ticker["a"])) / 2 for ticker in tickers])
    grid = np.arange(times[0], times[-1], 1_000)
    return np.asarray(mids[np.searchsorted(times, grid, side="right") - 1])


def test_one_seed_gives_the_same_bytes_again() -> None:
    assert digest(list(recording(config(7)))) == digest(list(recording(config(7))))


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    program = (
        "import hashlib\n"
        "from huracan.sim.market import SimulatedMarketConfig, recording\n"
        "config = SimulatedMarketConfig(seed=7, duration_s=20.0, regime_switch_s=10.0)\n"
        "lines = b''.join(b'%d %b\\n' % frame for frame in recording(config))\n"
        "print(hashlib.sha256(lines).hexdigest())\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "4242")
    }
    assert digests == {digest(recorded(7))}


def test_another_seed_gives_another_market() -> None:
    assert len({digest(recorded(seed)) for seed in SEEDS}) == len(SEEDS)


def test_clock_skew_and_latency_move_receive_times_only() -> None:
    plain = recorded(0)
    skewed = list(recording(config(0, clock_skew_ms=1_270.0)))
    slow = list(recording(config(0, latency_ms=50.0, latency_jitter_ms=20.0)))
    assert [raw for _, raw in skewed] == [raw for _, raw in plain] == [raw for _, raw in slow]
    assert {ours - theirs for (ours, _), (theirs, _) in zip(plain, skewed, strict=True)} == {1_270_000_000}


@pytest.mark.parametrize("seed", SEEDS)
def test_receive_times_never_go_back_and_follow_the_event_by_the_latency(seed: int) -> None:
    frames = recorded(seed)
    received = [recv_ns for recv_ns, _ in frames]
    assert received == sorted(received)
    for recv_ns, raw in frames:
        message = json.loads(raw)
        data = message.get("data", message)
        assert data["T"] <= data["E"] <= recv_ns // 1_000_000
        if "data" in message:
            assert recv_ns // 1_000_000 - data["E"] < 60


def test_frames_have_the_fields_of_the_venue() -> None:
    frames = recorded(0)
    depth, ticker, trade = (of_stream(frames, name) for name in ("depth@0ms", "bookTicker", "trade"))
    assert len(frames) == len(depth) + len(ticker) + len(trade) + 1
    assert {tuple(message) for message in depth} == {("e", "E", "T", "s", "U", "u", "pu", "b", "a")}
    assert {tuple(message) for message in ticker} == {("e", "u", "s", "b", "B", "a", "A", "T", "E")}
    assert {tuple(message) for message in trade} == {("e", "E", "T", "s", "t", "p", "q", "X", "m")}
    assert {message["s"] for message in depth + ticker + trade} == {"SIMUSDT"}
    assert {message["X"] for message in trade} == {"MARKET"}
    assert {message["m"] for message in trade} == {True, False}
    assert {type(message["E"]) for message in depth + ticker + trade} == {int}
    _, snapshot = snapshot_of(frames)
    assert tuple(snapshot) == ("lastUpdateId", "E", "T", "bids", "asks")


def test_prices_and_sizes_are_written_as_the_venue_writes_them() -> None:
    frames = recorded(0)
    rows = [row for update in of_stream(frames, "depth@0ms") for row in update["b"] + update["a"]]
    rows += [[trade["p"], trade["q"]] for trade in of_stream(frames, "trade")]
    assert {len(price.partition(".")[2]) for price, _ in rows} == {2}
    assert {price[-1] for price, _ in rows} == {"0"}
    assert {len(size.partition(".")[2]) for _, size in rows} == {3}


@pytest.mark.parametrize("seed", SEEDS)
def test_ids_are_continuous(seed: int) -> None:
    updates = of_stream(recorded(seed), "depth@0ms")
    assert all(update["U"] == update["pu"] + 1 <= update["u"] for update in updates)
    assert all(after["pu"] == before["u"] for before, after in itertools.pairwise(updates))
    # One id per change of one level: an update never lists more levels than it spans ids.
    assert all(len(update["b"]) + len(update["a"]) <= update["u"] - update["pu"] for update in updates)
    trades = [trade["t"] for trade in of_stream(recorded(seed), "trade")]
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    tickers = [ticker["u"] for ticker in of_stream(recorded(seed), "bookTicker")]
    assert all(before < after for before, after in itertools.pairwise(tickers))
    assert tickers[-1] <= updates[-1]["u"]


@pytest.mark.parametrize("seed", SEEDS)
def test_depth_updates_close_on_the_interval(seed: int) -> None:
    updates = of_stream(recorded(seed), "depth@0ms")
    start_ms = config(seed).start_ns // 1_000_000
    assert all((update["E"] - start_ms) % 50 == 0 for update in updates)
    assert len(updates) <= 20 * 20


@pytest.mark.parametrize("seed", SEEDS)
def test_the_recorded_snapshot_bootstraps_a_book_that_passes_every_book_check(seed: int) -> None:
    frames = recorded(seed)
    index, snapshot = snapshot_of(frames)
    before = of_stream(frames[:index], "depth@0ms")
    assert any(update["U"] <= snapshot["lastUpdateId"] <= update["u"] for update in before)
    _, checked = check_book(snapshot, frames)
    assert checked >= len(of_stream(frames, "depth@0ms")) - 5


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**64),
    switch_s=st.floats(0, 4),
    interval_ms=st.floats(1, 400),
    limits=st.floats(1, 400),
    cancels=st.floats(1, 400),
    orders=st.floats(0.1, 100),
)
def test_every_market_however_configured_passes_every_book_check(
    seed: int, switch_s: float, interval_ms: float, limits: float, cancels: float, orders: float
) -> None:
    market = config(
        seed,
        duration_s=3.0,
        regime_switch_s=switch_s,
        depth_interval_ms=interval_ms,
        limit_orders_per_s=limits,
        cancels_per_s=cancels,
        market_orders_per_s=orders,
    )
    frames = list(recording(market))
    _, snapshot = snapshot_of(frames)
    book, checked = check_book(snapshot, frames)
    assert checked or snapshot["lastUpdateId"] == of_stream(frames, "depth@0ms")[-1]["u"]
    assert min(len(book.bids), len(book.asks)) >= 20
    assert all(float(size) > 0 for side in (book.bids, book.asks) for size in side.values())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1_000), asked_after=st.integers(0, 900))
def test_a_snapshot_at_any_moment_bootstraps_the_book_that_goes_on(seed: int, asked_after: int) -> None:
    market = SimulatedMarket(config(seed, duration_s=5.0))
    first = json.loads(market.snapshot())
    before = [frame for _ in range(asked_after) if (frame := market.next_frame())]
    second = json.loads(market.snapshot())
    after = streamed(market)
    continuing, _ = check_book(first, before + after)
    rebuilt = DictionaryBook.of(second)
    for update in of_stream(after, "depth@0ms"):
        rebuilt.apply(update)
    assert (rebuilt.bids, rebuilt.asks) == (continuing.bids, continuing.asks)
    assert DictionaryBook.of(json.loads(market.snapshot())).quote() == continuing.quote()


def test_asking_for_snapshots_changes_no_frame() -> None:
    market, frames = SimulatedMarket(config(3)), []
    while (frame := market.next_frame()) is not None:
        frames.append(frame)
        market.snapshot()
    assert frames == streamed(SimulatedMarket(config(3)))


def test_a_snapshot_is_ordered_from_the_best_outwards_and_not_crossed() -> None:
    _, snapshot = snapshot_of(recorded(1))
    bids, asks = ([float(price) for price, _ in snapshot[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trade_prints_at_the_best_it_consumes_and_for_no_more_than_was_there(seed: int) -> None:
    quote: dict[str, Any] = {}
    for _, raw in recorded(seed):
        message = json.loads(raw)
        if message.get("stream") == "simusdt@bookTicker":
            quote = message["data"]
        elif message.get("stream") == "simusdt@trade":
            trade = message["data"]
            price, size = ("b", "B") if trade["m"] else ("a", "A")
            assert trade["p"] == quote[price]
            assert 0 < float(trade["q"]) <= float(quote[size])
            assert 49_000 < float(trade["p"]) < 51_000


@pytest.mark.parametrize("seed", SEEDS)
def test_quotes_are_sane(seed: int) -> None:
    quotes = np.array([quote_of(ticker) for ticker in of_stream(recorded(seed), "bookTicker")], dtype=float)
    spread_ticks = np.round((quotes[:, 2] - quotes[:, 0]) * 10)
    assert spread_ticks.min() >= 1
    assert np.mean(spread_ticks <= 3) > 0.75
    sizes = quotes[:, [1, 3]]
    assert sizes.min() > 0
    assert 0.5 < np.median(sizes) < 10


@pytest.mark.parametrize("seed", SEEDS)
def test_volatility_rises_sharply_at_the_regime_switch(seed: int) -> None:
    mids = mids_each_second(recorded(seed, 120.0))
    calm, turbulent = np.diff(mids[:60]).std(), np.diff(mids[60:]).std()
    assert turbulent > 2.5 * calm


def test_a_market_without_switch_stays_calm_and_one_switched_at_zero_does_not() -> None:
    calm = mids_each_second(list(recording(config(0, 60.0, regime_switch_s=60.0))))
    turbulent = mids_each_second(list(recording(config(0, 60.0, regime_switch_s=0.0))))
    assert np.diff(turbulent).std() > 2.5 * np.diff(calm).std()


def test_order_flow_leads_the_mid() -> None:
    flow, moves = [], []
    for seed in SEEDS:
        frames = recorded(seed, 120.0)
        mids = mids_each_second(frames)
        signed = np.zeros(len(mids) + 1)
        start_ms = of_stream(frames, "bookTicker")[0]["E"]
        for trade in of_stream(frames, "trade"):
            signed[(trade["E"] - start_ms) // 1_000] += float(trade["q"]) * (-1 if trade["m"] else 1)
        flow.append(signed[: len(mids) - 2])
        moves.append(np.diff(mids)[1:])
    # Second k of trades against the mid's move over second k + 1.
    assert np.corrcoef(np.concatenate(flow), np.concatenate(moves))[0, 1] > 0.2


def test_the_price_of_a_one_sided_market_is_pulled_home() -> None:
    def displacement(pull_range: float) -> float:
        one_sided = config(0, 90.0, regime_switch_s=0.0, turbulent_swing_s=1e6, pull_range=pull_range)
        late = mids_each_second(streamed(SimulatedMarket(one_sided)))[-30:]
        return float(abs(late.mean() - 50_000.05))

    assert displacement(0.0005) < 0.3 * displacement(1.0)


def test_without_hidden_imbalance_the_flow_takes_no_side() -> None:
    frames = list(recording(config(0, 120.0, regime_switch_s=120.0, calm_imbalance=0.0)))
    sells = [trade["m"] for trade in of_stream(frames, "trade")]
    assert abs(np.mean(sells) - 0.5) < 0.1


def test_a_drifting_price_does_not_grow_the_book_without_end() -> None:
    market = SimulatedMarket(config(5, 120.0, regime_switch_s=0.0, turbulent_swing_s=1e6, cancels_per_s=20.0))
    streamed(market)
    book = json.loads(market.snapshot())
    assert max(len(book["bids"]), len(book["asks"])) < 1_000


def test_a_recording_too_short_for_an_answer_still_ends_with_a_snapshot() -> None:
    frames = list(recording(config(0, duration_s=0.01)))
    index, _ = snapshot_of(frames)
    assert index == len(frames) - 1


@pytest.mark.parametrize("name", ["sim.jsonl", "sim.jsonl.gz"])
def test_a_written_recording_reads_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert write_recording(config(0), path) == len(recorded(0))
    content = path.read_bytes()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).splitlines()
    assert [(int(recv), raw) for recv, raw in (line.split(b" ", 1) for line in lines)] == recorded(0)


def test_a_gzip_recording_has_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    paths = tmp_path / "one.gz", tmp_path / "two.gz"
    for path in paths:
        write_recording(config(0), path)
        assert path.read_bytes()[4:8] == bytes(4), "the header names a time"
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    "bad",
    [
        {"symbol": "BTCUSDT"},
        {"seed": -1},
        {"duration_s": 0.0},
        {"calm_imbalance": 1.0},
        {"speed": 2},
        {"start_ns": 1_000_000_000, "clock_skew_ms": 1_270.0},
    ],
)
def test_a_bad_setting_is_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SimulatedMarketConfig.model_validate({"seed": 0, **bad})


def shape(table: pa.Table) -> list[tuple[str, pa.DataType]]:
    return [(column.name, column.type) for column in table.schema]


def columns_of(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy() for name in table.column_names}


def test_history_has_the_columns_of_the_shared_bar_files() -> None:
    prices = [(name, pa.float64()) for name in ("open", "high", "low", "close", "volume")]
    assert shape(history(config(), bars=3)) == [("date", pa.timestamp("ns", tz="UTC")), *prices]


@example(bars=1, start_s=1_700_000_100, skew_ms=1_270.0, interval_s=900)
@given(
    bars=st.integers(1, 300),
    start_s=st.integers(1_600_000_000, 1_800_000_000),
    skew_ms=st.floats(-5_000, 5_000),
    interval_s=st.sampled_from([60, 900, 3_600]),
)
@settings(max_examples=25, deadline=None)
def test_no_history_bar_closes_after_the_first_frame_is_received(
    bars: int, start_s: int, skew_ms: float, interval_s: int
) -> None:
    market = config(0, start_ns=start_s * NS_PER_S, clock_skew_ms=skew_ms, duration_s=0.01)
    interval_ns = interval_s * NS_PER_S
    opens = history(market, bars=bars, interval_ns=interval_ns)["date"].cast(pa.int64()).to_numpy()
    first_recv_ns = next(recording(market))[0]
    assert len(opens) == bars
    assert (opens % interval_ns == 0).all()
    assert (np.diff(opens) == interval_ns).all()
    closed_ns = opens[-1] + interval_ns
    assert closed_ns <= min(first_recv_ns, market.start_ns) < closed_ns + interval_ns + 5 * NS_PER_S


@pytest.mark.parametrize("seed", SEEDS)
def test_history_bars_are_whole_and_end_at_the_opening_mid(seed: int) -> None:
    bars = columns_of(history(config(seed), bars=500))
    assert (bars["low"] <= np.minimum(bars["open"], bars["close"])).all()
    assert (bars["high"] >= np.maximum(bars["open"], bars["close"])).all()
    assert (bars["open"][1:] == bars["close"][:-1]).all()
    assert (bars["low"] > 0).all()
    assert (bars["volume"] > 0).all()
    assert abs(bars["close"][-1] - 50_000.05) <= 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_history_has_high_and_low_volatility_trends_and_ranges(seed: int) -> None:
    bars = columns_of(history(config(seed), bars=1_000))
    window = 12
    log_range = np.log(bars["high"] / bars["low"])
    move = np.diff(np.log(bars["close"]))
    blocks = [slice(i, i + window) for i in range(0, len(move) - window, window)]
    ranges = np.array([log_range[1:][block].mean() for block in blocks])
    efficiency = np.array([abs(move[block].sum()) / np.abs(move[block]).sum() for block in blocks])
    low, high = np.quantile(ranges, [0.1, 0.9])
    assert high > 5 * low
    middle = efficiency[(ranges > 2 * low) & (ranges < high / 1.7)]
    assert np.mean(middle > 0.6) > 0.2
    assert np.mean(middle < 0.1) > 0.15


def test_history_is_the_same_for_a_seed_and_other_for_another(tmp_path: Path) -> None:
    assert history(config(1), bars=50).equals(history(config(1, duration_s=1.0), bars=50))
    assert not history(config(1), bars=50).equals(history(config(2), bars=50))
    write_history(config(1), tmp_path / "bars.parquet", bars=50)
    assert pq.read_table(tmp_path / "bars.parquet").equals(history(config(1), bars=50))


@pytest.mark.parametrize("bad", [{"bars": 0}, {"bars": 1, "interval_ns": 0}])
def test_a_history_of_nothing_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        history(config(), **bad)


def test_the_default_start_leaves_no_bar_between_history_and_market() -> None:
    market = SimulatedMarketConfig(seed=0)
    last_open = history(market, bars=1)["date"].cast(pa.int64())[0].as_py()
    assert 0 <= market.start_ns - (last_open + QUARTER_HOUR_NS) < 60 * NS_PER_S
