"""Static INT8 of an ONNX net: one set of windows to calibrate by, an artefact for each engine, and what each must be.

Nothing of torch is needed here.
"""

from __future__ import annotations

import importlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

from huracan.errors import BadInput
from huracan.inference.engine import INT8_CPU
from huracan.inference.tensorrt import INT8_GPU
from huracan_training.models.compact import compact
from huracan_training.samples import Rows

MOST_BYTES = 0.5
"""An artefact's weights may take this share of those of its FP32 net; INT8 takes a quarter, and scales beside it."""
LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""What INT8 is for."""
PARSERS = ("tensorrt_rtx", "tensorrt_rtx_bindings")
"""Names under which TensorRT-RTX is installed: whole, or its libraries and bindings alone."""
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_DYNAMIC = ("DynamicQuantize", "ConvInteger", "MatMulInteger")
_PASSED_THROUGH = frozenset({"Relu"})
"""What engines fuse with the layer before it."""
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How an engine wants its INT8."""

    activations: Any
    options: Mapping[str, bool]
    seven_bits: bool
    """Whether weights keep to 7 of their 8 bits: processors without VNNI add pairs of products in 16 bits, which
    overflow with the eighth, and would answer otherwise than those with it."""


KINDS: Mapping[str, Kind] = {
    INT8_CPU: Kind(activations=QuantType.QUInt8, options={}, seven_bits=True),
    INT8_GPU: Kind(
        activations=QuantType.QInt8,
        options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        seven_bits=False,
    ),
}
"""TensorRT takes neither unsigned activations nor quantised biases; ONNX Runtime is slower with signed ones."""


def quantised(model: bytes, windows: Rows, artefact: str) -> bytes:
    """Return a net with static INT8 layers, their ranges from windows (n, columns, rows) that it was trained on.

    What comes after the last layer stays FP32. Weights are signed, one scale a channel. Raises BadInput for a net whose
    layers cannot be quantised so, or are not afterwards.
    """
    require_static(model)
    kind = KINDS[artefact]
    with tempfile.TemporaryDirectory() as directory:
        plain, made = Path(directory) / "plain.onnx", Path(directory) / "quantised.onnx"
        quant_pre_process(onnx.load_from_string(model), str(plain), skip_symbolic_shape=True)
        quantize_static(
            str(plain),
            str(made),
            _Calibration(windows),
            quant_format=QuantFormat.QDQ,
            activation_type=kind.activations,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=kind.seven_bits,
            nodes_to_exclude=_after_the_last_layer(onnx.load(plain)),
            extra_options=dict(kind.options),
        )
        data = compact(made.read_bytes())
    require_quantised(data, model)
    return data


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, windows: Rows) -> None:
        self._batches = iter(windows[first : first + _BATCH] for first in range(0, len(windows), _BATCH))

    def get_next(self) -> dict[str, Rows] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"windows": batch}


def require_static(model: bytes) -> None:
    """Raise BadInput for a net that static INT8 would leave as it is."""
    found = sorted(_RECURRENT.intersection(operators(model)))
    if found:
        raise BadInput(
            f"the net has {' and '.join(found)} layers, which have no static INT8: serve it as FP32, or quantise it "
            "dynamically and never in micro-batches"
        )


def require_quantised(data: bytes, model: bytes) -> None:
    """Raise BadInput unless every layer is between Quantize- and DequantizeLinear, and the weights are as small."""
    graph = onnx.load_from_string(data).graph
    dynamic = sorted({node.op_type for node in graph.node if node.op_type.startswith(_DYNAMIC)})
    if dynamic:
        raise BadInput(
            f"the net was quantised dynamically ({', '.join(dynamic)}): its answers would depend on the batch"
        )
    made_by = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    layers = [node for node in graph.node if node.op_type in LAYERS]
    plain = [
        node.name or node.op_type
        for node in layers
        if any(made_by.get(name, node).op_type != "DequantizeLinear" for name in node.input[:2])
        or not all(each.op_type == "QuantizeLinear" for each in _read_by(node, readers))
    ]
    if plain or not layers:
        raise BadInput(f"{', '.join(plain) or 'no layer'} of the net was left in FP32: it is not what INT8 means here")
    share = weight_bytes(data) / weight_bytes(model)
    if share > MOST_BYTES:
        raise BadInput(f"the weights of the INT8 net take {share:.0%} of those of FP32, more than {MOST_BYTES:.0%}")


def _read_by(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> Iterator[NodeProto]:
    """Yield what reads the output of a layer, past what engines fuse with it."""
    for reader in readers.get(node.output[0], []):
        if reader.op_type in _PASSED_THROUGH:
            yield from _read_by(reader, readers)
        else:
            yield reader


def operators(model: bytes) -> Counter[str]:
    """Return how many operators of each type a net has."""
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def weight_bytes(model: bytes) -> int:
    """Return the size of the constants of a net, in bytes."""
    return sum(numpy_helper.to_array(each).nbytes for each in onnx.load_from_string(model).graph.initializer)


def _after_the_last_layer(model: ModelProto) -> list[str]:
    """Return the names of nodes with no layer behind them, themselves none."""
    leads: set[str] = set()
    free = []
    for node in reversed(model.graph.node):
        if node.op_type in LAYERS or leads.intersection(node.output):
            leads.update(node.input)
        else:
            free.append(node.name)
    return free


@dataclass(frozen=True, slots=True)
class Lint:
    """What a parser of the TensorRT family says of a net."""

    ran: bool
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a few words."""
        if not self.ran:
            return "not run: tensorrt_rtx is not installed"
        return "; ".join(self.errors) or "parsed"


def tensorrt_lint(data: bytes, parsers: Sequence[str] = PARSERS) -> Lint:
    """Return what TensorRT-RTX says of a net, which parses without a GPU; it is proprietary and never required."""
    trt = next((found for name in parsers if (found := _module(name)) is not None), None)
    if trt is None:
        return Lint(ran=False)
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    if parser.parse(data):
        return Lint(ran=True)
    errors = (str(parser.get_error(at).desc()).partition("\n")[0] for at in range(parser.num_errors))
    return Lint(ran=True, errors=tuple(errors) or ("it does not say why",))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
