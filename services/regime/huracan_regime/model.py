"""A Gaussian hidden Markov model of bars: four states of range and efficiency, named by what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huracan_regime.config import HIGH_VOLATILITY, LOW_VOLATILITY, RANGING, TRENDING, RegimeModelConfig

Array = NDArray[np.float64]

OBSERVED = ("log_range", "efficiency_ratio_10")
"""Columns of the `bar` feature set that the model observes, in the order of its dimensions."""
STATES = 4
_DECIMALS = 6
_LIMIT_SD = 8.0
_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeModel:
    """Fitted parameters, rounded to 1e-6; states are in the order of `names`."""

    names: tuple[str, ...]
    centre: Array
    """Mean of the history, shape (2,), in the features' units."""
    scale: Array
    """Standard deviation of the history, shape (2,)."""
    start: Array
    """Stationary distribution, shape (4,)."""
    transition: Array
    """Rows sum to 1, shape (4, 4)."""
    means: Array
    """Shape (4, 2), standardised."""
    variances: Array
    """Shape (4, 2), standardised."""

    def log_emission(self, observations: Array) -> Array:
        """Return log densities, shape (T, 4), of observations of shape (T, 2) in the features' units.

        A missing value says nothing about the state; a value counts at most 8 standard deviations from the
        centre.
        """
        values = np.clip((observations - self.centre) / self.scale, -_LIMIT_SD, _LIMIT_SD)[:, None, :]
        density = -0.5 * (_LOG_2PI + np.log(self.variances) + (values - self.means) ** 2 / self.variances)
        logs: Array = np.where(np.isnan(density), 0.0, density).sum(axis=2)
        return logs

    def parameter_bytes(self) -> bytes:
        """Return all that was fitted as bytes, for the engine digest: integers of 1e-6."""
        fitted = (self.centre, self.scale, self.start, self.transition, self.means, self.variances)
        scaled = [np.rint(values * 10**_DECIMALS).astype("<i8").tobytes() for values in fitted]
        return b"".join(["|".join(self.names).encode(), *scaled])


def fit(history: Array, config: RegimeModelConfig) -> RegimeModel | None:
    """Return the model of a history of shape (n, 2), oldest first; None when it is too short or does not
    vary.

    Deterministic: it starts from quantiles, not from chance, and counts on one thread. Rows with a missing
    value are left out.
    """
    usable = history[np.isfinite(history).all(axis=1)][-config.max_history_bars :]
    if len(usable) < config.min_history_bars:
        return None
    centre, scale = _rounded(usable.mean(axis=0)), _rounded(usable.std(axis=0))
    if not (scale > 0).all():
        return None
    standardised = (usable - centre) / scale
    transition, means, variances = _maximise(standardised, *_first_guess(standardised, config), config)
    if not all(np.isfinite(values).all() for values in (transition, means, variances)):
        return None
    order = _named_order(means)
    transition = _distribution(transition[np.ix_(order, order)])
    return RegimeModel(
        names=(HIGH_VOLATILITY, LOW_VOLATILITY, TRENDING, RANGING),
        centre=centre,
        scale=scale,
        start=_distribution(_stationary(transition)),
        transition=transition,
        means=_rounded(means[order]),
        variances=_rounded(np.maximum(variances[order], config.min_variance)),
    )


def _rounded(values: Array) -> Array:
    rounded: Array = np.round(values, _DECIMALS)
    return rounded


def _distribution(weights: Array) -> Array:
    kept = np.maximum(_rounded(weights), 10.0**-_DECIMALS)
    shares: Array = kept / kept.sum(axis=-1, keepdims=True)
    return shares


def _named_order(means: Array) -> list[int]:
    """Return the states as high volatility, low volatility, trending, ranging."""
    quiet, *between, wild = np.argsort(means[:, 0], kind="stable").tolist()
    trending, ranging = sorted(between, key=lambda state: -means[state, 1])
    return [wild, quiet, trending, ranging]


def _first_guess(values: Array, config: RegimeModelConfig) -> tuple[Array, Array, Array]:
    """Guess from quantiles: outer fifths of range, and the rest cut at the 70 % quantile of efficiency
    (DOMAIN §3)."""
    low, high = np.quantile(values[:, 0], (0.2, 0.8))
    middle = (values[:, 0] >= low) & (values[:, 0] <= high)
    efficient = values[:, 1] > np.quantile(values[middle, 1], 0.7)
    groups = (values[:, 0] > high, values[:, 0] < low, middle & efficient, middle & ~efficient)
    everything = np.ones(len(values), dtype=np.bool_)
    members = [values[group if group.sum() > 1 else everything] for group in groups]
    transition = np.full((STATES, STATES), (1 - config.stay_probability) / (STATES - 1))
    np.fill_diagonal(transition, config.stay_probability)
    means = np.stack([group.mean(axis=0) for group in members])
    variances = np.stack([np.maximum(group.var(axis=0), config.min_variance) for group in members])
    return transition, means, variances


def _maximise(
    values: Array, transition: Array, means: Array, variances: Array, config: RegimeModelConfig
) -> tuple[Array, Array, Array]:
    """Return transition, means and variances of greatest likelihood near a first guess (hmmlearn,
    Baum-Welch)."""
    from hmmlearn.hmm import GaussianHMM  # slow to import, and only the builder needs it
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    hmm = GaussianHMM(
        n_components=STATES,
        covariance_type="diag",
        min_covar=config.min_variance,
        n_iter=config.max_iterations,
        tol=config.tolerance_nats,
        params="tmc",
        init_params="",
        implementation="scaling",
    )
    hmm.startprob_ = np.full(STATES, 1 / STATES)
    hmm.transmat_, hmm.means_, hmm.covars_ = transition, means, variances
    with threadpool_limits(limits=1):
        hmm.fit(values)
    fitted: tuple[Array, Array, Array] = (
        np.asarray(hmm.transmat_),
        np.asarray(hmm.means_),
        np.diagonal(np.asarray(hmm.covars_), axis1=1, axis2=2).copy(),
    )
    return fitted


def _stationary(transition: Array) -> Array:
    shares = np.full(STATES, 1 / STATES)
    for _ in range(10):
        transition = (transition[:, :, None] * transition[None, :, :]).sum(axis=1)
    stationary: Array = (shares[:, None] * transition).sum(axis=0)
    return stationary
