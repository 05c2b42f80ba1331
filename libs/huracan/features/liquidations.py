"""Forced liquidations of the last minute: how much, of which side, and whether they run on.

What venues tell is a lower bound: Binance sends the latest liquidation order of a symbol once a second, the others in
between are not told. Volumes are compared, not notionals: an order's price is that of bankruptcy, not what was paid.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from huracan.clock import NANOSECONDS, STEP_NS

NAN = float("nan")

STEPS_60S = 60 * NANOSECONDS // STEP_NS
WINDOW_STEPS = 10 * NANOSECONDS // STEP_NS
"""Steps of the windows by which a cascade is told: 10 s, from a multiple of 10 s on."""
WINDOWS_KEPT = 360
"""An hour of them."""
WINDOWS_NEEDED = 100
"""Fewer have no 99th percentile."""
CASCADE_RANK = 0.99
CASCADE_SIDE = 0.8
CASCADE_WINDOWS = 2


def intensity(liquidated: int, traded: int) -> float:
    """Return liquidated volume over traded volume, in [0, 1]; 0 if nothing was liquidated.

    Of two volumes that are told apart from each other the first can be the larger: it is then all there is.
    """
    return liquidated / max(traded, liquidated) if liquidated else 0.0


class Liquidations:
    """Running totals of what was traded, and of long and short positions closed by force; in size increments."""

    __slots__ = (
        "_history",
        "_now",
        "_ranked",
        "_run",
        "_run_side",
        "_seen",
        "_totals",
        "cascade",
        "last_minute",
        "long",
        "short",
    )

    def __init__(self) -> None:
        self._now = (0, 0, 0)
        self._totals: deque[tuple[int, int, int]] = deque(maxlen=STEPS_60S + 1)
        self._seen = False
        self._history: deque[float] = deque(maxlen=WINDOWS_KEPT)
        self._ranked: list[float] = []
        self._run = 0
        self._run_side = 0
        self.long = self.short = 0
        """Liquidated in the open step."""
        self.last_minute: tuple[int, int, int] | None = None
        """Volume traded, long and short positions closed by force, in the last 60 s; None before the first liquidation
        since the start, for a venue may tell none, and until there are 60 s."""
        self.cascade = NAN
        """1 while the last two windows of 10 s were each above the 99th percentile of the hour before them and at
        least 80 % of one and the same side, else 0; NaN until there are 100 windows."""

    def add(self, size: int, side: int) -> None:
        """Take a liquidation: side +1 when the closing order bought, so that a short position was closed."""
        self._seen = True
        if side > 0:
            self.short += size
        else:
            self.long += size

    def close(self, follows: bool, close_ns: int, volume: int) -> None:
        """Close the step that ends at this time, in which this volume was traded."""
        if not follows:
            self._totals.clear()
            self._totals.append(self._now)
            self._run, self.cascade = 0, NAN
        before = self._now
        self._now = (before[0] + volume, before[1] + self.long, before[2] + self.short)
        self._totals.append(self._now)
        self.long = self.short = 0
        if self._seen:
            self.last_minute = self._over(STEPS_60S)
            if close_ns // STEP_NS % WINDOW_STEPS == 0:
                self._close_window()

    def _over(self, steps: int) -> tuple[int, int, int] | None:
        totals = self._totals
        if len(totals) <= steps:
            return None
        now, then = self._now, totals[-1 - steps]
        return now[0] - then[0], now[1] - then[1], now[2] - then[2]

    def _close_window(self) -> None:
        window = self._over(WINDOW_STEPS)
        if window is None:
            return
        traded, long, short = window
        level = intensity(long + short, traded)
        side = self._one_side(long, short)
        known = len(self._ranked)
        high = known >= WINDOWS_NEEDED and bisect_left(self._ranked, level) >= CASCADE_RANK * known
        if not (high and side):
            self._run = 0
        else:
            self._run = self._run + 1 if side == self._run_side else 1
        self._run_side = side
        self.cascade = float(self._run >= CASCADE_WINDOWS) if known >= WINDOWS_NEEDED else NAN
        self._remember(level)

    def _one_side(self, long: int, short: int) -> int:
        if not long + short or max(long, short) < CASCADE_SIDE * (long + short):
            return 0
        return 1 if long > short else -1

    def _remember(self, level: float) -> None:
        if len(self._history) == self._history.maxlen:
            del self._ranked[bisect_left(self._ranked, self._history[0])]
        self._history.append(level)
        insort(self._ranked, level)
