"""The forward filter: right against enumeration and hmmlearn, and blind to the future."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given
from hypothesis import strategies as st

from huracan_regime.filter import Array, forward_filter


def _problem(seed: int, steps: int, states: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    emission = rng.normal(0, 3, (steps, states))
    return emission, rng.dirichlet(np.ones(states), states), rng.dirichlet(np.ones(states))


def _by_enumeration(emission: Array, transition: Array, start: Array) -> Array:
    steps, states = emission.shape
    shares = np.zeros(states)
    for path in product(range(states), repeat=steps):
        density = start[path[0]] * np.exp(emission[0, path[0]])
        for t in range(1, steps):
            density *= transition[path[t - 1], path[t]] * np.exp(emission[t, path[t]])
        shares[path[-1]] += density
    posterior: Array = shares / shares.sum()
    return posterior


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_it_is_what_counting_every_path_gives(seed: int, steps: int, states: int) -> None:
    problem = _problem(seed, steps, states)
    filtered = forward_filter(*problem)
    for t in range(steps):
        wanted = _by_enumeration(problem[0][: t + 1], *problem[1:])
        np.testing.assert_allclose(filtered[t], wanted, rtol=1e-9, atol=1e-12)


def test_its_last_row_is_hmmlearns_last_row_and_the_rows_before_are_not_smoothed() -> None:
    rng = np.random.default_rng(3)
    hmm = GaussianHMM(n_components=4, covariance_type="diag")
    hmm.startprob_, hmm.transmat_ = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 4)
    hmm.means_, hmm.covars_ = rng.normal(0, 1, (4, 2)), rng.uniform(0.3, 2, (4, 2))
    hmm.n_features = 2
    observed = rng.normal(0, 1.5, (64, 2))
    variances = np.diagonal(hmm.covars_, axis1=1, axis2=2)
    density = (observed[:, None, :] - hmm.means_) ** 2 / variances + np.log(2 * np.pi * variances)
    filtered = forward_filter(-0.5 * density.sum(axis=2), hmm.transmat_, hmm.startprob_)
    smoothed = hmm.predict_proba(observed)
    np.testing.assert_allclose(filtered[-1], smoothed[-1], rtol=1e-8, atol=1e-12)
    assert np.abs(filtered[:-1] - smoothed[:-1]).max() > 0.1


@given(st.integers(0, 10**6), st.integers(1, 63))
def test_what_comes_later_changes_nothing(seed: int, known: int) -> None:
    emission, transition, start = _problem(seed, 64, 4)
    changed = emission.copy()
    changed[known:] = -7
    whole = forward_filter(emission, transition, start)
    np.testing.assert_array_equal(whole[:known], forward_filter(changed, transition, start)[:known])
    np.testing.assert_array_equal(whole[:known], forward_filter(emission[:known], transition, start))


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e6])
def test_every_row_is_a_distribution_however_unlikely_the_observations(scale: float) -> None:
    emission, transition, start = _problem(1, 64, 4)
    filtered = forward_filter(emission * scale - 1e5, transition, start)
    assert np.isfinite(filtered).all()
    np.testing.assert_allclose(filtered.sum(axis=1), 1)


def test_an_impossible_state_stays_impossible() -> None:
    transition = np.array([[1.0, 0.0], [0.5, 0.5]])
    filtered = forward_filter(np.zeros((5, 2)), transition, np.array([1.0, 0.0]))
    np.testing.assert_array_equal(filtered, np.tile([1.0, 0.0], (5, 1)))
