"""The laws of an engine: good ones pass, and each way to be bad is caught by the law it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from huracan.inference.check import LAWS, check_engine
from huracan.inference.cuda import CudaDriver
from huracan.inference.engine import Engine, EngineFault, Logits, OnnxEngine, Windows
from huracan.inference.probabilities import Floats
from huracan.inference.tensorrt import PlanCache, TensorRtEngine
from huracan.laws import LawBroken

from .gpu_of_tests import FakeCuda, FakeTensorRt
from .models_of_tests import bundle, dynamically_quantised, last_row, regime, statically_quantised


class Lawful(Engine):
    """Keeps every law: the last row, by a third."""

    def __init__(self, room: Path) -> None:
        super().__init__(bundle(room / "b"), "model.onnx", "python")

    def logits(self, windows: Windows) -> Logits:
        """Return a third of the last row, limited so that it is finite."""
        return np.clip(windows[:, :, -1] / 3, -20, 20).astype(np.float32)


class WithoutDigest(Lawful):
    def __init__(self, room: Path) -> None:
        super().__init__(room)
        self.digest = b"short"


class WithoutRuntime(Lawful):
    def __init__(self, room: Path) -> None:
        super().__init__(room)
        self.runtime = ""


class WithoutFloor(Lawful):
    def run(self, windows: Windows) -> Floats:
        told = super().run(windows)
        return np.asarray(np.eye(3)[told.argmax(axis=1)])


class OfAnotherSum(Lawful):
    def run(self, windows: Windows) -> Floats:
        return super().run(windows) * 0.999


class InSinglePrecision(Lawful):
    def run(self, windows: Windows) -> Floats:
        return super().run(windows).astype(np.float32)


class OneAnswerForAll(Lawful):
    def run(self, windows: Windows) -> Floats:
        return super().run(windows)[:1]


class NoNumbers(Lawful):
    def run(self, windows: Windows) -> Floats:
        told = super().run(windows)
        told[np.abs(windows).max(axis=(1, 2)) >= 10] = np.nan
        return told


class RaisesAtTheEnds(Lawful):
    def logits(self, windows: Windows) -> Logits:
        if np.abs(windows).max() > 1e6:
            raise OverflowError("too large")
        return super().logits(windows)


class FaultsWhereItMustNot(Lawful):
    def logits(self, windows: Windows) -> Logits:
        if np.abs(windows).max() >= 10:
            raise EngineFault("too large")
        return super().logits(windows)


class NeverForgets(Lawful):
    """What was too large once is in the answers from then on."""

    largest = 1.0

    def logits(self, windows: Windows) -> Logits:
        self.largest = max(self.largest, float(np.abs(windows).max()) / 1e6)
        return super().logits(windows) / np.float32(self.largest)


class Deaf(Lawful):
    def logits(self, windows: Windows) -> Logits:
        return np.zeros((len(windows), 3), dtype=np.float32)


class Wanders(Lawful):
    asked = 0

    def logits(self, windows: Windows) -> Logits:
        self.asked += 1
        return np.add(super().logits(windows), [0, 0, 1e-3 * self.asked]).astype(np.float32)


class WandersInBatches(Wanders):
    def logits(self, windows: Windows) -> Logits:
        return super().logits(windows) if len(windows) > 1 else Lawful.logits(self, windows)


class Scribbles(Lawful):
    def logits(self, windows: Windows) -> Logits:
        answer = super().logits(windows)
        windows[-1, -1, 0] = 0.0
        return answer


class MixesNeighbours(Lawful):
    def logits(self, windows: Windows) -> Logits:
        answer = super().logits(windows)
        return answer + np.float32(1e-3) * np.roll(answer, 1, axis=0) * (len(windows) > 1)


class SpoilsTheLastPlace(Lawful):
    def logits(self, windows: Windows) -> Logits:
        answer = super().logits(windows)
        if len(windows) == 64:
            answer[-1, 2] += 0.01
        return answer


class AnswersOutOfOrder(Lawful):
    def logits(self, windows: Windows) -> Logits:
        return super().logits(windows)[::-1]


class TakesAnything(Lawful):
    def check(self, windows: Windows) -> None:
        """Take any."""

    def logits(self, windows: Windows) -> Logits:
        return np.nan_to_num(super().logits(windows))[:, :3]


class TakesWhatIsMissing(Lawful):
    def run(self, windows: Windows) -> Floats:
        return super().run(np.nan_to_num(windows, posinf=0.0, neginf=0.0))


class RefusesWithoutAReason(Lawful):
    def run(self, windows: Windows) -> Floats:
        if windows.ndim != 3:
            raise IndexError
        return super().run(windows)


class TakesOtherFeatures(Lawful):
    def check_features(self, digest: bytes, columns: Sequence[str]) -> None:
        """Look at the columns alone."""
        super().check_features(bytes.fromhex(self.manifest.feature_set_digest), columns)


class TakesOtherOrders(Lawful):
    def check_features(self, digest: bytes, columns: Sequence[str]) -> None:
        """Look at how many columns there are."""
        super().check_features(digest, self.manifest.columns if len(columns) == 3 else columns)


def test_an_engine_that_keeps_the_laws_passes(tmp_path: Path) -> None:
    check_engine(Lawful(tmp_path))


BROKEN = {
    WithoutDigest: "declares itself",
    WithoutRuntime: "declares itself",
    WithoutFloor: "gives probabilities",
    OfAnotherSum: "gives probabilities",
    InSinglePrecision: "gives probabilities",
    OneAnswerForAll: "gives probabilities",
    NoNumbers: "gives probabilities",
    FaultsWhereItMustNot: "gives probabilities",
    RaisesAtTheEnds: "bears any finite values",
    NeverForgets: "bears any finite values",
    Deaf: "tells windows apart",
    Wanders: "bears any finite values",
    WandersInBatches: "is deterministic",
    Scribbles: "is deterministic",
    MixesNeighbours: "does not depend on its batch",
    SpoilsTheLastPlace: "does not depend on its batch",
    AnswersOutOfOrder: "does not depend on its batch",
    TakesAnything: "refuses other windows",
    TakesWhatIsMissing: "refuses other windows",
    RefusesWithoutAReason: "refuses other windows",
    TakesOtherFeatures: "refuses other features",
    TakesOtherOrders: "refuses other features",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_each_way_to_be_bad_is_caught_by_its_law(kind: type[Lawful], tmp_path: Path) -> None:
    with pytest.raises(LawBroken) as broken:
        check_engine(kind(tmp_path))
    assert broken.value.law == BROKEN[kind]


def test_every_law_is_broken_by_one_of_them() -> None:
    assert {law.__name__.replace("_", " ") for law in LAWS} == set(BROKEN.values())


def test_the_detector_of_this_release_keeps_the_laws() -> None:
    check_engine(OnnxEngine(regime()))


def test_its_quantised_form_keeps_the_laws(tmp_path: Path) -> None:
    manifest, contents = regime().manifest, regime().contents
    small = statically_quantised(contents["model.onnx"], tmp_path, len(manifest.columns))
    shaped = {"columns": manifest.columns, "classes": manifest.classes}
    check_engine(OnnxEngine(bundle(tmp_path / "small", {"model.cpu.onnx": small}, **shaped)))


def test_a_dynamically_quantised_engine_keeps_the_laws_by_saying_what_it_is(tmp_path: Path) -> None:
    engine = OnnxEngine(bundle(tmp_path / "b", {"model.onnx": dynamically_quantised()}))
    check_engine(engine)
    engine.fixed_batch_result = True
    with pytest.raises(LawBroken, match=r"does not depend on its batch: .* probabilities were off by 0"):
        check_engine(engine, tolerance=1e-3)


def test_an_engine_of_a_single_column_is_checked_too(tmp_path: Path) -> None:
    model = last_row(np.array([[1.0, -1.0]], dtype=np.float32))
    check_engine(OnnxEngine(bundle(tmp_path / "b", {"model.onnx": model}, columns=("move",), classes=("Up", "Down"))))


def test_an_engine_on_a_gpu_is_checked_by_the_same_laws(tmp_path: Path) -> None:
    driver = CudaDriver(FakeTensorRt(), FakeCuda())
    check_engine(TensorRtEngine(bundle(tmp_path / "b"), driver, PlanCache(tmp_path / "plans"), lambda event: None))
