"""A Markov chain of the regimes that were: what it says of the bars ahead, and how long the present one lasts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from huracan.features.regimes import REGIMES, UNKNOWN

Array = NDArray[np.float64]
_COUNT = len(REGIMES)
_PRIOR = 1.0
"""Bars that each row of the transitions of training counts as, for each regime."""


class RegimeChain:
    """Counts the one-bar transitions between known regimes of one instrument, and forgets them exponentially.

    P_ij = (n_ij + K a p_ij) / (sum_j n_ij + K a) with a = 1 and K = 4 regimes: n_ij are the transitions seen, each
    halved every `half_life_bars`; p_ij are those of training.
    """

    def __init__(self, prior: Array, half_life_bars: float) -> None:
        """Begin with the transitions of training, shape (4, 4), rows of sum 1."""
        self._prior = prior
        self._kept = 0.5 ** (1 / half_life_bars)
        self._counts = np.zeros((_COUNT, _COUNT))
        self._last = UNKNOWN
        self._last_ns = 0

    def follow(self, known: NDArray[np.int64], close_ns: NDArray[np.int64], interval_ns: int) -> None:
        """Take the regimes known at the closes of bars, shape (n,), oldest first; bars taken before change nothing."""
        for regime, at_ns in zip(known.tolist(), close_ns.tolist(), strict=True):
            if at_ns <= self._last_ns:
                continue
            together = at_ns == self._last_ns + interval_ns
            self._counts *= self._kept
            if together and UNKNOWN not in (regime, self._last):
                self._counts[self._last, regime] += 1
            self._last, self._last_ns = regime, at_ns

    @property
    def known(self) -> int:
        """Return the newest regime that is known; UNKNOWN where the newest bar has none."""
        return self._last

    def transition(self) -> Array:
        """Return the probability of each regime a bar after each, shape (4, 4), rows of sum 1."""
        weights = self._counts + _COUNT * _PRIOR * self._prior
        found: Array = weights / weights.sum(axis=1, keepdims=True)
        return found

    def ahead(self, bars: int) -> Array:
        """Return the probability of each regime so many bars on, shape (4,); raise ValueError where none is known."""
        if self._last == UNKNOWN:
            raise ValueError("no regime is known to go on from")
        found: Array = np.linalg.matrix_power(self.transition(), bars)[self._last]
        return found

    def expected_bars(self) -> float:
        """Return how many bars until the present regime ends, the mean; raise ValueError where none is known."""
        if self._last == UNKNOWN:
            raise ValueError("no regime is known that could end")
        return float(1.0 / (1.0 - self.transition()[self._last, self._last]))
