"""Scores of class probabilities: how good, how well calibrated, and of which class.

Everywhere `labels` (m,) are classes in [0, K) and `probabilities` (m, K) have rows that sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huracan.errors import BadInput
from huracan.inference.probabilities import SMALLEST_PROBABILITY
from huracan_training.samples import Floats, Integers

Mask = NDArray[np.bool_]

BINS = 15
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Reliability:
    """Forecasts in bins of about equal mass: what was said against what happened, each of shape (bins,)."""

    said: Floats
    """Mean probability."""
    happened: Floats
    """Share of rows in which it came true."""
    rows: Integers
    """Rows in the bin, at least one."""

    @property
    def calibration_error(self) -> float:
        """Return ECE = sum_b (n_b / n) |happened_b - said_b|, in [0, 1]; Naeini et al. 2015, with equal mass."""
        return float(np.average(np.abs(self.happened - self.said), weights=self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How good forecasts of classes were; NaN where there was no row."""

    rows: int
    log_loss: float
    """Mean of -ln p(outcome), nats, at least 0; lower is better. ln K is knowing nothing."""
    brier: float
    """Mean squared distance to the outcome, in [0, 2]; lower is better."""
    accuracy: float
    balanced_accuracy: float
    """Mean recall of the classes that occurred."""
    macro_f1: float
    """Mean F1 of the classes that occurred or were predicted."""
    ece: float
    """Expected calibration error of the arg max, 15 bins of equal mass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """How one class was forecast; NaN where it neither occurred nor was predicted."""

    rows: int
    share: float
    recall: float
    precision: float
    f1: float
    log_loss: float
    """Mean of -ln p(outcome) where the class was the outcome, nats."""
    ece: float
    """Calibration error of the class's own probability against its frequency."""


def check(labels: Integers, probabilities: Floats) -> None:
    """Raise BadInput where labels and probabilities are not what this module is about."""
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise BadInput(
            f"labels {labels.shape} and probabilities {probabilities.shape} do not match; give (m,) and (m, K)"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < probabilities.shape[1]):
        raise BadInput(f"a label lies outside [0, {probabilities.shape[1]}); leave out rows whose label is unknown")
    if not np.all(np.abs(probabilities.sum(axis=1) - 1.0) < _SUM_TOLERANCE) or (probabilities < 0).any():
        raise BadInput("a row of probabilities is negative, missing or does not sum to 1; normalise the model's output")


def scored(labels: Integers, probabilities: Floats) -> Scores:
    """Return all scores of some rows; raise BadInput where shapes, labels or sums are wrong."""
    check(labels, probabilities)
    if not labels.size:
        nan = float("nan")
        return Scores(rows=0, log_loss=nan, brier=nan, accuracy=nan, balanced_accuracy=nan, macro_f1=nan, ece=nan)
    confusion = confusions(labels, probabilities)
    return Scores(
        rows=labels.size,
        log_loss=log_loss(labels, probabilities),
        brier=float(briers(labels, probabilities).mean()),
        accuracy=float(confusion.trace() / labels.size),
        balanced_accuracy=float(balanced_accuracy(confusion)),
        macro_f1=float(macro_f1(confusion)),
        ece=reliability(labels, probabilities).calibration_error,
    )


def log_losses(labels: Integers, probabilities: Floats) -> Floats:
    """Return -ln max(p(outcome), 1e-6) of each row, nats, shape (m,); Good 1952."""
    outcome = probabilities[np.arange(labels.size), labels]
    losses: Floats = -np.log(np.clip(outcome.astype(np.float64), SMALLEST_PROBABILITY, 1.0))
    return losses


def log_loss(labels: Integers, probabilities: Floats) -> float:
    """Return the mean of the log losses of all rows, nats."""
    return float(log_losses(labels, probabilities).mean())


def briers(labels: Integers, probabilities: Floats) -> Floats:
    """Return sum_k (p_k - 1[k = outcome])^2 of each row, in [0, 2], shape (m,); Brier 1950."""
    outcome = np.eye(probabilities.shape[1])[labels]
    squares: Floats = np.square(probabilities - outcome).sum(axis=1)
    return squares


def confusions(labels: Integers, probabilities: Floats) -> Floats:
    """Return how often class i (row) was forecast as j (column) by the arg max, shape (K, K)."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.float64)


def macro_f1(confusion: Floats) -> Floats:
    """Return the mean F1 over classes, of confusion tables (..., K, K), shape (...).

    F1_k = 2 tp / (2 tp + fp + fn); a class that neither occurred nor was predicted is left out.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _mean_ratio(2 * hits, confusion.sum(axis=-1) + confusion.sum(axis=-2))


def balanced_accuracy(confusion: Floats) -> Floats:
    """Return the mean recall over classes that occurred, of confusion tables (..., K, K), shape (...)."""
    return _mean_ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))


def reliability(labels: Integers, probabilities: Floats, *, bins: int = BINS) -> Reliability:
    """Return said against happened of the arg max; rows of equal confidence share a bin, so order does not matter."""
    best = probabilities.argmax(axis=1)
    return _binned(probabilities[np.arange(labels.size), best], best == labels, bins)


def calibration_gaps(labels: Integers, probabilities: Floats, *, bins: int = BINS) -> Floats:
    """Return happened - said of each row in the column of its bin, 0 elsewhere, shape (m, at most bins).

    The ECE of any rows is the sum of the sizes of their column sums over their number: what a bootstrap resamples.
    """
    best = probabilities.argmax(axis=1)
    said = probabilities[np.arange(labels.size), best]
    of, count = _bins(said, bins)
    gaps = np.zeros((labels.size, count))
    gaps[np.arange(labels.size), of] = (best == labels) - said
    return gaps


def class_reliability(labels: Integers, probabilities: Floats, of: int, *, bins: int = BINS) -> Reliability:
    """Return said against happened of one class's probability."""
    return _binned(probabilities[:, of], labels == of, bins)


def scored_by_class(labels: Integers, probabilities: Floats) -> tuple[ClassScores, ...]:
    """Return how each class was forecast; raise BadInput where shapes, labels or sums are wrong."""
    check(labels, probabilities)
    confusion, losses = confusions(labels, probabilities), log_losses(labels, probabilities)
    told = []
    for of in range(probabilities.shape[1]):
        occurred, predicted, hits = confusion[of].sum(), confusion[:, of].sum(), confusion[of, of]
        told.append(
            ClassScores(
                rows=int(occurred),
                share=_ratio(occurred, labels.size),
                recall=_ratio(hits, occurred),
                precision=_ratio(hits, predicted),
                f1=_ratio(2 * hits, occurred + predicted),
                log_loss=_ratio(losses[labels == of].sum(), occurred),
                ece=class_reliability(labels, probabilities, of).calibration_error if labels.size else float("nan"),
            )
        )
    return tuple(told)


def scored_by_group(labels: Integers, probabilities: Floats, groups: Mapping[str, Mask]) -> dict[str, Scores]:
    """Return scores of each group of rows: an asset, a fold, a regime; a group is a mask of shape (m,)."""
    return {name: scored(labels[mask], probabilities[mask]) for name, mask in groups.items()}


def skill(loss: float, baseline: float) -> float:
    """Return 1 - loss / baseline: the share of the baseline's loss that is gone; NaN for a baseline without loss."""
    return 1.0 - loss / baseline if baseline > 0 else float("nan")


def _bins(said: Floats, bins: int) -> tuple[Integers, int]:
    """Return the bin of each row and how many there are: edges at quantiles, equal values together."""
    edges = np.unique(np.quantile(said, np.arange(1, bins) / bins))
    return np.searchsorted(edges, said, side="right").astype(np.int64), edges.size + 1


def _binned(said: Floats, happened: Mask, bins: int) -> Reliability:
    of, count = _bins(said, bins)
    rows = np.bincount(of, minlength=count)
    filled = rows > 0
    sums = [np.bincount(of, np.asarray(each, dtype=np.float64), count) for each in (said, happened)]
    return Reliability(sums[0][filled] / rows[filled], sums[1][filled] / rows[filled], rows[filled])


def _mean_ratio(parts: Floats, wholes: Floats) -> Floats:
    """Return the mean of parts / wholes over the last axis where a whole is not 0."""
    known = wholes > 0
    ratios = np.divide(parts, wholes, out=np.zeros_like(wholes), where=known)
    counts = known.sum(axis=-1)
    means: Floats = np.divide(ratios.sum(axis=-1), counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
