"""Gradient boosted trees on window summaries (LightGBM)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import lightgbm
import numpy as np

from huracan_training.chance import seed_of
from huracan_training.models.inputs import (
    SUMMARIES,
    Question,
    fitted,
    table_of,
)
from huracan_training.models.keeping import read_state, write_state
from huracan_training.models.tabular import TabularClassifier
from huracan_training.samples import Floats, Integers, Rows, Sample
from huracan_training.scaling import Method, Scaler


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingSettings:
    """What can be tuned of boosted trees; the names are LightGBM's."""

    learning_rate: float = 0.06
    num_leaves: int = 15
    min_data_in_leaf: int = 400
    feature_fraction: float = 0.3
    bagging_fraction: float = 0.2
    """Small: windows that lie side by side tell much the same."""
    lambda_l2: float = 10.0
    max_bin: int = 63
    rounds: int = 500
    """Trees per class at most."""
    patience: int = 20
    """Stop when `valid` has not improved for as many rounds."""


class Boosting(TabularClassifier):
    """Multinomial boosting that stops on `valid` (Ke et al. 2017). Missing summaries stay missing."""

    name = "lightgbm"

    def __init__(
        self,
        question: Question,
        *,
        settings: BoostingSettings | None = None,
        scaling: Method = Method.STANDARD,
    ) -> None:
        super().__init__(question, scaling=scaling)
        self._settings = settings or BoostingSettings()
        self._booster: lightgbm.Booster | None = None

    def _learn(self, table: Rows, labels: Integers, judged: Rows, truth: Integers, seed: int) -> None:
        tuned = asdict(self._settings)
        rounds, patience = tuned.pop("rounds"), tuned.pop("patience")
        parameters = tuned | {
            "objective": "multiclass",
            "num_class": self._question.classes,
            "metric": "multi_logloss",
            "bagging_freq": 1,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "seed": seed_of(seed, self.name),
            "verbosity": -1,
        }
        learned = lightgbm.Dataset(table, label=labels, params={"verbosity": -1})
        self._booster = lightgbm.train(
            parameters,
            learned,
            num_boost_round=rounds,
            valid_sets=[learned.create_valid(judged, label=truth)],
            callbacks=[lightgbm.early_stopping(patience, verbose=False)],
        )

    def _shares(self, table: Rows) -> Floats:
        answers = fitted(self._booster, self.name).predict(table, num_threads=1)
        return np.asarray(answers, dtype=np.float64)

    def attribution(self, sample: Sample) -> Floats:
        """Return the mean over the sample's windows of |contribution| of each column to the classes' scores.

        Exact Shapley values of the trees (Lundberg et al. 2020, LightGBM `pred_contrib`), summed over classes and
        over the summaries of a column; shape (columns,), nats.
        """
        table = table_of([sample], fitted(self._scaling, self.name))
        given = fitted(self._booster, self.name).predict(table, pred_contrib=True, num_threads=1)
        classes = self._question.classes
        parts = np.abs(np.asarray(given, dtype=np.float64).reshape(len(table), classes, -1)[:, :, :-1])
        shares: Floats = parts.reshape(len(table), classes, SUMMARIES, -1).mean(axis=0).sum(axis=(0, 1))
        return shares

    def write(self, directory: Path) -> None:
        """Keep the trees as LightGBM's text and the scaling."""
        trees = fitted(self._booster, self.name).model_to_string()
        write_state(directory, {"trees": trees, "scaling": fitted(self._scaling, self.name).model_dump(mode="json")})

    def read(self, directory: Path) -> None:
        """Take back what was kept."""
        state = read_state(directory)
        self._booster = lightgbm.Booster(model_str=state["trees"])
        self._scaling = Scaler.model_validate(state["scaling"])
