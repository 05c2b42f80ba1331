"""Random forest on window summaries: the baseline that a detector is judged against."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from huracan.inference.probabilities import as_probabilities
from huracan_training.chance import seed_of
from huracan_training.models.inputs import Question, fitted
from huracan_training.models.tabular import TabularClassifier
from huracan_training.samples import Floats, Integers, Rows
from huracan_training.scaling import Method
from huracan_training.scores import log_loss

_LEAVES = (10, 40, 160)
_ROWS_OF_A_TREE = 20_000
_TRIED_TREES = 40
"""Of a forest whose leaf is tried; only the chosen one grows to its full size."""


class Forest(TabularClassifier):
    """Random forest (Breiman 2001) of probability trees, the least leaf chosen on `valid`.

    Neighbouring windows overlap: small leaves learn them by heart, so the leaf matters more than the number of
    trees. Each tree sees at most 20,000 windows. A baseline: it is refitted wherever it is wanted, never kept.
    """

    name = "random_forest"

    def __init__(
        self,
        question: Question,
        *,
        trees: int = 200,
        least_leaf: int | None = None,
        scaling: Method = Method.STANDARD,
    ) -> None:
        super().__init__(question, scaling=scaling)
        self._trees = trees
        self._leaves = _LEAVES if least_leaf is None else (least_leaf,)
        self._model: RandomForestClassifier | None = None

    def _learn(self, table: Rows, labels: Integers, judged: Rows, truth: Integers, seed: int) -> None:
        filled, tried, best = np.nan_to_num(table), np.nan_to_num(judged), np.inf
        for leaf in self._leaves:
            model = RandomForestClassifier(
                n_estimators=min(_TRIED_TREES, self._trees),
                min_samples_leaf=leaf,
                max_samples=min(_ROWS_OF_A_TREE, len(table)),
                random_state=seed_of(seed, self.name),
                n_jobs=1,
                warm_start=True,
            )
            model.fit(filled, labels)
            shares = as_probabilities(self._spread_out(model.predict_proba(tried), model.classes_))
            loss = log_loss(truth, shares)
            if loss < best:
                best, self._model = loss, model
        chosen = fitted(self._model, self.name)
        chosen.n_estimators = self._trees
        if self._trees > _TRIED_TREES:
            chosen.fit(filled, labels)

    def _shares(self, table: Rows) -> Floats:
        model = fitted(self._model, self.name)
        return self._spread_out(model.predict_proba(np.nan_to_num(table)), model.classes_)
