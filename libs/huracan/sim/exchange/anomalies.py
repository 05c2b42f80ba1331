"""What is injected on purpose, and when: the list that was given, and a seeded one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from huracan.rng import SeededRng
from huracan.sim.exchange.config import NS_PER_S, AnomalyKind, SimulatedExchangeConfig
from huracan.sim.exchange.prices import Draw, exponential


@dataclass(frozen=True, slots=True)
class Injected:
    """One anomaly as it was injected: the truth to judge a detector by."""

    kind: AnomalyKind
    listing: str
    from_ns: int
    until_ns: int
    """Its effect may take a second more to go: books refill, prices come home."""
    size: float
    """As `AnomalyKind` says; 0 for a silence."""


class Planned(NamedTuple):
    """One anomaly to come; ordered by its begin."""

    from_ns: int
    duration_ns: int
    kind: AnomalyKind
    size: float


class _Seeded(NamedTuple):
    least: float
    most: float
    signed: bool
    shortest_s: float
    longest_s: float


_SEEDED: Final = {
    AnomalyKind.PRICE_JUMP: _Seeded(15, 40, True, 2, 2),
    AnomalyKind.SPREAD: _Seeded(8, 20, False, 3, 10),
    AnomalyKind.VOLUME: _Seeded(6, 15, False, 5, 20),
    AnomalyKind.QUOTE_STUFFING: _Seeded(8, 20, False, 3, 10),
    AnomalyKind.SILENCE: _Seeded(0, 0, False, 5, 20),
    AnomalyKind.DIVERGENCE: _Seeded(8, 20, True, 10, 30),
}
_OF_A_LISTING: Final = tuple(kind for kind in AnomalyKind if kind is not AnomalyKind.PRICE_JUMP)


def planned_for_listing(config: SimulatedExchangeConfig, listing: str) -> Iterator[Planned]:
    """Yield what is to happen to one listing, by time; price jumps are not among it."""
    draw = SeededRng(config.seed).stream(f"sim.exchange.{listing}.anomalies").random
    seeded = _seeded(draw, config.start_ns, config.anomalies_per_hour, _OF_A_LISTING)
    return heapq.merge(_given(config, (listing,), _OF_A_LISTING), seeded)


def planned_for_asset(config: SimulatedExchangeConfig, asset: str) -> Iterator[Planned]:
    """Yield the price jumps of one asset, by time; seeded ones come as often as one other kind on one listing."""
    draw = SeededRng(config.seed).stream(f"sim.exchange.{asset}.anomalies").random
    rate = config.anomalies_per_hour / len(_OF_A_LISTING)
    listings = [listing.key for listing in config.listings if listing.asset == asset]
    kinds = (AnomalyKind.PRICE_JUMP,)
    return heapq.merge(_given(config, listings, kinds), _seeded(draw, config.start_ns, rate, kinds))


def _given(config: SimulatedExchangeConfig, listings: Sequence[str], kinds: Sequence[AnomalyKind]) -> Iterator[Planned]:
    return iter(
        sorted(
            Planned(
                config.start_ns + round(given.from_s * NS_PER_S),
                round(given.duration_s * NS_PER_S),
                given.kind,
                0.0 if given.kind is AnomalyKind.SILENCE else given.size,
            )
            for given in config.anomalies
            if given.listing in listings and given.kind in kinds
        )
    )


def _seeded(draw: Draw, at_ns: int, per_hour: float, kinds: Sequence[AnomalyKind]) -> Iterator[Planned]:
    while per_hour:
        at_ns += int(3_600 / per_hour * exponential(draw) * NS_PER_S)
        kind = kinds[int(draw() * len(kinds))]
        seeded = _SEEDED[kind]
        size = seeded.least + (seeded.most - seeded.least) * draw()
        duration_ns = round((seeded.shortest_s + (seeded.longest_s - seeded.shortest_s) * draw()) * NS_PER_S)
        yield Planned(at_ns, duration_ns, kind, -size if seeded.signed and draw() < 0.5 else size)
        at_ns += duration_ns
