"""Hidden Markov models of bars, filtered forward only: what is known now, never what was found out later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hmmlearn.hmm import GaussianHMM
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from huracan.errors import Fatal
from huracan.inference.probabilities import as_probabilities
from huracan_regime.filter import forward_filter
from huracan_training.chance import seed_of
from huracan_training.models.inputs import Question, check_positions, check_samples, covered, fitted
from huracan_training.models.keeping import read_state, write_state
from huracan_training.samples import Floats, Integers, Sample, Series

Observe = Callable[[Series], Floats]
"""What a model sees of each bar, from that bar and those before: shape (n, dimensions), NaN where missing."""

VOLATILITY_BARS = (4, 32)
_TINY = 1e-12
_LIMIT_SD = 8.0
_PASSES = 50


def observed_returns(series: Series) -> Floats:
    """Return the logarithm of the realised volatility of 4 bars and of 32, shape (n, 2) (DOMAIN §2)."""
    sums = [_rolling_sum(series.log_return**2, bars) for bars in VOLATILITY_BARS]
    return 0.5 * np.log(np.column_stack(sums) + _TINY)


def observed_columns(columns: Sequence[int]) -> Observe:
    """Return what sees these columns of the feature rows."""

    def observe(series: Series) -> Floats:
        return series.rows[:, list(columns)].astype(np.float64)

    return observe


def _rolling_sum(values: Floats, bars: int) -> Floats:
    sums = np.full(len(values), np.nan)
    if len(values) >= bars:
        sums[bars - 1 :] = sliding_window_view(values, bars).sum(axis=1)
    return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class HmmSettings:
    """How a hidden Markov model is fitted."""

    states: tuple[int, ...] = (4, 6)
    """Numbers of states to choose from, by BIC."""
    restarts: int = 10
    """Fits from different first guesses; the likeliest is kept."""
    iterations: int = 60
    max_bars: int = 60_000
    """The latest bars of train that are fitted, shared by the assets."""
    least_share: float = 0.05
    """A fit with a state more rare than this is passed over while there is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    transition: Floats
    start: Floats
    means: Floats
    precisions: Floats
    """Inverse covariances, shape (states, dimensions, dimensions)."""

    def log_emission(self, values: Floats) -> Floats:
        """Return log densities, shape (n, states); a bar with a missing value says nothing."""
        away = values[:, None, :] - self.means
        squared = np.einsum("tki,kij,tkj->tk", away, self.precisions, away)
        _, log_determinant = np.linalg.slogdet(self.precisions)
        logs = -0.5 * (squared - log_determinant + self.means.shape[1] * np.log(2 * np.pi))
        return np.where(np.isfinite(logs), logs, 0.0)


class FilteredHmm:
    """Gaussian hidden Markov model of returns: filter to the position, step on over the horizon, name the classes.

    Baum-Welch by hmmlearn on train; the forward filter alpha_t ~ p(x_t | s) sum alpha_{t-1} A is the regime
    service's; the forecast is the mean of alpha A^k over k = 1 … horizon, the bars that a label covers; P(class |
    state) is fitted on train by EM. Never smoothed (DOMAIN §3).
    """

    name = "hmm"

    def __init__(
        self, question: Question, *, settings: HmmSettings | None = None, observe: Observe = observed_returns
    ) -> None:
        self._question = question
        self._settings = settings or HmmSettings()
        self._observe = observe
        self._moments: dict[str, tuple[Floats, Floats]] | None = None
        self._fit: _Fit | None = None
        self._naming: Floats | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit the chain on the bars of train and the classes of its states on the labels of train."""
        check_samples(train, self._question, name="train")
        self._moments = {
            sample.series.asset: _moments(self._observe(sample.series)[covered(sample)]) for sample in train
        }
        share = max(self._settings.max_bars // len(train), 2)
        parts = [self._standard(sample.series)[covered(sample)] for sample in train]
        usable = [part[np.isfinite(part).all(axis=1)][-share:] for part in parts]
        self._fit = _fitted(usable, self._settings, seed)
        forecasts = np.concatenate([self._forecast(sample) for sample in train])
        labels = np.concatenate([sample.labels for sample in train])
        self._naming = _classes_of_states(forecasts, labels, self._question.classes)

    def predict(self, sample: Sample) -> Floats:
        """Return class shares from the states forecast at each position."""
        check_positions(sample, name="sample")
        naming = fitted(self._naming, self.name)
        return as_probabilities((self._forecast(sample)[:, :, None] * naming).sum(axis=1))

    def _standard(self, series: Series) -> Floats:
        moments = fitted(self._moments, self.name)
        mean, deviation = moments.get(series.asset) or _average(moments)
        return np.clip((self._observe(series) - mean) / deviation, -_LIMIT_SD, _LIMIT_SD)

    def _forecast(self, sample: Sample) -> Floats:
        fit = fitted(self._fit, self.name)
        end = int(sample.at.max(initial=-1)) + 1
        emission = fit.log_emission(self._standard(sample.series)[:end])
        states = forward_filter(emission, fit.transition, fit.start)[sample.at]
        ahead: Floats = (states[:, :, None] * _mean_power(fit.transition, self._question.horizon_bars)).sum(axis=1)
        return ahead

    def write(self, directory: Path) -> None:
        """Keep the chain, the classes of its states and the moments."""
        write_state(directory, self._state())

    def _state(self) -> dict[str, object]:
        fit = fitted(self._fit, self.name)
        moments = fitted(self._moments, self.name)
        return {
            "transition": fit.transition.tolist(),
            "start": fit.start.tolist(),
            "means": fit.means.tolist(),
            "precisions": fit.precisions.tolist(),
            "naming": fitted(self._naming, self.name).tolist(),
            "moments": {asset: [mean.tolist(), sd.tolist()] for asset, (mean, sd) in moments.items()},
        }

    def read(self, directory: Path) -> None:
        """Take back what was kept; `observe` is the caller's."""
        self._restore(read_state(directory))

    def _restore(self, state: dict[str, Any]) -> None:
        parts = {part: np.asarray(state[part]) for part in ("transition", "start", "means", "precisions")}
        self._fit = _Fit(**parts)
        self._naming = np.asarray(state["naming"])
        pairs = {asset: np.asarray(pair) for asset, pair in state["moments"].items()}
        self._moments = {asset: (pair[0], pair[1]) for asset, pair in pairs.items()}


def _moments(values: Floats) -> tuple[Floats, Floats]:
    usable = values[np.isfinite(values).all(axis=1)]
    if not len(usable):
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    deviation = usable.std(axis=0)
    return usable.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def _average(moments: dict[str, tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    means, deviations = zip(*moments.values(), strict=True)
    return np.mean(means, axis=0), np.mean(deviations, axis=0)


def _fitted(parts: Sequence[Floats], settings: HmmSettings, seed: int) -> _Fit:
    """Return the chain of the least BIC, each number of states at its likeliest restart."""
    values, lengths = np.concatenate(parts), [len(part) for part in parts if len(part)]
    found: list[tuple[bool, float, GaussianHMM]] = []
    with threadpool_limits(limits=1):
        for states in settings.states:
            for restart in range(settings.restarts):
                model = GaussianHMM(
                    n_components=states,
                    covariance_type="full",
                    min_covar=1e-3,
                    n_iter=settings.iterations,
                    tol=1e-4 * max(len(values), 1),
                    random_state=seed_of(seed, f"hmm/{states}/{restart}"),
                    implementation="scaling",
                )
                candidate = _attempt(model, values, lengths, settings.least_share)
                if candidate is not None:
                    found.append(candidate)
    if not found:
        raise Fatal(f"hmm could not be fitted on {len(values)} bars from any start; give a longer train")
    best = min(found, key=lambda candidate: candidate[:2])[2]
    transition = np.asarray(best.transmat_)
    return _Fit(
        transition=transition / transition.sum(axis=1, keepdims=True),
        start=_mean_power(transition, 1024).mean(axis=0),
        means=np.asarray(best.means_),
        precisions=np.linalg.inv(np.asarray(best.covars_)),
    )


def _attempt(
    model: GaussianHMM, values: Floats, lengths: list[int], least_share: float
) -> tuple[bool, float, GaussianHMM] | None:
    """Return (has a rare state, BIC, model), or None where the fit broke down."""
    try:
        model.fit(values, lengths)
        likelihood = model.score(values, lengths)
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not np.isfinite(likelihood):
        return None
    states, dimensions = np.asarray(model.means_).shape
    parameters = states * (states - 1) + states * (dimensions + dimensions * (dimensions + 1) / 2)
    shares = _mean_power(np.asarray(model.transmat_), 1024).mean(axis=0)
    return bool(shares.min() < least_share), -2 * likelihood + parameters * np.log(len(values)), model


def _mean_power(transition: Floats, steps: int) -> Floats:
    """Return the mean of A^1 … A^steps."""
    power, total = np.eye(len(transition)), np.zeros_like(transition)
    for _ in range(steps):
        power = power @ transition
        total += power
    mean: Floats = total / steps
    return mean


def _classes_of_states(states: Floats, labels: Integers, classes: int) -> Floats:
    """Return P(class | state), shape (states, classes), of greatest likelihood where p(class) = sum p(state) P."""
    answers = np.eye(classes)[labels]
    naming = as_probabilities(states.T @ answers + 1)
    for _ in range(_PASSES):
        explained = (states @ naming)[np.arange(len(labels)), labels]
        blame = states * naming[:, labels].T / explained[:, None]
        naming = as_probabilities(blame.T @ answers + 1)
    return naming
