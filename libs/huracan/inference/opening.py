"""Open the engine of a bundle: on TensorRT where it is wanted and can be had, else on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

from huracan.config import Config
from huracan.errors import BadInput
from huracan.inference.bundle import Bundle
from huracan.inference.cuda import open_driver
from huracan.inference.engine import Engine, OnnxEngine
from huracan.inference.tensorrt import Driver, PlanCache, Tell, TensorRtEngine, Unavailable

Runtime = Literal["tensorrt", "onnx"]

logger = structlog.get_logger()


class RuntimeConfig(Config):
    """What runs the engines of a service."""

    prefer: Runtime = "onnx"
    """onnx: ONNX Runtime, on one thread of the CPU. tensorrt: the GPU of the node, if that can be, else the first."""
    plans: Path | None = None
    """Directory in which TensorRT keeps what it builds at the first start, for each kind of GPU; tensorrt needs it.
    Nodes that are to give the same bytes share it."""


def _log(event: str) -> None:
    logger.warning("engine.opening", detail=event)


def open_engine(
    bundle: Bundle,
    *,
    prefer: Runtime = "onnx",
    cache: Path | None = None,
    tell: Tell = _log,
    driver: Callable[[], Driver] = open_driver,
) -> Engine:
    """Return an engine of a bundle that is warm.

    With `tensorrt`, plans are kept in the directory `cache`. Where TensorRT cannot be imported, finds no GPU, cannot
    build the model, or answers no numbers, `tell` is told why in one sentence (the log is, where nobody else is to be),
    and the engine is one on ONNX Runtime. What `tell` is told the engine keeps, as `told`.
    Raises BadInput for a bundle that no runtime takes, and where `tensorrt` has no cache.
    """
    if prefer == "onnx":
        return OnnxEngine(bundle)
    if cache is None:
        raise BadInput("plans was not set: name a directory for what TensorRT builds")
    said: list[str] = []
    engine = _preferring_tensorrt(bundle, cache, said.append, driver)
    for sentence in said:
        tell(sentence)
    engine.told = tuple(said)
    return engine


def _preferring_tensorrt(bundle: Bundle, cache: Path, tell: Tell, driver: Callable[[], Driver]) -> Engine:
    try:
        return TensorRtEngine(bundle, driver(), PlanCache(cache), tell)
    except (Unavailable, BadInput) as error:
        engine = OnnxEngine(bundle)
        tell(f"{bundle.directory} runs on {engine.runtime} instead of TensorRT: {error}")
        return engine
