"""Markov states of a market: consolidation, breakout, trend and reversal, told from the past alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from huracan.errors import BadInput
from huracan.features.bar import BAR, TREND_BARS
from huracan_training.bars import Asset, Mask, run_lengths
from huracan_training.samples import UNKNOWN, Floats, Integers

STATES = ("consolidation", "breakout", "trend", "reversal")
RANGE, EFFICIENCY, TREND_T = "range_over_atr", "efficiency", "trend_t"
BEYOND, BROKEN = "beyond", "broken"
BEYOND_ATRS = 0.5
LEAST_T = 2.0
_CONSOLIDATION, _BREAKOUT, _TREND, _REVERSAL = range(4)


def measures(asset: Asset) -> Mapping[str, Floats]:
    """Return what the states are told from, each of shape (n,), NaN until 20 bars without a gap are known.

    range_over_atr: highest high less lowest low of 20 bars, over ATR14. efficiency: |sum r| / sum |r| of the 20 newest
    log returns. trend_t: t-statistic of the slope of the last 20 closes. beyond: how far the close is outside the
    range of the 20 bars before, over the ATR before. Raises BadInput for an asset without bars.
    """
    bars, series = asset.bars, asset.series
    if bars is None:
        raise BadInput(f"{asset.name} was made of steps, which have no high and low: Markov states need bars")
    lengths = run_lengths(series)
    highest = _trailing(bars.high).max(axis=1)
    lowest = _trailing(bars.low).min(axis=1)
    returns = _trailing(series.log_return)
    path = np.abs(returns).sum(axis=1)
    efficiency = np.divide(np.abs(returns.sum(axis=1)), path, out=np.zeros(len(path)), where=path != 0)
    atr = series.rows[:, BAR.names.index("atr_fraction")].astype(np.float64) * bars.close
    outside = np.maximum(bars.close - _before(highest), _before(lowest) - bars.close)
    whole = lengths > TREND_BARS
    slope_t = series.rows[:, BAR.names.index("trend_t")].astype(np.float64)
    return {
        RANGE: _where(whole, _over(highest - lowest, atr)),
        EFFICIENCY: _where(whole, np.where(np.isnan(path), np.nan, efficiency)),
        TREND_T: _where(whole, np.nan_to_num(slope_t)),
        BEYOND: _where(whole, _over(outside, _before(atr))),
    }


def states(measured: Mapping[str, Floats], cuts: tuple[float, ...]) -> Integers:
    """Return the state at each position, shape (n,); UNKNOWN until the first state, and after a gap.

    The first that holds: breakout, a close more than half an ATR beyond the range of the 20 bars before, which were in
    consolidation; reversal, a slope of |t| > 2 against the last such slope; trend, an efficiency above its cut;
    consolidation, a range over ATR below its cut. A bar at which none holds stays in the state of the one before.
    """
    narrow_cut, straight_cut = cuts
    narrow = measured[RANGE] < narrow_cut
    whole = np.isfinite(measured[RANGE])
    was_narrow = np.concatenate([[False], narrow[:-1]])
    entered = np.select(
        [
            was_narrow & (measured[BEYOND] > BEYOND_ATRS),
            _turned(measured[TREND_T], whole),
            measured[EFFICIENCY] > straight_cut,
            narrow,
        ],
        [_BREAKOUT, _REVERSAL, _TREND, _CONSOLIDATION],
        UNKNOWN,
    )
    at = np.arange(len(entered))
    newest = np.maximum.accumulate(np.where((entered != UNKNOWN) | ~whole, at, -1))
    return np.where(newest >= 0, entered[newest], UNKNOWN)


def _turned(slope_t: Floats, whole: Mask) -> Mask:
    """Return where a clear slope is against the last clear one; a gap makes that one unknown."""
    clear = np.where(np.abs(slope_t) > LEAST_T, np.sign(slope_t), 0.0)
    at = np.arange(len(clear))
    newest = np.maximum.accumulate(np.where((clear != 0) | ~whole, at, 0))
    last = np.where(whole[newest], clear[newest], 0.0)
    before = np.concatenate([[0.0], last[:-1]])
    return np.asarray(whole & (clear * before < 0))


def _trailing(values: Floats) -> Floats:
    """Return the newest 20 values at each position, shape (n, 20); NaN before the first."""
    return sliding_window_view(np.concatenate([np.full(TREND_BARS - 1, np.nan), values]), TREND_BARS)


def _before(values: Floats) -> Floats:
    return np.concatenate([[np.nan], values[:-1]])


def _over(amount: Floats, by: Floats) -> Floats:
    return np.divide(amount, by, out=np.zeros_like(amount), where=by > 0)


def _where(whole: Mask, values: Floats) -> Floats:
    return np.where(whole, values, np.nan)
