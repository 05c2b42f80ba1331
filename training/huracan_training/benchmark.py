"""The benchmark: every model on the same walk-forward folds of the same bars, one of them judged beside the others."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from huracan.clock import NANOSECONDS, SystemClock
from huracan.errors import BadInput
from huracan_training import splits
from huracan_training.bars import Asset
from huracan_training.datasets import Dataset, fold_samples
from huracan_training.evaluation import Evaluation, Fold, Source, Study, evaluate
from huracan_training.implied import implied_errors
from huracan_training.labels import HORIZON_BARS, TARGETS
from huracan_training.models.inputs import Question
from huracan_training.models.loop import LoopSettings
from huracan_training.models.outlook import NAMES
from huracan_training.models.table import MODELS, Settings, Surroundings, make_model
from huracan_training.samples import Sample
from huracan_training.transitions import run_lengths
from huracan_training.walk import Contender, Labelled, Walker, walked

TARGET = "regime"
DETECTOR = "distilled_cnn"
"""The model of it that is trained where none is named."""
AROUND = Surroundings(outlook=True, loop=LoopSettings(steps_per_epoch=100, patience=8, plateau_patience=3))
"""What every model is given that is fitted on bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Who takes part, and in what."""

    judged: str
    """Name of the contender that is judged beside the others."""
    contenders: tuple[Contender, ...]
    horizon_bars: int = HORIZON_BARS
    notes: tuple[str, ...] = ()
    """What a reader must know."""


def registered(
    names: Sequence[str],
    *,
    seeds: int,
    horizon_bars: int,
    seeds_beside: int | None = None,
    settings: Mapping[str, Settings] | None = None,
    around: Surroundings = AROUND,
) -> tuple[Contender, ...]:
    """Return registered models as contenders, nets from several seeds (those after the first from `seeds_beside`), the
    others from one.

    Raises BadInput for a model that is not registered, and for settings (given by model) or columns that it does not
    have.
    """
    given, question, beside = settings or {}, question_of(horizon_bars), seeds if seeds_beside is None else seeds_beside
    return tuple(
        _contender(name, beside if place else seeds, question, given.get(name, {}), around)
        for place, name in enumerate(dict.fromkeys(names))
    )


def question_of(horizon_bars: int) -> Question:
    """Return what is asked of every model: the regime of the bars of the horizon."""
    return Question(classes=len(TARGETS[TARGET].classes), horizon_bars=horizon_bars)


def _contender(name: str, seeds: int, question: Question, settings: Settings, around: Surroundings) -> Contender:
    make_model(name, question, settings, around)
    return Contender(
        name=name,
        make=lambda room: make_model(name, question, settings, replace(around, room=room)),
        settings=settings,
        identity="" if around.columns == NAMES else " ".join(around.columns),
        seeds=tuple(range(1, seeds + 1)) if MODELS[name].is_net else (1,),
    )


def judged_on(
    dataset: Dataset,
    folds: Sequence[Labelled],
    line: Line,
    *,
    room: Path,
    trials: int,
    walker: Walker | None = None,
) -> Evaluation:
    """Return the evaluation of one contender beside the others; what they said is kept in `room` on the way.

    `trials` is everything that was tried on these data before.
    """
    clock = SystemClock()
    started_ns = clock.now_ns()
    window_bars = folds[0].window_bars()
    forecasts = walked(
        folds, line.contenders, data_digest=dataset.digest, window_bars=window_bars, room=room, walker=walker
    )
    study = Study(
        model=line.judged,
        classes=TARGETS[TARGET].classes,
        interval_ns=dataset.manifest.interval_ns,
        horizon_bars=line.horizon_bars,
        window_bars=window_bars,
        median_regime_bars=median_regime_bars(folds[0].samples.train),
        folds=tuple(_span(each) for each in folds),
        sources=tuple(_source(each, dataset, folds[0]) for each in dataset.assets),
        data_digest=dataset.digest,
        trials=trials + sum(len(each.seeds) for each in line.contenders),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        wall_s=(clock.now_ns() - started_ns) / NANOSECONDS,
        notes=line.notes,
    )
    errors = implied_errors(folds, forecasts, dataset.assets, line.horizon_bars)
    return evaluate(study, forecasts, {each.name: each.series for each in dataset.assets}, errors)


def walk_forward_folds(dataset: Dataset, folds: int, horizon_bars: int) -> list[Labelled]:
    """Return the walk-forward folds of a dataset with their samples; raise BadInput where one has nothing to test."""
    return _labelled(dataset, dataset.plan(folds=folds).folds, horizon_bars)


def final_fold(dataset: Dataset, horizon_bars: int, *, folds: int = 5) -> Labelled:
    """Return the final fold, whose test rows no walk-forward fold has; raise BadInput where it has nothing to test."""
    (found,) = _labelled(dataset, [dataset.plan(folds=folds).final], horizon_bars)
    return replace(found, number=folds + 1)


def _labelled(dataset: Dataset, spans: Sequence[splits.Fold], horizon_bars: int) -> list[Labelled]:
    found = []
    for number, span in enumerate(spans, 1):
        samples = fold_samples(dataset.assets, span, TARGET, horizon_bars)
        if not samples.train or not samples.valid or not samples.test:
            raise BadInput(f"fold {number} of {len(spans)} had nothing to test on: give more history, or fewer folds")
        found.append(Labelled(number=number, span=span, samples=samples))
    return found


def median_regime_bars(train: Sequence[Sample]) -> float:
    """Return the median length of runs of equal labels, in bars."""
    return float(np.median(np.concatenate([run_lengths(each.labels) for each in train])))


def _span(fold: Labelled) -> Fold:
    span = fold.span
    return Fold(
        number=fold.number,
        train_from_ns=span.train.from_ns,
        train_to_ns=span.train.to_ns,
        test_from_ns=span.test.from_ns,
        test_to_ns=span.test.to_ns,
    )


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
