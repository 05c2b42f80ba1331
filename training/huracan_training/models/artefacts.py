"""The ONNX artefacts of a bundle, and a net that is asked through one by ONNX Runtime, as it is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huracan.errors import BadInput
from huracan.inference.engine import INT8_CPU, session_of
from huracan.inference.probabilities import softmax
from huracan_training.models.inputs import check_positions, fitted
from huracan_training.samples import Floats, Sample

if TYPE_CHECKING:
    from huracan_training.models.loop import WindowSet
    from huracan_training.models.nets import NetClassifier

REFERENCE = "reference.onnx"
"""In an optimised bundle: the FP32 net that it was made from, to compare with."""
_BATCH = 1024


def logits_of(session: Any, windows: WindowSet) -> Floats:
    """Return what a session says of windows, shape (m, classes)."""
    return np.concatenate(
        [session.run(["logits"], {"windows": batch.numpy()})[0].astype(np.float64) for batch in windows.batches(_BATCH)]
    )


class ServedNet:
    """A net that answers through the INT8 artefact of its bundle; it can be asked, and no longer be fitted."""

    def __init__(self, net: NetClassifier, temperature: float) -> None:
        self.name = net.name
        self._net = net
        self._temperature = temperature
        self._session: Any = None

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Raise BadInput: INT8 is not trained."""
        raise BadInput(f"{self.name} is served in INT8 and learns no more: train another")

    def meet(self, more: Sequence[Sample]) -> None:
        """Learn the scales of assets that were not trained on, and nothing else."""
        self._net.meet(more)

    def predict(self, sample: Sample) -> Floats:
        """Return the softmax of the artefact's logits over the temperature, floored at a millionth."""
        check_positions(sample, name="sample")
        return softmax(logits_of(fitted(self._session, self.name), self._net.fed([sample])), self._temperature)

    def write(self, directory: Path) -> None:
        """Raise BadInput: the bundle that it was read from is what is kept."""
        raise BadInput(f"{self.name} is served in INT8 and kept in its bundle: it is not written again to {directory}")

    def read(self, directory: Path) -> None:
        """Take back what was kept, with the artefact."""
        self._net.read(directory)
        self._session = session_of((directory / INT8_CPU).read_bytes())
