"""Walk forward: every model is fitted on each fold, asked about its test rows, and what it said is kept.

What was said is kept on disk as soon as it was, under a digest of everything it depends on: a benchmark of hours that
was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from huracan_training.datasets import FoldSamples
from huracan_training.evaluation import Forecast
from huracan_training.models import loop
from huracan_training.samples import Classifier, Floats, Integers, Sample
from huracan_training.splits import Fold
from huracan_training.transitions import Watch, alarm_scores, alarm_window, threshold_for_recall, trailing_ranks

FORMAT = 2
"""Raised by whoever changes what models answer, defaults among it: what was said before is then asked anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model that takes part."""

    name: str
    """In the report."""
    make: Callable[[Path], Classifier]
    """Return a new one, given a directory of its own to keep checkpoints in."""
    settings: Mapping[str, float | int] = field(default_factory=dict)
    """What it was made with: part of what its answers depend on."""
    identity: str = ""
    """Of what it is besides its settings, where that is something: part of what its answers depend on too."""
    seeds: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A fold with its samples."""

    number: int
    span: Fold
    samples: FoldSamples

    def window_bars(self) -> int:
        """Return how many bars before a change an alarm calls it: a quarter of the median regime of the train rows."""
        return alarm_window([each.labels for each in self.samples.train])


class Walker(loop.Watch, Protocol):
    """Is told how far it is, and how the nets are doing that were made to be watched by it."""

    def fitting(self, told: str, done: int, total: int) -> None:
        """Take what is fitted next, and how many of all are done."""
        ...


@dataclass(frozen=True, slots=True)
class _Said:
    probabilities: tuple[Floats, ...]
    """Of each test sample."""
    alarms: tuple[Floats, ...]
    threshold: float


def walked(
    folds: Sequence[Labelled],
    contenders: Sequence[Contender],
    *,
    data_digest: str,
    window_bars: int,
    room: Path,
    walker: Walker | None = None,
) -> list[Forecast]:
    """Return what every contender said of the test rows of every fold, once for each of its seeds.

    An alarm threshold is chosen on the valid rows of the fold, for the recall that is aimed at.
    """
    total = len(folds) * sum(len(each.seeds) for each in contenders)
    done = 0
    forecasts = []
    for contender in contenders:
        for fold in folds:
            for seed in contender.seeds:
                if walker is not None:
                    walker.fitting(f"{contender.name}, fold {fold.number}, seed {seed}", done, total)
                said = _said(contender, fold, seed, data_digest, window_bars, room)
                forecasts += _forecasts(contender.name, fold, seed, said)
                done += 1
    return forecasts


def digest_of(depends: Mapping[str, object]) -> str:
    """Return under what an answer is kept: a digest of what it depends on, and of `FORMAT`."""
    told = json.dumps({"format": FORMAT, **depends}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def _said(contender: Contender, fold: Labelled, seed: int, data_digest: str, window_bars: int, room: Path) -> _Said:
    depends = {
        "data": data_digest,
        "model": contender.name,
        "settings": dict(contender.settings),
        "identity": contender.identity,
        "fold": fold.samples.thresholds.canonical_json(),
        "rows": [len(each.at) for each in (*fold.samples.train, *fold.samples.valid, *fold.samples.test)],
        "window_bars": window_bars,
        "seed": seed,
    }
    name = digest_of(depends)
    kept = room / f"{contender.name}-{fold.number}-{seed}-{name}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        said = _asked(contender.make(room / name), fold.samples, seed, window_bars)
        part = kept.with_suffix(".part.npz")
        np.savez(part, said.threshold, *said.probabilities, *said.alarms)
        part.rename(kept)
    with np.load(kept, allow_pickle=False) as arrays:
        threshold, *told = (arrays[key] for key in arrays.files)
    tests = len(fold.samples.test)
    return _Said(tuple(told[:tests]), tuple(told[tests:]), float(threshold))


def _asked(model: Classifier, samples: FoldSamples, seed: int, window_bars: int) -> _Said:
    model.fit(samples.train, samples.valid, seed=seed)
    valid = [_expected(each, model.predict(each)) for each in samples.valid]
    watches = [
        watch(each, trailing_ranks(expected, np.zeros(0))) for each, expected in zip(samples.valid, valid, strict=True)
    ]
    threshold = threshold_for_recall(watches, window_bars)
    before = {each.series.asset: expected for each, expected in zip(samples.valid, valid, strict=True)}
    probabilities = tuple(model.predict(each) for each in samples.test)
    alarms = tuple(
        trailing_ranks(_expected(each, told), before.get(each.series.asset, np.zeros(0)))
        for each, told in zip(samples.test, probabilities, strict=True)
    )
    return _Said(probabilities, alarms, threshold)


def _expected(sample: Sample, probabilities: Floats) -> Floats:
    """Return how far a model expects another class than the newest that is known, shape (m,)."""
    return alarm_scores(probabilities, known_at(sample))


def watch(sample: Sample, score: Floats) -> Watch:
    """Return a model's alarms over a sample."""
    series = sample.series
    return Watch(
        group=series.asset,
        bar=series.close_ns[sample.at] // series.interval_ns,
        labels=sample.labels,
        score=score,
    )


def known_at(sample: Sample) -> Integers:
    """Return the newest label that was known at each position asked, shape (m,)."""
    return sample.known[sample.at]


def _forecasts(name: str, fold: Labelled, seed: int, said: _Said) -> list[Forecast]:
    return [
        Forecast(
            model=name,
            asset=sample.series.asset,
            fold=fold.number,
            seed=seed,
            at_ns=sample.series.close_ns[sample.at],
            labels=sample.labels,
            known=known_at(sample),
            probabilities=probabilities,
            alarm=alarms,
            alarm_threshold=said.threshold,
        )
        for sample, probabilities, alarms in zip(fold.samples.test, said.probabilities, said.alarms, strict=True)
    ]
