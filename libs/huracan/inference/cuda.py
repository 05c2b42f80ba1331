"""TensorRT and CUDA, as NVIDIA's Python packages give them: the Driver of a node with a GPU.

`tensorrt` and `cuda.bindings` are imported only where a driver is opened; neither is a dependency of ours, as their
libraries come with the image of a GPU node.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from huracan.inference.engine import INPUT, LARGEST_BATCH, OUTPUT, EngineFault, Logits, Windows
from huracan.inference.tensorrt import USUAL_BATCH, Driver, Ends, Plan, Unavailable

_FLOAT_BYTES = 4


def open_driver() -> Driver:
    """Return the driver of the first GPU; raise Unavailable, naming the reason, where there is none."""
    try:
        import tensorrt
        from cuda.bindings import runtime
    except ImportError as error:
        raise Unavailable(f"TensorRT cannot be imported: {error}") from error
    return CudaDriver(tensorrt, runtime)


class CudaDriver:
    """The first GPU of this machine; `trt` is the module `tensorrt`, `cuda` is `cuda.bindings.runtime`."""

    def __init__(self, trt: Any, cuda: Any) -> None:
        """Raise Unavailable where there is no GPU."""
        self._trt, self._cuda = trt, cuda
        error, count = cuda.cudaGetDeviceCount()
        if error != cuda.cudaError_t.cudaSuccess or not count:
            raise Unavailable(f"there is no GPU: {_name(cuda, error)}")
        properties = _need(cuda, *cuda.cudaGetDeviceProperties(0))
        self.gpu = properties.name.partition(b"\0")[0].decode()
        self.capability = f"{properties.major}.{properties.minor}"
        self.version = str(trt.__version__)
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)

    def build(self, model: bytes, shape: tuple[int, int]) -> bytes:
        """Return a plan of an ONNX model of windows of a shape, any batch from 1 to 64; raise Unavailable.

        Types are those of the model, and FP32 is not rounded to TF32: INT8 is where the model quantises.
        """
        trt = self._trt
        builder = trt.Builder(self._logger)
        if not builder:
            raise Unavailable(f"TensorRT {self.version} has no builder for {self.gpu}")
        strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model):
            reason = parser.get_error(0).desc().partition("\n")[0]
            raise Unavailable(f"TensorRT {self.version} cannot read the model: {reason}")
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, *((batch, *shape) for batch in (1, USUAL_BATCH, LARGEST_BATCH)))
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise Unavailable(f"TensorRT {self.version} built nothing for {self.gpu}")
        return bytes(plan)

    def load(self, plan: bytes) -> Plan:
        """Return a plan ready to run; raise Unavailable for one that is not of this GPU and version."""
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise Unavailable(f"TensorRT {self.version} on {self.gpu} does not take the plan")
        return _CudaPlan(self._trt, self._cuda, engine)


class _CudaPlan:
    """A plan with a stream and buffers of its own, for the largest batch."""

    def __init__(self, trt: Any, cuda: Any, engine: Any) -> None:
        self.ends = _ends(trt, engine)
        self._cuda, self._engine = cuda, engine
        self._context = engine.create_execution_context()
        self._stream = _need(cuda, *cuda.cudaStreamCreate())
        self._buffers: dict[str, int] = {}
        weakref.finalize(self, _free, cuda, self._stream, self._buffers)
        for name, shape in {**self.ends.inputs, **self.ends.outputs}.items():
            size = LARGEST_BATCH * int(np.prod(shape[1:])) * _FLOAT_BYTES
            self._buffers[name] = _need(cuda, *cuda.cudaMalloc(size))
            self._context.set_tensor_address(name, self._buffers[name])

    def logits(self, windows: Windows) -> Logits:
        """Return what the model answers, shape (b, classes); raise EngineFault where the GPU fails."""
        cuda, stream = self._cuda, self._stream
        given = np.ascontiguousarray(windows)
        answer: Logits = np.empty((len(windows), *self.ends.outputs[OUTPUT][1:]), dtype=np.float32)
        there, back = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        try:
            _need(cuda, *cuda.cudaMemcpyAsync(self._buffers[INPUT], given.ctypes.data, given.nbytes, there, stream))
            taken = self._context.set_input_shape(INPUT, given.shape)
            if not taken or not self._context.execute_async_v3(int(stream)):
                raise EngineFault(f"TensorRT did not run {len(windows)} windows")
            _need(cuda, *cuda.cudaMemcpyAsync(answer.ctypes.data, self._buffers[OUTPUT], answer.nbytes, back, stream))
            _need(cuda, *cuda.cudaStreamSynchronize(stream))
        except Unavailable as error:
            raise EngineFault(f"the GPU failed on {len(windows)} windows: {error}") from error
        return answer


def _ends(trt: Any, engine: Any) -> Ends:
    inputs: dict[str, tuple[int, ...]] = {}
    outputs: dict[str, tuple[int, ...]] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_dtype(name) != trt.float32:
            raise Unavailable(f"{name} was {engine.get_tensor_dtype(name)}, not float32")
        of = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
        of[name] = tuple(engine.get_tensor_shape(name))
    return Ends(inputs, outputs)


def _free(cuda: Any, stream: Any, buffers: dict[str, int]) -> None:
    for buffer in buffers.values():
        cuda.cudaFree(buffer)
    cuda.cudaStreamDestroy(stream)


def _need(cuda: Any, error: Any, *given: Any) -> Any:
    """Return what a call of CUDA gave; raise Unavailable with the name of its error."""
    if error != cuda.cudaError_t.cudaSuccess:
        raise Unavailable(_name(cuda, error))
    return given[0] if given else None


def _name(cuda: Any, error: Any) -> str:
    _, name = cuda.cudaGetErrorName(error)
    return str(name.decode())
