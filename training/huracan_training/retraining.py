"""Train a model on everything but the newest bars, judge it on those, and register it: fit to serve, or quarantined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from huracan.errors import BadInput
from huracan.inference.bundle import Bundle, write_bundle
from huracan_training.benchmark import TARGET, Line, final_fold, judged_on, registered, rivals
from huracan_training.datasets import Dataset, FoldSamples
from huracan_training.detector import TRIALS, Detector, contents_of, detector_of, manifest_of, unseen_folds
from huracan_training.evaluation import Evaluation
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.keeping import servable
from huracan_training.models.loop import Watch
from huracan_training.models.outlook import NAMES
from huracan_training.models.table import Settings, make_model
from huracan_training.optimise.making import Asked, optimised
from huracan_training.registry import CHAMPION, FITS, Registry, Run, Version
from huracan_training.samples import Classifier
from huracan_training.tasks import REGIME, Task
from huracan_training.walk import Contender, Walker

CHAMPION_NAME = "champion"
"""The model that serves, as a contender."""
AS_TRAINED = "as it was trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained."""

    model: str
    settings: Settings
    columns: tuple[str, ...] = NAMES
    """Of its outlook."""
    seed: int = 1
    horizon_bars: int = HORIZON_BARS
    task: Task = REGIME

    def contender(self, watch: Watch | None = None) -> Contender:
        """Return the model as a contender from its one seed.

        Raises BadInput for a model that there is not or that cannot be served, and for a setting or column that it does
        not have.
        """
        servable(make_model(self.model, self.task.question(self.horizon_bars), self.settings))
        (found,) = registered(
            [self.model],
            seeds=1,
            horizon_bars=self.horizon_bars,
            settings={self.model: self.settings},
            around=replace(self.task.around, columns=self.columns, watch=watch),
            task=self.task,
        )
        return replace(found, seeds=(self.seed,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that was trained, judged and registered."""

    version: Version
    evaluation: Evaluation
    beats_champion: bool
    """Whether it loses less than the champion, the whole interval above zero; true where there is none."""
    served: str
    """As what: in INT8, or as it was trained, and why."""


def trained(
    dataset: Dataset,
    recipe: Recipe,
    registry: Registry,
    run: Run,
    *,
    trials: int,
    room: Path,
    champion: Detector | None = None,
    walker: Walker | None = None,
    optimise: Asked | None = None,
) -> Trained:
    """Train, judge on the newest bars beside the baselines and the champion, and register.

    A model that does not beat random forest and persistence there, with an interval above zero, is quarantined. One
    that does is optimised before it is registered, where that is asked for and it still says the same afterwards.
    """
    contender = recipe.contender(walker)
    kept = _Keeping(contender.make)
    fold = final_fold(dataset, recipe.horizon_bars)
    serving = [served(champion, CHAMPION_NAME)] if champion else []
    judged_fold = unseen_folds(champion, [fold])[0] if champion else fold
    line = Line(
        judged=recipe.model,
        contenders=(replace(contender, make=kept), *rivals(recipe.task, recipe.horizon_bars), *serving),
        horizon_bars=recipe.horizon_bars,
    )
    evaluation = judged_on(dataset, [judged_fold], line, room=room, trials=trials, walker=walker)
    model = kept.model
    if model is None:  # judged before, by a run that was stopped
        model = contender.make(room / "kept")
        model.fit(fold.samples.train, fold.samples.valid, seed=recipe.seed)
    scores = evaluation.judged.scores
    metrics = {
        "log_loss": scores.log_loss,
        "macro_f1": scores.macro_f1,
        "ece": scores.ece,
        "brier": scores.brier,
        TRIALS: evaluation.study.trials,
    }
    run.metrics({**metrics, FITS: len(line.contenders)})
    made = write_bundle(
        room / "bundle",
        manifest_of(recipe.model, recipe.columns, dataset, recipe.horizon_bars, metrics),
        contents_of(model, fold.samples, card_of(dataset, recipe, evaluation, fold.samples)),
    )
    as_what = AS_TRAINED
    if optimise is not None and evaluation.verdict.promoted:
        made, as_what = _smaller(made, dataset, optimise)
    version = registry.register(
        run,
        made.manifest,
        made.contents,
        quarantined=None if evaluation.verdict.promoted else "; ".join(evaluation.verdict.reasons),
    )
    return Trained(version=version, evaluation=evaluation, beats_champion=_beats_champion(evaluation), served=as_what)


def _smaller(made: Bundle, dataset: Dataset, asked: Asked) -> tuple[Bundle, str]:
    """Return a bundle optimised, or as it was, with the reason."""
    try:
        found = optimised(made, dataset, asked)
        found.require_parity()
    except BadInput as error:
        return made, f"{AS_TRAINED}: {error}"
    last = found.variants[-1]
    told = f"as {last.name}, {last.bytes / found.variants[0].bytes:.0%} of FP32"
    return write_bundle(made.directory, found.manifest, found.contents), told


@dataclass(slots=True)
class _Keeping:
    """Makes models, and keeps the last."""

    make: Callable[[Path], Classifier]
    model: Classifier | None = None

    def __call__(self, room: Path) -> Classifier:
        self.model = self.make(room)
        return self.model


def served(detector: Detector, name: str) -> Contender:
    """Return the model of a bundle as a contender: it learns nothing but how assets are seen, in each fold anew."""
    bundle = detector.bundle
    return Contender(name=name, make=lambda _room: detector_of(bundle), identity=bundle.digest.hex())


def champion_of(registry: Registry, room: Path) -> Detector | None:
    """Return the model that serves; None if there is none yet."""
    found = registry.at(TARGET, CHAMPION)
    return detector_of(registry.export(found, room / CHAMPION_NAME)) if found else None


def _beats_champion(evaluation: Evaluation) -> bool:
    against = [each for each in evaluation.comparisons if each.baseline == CHAMPION_NAME and not each.asset]
    return all(each.gain.above_zero for each in against)


def card_of(dataset: Dataset, recipe: Recipe, evaluation: Evaluation, samples: FoldSamples) -> str:
    """Return the model card, in Markdown: what it is, what it was made of, and how good it was on unseen rows."""
    scores, task = evaluation.judged.scores, recipe.task
    assets = ", ".join(sorted({each.series.asset for each in (*samples.train, *samples.valid)}))
    rows = "\n".join(
        f"| {each.name} | {each.scores.log_loss:.4f} [{each.intervals['log_loss'].low:.4f}, "
        f"{each.intervals['log_loss'].high:.4f}] | {each.scores.macro_f1:.3f} | {each.scores.ece:.3f} |"
        for each in evaluation.models
    )
    gains = "\n".join(
        f"| {each.baseline} | {each.gain.value:+.4f} [{each.gain.low:+.4f}, {each.gain.high:+.4f}] |"
        for each in evaluation.comparisons
        if not each.asset
    )
    return f"""# {task.name}: {recipe.model}

Tells the {task.target} of the next {recipe.horizon_bars} {task.kind} from a window of 64: {", ".join(task.classes)}.

- Trained on: {assets}; data {dataset.digest[:12]}, seed {recipe.seed}.
- Settings: {dict(recipe.settings) or "the model's own"}.
- Fed: {"all that it can see" if recipe.columns == task.columns else ", ".join(recipe.columns)}.
- Judged on the newest {task.kind}, which it had not seen: {sum(each.rows for each in evaluation.comparisons[:1])} rows.
- Log loss {scores.log_loss:.4f} nats, Brier {scores.brier:.4f}, macro-F1 {scores.macro_f1:.3f}, ECE {scores.ece:.3f}.
- {". ".join(evaluation.verdict.reasons)}.

| model | log loss, nats, 95 % interval | macro-F1 | ECE |
|---|---|---|---|
{rows}

| over | gain in log loss, nats, 95 % interval |
|---|---|
{gains}

Labels overlap, so that neighbouring rows tell much the same; intervals are block bootstraps.
{task.caution}
"""
