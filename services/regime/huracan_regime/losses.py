"""What experts lose: their odds against what came, once the time that they looked ahead is over."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from huracan.clock import STEP_NS
from huracan.contracts.opinion import Opinion
from huracan_regime.config import LossConfig

LONGEST_STEPS = 600
"""An expert that looks farther ahead is not followed."""
_FLOOR = 1e-6
_BPS = 1e4


class _Odds(NamedTuple):
    """Of one step, until what they are about is known."""

    step: int
    due: int
    down: float
    flat: float
    up: float


class LossStream:
    """The log loss of one expert on one instrument, in nats: two means for every time that it looks ahead.

    Odds of two steps that look at much the same seconds are right or wrong together, which ADWIN takes for news; means
    over a whole horizon know nothing of each other, and are few. Halves are between: README.md says what each would do.
    """

    def __init__(self, config: LossConfig) -> None:
        self._config = config
        self._waiting: deque[_Odds] = deque(maxlen=LONGEST_STEPS + 1)
        self._newest = -1
        self._of = (b"", 0)
        """Digest of the engine whose odds these are, and how far it looks ahead."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._waiting.clear()
        self._block = -1
        self._losses: list[float] = []

    def hear(self, opinion: Opinion) -> bool:
        """Take odds and return whether all begins anew with them: of another engine, or over another time.

        Abstentions, steps heard before, and what are no odds or look too far ahead change nothing.
        """
        step = opinion.step
        if opinion.abstained or step <= self._newest:
            return False
        steps, rest = divmod(opinion.horizon_ns, STEP_NS)
        down, flat, up = opinion.p_down, opinion.p_flat, opinion.p_up
        if rest or not 0 < steps <= LONGEST_STEPS or not (0 <= down <= 1 and 0 <= flat <= 1 and 0 <= up <= 1):
            return False
        before, self._of = self._of, (opinion.engine_digest, opinion.horizon_ns)
        if self._of != before:
            self._begin_anew()
        self._newest = step
        self._waiting.append(_Odds(step, step + steps, down, flat, up))
        return self._of != before

    def resolve(self, step: int, mids: dict[int, float]) -> list[tuple[int, float]]:
        """Return the means that are whole by a step, each with the steps that it is over.

        `mids` has the middle of bid and ask at the close of steps; odds of which one is not known are dropped.
        """
        found = []
        while self._waiting and self._waiting[0].due <= step:
            odds = self._waiting.popleft()
            then, came = mids.get(odds.step), mids.get(odds.due)
            if then is None or came is None:
                continue
            steps = max(1, (odds.due - odds.step) // 2)
            block = odds.step // steps
            if block != self._block and self._losses:
                found.append((steps, math.fsum(self._losses) / len(self._losses)))
                self._losses = []
            self._block = block
            self._losses.append(self._loss(odds, _BPS * math.log(came / then)))
        return found

    def _loss(self, odds: _Odds, move_bps: float) -> float:
        came = odds.up if move_bps > 0 else odds.down
        given = odds.flat if abs(move_bps) <= self._config.flat_bps else came
        return min(-math.log(max(given, _FLOOR)), self._config.largest_loss)
