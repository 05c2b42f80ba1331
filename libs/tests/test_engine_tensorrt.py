"""Engines on TensorRT: built once, kept whole, and ONNX Runtime in their place where they cannot be had."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import structlog

from huracan.errors import BadInput
from huracan.inference.cuda import CudaDriver, open_driver
from huracan.inference.engine import LARGEST_BATCH, EngineFault, Logits, OnnxEngine, Windows
from huracan.inference.opening import open_engine
from huracan.inference.tensorrt import Driver, Ends, Plan, PlanCache, TensorRtEngine, Unavailable

from .gpu_of_tests import FakeCuda, FakeTensorRt
from .models_of_tests import bundle, last_row, root_of_last_row, windows

ENDS = Ends({"windows": (-1, 3, 64)}, {"logits": (-1, 3)})


class StubPlan:
    """Answers the last row itself."""

    def __init__(self, ends: Ends, fault: str = "") -> None:
        self.ends = ends
        self.fault = fault

    def logits(self, windows: Windows) -> Logits:
        if self.fault:
            raise EngineFault(self.fault)
        return windows[:, :, -1]


class StubDriver:
    """A GPU that is only a name; counts what it is asked."""

    def __init__(self, *, gpu: str = "NVIDIA H100", capability: str = "9.0", version: str = "10.15.1") -> None:
        self.gpu, self.capability, self.version = gpu, capability, version
        self.built: list[bytes] = []
        self.refuses: set[bytes] = set()
        self.plan = StubPlan(ENDS)
        self.cannot_build = ""

    def build(self, model: bytes, shape: tuple[int, int]) -> bytes:
        if self.cannot_build:
            raise Unavailable(self.cannot_build)
        assert shape == (3, 64)
        self.built.append(model)
        return b"plan %d of " % len(self.built) + model

    def load(self, plan: bytes) -> Plan:
        if plan in self.refuses:
            raise Unavailable("it is of another driver")
        return self.plan


class Told(list[str]):
    """What was told, in order."""

    def __call__(self, event: str) -> None:
        self.append(event)


def _engine(room: Path, driver: Driver, told: Told, **contents: bytes) -> TensorRtEngine:
    files = {name.replace("_", "."): data for name, data in contents.items()} or None
    return TensorRtEngine(bundle(room / "bundle", files), driver, PlanCache(room / "plans"), told)


def _plan_file(room: Path) -> Path:
    (found,) = (room / "plans").glob("*.plan")
    return found


def test_a_model_is_built_at_the_first_start_and_loaded_at_the_next(tmp_path: Path) -> None:
    driver, told = StubDriver(), Told()
    first = _engine(tmp_path, driver, told)
    asked = windows(5)
    np.testing.assert_allclose(first.run(asked)[0], np.exp(asked[0, :, -1]) / np.exp(asked[0, :, -1]).sum(), rtol=1e-5)
    again = _engine(tmp_path, driver, told)
    assert len(driver.built) == 1
    assert again.digest == first.digest
    assert [event.partition("model.onnx ")[2][:32] for event in told] == ["was built for NVIDIA H100 and ke"]
    assert sorted(path.suffix for path in (tmp_path / "plans").iterdir()) == [".plan", ".sha256"]


def test_the_artefact_for_gpus_is_preferred(tmp_path: Path) -> None:
    driver = StubDriver()
    engine = _engine(tmp_path, driver, Told(), model_onnx=last_row(), model_trt_onnx=b"for gpus")
    assert engine.artefact == "model.trt.onnx"
    assert driver.built == [b"for gpus"]


def test_another_gpu_version_or_model_has_another_plan(tmp_path: Path) -> None:
    cache, model = PlanCache(tmp_path), b"model"
    others = [StubDriver(gpu="NVIDIA H200"), StubDriver(capability="8.9"), StubDriver(version="10.15.2")]
    paths = [cache.path(each, model) for each in (StubDriver(), *others)] + [cache.path(StubDriver(), b"Model")]
    assert len(set(paths)) == len(paths)
    assert cache.path(StubDriver(), model) == paths[0]
    assert paths[0].name.startswith("nvidia-h100-")


def test_two_builds_are_two_engines(tmp_path: Path) -> None:
    driver = StubDriver()
    one, other = (_engine(tmp_path / name, driver, Told()) for name in "ab")
    assert one.digest != other.digest


_DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte": lambda plan: plan.write_bytes(plan.read_bytes()[:-1] + b"!"),
    "empty": lambda plan: plan.write_bytes(b""),
    "no sum": lambda plan: plan.with_suffix(".sha256").unlink(),
    "no text": lambda plan: plan.with_suffix(".sha256").write_bytes(b"\xff"),
    "another sum": lambda plan: plan.with_suffix(".sha256").write_text("0" * 64),
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES)
def test_a_damaged_plan_is_told_and_built_again(damage: Callable[[Path], object], tmp_path: Path) -> None:
    driver, told = StubDriver(), Told()
    _engine(tmp_path, driver, told)
    damage(_plan_file(tmp_path))
    told.clear()
    _engine(tmp_path, driver, told)
    assert len(driver.built) == 2
    assert "was not as it was kept: it is built again" in told[0]
    _engine(tmp_path, driver, told)
    assert len(driver.built) == 2, "what was built again is kept"


def test_a_plan_that_the_gpu_refuses_is_told_and_built_again(tmp_path: Path) -> None:
    driver, told = StubDriver(), Told()
    _engine(tmp_path, driver, told)
    driver.refuses.add(_plan_file(tmp_path).read_bytes())
    _engine(tmp_path, driver, told)
    assert len(driver.built) == 2
    assert "was refused (it is of another driver): it is built again" in told[1]


def test_a_directory_that_takes_nothing_costs_the_next_start_a_build_and_no_more(tmp_path: Path) -> None:
    driver, told = StubDriver(), Told()
    (tmp_path / "plans").write_text("in the way")
    assert np.isfinite(_engine(tmp_path, driver, told).run(windows(1))).all()
    assert "could not be kept" in told[0]
    assert "the next start builds it again" in told[0]


def test_a_plan_of_other_windows_is_refused(tmp_path: Path) -> None:
    driver = StubDriver()
    driver.plan = StubPlan(Ends({"windows": (-1, 4, 64)}, {"logits": (-1, 3)}))
    with pytest.raises(BadInput, match=r"model\.onnx: its plan takes and gives .*\(-1, 4, 64\)"):
        _engine(tmp_path, driver, Told())


def test_a_gpu_that_fails_is_a_fault_that_is_counted(tmp_path: Path) -> None:
    driver = StubDriver()
    engine = _engine(tmp_path, driver, Told())
    driver.plan.fault = "the GPU failed"
    with pytest.raises(EngineFault, match="the GPU failed"):
        engine.run(windows(1))
    assert engine.counts["engine.faults"] == 1


def _opened(room: Path, driver: Callable[[], Driver], told: Told) -> object:
    return open_engine(bundle(room / "bundle"), prefer="tensorrt", cache=room / "plans", tell=told, driver=driver)


def test_tensorrt_is_opened_where_it_is_preferred_and_can_be_had(tmp_path: Path) -> None:
    assert isinstance(_opened(tmp_path, StubDriver, Told()), TensorRtEngine)


def _never() -> Driver:
    raise AssertionError("no driver was to be opened")


def test_onnx_runtime_is_opened_where_it_is_preferred(tmp_path: Path) -> None:
    assert isinstance(open_engine(bundle(tmp_path / "b"), driver=_never), OnnxEngine)


def test_plans_need_a_directory(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="plans was not set: name a directory"):
        open_engine(bundle(tmp_path / "b"), prefer="tensorrt", driver=_never)


def _no_gpu() -> Driver:
    return CudaDriver(FakeTensorRt(), FakeCuda(gpus=0))


def _cannot_build() -> Driver:
    driver = StubDriver()
    driver.cannot_build = "no kernel for QuantizeLinear"
    return driver


def _gives_no_numbers() -> Driver:
    driver = StubDriver()
    driver.plan.fault = "answered nothing"
    return driver


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (open_driver, "TensorRT cannot be imported: No module named 'tensorrt'"),
        (_no_gpu, "there is no GPU: cudaErrorNoDevice"),
        (_cannot_build, "no kernel for QuantizeLinear"),
        (_gives_no_numbers, "answered nothing, which were zeros"),
    ],
)
def test_where_tensorrt_cannot_be_had_onnx_runtime_answers_and_the_reason_is_told(
    driver: Callable[[], Driver], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_tensorrt(monkeypatch)
    told = Told()
    engine = _opened(tmp_path, driver, told)
    assert isinstance(engine, OnnxEngine)
    assert np.isfinite(engine.run(windows(2))).all()
    assert f"runs on {engine.runtime} instead of TensorRT: " in told[-1]
    assert reason in told[-1]


def _without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "tensorrt":
            raise ImportError("No module named 'tensorrt'")
        return plain(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)


def test_where_nobody_is_to_be_told_the_log_is(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        open_engine(bundle(tmp_path / "b"), prefer="tensorrt", cache=tmp_path, driver=_no_gpu)
    assert [entry["log_level"] for entry in logged] == ["warning"]


def test_a_bundle_that_no_runtime_takes_is_refused(tmp_path: Path) -> None:
    broken = bundle(tmp_path / "b", {"model.onnx": b"no model"})
    with pytest.raises(BadInput, match=r"model\.onnx cannot be loaded"):
        open_engine(broken, prefer="tensorrt", cache=tmp_path, tell=Told(), driver=_cannot_build)


def _cuda_engine(room: Path, trt: FakeTensorRt, cuda: FakeCuda, model: bytes | None = None) -> TensorRtEngine:
    return _engine(room, CudaDriver(trt, cuda), Told(), model_onnx=model or last_row())


def test_the_driver_builds_as_is_promised_and_copies_what_is_asked_there_and_back(tmp_path: Path) -> None:
    trt, cuda = FakeTensorRt(), FakeCuda()
    engine = _cuda_engine(tmp_path, trt, cuda)
    assert engine.runtime.startswith("tensorrt 10.15.1 Fake GPU 80GB 9.0 plan ")
    assert trt.profile == ((1, 3, 64), (8, 3, 64), (64, 3, 64))
    assert trt.flags == set(), "FP32 stays FP32"
    assert trt.created == 2, "types are those of the model"
    there = OnnxEngine(bundle(tmp_path / "onnx"))
    for count in (1, 3, LARGEST_BATCH, 2):
        asked = windows(count, seed=count)
        assert engine.run(asked).tobytes() == there.run(asked).tobytes()
    transposed = np.ascontiguousarray(windows(4).transpose(0, 2, 1)).transpose(0, 2, 1)
    assert engine.run(transposed).tobytes() == there.run(windows(4)).tobytes()


def test_memory_of_the_gpu_is_given_back(tmp_path: Path) -> None:
    trt, cuda = FakeTensorRt(), FakeCuda()
    engine = _cuda_engine(tmp_path, trt, cuda)
    assert len(cuda.memory) == 2
    del engine
    assert not cuda.memory
    assert cuda.calls["cudaStreamDestroy"] == 1
    cuda.failing.add("cudaMalloc")
    with pytest.raises(Unavailable, match="cudaErrorMemoryAllocation"):
        _cuda_engine(tmp_path, trt, cuda)
    assert not cuda.memory


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ("has_builder", "has no builder for Fake GPU 80GB"),
        ("reads", "cannot read the model: error 0 of the parser$"),
        ("builds", "built nothing for Fake GPU 80GB"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(flaw: str, reason: str, tmp_path: Path) -> None:
    trt = FakeTensorRt()
    setattr(trt, flaw, False)
    with pytest.raises(Unavailable, match=reason):
        _cuda_engine(tmp_path, trt, FakeCuda())


def test_a_plan_that_cannot_be_taken_says_why() -> None:
    trt = FakeTensorRt()
    driver = CudaDriver(trt, FakeCuda())
    with pytest.raises(Unavailable, match="does not take the plan"):
        driver.load(b"of another version")
    trt.kind = "float16"
    with pytest.raises(Unavailable, match="windows was float16, not float32"):
        driver.load(trt.PLAN + last_row())


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_a_call_of_cuda_that_fails_is_a_fault(call: str, tmp_path: Path) -> None:
    cuda = FakeCuda()
    engine = _cuda_engine(tmp_path, FakeTensorRt(), cuda)
    cuda.failing.add(call)
    with pytest.raises(EngineFault, match="the GPU failed on 2 windows: cudaErrorMemoryAllocation"):
        engine.run(windows(2))
    cuda.failing.clear()
    assert np.isfinite(engine.run(windows(2))).all()


@pytest.mark.parametrize("flaw", ["runs", "takes_shapes"])
def test_a_plan_that_does_not_run_is_a_fault(flaw: str, tmp_path: Path) -> None:
    trt = FakeTensorRt()
    engine = _cuda_engine(tmp_path, trt, FakeCuda())
    setattr(trt, flaw, False)
    with pytest.raises(EngineFault, match="TensorRT did not run 2 windows"):
        engine.run(windows(2))


def test_older_answers_are_never_told_anew(tmp_path: Path) -> None:
    engine = _cuda_engine(tmp_path, FakeTensorRt(), FakeCuda(), root_of_last_row())
    assert np.isfinite(engine.run(np.ones((4, 3, 64), dtype=np.float32))).all()
    with pytest.raises(EngineFault, match="not finite"):
        engine.run(-np.ones((4, 3, 64), dtype=np.float32))


def test_the_driver_is_opened_with_the_packages_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    found, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    vars(bindings)["runtime"] = FakeCuda()
    for name, module in {"tensorrt": FakeTensorRt(), "cuda": found, "cuda.bindings": bindings}.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert open_driver().gpu == "Fake GPU 80GB"
