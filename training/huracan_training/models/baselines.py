"""Forecasts that need no features: what every model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from huracan.inference.probabilities import as_probabilities
from huracan_training.models.inputs import (
    Question,
    all_labels,
    check_positions,
    check_samples,
    fitted,
)
from huracan_training.models.keeping import read_state, write_state
from huracan_training.samples import UNKNOWN, Floats, Integers, Sample
from huracan_training.scores import log_loss

_PRIOR = 1.0
_HALF_LIVES = (1_000.0, 4_000.0, 16_000.0)


class Majority:
    """Say the class shares of train, always: the most frequent class leads, and log loss can be compared."""

    name = "majority"

    def __init__(self, question: Question) -> None:
        self._question = question
        self._shares: Floats | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Count the classes of train."""
        check_samples(train, self._question, name="train")
        self._shares = class_shares(all_labels(train), self._question.classes)

    def predict(self, sample: Sample) -> Floats:
        """Return the shares of train at each position."""
        check_positions(sample, name="sample")
        return np.tile(fitted(self._shares, self.name), (len(sample.at), 1))

    def write(self, directory: Path) -> None:
        """Keep the shares."""
        write_state(directory, {"shares": fitted(self._shares, self.name).tolist()})

    def read(self, directory: Path) -> None:
        """Take back the shares that were kept."""
        self._shares = np.asarray(read_state(directory)["shares"], dtype=np.float64)


class Persistence:
    """Say how often each class followed the newest label that was known, one horizon before (DOMAIN §3)."""

    name = "persistence"

    def __init__(self, question: Question) -> None:
        self._question = question
        self._transition: Floats | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Count which label came with which known one over train, from one of each (Dirichlet, a = 1)."""
        check_samples(train, self._question, name="train")
        counts = np.full((self._question.classes + 1, self._question.classes), _PRIOR)
        for sample in train:
            np.add.at(counts, (sample.known[sample.at], sample.labels), 1)
        counts[UNKNOWN] = counts[:UNKNOWN].sum(axis=0) + counts[UNKNOWN]
        self._transition = as_probabilities(counts)

    def predict(self, sample: Sample) -> Floats:
        """Return the row of the label known at each position, and class shares where none is known."""
        check_positions(sample, name="sample")
        answers: Floats = fitted(self._transition, self.name)[sample.known[sample.at]]
        return answers

    def write(self, directory: Path) -> None:
        """Keep the transitions."""
        write_state(directory, {"transition": fitted(self._transition, self.name).tolist()})

    def read(self, directory: Path) -> None:
        """Take back the transitions that were kept."""
        self._transition = np.asarray(read_state(directory)["transition"], dtype=np.float64)


class MarkovChain:
    """Step a chain of labels from the newest known one to the end of the horizon (DOMAIN §3).

    P_ij = (n_ij + a p_ij) / (sum + K a) with a = 1: n_ij are the one-bar transitions between known labels up to
    the position, each forgotten exponentially; p_ij are the shares of train. The half-life that served best on
    `valid` is kept.
    """

    name = "markov_chain"

    def __init__(self, question: Question, *, half_life_bars: float | None = None) -> None:
        self._question = question
        self._given_half_life_bars = half_life_bars
        self._half_life_bars: float | None = None
        self._prior: Floats | None = None
        self._shares: Floats | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Count one-bar transitions over the bars of train; choose the half-life on `valid`."""
        check_samples(train, self._question, name="train")
        classes = self._question.classes
        counts = np.full((classes, classes), _PRIOR)
        for sample in train:
            if len(sample.at):
                known = sample.known[sample.at[0] : sample.at[-1] + 1]
                counts += _steps(known, classes).sum(axis=0).reshape(classes, classes)
        self._prior = as_probabilities(counts)
        self._shares = class_shares(all_labels(train), classes)
        self._half_life_bars = self._given_half_life_bars
        if self._half_life_bars is None:
            check_samples(valid, self._question, name="valid")
            self._half_life_bars = min(_HALF_LIVES, key=lambda half_life: self._loss(valid, half_life))

    def _loss(self, valid: Sequence[Sample], half_life_bars: float) -> float:
        answers = np.concatenate([self._forecast(sample, half_life_bars) for sample in valid])
        return log_loss(all_labels(valid), answers)

    def predict(self, sample: Sample) -> Floats:
        """Return the chain's forecast at each position, and class shares where no label is known."""
        check_positions(sample, name="sample")
        return self._forecast(sample, fitted(self._half_life_bars, self.name))

    def _forecast(self, sample: Sample, half_life_bars: float) -> Floats:
        classes, prior = self._question.classes, fitted(self._prior, self.name)
        steps = _steps(sample.known, classes)
        counts = lfilter([1.0], [1.0, -(0.5 ** (1 / half_life_bars))], steps, axis=0)[sample.at]
        weights = np.maximum(counts.reshape(-1, classes, classes), 0) + classes * _PRIOR * prior
        transition = weights / weights.sum(axis=2, keepdims=True)
        known = sample.known[sample.at]
        ahead = np.linalg.matrix_power(transition, self._question.horizon_bars)[np.arange(len(known)), known]
        return as_probabilities(np.where((known == UNKNOWN)[:, None], fitted(self._shares, self.name), ahead))

    @property
    def prior(self) -> Floats:
        """Return how often each class was followed by each a bar later in train, shape (classes, classes)."""
        return fitted(self._prior, self.name)

    @property
    def half_life_bars(self) -> float:
        """Return in how many bars what was seen counts half."""
        return fitted(self._half_life_bars, self.name)

    def write(self, directory: Path) -> None:
        """Keep the transitions of train, the shares and the half-life."""
        state = {
            "prior": fitted(self._prior, self.name).tolist(),
            "shares": fitted(self._shares, self.name).tolist(),
            "half_life_bars": self._half_life_bars,
        }
        write_state(directory, state)

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        state = read_state(directory)
        self._prior = np.asarray(state["prior"], dtype=np.float64)
        self._shares = np.asarray(state["shares"], dtype=np.float64)
        self._half_life_bars = float(state["half_life_bars"])


def class_shares(labels: Integers, classes: int) -> Floats:
    """Return how frequent each class was, shape (classes,), from one of each (Dirichlet, a = 1)."""
    counts = np.bincount(labels, minlength=classes) + _PRIOR
    shares: Floats = counts / counts.sum()
    return shares


def _steps(known: Integers, classes: int) -> Floats:
    """Return which transition between known labels ended at each bar, one-hot, shape (n, classes ** 2)."""
    steps = np.zeros((len(known), classes * classes))
    ended = np.flatnonzero((known[:-1] != UNKNOWN) & (known[1:] != UNKNOWN)) + 1
    steps[ended, known[ended - 1] * classes + known[ended]] = 1
    return steps
