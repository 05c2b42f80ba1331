"""Engines: what they answer, and what is refused by file and reason."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from huracan.errors import BadInput, Fatal
from huracan.inference.bundle import load_bundle
from huracan.inference.engine import LARGEST_BATCH, EngineFault, OnnxEngine
from huracan.inference.probabilities import SMALLEST_PROBABILITY, as_probabilities, softmax

from .models_of_tests import (
    COLUMNS,
    SET_DIGEST,
    WINDOW,
    Windows,
    bundle,
    dynamically_quantised,
    graph,
    last_row,
    regime,
    regime_copy,
    root_of_last_row,
    statically_quantised,
    windows,
)


def _last(*values: float) -> Windows:
    window = windows(1)
    window[0, :, -1] = values
    return window


def test_probabilities_are_the_softmax_of_what_the_model_says(tmp_path: Path) -> None:
    told = OnnxEngine(bundle(tmp_path / "b")).run(_last(1.0, 0.0, 0.0))
    assert told.dtype == np.float64
    assert told.shape == (1, 3)
    weights = np.exp([-1.0, 0.0, 1.0])
    np.testing.assert_allclose(told[0], weights / weights.sum(), atol=1e-7)


def test_the_temperature_of_the_manifest_flattens_what_is_told(tmp_path: Path) -> None:
    hot = OnnxEngine(bundle(tmp_path / "b", temperature=2.0)).run(_last(1.0, 0.0, 0.0))
    weights = np.exp([-0.5, 0.0, 0.5])
    np.testing.assert_allclose(hot[0], weights / weights.sum(), atol=1e-7)


def test_no_class_is_told_to_be_impossible(tmp_path: Path) -> None:
    certain = OnnxEngine(bundle(tmp_path / "b", {"model.onnx": last_row(np.full((3, 3), 1e3, dtype=np.float32))}))
    assert certain.run(_last(1.0, 1.0, 1.0)).tolist() == [[pytest.approx(1 / 3)] * 3]
    told = softmax(np.array([[-900.0, 0.0, 900.0]]))
    assert told.sum() == pytest.approx(1.0, abs=1e-12)
    assert told.min() == pytest.approx(SMALLEST_PROBABILITY, rel=1e-5)
    assert as_probabilities(np.array([[0.0, 3.0]])).tolist() == [[pytest.approx(1e-6 / 3.000001), pytest.approx(1.0)]]


def test_the_quantised_artefact_is_preferred_and_has_a_digest_of_its_own(tmp_path: Path) -> None:
    model = last_row()
    plain = OnnxEngine(bundle(tmp_path / "plain", {"model.onnx": model}))
    both = bundle(tmp_path / "both", {"model.onnx": root_of_last_row(), "model.cpu.onnx": model})
    engine = OnnxEngine(both)
    assert (plain.artefact, engine.artefact) == ("model.onnx", "model.cpu.onnx")
    assert engine.run(_last(-1.0, 0.0, 0.0)).tobytes() == plain.run(_last(-1.0, 0.0, 0.0)).tobytes()
    assert OnnxEngine(both, preferred=["model.onnx"]).artefact == "model.onnx"
    assert len(engine.digest) == 32
    assert engine.digest != plain.digest
    assert engine.digest == OnnxEngine(both).digest


def test_a_bundle_of_another_temperature_is_another_engine(tmp_path: Path) -> None:
    digests = {OnnxEngine(bundle(tmp_path / str(t), temperature=t)).digest for t in (1.0, 1.5)}
    assert len(digests) == 2


@pytest.mark.parametrize("name", ["model.onnx", "model.cpu.onnx", "outlook.json", "weights.npz"])
def test_one_flipped_byte_of_any_artefact_is_refused_before_anything_runs(name: str, tmp_path: Path) -> None:
    if name == "model.cpu.onnx":
        room = bundle(tmp_path / "regime", {"model.onnx": last_row(), "model.cpu.onnx": last_row()}).directory
    else:
        room = regime_copy(tmp_path)
    data = bytearray((room / name).read_bytes())
    data[len(data) // 2] ^= 1
    (room / name).write_bytes(data)
    with pytest.raises(BadInput, match=rf"{name} was .* it is not what was exported"):
        load_bundle(room)


def test_what_is_tampered_with_after_the_check_is_not_what_runs(tmp_path: Path) -> None:
    checked = bundle(tmp_path / "b")
    (tmp_path / "b" / "model.onnx").write_bytes(root_of_last_row())
    assert np.isfinite(OnnxEngine(checked).run(_last(-1.0, -1.0, -1.0))).all()


def _other_ends(**ends: object) -> bytes:
    names = (str(ends.get("input_name", "windows")), str(ends.get("output_name", "logits")))
    nodes = [helper.make_node("ReduceMean", [names[0]], [names[1]], axes=[2], keepdims=0)]
    return graph(nodes, {}, **ends)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"no model", "cannot be loaded: "),
        (_other_ends(input_name="x"), r"input was x tensor\(float\) .* needs windows tensor\(float\)"),
        (_other_ends(output_name="y"), r"output was y .* needs logits"),
        (_other_ends(input_shape=("batch", 4, WINDOW)), r"input was .*4, 64\]; its manifest needs .*\(3, 64\)"),
        (_other_ends(input_shape=("batch", 3, 32)), r"input was .*3, 32\]; its manifest needs"),
        (_other_ends(input_shape=(1, 3, WINDOW), output_shape=(1, 3)), "needs windows .* of any batch"),
        (
            graph(
                [
                    helper.make_node("Cast", ["windows"], ["floats"], to=TensorProto.FLOAT),
                    helper.make_node("ReduceMean", ["floats"], ["logits"], axes=[2], keepdims=0),
                ],
                {},
                input_type=TensorProto.DOUBLE,
            ),
            r"input was windows tensor\(double\)",
        ),
        (
            graph(
                [
                    helper.make_node("ReduceMean", ["windows"], ["mean"], axes=[2], keepdims=0),
                    helper.make_node("Log", ["mean"], ["logits"]),
                ],
                {},
            ),
            "not finite to 1 windows, which were zeros",
        ),
    ],
)
def test_a_model_that_is_not_of_its_manifest_is_refused_by_file_and_reason(
    model: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=rf"model\.onnx.*{reason}"):
        OnnxEngine(bundle(tmp_path / "b", {"model.onnx": model}))


def test_a_bundle_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no model\.cpu\.onnx or model\.onnx: export it"):
        OnnxEngine(bundle(tmp_path / "b", {"card.md": b"# Card\n"}))


def test_without_onnx_runtime_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return plain(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Fatal, match=r"install huracan\[inference\]"):
        OnnxEngine(bundle(tmp_path / "b"))


def _with(value: float) -> Windows:
    window = windows(2)
    window[1, 0, 5] = value
    return window


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (windows(1).astype(np.float64), "windows were float64 of shape"),
        (windows(1)[0], r"of shape \(3, 64\)"),
        (windows(1, columns=4), r"takes float32 of shape \(b, 3, 64\)"),
        (windows(1)[:, :, :63], r"of shape \(1, 3, 63\)"),
        (windows(1)[:0], "windows were 0; ask about 1 to 64"),
        (windows(LARGEST_BATCH + 1), "windows were 65; ask about 1 to 64"),
        (_with(np.nan), "windows had 1 values that were not finite"),
        (_with(-np.inf), "windows had 1 values that were not finite"),
    ],
)
def test_windows_that_are_not_as_the_model_was_trained_are_refused_and_counted(
    asked: Windows, reason: str, tmp_path: Path
) -> None:
    engine = OnnxEngine(bundle(tmp_path / "b"))
    with pytest.raises(BadInput, match=reason):
        engine.run(asked)
    assert engine.counts == {"engine.refused": 1}


def test_an_answer_that_is_no_number_is_a_fault_that_is_counted_and_the_next_is_answered(tmp_path: Path) -> None:
    engine = OnnxEngine(bundle(tmp_path / "b", {"model.onnx": root_of_last_row()}))
    with pytest.raises(EngineFault, match=r"model\.onnx answered with values that were not finite"):
        engine.run(_last(1.0, -1.0, 1.0))
    assert np.isfinite(engine.run(_last(1.0, 1.0, 1.0))).all()
    assert engine.counts == {"engine.runs": 2, "engine.windows": 2, "engine.faults": 1}


_MEAN = helper.make_node("ReduceMean", ["windows"], ["mean"], axes=[2], keepdims=0)


def test_a_model_that_answers_twice_is_refused_when_it_is_warmed_up(tmp_path: Path) -> None:
    twice = graph([_MEAN, helper.make_node("Concat", ["mean", "mean"], ["logits"], axis=0)], {})
    with pytest.raises(BadInput, match=r"answered with shape \(2, 3\) to 1 windows"):
        OnnxEngine(bundle(tmp_path / "b", {"model.onnx": twice}))


def test_a_runtime_that_fails_is_a_fault_that_is_counted(tmp_path: Path) -> None:
    for_one_or_all = graph(
        [
            _MEAN,
            helper.make_node("Add", ["mean", "for_all"], ["added"]),
            helper.make_node("Shape", ["windows"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["batch"]),
            helper.make_node("Slice", ["added", "first", "batch"], ["logits"]),
        ],
        {"for_all": np.zeros((LARGEST_BATCH, 3), dtype=np.float32), "first": np.array([0], dtype=np.int64)},
    )
    engine = OnnxEngine(bundle(tmp_path / "b", {"model.onnx": for_one_or_all}))
    with pytest.raises(EngineFault, match=r"model\.onnx failed on 2 windows: "):
        engine.run(windows(2))
    assert np.isfinite(engine.run(windows(1))).all()
    assert engine.counts == {"engine.runs": 2, "engine.windows": 3, "engine.faults": 1}


def test_features_of_another_set_and_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    engine = OnnxEngine(bundle(tmp_path / "b"))
    engine.check_features(SET_DIGEST, COLUMNS)
    with pytest.raises(BadInput, match=r"features were of 000000000000…, and it was trained on 000102030405… of bar"):
        engine.check_features(bytes(32), COLUMNS)
    with pytest.raises(BadInput, match="column 1 was clock_ahead, not size_of_move"):
        engine.check_features(SET_DIGEST, ("move", "clock_ahead", "size_of_move"))
    with pytest.raises(BadInput, match="columns were 2, not 3"):
        engine.check_features(SET_DIGEST, COLUMNS[:2])


def test_the_engine_says_whether_an_answer_depends_on_its_batch(tmp_path: Path) -> None:
    assert OnnxEngine(bundle(tmp_path / "plain")).fixed_batch_result
    static = statically_quantised(last_row(), tmp_path, len(COLUMNS))
    assert b"QuantizeLinear" in static
    assert OnnxEngine(bundle(tmp_path / "static", {"model.cpu.onnx": static})).fixed_batch_result
    engine = OnnxEngine(bundle(tmp_path / "dynamic", {"model.onnx": dynamically_quantised()}))
    assert not engine.fixed_batch_result
    asked = windows(2)
    asked[1] *= 5
    assert engine.run(asked)[0].tolist() != engine.run(asked[:1])[0].tolist()


def test_the_detector_of_this_release_runs_and_so_does_its_quantised_form(tmp_path: Path) -> None:
    plain = OnnxEngine(regime(), preferred=["model.onnx"])
    assert plain.classes == 4
    data = regime().contents
    small = statically_quantised(data["model.onnx"], tmp_path, len(plain.manifest.columns))
    quantised = OnnxEngine(
        bundle(
            tmp_path / "small",
            {"model.onnx": data["model.onnx"], "model.cpu.onnx": small},
            columns=plain.manifest.columns,
            classes=plain.manifest.classes,
        )
    )
    asked = windows(64, columns=len(plain.manifest.columns))
    said, rounded = plain.run(asked), quantised.run(asked)
    assert np.abs(said - rounded).mean() < 0.05
    assert (said.argmax(axis=1) == rounded.argmax(axis=1)).mean() > 0.9
