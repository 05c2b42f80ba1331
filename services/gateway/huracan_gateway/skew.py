"""How far our clock is from a venue's: the smallest difference seen lately between receive and event time."""

from __future__ import annotations

from collections import deque

from huracan.clock import NANOSECONDS

WINDOW_NS = 60 * NANOSECONDS
"""Old minima leave after this long, so that a drifting clock is followed."""


class SkewEstimator:
    """Keep the minimum of receive time minus event time over the last minute.

    Latency is never negative, so the minimum is the clock difference plus the least latency. A venue clock ahead of
    ours gives a negative skew. The minimum over a sliding window is kept in a monotonic queue.
    """

    def __init__(self) -> None:
        self._minima: deque[tuple[int, int]] = deque()

    def observe(self, event_ns: int, recv_ns: int) -> None:
        """Take the times of one frame."""
        difference = recv_ns - event_ns
        minima = self._minima
        while minima and minima[-1][1] >= difference:
            minima.pop()
        minima.append((recv_ns, difference))
        while minima[0][0] < recv_ns - WINDOW_NS:
            minima.popleft()

    @property
    def known(self) -> bool:
        """Return whether there was a frame to estimate from."""
        return bool(self._minima)

    def skew_ns(self) -> int:
        """Return the estimate; 0 before the first frame."""
        return self._minima[0][1] if self._minima else 0
