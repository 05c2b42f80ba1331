"""Every registered model keeps the laws of classifiers, and each law finds who breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.errors import BadInput
from huracan.laws import LawBroken
from huracan_training.models.baselines import Majority
from huracan_training.models.check import check_classifier, cut_after
from huracan_training.models.table import BOUNDS, LEFT_OUT, MODELS, make_model
from huracan_training.samples import Floats, Rows, Sample

from .switching import QUESTION, feature_rows, switching_parts

NET = {"width": 8, "depth": 2, "epochs": 2, "steps_per_epoch": 4, "batch": 32}
SMALL: Mapping[str, Mapping[str, float | int]] = {
    "random_forest": {"trees": 20, "least_leaf": 20},
    "lightgbm": {"rounds": 25},
    "hmm": {"restarts": 1, "iterations": 10},
    "kalman_hmm": {"restarts": 1, "iterations": 10},
    "lstm": NET,
    "strided_cnn": NET,
    "causal_tcn": NET,
    "distilled_cnn": {**NET, "lightgbm.rounds": 25},
}
"""Settings with which a test is fast."""


@pytest.mark.parametrize("name", MODELS)
def test_a_registered_model_keeps_every_law(name: str) -> None:
    parts = switching_parts(bars=700, step=2)
    check_classifier(
        lambda: make_model(name, QUESTION, SMALL.get(name)),
        QUESTION,
        train=parts.train,
        valid=parts.valid,
        judged=parts.judged,
    )


class Echo:
    """A model that says the class shares of train, and is wrong in one way."""

    name = "echo"

    def __init__(self) -> None:
        self._majority = Majority(QUESTION)

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        self._majority.fit(train, valid, seed=seed)

    def predict(self, sample: Sample) -> Floats:
        return self._majority.predict(sample)


def _towards(answers: Floats, signal: NDArray[np.floating]) -> Floats:
    """Return answers that lean to class 0 where a signal is above 0."""
    lean = answers.copy()
    lean[signal > 0] = (0.7, 0.1, 0.1, 0.1)
    return lean


class ReadsTheNextBar(Echo):
    def predict(self, sample: Sample) -> Floats:
        following = np.append(sample.series.log_return, 0.0)[sample.at + 1]
        return _towards(super().predict(sample), following)


class ScalesByTheWholeHistory(Echo):
    def predict(self, sample: Sample) -> Floats:
        column = np.nan_to_num(sample.series.rows[:, 0])
        return _towards(super().predict(sample), (column - column.mean())[sample.at])


class ReadsTheAnswers(Echo):
    def predict(self, sample: Sample) -> Floats:
        return _towards(super().predict(sample), 1.0 - sample.labels)


class CountsQuestions(Echo):
    asked = 0.0

    def predict(self, sample: Sample) -> Floats:
        self.asked += 1
        return _towards(super().predict(sample), np.full(len(sample.at), self.asked % 2))


class RanksThePositions(Echo):
    def predict(self, sample: Sample) -> Floats:
        return _towards(super().predict(sample), np.arange(len(sample.at)) - len(sample.at) / 2 + 0.0)


class WritesIntoTheSample(Echo):
    def predict(self, sample: Sample) -> Floats:
        sample.series.rows[sample.at] += 1
        return super().predict(sample)


class ForgetsAClass(Echo):
    def predict(self, sample: Sample) -> Floats:
        return super().predict(sample)[:, 1:]


class SumsToTwo(Echo):
    def predict(self, sample: Sample) -> Floats:
        return super().predict(sample) * 2


class StumblesOverHoles(Echo):
    def predict(self, sample: Sample) -> Floats:
        rows = sample.series.rows[sample.at]
        return _towards(super().predict(sample), rows[:, 0]) * (1 + 0 * rows[:, :1].astype(np.float64))


class TakesAnyLabels(Echo):
    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        usable = [replace(sample, labels=np.abs(np.nan_to_num(sample.labels)).astype(np.int64)) for sample in train]
        super().fit(usable, valid, seed=seed)


class LearnsByHeart(Echo):
    """Fitted on the very positions it is judged at; only random labels give it away."""

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        super().fit(train, valid, seed=seed)
        self._by_heart = {sample.series.asset: dict(zip(sample.at, sample.labels, strict=True)) for sample in train}

    def predict(self, sample: Sample) -> Floats:
        answers = super().predict(sample)
        learned = self._by_heart.get(sample.series.asset, {})
        return _towards(answers, np.array([1.0 if learned.get(at) == 0 else 0.0 for at in sample.at]))


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (ForgetsAClass, "gives probabilities"),
        (SumsToTwo, "gives probabilities"),
        (CountsQuestions, "is deterministic"),
        (WritesIntoTheSample, "changes nothing"),
        (ReadsTheNextBar, "reads no future"),
        (ScalesByTheWholeHistory, "reads no future"),
        (ReadsTheAnswers, "reads no answers"),
        (RanksThePositions, "answers any positions"),
        (StumblesOverHoles, "tolerates any rows"),
        (TakesAnyLabels, "refuses what it cannot use"),
    ],
)
def test_who_breaks_a_law_is_told_which(wrong: type[Echo], law: str) -> None:
    assert _broken(wrong) in ({law} if law != "answers any positions" else {law, "reads no future"})


def _broken(make: type[Echo]) -> str:
    parts = switching_parts(bars=500, assets=("AAA",))
    with pytest.raises(LawBroken) as broken:
        check_classifier(make, QUESTION, train=parts.train, valid=parts.valid, judged=parts.judged)
    return broken.value.law


def test_random_labels_give_away_who_is_judged_on_what_it_learned() -> None:
    train = switching_parts(bars=500, assets=("AAA",)).train
    with pytest.raises(LawBroken, match="knows nothing of random labels"):
        check_classifier(LearnsByHeart, QUESTION, train=train, valid=train, judged=train)


def _with_tomorrow(returns: Floats) -> Rows:
    rows = feature_rows(returns, seed=0)
    rows[:, -1] = np.append(returns[1:], np.nan)
    return rows


@pytest.mark.parametrize(
    ("features", "caught"), [(lambda returns: feature_rows(returns, seed=0), False), (_with_tomorrow, True)]
)
def test_a_feature_made_of_the_future_is_caught(features: Callable[[Floats], Rows], caught: bool) -> None:
    def seen(sample: Sample) -> Sample:
        return replace(sample, series=replace(sample.series, rows=features(sample.series.log_return)))

    def cut(sample: Sample, position: int) -> Sample:
        return seen(cut_after(sample, position))

    parts = switching_parts(bars=500, assets=("AAA",))
    train, valid, judged = ([seen(sample) for sample in part] for part in (parts.train, parts.valid, parts.judged))

    def check() -> None:
        make = lambda: make_model("logistic", QUESTION, {"inverse_penalty": 0.1})  # noqa: E731
        check_classifier(make, QUESTION, train=train, valid=valid, judged=judged, cut=cut)

    if caught:
        with pytest.raises(LawBroken, match="reads no future"):
            check()
    else:
        check()


def test_every_model_is_registered_or_left_out_with_a_reason() -> None:
    assert all(row.purpose and row.name == name for name, row in MODELS.items())
    assert all(entry.reason and entry.name not in MODELS for entry in LEFT_OUT)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("oracle", {}, "choose one of majority"),
        ("xgboost", {}, "left out because"),
        ("lightgbm", {"leaves": 3}, "settings of lightgbm had leaves"),
        ("majority", {"leaves": 3}, "it has none"),
    ],
)
def test_a_model_that_cannot_be_made_is_refused_by_name(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_model(name, QUESTION, settings)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("strided_cnn", "batch", 0),
        ("strided_cnn", "batch", 2.5),
        ("strided_cnn", "dropout", 2),
        ("strided_cnn", "learning_rate", float("nan")),
        ("distilled_cnn", "taught", 7),
        ("distilled_cnn", "lightgbm.num_leaves", 1),
        ("random_forest", "trees", 0),
        ("logistic", "inverse_penalty", -1),
        ("hmm", "restarts", 1.5),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused_by_name(name: str, setting: str, value: float) -> None:
    with pytest.raises(BadInput, match=rf"{setting} of {name} was {value}; give a"):
        make_model(name, QUESTION, {setting: value})


def test_every_setting_has_bounds_and_what_is_searched_lies_within() -> None:
    for row in MODELS.values():
        assert {setting.rpartition(".")[2] for setting in row.settings()} <= BOUNDS.keys()
        for setting, between in row.space.items():
            assert BOUNDS[setting].low <= between.low < between.high <= BOUNDS[setting].high
