"""The Engine port: what runs windows through the model of a bundle; and the engine on ONNX Runtime.

`onnxruntime` comes with the extra `huracan[inference]`, and is imported only where an engine is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huracan.errors import BadInput, Fatal, Recoverable
from huracan.ids import digest_of
from huracan.inference.bundle import Bundle
from huracan.inference.probabilities import Floats, softmax

FP32 = "model.onnx"
INT8_CPU = "model.cpu.onnx"
INPUT, OUTPUT = "windows", "logits"
LARGEST_BATCH = 64
"""Windows that an engine takes at once: what it warms up for, and what its memory is planned for."""
_FLOATS = "tensor(float)"
_DYNAMIC = b"DynamicQuantize"
"""Begins the names of the operators that scale by what is in the whole batch."""

Windows = NDArray[np.float32]
Logits = NDArray[np.float32]


class EngineFault(Recoverable):
    """An engine that was asked rightly gave no numbers. Nothing of it is kept: ask again, or ask another engine."""


class NoNumbers(EngineFault):
    """An engine answered, and not with finite numbers."""


class Engine(ABC):
    """Probabilities of windows, by one artefact of a bundle on one runtime; keeps no state but its counts.

    A runtime gives `logits`; everything else is the same for all of them.
    """

    def __init__(self, bundle: Bundle, artefact: str, runtime: str) -> None:
        self.manifest = bundle.manifest
        self.artefact = artefact
        self.runtime = runtime
        """What runs it, by name and version, and the device where it is no CPU."""
        self.digest = digest_of(bundle.digest, artefact, runtime)
        """SHA-256 over all that shapes an answer: the bundle, which of its files is run, and by what."""
        self.fixed_batch_result = _DYNAMIC not in bundle.contents[artefact]
        """Whether a window gets the same answer whatever it is asked together with. Dynamically quantised models scale
        by the largest value of the whole batch: they are asked about one window at a time."""
        self.told: tuple[str, ...] = ()
        """What was said when it was opened, a sentence each."""
        self.counts: Counter[str] = Counter()
        """`engine.runs`, `engine.windows`, `engine.faults`, `engine.refused` since the start."""
        self._place = bundle.directory / artefact
        self._shape = (len(self.manifest.columns), self.manifest.window)

    @property
    def classes(self) -> int:
        """Return how many classes it tells apart."""
        return len(self.manifest.classes)

    @abstractmethod
    def logits(self, windows: Windows) -> Logits:
        """Return what the model answers, shape (b, classes); raise EngineFault where the runtime fails.

        The windows are such as `check` lets pass.
        """

    def run(self, windows: Windows) -> Floats:
        """Return probabilities, float64 of shape (b, classes), of windows, float32 of shape (b, columns, 64).

        Logits are divided by the temperature of the manifest; rows sum to 1, and no class gets less than a millionth.
        Columns are those of the manifest, on the scale of its outlook; 1 <= b <= 64. Raises BadInput for any other
        windows, those with values that are not finite too; NoNumbers, an EngineFault, where the model's answer is not
        finite.
        """
        self.check(windows)
        self.counts["engine.runs"] += 1
        self.counts["engine.windows"] += len(windows)
        try:
            return softmax(self._answered(windows), self.manifest.temperature)
        except EngineFault:
            self.counts["engine.faults"] += 1
            raise

    def check(self, windows: Windows) -> None:
        """Raise BadInput, and count it, unless `run` takes these windows."""
        flaw = self._flaw(windows)
        if flaw:
            self.counts["engine.refused"] += 1
            raise BadInput(flaw)

    def check_features(self, digest: bytes, columns: Sequence[str]) -> None:
        """Raise BadInput unless windows of this feature set, seen as these columns, are what the model was trained on.

        To be asked once, before the first window: windows themselves do not say what they are of.
        """
        trained = self.manifest.feature_set_digest
        if digest.hex() != trained:
            raise BadInput(
                f"{self._place}: features were of {digest.hex()[:12]}…, and it was trained on {trained[:12]}… of "
                f"{self.manifest.feature_set}: train it again"
            )
        if tuple(columns) != self.manifest.columns:
            wrong = _first_difference(columns, self.manifest.columns)
            raise BadInput(f"{self._place}: {wrong}: it is fed the columns of its manifest, in their order")

    def _flaw(self, windows: Windows) -> str:
        if windows.dtype != np.float32 or windows.ndim != 3 or windows.shape[1:] != self._shape:
            takes = f"float32 of shape (b, {self._shape[0]}, {self._shape[1]})"
            return f"windows were {windows.dtype} of shape {windows.shape}; {self._place} takes {takes}"
        if not 1 <= len(windows) <= LARGEST_BATCH:
            return f"windows were {len(windows)}; ask about 1 to {LARGEST_BATCH} at once"
        finite = np.isfinite(windows)
        if not finite.all():
            return f"windows had {int((~finite).sum())} values that were not finite; an outlook gives 0 for these"
        return ""

    def _answered(self, windows: Windows) -> Logits:
        answer = self.logits(windows)
        if answer.shape != (len(windows), self.classes):
            raise EngineFault(f"{self._place} answered with shape {answer.shape} to {len(windows)} windows")
        if not np.isfinite(answer).all():
            raise NoNumbers(f"{self._place} answered with values that were not finite to {len(windows)} windows")
        return answer

    def warm_up(self) -> None:
        """Run the smallest and the largest batch once, uncounted; raise BadInput where the answers are none."""
        for batch in (1, LARGEST_BATCH) if self.fixed_batch_result else (1,):
            try:
                self._answered(np.zeros((batch, *self._shape), dtype=np.float32))
            except EngineFault as fault:
                raise BadInput(f"{fault}, which were zeros: export the bundle again") from fault


class OnnxEngine(Engine):
    """A bundle on ONNX Runtime: one thread of the CPU, operators in order, the same bytes for the same windows."""

    def __init__(self, bundle: Bundle, preferred: Sequence[str] = (INT8_CPU, FP32)) -> None:
        """Load the first artefact of `preferred` that the bundle has, the quantised one if it has any, and warm it up.

        Raises BadInput, naming the file and the reason, for a model that cannot be loaded, or that is not of the
        windows, columns and classes of the manifest; Fatal where ONNX Runtime is not installed.
        """
        onnxruntime = _onnxruntime()
        artefact = artefact_of(bundle, preferred)
        super().__init__(bundle, artefact, f"onnxruntime {onnxruntime.__version__}")
        try:
            self._session = session_of(bundle.contents[artefact])
        except Exception as error:
            raise BadInput(f"{self._place} cannot be loaded: {_first_line(error)}") from error
        self._check_ends()
        self.warm_up()

    def logits(self, windows: Windows) -> Logits:
        """Return what the model answers, shape (b, classes); raise EngineFault where the runtime fails."""
        try:
            answer: Logits = self._session.run([OUTPUT], {INPUT: windows})[0]
        except Exception as error:
            raise EngineFault(f"{self._place} failed on {len(windows)} windows: {_first_line(error)}") from error
        return answer

    def _check_ends(self) -> None:
        for what, found, name, shape in (
            ("input", self._session.get_inputs(), INPUT, self._shape),
            ("output", self._session.get_outputs(), OUTPUT, (self.classes,)),
        ):
            told = ", ".join(f"{end.name} {end.type} {end.shape}" for end in found)
            fits = [(end.name, end.type) for end in found] == [(name, _FLOATS)]
            if not fits or isinstance(found[0].shape[0], int) or tuple(found[0].shape[1:]) != shape:
                wanted = f"{name} {_FLOATS} of any batch and {shape}"
                raise BadInput(f"{self._place}: {what} was {told}; its manifest needs {wanted}")


def artefact_of(bundle: Bundle, preferred: Sequence[str]) -> str:
    """Return the first of these files that a bundle has; raise BadInput where it has none of them."""
    found = next((name for name in preferred if name in bundle.contents), None)
    if found is None:
        raise BadInput(f"{bundle.directory} has no {' or '.join(preferred)}: export it as ONNX")
    return found


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise Fatal(f"ONNX Runtime cannot be imported ({error}): install huracan[inference]") from error
    return onnxruntime


def session_of(model: bytes) -> Any:
    """Return a session of ONNX Runtime that runs a model as it is served: one thread of the CPU, operators in order.

    Raises Fatal where ONNX Runtime is not installed, and whatever that raises for a model that it does not take.
    """
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what goes wrong is raised
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _first_difference(columns: Sequence[str], wanted: Sequence[str]) -> str:
    for place, (was, should) in enumerate(zip(columns, wanted, strict=False)):
        if was != should:
            return f"column {place} was {was}, not {should}"
    return f"columns were {len(columns)}, not {len(wanted)}"
