"""Small models as ONNX, and bundles of them: what the tests of engines run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle

REGIME = Path(__file__).resolve().parents[2] / "training" / "bundles" / "regime"
"""The detector of this release."""
COLUMNS = ("move", "size_of_move", "clock_ahead")
CLASSES = ("Down", "Flat", "Up")
WINDOW = 64
SET_DIGEST = bytes(range(32))
_LAST_ROW = np.array([[-1.0, 0.0, 1.0], [0.0, -2.0, 0.5], [0.25, 0.5, 0.0]], dtype=np.float32)
"""What each column adds to each class, shape (columns, classes)."""

Windows = NDArray[np.float32]


def manifest(**changes: object) -> Manifest:
    """Return the manifest of a small model of three columns and three classes."""
    given: dict[str, object] = {
        "name": "small",
        "version": 1,
        "model": "last_row",
        "classes": CLASSES,
        "feature_set": "bar",
        "feature_set_digest": SET_DIGEST.hex(),
        "columns": COLUMNS,
        "window": WINDOW,
        "interval_ns": 900_000_000_000,
        "horizon_steps": 16,
        "data_digest": "1" * 64,
        "run_id": "run",
    }
    return Manifest.model_validate(given | changes)


def bundle(directory: Path, contents: Mapping[str, bytes] | None = None, **changes: object) -> Bundle:
    """Return a small bundle that was written into a directory."""
    return write_bundle(directory, manifest(**changes), contents or {"model.onnx": last_row()})


def regime_copy(directory: Path) -> Path:
    """Return a copy of the bundle of this release, to be damaged."""
    return shutil.copytree(REGIME, directory / "regime")


def regime() -> Bundle:
    """Return the bundle of this release."""
    return load_bundle(REGIME)


def windows(count: int, *, columns: int = len(COLUMNS), seed: int = 0, spread: float = 1.0) -> Windows:
    """Return windows as an outlook gives them, shape (count, columns, 64), in [-10, 10]."""
    values = np.random.default_rng(seed).normal(scale=spread, size=(count, columns, WINDOW))
    return np.clip(values, -10, 10).astype(np.float32)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    *,
    input_name: str = "windows",
    input_type: int = TensorProto.FLOAT,
    input_shape: Sequence[int | str] = ("batch", len(COLUMNS), WINDOW),
    output_name: str = "logits",
    output_shape: Sequence[int | str] = ("batch", len(CLASSES)),
) -> bytes:
    """Return a model as ONNX, opset 17."""
    made = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info(input_name, input_type, list(input_shape))],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, list(output_shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def last_row(weights: NDArray[np.float32] = _LAST_ROW, *, input_name: str = "windows", output: str = "logits") -> bytes:
    """Return a model whose logits are the last row of a window times weights."""
    nodes = [
        helper.make_node("Gather", [input_name, "newest"], ["row"], axis=2),
        helper.make_node("MatMul", ["row", "weights"], [output]),
    ]
    ends = {"input_name": input_name, "output_name": output}
    shapes = {"input_shape": ("batch", weights.shape[0], WINDOW), "output_shape": ("batch", weights.shape[1])}
    return graph(nodes, {"newest": np.array(WINDOW - 1, dtype=np.int64), "weights": weights}, **ends, **shapes)  # type: ignore[arg-type]


def root_of_last_row() -> bytes:
    """Return a model whose logits are no numbers where the last row has a value below 0."""
    nodes = [
        helper.make_node("Gather", ["windows", "newest"], ["row"], axis=2),
        helper.make_node("Sqrt", ["row"], ["logits"]),
    ]
    return graph(nodes, {"newest": np.array(WINDOW - 1, dtype=np.int64)})


def dynamically_quantised() -> bytes:
    """Return a model that scales its rows by the largest value of the whole batch."""
    nodes = [
        helper.make_node("Gather", ["windows", "newest"], ["row"], axis=2),
        helper.make_node("DynamicQuantizeLinear", ["row"], ["quantised", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["rounded"]),
        helper.make_node("MatMul", ["rounded", "weights"], ["logits"]),
    ]
    return graph(nodes, {"newest": np.array(WINDOW - 1, dtype=np.int64), "weights": _LAST_ROW})


def statically_quantised(model: bytes, directory: Path, columns: int) -> bytes:
    """Return a model with uint8 activations and int8 weights, as it is served on a CPU."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static  # type: ignore[import-untyped]

    class Calibration(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter([{"windows": windows(16, columns=columns, seed=seed)} for seed in range(4)])

        def get_next(self) -> dict[str, Windows] | None:
            return next(self._left, None)

    given, made = directory / "given.onnx", directory / "made.onnx"
    given.write_bytes(model)
    quantize_static(
        given,
        made,
        Calibration(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return made.read_bytes()
