"""From what a model answers to what may be told: probabilities that sum to 1, none of them 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST_PROBABILITY = 1e-6
"""What a class is told and scored with at least: a sure forecast that fails costs 13.8 nats, not infinity."""


def as_probabilities(weights: Floats) -> Floats:
    """Return rows of sum 1 from weights, shape (n, classes), that are not negative; no class gets less than a
    millionth of the sum."""
    floored = np.maximum(weights.astype(np.float64), SMALLEST_PROBABILITY)
    shares: Floats = floored / floored.sum(axis=1, keepdims=True)
    return shares


def softmax(logits: NDArray[np.float32] | Floats, temperature: float = 1.0) -> Floats:
    """Return the probabilities of finite logits, shape (n, classes), that were divided by a temperature above 0."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return as_probabilities(weights / weights.sum(axis=1, keepdims=True))
