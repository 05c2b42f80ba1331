"""The engine on TensorRT: built from the ONNX of a bundle where it runs, and kept for the next start.

What touches the GPU is behind `Driver`; `huracan.inference.cuda` is the one that does.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from huracan.errors import BadInput, Recoverable
from huracan.ids import digest_of
from huracan.inference.bundle import Bundle
from huracan.inference.engine import FP32, INPUT, LARGEST_BATCH, OUTPUT, Engine, Logits, Windows, artefact_of

INT8_GPU = "model.trt.onnx"
USUAL_BATCH = 8
"""The batch that TensorRT chooses its kernels for; every other up to the largest runs on them too."""

Tell = Callable[[str], None]
"""Takes one sentence of what happened: a service makes an event of it."""


class Unavailable(Recoverable):
    """TensorRT cannot run this model here: a library, the GPU or a kernel is missing. The message says which."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What a plan takes and gives: name and shape of each, -1 for the batch."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


class Plan(Protocol):
    """A model that was built for this GPU, in its memory."""

    ends: Ends

    def logits(self, windows: Windows) -> Logits:
        """Return what the model answers, shape (b, classes), copied there and back; raise EngineFault if it fails."""


class Driver(Protocol):
    """One GPU, and the TensorRT that builds for it."""

    gpu: str
    """Its name, such as NVIDIA H100 80GB HBM3."""
    capability: str
    """Its compute capability, such as 9.0."""
    version: str
    """Of TensorRT, such as 10.15.1."""

    def build(self, model: bytes, shape: tuple[int, int]) -> bytes:
        """Return a plan of an ONNX model of windows of a shape, any batch from 1 to 64; raise Unavailable."""

    def load(self, plan: bytes) -> Plan:
        """Return a plan ready to run; raise Unavailable for one that is not of this GPU and version."""


@dataclass(frozen=True, slots=True)
class PlanCache:
    """Plans in a directory, each with its SHA-256 beside it: what does not match is not there.

    A plan is of one GPU, compute capability, version of TensorRT and model: another of any has another name. Several
    processes may share the directory; they may build a plan twice, and either is kept whole.
    """

    directory: Path

    def path(self, driver: Driver, model: bytes) -> Path:
        """Return where the plan of a model is kept."""
        key = digest_of(driver.gpu, driver.capability, driver.version, model, USUAL_BATCH, LARGEST_BATCH).hex()[:32]
        return self.directory / f"{re.sub(r'[^a-z0-9]+', '-', driver.gpu.lower()).strip('-')}-{key}.plan"

    def load(self, path: Path) -> bytes | None:
        """Return a plan as it was kept; None where there is none, or it is damaged."""
        try:
            plan, kept = path.read_bytes(), _beside(path).read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        return plan if kept == hashlib.sha256(plan).hexdigest() else None

    def keep(self, path: Path, plan: bytes) -> None:
        """Keep a plan; raise OSError where the directory does not take it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for file, data in ((path, plan), (_beside(path), hashlib.sha256(plan).hexdigest().encode())):
            aside = file.with_name(f".{file.name}.{os.getpid()}")
            aside.write_bytes(data)
            aside.replace(file)


def _beside(path: Path) -> Path:
    return path.with_suffix(".sha256")


class TensorRtEngine(Engine):
    """A bundle on TensorRT; its digest names the plan too, as each build may choose other kernels."""

    def __init__(self, bundle: Bundle, driver: Driver, cache: PlanCache, tell: Tell) -> None:
        """Load the plan of `model.trt.onnx`, or of `model.onnx` where the bundle has no other, and warm it up.

        It is built where none is kept, or what is kept is damaged or refused; each is told. Raises Unavailable where
        it cannot be built, BadInput for a plan that is not of the windows, columns and classes of the manifest.
        """
        artefact = artefact_of(bundle, (INT8_GPU, FP32))
        data, self._plan = _planned(bundle, artefact, driver, cache, tell)
        kind = f"tensorrt {driver.version} {driver.gpu} {driver.capability}"
        super().__init__(bundle, artefact, f"{kind} plan {hashlib.sha256(data).hexdigest()}")
        wanted = Ends({INPUT: (-1, *self._shape)}, {OUTPUT: (-1, self.classes)})
        if self._plan.ends != wanted:
            raise BadInput(f"{self._place}: its plan takes and gives {self._plan.ends}; its manifest needs {wanted}")
        self.warm_up()

    def logits(self, windows: Windows) -> Logits:
        """Return what the model answers, shape (b, classes); raise EngineFault where the GPU fails."""
        return self._plan.logits(windows)


def _planned(bundle: Bundle, artefact: str, driver: Driver, cache: PlanCache, tell: Tell) -> tuple[bytes, Plan]:
    model, manifest = bundle.contents[artefact], bundle.manifest
    path = cache.path(driver, model)
    kept = cache.load(path)
    if kept is not None:
        try:
            return kept, driver.load(kept)
        except Unavailable as refused:
            tell(f"{path} was refused ({refused}): it is built again")
    elif path.exists():
        tell(f"{path} was not as it was kept: it is built again")
    plan = driver.build(model, (len(manifest.columns), manifest.window))
    loaded = driver.load(plan)
    try:
        cache.keep(path, plan)
        tell(f"{bundle.directory / artefact} was built for {driver.gpu} and kept as {path}")
    except OSError as error:
        tell(f"{path} could not be kept ({error}): the next start builds it again")
    return plan, loaded
