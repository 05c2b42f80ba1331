"""The nets: their ONNX answers as they do, they can be kept, and they learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from scipy.special import softmax

from huracan.errors import BadInput
from huracan_training.models.baselines import Majority
from huracan_training.models.loop import LoopSettings
from huracan_training.models.nets import CausalTcn, LstmNet, NetClassifier, NetSettings, StridedCnn
from huracan_training.models.table import Surroundings, make_model
from huracan_training.models.tuning import losses_of
from huracan_training.samples import Floats, Rows

from .switching import QUESTION, switching_parts

NETS = ("lstm", "strided_cnn", "causal_tcn")


def fitted(name: str) -> NetClassifier:
    """Return a tiny net after a few steps."""
    parts = switching_parts(bars=300, assets=("AAA",))
    model = make_model(name, QUESTION, {"width": 8, "depth": 2, "epochs": 1, "steps_per_epoch": 3})
    assert isinstance(model, NetClassifier)
    model.fit(parts.train, parts.valid, seed=1)
    return model


def _of_onnx(file: Path, windows: Rows) -> Floats:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    answers: Floats = softmax(session.run(["logits"], {"windows": windows})[0], axis=1)
    return answers


@pytest.mark.parametrize("name", NETS)
def test_the_onnx_of_a_net_answers_as_torch_does(name: str, tmp_path: Path) -> None:
    model = fitted(name)
    model.write(tmp_path)
    kept = onnx.load(tmp_path / "model.onnx")
    assert kept.opset_import[0].version == 17
    rng = np.random.default_rng(0)
    for batch in (1, 7):
        windows = rng.standard_normal((batch, 6, 64)).astype(np.float32)
        with torch.no_grad():
            wanted = torch.softmax(model.net(torch.from_numpy(windows)), dim=1).numpy()
        np.testing.assert_allclose(_of_onnx(tmp_path / "model.onnx", windows), wanted, atol=1e-5)


def test_a_causal_net_keeps_the_order_of_time() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CausalTcn(3, 4, NetSettings(width=8, depth=6, dropout=0.0)).eval()
    windows = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(0))
    later = windows.clone()
    later[:, :, 40:] += 1
    with torch.no_grad():
        early, changed = net.blocks(net.enter(windows)), net.blocks(net.enter(later))
        first = windows.clone()
        first[:, :, 0] += 10
        reached = (net(first) - net(windows)).abs().max()
    torch.testing.assert_close(early[:, :, :40], changed[:, :, :40])
    assert float(reached) > 0


@pytest.mark.parametrize("depth", [0, 4])
def test_a_window_is_not_quartered_more_often_than_it_can_be(depth: int) -> None:
    with pytest.raises(BadInput, match=f"depth was {depth}; a window of 64 can be quartered 1 to 3 times"):
        StridedCnn(3, 4, NetSettings(width=8, depth=depth, dropout=0.0))


def test_the_original_detector_has_its_size() -> None:
    model = make_model("lstm", QUESTION)
    assert isinstance(model, NetClassifier)
    net = LstmNet(32, 4, model.size)
    assert (net.lstm.hidden_size, net.lstm.num_layers) == (128, 2)
    assert (net.head.in_features, net.head.out_features) == (128, 4)


def test_a_net_learns_and_answers_are_corrected_for_class_weights() -> None:
    parts = switching_parts(bars=1000)
    size = {"width": 16, "depth": 3, "learning_rate": 5e-3, "batch": 128, "epochs": 6, "dropout": 0.1}
    majority = Majority(QUESTION)
    majority.fit(parts.train, parts.valid, seed=1)
    means = []
    for power in (0.0, 1.0):
        around = Surroundings(loop=LoopSettings(class_weight_power=power))
        model = make_model("strided_cnn", QUESTION, size, around)
        model.fit(parts.train, parts.valid, seed=1)
        assert losses_of(model, parts.judged).mean() < losses_of(majority, parts.judged).mean() - 0.1
        means.append(np.concatenate([model.predict(sample) for sample in parts.valid]).mean(axis=0))
    np.testing.assert_allclose(means[0], means[1], atol=0.12)


def test_a_net_that_was_not_kept_is_not_read(tmp_path: Path) -> None:
    model = NetClassifier("strided_cnn", StridedCnn, QUESTION, NetSettings(width=8, depth=2, dropout=0.0))
    with pytest.raises(BadInput, match="could not be read"):
        model.read(tmp_path)
