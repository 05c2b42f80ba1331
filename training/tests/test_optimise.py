"""`huracan optimise`: a net that was made smaller says what it said, is kept whole, and serves only behind the gate."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from typer.testing import CliRunner

from huracan.errors import BadInput
from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle
from huracan.inference.engine import FP32, INT8_CPU, session_of
from huracan.inference.tensorrt import INT8_GPU
from huracan_training import retraining
from huracan_training.__main__ import app, main
from huracan_training.benchmark import AROUND, final_fold, question_of
from huracan_training.comparisons import Verdict
from huracan_training.datasets import Dataset, build
from huracan_training.detector import CARD, contents_of, detector_of, manifest_of, unseen_folds
from huracan_training.evaluation import Evaluation
from huracan_training.models.artefacts import REFERENCE
from huracan_training.models.outlook import NAMES
from huracan_training.models.table import Settings, make_model
from huracan_training.optimise import parity
from huracan_training.optimise.making import Asked, Optimised, optimised, require_optimisable
from huracan_training.optimise.quantising import Lint, operators
from huracan_training.registry import Registry, Run, Version
from huracan_training.retraining import AS_TRAINED, Recipe, trained
from huracan_training.scores import scored

from .market import synthetic_bars, write_bars

REPO = Path(__file__).resolve().parents[2]
QUICK: Settings = {"epochs": 1, "steps_per_epoch": 4, "batch": 32}
SMALL = Asked(settings=QUICK, calibration=64)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimise")


@pytest.fixture(scope="module")
def bars(room: Path) -> Path:
    return write_bars(synthetic_bars(1_400, seed=1, asset="sim_AUSDT"), room / "sim_AUSDT_15m.parquet")


@pytest.fixture(scope="module")
def dataset(room: Path, bars: Path) -> Dataset:
    return build([bars], room / "dataset")


def _bundle(model: str, settings: Settings, dataset: Dataset, directory: Path) -> Bundle:
    """Train a model a little, and keep it."""
    fold = final_fold(dataset, 16)
    made = make_model(model, question_of(16), settings, AROUND)
    made.fit(fold.samples.train, fold.samples.valid, seed=1)
    manifest = manifest_of(model, NAMES, dataset, 16, {"log_loss": 9.0, "trials": 7.0})
    return write_bundle(directory, manifest, contents_of(made, fold.samples, "# A small net\n"))


@pytest.fixture(scope="module")
def bundle(room: Path, dataset: Dataset) -> Bundle:
    return _bundle("strided_cnn", {**QUICK, "width": 16}, dataset, room / "bundle")


@pytest.fixture(scope="module")
def found(bundle: Bundle, dataset: Dataset) -> Optimised:
    return optimised(bundle, dataset, SMALL)


@pytest.fixture(scope="module")
def made(found: Optimised, room: Path) -> Bundle:
    return write_bundle(room / "made", found.manifest, found.contents)


def _constants(model: bytes) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    graph = onnx.load_from_string(model).graph
    return {each.name: numpy_helper.to_array(each) for each in graph.initializer}


def test_channels_are_really_gone_and_both_artefacts_are_of_the_narrow_net(made: Bundle, bundle: Bundle) -> None:
    assert json.loads(bundle.contents["model.json"])["size"]["width"] == 16
    assert json.loads(made.contents["model.json"])["size"]["width"] == 11
    wide, narrow = (len(contents.contents["weights.npz"]) for contents in (bundle, made))
    assert narrow < 0.7 * wide
    for name in (FP32, INT8_CPU, INT8_GPU):
        model = onnx.load_from_string(made.contents[name])
        assert next(each.version for each in model.opset_import if not each.domain) == 17
        kernels = [each for each in _constants(made.contents[name]).values() if each.ndim == 3]
        assert sorted(each.shape[:2] for each in kernels) == [(11, 11), (11, 11), (11, 47)]
        for batch in (1, 7):
            windows = np.zeros((batch, 47, 64), dtype=np.float32)
            assert session_of(made.contents[name]).run(["logits"], {"windows": windows})[0].shape == (batch, 4)


def test_each_engine_gets_the_int8_that_it_takes(made: Bundle) -> None:
    for name, activations in ((INT8_CPU, TensorProto.UINT8), (INT8_GPU, TensorProto.INT8)):
        graph = onnx.load_from_string(made.contents[name]).graph
        constants = {each.name: each for each in graph.initializer}
        zeros = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
        assert {each.data_type for each in zeros} == {activations}
        weights = [each for each in constants.values() if each.data_type == TensorProto.INT8 and len(each.dims) > 1]
        assert len(weights) == 7
        biases = [each for each in constants.values() if each.data_type == TensorProto.INT32]
        assert bool(biases) == (name == INT8_CPU), "TensorRT takes no quantised biases"
        if name == INT8_GPU:
            assert not any(numpy_helper.to_array(each).any() for each in zeros), "TensorRT takes symmetric ranges"
        else:
            largest = max(int(np.abs(numpy_helper.to_array(each)).max()) for each in weights)
            assert largest < 65, "no processor's 16 bits overflow"
        assert operators(made.contents[name])["Sub"] == 1, "the prior is taken off in FP32"


def test_the_same_bundle_data_and_seed_give_the_same_bytes(bundle: Bundle, dataset: Dataset, found: Optimised) -> None:
    again = optimised(bundle, dataset, SMALL)
    assert again.contents == found.contents
    assert again.manifest == found.manifest
    other = optimised(bundle, dataset, replace(SMALL, seed=2))
    assert other.contents["weights.npz"] != found.contents["weights.npz"]


def test_a_bundle_says_of_unseen_bars_what_its_manifest_tells(made: Bundle, dataset: Dataset, found: Optimised) -> None:
    detector = detector_of(made)
    fold = final_fold(dataset, 16)
    detector.fit(fold.samples.train, fold.samples.valid, seed=1)
    (unseen,) = unseen_folds(detector, [fold])
    labels = np.concatenate([each.labels for each in unseen.samples.test])
    said = scored(labels, np.concatenate([detector.predict(each) for each in unseen.samples.test]))
    assert said == found.served
    metrics = made.manifest.metrics
    assert metrics["log_loss"] == said.log_loss
    assert metrics["trials"] == 7.0
    assert metrics["pruned_int8.bytes"] == len(made.contents[INT8_CPU])
    assert metrics["fp32.bytes"] == len(made.contents[REFERENCE])
    card = made.contents[CARD].decode()
    assert card.startswith("# A small net")
    for variant in found.variants:
        assert f"| {variant.name} |" in card
    assert [each.name for each in found.variants] == ["fp32", "int8", "pruned", "pruned_int8_trt", "pruned_int8"]


def test_nothing_is_taken_out_where_nothing_is_asked_for(bundle: Bundle, dataset: Dataset) -> None:
    whole = optimised(bundle, dataset, replace(SMALL, share=0.0))
    assert [each.name for each in whole.variants] == ["fp32", "int8_trt", "int8"]
    assert whole.contents["weights.npz"] == bundle.contents["weights.npz"]
    assert not whole.failures()


def test_data_that_are_not_those_it_was_trained_on_are_told(bundle: Bundle, room: Path) -> None:
    other = write_bars(synthetic_bars(1_400, seed=5, asset="sim_BUSDT"), room / "sim_BUSDT_15m.parquet")
    more = build([other], room / "more")
    told = optimised(bundle, more, SMALL)
    before, after = bundle.manifest.data_digest[:12], more.digest[:12]
    assert told.notes == (f"the bundle was trained on data {before}, and is tuned and calibrated on {after}",)
    assert told.manifest.data_digest == more.digest
    seen = json.loads(told.contents["training.json"])["seen_ns"]
    assert set(seen) == {"sim_AUSDT", "sim_BUSDT"}, "what was tuned on is not asked about again"


def test_a_causal_net_is_made_smaller_too(dataset: Dataset, room: Path) -> None:
    bundle = _bundle("causal_tcn", {**QUICK, "width": 16, "depth": 2}, dataset, room / "causal")
    told = optimised(bundle, dataset, SMALL)
    kernels = [each for each in _constants(told.contents[INT8_CPU]).values() if each.ndim == 3]
    assert sorted(each.shape[:2] for each in kernels) == [(11, 11), (11, 11), (11, 47)]


def test_bundles_that_cannot_be_made_smaller_are_refused(
    bundle: Bundle, made: Bundle, dataset: Dataset, room: Path
) -> None:
    with pytest.raises(BadInput, match="is optimised already: give the bundle that it was made from"):
        require_optimisable(made)
    trees = replace(bundle, manifest=bundle.manifest.model_copy(update={"model": "lightgbm"}))
    with pytest.raises(BadInput, match="is of lightgbm, which is no net"):
        require_optimisable(trees)
    with pytest.raises(BadInput, match=r"has no model\.onnx"):
        require_optimisable(replace(bundle, contents={CARD: b""}))
    recurrent = _bundle("lstm", {**QUICK, "width": 8, "depth": 1}, dataset, room / "lstm")
    with pytest.raises(BadInput, match="the net has LSTM layers, which have no static INT8: serve it as FP32"):
        optimised(recurrent, dataset)


def test_an_artefact_of_what_is_no_net_is_refused(made: Bundle) -> None:
    trees = replace(made, manifest=made.manifest.model_copy(update={"model": "lightgbm"}))
    with pytest.raises(BadInput, match=r"has a model\.cpu\.onnx, and lightgbm is no net"):
        detector_of(trees)


def _arguments(bundle: Path, bars: Path, out: Path, *more: str) -> list[str]:
    quick = [part for name, value in QUICK.items() for part in ("--set", f"{name}={value}")]
    return ["optimise", "--bundle", str(bundle), "--data", str(bars), "--out", str(out), *quick, *more]


def test_the_command_writes_a_bundle_and_says_how_it_differs(bundle: Bundle, bars: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "MOST_F1", 1.0)
        patch.setattr(parity, "MOST_LOSS", 9.0)
        shown = CliRunner().invoke(app, _arguments(bundle.directory, bars, tmp_path), catch_exceptions=False)
        told = CliRunner().invoke(app, _arguments(bundle.directory, bars, tmp_path, "--json"), catch_exceptions=False)
    assert shown.exit_code == told.exit_code == 0
    assert "| pruned_int8 |" in shown.stdout
    assert str(tmp_path / "bundle") in shown.stdout
    written = load_bundle(tmp_path / "bundle")
    answer = json.loads(told.stdout)
    assert answer["held"]
    assert answer["metrics"] == written.manifest.metrics
    assert answer["temperature"] == written.manifest.temperature
    assert load_bundle(bundle.directory).digest == bundle.digest, "what it was made from stays"


def test_a_closed_gate_ends_with_its_reason_and_no_bundle(
    bundle: Bundle, bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parity, "MOST_F1", -1.0)
    monkeypatch.setattr(sys, "argv", ["huracan", *_arguments(bundle.directory, bars, tmp_path, "--json")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "the gate is closed, and the FP32 bundle stays: of pruned_int8_trt macro-F1 fell by" in said.err
    assert not json.loads(said.out)["held"]
    assert not (tmp_path / "bundle").exists()


def test_what_tensorrt_cannot_read_closes_the_gate(found: Optimised) -> None:
    refused = replace(found, lint=Lint(ran=True, errors=("Invalid Node",)))
    assert "TensorRT cannot read it: Invalid Node" in refused.failures()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("--bundle", "/nowhere"), "/nowhere is no model bundle"),
        (("--data", "/nowhere.parquet"), r"nowhere\.parquet"),
        (("--set", "width=wide"), "--set was 'width=wide'"),
    ],
)
def test_what_cannot_be_used_is_named(
    bundle: Bundle, bars: Path, tmp_path: Path, damage: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        CliRunner().invoke(app, [*_arguments(bundle.directory, bars, tmp_path), *damage], catch_exceptions=False)


def test_a_damaged_bundle_and_missing_data_are_refused(bundle: Bundle, bars: Path, tmp_path: Path) -> None:
    damaged = write_bundle(tmp_path / "damaged", bundle.manifest, bundle.contents).directory
    weights = bytearray(bundle.contents["weights.npz"])
    weights[100] ^= 1
    (damaged / "weights.npz").write_bytes(weights)
    with pytest.raises(BadInput, match=r"weights\.npz was .*: it is not what was exported"):
        CliRunner().invoke(app, _arguments(damaged, bars, tmp_path), catch_exceptions=False)
    without = CliRunner().invoke(app, ["optimise", "--bundle", str(bundle.directory)])
    assert without.exit_code == 2
    assert "--data" in without.output


class _Run:
    """A run of which nothing is kept."""

    run_id = "a run"

    def metrics(self, scores: Mapping[str, float]) -> None: ...


class _Registry:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def register(
        self, run: Run, manifest: Manifest, contents: Mapping[str, bytes], *, quarantined: str | None = None
    ) -> Version:
        self.kept = dict(contents)
        return Version(name=manifest.name, version=1, run_id=run.run_id, quarantined=quarantined)


@pytest.mark.parametrize(
    ("promoted", "most", "served"),
    [
        (True, 1.0, "as pruned_int8"),
        (True, -1.0, f"{AS_TRAINED}: the gate is closed"),
        (False, 1.0, AS_TRAINED),
    ],
)
def test_a_challenger_that_may_serve_is_registered_as_it_is_served(
    dataset: Dataset,
    evaluation: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    promoted: bool,
    most: float,
    served: str,
) -> None:
    judged = replace(evaluation, verdict=Verdict(promoted=promoted, reasons=("it is said",)))
    monkeypatch.setattr(retraining, "judged_on", lambda *_arguments, **_options: judged)
    monkeypatch.setattr(parity, "MOST_F1", most)
    monkeypatch.setattr(parity, "MOST_LOSS", 9.0)
    registry, recipe = _Registry(), Recipe(model="strided_cnn", settings={**QUICK, "width": 16})
    told = trained(
        dataset,
        recipe,
        cast(Registry, registry),
        cast(Run, _Run()),
        trials=1,
        room=tmp_path,
        optimise=SMALL,
    )
    assert told.served.startswith(served)
    assert (INT8_CPU in registry.kept) == (promoted and most > 0)
    assert (told.version.quarantined is None) == promoted


def test_the_benchmark_measures_every_way_to_serve_a_bundle(made: Bundle, bundle: Bundle, tmp_path: Path) -> None:
    program, out = REPO / "bench" / "models.py", tmp_path / "told.json"
    asked = [sys.executable, str(program), "--rounds", "2", "--out", str(out), "--bundle", str(made.directory)]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True)
    told = json.loads(out.read_text())
    rows = {row["name"]: row for row in told["rows"]}
    assert {"machine", "load", "rows"} == set(told)
    assert all({"name", "value", "unit", "baseline", "ratio"} == set(row) for row in told["rows"])
    file = rows["made pruned_int8: file"]
    assert (file["value"], file["baseline"]) == (len(made.contents[INT8_CPU]), len(made.contents[REFERENCE]))
    loss = rows["made pruned_int8: log loss"]
    assert loss["value"] == made.manifest.metrics["pruned_int8.log_loss"]
    assert rows["made int8: latency p50, batch 1"]["value"] > 0
    assert "pruned_int8, p50" in shown.stdout
    bench = runpy.run_path(str(program))
    assert set(bench["models_of"](bundle)) == {"fp32", "int8"}, "a net that was not optimised is measured as it is"


def test_the_benchmark_judges_routed_nets_by_what_a_window_takes_too(capsys: pytest.CaptureFixture[str]) -> None:
    bench = runpy.run_path(str(REPO / "bench" / "models.py"))
    released = load_bundle(REPO / "training" / "bundles" / "experts")
    ways = bench["ways_of"](released)
    for way in ways:
        way.ran_ns, way.took_ns, way.worked_ns = [60_000], [230_000], [200_000]
    bench["print_ways"]("experts", ways, released)
    shown = capsys.readouterr().out
    assert "held: routed, the net alone, p50 0.060 ms < 0.1 ms" in shown
    assert "MISSED: routed, from a window's rows, p50 0.230 ms < 0.1 ms" in shown
    assert "held: routed, from a window's rows, p99 0.230 ms < 1.0 ms" in shown
