"""An engine on a GPU: TensorRT beside ONNX Runtime and torch, at batches of 1, 8 and 64.

Each is asked about the same windows, and said to be as far from FP32 on the CPU as its probabilities are. It needs a
GPU, `tensorrt`, `cuda-python` and `onnxruntime-gpu` in the environment of training; what of them is missing is left
out, with the reason, and without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from huracan.errors import HuracanError
from huracan.inference.bundle import Bundle, load_bundle
from huracan.inference.cuda import open_driver
from huracan.inference.engine import FP32, INT8_CPU, OUTPUT, Engine, EngineFault, Logits, OnnxEngine, Windows
from huracan.inference.tensorrt import PlanCache, TensorRtEngine, Unavailable
from huracan.rng import SeededRng

BATCHES = (1, 8, 64)
RUNS = 2_000
WARM_UP = 200
CUDA = "CUDAExecutionProvider"
BUNDLE = Path(__file__).resolve().parent.parent / "training" / "bundles" / "regime"


class OnnxOnCuda(Engine):
    """FP32 on ONNX Runtime's CUDA provider."""

    def __init__(self, bundle: Bundle) -> None:
        """Raise Unavailable where ONNX Runtime has no CUDA, or does not find the libraries for it."""
        import onnxruntime  # type: ignore[import-untyped]

        super().__init__(bundle, FP32, f"onnxruntime {onnxruntime.__version__} cuda")
        self._session = onnxruntime.InferenceSession(bundle.contents[FP32], providers=[CUDA])
        if CUDA not in self._session.get_providers():
            raise Unavailable(f"ONNX Runtime {onnxruntime.__version__} runs on {self._session.get_providers()} alone")
        self.warm_up()

    def logits(self, windows: Windows) -> Logits:
        """Return what the model answers, shape (b, classes)."""
        answer: Logits = self._session.run([OUTPUT], {"windows": windows})[0]
        return answer


class Torch(Engine):
    """The net of the bundle as it was trained."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        """Raise Unavailable where torch has no such device."""
        import torch  # type: ignore[import-not-found]

        from huracan_training.detector import detector_of  # type: ignore[import-not-found]

        super().__init__(bundle, FP32, f"torch {torch.__version__} {device}")
        if device == "cuda" and not torch.cuda.is_available():
            raise Unavailable(f"torch {torch.__version__} finds no GPU")
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self._torch, self._device = torch, device
        outlooked: Any = detector_of(bundle)._model  # noqa: SLF001 - nobody else asks a detector for its net
        self._net = outlooked._model.net.to(device).eval()  # noqa: SLF001
        self.warm_up()

    def logits(self, windows: Windows) -> Logits:
        """Return what the net answers, shape (b, classes)."""
        with self._torch.inference_mode():
            answer: Logits = self._net(self._torch.from_numpy(windows).to(self._device)).cpu().numpy()
        return answer


def engines(bundle: Bundle, plans: Path) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Yield each way to run a bundle by name; FP32 on the CPU first."""
    yield "onnx cpu fp32", lambda: OnnxEngine(bundle, preferred=(FP32,))
    if INT8_CPU in bundle.contents:
        yield "onnx cpu int8", lambda: OnnxEngine(bundle)
    yield "onnx cuda fp32", lambda: OnnxOnCuda(bundle)
    yield "torch cpu", lambda: Torch(bundle, "cpu")
    yield "torch cuda", lambda: Torch(bundle, "cuda")
    yield "tensorrt", lambda: TensorRtEngine(bundle, open_driver(), PlanCache(plans), print)


def windows(engine: Engine, count: int) -> Windows:
    """Return windows as an outlook gives them, shape (count, columns, 64)."""
    random = np.random.Generator(np.random.PCG64(SeededRng(1).stream("windows").getrandbits(64)))
    shape = (count, len(engine.manifest.columns), engine.manifest.window)
    return np.clip(random.standard_normal(shape), -10, 10).astype(np.float32)


def times_us(engine: Engine, asked: Windows) -> tuple[float, float]:
    """Return p50 and p99 of a run, copies there and back included, in microseconds."""
    times = []
    for run in range(WARM_UP + RUNS):
        since_ns = time.perf_counter_ns()
        engine.run(asked)
        if run >= WARM_UP:
            times.append(time.perf_counter_ns() - since_ns)
    p50, p99 = np.percentile(times, [50, 99]) / 1e3
    return float(p50), float(p99)


def measured(bundle: Bundle, plans: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each engine and batch, or one with the reason where an engine cannot be had."""
    exact: dict[int, Any] = {}
    baseline: dict[int, float] = {}
    for name, make in engines(bundle, plans):
        try:
            engine = make()
        except (HuracanError, ImportError, EngineFault) as error:
            yield {"name": name, "left_out": str(error).partition("\n")[0]}
            continue
        for batch in BATCHES:
            asked = windows(engine, batch)
            told = engine.run(asked)
            p50, p99 = times_us(engine, asked)
            off = np.abs(told - exact.setdefault(batch, told))
            yield {
                "name": f"{name}, batch {batch}",
                "runtime": engine.runtime,
                "value": p50,
                "p99": p99,
                "unit": "us",
                "baseline": baseline.setdefault(batch, p50),
                "ratio": p50 / baseline[batch],
                "largest_deviation": float(off.max()),
                "mean_deviation": float(off.mean()),
            }


def gpu_name() -> str:
    """Return the name of the GPU, whoever finds it; exit with a sentence where nobody does."""
    try:
        return open_driver().gpu
    except Unavailable as error:
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
        raise SystemExit(f"nothing was measured: {error}, and torch {torch.__version__} finds no GPU") from None


def main() -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=BUNDLE)
    parser.add_argument("--out", type=Path, default=Path("out/bench/gpu.json"))
    given = parser.parse_args()
    gpu = gpu_name()
    rows = []
    for row in measured(load_bundle(given.bundle), given.out.parent / "plans"):
        rows.append(row)
        told = row.get("left_out") or (
            f"{row['value']:9.1f} us p50 {row['p99']:9.1f} us p99  {row['ratio']:6.3f} of its baseline, "
            f"off by at most {row['largest_deviation']:.2g}"
        )
        print(f"{row['name']:26} {told}")  # noqa: T201
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
    said = {"machine": machine, "load": os.getloadavg()[0], "rows": rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
