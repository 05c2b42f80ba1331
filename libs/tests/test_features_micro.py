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
from huracan.contracts.market import TickKind
from huracan.features.levels import ask_flow, bid_flow, imbalance, weighted_mid
from huracan.features.micro import MICRO, MicroState
from huracan.features.venues import VenueTop

FIRST_STEP = 17_231_612_550
PRICE_INCREMENT = 0.1
SIZE_INCREMENT = 0.001

MARK, INDEX, FUNDING = TickKind.TICK_KIND_MARK, TickKind.TICK_KIND_INDEX, TickKind.TICK_KIND_FUNDING
NEXT_FUNDING_NS = (FIRST_STEP + 120) * STEP_NS
ROLL = MICRO.names.index("roll_spread_bps_10s")

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


class Liquidation(NamedTuple):
    size: int
    side: int


class Told(NamedTuple):
    """What the venue tells of mark, index or funding, as the log has it."""

    kind: int
    value: int
    next_funding_ns: int = 0


Event = Trade | Quote | Depth | Lost | Liquidation | Told
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
    elif isinstance(event, Liquidation):
        state.liquidations.add(*event)
    elif isinstance(event, Told):
        state.carry.take(*event, close_ns(step) - STEP_NS // 2)
    else:
        state.lost_book()


def incremental(steps: Steps) -> Rows:
    state = MicroState(PRICE_INCREMENT, SIZE_INCREMENT)
    rows = []
    for step, events in enumerate(steps):
        for event in events:
            feed(state, event, step)
        rows.append(state.close(close_ns(step), others(step)))
    return np.array(rows)


def others(step: int) -> list[VenueTop]:
    """Return the tops of up to three other venues; one has no mid now and then."""
    mids = (9.0 + 0.01 * (step % 7), math.nan if step % 5 else 11.0, 10.0 + 0.02 * (step % 3))
    return [VenueTop(mid, 0.3 * number - 0.1 * (step % 4), 2.0 + number) for number, mid in enumerate(mids[: step % 4])]


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
    raw = [flow_of(steps, step) for step in range(len(steps))]
    flows = np.array([each.flow for each in raw]).reshape(-1, 5) / np.array([each.mean_size for each in raw])[:, None]
    volume = trailing(bought + sold, 100)
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
            ask - bid,
            change(1e4 * (ask - bid) / mid, 10),
            *np.array([shape_at(steps, step) for step in range(len(steps))]).reshape(-1, 3).T,
            *([flow_over(raw[:end], count) for end in range(1, len(steps) + 1)] for count in (10, 100)),
            trailing(bought - sold, 10) * SIZE_INCREMENT,
            trailing(bought - sold, 100) * SIZE_INCREMENT,
            trailing(bought - sold, 100) / np.where(volume > 0, volume, np.nan),
            [max(t.size for t in step) / sum(t.size for t in step) if step else math.nan for step in trades],
            size_ratio(trades),
            np.log((1 + trailing(numbers(steps, Quote), 100)) / (1 + trailing(numbers(steps, Trade), 100))),
            *(intensities(trades, side) for side in (1, -1)),
            *over_returns(logs, trades).T,
            *liquidated(steps, bought + sold),
            *carried(steps, mid * PRICE_INCREMENT),
            *beside(np.exp(logs) * PRICE_INCREMENT, 1e4 * change(logs, 10), 1e4 * (ask - bid) / mid),
        ]
        table[ROLL] = roll(latest, mid)
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


class Flow(NamedTuple):
    flow: list[float]
    sizes: float
    levels: int

    @property
    def mean_size(self) -> float:
        return self.sizes / self.levels if self.sizes else math.inf


def flow_of(steps: Steps, step: int) -> Flow:
    """Return the formula of Cont, Kukanov & Stoikov as it is printed, level by level, over mean depth."""
    before = [event for event in since_loss(steps, step - 1) if isinstance(event, Depth)] if step else []
    own = list(steps[step])
    if any(isinstance(event, Lost) for event in own):
        before, own = [], since_loss(steps, step)
    updates = [event for event in own if isinstance(event, Depth)]
    if not before and not updates:
        return Flow([math.nan] * 5, 0, 0)
    flow = [0.0] * 5
    for old, new in pairwise(before[-1:] + updates):
        sides = zip(five(old.bids, 0), five(new.bids, 0), five(old.asks, 1e9), five(new.asks, 1e9), strict=True)
        for level, ((pb0, qb0), (pb1, qb1), (pa0, qa0), (pa1, qa1)) in enumerate(sides):
            flow[level] += qb1 * (pb1 >= pb0) - qb0 * (pb1 <= pb0) - qa1 * (pa1 <= pa0) + qa0 * (pa1 >= pa0)
    sizes = [q for each in updates for _, q in five(each.bids, 0) + five(each.asks, 0)]
    return Flow(flow, sum(sizes), len(sizes))


def flow_over(known: list[Flow], count: int) -> float:
    flows = known[-count:]
    if len(flows) < count or any(math.isnan(each.flow[0]) for each in flows):
        return math.nan
    sizes, levels = sum(each.sizes for each in flows), sum(each.levels for each in flows)
    return sum(each.flow[0] for each in flows) / (sizes / levels) if sizes else 0.0


def shape_at(steps: Steps, step: int) -> tuple[float, float, float]:
    depths = [event for event in since_loss(steps, step) if isinstance(event, Depth)]
    if not depths or not depths[-1].bids or not depths[-1].asks:
        return (math.nan,) * 3
    (pb, qb), (pa, qa) = (np.array(side[:5], float).T for side in depths[-1])
    mid = (pb[0] + pa[0]) / 2
    near, far = np.sum(qb / (mid - pb)), np.sum(qa / (pa - mid))
    distances = (np.average(mid - pb, weights=qb), np.average(pa - mid, weights=qa))
    return 1e4 * distances[0] / mid, 1e4 * distances[1] / mid, float((near - far) / (near + far))


def trailing(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    sums = [values[max(0, end - count) : end].sum() if end >= count else math.nan for end in range(1, len(values) + 1)]
    return np.array(sums)


def numbers(steps: Steps, kind: type[Event]) -> NDArray[np.float64]:
    return np.array([sum(isinstance(event, kind) for event in events) for events in steps], float)


def size_ratio(trades: list[list[Trade]]) -> list[float]:
    ratios = []
    for end in range(1, len(trades) + 1):
        second, ten = ([t.size for each in trades[max(0, end - n) : end] for t in each] for n in (10, 100))
        ratios.append(float(np.mean(second) / np.mean(ten)) if end >= 100 and second else math.nan)
    return ratios


def intensities(trades: list[list[Trade]], side: int) -> list[float]:
    times = [(step + t.after_ns / STEP_NS) / 10 for step, each in enumerate(trades) for t in each if t.side == side]
    until = np.cumsum([sum(t.side == side for t in each) for each in trades])
    closes = [(step + 1) / 10 for step in range(len(trades))]
    return [float(np.exp(np.array(times[:count]) - now).sum()) for now, count in zip(closes, until, strict=True)]


def over_returns(logs: NDArray[np.float64], trades: list[list[Trade]]) -> NDArray[np.float64]:
    """Return Kyle's lambda, a place for Roll's spread, the share of jumps and the downside share."""
    flow = np.array([sum(t.side * math.sqrt(t.size * SIZE_INCREMENT) for t in step) for step in trades])
    values = np.full((len(logs), 4), np.nan)
    for step in range(100, len(logs)):
        r, s = np.diff(logs[step - 100 : step + 1]), flow[step - 99 : step + 1]
        if not np.isfinite(r).all():
            continue
        values[step, 0] = 1e4 * (r @ s) / (s @ s) if s.any() else np.nan
        if r.any():
            bipower = np.pi / 2 * 100 / 99 * np.sum(np.abs(r[1:] * r[:-1]))
            values[step, 2:] = max(r @ r - bipower, 0) / (r @ r), np.sum(r[r < 0] ** 2) / (r @ r)
    return values


def roll(latest: list[tuple[float, float]], mid: NDArray[np.float64]) -> NDArray[np.float64]:
    prices, values = np.array([price for price, _ in latest]), np.full(len(latest), np.nan)
    for step in range(100, len(prices)):
        moves = np.diff(prices[step - 100 : step + 1])
        products = moves[1:] @ moves[:-1] * 99 - moves[1:].sum() * moves[:-1].sum()
        if products < 0:
            values[step] = 1e4 * 2 * math.sqrt(-products) / 99 / mid[step]
    return values


def liquidated(steps: Steps, traded: NDArray[np.float64]) -> list[list[float]]:
    """Return intensity, volume, imbalance of the last minute, and no cascade: that takes a quarter of an hour."""
    found = [[event for event in events if isinstance(event, Liquidation)] for events in steps]
    amounts = [[sum(each.size for each in step if each.side == side) for step in found] for side in (-1, 1)]
    table = np.full((len(steps), 4), np.nan)
    for end in range(600, len(steps) + 1):
        long, short = (sum(each[end - 600 : end]) for each in amounts)
        if any(sum(each[:end]) for each in amounts):
            both = long + short
            volume = max(traded[end - 600 : end].sum(), both)
            table[end - 1, :2] = both / volume if both else 0, math.log1p(both * SIZE_INCREMENT)
            table[end - 1, 2] = (long - short) / both if both else math.nan
    return table.T.tolist()


def carried(steps: Steps, mid: NDArray[np.float64]) -> list[list[float]]:
    """Return funding rate, hours to funding, mark against index, mid against mark."""
    told: dict[int, tuple[Told, int]] = {}
    table = np.full((len(steps), 4), np.nan)
    for step in range(len(steps)):
        told.update({event.kind: (event, step) for event in steps[step] if isinstance(event, Told)})
        known = (told.get(kind, (None, 0)) for kind in (MARK, INDEX, FUNDING))
        (mark, mark_s), (index, index_s), (rate, rate_s) = ((each, (step - of + 0.5) / 10) for each, of in known)
        if rate is not None and rate_s <= 300:
            hours = (rate.next_funding_ns - close_ns(step)) / 3.6e12
            table[step, :2] = rate.value * 1e-12, hours if hours > 0 else math.nan
        if mark is not None and mark_s <= 10:
            table[step, 3] = 1e4 * (mid[step] / (mark.value * 1e-8) - 1)
            if index is not None and index_s <= 10:
                table[step, 2] = 1e4 * (mark.value / index.value - 1)
    return table.T.tolist()


def beside(mid: NDArray[np.float64], move: NDArray[np.float64], spread: NDArray[np.float64]) -> list[list[float]]:
    table = np.full((len(mid), 3), np.nan)
    for step in range(len(mid)):
        tops = others(step)
        if tops:
            mids, moves, spreads = np.nanmedian(np.array(tops), axis=0)
            table[step] = 1e4 * math.log(mid[step] / mids), moves - move[step], spread[step] - spreads
    return table.T.tolist()


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


told_events = st.builds(Told, st.sampled_from((MARK, INDEX, FUNDING)), st.integers(1, 10**10), st.just(NEXT_FUNDING_NS))
liquidation_events = st.builds(Liquidation, sizes, sides)
events = st.one_of(
    trade_events(), quote_events(), depth_events(), depth_events(), st.just(Lost()), told_events, liquidation_events
)
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
    if kind < 0.01:
        return Told(rng.choice((MARK, INDEX, FUNDING)), rng.randrange(10**9, 10**10), NEXT_FUNDING_NS)
    if kind < 0.015:
        return Liquidation(rng.randrange(1, 50), rng.choice((1, -1)))
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


@settings(deadline=None, max_examples=50)
@given(step_lists)
def test_rows_equal_a_batch_computation_from_all_events(steps: list[list[Event]]) -> None:
    assert_rows_equal(incremental(steps), batch(steps))


@settings(deadline=None, max_examples=4)
@given(st.integers(0, 2**32))
def test_rows_of_a_long_stream_equal_a_batch_computation(seed: int) -> None:
    steps = long_stream(seed)
    assert_rows_equal(incremental(steps), batch(steps))


def test_two_minutes_fill_every_feature_and_equal_a_batch_computation() -> None:
    steps = long_stream(1, steps=1300)
    rows = incremental(steps)
    filled = [bool(np.isfinite(each).any()) for each in rows.T]
    assert [name for name, has in zip(MICRO.names, filled, strict=True) if not has] == ["liquidation_cascade"]
    assert_rows_equal(rows, batch(steps))


@settings(deadline=None, max_examples=50)
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
