"""The forward filter: what is known about the state now, from now and before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward_filter(log_emission: Array, transition: Array, start: Array) -> Array:
    """Return P(state at t | observations 0..t), shape (T, K); never smoothed, row t knows nothing after t.

    `log_emission` (T, K) is the log density of each observation in each state, `transition` (K, K) has rows
    that sum to 1, `start` (K,) is the distribution at the first observation, before it is seen. Rabiner 1989,
    section III.A.
    """
    filtered = np.empty_like(log_emission)
    predicted = start
    with np.errstate(divide="ignore"):
        for t, emission in enumerate(log_emission):
            joint = np.log(predicted) + emission
            weights = np.exp(joint - joint.max())
            filtered[t] = weights / weights.sum()
            predicted = (filtered[t][:, None] * transition).sum(axis=0)
    return filtered
