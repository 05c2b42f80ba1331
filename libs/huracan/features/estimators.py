"""What is measured over the last values: dispersion, jumps, bounce, trend.

Sums run from the oldest value to the newest, each rounded: the batch form adds in that order too, so that both have the
same bits. `sum` does not, from Python 3.12 on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

NAN = float("nan")

LARGEST_R_SQUARED = 1 - 1e-9


def total(values: Iterable[float]) -> float:
    """Return the sum of values, added one by one in their order."""
    added = 0.0
    for value in values:
        added += value
    return added


def ols_slope(values: Sequence[float]) -> float:
    """Return the least-squares slope of values over 0, 1, 2, …, per step."""
    centre = (len(values) - 1) / 2
    squares = len(values) * (len(values) ** 2 - 1) / 12
    return total([(i - centre) * value for i, value in enumerate(values)]) / squares


def trend_t(values: Sequence[float]) -> float:
    """Return the t-statistic of the least-squares slope; NaN if all values are equal.

    t = r sqrt((n - 2) / (1 - r^2)), with r^2 at most 1 - 1e-9: a straight line gives a large number, not infinity.
    """
    if max(values) == min(values):
        return NAN
    count = len(values)
    mean = total(values) / count
    centred = [value - mean for value in values]
    squares = total([value * value for value in centred])
    slope = ols_slope(centred)
    explained = slope * slope * count * (count * count - 1) / 12
    r_squared = min(explained / squares, LARGEST_R_SQUARED)
    return math.copysign(math.sqrt(r_squared * (count - 2) / (1 - r_squared)), slope)


def deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation over n - 1."""
    mean = total(values) / len(values)
    squares = total([(value - mean) * (value - mean) for value in values])
    return mean, math.sqrt(squares / (len(values) - 1))


def bipower_variation(returns: Sequence[float]) -> float:
    """Return (pi / 2) (n / (n - 1)) sum |r_i| |r_i-1|, a variance without jumps: Barndorff-Nielsen & Shephard 2004."""
    count = len(returns)
    products = [abs(before) * abs(after) for before, after in pairwise(returns)]
    return math.pi / 2 * (count / (count - 1)) * total(products)


def jump_share(realised: float, bipower: float) -> float:
    """Return max(RV - BV, 0) / RV, in [0, 1]; NaN if RV is 0."""
    return max(realised - bipower, 0.0) / realised if realised else NAN


def lagged_covariance(values: Sequence[float]) -> float:
    """Return the covariance of each value with the one before it, over the number of pairs."""
    pairs = len(values) - 1
    products = total([before * after for before, after in pairwise(values)])
    return products / pairs - (total(values[1:]) / pairs) * (total(values[:-1]) / pairs)


def autocorrelation(values: Sequence[float]) -> float:
    """Return the first autocorrelation, in [-1, 1]; NaN if all values are equal."""
    if max(values) == min(values):
        return NAN
    mean = total(values) / len(values)
    centred = [value - mean for value in values]
    products = [before * after for before, after in pairwise(centred)]
    return total(products) / total([value * value for value in centred])
