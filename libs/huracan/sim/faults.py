"""Seeded faults between nodes: drop, duplicate, delay, reorder, partition, kill."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS


class FaultKind(StrEnum):
    """What can go wrong between nodes, and with them."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    REORDER = "reorder"
    PARTITION = "partition"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what happens to whom, from when, for how long.

    Drop, duplicate, delay and reorder strike what the target sends or receives while the fault lasts; a partition cuts
    the target off from all others; a kill stops it and starts it anew at the end.
    """

    kind: FaultKind
    target: str
    at_ns: int
    lasts_ns: int


BUSY_NS = 5 * MILLISECOND_NS
"""Services work on a step for about this long after its close."""
LATENCY_S = 0.000_3
"""Time from node to node when nothing is wrong."""
TICK_S = 1e-9
"""Keeps messages between two nodes in order when no fault says otherwise."""
DELAY_S = 0.080
"""Added by a delay: longer than the join's deadline, shorter than a decision lives."""
REORDER_S = 0.010
"""Spread of what a reordering target sends: neighbours overtake each other."""


def plan(
    rng: random.Random, *, services: list[str], nodes: list[str], faults: int, start_ns: int, end_ns: int
) -> list[Fault]:
    """Return seeded faults at random times of an interval, oldest first: kills of services, the rest of any node.

    Half of them strike in the few milliseconds after a step closes, when every service is at work on it.
    """
    kinds = list(FaultKind)
    planned = []
    for _ in range(faults):
        kind = rng.choice(kinds)
        at_ns = rng.randrange(start_ns, end_ns)
        if rng.random() < 0.5:
            at_ns += -at_ns % STEP_NS + rng.randrange(BUSY_NS)
        planned.append(
            Fault(
                kind=kind,
                target=rng.choice(services if kind is FaultKind.KILL else nodes),
                at_ns=at_ns,
                lasts_ns=rng.randrange(20 * MILLISECOND_NS, 700 * MILLISECOND_NS),
            )
        )
    return sorted(planned, key=lambda fault: (fault.at_ns, fault.target, fault.kind))


class FaultyTransport:
    """Carry messages on virtual time through the faults that are in force."""

    faulty = True

    def __init__(self, rng: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._down: set[str] = set()
        self._active: dict[FaultKind, Counter[str]] = {kind: Counter() for kind in FaultKind}
        self._last_at: dict[tuple[str, str], float] = {}

    @property
    def down(self) -> AbstractSet[str]:
        """Return the nodes that are stopped."""
        return self._down

    def stop(self, node: str) -> None:
        """Lose all that goes to or comes from a node until it starts."""
        self._down.add(node)

    def start(self, node: str) -> None:
        """Let a stopped node talk again."""
        self._down.discard(node)

    async def inflict(self, fault: Fault) -> None:
        """Keep a fault other than a kill in force for its time."""
        self.counts[fault.kind] += 1
        self._active[fault.kind][fault.target] += 1
        await asyncio.sleep(fault.lasts_ns / NANOSECONDS)
        self._active[fault.kind][fault.target] -= 1

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Deliver after a latency, through whatever strikes source or target now."""
        if source == target:
            deliver()
            return
        if self._cut(source, target) or (self._strikes(FaultKind.DROP, source, target) and self._rng.random() < 0.5):
            self.counts["lost"] += 1
            return
        self._later(source, target, deliver)
        if self._strikes(FaultKind.DUPLICATE, source, target):
            self.counts["doubled"] += 1
            self._later(source, target, deliver)

    def _later(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + LATENCY_S
        delayed = self._strikes(FaultKind.DELAY, source, target)
        reordered = self._strikes(FaultKind.REORDER, source, target)
        if not delayed and not reordered:
            at = self._last_at[source, target] = max(at, self._last_at.get((source, target), 0.0) + TICK_S)
        at += delayed * DELAY_S + reordered * self._rng.random() * REORDER_S

        def arrive() -> None:
            if not self._cut(source, target):
                deliver()

        loop.call_at(at, arrive)

    def _strikes(self, kind: FaultKind, source: str, target: str) -> bool:
        active = self._active[kind]
        return active[source] > 0 or active[target] > 0

    def _cut(self, source: str, target: str) -> bool:
        if source in self._down or target in self._down:
            return True
        return self._strikes(FaultKind.PARTITION, source, target)
