"""Bars from trades: aligned, exact, each once, partial where the start was not seen."""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from huracan.contracts.market import Bar, InstrumentDefinition, linear_perpetual
from huracan.market.bars import BarBuilder

MINUTE = 60 * 10**9
START = 28_719_371 * MINUTE

Trades = list[tuple[int, int, int]]


def instrument(multiplier: str = "1") -> InstrumentDefinition:
    return linear_perpetual(
        "BTC",
        venue="sim",
        price_increment=Decimal("0.10"),
        size_increment=Decimal("0.001"),
        multiplier=Decimal(multiplier),
    )


def builder(observed_from: int | None = START) -> BarBuilder:
    made = BarBuilder(instrument(), MINUTE)
    if observed_from is not None:
        made.observe_from(observed_from)
    return made


def prices(bar: Bar) -> tuple[str, str, str, str]:
    return bar.open, bar.high, bar.low, bar.close


def test_a_bar_holds_the_exact_prices_and_volume_of_its_trades() -> None:
    bars = builder()
    for seconds, price, size in ((0, 618_003, 199), (10, 618_010, 6), (30, 617_990, 1), (59, 618_000, 3)):
        bars.trade(START + seconds * 10**9, price, size)
    (bar,) = bars.close_through(START + MINUTE)
    assert prices(bar) == ("61800.30", "61801.00", "61799.00", "61800.00")
    assert (bar.volume, bar.trades, bar.partial) == ("0.209", 4, False)
    assert (bar.open_ns, bar.interval_ns) == (START, MINUTE)
    assert bar.instrument == instrument().id


def test_a_bar_closes_at_its_end_and_once() -> None:
    bars = builder()
    bars.trade(START, 1, 1)
    assert bars.close_through(START + MINUTE - 1) == []
    assert len(bars.close_through(START + MINUTE)) == 1
    assert bars.close_through(START + MINUTE) == []
    assert bars.close_through(START) == []


def test_a_trade_at_the_end_belongs_to_the_next_bar() -> None:
    bars = builder()
    bars.trade(START + MINUTE - 1, 10, 1)
    bars.trade(START + MINUTE, 20, 1)
    first, second = bars.close_through(START + 2 * MINUTE)
    assert (first.close, second.open) == ("1.00", "2.00")


def test_an_interval_without_trades_repeats_the_last_close() -> None:
    bars = builder()
    assert bars.close_through(START + 3 * MINUTE) == []
    bars.trade(START + 3 * MINUTE, 50, 2)
    bars.trade(START + 3 * MINUTE + 1, 40, 2)
    bars.trade(START + 6 * MINUTE, 45, 1)
    closed = bars.close_through(START + 7 * MINUTE)
    assert [prices(bar) for bar in closed[1:3]] == [("4.00",) * 4] * 2
    assert [bar.trades for bar in closed] == [2, 0, 0, 1]
    assert [Decimal(bar.volume) for bar in closed] == [Decimal("0.004"), 0, 0, Decimal("0.001")]
    assert not any(bar.partial for bar in closed)


def test_a_bar_that_opened_before_the_observation_is_partial() -> None:
    bars = builder(START + 1)
    bars.trade(START + 2, 10, 1)
    assert [bar.partial for bar in bars.close_through(START + 2 * MINUTE)] == [True, False]


def test_what_an_interruption_hid_is_no_bar_and_the_one_it_ends_in_is_partial() -> None:
    bars = builder()
    bars.trade(START + 1, 10, 1)
    assert not bars.close_through(START + MINUTE)[0].partial
    bars.trade(START + MINUTE + 1, 10, 1)
    bars.observe_from(START + 2 * MINUTE + 5)
    bars.trade(START + 3 * MINUTE, 11, 1)
    closed = bars.close_through(START + 4 * MINUTE)
    assert [(bar.open_ns, bar.partial) for bar in closed] == [(START + 2 * MINUTE, True), (START + 3 * MINUTE, False)]


def test_a_year_of_silence_is_not_made_of_bars() -> None:
    bars = builder()
    bars.trade(START + 1, 10, 1)
    bars.close_through(START + MINUTE)
    later = START + 525_600 * MINUTE
    bars.observe_from(later)
    bars.trade(later, 12, 1)
    assert [prices(bar) for bar in bars.close_through(later + MINUTE)] == [("1.20",) * 4]


def test_an_interruption_within_a_bar_makes_it_partial() -> None:
    bars = builder()
    bars.trade(START + 1, 10, 1)
    bars.close_through(START + MINUTE)
    bars.trade(START + MINUTE + 1, 10, 1)
    bars.observe_from(START + MINUTE + 7)
    bars.trade(START + MINUTE + 7, 13, 1)
    (bar,) = bars.close_through(START + 2 * MINUTE)
    assert (bar.partial, prices(bar)) == (True, ("1.00", "1.30", "1.00", "1.30"))


def test_without_an_observation_every_bar_is_partial() -> None:
    bars = builder(None)
    bars.trade(START, 10, 1)
    assert bars.close_through(START + MINUTE)[0].partial


def test_a_trade_for_a_closed_bar_is_counted_and_left_out() -> None:
    bars = builder()
    bars.trade(START, 10, 1)
    bars.close_through(START + MINUTE)
    bars.trade(START + MINUTE - 1, 99, 1)
    assert bars.late_trades == 1
    assert prices(bars.close_through(START + 2 * MINUTE)[0]) == ("1.00",) * 4


def test_volume_counts_base_units_of_a_contract() -> None:
    bars = BarBuilder(instrument(multiplier="0.01"), MINUTE)
    bars.trade(START, 10, 7)
    assert Decimal(bars.close_through(START + MINUTE)[0].volume) == Decimal("0.00007")


@given(
    st.lists(st.tuples(st.integers(0, 12 * 60), st.integers(1, 50), st.integers(1, 9)), max_size=60),
    st.lists(st.integers(0, 13 * 60), max_size=10),
    st.integers(-60, 12 * 60),
)
def test_bars_are_the_trades_grouped_by_interval(trades: Trades, closes: list[int], observed: int) -> None:
    trades.sort(key=lambda trade: trade[0])
    bars = builder(START + observed * 10**9)
    pending, built = list(trades), []
    for close in [*sorted(closes), 13 * 60]:
        while pending and pending[0][0] < close:
            seconds, price, size = pending.pop(0)
            bars.trade(START + seconds * 10**9, price, size)
        built += bars.close_through(START + close * 10**9)
    assert [summary(bar) for bar in built] == model(trades, observed)
    assert bars.late_trades == 0


Summary = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int, bool]


def summary(bar: Bar) -> Summary:
    opened, high, low, close = map(Decimal, prices(bar))
    return bar.open_ns, opened, high, low, close, Decimal(bar.volume), bar.trades, bar.partial


def model(trades: Trades, observed: int) -> list[Summary]:
    groups = {minute: list(group) for minute, group in groupby(trades, key=lambda trade: trade[0] // 60)}
    expected: list[Summary] = []
    for minute in range(min(groups, default=13), 13):
        group = groups.get(minute, [])
        own = [price * Decimal("0.1") for _, price, _ in group] or [expected[-1][4]]
        volume = sum(size for _, _, size in group) * Decimal("0.001")
        ohlc = own[0], max(own), min(own), own[-1]
        expected.append((START + minute * MINUTE, *ohlc, volume, len(group), minute * 60 < observed))
    return expected
