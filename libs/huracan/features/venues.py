"""One market beside those of the same underlying and quote asset at other venues.

A step is compared with the step before of the others: that one is closed whichever of them closes first, so rows do not
depend on the order in which instruments are served (docs/adr/0011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

NAN = float("nan")
BPS = 1e4


class VenueTop(NamedTuple):
    """What the others see of a market at the close of a step; NaN where it has none."""

    mid: float
    """In the quote currency."""
    move_1s_bps: float
    spread_bps: float


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two; NaN ones do not count, and NaN if there are no others."""
    known = sorted([value for value in values if not math.isnan(value)])
    if not known:
        return NAN
    middle = len(known) // 2
    return known[middle] if len(known) % 2 else 0.5 * (known[middle - 1] + known[middle])


def compared(own: VenueTop, others: Sequence[VenueTop]) -> tuple[float, float, float]:
    """Return mid gap, lead and spread gap in bps, each against the median of the others; NaN where one is missing.

    The gap is 1e4 ln(own mid / theirs), the lead their change of the last second less our own, the spread gap our
    spread less theirs.
    """
    if not others:
        return NAN, NAN, NAN
    mid = median([each.mid for each in others])
    gap = BPS * math.log(own.mid / mid) if own.mid > 0 and mid > 0 else NAN
    lead = median([each.move_1s_bps for each in others]) - own.move_1s_bps
    return gap, lead, own.spread_bps - median([each.spread_bps for each in others])
