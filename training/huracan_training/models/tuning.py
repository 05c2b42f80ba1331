"""Search for settings with Optuna; every trial is logged, or the number of trials is a lie (DOMAIN §7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import optuna

from huracan.errors import BadInput, HuracanError
from huracan_training.chance import seed_of
from huracan_training.models.inputs import all_labels
from huracan_training.samples import Classifier, Floats, Sample
from huracan_training.scores import log_losses

TRIALS = 50


@dataclass(frozen=True, slots=True)
class Between:
    """A number in [low, high]."""

    low: float
    high: float
    log: bool = False
    """Draw evenly in the logarithm."""
    whole: bool = False


Space = Mapping[str, Between]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One split in time: learn, then decide when to stop, then be judged; gaps are the caller's."""

    train: Sequence[Sample]
    valid: Sequence[Sample]
    judged: Sequence[Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One set of settings that was tried."""

    number: int
    settings: Mapping[str, float | int]
    losses: tuple[float, ...]
    """Log loss on the judged part of each fold, in nats; those before the failure, if it failed."""
    failure: str
    """Why it failed; empty if it did not."""

    @property
    def loss(self) -> float:
        """Return the mean loss; infinite for a failure."""
        return float("inf") if self.failure else float(np.mean(self.losses))


class TrialLog(Protocol):
    """Keeps trials, failed ones too."""

    def recall(self, number: int, settings: Mapping[str, float | int]) -> Trial | None:
        """Return the trial of a number and settings, if it ended in an earlier run of the same search."""
        ...

    def record(self, trial: Trial) -> None:
        """Keep one trial; called as soon as it has ended."""
        ...


def tune(
    make: Callable[[Mapping[str, float | int]], Classifier],
    space: Space,
    folds: Sequence[Fold],
    *,
    seed: int,
    log: TrialLog,
    trials: int = TRIALS,
) -> tuple[Trial, ...]:
    """Return all trials, the best first: TPE over the space, the mean log loss over the folds.

    A model that cannot be fitted with some settings is a failed trial, not the end; raise BadInput when all fail.
    Trials that the log recalls are not fitted again: a search that was stopped ends as it would have.
    """
    if not space:
        raise BadInput("space was empty; this model has nothing to tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed_of(seed, "tuning")))
    done: list[Trial] = []
    for number in range(trials):
        asked = study.ask()
        settings = {name: _suggested(asked, name, between) for name, between in space.items()}
        trial = log.recall(number, settings)
        if trial is None:
            trial = _tried(number, make, settings, folds, seed)
            log.record(trial)
        if trial.failure:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, trial.loss)
        done.append(trial)
    if all(trial.failure for trial in done):
        raise BadInput(f"every one of {trials} trials failed, the last because: {done[-1].failure}")
    return tuple(sorted(done, key=lambda trial: trial.loss))


def _suggested(asked: optuna.trial.Trial, name: str, between: Between) -> float | int:
    if between.whole:
        return asked.suggest_int(name, int(between.low), int(between.high), log=between.log)
    return asked.suggest_float(name, between.low, between.high, log=between.log)


def _tried(
    number: int,
    make: Callable[[Mapping[str, float | int]], Classifier],
    settings: Mapping[str, float | int],
    folds: Sequence[Fold],
    seed: int,
) -> Trial:
    losses: list[float] = []
    try:
        for fold in folds:
            model = make(settings)
            model.fit(fold.train, fold.valid, seed=seed)
            losses.append(float(losses_of(model, fold.judged).mean()))
    except HuracanError as error:
        return Trial(number=number, settings=settings, losses=tuple(losses), failure=str(error))
    return Trial(number=number, settings=settings, losses=tuple(losses), failure="")


def losses_of(model: Classifier, samples: Sequence[Sample]) -> Floats:
    """Return the log loss of a fitted model at each position of some samples, one after another, in nats."""
    return log_losses(all_labels(samples), np.concatenate([model.predict(sample) for sample in samples]))
