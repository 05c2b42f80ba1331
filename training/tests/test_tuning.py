"""Tuning logs every trial, and pruning drops what does not matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from huracan.errors import BadInput, Fatal
from huracan_training.models.inputs import Question
from huracan_training.models.pruning import (
    Attribute,
    Drop,
    Pruning,
    alike_columns,
    attributed,
    by_permutation,
    prune,
    with_columns,
)
from huracan_training.models.table import make_model
from huracan_training.models.tuning import Between, Fold, Trial, tune
from huracan_training.samples import Classifier, Floats, Sample

from .switching import COLUMNS, HORIZON, QUESTION, switching_parts

NOISE = tuple(COLUMNS.index(name) for name in ("noise", "more_noise"))
ALIKE = tuple(COLUMNS.index(name) for name in ("log_volatility", "log_volatility_again"))


@dataclass
class Logged:
    """Keep trials in memory."""

    trials: list[Trial] = field(default_factory=list)

    def recall(self, number: int, settings: Mapping[str, float | int]) -> Trial | None:
        return next((trial for trial in self.trials if trial.number == number), None)

    def record(self, trial: Trial) -> None:
        self.trials.append(trial)


class Tuned:
    """Answer with more confidence in class 0 the nearer a setting is to its best, 3; refuse to fit above 8."""

    name = "tuned"

    def __init__(self, settings: Mapping[str, float | int]) -> None:
        self._knob = settings["knob"]

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        if self._knob > 8:
            raise Fatal("a net could not be trained")

    def predict(self, sample: Sample) -> Floats:
        sure = 0.9 - abs(self._knob - 3) / 10
        return np.tile([sure, 1 - sure], (len(sample.at), 1))


def folds(step: int = 3) -> list[Fold]:
    """Return one fold of the tiny market."""
    parts = switching_parts(bars=1000, step=step)
    return [Fold(train=parts.train, valid=parts.valid, judged=parts.judged)]


def _only_class_0(fold: Fold) -> Fold:
    sample = fold.judged[0]
    first = Sample(series=sample.series, at=sample.at, labels=np.zeros_like(sample.labels), known=sample.known)
    return Fold(train=fold.train, valid=fold.valid, judged=[first])


def test_every_trial_is_logged_the_failed_ones_too_and_the_best_comes_first() -> None:
    fold, log = _only_class_0(folds()[0]), Logged()
    space = {"knob": Between(0, 9), "whole": Between(1, 3, whole=True)}
    found = tune(Tuned, space, [fold, fold], seed=1, log=log, trials=25)
    assert [trial.number for trial in log.trials] == list(range(25))
    assert abs(found[0].settings["knob"] - 3) < 0.5
    assert found[0].loss == pytest.approx(-np.log(0.9 - abs(found[0].settings["knob"] - 3) / 10))
    assert len(found[0].losses) == 2
    failed = [trial for trial in log.trials if trial.failure]
    assert failed
    assert all(trial.loss == float("inf") and trial.settings["knob"] > 8 for trial in failed)
    again = tune(Tuned, space, [fold, fold], seed=1, log=Logged(), trials=25)
    assert again == found


def test_a_search_that_cannot_end_well_is_refused() -> None:
    fold = _only_class_0(folds()[0])
    with pytest.raises(BadInput, match="space was empty"):
        tune(Tuned, {}, [fold], seed=1, log=Logged())
    with pytest.raises(BadInput, match="every one of 2 trials failed"):
        tune(Tuned, {"knob": Between(8.5, 9)}, [fold], seed=1, log=Logged(), trials=2)


def _boosted() -> Classifier:
    return make_model("lightgbm", QUESTION, {"rounds": 30, "min_data_in_leaf": 20, "bagging_fraction": 1})


def test_a_whole_number_is_taken_with_a_point_too() -> None:
    (fold,) = folds()
    told = []
    for rounds in (3, 3.0):
        model = make_model("lightgbm", QUESTION, {"rounds": rounds, "min_data_in_leaf": 20})
        model.fit(fold.train, fold.valid, seed=1)
        told.append(model.predict(fold.judged[0]))
    assert np.array_equal(told[0], told[1])


@pytest.mark.parametrize("attribute", [attributed, by_permutation])
def test_pruning_drops_noise_and_not_what_matters(attribute: Attribute) -> None:
    (fold,) = folds()
    found = prune(_boosted, fold, share=0.34, block=HORIZON, seed=1, attribute=attribute)
    assert set(found.lowest.columns) < {*NOISE, COLUMNS.index("return")}
    assert found.beats_random
    assert abs(found.lowest.rise) < 3 * found.lowest.error
    assert {len(drop.columns) for drop in found.random} == {2}


def test_columns_that_are_alike_go_together_or_not_at_all() -> None:
    (fold,) = folds()
    groups = alike_columns(fold.train)
    assert groups[ALIKE[0]] == groups[ALIKE[1]]
    assert len(set(groups.tolist())) == 5
    assert alike_columns(with_columns(fold.train, [0])).tolist() == [0]
    with pytest.raises(BadInput, match="left no group to drop"):
        prune(_boosted, fold, share=0.2, block=8, seed=1, attribute=lambda *_: np.array([0, 0, 1, 1, 1, 1.0]))
    with pytest.raises(BadInput, match="share was 1"):
        prune(_boosted, fold, share=1, block=8, seed=1)


def test_a_drop_that_costs_more_than_its_error_is_not_accepted() -> None:
    dear, cheap = Drop(columns=(1,), rise=0.02, error=0.01), Drop(columns=(0,), rise=0.0, error=0.01)
    found = Pruning(matters=np.ones(3), group=np.arange(3), loss=1.0, lowest=dear, random=(cheap,))
    assert not found.accepted
    assert not found.beats_random
    assert found.kept() == (0, 1, 2)


def test_a_model_that_cannot_tell_what_matters_is_asked_by_shuffling() -> None:
    (fold,) = folds()
    model = make_model("logistic", QUESTION, {"inverse_penalty": 0.01})
    model.fit(fold.train, fold.valid, seed=1)
    assert attributed(model, fold.valid, 1).tolist() == by_permutation(model, fold.valid, 1).tolist()


def test_a_question_is_asked_of_any_number_of_classes() -> None:
    parts = switching_parts(bars=400, assets=("AAA",))
    model = make_model("lightgbm", Question(classes=6, horizon_bars=HORIZON), {"rounds": 5})
    model.fit(parts.train, parts.valid, seed=1)
    assert model.predict(parts.judged[0]).shape[1] == 6
