"""The formula of the flow expert as a baseline: as its settings have it, or fitted anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from huracan.expert.score import Score, Term
from huracan.inference.probabilities import as_probabilities
from huracan_flow.config import FlowConfig
from huracan_training.models.inputs import Question, all_labels, check_positions, check_samples, fitted
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
        self,
        question: Question,
        columns: Sequence[str],
        terms: Sequence[Term] = FlowConfig().terms,
        *,
        flat_threshold: float | None = None,
    ) -> None:
        """Take what is asked, and the columns of the rows; with a threshold, it and the weights stay as they are."""
        self._question = question
        self._score = Score(columns, [term.model_copy(update={"weight": 1.0}) for term in terms])
        self._start = np.array([*(term.weight for term in terms), flat_threshold or FlowConfig().flat_threshold])
        self._fixed = flat_threshold is not None
        self._found: Floats | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit weights and threshold by maximum likelihood: so few that `valid` is not needed to stop."""
        check_samples(train, self._question, name="train")
        check_samples(valid, self._question, name="valid")
        self._found = self._start if self._fixed else self._fitted([*train, *valid])

    def predict(self, sample: Sample) -> Floats:
        """Return the odds of each window, floored at a millionth."""
        check_positions(sample, name="sample")
        found = fitted(self._found, self.name)
        return as_probabilities(_odds(self._terms(sample), found))

    def _fitted(self, asked: Sequence[Sample]) -> Floats:
        terms, labels = np.concatenate([self._terms(sample) for sample in asked]), all_labels(asked)
        rows = np.arange(len(labels))

        def loss(guess: Floats) -> float:
            return -float(np.log(as_probabilities(_odds(terms, guess))[rows, labels]).mean())

        bounds = [(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)] * terms.shape[1] + [(0.0, _LARGEST_THRESHOLD)]
        return np.asarray(minimize(loss, self._start, method="L-BFGS-B", bounds=bounds).x)

    def _terms(self, sample: Sample) -> Floats:
        """Return what each term comes to at each position, shape (m, terms); 0 where all is missing."""
        rows, none = sample.series.rows, [0.0] * (len(self._start) - 1)
        told = [self._score.contributions(rows[at - WINDOW + 1 : at + 1]) or none for at in sample.at]
        return np.array(told).reshape(len(told), len(none))


def _odds(terms: Floats, parameters: Floats) -> Floats:
    """Return the odds of terms, shape (m, terms), with their weights and then the threshold as parameters."""
    score, threshold = terms @ parameters[:-1], parameters[-1]
    up, down = 1 / (1 + np.exp(threshold - score)), 1 / (1 + np.exp(threshold + score))
    return np.column_stack([down, np.maximum(1 - up - down, 0.0), up])
