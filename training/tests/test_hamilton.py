"""The forward filter of the regime expert on a published case: Hamilton 1989, growth of US GNP in two regimes, AR(4).

A switching autoregression is a hidden Markov chain over the last five regimes: 32 states. Data and the values by EViews
are those that statsmodels ships with its own tests.
"""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import statsmodels
from statsmodels.tsa.regime_switching.markov_autoregression import MarkovAutoregression

from huracan_regime.filter import forward_filter
from huracan_training.samples import Floats


def _published() -> dict[str, list[float]]:
    """Return the lists of numbers that the tests of statsmodels are written with."""
    folder = Path(statsmodels.__file__).parent / "tsa" / "regime_switching" / "tests"
    source = folder / "test_markov_autoregression.py"
    if not source.is_file():
        pytest.skip("statsmodels was installed without its tests, which carry the GNP data", allow_module_level=True)
    lists = (
        (node.targets[0].id, node.value)
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.List)
    )
    return {name: ast.literal_eval(value) for name, value in lists}


PUBLISHED = _published()

STAY_IN_RECESSION, LEAVE_GROWTH = 0.754673, 0.095915
MEANS = (-0.358811, 1.163516)
VARIANCE = np.exp(-0.262658) ** 2
LAGS = (0.013486, -0.057521, -0.246983, -0.212923)
LOG_LIKELIHOOD = -181.26339

CHAIN = np.array([[STAY_IN_RECESSION, 1 - STAY_IN_RECESSION], [LEAVE_GROWTH, 1 - LEAVE_GROWTH]])
PATHS = list(product((0, 1), repeat=5))
"""The regimes of five quarters, newest first."""


def _filtered() -> tuple[Floats, float]:
    """Return the chance of growth in each quarter and the log likelihood, by the expert's own filter."""
    growth = np.array(PUBLISHED["rgnp"])
    quarters = np.arange(4, growth.size)
    expected = np.array([[MEANS[path[0]]] * quarters.size for path in PATHS])
    for row, path in enumerate(PATHS):
        for lag, weight in enumerate(LAGS, start=1):
            expected[row] += weight * (growth[quarters - lag] - MEANS[path[lag]])
    log_density = (-0.5 * np.log(2 * np.pi * VARIANCE) - (growth[quarters] - expected) ** 2 / (2 * VARIANCE)).T
    steady = np.array([CHAIN[1, 0], CHAIN[0, 1]]) / (CHAIN[1, 0] + CHAIN[0, 1])
    start = np.array([steady[path[4]] * np.prod([CHAIN[path[k + 1], path[k]] for k in range(4)]) for path in PATHS])
    transition = np.array([[CHAIN[old[0], new[0]] if new[1:] == old[:4] else 0.0 for new in PATHS] for old in PATHS])
    rows = forward_filter(log_density, transition, start)
    predicted = np.vstack([start, rows[:-1] @ transition])
    return rows @ np.array([path[0] for path in PATHS]), float(
        np.log((predicted * np.exp(log_density)).sum(axis=1)).sum()
    )


def test_the_forward_filter_gives_hamiltons_probabilities() -> None:
    growth, log_likelihood = _filtered()
    assert growth == pytest.approx(np.array(PUBLISHED["hamilton_ar4_filtered"]), abs=1e-5)
    assert log_likelihood == pytest.approx(LOG_LIKELIHOOD, abs=1e-5)


def test_the_forward_filter_gives_what_statsmodels_gives() -> None:
    model = MarkovAutoregression(np.array(PUBLISHED["rgnp"]), k_regimes=2, order=4, switching_ar=False)
    fitted = model.filter(np.array([STAY_IN_RECESSION, LEAVE_GROWTH, *MEANS, VARIANCE, *LAGS]))
    growth, log_likelihood = _filtered()
    assert growth == pytest.approx(np.asarray(fitted.filtered_marginal_probabilities)[:, 1], abs=1e-9)
    assert log_likelihood == pytest.approx(float(fitted.llf), abs=1e-9)


def test_how_long_regimes_last_is_the_published_one() -> None:
    """The AR(1) in which everything switches: quarters of growth and of recession."""
    model = MarkovAutoregression(np.array(PUBLISHED["rgnp"]), k_regimes=2, order=1)
    means, lags = (1.041419, -0.479157), (0.243128, 0.713029)
    fitted = model.filter(np.array([0.85472458, 0.53662099, *means, np.exp(-0.231404) ** 2, *lags]))
    assert fitted.expected_durations == pytest.approx([6.883477, 1.863513], abs=1e-5)
    assert float(fitted.llf) == pytest.approx(-186.7575, abs=1e-4)
