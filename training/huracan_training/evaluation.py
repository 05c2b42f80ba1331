"""The evaluation of a model against baselines on walk-forward test folds: what a report tells, and nothing else.

All models are asked about the same rows. Rows of several assets and seeds at one time are resampled together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from huracan.errors import BadInput
from huracan_training.bootstrap import (
    REPLICATES,
    Interval,
    bootstrapped,
    by_time,
    interval,
    mean_block,
    resampled_sums,
)
from huracan_training.chance import generator
from huracan_training.comparisons import Comparison, Verdict, assets_beaten, compared, judged
from huracan_training.regression import ErrorScores
from huracan_training.returns import Costs
from huracan_training.samples import UNKNOWN, Floats, Integers, Series
from huracan_training.scores import (
    ClassScores,
    Reliability,
    Scores,
    balanced_accuracy,
    briers,
    calibration_gaps,
    class_reliability,
    confusions,
    log_losses,
    macro_f1,
    reliability,
    scored,
    scored_by_class,
)
from huracan_training.trading import HOLDING, Trading, traded
from huracan_training.transitions import (
    DAY_NS,
    RECALL_GOAL,
    Curve,
    TransitionScores,
    Watch,
    curve,
    marked,
    transitions_scored,
)

FEWEST_FOLDS, FEWEST_SEEDS, FEWEST_ASSETS = 5, 3, 6
LARGEST_P = 0.01
LARGEST_PBO = 0.2
_DAYS = 20
"""Blocks of a day from which an interval can be told."""
RIVALS = ("persistence", "hmm", "random_forest")
"""Baselines to beat asset by asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one model, fitted from one seed, said of one asset in one test fold."""

    model: str
    asset: str
    fold: int
    seed: int
    at_ns: Integers
    """Close of the bar at which it was asked, ascending, shape (m,)."""
    labels: Integers
    """What then was, in [0, classes), shape (m,)."""
    known: Integers
    """Newest label whose horizon had ended by then, UNKNOWN where none, shape (m,)."""
    probabilities: Floats
    """Shape (m, classes), rows of sum 1."""
    alarm: Floats
    """How much a change was expected, any scale, shape (m,)."""
    alarm_threshold: float
    """An alarm is raised from here on: chosen on the valid rows of the fold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """When a fold was trained and tested; the gap between is at least the label horizon."""

    number: int
    train_from_ns: int
    train_to_ns: int
    test_from_ns: int
    test_to_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The data of one asset."""

    asset: str
    digest: str
    bars: int
    missing_bars: int
    from_ns: int
    to_ns: int
    train_shares: tuple[float, ...]
    """Share of each class in the train rows of the first fold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What was asked: everything about an evaluation but the forecasts."""

    model: str
    """The one to be judged."""
    classes: tuple[str, ...]
    interval_ns: int
    """Of a bar."""
    horizon_bars: int
    """Bars that a label looks ahead."""
    window_bars: int
    """Bars before a change in which an alarm calls it."""
    median_regime_bars: float
    """Of the train labels; the window is at most a quarter of it."""
    folds: tuple[Fold, ...]
    sources: tuple[Source, ...]
    data_digest: str
    trials: int
    """Everything that was tried on this data, hyper-parameter searches and earlier runs included."""
    trial_sharpes: tuple[float, ...] = ()
    """Sharpe ratios per bar of what was tried, as far as they are known; else those of the models compared here."""
    costs: Costs = field(default_factory=Costs)
    machine: str = ""
    wall_s: float = 0.0
    """How long training and prediction took."""
    notes: tuple[str, ...] = ()
    """What a reader must know: what the machine allowed, what was left out."""
    seed: int = 1
    """Of the resampling."""
    replicates: int = REPLICATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """How changes of regime were called, over all seeds together."""

    scores: TransitionScores
    recall: Interval
    precision: Interval
    curve: Curve
    """At thresholds moved away from the chosen ones, which are 0 here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """How one model did on all test rows, over all its seeds."""

    name: str
    seeds: tuple[int, ...]
    scores: Scores
    intervals: Mapping[str, Interval]
    """Of each score, 95 %, by name."""
    by_asset: Mapping[str, Scores]
    by_fold: Mapping[str, Scores]
    by_seed: Mapping[str, Scores]
    by_known_regime: Mapping[str, Scores]
    """By the newest regime that was known when the model was asked."""
    by_class: tuple[ClassScores, ...]
    confusion: Floats
    """Rows are what was, columns what was forecast, shape (K, K)."""
    reliability: Reliability
    class_reliability: tuple[Reliability, ...]
    transitions: Transitions
    trading: Trading | None
    """None where the classes say nothing that a position can be taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What was aimed at, what was reached, and whether that is enough."""

    text: str
    reached: str
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluation found: the judged model first."""

    study: Study
    models: tuple[ModelResult, ...]
    comparisons: tuple[Comparison, ...]
    """Of the judged model with each other, on all assets together and on each."""
    holding: Trading | None
    """An equal share of every asset, bought once."""
    assets_beaten: tuple[str, ...]
    """Assets in which the judged model beats persistence, HMM and random forest, each with an interval above zero."""
    verdict: Verdict
    claims: tuple[Claim, ...]
    errors: Mapping[str, Mapping[str, ErrorScores]]
    """Of numbers that were forecast, by what they are, with their unit, and by model."""

    @property
    def judged(self) -> ModelResult:
        """Return the result of the judged model."""
        return self.models[0]


def evaluate(
    study: Study,
    forecasts: Sequence[Forecast],
    series: Mapping[str, Series],
    errors: Mapping[str, Mapping[str, ErrorScores]] | None = None,
) -> Evaluation:
    """Return the evaluation of `study.model` against every other model in the forecasts.

    `series` by asset gives the returns that positions earn; `errors` are of numbers forecast beside classes, by what
    they are, the unit in the name, and by model. Raise BadInput where the judged model is missing, or a model was not
    asked about the same rows as the judged one.
    """
    by_model: dict[str, list[Forecast]] = {study.model: []}
    for each in forecasts:
        by_model.setdefault(each.model, []).append(each)
    if not by_model[study.model]:
        raise BadInput(f"{study.model} is to be judged but has no forecast; give those of its test folds")
    trades = traded(study, by_model, series)
    models = tuple(_result(study, name, each, trades.get(name)) for name, each in by_model.items())
    comparisons = tuple(
        comparison for name in by_model if name != study.model for comparison in _compared(study, by_model, name)
    )
    beaten = assets_beaten(comparisons, RIVALS)
    verdict = judged(comparisons)
    return Evaluation(
        study=study,
        models=models,
        comparisons=comparisons,
        holding=trades.get(HOLDING),
        assets_beaten=beaten,
        verdict=verdict,
        claims=_claims(study, models[0], verdict, beaten),
        errors=errors or {},
    )


def _result(study: Study, name: str, forecasts: Sequence[Forecast], trading: Trading | None) -> ModelResult:
    labels = np.concatenate([each.labels for each in forecasts])
    probabilities = np.concatenate([each.probabilities for each in forecasts])
    known = np.concatenate([each.known for each in forecasts])
    regimes = {name: known == of for of, name in enumerate(study.classes)}
    if (known == UNKNOWN).any():
        regimes["unknown"] = known == UNKNOWN

    def by(part: str) -> dict[str, Scores]:
        names = np.concatenate([np.full(each.labels.size, str(getattr(each, part))) for each in forecasts])
        return {str(each): scored(labels[names == each], probabilities[names == each]) for each in np.unique(names)}

    return ModelResult(
        name=name,
        seeds=tuple(sorted({each.seed for each in forecasts})),
        scores=scored(labels, probabilities),
        intervals=_intervals(study, forecasts, labels, probabilities),
        by_asset=by("asset"),
        by_fold=by("fold"),
        by_seed=by("seed"),
        by_known_regime={each: scored(labels[mask], probabilities[mask]) for each, mask in regimes.items()},
        by_class=scored_by_class(labels, probabilities),
        confusion=confusions(labels, probabilities),
        reliability=reliability(labels, probabilities),
        class_reliability=tuple(class_reliability(labels, probabilities, of) for of in range(len(study.classes))),
        transitions=_transitions(study, forecasts),
        trading=trading,
    )


def _intervals(
    study: Study, forecasts: Sequence[Forecast], labels: Integers, probabilities: Floats
) -> dict[str, Interval]:
    """Return the interval of each score: sums by time of what it is made of, resampled in blocks."""
    classes = probabilities.shape[1]
    pairs = np.eye(classes * classes)[labels * classes + probabilities.argmax(axis=1)]
    gaps = calibration_gaps(labels, probabilities)
    columns = np.column_stack([log_losses(labels, probabilities), briers(labels, probabilities), pairs, gaps])
    times, sums = by_time(np.concatenate([each.at_ns for each in forecasts]), columns)

    def tables(rows: Floats) -> Floats:
        return rows[:, 2 : 2 + classes**2].reshape(-1, classes, classes)

    statistics: dict[str, Callable[[Floats], Floats]] = {
        "log_loss": lambda rows: rows[:, 0] / rows[:, -1],
        "brier": lambda rows: rows[:, 1] / rows[:, -1],
        "accuracy": lambda rows: np.trace(tables(rows), axis1=1, axis2=2) / rows[:, -1],
        "balanced_accuracy": lambda rows: balanced_accuracy(tables(rows)),
        "macro_f1": lambda rows: macro_f1(tables(rows)),
        "ece": lambda rows: np.abs(rows[:, 2 + classes**2 : -1]).sum(axis=1) / rows[:, -1],
    }
    block = mean_block(times.size, study.horizon_bars)
    replicates = resampled_sums(sums, block, generator(study.seed, "scores"), replicates=study.replicates)
    whole = sums.sum(axis=0, keepdims=True)
    return {name: interval(float(each(whole)[0]), each(replicates)) for name, each in statistics.items()}


def turns_block(count: int, *, horizon: int, interval_ns: int) -> float:
    """Return the mean length of a block of turns, in rows, given how many rows there are: a day.

    Where there are few days it is as long as for the other scores: resampled in a handful of blocks nothing varies.
    """
    block, day = mean_block(count, horizon), DAY_NS / interval_ns
    return max(block, day) if count >= _DAYS * day else block


def _transitions(study: Study, forecasts: Sequence[Forecast]) -> Transitions:
    watches = [_watch(each, study.interval_ns) for each in forecasts]
    marks = np.concatenate([marked(watch, 0.0, study.window_bars) for watch in watches])
    times, sums = by_time(np.concatenate([each.at_ns for each in forecasts]), marks)
    block = turns_block(times.size, horizon=study.horizon_bars, interval_ns=study.interval_ns)
    recall, precision = (
        bootstrapped(
            sums,
            partial(_share, part, whole),
            block,
            generator(study.seed, "transitions"),
            replicates=study.replicates,
        )
        for part, whole in ((1, 0), (3, 2))
    )
    return Transitions(
        scores=transitions_scored(
            watches,
            0.0,
            study.window_bars,
            study.interval_ns,
            generator(study.seed, "turns"),
            permutations=study.replicates,
        ),
        recall=recall,
        precision=precision,
        curve=curve(watches, study.window_bars),
    )


def _watch(forecast: Forecast, interval_ns: int) -> Watch:
    """Return a forecast's alarms with the threshold at 0, so that those of folds and seeds can be joined."""
    return Watch(
        group=f"fold {forecast.fold}",
        bar=forecast.at_ns // interval_ns,
        labels=forecast.labels,
        score=forecast.alarm - forecast.alarm_threshold,
    )


def _compared(study: Study, by_model: Mapping[str, Sequence[Forecast]], name: str) -> list[Comparison]:
    assets = sorted({each.asset for each in by_model[study.model]})
    mine, theirs = (_row_losses(by_model[model], assets) for model in (study.model, name))
    told = []
    for asset in ("", *assets):
        rows = [part[asset] for part in (mine, theirs)] if asset else [_joined(part) for part in (mine, theirs)]
        (at_ns, losses), (other_at_ns, other_losses) = rows
        if not np.array_equal(at_ns, other_at_ns):
            raise BadInput(
                f"{name} was not asked about the same rows as {study.model}"
                f"{f' in {asset}' if asset else ''}; predict the same test folds with both"
            )
        told.append(
            compared(
                losses,
                other_losses,
                at_ns,
                study.horizon_bars,
                generator(study.seed, "comparison"),
                baseline=name,
                asset=asset,
                replicates=study.replicates,
            )
        )
    return told


def _row_losses(forecasts: Sequence[Forecast], assets: Sequence[str]) -> dict[str, tuple[Integers, Floats]]:
    """Return times and log losses of each asset: the mean over seeds where there are several."""
    told = {}
    for asset in assets:
        own = [each for each in forecasts if each.asset == asset]
        at_ns = np.concatenate([np.zeros(0, dtype=np.int64), *(each.at_ns for each in own)])
        losses = np.concatenate([np.zeros(0), *(log_losses(each.labels, each.probabilities) for each in own)])
        times, sums = by_time(at_ns, losses[:, None])
        told[asset] = times, sums[:, 0] / sums[:, 1]
    return told


def _joined(by_asset: Mapping[str, tuple[Integers, Floats]]) -> tuple[Integers, Floats]:
    return np.concatenate([at for at, _ in by_asset.values()]), np.concatenate([each for _, each in by_asset.values()])


def _claims(study: Study, model: ModelResult, verdict: Verdict, beaten: Sequence[str]) -> tuple[Claim, ...]:
    scores, folds, seeds = model.transitions.scores, len(study.folds), len(model.seeds)
    claims = [
        Claim(
            text="Beats random forest and persistence on log loss, all assets together, interval above zero",
            reached=". ".join(verdict.reasons),
            held=verdict.promoted,
        ),
        Claim(
            text=f"Beats persistence, HMM and random forest on log loss, each interval above zero, on "
            f"≥ {FEWEST_ASSETS} assets",
            reached=f"{len(beaten)} of {len(model.by_asset)} assets" + (f": {', '.join(beaten)}" if beaten else ""),
            held=len(beaten) >= FEWEST_ASSETS,
        ),
        Claim(
            text=f"Transition recall ≥ {RECALL_GOAL:.2f} at a precision above chance (p < {LARGEST_P}), "
            "alarm window ≤ a quarter of the median regime",
            reached=f"recall {scores.recall:.3f}, precision {scores.precision:.3f} against "
            f"{scores.chance_precision:.3f} by chance, p = {scores.p_precision:.4f}; "
            f"window {study.window_bars} bars, median regime {study.median_regime_bars:g} bars",
            held=scores.recall >= RECALL_GOAL
            and scores.p_precision < LARGEST_P
            and study.window_bars <= study.median_regime_bars / 4,
        ),
        Claim(
            text=f"Walk-forward over ≥ {FEWEST_FOLDS} folds and ≥ {FEWEST_SEEDS} seeds",
            reached=f"{folds} folds, {seeds} {'seed' if seeds == 1 else 'seeds'}",
            held=folds >= FEWEST_FOLDS and seeds >= FEWEST_SEEDS,
        ),
    ]
    if model.trading is not None and model.trading.monte_carlo is not None:
        found = model.trading.monte_carlo
        claims.append(
            Claim(
                text=f"Monte Carlo: 5th percentile of the Sharpe ratio above 0 and PBO < {LARGEST_PBO}",
                reached=f"5th percentile {found.resampled.sharpe_5th:+.2f} a year, PBO {found.pbo:.2f}",
                held=found.passed,
            )
        )
    return tuple(claims)


def _share(part: int, whole: int, rows: Floats) -> Floats:
    """Return one column over another, NaN where that is 0."""
    ratios: Floats = np.divide(
        rows[:, part], rows[:, whole], out=np.full(rows.shape[0], np.nan), where=rows[:, whole] > 0
    )
    return ratios
