"""A bundle made small and fast to serve: channels taken out and the rest tuned, INT8 for two engines, and the proof."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from huracan.errors import BadInput
from huracan.features.order_flow import FILE, View
from huracan.inference.bundle import Bundle, Manifest
from huracan.inference.engine import FP32, INT8_CPU, session_of
from huracan.inference.probabilities import softmax
from huracan.inference.tensorrt import INT8_GPU
from huracan_training.benchmark import final_fold
from huracan_training.chance import generator
from huracan_training.datasets import Dataset
from huracan_training.detector import CARD, TRAINING, Detector, detector_of, seen_ns, task_of_bundle, unseen_folds
from huracan_training.models.artefacts import REFERENCE, logits_of
from huracan_training.models.loop import Watch, WindowSet
from huracan_training.models.nets import NetClassifier
from huracan_training.models.order_flow import seen_through, with_mirror_images
from huracan_training.models.outlook import Outlook
from huracan_training.models.table import MODELS, Settings, make_model
from huracan_training.optimise.parity import Parity, Rows, Variant, fit_temperature, parity
from huracan_training.optimise.quantising import LAYERS, Lint, operators, quantised, require_static, tensorrt_lint
from huracan_training.samples import Floats, Sample
from huracan_training.samples import Rows as Windows
from huracan_training.scores import Scores, scored

PRUNED = 0.3
"""Share of channels that is taken out unless another is asked for."""
CALIBRATION = 512
"""Windows that ranges are told from; four times as many told the same within noise."""
See = Callable[[Sample], Sample]
_OUTLOOK = "outlook.json"
_TUNING: Settings = {
    "epochs": 8,
    "patience": 3,
    "plateau_patience": 1,
    "learning_rate": 1e-3,
    "weight_decay": 0.03,
    "averaging": 0.99,
    "noise": 0.05,
    "largest_batch": 256,
}
"""Of a net that is nearly there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for."""

    share: float = PRUNED
    """Of the channels, to be taken out; 0 for none."""
    seed: int = 1
    calibration: int = CALIBRATION
    settings: Settings | None = None
    """Of tuning, in place of ours."""
    watch: Watch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """What became of a bundle."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    variants: tuple[Variant, ...]
    """The FP32 net first, the two artefacts last, that for processors after that for TensorRT."""
    served: Scores
    """Of the INT8 artefact for processors, over the temperature."""
    lint: Lint
    """What the parser of TensorRT-RTX says of the artefact for TensorRT."""
    notes: tuple[str, ...]

    def failures(self) -> tuple[str, ...]:
        """Return why it must not serve; empty where it may."""
        found = [
            f"of {each.name} {reason}"
            for each in self.variants[-2:]
            if each.parity is not None
            for reason in each.parity.failures()
        ]
        return (*found, *(f"TensorRT cannot read it: {error}" for error in self.lint.errors))

    def require_parity(self) -> None:
        """Raise BadInput unless it may serve in place of the bundle that it was made from."""
        if self.failures():
            raise BadInput(f"the gate is closed, and the FP32 bundle stays: {'; '.join(self.failures())}")


def require_optimisable(bundle: Bundle) -> None:
    """Raise BadInput, with the reason, for a bundle that cannot be made smaller."""
    name = bundle.manifest.model
    if name not in MODELS or not MODELS[name].is_net:
        raise BadInput(f"{bundle.directory} is of {name}, which is no net: there is nothing to prune or quantise")
    if INT8_CPU in bundle.contents:
        raise BadInput(f"{bundle.directory} is optimised already: give the bundle that it was made from")
    if FP32 not in bundle.contents or not {_OUTLOOK, FILE} & bundle.contents.keys():
        raise BadInput(f"{bundle.directory} has no {FP32} with an {_OUTLOOK}, or an {FILE}: train it again")
    require_static(bundle.contents[FP32])


def optimised(bundle: Bundle, dataset: Dataset, asked: Asked | None = None) -> Optimised:
    """Return a bundle's net made small, with its INT8 artefacts and how each differs from it on rows it has not seen.

    The net is tuned, and INT8 calibrated, on the training rows of the final fold; the temperature is fitted on the rows
    for validation, and what is reported is of those for testing. Same bundle, data and seed: same bytes. Raises
    BadInput for a bundle that cannot be made smaller, and data on which it cannot be judged.
    """
    require_optimisable(bundle)
    asked = asked or Asked()
    given = _Given.of(bundle, dataset)
    full = _net_of(bundle, asked)
    pruned = full
    if asked.share:
        pruned = full.narrowed(asked.share)
        pruned.tune(given.train, given.valid, full, seed=asked.seed)
    windows = calibration(full.fed(given.train), asked.seed, asked.calibration)
    kept, kept_full = _written(pruned), _written(full)
    smaller = {INT8_CPU: quantised(kept[FP32], windows, INT8_CPU), INT8_GPU: quantised(kept[FP32], windows, INT8_GPU)}
    models = {"fp32": kept_full[FP32]}
    if asked.share:
        models |= {"int8": quantised(kept_full[FP32], windows, INT8_CPU), "pruned": kept[FP32]}
    name = "pruned_int8" if asked.share else "int8"
    models |= {f"{name}_trt": smaller[INT8_GPU], name: smaller[INT8_CPU]}
    tested = full.fed(given.test)
    variants, logits = _variants(models, tested, given.rows, asked.seed)
    said = logits_of(session_of(smaller[INT8_CPU]), full.fed(given.valid))
    temperature = fit_temperature(Rows.of(given.valid, given.rows.horizon), said, seed=asked.seed)
    served = scored(given.rows.labels, softmax(logits, temperature))
    found = Optimised(
        manifest=_manifest(bundle.manifest, dataset, temperature, served, variants),
        contents={**bundle.contents, **kept, **smaller, REFERENCE: kept_full[FP32]},
        variants=variants,
        served=served,
        lint=tensorrt_lint(smaller[INT8_GPU]),
        notes=given.notes,
    )
    told = {CARD: _card(bundle, found, asked).encode(), TRAINING: given.trained_on}
    return replace(found, contents={**found.contents, **told})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The final fold of a dataset as the net of a bundle is fed it."""

    train: tuple[Sample, ...]
    valid: tuple[Sample, ...]
    test: tuple[Sample, ...]
    rows: Rows
    """Of the test."""
    trained_on: bytes
    notes: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle, dataset: Dataset) -> _Given:
        detector = detector_of(bundle)
        fold = final_fold(dataset, detector.horizon_bars)
        (unseen,) = unseen_folds(detector, [fold])
        samples, test = fold.samples, unseen.samples.test
        seen, learned = _seeing(bundle, samples.train)
        notes = []
        if dataset.digest != bundle.manifest.data_digest:
            trained, given = bundle.manifest.data_digest[:12], dataset.digest[:12]
            notes.append(f"the bundle was trained on data {trained}, and is tuned and calibrated on {given}")
        return cls(
            train=tuple(learned(samples.train)),
            valid=tuple(map(seen, samples.valid)),
            test=tuple(map(seen, test)),
            rows=Rows.of(test, detector.horizon_bars),
            trained_on=_trained_on(detector, [*samples.train, *samples.valid]),
            notes=tuple(notes),
        )


def _seeing(bundle: Bundle, train: Sequence[Sample]) -> tuple[See, Callable[[Sequence[Sample]], Sequence[Sample]]]:
    """Return how the net of a bundle sees a sample, and samples that it is to learn from."""
    if FILE in bundle.contents:
        view = View.model_validate_json(bundle.contents[FILE])
        return partial(seen_through, view), partial(with_mirror_images, view)
    outlook = Outlook.model_validate_json(bundle.contents[_OUTLOOK]).met(train)
    return outlook.seen, lambda samples: [*map(outlook.seen, samples)]


def _trained_on(detector: Detector, samples: Sequence[Sample]) -> bytes:
    """Return what the net has seen, what it was tuned on with it."""
    spans = dict(detector.trained_on.seen_ns)
    for asset, (first, last) in seen_ns(samples, detector.horizon_bars).items():
        known_first, known_last = spans.get(asset, (first, last))
        spans[asset] = min(first, known_first), max(last, known_last)
    return detector.trained_on.model_copy(update={"seen_ns": spans}).canonical_json().encode()


def _net_of(bundle: Bundle, asked: Asked) -> NetClassifier:
    manifest, task = bundle.manifest, task_of_bundle(bundle)
    around = replace(task.around, outlook=False, order_flow=False, watch=asked.watch)
    found = make_model(manifest.model, task.question(manifest.horizon_steps), asked.settings or _TUNING, around)
    if not isinstance(found, NetClassifier):
        raise TypeError(f"{manifest.model} is a net that is none")
    found.read(bundle.directory)
    return found


def _written(net: NetClassifier) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        net.write(Path(directory))
        return {each.name: each.read_bytes() for each in sorted(Path(directory).iterdir())}


def calibration(windows: WindowSet, seed: int, most: int = CALIBRATION) -> Windows:
    """Return windows that ranges are told from, in their order, shape (n, columns, 64)."""
    count = len(windows.at)
    chosen = generator(seed, "calibration").choice(count, min(most, count), replace=False)
    found: Windows = windows.windows(torch.from_numpy(np.sort(chosen))).numpy()
    return found


def _variants(
    models: Mapping[str, bytes], tested: WindowSet, rows: Rows, seed: int
) -> tuple[tuple[Variant, ...], Floats]:
    """Return how good each model is beside the first, and the logits of the last."""
    reference, logits, found = None, np.zeros(0), []
    for name, model in models.items():
        logits = logits_of(session_of(model), tested)
        differs: Parity | None = None
        if reference is None:
            reference = logits
        else:
            differs = parity(rows, logits, reference, seed=seed)
        found.append(
            Variant(name=name, bytes=len(model), scores=scored(rows.labels, softmax(logits, 1.0)), parity=differs)
        )
    return tuple(found), logits


def _manifest(
    manifest: Manifest, dataset: Dataset, temperature: float, served: Scores, variants: Sequence[Variant]
) -> Manifest:
    metrics = {**manifest.metrics}
    metrics |= {"log_loss": served.log_loss, "macro_f1": served.macro_f1, "ece": served.ece, "brier": served.brier}
    for each in variants:
        metrics |= each.metrics()
    return manifest.model_copy(
        update={"temperature": temperature, "metrics": metrics, "data_digest": dataset.digest, "files": {}}
    )


def table_of(variants: Sequence[Variant]) -> str:
    """Return variants as a table in Markdown."""
    rows = [
        "| as | file, KB | of FP32 | log loss | gain [95 %] | macro-F1 | lost | change of p: mean, most | alike |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    whole = variants[0].bytes
    for each in variants:
        beside = ["", "", "", ""]
        if each.parity is not None:
            gain = each.parity.gain
            beside = [
                f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
                f"{each.parity.macro_f1_lost:+.4f}",
                f"{each.parity.mean_deviation:.4f}, {each.parity.largest_deviation:.3f}",
                f"{each.parity.agreement:.4f}",
            ]
        rows.append(
            f"| {each.name} | {each.bytes / 1000:.1f} | {each.bytes / whole:.0%} | {each.scores.log_loss:.4f} | "
            f"{beside[0]} | {each.scores.macro_f1:.4f} | {beside[1]} | {beside[2]} | {beside[3]} |"
        )
    return "\n".join(rows)


def _card(bundle: Bundle, found: Optimised, asked: Asked) -> str:
    """Return the card of a bundle with what was made of it."""
    before = bundle.contents.get(CARD, b"").decode().rstrip()
    layers = sum(operators(found.contents[INT8_CPU])[name] for name in LAYERS)
    served = found.served
    return f"""{before}

## As it is served

The above is of the FP32 net. What is served was made of it: {asked.share:.0%} of the channels taken out and the rest
tuned on the same rows, {layers} layers in INT8 (`{INT8_CPU}`; `{INT8_GPU}` for TensorRT), their ranges told from
{asked.calibration} training windows. Confidences are over a temperature of {found.manifest.temperature:.3f}, told from
the rows for validation: 1 where no other is certain to be better.

- Log loss {served.log_loss:.4f} nats, Brier {served.brier:.4f}, macro-F1 {served.macro_f1:.3f}, ECE {served.ece:.3f}.
- On {served.rows} rows that it had not seen.
- TensorRT-RTX parser: {found.lint}.

{table_of(found.variants)}

All at temperature 1, on the same rows; gains and changes are beside `fp32`.
"""
