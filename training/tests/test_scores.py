"""Scores of class probabilities: exact on small cases, honest about knowing nothing, blind to the order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from huracan.errors import BadInput
from huracan.inference.probabilities import SMALLEST_PROBABILITY
from huracan_training.chance import generator
from huracan_training.regression import errors_scored
from huracan_training.samples import Floats, Integers
from huracan_training.scores import (
    calibration_gaps,
    class_reliability,
    confusions,
    log_losses,
    macro_f1,
    reliability,
    scored,
    scored_by_class,
    scored_by_group,
    skill,
)

CLASSES = 4


def _drawn(rows: int, seed: int) -> tuple[Integers, Floats]:
    """Return labels drawn from the very probabilities that are then said of them."""
    chance = generator(seed, "scores")
    probabilities = chance.dirichlet(np.ones(CLASSES), size=rows)
    labels = (chance.random(rows)[:, None] > np.cumsum(probabilities, axis=1)).sum(axis=1)
    return labels.astype(np.int64), probabilities


@given(st.integers(0, 1000), st.integers(20, 200))
def test_scores_are_those_of_another_library(seed: int, rows: int) -> None:
    labels, probabilities = _drawn(rows, seed)
    told, best = scored(labels, probabilities), probabilities.argmax(axis=1)
    assert told.log_loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(CLASSES)))
    assert told.macro_f1 == pytest.approx(metrics.f1_score(labels, best, average="macro", zero_division=0.0))
    occurred = list(np.unique(labels))
    assert told.balanced_accuracy == pytest.approx(
        metrics.recall_score(labels, best, average="macro", labels=occurred, zero_division=0.0)
    )
    assert told.accuracy == pytest.approx(metrics.accuracy_score(labels, best))


@given(st.integers(0, 1000))
def test_scores_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    labels, probabilities = _drawn(97, seed)
    probabilities = np.round(probabilities, 1) + 1e-9  # ties: equal confidences share a bin
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    order = generator(seed, "order").permutation(labels.size)
    before, after = scored(labels, probabilities), scored(labels[order], probabilities[order])
    for name in ("log_loss", "brier", "accuracy", "balanced_accuracy", "macro_f1", "ece"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


@given(st.integers(0, 1000))
def test_scores_do_not_depend_on_the_names_of_classes(seed: int) -> None:
    labels, probabilities = _drawn(97, seed)
    names = generator(seed, "names").permutation(CLASSES)
    before, after = scored(labels, probabilities), scored(np.argsort(names)[labels], probabilities[:, names])
    for name in ("log_loss", "brier", "balanced_accuracy", "macro_f1", "ece"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_a_perfect_forecast_scores_perfectly() -> None:
    labels = np.arange(40) % CLASSES
    told = scored(labels, np.eye(CLASSES)[labels])
    assert (told.log_loss, told.brier, told.macro_f1, told.balanced_accuracy, told.ece) == (0, 0, 1, 1, 0)


def test_knowing_nothing_costs_the_logarithm_of_the_classes() -> None:
    labels = np.arange(40) % CLASSES
    told = scored(labels, np.full((40, CLASSES), 1 / CLASSES))
    assert told.log_loss == pytest.approx(np.log(CLASSES))
    assert told.brier == pytest.approx(0.75)
    assert told.balanced_accuracy == pytest.approx(1 / CLASSES)
    assert told.ece == pytest.approx(0)


def test_shuffled_labels_give_chance() -> None:
    labels, probabilities = _drawn(20_000, 1)
    told = scored(generator(1, "shuffle").permutation(labels), probabilities)
    assert told.balanced_accuracy == pytest.approx(1 / CLASSES, abs=0.01)
    assert told.macro_f1 == pytest.approx(1 / CLASSES, abs=0.01)
    assert told.log_loss > np.log(CLASSES)


def test_what_is_said_of_what_is_drawn_is_calibrated_and_an_exaggeration_is_not() -> None:
    labels, probabilities = _drawn(20_000, 2)
    louder = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert scored(labels, probabilities).ece < 0.02
    assert scored(labels, louder).ece > 0.1
    assert max(told.ece for told in scored_by_class(labels, probabilities)) < 0.02


def test_calibration_error_is_the_mean_gap_of_bins_of_equal_mass() -> None:
    said = np.repeat([0.6, 0.8, 1.0], 5)
    probabilities = np.stack([said, 1 - said], axis=1)
    labels = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1])  # came true 0.6, 0.6, 0.8
    table = reliability(labels, probabilities)
    assert table.rows.tolist() == [5, 5, 5]
    assert table.calibration_error == pytest.approx((0.0 + 0.2 + 0.2) / 3)
    gaps = calibration_gaps(labels, probabilities).sum(axis=0)
    assert np.abs(gaps).sum() / 15 == pytest.approx(table.calibration_error)
    assert class_reliability(labels, probabilities, 1).rows.sum() == labels.size


def test_a_sure_forecast_that_fails_costs_a_stated_amount() -> None:
    lost = log_losses(np.array([0]), np.array([[0.0, 1.0]]))
    assert lost[0] == pytest.approx(-np.log(SMALLEST_PROBABILITY))


def test_a_class_that_never_was_nor_was_predicted_does_not_count() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.2, 0.8, 0.0]])
    told = scored_by_class(labels, probabilities)
    assert macro_f1(confusions(labels, probabilities)) == 1.0
    assert (told[2].rows, told[2].share) == (0, 0.0)
    assert np.isnan([told[2].recall, told[2].precision, told[2].f1, told[2].log_loss]).all()


def test_groups_are_scored_on_their_own_rows_and_an_empty_one_has_no_score() -> None:
    labels, probabilities = _drawn(60, 3)
    first = np.arange(60) < 20
    told = scored_by_group(labels, probabilities, {"first": first, "none": np.zeros(60, dtype=bool)})
    assert told["first"] == scored(labels[:20], probabilities[:20])
    assert told["none"].rows == 0
    assert np.isnan(told["none"].log_loss)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([0, 1], [[0.5, 0.5]]),
        ([2], [[0.5, 0.5]]),
        ([-1], [[0.5, 0.5]]),
        ([0], [[0.5, 0.6]]),
        ([0], [[1.5, -0.5]]),
        ([0], [[np.nan, 1.0]]),
    ],
)
def test_what_is_no_forecast_of_classes_is_refused(labels: list[int], probabilities: list[list[float]]) -> None:
    with pytest.raises(BadInput):
        scored(np.array(labels), np.array(probabilities))


def test_explained_variance_is_around_the_train_mean() -> None:
    actual, forecast = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])
    told = errors_scored(actual, forecast, train_mean=0.0)
    assert told.rmse == pytest.approx((1 / 3) ** 0.5)
    assert told.mae == pytest.approx(1 / 3)
    assert told.r2 == told.skill_over_zero == pytest.approx(1 - 1 / 14)
    assert errors_scored(actual, forecast, train_mean=2.0).r2 == pytest.approx(0.5)
    assert np.isnan(errors_scored(np.ones(2), np.ones(2), train_mean=1.0).r2)
    with pytest.raises(BadInput, match="do not match"):
        errors_scored(actual, forecast[:2], train_mean=0.0)


def test_skill_is_the_share_of_the_loss_that_is_gone() -> None:
    assert skill(0.9, 1.2) == pytest.approx(0.25)
    assert np.isnan(skill(0.1, 0.0))
