"""A self- and cross-exciting point process (Hawkes 1971) with exponential kernels of one decay.

The intensity of component i is baseline_i + sum over events j before now of jump[j][i] * exp(-decay * age). With one
decay the excited part is one number for each component, and the time of the next event is drawn exactly, without
rejection and without looking back, as in Dassios & Zhao (2013), "Exact simulation of Hawkes process with exponentially
decaying intensity": the sooner of an exponential (baseline) and a defective one (excited part). An excitation from
outside, or a new baseline, only asks for a new draw, since no event has happened up to now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

NEVER_NS = 2**63 - 1


class Hawkes:
    """Simulate one process. Rates are per second; one event of j brings `children[j][i]` events of i in the mean.

    The branching ratio is the spectral radius of `children`; the caller keeps it below 1.
    """

    __slots__ = ("_at_ns", "_decay_per_s", "_draw", "_excited", "_jumps", "baseline")

    def __init__(
        self,
        draw: Callable[[], float],
        baseline: Sequence[float],
        children: Sequence[Sequence[float]],
        decay_s: float,
        at_ns: int,
    ) -> None:
        self._draw = draw
        self.baseline = list(baseline)
        self._decay_per_s = 1 / decay_s
        self._jumps = [[mean / decay_s for mean in row] for row in children]
        self._excited = [0.0] * len(self.baseline)
        self._at_ns = at_ns

    def advance(self, at_ns: int) -> None:
        """Let the excitation decay until a time that is not before the last one."""
        factor = math.exp(-self._decay_per_s * (at_ns - self._at_ns) * 1e-9)
        self._excited = [value * factor for value in self._excited]
        self._at_ns = at_ns

    def next_ns(self) -> int:
        """Draw the time of the next event, given that nothing else happens before; two draws, always."""
        draw = self._draw
        wait_s = -math.log(1.0 - draw()) / sum(self.baseline)
        luck = math.log(1.0 - draw())
        excited = sum(self._excited)
        if excited > 1e-9:
            left = 1.0 + self._decay_per_s * luck / excited
            if left > 0.0:
                wait_s = min(wait_s, -math.log(left) / self._decay_per_s)
        return self._at_ns + 1 + int(wait_s * 1e9)

    def choose(self) -> int:
        """Draw of which component the event that happens now is."""
        rates = [baseline + excited for baseline, excited in zip(self.baseline, self._excited, strict=True)]
        where = self._draw() * sum(rates)
        last = len(rates) - 1
        for component in range(last):
            where -= rates[component]
            if where < 0.0:
                return component
        return last

    def excite(self, component: int) -> None:
        """Add what an event of a component brings."""
        self._excited = [value + jump for value, jump in zip(self._excited, self._jumps[component], strict=True)]

    def add(self, component: int, children: float) -> None:
        """Add excitation from outside that brings so many events of a component in the mean."""
        self._excited[component] += children * self._decay_per_s
