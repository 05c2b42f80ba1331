"""What optimising is made of: slices of nets, INT8 that is what it says, parity and temperature."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from huracan.errors import BadInput
from huracan.inference.engine import FP32, INT8_CPU, session_of
from huracan.inference.tensorrt import INT8_GPU
from huracan_training.models.artefacts import ServedNet, logits_of
from huracan_training.models.compact import compact
from huracan_training.models.nets import CausalTcn, NetClassifier, NetSettings, StridedCnn, sliced
from huracan_training.models.table import make_model
from huracan_training.optimise.parity import Rows, Variant, fit_temperature, parity
from huracan_training.optimise.quantising import (
    quantised,
    require_quantised,
    require_static,
    tensorrt_lint,
)
from huracan_training.samples import Floats
from huracan_training.scores import scored

from .switching import QUESTION, Parts, switching_parts

QUICK: dict[str, float | int] = {"width": 10, "depth": 2, "epochs": 1, "steps_per_epoch": 3}


@pytest.fixture(scope="module")
def parts() -> Parts:
    return switching_parts(bars=400, assets=("AAA",))


def _fitted(name: str, parts: Parts) -> NetClassifier:
    model = make_model(name, QUESTION, QUICK)
    assert isinstance(model, NetClassifier)
    model.fit(parts.train, parts.valid, seed=1)
    return model


def _silence(net: nn.Module) -> None:
    """Let every third channel of a net say nothing."""
    strided = isinstance(net, StridedCnn)
    silent = [layer for name, layer in net.named_modules() if strided and name in ("last", "hidden")]
    silent += [each for each in net.modules() if isinstance(each, nn.BatchNorm1d if strided else nn.Conv1d)]
    with torch.no_grad():
        for layer in silent:
            for name in ("weight", "bias"):
                layer.get_parameter(name)[::3] = 0


@pytest.mark.parametrize("name", ["strided_cnn", "causal_tcn", "distilled_cnn"])
def test_a_net_without_its_silent_channels_answers_as_it_did(name: str, parts: Parts) -> None:
    model = _fitted(name, parts)
    net = next(each for each in model.net.modules() if isinstance(each, StridedCnn | CausalTcn))
    _silence(net)
    narrow = model.narrowed(0.3)
    assert narrow.size.width == 7
    assert sum(each.numel() for each in narrow.net.parameters()) < 0.8 * sum(
        each.numel() for each in model.net.parameters()
    )
    for sample in parts.judged:
        # `last` and `hidden` have 15 channels, 5 silent, of which 10 stay: all that speak
        np.testing.assert_allclose(narrow.predict(sample), model.predict(sample), atol=1e-6)


def test_the_weakest_channels_go_first() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CausalTcn(3, 4, NetSettings(width=4, depth=1, dropout=0.0))
        narrow = CausalTcn(3, 4, NetSettings(width=3, depth=1, dropout=0.0))
    with torch.no_grad():
        net.head.weight[:, 2] = 0
        net.blocks[0].get_submodule("conv").get_parameter("weight")[:, 2] = 0
    kept = sliced(net, narrow)
    torch.testing.assert_close(kept["enter.weight"], net.enter.weight[[0, 1, 3]])
    torch.testing.assert_close(kept["head.weight"], net.head.weight[:, [0, 1, 3]])


def test_a_narrow_net_is_tuned_kept_and_read_back(parts: Parts, tmp_path: Path) -> None:
    model = _fitted("strided_cnn", parts)
    narrow, again = model.narrowed(0.3), model.narrowed(0.3)
    before = narrow.predict(parts.judged[0])
    narrow.tune(parts.train, parts.valid, model, seed=1)
    again.tune(parts.train, parts.valid, model, seed=1)
    said = narrow.predict(parts.judged[0])
    assert said.tobytes() == again.predict(parts.judged[0]).tobytes()
    assert np.abs(said - before).max() > 0
    narrow.write(tmp_path)
    kept = make_model("strided_cnn", QUESTION, QUICK)
    assert isinstance(kept, NetClassifier)
    kept.read(tmp_path)
    assert kept.size.width == 7
    assert kept.predict(parts.judged[0]).tobytes() == said.tobytes()


def test_tuning_goes_on_from_what_was_learned(parts: Parts) -> None:
    """With next to no steps, a tuned net says nearly what it said; one that began anew would not."""
    model = _fitted("strided_cnn", parts)
    same = make_model("strided_cnn", QUESTION, {**QUICK, "learning_rate": 1e-8, "steps_per_epoch": 1})
    assert isinstance(same, NetClassifier)
    same._net, same._scaling, same._columns, same.size = model._net, model._scaling, model._columns, model.size
    before = model.predict(parts.judged[0])
    same.tune(parts.train, parts.valid, model, seed=9)
    assert np.abs(same.predict(parts.judged[0]) - before).max() < 0.05


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("lstm", 0.3, "lstm has no channels that could be taken out: prune none of it"),
        ("strided_cnn", 1.0, "share was 1.0 of 10 channels"),
        ("strided_cnn", 0.0, "share was 0.0 of 10 channels"),
        ("strided_cnn", 0.95, "share was 0.95 of 10 channels"),
    ],
)
def test_channels_that_cannot_be_taken_out_are_refused(name: str, share: float, message: str, parts: Parts) -> None:
    with pytest.raises(BadInput, match=message):
        _fitted(name, parts).narrowed(share)


def test_a_net_that_was_not_fitted_is_neither_narrowed_nor_tuned(parts: Parts) -> None:
    model = make_model("strided_cnn", QUESTION, QUICK)
    assert isinstance(model, NetClassifier)
    with pytest.raises(BadInput, match="was not fitted"):
        model.narrowed(0.3)
    with pytest.raises(BadInput, match="was not fitted"):
        model.tune(parts.train, parts.valid, model, seed=1)


@pytest.fixture(scope="module")
def plain(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a small net as ONNX."""
    directory = tmp_path_factory.mktemp("plain")
    _fitted("strided_cnn", parts).write(directory)
    return (directory / FP32).read_bytes()


def _noise(batch: int = 64) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, 6, 64)).astype(np.float32)


@pytest.mark.parametrize("artefact", [INT8_CPU, INT8_GPU])
def test_int8_says_nearly_the_same_whatever_the_batch(artefact: str, plain: bytes) -> None:
    made = quantised(plain, _noise(), artefact)
    assert made == quantised(plain, _noise(), artefact)
    windows = _noise(9)
    whole, small = session_of(plain), session_of(made)
    said = small.run(None, {"windows": windows})[0]
    np.testing.assert_allclose(said, whole.run(None, {"windows": windows})[0], atol=0.15)
    alone = np.concatenate([small.run(None, {"windows": windows[at : at + 1]})[0] for at in range(9)])
    assert alone.tobytes() == said.tobytes()


def test_names_that_nobody_reads_take_no_room_and_change_nothing(plain: bytes) -> None:
    named = onnx.load_from_string(plain)
    outer = {end.name for end in (*named.graph.input, *named.graph.output)}
    for node in named.graph.node:
        node.name = f"/a/very/long/module/{node.name}"
        node.output[:] = [name if name in outer else f"/a/very/long/module/{name}" for name in node.output]
        node.input[:] = [
            name
            if name in outer or any(name == each.name for each in named.graph.initializer)
            else f"/a/very/long/module/{name}"
            for name in node.input
        ]
    long = named.SerializeToString()
    assert len(compact(long)) < len(long) - 30 * len(named.graph.node)
    windows = _noise(3)
    for model in (long, compact(long), compact(compact(long))):
        said, plainly = (session_of(each).run(["logits"], {"windows": windows})[0] for each in (model, plain))
        assert said.tobytes() == plainly.tobytes()


def test_int8_that_is_none_is_refused(plain: bytes) -> None:
    with pytest.raises(BadInput, match="of the net was left in FP32"):
        require_quantised(plain, plain)
    made = quantised(plain, _noise(), INT8_CPU)
    require_quantised(made, plain)
    with pytest.raises(BadInput, match=r"take \d+% of those of FP32, more than 50%"):
        require_quantised(made, made)
    model = onnx.load_from_string(made)
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["windows"], ["a", "b", "c"]))
    with pytest.raises(BadInput, match="was quantised dynamically"):
        require_quantised(model.SerializeToString(), plain)


def test_a_layer_whose_output_stays_fp32_is_refused(plain: bytes) -> None:
    model = onnx.load_from_string(quantised(plain, _noise(), INT8_CPU))
    layer = next(node for node in model.graph.node if node.op_type == "Gemm")
    model.graph.node.append(helper.make_node("Neg", [layer.output[0]], ["other"]))
    with pytest.raises(BadInput, match="was left in FP32"):
        require_quantised(model.SerializeToString(), plain)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_recurrent_layers_are_refused_before_anything_is_made(layer: str) -> None:
    graph = helper.make_graph([helper.make_node(layer, ["windows"], ["logits"])], "net", [], [])
    with pytest.raises(BadInput, match=f"the net has {layer} layers, which have no static INT8"):
        require_static(helper.make_model(graph).SerializeToString())


def test_a_net_without_a_layer_is_refused() -> None:
    constant = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "c")
    value = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Neg", ["c"], ["logits"])], "net", [], [value], [constant])
    data = helper.make_model(graph).SerializeToString()
    with pytest.raises(BadInput, match="no layer of the net was left in FP32"):
        require_quantised(data, data)


def _parser(parses: bool, errors: tuple[str, ...]) -> Any:
    parser = SimpleNamespace(
        parse=lambda _data: parses,
        num_errors=len(errors),
        get_error=lambda at: SimpleNamespace(desc=lambda: errors[at]),
    )
    return SimpleNamespace(
        Logger=type("Logger", (), {"INTERNAL_ERROR": 0, "__init__": lambda _self, _level: None}),
        Builder=lambda _logger: SimpleNamespace(create_network=lambda _flags: None),
        OnnxParser=lambda _network, _logger: parser,
    )


@pytest.mark.parametrize(
    ("parser", "told"),
    [
        (None, "not run: tensorrt_rtx is not installed"),
        (_parser(True, ()), "parsed"),
        (_parser(False, ("Invalid Node\nat once", "and more")), "Invalid Node; and more"),
        (_parser(False, ()), "it does not say why"),
    ],
)
def test_what_a_parser_of_tensorrt_says_is_told(parser: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_parser", parser)
    lint = tensorrt_lint(b"", ("a_parser",))
    assert str(lint) == told
    assert lint.ran == (parser is not None)


def _said(seed: int = 0) -> tuple[Rows, Floats]:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((2_000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((2_000, 1)) > np.cumsum(shares, axis=1)).sum(axis=1).astype(np.int64)
    return Rows(labels=labels, at_ns=np.arange(2_000, dtype=np.int64), horizon=4), logits


def test_a_net_that_says_the_same_passes_and_one_that_does_not_fails() -> None:
    rows, logits = _said()
    same = parity(rows, logits, logits, seed=1)
    assert not same.failures()
    assert (same.gain.value, same.macro_f1_lost, same.largest_deviation, same.agreement) == (0, 0, 0, 1)
    other = parity(rows, np.roll(logits, 1, axis=1), logits, seed=1)
    assert [each.partition(" by ")[0] for each in other.failures()] == ["macro-F1 fell", "log loss rose"]
    assert other.gain.high < 0
    assert other.agreement < 0.5
    assert other.mean_deviation > 0.05


def test_what_is_no_number_fails() -> None:
    rows, logits = _said()
    broken = np.where(np.arange(4) == 0, np.nan, logits)
    with pytest.raises(BadInput, match="missing"):
        parity(rows, broken, logits, seed=1)


def test_a_better_net_passes() -> None:
    rows, logits = _said()
    assert parity(rows, logits, 3 * logits, seed=1).failures() == ()


def test_the_temperature_is_told_from_logits_that_were_too_sure_and_is_1_where_that_is_not_certain() -> None:
    rows, logits = _said()
    assert fit_temperature(rows, logits, seed=1) == 1.0
    assert fit_temperature(rows, 3 * logits, seed=1) == pytest.approx(3, rel=0.1)
    assert fit_temperature(rows, logits / 2, seed=1) == pytest.approx(0.5, rel=0.1)


def test_the_numbers_of_a_variant_have_its_name() -> None:
    rows, logits = _said()
    scores = scored(rows.labels, np.full((2_000, 4), 0.25))
    alone = Variant(name="fp32", bytes=8, scores=scores).metrics()
    assert set(alone) == {"fp32.bytes", "fp32.log_loss", "fp32.macro_f1", "fp32.ece"}
    beside = Variant(name="int8", bytes=2, scores=scores, parity=parity(rows, logits, logits, seed=1)).metrics()
    assert beside["int8.agreement"] == 1


def test_logits_come_in_the_order_of_windows(plain: bytes, parts: Parts) -> None:
    model = _fitted("strided_cnn", parts)
    windows = model.fed(parts.judged)
    said = logits_of(session_of(plain), windows)
    assert said.shape == (len(windows.at), 4)
    first = windows.windows(torch.tensor([len(said) - 1])).numpy()
    np.testing.assert_allclose(session_of(plain).run(None, {"windows": first})[0][0], said[-1], atol=1e-5)


def test_what_is_served_in_int8_is_not_trained_or_written_again(parts: Parts, tmp_path: Path) -> None:
    served = ServedNet(_fitted("strided_cnn", parts), 1.0)
    with pytest.raises(BadInput, match="served in INT8 and learns no more"):
        served.fit(parts.train, parts.valid, seed=1)
    with pytest.raises(BadInput, match="is not written again"):
        served.write(tmp_path)
    with pytest.raises(BadInput, match="was not fitted"):
        served.predict(parts.judged[0])
