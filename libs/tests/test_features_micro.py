"""Features of the order book and the trades: golden vectors, a batch model, causality."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.clock import STEP_NS
from huracan.features.levels import ask_flow, bid_flow, imbalance, weighted_mid
from huracan.features.micro import MICRO, MicroState

FIRST_STEP = 17_231_612_550
PRICE_INCREMENT = 0.1
SIZE_INCREMENT = 0.001

Level = tuple[int, int]


class Trade(NamedTuple):
    price: int
    size: int
    side: int
    after_ns: int


class Quote(NamedTuple):
    bid: int
    bid_size: int
    ask: int
    ask_size: int


class Depth(NamedTuple):
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Lost(NamedTuple):
    pass


Event = Trade | Quote | Depth | Lost
Steps = Sequence[Sequence[Event]]
Rows = NDArray[np.float32]


def close_ns(step: int) -> int:
    return (FIRST_STEP + step + 1) * STEP_NS


def feed(state: MicroState, event: Event, step: int) -> None:
    if isinstance(event, Trade):
        state.trade(event.price, event.size, event.side, close_ns(step - 1) + event.after_ns)
    elif isinstance(event, Quote):
        state.quote(*event)
    elif isinstance(event, Depth):
        state.depth(event.bids, event.asks)
    else:
        state.lost_book()


def incremental(steps: Steps) -> Rows:
    state = MicroState(PRICE_INCREMENT, SIZE_INCREMENT)
    rows = []
    for step, events in enumerate(steps):
        for event in events:
            feed(state, event, step)
        rows.append(state.close(close_ns(step)))
    return np.array(rows)


def columns(rows: Rows) -> dict[str, NDArray[np.float32]]:
    return {name: rows[:, index] for index, name in enumerate(MICRO.names)}


# A second way to the same numbers, from the whole list of events: nothing below shares code with the engine.


def batch(steps: Steps) -> NDArray[np.float64]:
    tops = np.array([top_at(steps, step) for step in range(len(steps))]).reshape(-1, 4)
    bid, bid_size, ask, ask_size = tops.T
    logs = np.log((bid + ask) / 2)
    mid = (bid + ask) / 2
    spread = np.where(ask > bid, ask - bid, np.nan)
    trades = [[event for event in events if isinstance(event, Trade)] for events in steps]
    bought = np.array([sum(t.size for t in step if t.side > 0) for step in trades], float)
    sold = np.array([sum(t.size for t in step if t.side < 0) for step in trades], float)
    flows = np.array([flow_of(steps, step) for step in range(len(steps))]).reshape(-1, 5)
    latest = [last_trade(trades, step) for step in range(len(steps))]
    with np.errstate(invalid="ignore"):
        table = [
            1e4 * change(logs, 1),
            1e4 * (ask - bid) / mid,
            1e4 * ((ask * bid_size + bid * ask_size) / (bid_size + ask_size) - mid) / mid,
            (bid_size - ask_size) / (bid_size + ask_size),
            [depth_imbalance_at(steps, step) for step in range(len(steps))],
            *flows.T,
            flows.mean(axis=1),
            (bought - sold) * SIZE_INCREMENT,
            (bought - sold) / np.where(bought + sold > 0, bought + sold, np.nan),
            np.log1p((bought + sold) * SIZE_INCREMENT),
            [len(step) / 0.1 for step in trades],
            [sum(isinstance(event, Quote) for event in events) / 0.1 for events in steps],
            volatility(logs),
            1e4 * change(logs, 10),
            1e4 * change(logs, 100),
            (np.array([price for price, _ in latest]) - mid) / spread,
            [age for _, age in latest],
            *vpin_of(trades),
        ]
    return np.array(table, float).T


def top_at(steps: Steps, step: int) -> tuple[float, ...]:
    since = since_loss(steps, step)
    quotes = [event for event in since if isinstance(event, Quote)]
    depths = [event for event in since if isinstance(event, Depth)]
    top: tuple[int, ...] = (0,)
    if quotes:
        top = quotes[-1]
    elif depths and depths[-1].bids and depths[-1].asks:
        top = depths[-1].bids[0] + depths[-1].asks[0]
    return (math.nan,) * 4 if min(top) == 0 or top[0] > top[2] else tuple(map(float, top))


def since_loss(steps: Steps, step: int) -> list[Event]:
    start = next((back for back in range(step, -1, -1) if Lost() in steps[back]), 0)
    events = [event for each in steps[start : step + 1] for event in each]
    losses = [index for index, event in enumerate(events) if isinstance(event, Lost)]
    return events[losses[-1] + 1 :] if losses else events


def change(logs: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    changes = np.full(len(logs), np.nan)
    for step in range(lag, len(logs)):
        if np.isfinite(logs[step - lag : step + 1]).all():
            changes[step] = logs[step] - logs[step - lag]
    return changes


def volatility(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.full(len(logs), np.nan)
    for step in range(100, len(logs)):
        values[step] = 1e4 * np.sqrt(np.sum(np.diff(logs[step - 100 : step + 1]) ** 2))
    return values


def five(levels: Sequence[Level], worst: float) -> list[tuple[float, float]]:
    padded: list[tuple[float, float]] = list(levels[:5])
    return padded + [(worst, 0.0)] * (5 - len(padded))


def flow_of(steps: Steps, step: int) -> list[float]:
    """Return the formula of Cont, Kukanov & Stoikov as it is printed, level by level, over mean depth."""
    before = [event for event in since_loss(steps, step - 1) if isinstance(event, Depth)] if step else []
    own = list(steps[step])
    if any(isinstance(event, Lost) for event in own):
        before, own = [], since_loss(steps, step)
    updates = [event for event in own if isinstance(event, Depth)]
    if not before and not updates:
        return [math.nan] * 5
    flow = [0.0] * 5
    for old, new in pairwise(before[-1:] + updates):
        sides = zip(five(old.bids, 0), five(new.bids, 0), five(old.asks, 1e9), five(new.asks, 1e9), strict=True)
        for level, ((pb0, qb0), (pb1, qb1), (pa0, qa0), (pa1, qa1)) in enumerate(sides):
            flow[level] += qb1 * (pb1 >= pb0) - qb0 * (pb1 <= pb0) - qa1 * (pa1 <= pa0) + qa0 * (pa1 >= pa0)
    sizes = [q for each in updates for _, q in five(each.bids, 0) + five(each.asks, 0)]
    mean_size = sum(sizes) / len(sizes) if any(sizes) else math.inf
    return [value / mean_size for value in flow]


def depth_imbalance_at(steps: Steps, step: int) -> float:
    depths = [event for event in since_loss(steps, step) if isinstance(event, Depth)]
    if not depths or not depths[-1].bids or not depths[-1].asks:
        return math.nan
    weights = np.exp(-0.5 * np.arange(5))
    bids = weights @ np.array([size for _, size in five(depths[-1].bids, 0)])
    asks = weights @ np.array([size for _, size in five(depths[-1].asks, 0)])
    return float((bids - asks) / (bids + asks))


def last_trade(trades: list[list[Trade]], step: int) -> tuple[float, float]:
    for back in range(step, -1, -1):
        if trades[back]:
            trade = trades[back][-1]
            return trade.price, (step - back + 1) * 0.1 - trade.after_ns / 1e9
    return math.nan, math.nan


def vpin_of(trades: list[list[Trade]]) -> tuple[list[float], list[float]]:
    """Cut the trades into single units of volume and those into buckets."""
    timed = [(step * STEP_NS + t.after_ns, t) for step, each in enumerate(trades) for t in each]
    start = next((i for i, (ns, _) in enumerate(timed) if i >= 50 and ns - timed[0][0] >= 10**10), len(timed))
    volume = max(1, sum(t.size for _, t in timed[:start]) // 10)
    counts = np.cumsum([len(each) for each in trades])
    units = [t.side for _, t in timed[start:] for _ in range(t.size)]
    ends = np.cumsum([0] + [t.size for _, t in timed[start:]])
    bars = np.array(units[: len(units) // volume * volume]).reshape(-1, volume).sum(axis=1)
    levels = [float(np.abs(bars[end - 50 : end]).sum() / (50 * volume)) for end in range(50, len(bars) + 1)]
    vpins, ranks = [], []
    for count in counts:
        known = max(0, int(ends[max(0, count - start)]) // volume - 49)
        past = levels[max(0, known - 1000) : known]
        vpins.append(past[-1] if past else math.nan)
        ranks.append(sum(level <= past[-1] for level in past) / len(past) if known >= 50 else math.nan)
    return vpins, ranks


sides = st.sampled_from((1, -1))
sizes = st.integers(1, 20)


@st.composite
def trade_events(draw: st.DrawFn) -> Trade:
    return Trade(draw(st.integers(90, 110)), draw(sizes), draw(sides), draw(st.integers(0, STEP_NS - 1)))


@st.composite
def quote_events(draw: st.DrawFn) -> Quote:
    bid = draw(st.integers(95, 105))
    whole = Quote(bid, draw(sizes), bid + draw(st.integers(0, 3)), draw(sizes))
    damaged = (
        whole._replace(bid=0, bid_size=0),
        whole._replace(ask_size=0),
        whole._replace(bid=whole.ask + 1),
    )
    return draw(st.sampled_from((whole, whole, whole, *damaged)))


def levels_from(prices: list[int], quantities: list[int]) -> tuple[Level, ...]:
    return tuple(zip(prices, quantities, strict=False))


@st.composite
def depth_events(draw: st.DrawFn) -> Depth:
    best = draw(st.integers(98, 102))
    prices = st.lists(st.integers(0, 6), max_size=7, unique=True).map(sorted)
    quantities = st.lists(sizes, min_size=7, max_size=7)
    bids = levels_from([best - gap for gap in draw(prices)], draw(quantities))
    asks = levels_from([best + 1 + gap for gap in draw(prices)], draw(quantities))
    return Depth(bids, asks)


events = st.one_of(trade_events(), quote_events(), depth_events(), depth_events(), st.just(Lost()))
step_lists = st.lists(st.lists(events, max_size=5), min_size=1, max_size=25)


def long_stream(seed: int, steps: int = 300) -> list[list[Event]]:
    """Return some 30 s of a market that wanders, with ties, gaps and losses."""
    rng = random.Random(seed)
    best = 1000
    stream: list[list[Event]] = []
    for _ in range(steps):
        best += rng.choice((-1, 0, 0, 0, 1))
        step = [some_event(rng, best) for _ in range(rng.randrange(12))]
        if rng.random() < 0.02:
            step += [Lost(), Quote(best, 5, best + 1, 5)]
        stream.append(step)
    return stream


def some_event(rng: random.Random, best: int) -> Event:
    kind = rng.random()
    if kind < 0.5:
        return Trade(best + rng.randrange(2), rng.randrange(1, 20), rng.choice((1, -1)), rng.randrange(STEP_NS))
    if kind < 0.8:
        return Quote(best, rng.randrange(1, 9), best + rng.randrange(1, 3), rng.randrange(1, 9))
    gaps = sorted(rng.sample(range(8), rng.randrange(3, 7)))
    bids = tuple((best - gap, rng.randrange(1, 9)) for gap in gaps)
    return Depth(bids, tuple((best + 1 + gap, rng.randrange(1, 9)) for gap in gaps))


def assert_rows_equal(rows: Rows, expected: NDArray[np.float64]) -> None:
    for index, name in enumerate(MICRO.names):
        np.testing.assert_allclose(rows[:, index], expected[:, index], rtol=2e-5, atol=2e-6, err_msg=name)


@settings(deadline=None)
@given(step_lists)
def test_rows_equal_a_batch_computation_from_all_events(steps: list[list[Event]]) -> None:
    assert_rows_equal(incremental(steps), batch(steps))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32))
def test_rows_of_a_long_stream_equal_a_batch_computation(seed: int) -> None:
    steps = long_stream(seed)
    assert_rows_equal(incremental(steps), batch(steps))


def test_two_minutes_fill_every_feature_and_equal_a_batch_computation() -> None:
    steps = long_stream(1, steps=1300)
    rows = incremental(steps)
    assert np.isfinite(rows).any(axis=0).all()
    assert_rows_equal(rows, batch(steps))


@settings(deadline=None)
@given(step_lists)
def test_every_value_lies_in_its_declared_range(steps: list[list[Event]]) -> None:
    for row in incremental(steps):
        assert MICRO.out_of_range(row) == []


@settings(deadline=None, max_examples=25)
@given(step_lists, step_lists, step_lists)
def test_later_events_change_no_earlier_row(
    past: list[list[Event]], one: list[list[Event]], other: list[list[Event]]
) -> None:
    known = incremental(past)
    np.testing.assert_array_equal(incremental(past + one)[: len(past)], known)
    np.testing.assert_array_equal(incremental(past + other)[: len(past)], known)


GOLDEN_TOPS = [
    ((100, 10), (101, 8)),
    ((100, 15), (101, 8)),  # same prices, more bid: +5
    ((101, 4), (102, 6)),  # both up: +4 + 8
    ((100, 20), (102, 9)),  # bid down: -4, more ask: -3
    ((100, 20), (101, 5)),  # ask down: -5
]


def test_order_flow_imbalance_is_the_golden_vector() -> None:
    flows = [bid_flow(before[0], after[0]) + ask_flow(before[1], after[1]) for before, after in pairwise(GOLDEN_TOPS)]
    assert flows == [5, 12, -7, -5]


def test_order_flow_imbalance_is_over_the_mean_size_of_a_level_in_the_step() -> None:
    state = MicroState(PRICE_INCREMENT, SIZE_INCREMENT)
    for bid, ask in GOLDEN_TOPS:
        state.depth([bid], [ask])
    row = state.close(close_ns(0))
    mean_size = (18 + 23 + 10 + 29 + 25) / (5 * 10)
    assert row[MICRO.names.index("ofi_level_1")] == pytest.approx(5 / mean_size)
    assert row[MICRO.names.index("ofi_level_2")] == 0
    assert row[MICRO.names.index("ofi_integrated")] == pytest.approx(1 / mean_size)


def test_queue_imbalance_and_weighted_mid_are_the_golden_values() -> None:
    assert imbalance(9, 1) == pytest.approx(0.8)
    assert math.isnan(imbalance(0, 0))
    assert weighted_mid(100, 9, 101, 1) == pytest.approx(100.9)
    row = columns(incremental([[Quote(1000, 9, 1001, 1)]]))
    assert row["queue_imbalance"][0] == pytest.approx(0.8)
    assert row["microprice_offset_bps"][0] == pytest.approx(1e4 * 0.4 / 1000.5, rel=1e-6)
    assert row["spread_bps"][0] == pytest.approx(1e4 / 1000.5, rel=1e-6)


def test_the_mid_falls_back_to_the_book_where_no_quote_came() -> None:
    book = Depth(((100, 1),), ((104, 1),))
    assert columns(incremental([[book]]))["spread_bps"][0] == pytest.approx(1e4 * 4 / 102)
    assert columns(incremental([[Quote(101, 1, 102, 1), book]]))["spread_bps"][0] == pytest.approx(1e4 / 101.5)


def test_nothing_from_before_a_gap_is_used_after_it() -> None:
    book = Depth(((100, 3),), ((101, 2),))
    row = incremental([[book, Depth(((100, 9),), ((101, 2),)), Quote(100, 9, 101, 2), Lost()]])[0]
    for name in ("mid_return_bps", "spread_bps", "queue_imbalance", "depth_imbalance", "ofi_level_1"):
        assert math.isnan(row[MICRO.names.index(name)])
    resynced = columns(incremental([[book, Lost(), Depth(((100, 9),), ((101, 2),))]]))
    assert resynced["ofi_level_1"][0] == 0


def test_a_missing_step_starts_the_look_back_anew() -> None:
    state = MicroState(PRICE_INCREMENT, SIZE_INCREMENT)
    state.quote(100, 1, 102, 1)
    state.close(close_ns(0))
    state.quote(101, 1, 103, 1)
    assert math.isnan(state.close(close_ns(2))[0])
    state.quote(102, 1, 104, 1)
    assert state.close(close_ns(3))[0] == pytest.approx(1e4 * math.log(103 / 102), rel=1e-6)


def test_the_mid_is_in_the_quote_currency() -> None:
    state = MicroState(PRICE_INCREMENT, SIZE_INCREMENT)
    state.quote(618_002, 1, 618_003, 1)
    state.close(close_ns(0))
    assert state.mid == pytest.approx(61_800.25)


def test_a_sixth_level_changes_nothing() -> None:
    five_levels = Depth(tuple((100 - i, 1) for i in range(5)), tuple((101 + i, 1) for i in range(5)))
    six_levels = Depth((*five_levels.bids, (90, 7)), (*five_levels.asks, (110, 9)))
    np.testing.assert_array_equal(incremental([[five_levels, six_levels]]), incremental([[five_levels] * 2]))
