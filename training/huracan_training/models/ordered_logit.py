"""The formula of the flow expert as a baseline: as its settings have it, or fitted anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from huracan.expert.score import Score, Term
from huracan.inference.probabilities import as_probabilities
from huracan_flow.config import FlowConfig
from huracan_training.models.inputs import all_labels, check_positions
from huracan_training.samples import WINDOW, Floats, Sample

_LARGEST_WEIGHT = 5.0
"""Above it a term saturates the odds alone."""
_LARGEST_THRESHOLD = 10.0


class OrderedLogit:
    """P(up) = 1 / (1 + e^(threshold - score)), P(down) that of -score; the score is a sum of recent values.

    A baseline: it is refitted wherever it is wanted, never kept.
    """

    name = "ordered_logit"

    def __init__(
        self, columns: Sequence[str], terms: Sequence[Term] = FlowConfig().terms, *, flat_threshold: float | None = None
    ) -> None:
        """Take the columns of the rows; with a threshold, weights and threshold stay as they are."""
        self._score = Score(columns, [term.model_copy(update={"weight": 1.0}) for term in terms])
        self._weights = np.array([term.weight for term in terms])
        self._fixed = flat_threshold is not None
        self._threshold = FlowConfig().flat_threshold if flat_threshold is None else flat_threshold

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit weights and threshold by maximum likelihood: so few that `valid` is not needed to stop."""
        if self._fixed:
            return
        asked = [*train, *valid]
        terms = np.concatenate([self._terms(sample) for sample in asked])
        labels = all_labels(asked)
        rows = np.arange(len(labels))

        def loss(guess: Floats) -> float:
            shares = as_probabilities(_odds(terms @ guess[:-1], guess[-1]))
            return -float(np.log(shares[rows, labels]).mean())

        bounds = [(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)] * len(self._weights) + [(0.0, _LARGEST_THRESHOLD)]
        found = minimize(loss, [*self._weights, self._threshold], method="L-BFGS-B", bounds=bounds).x
        self._weights, self._threshold = found[:-1], float(found[-1])

    def predict(self, sample: Sample) -> Floats:
        """Return the odds of each window, floored at a millionth."""
        check_positions(sample, name="sample")
        return as_probabilities(_odds(self._terms(sample) @ self._weights, self._threshold))

    def _terms(self, sample: Sample) -> Floats:
        """Return what each term comes to at each position, shape (m, terms); 0 where all is missing."""
        rows, none = sample.series.rows, [0.0] * len(self._weights)
        told = [self._score.contributions(rows[at - WINDOW + 1 : at + 1]) or none for at in sample.at]
        return np.array(told).reshape(len(told), len(self._weights))


def _odds(score: Floats, threshold: float) -> Floats:
    up, down = 1 / (1 + np.exp(threshold - score)), 1 / (1 + np.exp(threshold + score))
    return np.column_stack([down, np.maximum(1 - up - down, 0.0), up])
