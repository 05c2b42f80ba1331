"""What the levels of one book say, and what a change of them adds to order flow. Prices and sizes are in increments."""

from __future__ import annotations

import math
from collections.abc import Sequence

Level = tuple[int, int]
"""Price and size, in increments."""

LEVELS = 5
NAN = float("nan")
NO_BID: Level = (0, 0)
NO_ASK: Level = (1 << 62, 0)

_WEIGHTS = tuple(math.exp(-0.5 * level) for level in range(LEVELS))


def bid_flow(before: Level, after: Level) -> int:
    """Return what one change of a bid level adds to order flow imbalance: the first two terms of e_n.

    Cont, Kukanov & Stoikov 2014. An empty level is one of size 0 at the worst price.
    """
    if after[0] > before[0]:
        return after[1]
    if after[0] < before[0]:
        return -before[1]
    return after[1] - before[1]


def ask_flow(before: Level, after: Level) -> int:
    """Return what one change of an ask level adds to order flow imbalance: the last two terms of e_n."""
    if after[0] < before[0]:
        return -after[1]
    if after[0] > before[0]:
        return before[1]
    return before[1] - after[1]


def imbalance(bid: float, ask: float) -> float:
    """Return (bid - ask) / (bid + ask), in [-1, 1]; NaN if both are 0."""
    total = bid + ask
    return (bid - ask) / total if total else NAN


def weighted_mid(bid: float, bid_size: float, ask: float, ask_size: float) -> float:
    """Return (P_a q_b + P_b q_a) / (q_a + q_b): the mid, drawn to the side where less is waiting."""
    return (ask * bid_size + bid * ask_size) / (ask_size + bid_size)


def padded(levels: Sequence[Level], empty: Level) -> tuple[Level, ...]:
    """Return five levels: further ones are left out, and missing ones are empty."""
    if len(levels) == LEVELS:
        return tuple(levels)
    return (*levels[:LEVELS], *(empty,) * (LEVELS - len(levels)))


def weighted_size(levels: tuple[Level, ...]) -> float:
    """Return the size of five levels, level l weighing exp(-0.5 (l - 1))."""
    (_, q1), (_, q2), (_, q3), (_, q4), (_, q5) = levels
    w1, w2, w3, w4, w5 = _WEIGHTS
    return w1 * q1 + w2 * q2 + w3 * q3 + w4 * q4 + w5 * q5


def shape(levels: tuple[Level, ...], mid: float) -> tuple[float, float]:
    """Return the mean distance of five levels from the mid, by size, and the sum of their sizes over their distances.

    Both are below 0 for bids. No level is at the mid, and the first is not empty. Written out, for it is needed twice
    a step.
    """
    (p1, q1), (p2, q2), (p3, q3), (p4, q4), (p5, q5) = levels
    centre = (p1 * q1 + p2 * q2 + p3 * q3 + p4 * q4 + p5 * q5) / (q1 + q2 + q3 + q4 + q5)
    pressure = q1 / (p1 - mid) + q2 / (p2 - mid) + q3 / (p3 - mid) + q4 / (p4 - mid) + q5 / (p5 - mid)
    return centre - mid, pressure
