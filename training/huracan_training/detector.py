"""A trained model as a bundle: kept whole, loaded again, and asked about rows it has never seen."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from huracan.config import Config
from huracan.errors import BadInput
from huracan.features.regimes import FILE, RegimeThresholds, is_told_over
from huracan.inference.bundle import Bundle, Manifest
from huracan.inference.engine import INT8_CPU
from huracan_training.datasets import Dataset, FoldSamples
from huracan_training.models.artefacts import ServedNet
from huracan_training.models.baselines import MarkovChain
from huracan_training.models.keeping import servable
from huracan_training.models.nets import NetClassifier
from huracan_training.models.table import make_model, seeing
from huracan_training.samples import WINDOW, Classifier, Floats, Sample, Served
from huracan_training.tasks import OF_KIND, OF_NAME, REGIME, Task
from huracan_training.walk import Labelled

TRAINING, CARD = "training.json", "card.md"
TRIALS = "trials"
"""Among the metrics of a bundle: how much had been tried by the time it was chosen."""
UNREGISTERED = "unregistered"
_FIRST_VERSION = 1


class TrainedOn(Config):
    """What a model has seen: an evaluation must not ask about it again."""

    target: str
    seen_ns: dict[str, tuple[int, int]]
    """By asset, as its file was named: the close of the first bar of the windows that it learned from, or was stopped
    by, and when the last label was known."""

    def span_ns(self) -> tuple[int, int]:
        """Return when the first bar was of which anything was learned, and when the last label was known."""
        return min(first for first, _ in self.seen_ns.values()), max(last for _, last in self.seen_ns.values())


@dataclass(slots=True)
class Detector:
    """A model out of a bundle: a Classifier that learns no more than how the assets it is asked about are seen."""

    name: str
    bundle: Bundle
    trained_on: TrainedOn
    _model: Served

    @property
    def horizon_bars(self) -> int:
        """Return how many rows it looks ahead."""
        return self.bundle.manifest.horizon_steps

    @property
    def task(self) -> Task:
        """Return what is asked of it."""
        return task_of_bundle(self.bundle)

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:  # noqa: ARG002 - nothing is learned
        """See the assets of `train` as they are there: labels of other years have the thresholds of other years."""
        self._model.meet(train)

    def predict(self, sample: Sample) -> Floats:
        """Return class probabilities, shape (m, classes)."""
        return self._model.predict(sample)

    def unseen(self, sample: Sample) -> Sample | None:
        """Return the positions of a sample whose label nothing was trained on; None if there is none."""
        series, at = sample.series, sample.at
        first_ns, last_ns = self.trained_on.seen_ns.get(series.asset, (0, 0))
        horizon_ns = self.horizon_bars * series.interval_ns
        keep = (series.close_ns[at] >= last_ns) | (series.close_ns[at] + horizon_ns <= first_ns)
        if not keep.any():
            return None
        return replace(sample, at=at[keep], labels=sample.labels[keep])


def contents_of(model: Classifier, samples: FoldSamples, card: str) -> dict[str, bytes]:
    """Return the files of a fitted model's bundle, by name; raise BadInput for a model that cannot be kept."""
    with tempfile.TemporaryDirectory() as directory:
        servable(model).write(Path(directory))
        written = {each.name: each.read_bytes() for each in sorted(Path(directory).iterdir())}
    trained_on = TrainedOn(
        target=samples.thresholds.target,
        seen_ns=seen_ns([*samples.train, *samples.valid], samples.thresholds.horizon),
    )
    more = {TRAINING: trained_on.canonical_json().encode(), CARD: card.encode(), **regimes_of(samples)}
    return {**written, **more}


def regimes_of(samples: FoldSamples) -> dict[str, bytes]:
    """Return the file that tells services what regimes were in training; none where that is not what was asked.

    How regimes follow each other is as the Markov chain learned it from the same rows.
    """
    thresholds = samples.thresholds
    if thresholds.target != REGIME.target or not is_told_over(thresholds.horizon):
        return {}
    chain = MarkovChain(REGIME.question(thresholds.horizon))
    chain.fit(samples.train, samples.valid, seed=1)
    told = RegimeThresholds(
        horizon_bars=thresholds.horizon,
        cuts={asset: (calm, wild, straight) for asset, (calm, wild, straight) in thresholds.values.items()},
        transition=tuple(map(tuple, chain.prior.tolist())),
        half_life_bars=chain.half_life_bars,
    )
    return {FILE: told.canonical_json().encode()}


def seen_ns(samples: Sequence[Sample], horizon_bars: int) -> dict[str, tuple[int, int]]:
    """Return what is seen by one who learns from samples, as `TrainedOn` keeps it."""
    spans: dict[str, tuple[int, int]] = {}
    for sample in samples:
        series = sample.series
        first = int(series.close_ns[sample.at[0] - (WINDOW - 1)])
        last = int(series.close_ns[sample.at[-1]]) + horizon_bars * series.interval_ns
        known_first, known_last = spans.get(series.asset, (first, last))
        spans[series.asset] = min(first, known_first), max(last, known_last)
    return spans


def manifest_of(
    model: str, columns: Sequence[str], dataset: Dataset, horizon_bars: int, metrics: Mapping[str, float]
) -> Manifest:
    """Return the manifest of a bundle that has no version yet; columns are those that its model is fed."""
    task = OF_KIND[dataset.manifest.kind]
    return Manifest(
        name=task.name,
        version=_FIRST_VERSION,
        model=model,
        classes=task.classes,
        feature_set=task.features.name,
        feature_set_digest=task.features.digest.hex(),
        columns=tuple(columns),
        window=WINDOW,
        interval_ns=dataset.manifest.interval_ns,
        horizon_steps=horizon_bars,
        data_digest=dataset.digest,
        run_id=UNREGISTERED,
        metrics=dict(metrics),
    )


def detector_of(bundle: Bundle) -> Detector:
    """Return the model of a bundle; raise BadInput where it is of other features than today's, or lacks its file."""
    manifest, task = bundle.manifest, task_of_bundle(bundle)
    if manifest.feature_set_digest != task.features.digest.hex():
        raise BadInput(
            f"{bundle.directory} was trained on other {manifest.feature_set} features than today's: train it again"
        )
    model = _served(bundle, task)
    try:
        trained_on = TrainedOn.model_validate_json(bundle.contents[TRAINING])
        model.read(bundle.directory)
    except (KeyError, AttributeError, ValidationError) as error:
        raise BadInput(f"{bundle.directory} is no bundle of a detector: {error}") from error
    return Detector(manifest.model, bundle, trained_on, model)


def task_of_bundle(bundle: Bundle) -> Task:
    """Return what is asked of the model of a bundle; raise BadInput for one that is of nothing that is judged here."""
    name = bundle.manifest.name
    if name not in OF_NAME:
        raise BadInput(f"{bundle.directory} is of {name}: models that can be judged are of {', '.join(OF_NAME)}")
    return OF_NAME[name]


def _served(bundle: Bundle, task: Task) -> Served:
    """Return the model that a bundle is read into: one that answers as it is served."""
    manifest, question = bundle.manifest, task.question(bundle.manifest.horizon_steps)
    if INT8_CPU not in bundle.contents:
        return servable(make_model(manifest.model, question, around=task.around))
    net = make_model(manifest.model, question)
    if not isinstance(net, NetClassifier):
        raise BadInput(f"{bundle.directory} has a {INT8_CPU}, and {manifest.model} is no net: export the bundle again")
    return servable(seeing(ServedNet(net, manifest.temperature), question, task.around))


def unseen_folds(detector: Detector, folds: Sequence[Labelled]) -> list[Labelled]:
    """Return folds with the test rows that a detector has not seen; raise BadInput where none is left."""
    found = []
    for fold in folds:
        tests = [detector.unseen(each) for each in fold.samples.test]
        left = tuple(each for each in tests if each is not None)
        if left:
            found.append(replace(fold, samples=replace(fold.samples, test=left)))
    if not found:
        raise BadInput("the model was trained on all of these rows: give later ones, or those of another asset")
    return found
