"""The benchmark: every model on the same walk-forward folds of the same bars, one of them judged beside the others."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huracan.clock import NANOSECONDS, SystemClock
from huracan.errors import BadInput
from huracan_training.bars import Asset
from huracan_training.datasets import Dataset, fold_samples
from huracan_training.evaluation import Evaluation, Fold, Source, Study, evaluate
from huracan_training.labels import HORIZON_BARS, TARGETS
from huracan_training.models.inputs import Question
from huracan_training.models.loop import LoopSettings
from huracan_training.models.table import MODELS, Settings, Surroundings, make_model
from huracan_training.samples import Sample
from huracan_training.transitions import run_lengths
from huracan_training.walk import Contender, Labelled, Walker, walked

TARGET = "regime"
NETS = ("lstm", "strided_cnn", "causal_tcn")
"""Models that start from chance: they are fitted from several seeds."""
NET_STEPS_PER_EPOCH = 300
"""Of batches drawn anew each epoch: what lets an LSTM end within the hour on two cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is benchmarked."""

    judged: str
    models: tuple[str, ...] = tuple(MODELS)
    seeds: int = 3
    """Of each net; the others are the same from every seed, or nearly so."""
    folds: int = 5
    horizon_bars: int = HORIZON_BARS
    settings: Mapping[str, Settings] | None = None
    """By model, where they are not its own."""

    def contenders(self) -> list[Contender]:
        """Return the models, the judged one first; raise BadInput for one that is not registered."""
        names = [self.judged, *(name for name in self.models if name != self.judged)]
        return [self._contender(name) for name in names]

    def _contender(self, name: str) -> Contender:
        question = Question(classes=len(TARGETS[TARGET].classes), horizon_bars=self.horizon_bars)
        settings = (self.settings or {}).get(name, {})
        loop = LoopSettings(steps_per_epoch=NET_STEPS_PER_EPOCH)
        make_model(name, question, settings)
        return Contender(
            name=name,
            make=lambda room: make_model(name, question, settings, Surroundings(loop=loop, room=room)),
            settings=settings,
            seeds=tuple(range(1, self.seeds + 1)) if name in NETS else (1,),
        )


def benchmarked(dataset: Dataset, asked: Asked, *, room: Path, trials: int, walker: Walker | None = None) -> Evaluation:
    """Return the evaluation of the judged model on walk-forward folds; what was said is kept in `room` on the way.

    `trials` is everything that was tried on these data before. Raises BadInput for data that give no folds.
    """
    clock = SystemClock()
    started_ns = clock.now_ns()
    folds = labelled_folds(dataset, asked.folds, asked.horizon_bars)
    window_bars = max(1, folds[0].window_bars())
    contenders = asked.contenders()
    forecasts = walked(folds, contenders, data_digest=dataset.digest, window_bars=window_bars, room=room, walker=walker)
    study = Study(
        model=asked.judged,
        classes=TARGETS[TARGET].classes,
        interval_ns=dataset.manifest.interval_ns,
        horizon_bars=asked.horizon_bars,
        window_bars=window_bars,
        median_regime_bars=median_regime_bars(folds[0].samples.train),
        folds=tuple(_spans(dataset, asked.folds)),
        sources=tuple(_source(each, dataset, folds[0]) for each in dataset.assets),
        data_digest=dataset.digest,
        trials=trials + sum(len(each.seeds) for each in contenders),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        wall_s=(clock.now_ns() - started_ns) / NANOSECONDS,
    )
    return evaluate(study, forecasts, {each.name: each.series for each in dataset.assets})


def labelled_folds(dataset: Dataset, folds: int, horizon_bars: int) -> list[Labelled]:
    """Return the walk-forward folds of a dataset with their samples; raise BadInput where one has nothing to test."""
    plan = dataset.plan(folds=folds)
    found = []
    for number, fold in enumerate(plan.folds, 1):
        samples = fold_samples(dataset.assets, fold, TARGET, horizon_bars)
        if not samples.valid or not samples.test:
            raise BadInput(f"fold {number} of {folds} had nothing to test on: give more history, or fewer folds")
        found.append(Labelled(number=number, samples=samples))
    return found


def median_regime_bars(train: Sequence[Sample]) -> float:
    """Return the median length of runs of equal labels, in bars."""
    return float(np.median(np.concatenate([run_lengths(each.labels) for each in train])))


def _spans(dataset: Dataset, folds: int) -> list[Fold]:
    return [
        Fold(
            number=number,
            train_from_ns=fold.train.from_ns,
            train_to_ns=fold.train.to_ns,
            test_from_ns=fold.test.from_ns,
            test_to_ns=fold.test.to_ns,
        )
        for number, fold in enumerate(dataset.plan(folds=folds).folds, 1)
    ]


def _source(asset: Asset, dataset: Dataset, first: Labelled) -> Source:
    entry = next(each for each in dataset.manifest.assets if each.asset == asset.name)
    labels = [each.labels for each in first.samples.train if each.series.asset == asset.name]
    counts = np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *labels]), minlength=len(TARGETS[TARGET].classes))
    return Source(
        asset=asset.name,
        digest=entry.source_digest,
        bars=entry.rows,
        missing_bars=entry.reliability.expected - entry.rows,
        from_ns=entry.first_ns,
        to_ns=entry.last_ns,
        train_shares=tuple((counts / max(1, counts.sum())).tolist()),
    )
