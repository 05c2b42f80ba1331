"""One side of a price-level book, and what changed in it since it was last told."""

from __future__ import annotations

from huracan.sim.told import Level


class Ladder:
    """Hold price levels as key -> lots; key = sign * price ticks, so that the best is the least: sign -1 for bids."""

    __slots__ = ("before", "best", "levels", "sign")

    def __init__(self, sign: int, best_ticks: int) -> None:
        self.sign = sign
        self.best = sign * best_ticks
        self.levels: dict[int, int] = {}
        self.before: dict[int, int] = {}
        """What each level touched since the last `drain` held then."""

    def add(self, key: int, lots: int) -> None:
        """Add lots to a level."""
        old = self.levels.get(key, 0)
        self.before.setdefault(key, old)
        self.levels[key] = old + lots
        self.best = min(self.best, key)

    def take(self, key: int, lots: int) -> None:
        """Take lots from a level that holds as many; another level must remain."""
        old = self.levels[key]
        self.before.setdefault(key, old)
        if old > lots:
            self.levels[key] = old - lots
            return
        del self.levels[key]
        if key == self.best:
            self.best = self._next(key)

    def _next(self, key: int) -> int:
        levels = self.levels
        for nearby in range(key + 1, key + 200):
            if nearby in levels:
                return nearby
        return min(levels)

    def top(self) -> Level:
        """Return the best level."""
        return self.sign * self.best, self.levels[self.best]

    def drain(self) -> list[Level]:
        """Return the levels changed since the last call, best first, with 0 lots where one is gone."""
        sign, levels = self.sign, self.levels
        changed = [(sign * key, levels.get(key, 0)) for key in sorted(self.before)]
        self.before.clear()
        return changed

    def as_drained(self) -> list[Level]:
        """Return the levels as of the last `drain`, best first."""
        levels = {**self.levels, **self.before}
        return [(self.sign * key, levels[key]) for key in sorted(levels) if levels[key]]
