"""Logistic regression on window summaries: the least model that reads features."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from huracan.inference.probabilities import as_probabilities
from huracan_training.models.inputs import Question, fitted
from huracan_training.models.tabular import TabularClassifier
from huracan_training.samples import Floats, Integers, Rows
from huracan_training.scaling import Method
from huracan_training.scores import log_loss

_PENALTIES = (0.001, 0.01, 0.1)
_MAX_ITERATIONS = 300


class Logistic(TabularClassifier):
    """Multinomial logistic regression with a ridge penalty, the inverse strength chosen on `valid`.

    A missing summary counts as its mean. A baseline: it is refitted wherever it is wanted, never kept.
    """

    name = "logistic"

    def __init__(
        self, question: Question, *, inverse_penalty: float | None = None, scaling: Method = Method.STANDARD
    ) -> None:
        super().__init__(question, scaling=scaling)
        self._penalties = _PENALTIES if inverse_penalty is None else (inverse_penalty,)
        self._mean: Floats | None = None
        self._deviation: Floats | None = None
        self._model: LogisticRegression | None = None

    def _learn(self, table: Rows, labels: Integers, judged: Rows, truth: Integers, seed: int) -> None:
        self._mean, self._deviation = _moments(table)
        best = np.inf
        for penalty in self._penalties:
            model = LogisticRegression(C=penalty, max_iter=_MAX_ITERATIONS, tol=1e-3)
            model.fit(self._standard(table), labels)
            shares = as_probabilities(self._spread_out(model.predict_proba(self._standard(judged)), model.classes_))
            loss = log_loss(truth, shares)
            if loss < best:
                best, self._model = loss, model

    def _shares(self, table: Rows) -> Floats:
        model = fitted(self._model, self.name)
        return self._spread_out(model.predict_proba(self._standard(table)), model.classes_)

    def _standard(self, table: Rows) -> Floats:
        values = (table - fitted(self._mean, self.name)) / fitted(self._deviation, self.name)
        return np.nan_to_num(values)


def _moments(table: Rows) -> tuple[Floats, Floats]:
    values = np.nan_to_num(table.astype(np.float64))
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
