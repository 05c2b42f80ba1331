"""Choose settings and columns of a model on walk-forward folds: the bars of the final fold are never looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from huracan.errors import BadInput, Fatal
from huracan_training.benchmark import AROUND, question_of, walk_forward_folds
from huracan_training.datasets import Dataset
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.keeping import read_state, write_state
from huracan_training.models.outlook import NAMES, fit_outlook
from huracan_training.models.pruning import FITS, Pruning, prune
from huracan_training.models.table import MODELS, Settings, make_model
from huracan_training.models.tuning import Fold, Space, Trial, tune
from huracan_training.registry import Registry
from huracan_training.samples import Classifier
from huracan_training.walk import Labelled, Walker, digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The model for which something is chosen, and on what."""

    model: str
    settings: Settings
    """Those that are held."""
    folds: int = 5
    seed: int = 1
    horizon_bars: int = HORIZON_BARS

    def space(self) -> Space:
        """Return what there is to search; raise BadInput for a model or setting there is not, or nothing to search."""
        make_model(self.model, question_of(self.horizon_bars), self.settings, AROUND)
        space = {name: between for name, between in MODELS[self.model].space.items() if name not in self.settings}
        if not space:
            have = ", ".join(name for name, row in MODELS.items() if row.space)
            raise BadInput(f"{self.model} has no settings to search; choose one of {have}")
        return space

    def require_columns(self) -> None:
        """Raise BadInput for a model or setting there is not, and for a model that looks at no columns."""
        make_model(self.model, question_of(self.horizon_bars), self.settings, AROUND)
        if not MODELS[self.model].sees_rows:
            have = ", ".join(name for name, row in MODELS.items() if row.sees_rows)
            raise BadInput(f"{self.model} looks at no columns, and has none to leave out; choose one of {have}")

    def parameters(self) -> dict[str, object]:
        """Return what the registry is told of it."""
        chosen = {"model": self.model, "folds": self.folds, "seed": self.seed, "horizon_bars": self.horizon_bars}
        return chosen | dict(self.settings)


class TrialFailed(Fatal):
    """A model could not be fitted with the settings of a trial."""


class Search:
    """A search for settings: each trial is in the registry as soon as it ends, and in a room to go on from; a TrialLog.

    Trials are kept under a digest of data, model, space and all else that they depend on, but for how many there are.
    """

    def __init__(
        self,
        dataset: Dataset,
        choice: Choice,
        registry: Registry,
        *,
        experiment: str,
        room: Path,
        walker: Walker | None = None,
    ) -> None:
        """Begin, or go on with what is in the room; raise BadInput where there is nothing to search."""
        self._dataset, self._choice, self._space = dataset, choice, choice.space()
        self._registry, self._experiment = registry, experiment
        self._room, self._walker = room, walker
        depends = {
            "data": dataset.digest,
            "choice": choice.parameters(),
            "space": {name: asdict(between) for name, between in self._space.items()},
        }
        self._name = digest_of(depends)
        self._file = f"trials-{choice.model}-{self._name}.json"
        self._ended = self._read() if (room / self._file).exists() else {}

    def run(self, trials: int) -> tuple[Trial, ...]:
        """Return that many trials, the best first; raise BadInput when all fail."""
        choice = self._choice
        question = question_of(choice.horizon_bars)
        folds = [_parts(each) for each in walk_forward_folds(self._dataset, choice.folds, choice.horizon_bars)]
        around = replace(AROUND, watch=self._walker)

        def make(settings: Settings) -> Classifier:
            if self._walker is not None:
                self._walker.fitting(f"{choice.model}, {self._best()}", len(self._ended), trials)
            return make_model(choice.model, question, {**choice.settings, **settings}, around)

        return tune(make, self._space, folds, seed=choice.seed, log=self, trials=trials)

    def recall(self, number: int, settings: Mapping[str, float | int]) -> Trial | None:
        """Return the trial of a number and settings, if it has ended."""
        found = self._ended.get(number)
        return found if found is not None and found.settings == settings else None

    def record(self, trial: Trial) -> None:
        """Keep one trial: first in the registry, so that none that is gone on from is missing there."""
        with suppress(TrialFailed), self._registry.run(self._experiment, kind="trial", search=self._name) as run:
            run.parameters(self._choice.parameters() | {"trial": trial.number} | dict(trial.settings))
            run.note("data_digest", self._dataset.digest)
            for fold, loss in enumerate(trial.losses, 1):
                run.metrics({"fold_log_loss": loss}, step=fold)
            if trial.failure:
                raise TrialFailed(trial.failure)
            run.metrics({"log_loss": trial.loss})
        self._ended[trial.number] = trial
        write_state(self._room, {"trials": [asdict(each) for each in self._ended.values()]}, self._file)

    def _read(self) -> dict[int, Trial]:
        told = read_state(self._room, self._file)["trials"]
        return {each["number"]: Trial(**(each | {"losses": tuple(each["losses"])})) for each in told}

    def _best(self) -> str:
        losses = [trial.loss for trial in self._ended.values() if not trial.failure]
        return f"best log loss {min(losses):.4f}" if losses else "nothing tried yet"


def pruned(dataset: Dataset, choice: Choice, *, share: float, walker: Walker | None = None) -> Pruning:
    """Return what it costs a model to leave out the columns of its outlook that matter least, by number in NAMES.

    On the newest walk-forward fold, through an outlook fitted on its training part. Raises BadInput for a model that
    looks at no columns, and a share of them, in (0, 1), that leaves none to drop.
    """
    choice.require_columns()
    parts = _parts(walk_forward_folds(dataset, choice.folds, choice.horizon_bars)[-1])
    outlook = fit_outlook(parts.train, choice.horizon_bars)
    seen = Fold(
        train=[*map(outlook.seen, parts.train)],
        valid=[*map(outlook.seen, parts.valid)],
        judged=[*map(outlook.seen, parts.judged)],
    )
    question, around = question_of(choice.horizon_bars), replace(AROUND, watch=walker)
    fits = iter(range(FITS))

    def make() -> Classifier:
        if walker is not None:
            walker.fitting(choice.model, next(fits), FITS)
        return MODELS[choice.model].make(question, choice.settings, around)

    return prune(make, seen, share=share, block=choice.horizon_bars, seed=choice.seed)


def names_of(columns: Sequence[int]) -> list[str]:
    """Return the names of columns of an outlook."""
    return [NAMES[column] for column in columns]


def _parts(fold: Labelled) -> Fold:
    return Fold(train=fold.samples.train, valid=fold.samples.valid, judged=fold.samples.test)
