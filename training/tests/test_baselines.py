"""Baselines that need no features, against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan.features.outlook import LIMIT
from huracan_training.models.baselines import Majority, MarkovChain, Persistence
from huracan_training.models.inputs import Question, fitted_scaler, summaries
from huracan_training.samples import UNKNOWN, Sample, Series
from huracan_training.scaling import Method, Scaler

QUESTION = Question(classes=3, horizon_bars=2)


def sample_of(labels: list[int], *, repeat: int = 1, first: int = 70) -> Sample:
    """Return a sample whose label at each bar from `first` on is given, and known two bars later."""
    every = np.concatenate([np.zeros(first, dtype=np.int64), np.tile(labels, repeat)])
    bars = len(every)
    series = Series(
        asset="AAA",
        interval_ns=1,
        close_ns=np.arange(bars),
        log_return=np.zeros(bars),
        rows=np.zeros((bars, 1), dtype=np.float32),
    )
    known = np.concatenate([np.full(first + 2, UNKNOWN), every[first:-2]]).astype(np.int64)
    return Sample(series=series, at=np.arange(first, bars), labels=every[first:], known=known)


def test_majority_says_the_shares_of_train() -> None:
    model = Majority(QUESTION)
    model.fit([sample_of([0, 0, 1])], [], seed=1)
    np.testing.assert_allclose(model.predict(sample_of([2, 2])), [[3 / 6, 2 / 6, 1 / 6]] * 2)


def test_persistence_says_what_followed_the_known_label() -> None:
    model = Persistence(QUESTION)
    train = sample_of([0, 0, 1, 1], repeat=3)
    model.fit([train], [], seed=1)
    asked = replace(train, at=train.at[:4], labels=train.labels[:4], known=np.full_like(train.known, 0))
    # two bars after a 0 came a 1, six times; one of each is counted before
    np.testing.assert_allclose(model.predict(asked)[0], [1 / 9, 7 / 9, 1 / 9])
    unknown = replace(asked, known=np.full_like(train.known, UNKNOWN))
    np.testing.assert_allclose(model.predict(unknown)[0], model.predict(unknown)[3])


def test_a_markov_chain_steps_from_the_known_label_over_the_horizon() -> None:
    model = MarkovChain(QUESTION, half_life_bars=1e12)
    train = sample_of([0, 1, 0, 1, 0, 1, 0])
    model.fit([train], [], seed=1)
    # known in train: 0 1 0 1 0, so twice 0 to 1, twice 1 to 0, from one of each
    prior = np.array([[1, 3, 1], [3, 1, 1], [1, 1, 1]]) / [[5], [5], [3]]
    asked = sample_of([0, 1, 0, 0])
    known = asked.known[asked.known != UNKNOWN]
    counts = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]]) + 3 * prior
    wanted = np.linalg.matrix_power(counts / counts.sum(axis=1, keepdims=True), 2)[known[-1]]
    answers = model.predict(asked)
    np.testing.assert_allclose(answers[-1], wanted, rtol=1e-9)
    np.testing.assert_allclose(answers[0], [5 / 10, 4 / 10, 1 / 10])


def test_a_markov_chain_forgets_and_finds_how_fast_on_valid() -> None:
    changed = sample_of([0, 0, 0, 0], repeat=200)
    alternating = sample_of([0, 1], repeat=400)
    fast, slow = (MarkovChain(QUESTION, half_life_bars=bars) for bars in (10.0, 1e6))
    both = replace(changed, known=np.concatenate([alternating.known, changed.known])[: len(changed.known)])
    for model in (fast, slow):
        model.fit([alternating], [], seed=1)
    assert fast.predict(changed)[-1, 0] > slow.predict(both)[-1, 0]
    model = MarkovChain(QUESTION)
    with pytest.raises(BadInput, match="valid had no positions"):
        model.fit([alternating], [], seed=1)
    model.fit([alternating], [changed], seed=1)
    assert model.predict(changed)[-1, 0] > 0.9


def test_summaries_leave_out_what_is_missing() -> None:
    rows = np.arange(130, dtype=np.float32).reshape(65, 2)
    rows[3, 0] = np.nan
    rows[:, 1] = np.nan
    found = summaries(rows, np.array([63, 64]))
    window = np.delete(rows[:64, 0], 3)
    np.testing.assert_allclose(found[0, ::2], [126, window.mean(), window.std(), 126], rtol=1e-6)
    assert np.isnan(found[:, 1::2]).all()
    assert summaries(rows, np.array([], dtype=np.int64)).shape == (0, 8)


def test_scaling_is_fitted_on_the_windows_of_train_alone() -> None:
    sample = sample_of([0] * 40)
    rows = np.arange(110, dtype=np.float32)[:, None]
    rows[100:] = 1e6
    few = replace(sample, series=replace(sample.series, rows=rows), at=sample.at[:11], labels=sample.labels[:11])
    scaling = fitted_scaler([few], Method.STANDARD)
    window = np.arange(7, 81)
    scaled = scaling.scaled(few.series)
    np.testing.assert_allclose(scaled[7:81, 0], (window - window.mean()) / window.std(), rtol=1e-5)
    assert scaled[100, 0] == LIMIT
    np.testing.assert_allclose(scaling.scaled(replace(few.series, asset="NEW")), scaled)
    again = Scaler.model_validate(scaling.model_dump(mode="json"))
    assert again.scaled(few.series).tobytes() == scaled.tobytes()


def test_samples_that_no_model_can_use_are_refused_by_field() -> None:
    sample = sample_of([0, 1])
    wide = replace(sample, series=replace(sample.series, rows=np.zeros((72, 2), dtype=np.float32)))
    refused = {
        "rows had": [sample, wide],
        "known had": [replace(sample, known=sample.known[1:])],
        "labels of AAA were 1 for 2": [replace(sample, labels=sample.labels[:1])],
        "train had no positions": [],
    }
    for message, samples in refused.items():
        with pytest.raises(BadInput, match=message):
            Majority(QUESTION).fit(samples, [], seed=1)
