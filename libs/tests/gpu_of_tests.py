# ruff: noqa: N802, N815 - names are those of NVIDIA's packages
"""A GPU for tests, with as much of TensorRT's and CUDA's Python packages as the driver calls.

Its memory is memory of this process, and its plans are run by ONNX Runtime: what is copied where, in which shape and
in which order is as on a GPU, what a GPU would compute is not.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np


class CudaError(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100


class CopyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class Stream:
    """A queue of the GPU; here all is done at once."""

    def __int__(self) -> int:
        return 7


class FakeCuda:
    """As much of `cuda.bindings.runtime` as is called; `failing` names calls that fail."""

    cudaError_t = CudaError
    cudaMemcpyKind = CopyKind

    def __init__(self, *, gpus: int = 1) -> None:
        self.gpus = gpus
        self.failing: set[str] = set()
        self.memory: dict[int, Any] = {}
        self.calls: Counter[str] = Counter()

    def _said(self, call: str) -> CudaError:
        self.calls[call] += 1
        return CudaError.cudaErrorMemoryAllocation if call in self.failing else CudaError.cudaSuccess

    def cudaGetDeviceCount(self) -> tuple[CudaError, int]:
        return (CudaError.cudaSuccess, self.gpus) if self.gpus else (CudaError.cudaErrorNoDevice, 0)

    def cudaGetDeviceProperties(self, device: int) -> tuple[CudaError, Any]:
        return self._said("cudaGetDeviceProperties"), SimpleNamespace(name=b"Fake GPU 80GB\0\0", major=9, minor=0)

    def cudaGetErrorName(self, error: CudaError) -> tuple[CudaError, bytes]:
        return CudaError.cudaSuccess, error.name.encode()

    def cudaStreamCreate(self) -> tuple[CudaError, Stream]:
        return self._said("cudaStreamCreate"), Stream()

    def cudaStreamDestroy(self, stream: Stream) -> tuple[CudaError]:
        return (self._said("cudaStreamDestroy"),)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[CudaError]:
        return (self._said("cudaStreamSynchronize"),)

    def cudaMalloc(self, size: int) -> tuple[CudaError, int]:
        error = self._said("cudaMalloc")
        if error:
            return error, 0
        buffer = (ctypes.c_char * size)()
        self.memory[ctypes.addressof(buffer)] = buffer
        return error, ctypes.addressof(buffer)

    def cudaFree(self, pointer: int) -> tuple[CudaError]:
        del self.memory[pointer]
        return (self._said("cudaFree"),)

    def cudaMemcpyAsync(self, to: int, of: int, size: int, kind: CopyKind, stream: Stream) -> tuple[CudaError]:
        device = to if kind is CopyKind.cudaMemcpyHostToDevice else of
        assert size <= len(self.memory[device]), "past the end of a buffer"
        ctypes.memmove(to, of, size)
        return (self._said("cudaMemcpyAsync"),)


class FakeTensorRt:
    """As much of `tensorrt` as is called. A plan is `PLAN` and the model."""

    __version__ = "10.15.1"
    PLAN = b"plan:"
    float32 = "float32"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32="tf32")
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    class Logger:
        ERROR = 2

        def __init__(self, level: int) -> None:
            self.level = level

    def __init__(self) -> None:
        self.profile: tuple[tuple[int, ...], ...] = ()
        self.flags = {"tf32"}
        self.created = 0
        self.has_builder = self.reads = self.builds = self.runs = self.takes_shapes = True
        self.kind = self.float32

    def Builder(self, logger: Logger) -> Any:
        trt = self

        class Builder:
            def __bool__(self) -> bool:
                return trt.has_builder

            def create_network(self, flags: int) -> Any:
                trt.created = flags
                return SimpleNamespace(model=b"")

            def create_optimization_profile(self) -> Any:
                return SimpleNamespace(set_shape=lambda name, *shapes: setattr(trt, "profile", shapes))

            def create_builder_config(self) -> Any:
                return SimpleNamespace(
                    clear_flag=trt.flags.discard, add_optimization_profile=lambda profile: trt.profile
                )

            def build_serialized_network(self, network: Any, config: Any) -> Any:
                return memoryview(trt.PLAN + network.model) if trt.builds else None

        return Builder()

    def OnnxParser(self, network: Any, logger: Logger) -> Any:
        def parse(model: bytes) -> bool:
            network.model = model
            return self.reads

        return SimpleNamespace(
            parse=parse,
            get_error=lambda index: SimpleNamespace(desc=lambda: f"error {index} of the parser\nin a file of its own"),
        )

    def Runtime(self, logger: Logger) -> Any:
        return SimpleNamespace(
            deserialize_cuda_engine=lambda plan: FakePlan(self, plan) if plan.startswith(self.PLAN) else None
        )


class FakePlan:
    """A deserialised plan and its context in one; the tensors are those of the model."""

    def __init__(self, trt: FakeTensorRt, plan: bytes) -> None:
        import onnxruntime  # type: ignore[import-untyped]

        self._trt = trt
        self._session = onnxruntime.InferenceSession(plan.removeprefix(trt.PLAN), providers=["CPUExecutionProvider"])
        self._inputs, self._outputs = self._session.get_inputs(), self._session.get_outputs()
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self.num_io_tensors = len(self._inputs) + len(self._outputs)

    def _end(self, name: str) -> Any:
        return next(end for end in (*self._inputs, *self._outputs) if end.name == name)

    def create_execution_context(self) -> FakePlan:
        return self

    def get_tensor_name(self, index: int) -> str:
        return str((*self._inputs, *self._outputs)[index].name)

    def get_tensor_dtype(self, name: str) -> str:
        return self._trt.kind

    def get_tensor_mode(self, name: str) -> str:
        mode = self._trt.TensorIOMode
        return str(mode.INPUT if any(end.name == name for end in self._inputs) else mode.OUTPUT)

    def get_tensor_shape(self, name: str) -> list[int]:
        return [-1 if isinstance(size, str) else size for size in self._end(name).shape]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return self._trt.takes_shapes

    def execute_async_v3(self, stream: int) -> bool:
        (given,), (gives,) = self._inputs, self._outputs
        size = int(np.prod(self._shape)) * 4
        windows = np.frombuffer(ctypes.string_at(self._addresses[given.name], size), dtype=np.float32)
        answer = self._session.run(None, {given.name: windows.reshape(self._shape)})[0]
        ctypes.memmove(self._addresses[gives.name], answer.ctypes.data, answer.nbytes)
        return self._trt.runs
