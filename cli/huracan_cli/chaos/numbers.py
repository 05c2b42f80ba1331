"""Compare the numbers that there must be with those that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)

NAMED = 5
"""Numbers of each fault that are named: the first of them."""


@dataclass(frozen=True, slots=True)
class Compared(Generic[N]):
    """What is wrong with some numbers of one sequence; nothing when each is there once and in order."""

    what: str
    lost: list[N] = field(default_factory=list)
    duplicated: list[N] = field(default_factory=list)
    """As often as they are there too many times."""
    unknown: list[N] = field(default_factory=list)
    """There, and never given."""
    out_of_order: list[N] = field(default_factory=list)
    """Those that come after one that comes later where they were given."""

    def faults(self) -> list[str]:
        """Return each kind of fault in one line, with the first numbers that it struck."""
        kinds = {
            "lost": self.lost,
            "more than once": self.duplicated,
            "never given": self.unknown,
            "out of order": self.out_of_order,
        }
        return [f"{self.what}: {len(found)} {kind}: {_named(found)}" for kind, found in kinds.items() if found]


def compare(what: str, given: Sequence[N], kept: Iterable[N]) -> Compared[N]:
    """Compare what was given, in its order, each once, with what was kept, in the order in which it is kept."""
    place = {number: at for at, number in enumerate(given)}
    found = list(kept)
    counts = Counter(found)
    newest, seen, late = -1, set[N](), list[N]()
    for number in found:
        at = place.get(number)
        if at is None or number in seen:
            continue
        seen.add(number)
        if at < newest:
            late.append(number)
        newest = max(newest, at)
    return Compared(
        what,
        lost=[number for number in given if number not in counts],
        duplicated=[number for number, count in counts.items() for _ in range(count - 1)],
        unknown=[number for number in counts if number not in place],
        out_of_order=late,
    )


def _named(numbers: Sequence[N]) -> str:
    return ", ".join(map(str, numbers[:NAMED])) + (", …" if len(numbers) > NAMED else "")
