"""Nothing at a bar knows what comes later: rows, known labels and scales are those of a history that ends there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan_training.bars import VALUES, Asset, asset
from huracan_training.datasets import fold_samples
from huracan_training.integrity import Span
from huracan_training.labels import TARGETS, fit_thresholds, known, labels
from huracan_training.scaling import fit_scaler
from huracan_training.splits import Fold, within

from .market import synthetic_bars

COUNT, HORIZON = 500, 8
BARS = synthetic_bars(COUNT)
WHOLE = asset(BARS)
CLOSE_NS = WHOLE.series.close_ns
TRAIN = Span(int(CLOSE_NS[0]), int(CLOSE_NS[300]))
NAMES = sorted(TARGETS)


def _horizon(name: str) -> int:
    return HORIZON if TARGETS[name].forward else 0


def _other_future(after: int) -> Asset:
    """Return the same bars up to a position, then others in their place."""
    shuffled = np.random.default_rng(5).permutation(np.arange(after + 1, COUNT))
    order = np.concatenate([np.arange(after + 1), shuffled])
    return asset(replace(BARS.take(order), open_ns=BARS.open_ns))


@pytest.mark.parametrize("at", [70, 180, 300, 431])
def test_another_future_leaves_rows_and_what_is_known_as_they_were(at: int) -> None:
    other = _other_future(at)
    np.testing.assert_array_equal(other.series.rows[: at + 1], WHOLE.series.rows[: at + 1])
    for name in NAMES:
        thresholds = fit_thresholds(TARGETS[name], _horizon(name), [(WHOLE, within(WHOLE, _horizon(name), TRAIN))])
        ours = known(labels(WHOLE, thresholds), _horizon(name))
        theirs = known(labels(other, thresholds), _horizon(name))
        np.testing.assert_array_equal(theirs[: at + 1], ours[: at + 1])


@settings(max_examples=15)
@given(st.integers(110, COUNT))
def test_a_history_that_ends_earlier_gives_the_same_up_to_its_end(count: int) -> None:
    cut = asset(BARS.take(np.arange(count)))
    np.testing.assert_array_equal(cut.series.rows, WHOLE.series.rows[:count])
    np.testing.assert_array_equal(cut.series.log_return, WHOLE.series.log_return[:count])
    for name in NAMES:
        horizon = _horizon(name)
        thresholds = fit_thresholds(TARGETS[name], horizon, [(WHOLE, within(WHOLE, horizon, TRAIN))])
        told = labels(cut, thresholds)
        np.testing.assert_array_equal(told[: count - horizon], labels(WHOLE, thresholds)[: count - horizon])
        np.testing.assert_array_equal(known(told, horizon), known(labels(WHOLE, thresholds), horizon)[:count])


@pytest.mark.parametrize("name", NAMES)
def test_thresholds_and_scales_change_with_training_rows_alone(name: str) -> None:
    horizon = _horizon(name)

    def fitted(each: Asset) -> tuple[bytes, bytes]:
        mask = within(each, horizon, TRAIN)
        return (
            fit_thresholds(TARGETS[name], horizon, [(each, mask)]).digest(),
            fit_scaler([(each.series, mask)]).digest(),
        )

    ours = fitted(WHOLE)
    assert fitted(_other_future(300)) == ours
    assert fitted(asset(BARS.take(np.arange(301)))) == ours
    louder = replace(BARS, **{key: getattr(BARS, key) * np.where(np.arange(COUNT) % 2, 1.0, 1.02) for key in VALUES})
    assert all(other != one for other, one in zip(fitted(asset(louder)), ours, strict=True))


def test_a_fold_is_the_same_whatever_comes_after_its_test() -> None:
    edges = [int(CLOSE_NS[at]) for at in (0, 250, 330, 400)]
    fold = Fold(train=Span(edges[0], edges[1]), valid=Span(edges[1], edges[2]), test=Span(edges[2], edges[3]))
    ours, theirs = (fold_samples([each], fold, "regime", HORIZON) for each in (WHOLE, _other_future(400)))
    assert ours.thresholds == theirs.thresholds
    for one, other in zip(
        (*ours.train, *ours.valid, *ours.test), (*theirs.train, *theirs.valid, *theirs.test), strict=True
    ):
        np.testing.assert_array_equal(one.at, other.at)
        np.testing.assert_array_equal(one.labels, other.labels)
