"""The benchmark: every model on the same walk-forward folds of the same rows, one of them judged beside the others."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS, SystemClock
from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan_flow.config import FlowConfig
from huracan_training import splits
from huracan_training.bars import Asset
from huracan_training.datasets import Dataset, fold_samples
from huracan_training.evaluation import Evaluation, Fold, Source, Study, evaluate
from huracan_training.implied import implied_errors
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.inputs import Question
from huracan_training.models.ordered_logit import OrderedLogit
from huracan_training.models.outlook import NAMES
from huracan_training.models.table import MODELS, Settings, Surroundings, make_model
from huracan_training.samples import Sample
from huracan_training.tasks import FLOW, OF_KIND, REGIME, Task
from huracan_training.transitions import run_lengths
from huracan_training.walk import Contender, Labelled, Walker, walked

TARGET = REGIME.name
DETECTOR = REGIME.model
"""The model of it that is trained where none is named."""
AROUND = REGIME.around
"""What every model is given that is fitted on bars."""
FLOW_TODAY = "flow_today"
"""The formula of the flow expert with the constants that it has, as a contender."""


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
    around: Surroundings | None = None,
    task: Task = REGIME,
) -> tuple[Contender, ...]:
    """Return registered models as contenders, nets from several seeds (those after the first from `seeds_beside`), the
    others from one.

    Settings, given by model, go on top of those of the task, and surroundings are the task's where none are given.
    Raises BadInput for a model that is not registered, and for settings or columns that it does not have.
    """
    given, beside = settings or {}, seeds if seeds_beside is None else seeds_beside
    question, around = task.question(horizon_bars), around or task.around
    return tuple(
        _contender(name, beside if place else seeds, question, task.settings_of(name, given.get(name, {})), around)
        for place, name in enumerate(dict.fromkeys(names))
    )


def rivals(task: Task, horizon_bars: int) -> tuple[Contender, ...]:
    """Return beside whom every model of a task is judged: for directions also the formula of the flow expert.

    Once fitted anew on each fold, and, over its own horizon, once with the constants that it has: those were fitted on
    a recording, so that where this one is judged on that, it has seen the answers.
    """
    found = registered(task.rivals, seeds=1, horizon_bars=horizon_bars, task=task)
    if task is not FLOW:
        return found
    today, question = FlowConfig(), task.question(horizon_bars)
    formulas = [Contender(name=OrderedLogit.name, make=lambda _room: OrderedLogit(question, MICRO.names))]
    if horizon_bars * STEP_NS == today.horizon_ms * MILLISECOND_NS:
        threshold = today.flat_threshold
        formulas.append(
            Contender(
                name=FLOW_TODAY,
                make=lambda _room: OrderedLogit(question, MICRO.names, flat_threshold=threshold),
                identity=today.digest().hex(),
            )
        )
    return (*found, *formulas)


def question_of(horizon_bars: int) -> Question:
    """Return what is asked of every detector: the regime of the bars of the horizon."""
    return REGIME.question(horizon_bars)


def _contender(name: str, seeds: int, question: Question, settings: Settings, around: Surroundings) -> Contender:
    make_model(name, question, settings, around)
    return Contender(
        name=name,
        make=lambda room: make_model(name, question, settings, replace(around, room=room)),
        settings=settings,
        identity=" ".join(FLOW.columns if around.order_flow else () if around.columns == NAMES else around.columns),
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
    clock, task = SystemClock(), OF_KIND[dataset.manifest.kind]
    started_ns = clock.now_ns()
    window_bars = folds[0].window_bars()
    forecasts = walked(
        folds, line.contenders, data_digest=dataset.digest, window_bars=window_bars, room=room, walker=walker
    )
    study = Study(
        model=line.judged,
        classes=task.classes,
        interval_ns=dataset.manifest.interval_ns,
        horizon_bars=line.horizon_bars,
        window_bars=window_bars,
        median_regime_bars=median_regime_bars(folds[0].samples.train),
        folds=tuple(_span(each) for each in folds),
        sources=tuple(_source(each, dataset, folds[0], len(task.classes)) for each in dataset.assets),
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
    return _labelled(dataset, _plan(dataset, folds).folds, horizon_bars)


def final_fold(dataset: Dataset, horizon_bars: int, *, folds: int = 5) -> Labelled:
    """Return the final fold, whose test rows no walk-forward fold has; raise BadInput where it has nothing to test."""
    (found,) = _labelled(dataset, [_plan(dataset, folds).final], horizon_bars)
    return replace(found, number=folds + 1)


def apart(folds: Sequence[Labelled]) -> list[Labelled]:
    """Return every fold once for each asset that it is tested on, with that one in none of its training rows.

    What was learned of the others is asked of a market that was not seen, after the time that was. Labels stay: their
    thresholds are those of the fold. Raises BadInput where no fold has two assets.
    """
    found: list[Labelled] = []
    for fold in folds:
        for test in fold.samples.test:
            train, valid = (_without(test.series.asset, part) for part in (fold.samples.train, fold.samples.valid))
            if train and valid:
                samples = replace(fold.samples, train=train, valid=valid, test=(test,))
                found.append(replace(fold, number=len(found) + 1, samples=samples))
    if not found:
        raise BadInput("there was no other asset to learn from: give recordings of several")
    return found


def _without(asset: str, samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(each for each in samples if each.series.asset != asset)


def _plan(dataset: Dataset, folds: int) -> splits.Plan:
    return dataset.plan(folds=folds, **OF_KIND[dataset.manifest.kind].splits)


def _labelled(dataset: Dataset, spans: Sequence[splits.Fold], horizon_bars: int) -> list[Labelled]:
    target, found = OF_KIND[dataset.manifest.kind].target, []
    for number, span in enumerate(spans, 1):
        samples = fold_samples(dataset.assets, span, target, horizon_bars)
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


def _source(asset: Asset, dataset: Dataset, first: Labelled, classes: int) -> Source:
    entry = next(each for each in dataset.manifest.assets if each.asset == asset.name)
    labels = [each.labels for each in first.samples.train if each.series.asset == asset.name]
    counts = np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *labels]), minlength=classes)
    return Source(
        asset=asset.name,
        digest=entry.source_digest,
        bars=entry.rows,
        missing_bars=entry.reliability.expected - entry.rows,
        from_ns=entry.first_ns,
        to_ns=entry.last_ns,
        train_shares=tuple((counts / max(1, counts.sum())).tolist()),
    )
