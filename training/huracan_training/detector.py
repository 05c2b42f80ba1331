"""A trained model as a bundle: kept whole, loaded again, and asked about bars it has never seen."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from huracan.config import Config
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan.inference.bundle import Bundle, Manifest
from huracan_training.datasets import Dataset, FoldSamples
from huracan_training.labels import TARGETS
from huracan_training.models.inputs import Question
from huracan_training.models.table import Kept, make_model
from huracan_training.samples import WINDOW, Classifier, Floats, Sample
from huracan_training.walk import Labelled

TRAINING, CARD = "training.json", "card.md"
UNREGISTERED = "unregistered"
_FIRST_VERSION = 1


class TrainedOn(Config):
    """What a model has seen: an evaluation must not ask about it again."""

    target: str
    until_ns: dict[str, int]
    """By asset, when the last label that it learned from, or was stopped by, was known."""
    thresholds: dict[str, tuple[float, ...]]
    """Of the labels that it learned, by asset."""


class _Served(Kept, Protocol):
    def meet(self, more: Sequence[Sample]) -> None: ...

    def predict(self, sample: Sample) -> Floats: ...


@dataclass(slots=True)
class Detector:
    """A model out of a bundle: a Classifier that learns no more than the scales of assets that are new to it."""

    name: str
    trained_on: TrainedOn
    _model: _Served

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:  # noqa: ARG002 - nothing is learned
        """Meet the assets of `train`."""
        self._model.meet(train)

    def predict(self, sample: Sample) -> Floats:
        """Return class probabilities, shape (m, classes)."""
        return self._model.predict(sample)

    def unseen(self, sample: Sample) -> Sample | None:
        """Return the positions of a sample whose label is of later than what was trained on; None if there is none."""
        keep = sample.series.close_ns[sample.at] >= self.trained_on.until_ns.get(sample.series.asset, 0)
        if not keep.any():
            return None
        return replace(sample, at=sample.at[keep], labels=sample.labels[keep])


def contents_of(model: Classifier, samples: FoldSamples, card: str) -> dict[str, bytes]:
    """Return the files of a fitted model's bundle, by name; raise BadInput for a model that cannot be kept."""
    if not all(hasattr(model, each) for each in ("write", "read", "meet")):
        raise BadInput(f"{model.name} is refitted wherever it is asked, and cannot be kept; train another model")
    with tempfile.TemporaryDirectory() as directory:
        model.write(Path(directory))  # type: ignore[attr-defined] # told above
        written = {each.name: each.read_bytes() for each in sorted(Path(directory).iterdir())}
    trained_on = TrainedOn(
        target=samples.thresholds.target,
        until_ns=_until_ns([*samples.train, *samples.valid], samples.thresholds.horizon),
        thresholds=samples.thresholds.values,
    )
    return {**written, TRAINING: trained_on.canonical_json().encode(), CARD: card.encode()}


def _until_ns(samples: Sequence[Sample], horizon_bars: int) -> dict[str, int]:
    newest: dict[str, int] = {}
    for sample in samples:
        last = int(sample.series.close_ns[sample.at[-1]]) + horizon_bars * sample.series.interval_ns
        newest[sample.series.asset] = max(last, newest.get(sample.series.asset, 0))
    return newest


def manifest_of(name: str, model: str, dataset: Dataset, horizon_bars: int, metrics: Mapping[str, float]) -> Manifest:
    """Return the manifest of a bundle that has no version yet."""
    return Manifest(
        name=name,
        version=_FIRST_VERSION,
        model=model,
        classes=TARGETS[name].classes,
        feature_set=BAR.name,
        feature_set_digest=BAR.digest.hex(),
        columns=BAR.names,
        window=WINDOW,
        interval_ns=dataset.manifest.interval_ns,
        horizon_steps=horizon_bars,
        data_digest=dataset.digest,
        run_id=UNREGISTERED,
        metrics=dict(metrics),
    )


def detector_of(bundle: Bundle) -> Detector:
    """Return the model of a bundle; raise BadInput where it is of other features than today's, or lacks its file."""
    manifest = bundle.manifest
    if manifest.feature_set_digest != BAR.digest.hex():
        raise BadInput(
            f"{bundle.directory} was trained on other {manifest.feature_set} features than today's: train it again"
        )
    question = Question(classes=len(manifest.classes), horizon_bars=manifest.horizon_steps)
    model = make_model(manifest.model, question)
    try:
        trained_on = TrainedOn.model_validate_json(bundle.contents[TRAINING])
        model.read(bundle.directory)  # type: ignore[attr-defined] # what is in a bundle was written by it
    except (KeyError, AttributeError, ValidationError) as error:
        raise BadInput(f"{bundle.directory} is no bundle of a detector: {error}") from error
    return Detector(manifest.model, trained_on, model)  # type: ignore[arg-type]


def unseen_folds(detector: Detector, folds: Sequence[Labelled]) -> list[Labelled]:
    """Return folds with the test rows that a detector has not seen; raise BadInput where none is left."""
    found = []
    for fold in folds:
        tests = [detector.unseen(each) for each in fold.samples.test]
        left = tuple(each for each in tests if each is not None)
        if left:
            found.append(replace(fold, samples=replace(fold.samples, test=left)))
    if not found:
        raise BadInput("the model was trained on all of these bars: give later ones, or those of another asset")
    return found
