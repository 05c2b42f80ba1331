"""What models of tables have in common: each window is one row of summaries, of scaled columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from huracan.inference.probabilities import as_probabilities
from huracan_training.models.inputs import (
    Question,
    all_labels,
    check_positions,
    check_samples,
    fitted,
    fitted_scaler,
    table_of,
    with_scales_of,
)
from huracan_training.samples import Floats, Integers, Rows, Sample
from huracan_training.scaling import Method, Scaler


class TabularClassifier(ABC):
    """Feed a model the summaries of each window; one thread, so that the same data give the same bytes."""

    name: str

    def __init__(self, question: Question, *, scaling: Method = Method.STANDARD) -> None:
        self._question = question
        self._method = scaling
        self._scaling: Scaler | None = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Scale by train, learn from train, and choose between settings on `valid`."""
        check_samples(train, self._question, name="train")
        check_samples(valid, self._question, name="valid")
        self._scaling = fitted_scaler(train, self._method)
        learned, judged = table_of(train, self._scaling), table_of(valid, self._scaling)
        with threadpool_limits(limits=1):
            self._learn(learned, all_labels(train), judged, all_labels(valid), seed)

    def meet(self, more: Sequence[Sample]) -> None:
        """Learn the scales of assets that were not trained on, and nothing else."""
        self._scaling = with_scales_of(fitted(self._scaling, self.name), more)

    def predict(self, sample: Sample) -> Floats:
        """Return the shares the model gives, floored at a millionth."""
        check_positions(sample, name="sample")
        table = table_of([sample], fitted(self._scaling, self.name))
        if not len(table):
            return np.empty((0, self._question.classes))
        with threadpool_limits(limits=1):
            return as_probabilities(self._shares(table))

    @abstractmethod
    def _learn(self, table: Rows, labels: Integers, judged: Rows, truth: Integers, seed: int) -> None: ...

    @abstractmethod
    def _shares(self, table: Rows) -> Floats: ...

    def _spread_out(self, shares: Floats, seen: Integers) -> Floats:
        """Return shares of the classes that were seen as shares of all classes."""
        spread = np.zeros((len(shares), self._question.classes))
        spread[:, seen] = shares
        return spread
