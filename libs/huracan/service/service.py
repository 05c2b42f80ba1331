"""What every service is: a name, what it counts, and a life that recovers, listens, and ends when it is drained."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from huracan.bus.access import Access
from huracan.config import Config
from huracan.errors import BadInput
from huracan.ports import Ports
from huracan.service.announce import announce

C = TypeVar("C", bound=Config)

GROUP = "huracan.services"
"""Entry points of this group name a ServiceSpec each."""
LAST = "last."
"""Counts with this prefix are the newest value of something, not a number of events."""


class Service(ABC):
    """One service. How it starts is how it recovers; it is ready once it listens."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.ready = asyncio.Event()

    @abstractmethod
    async def run(self) -> None:
        """Serve until the bus is drained, until there is nothing left to do, or until cancelled."""

    def report(self) -> Counter[str]:
        """Return everything that was counted since the start."""
        return Counter(self.counts)

    def stop(self) -> None:  # noqa: B027 - most services take everything in over the bus
        """Take nothing in any more, where that does not come over the bus."""

    async def listening(self, ports: Ports) -> None:
        """Say that from now on nothing is missed; what was asked of the bus before is in force then."""
        await announce(ports, self.name, running=True)
        self.ready.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec(Generic[C]):
    """How a service is made in a process, and what it may touch there."""

    name: str
    config: type[C]
    make: Callable[[C, Ports], Service]
    access: Callable[[C], Access]
    """Return what it reads and writes: the server grants no more."""
    keeps: bool = False
    """Whether it saves to the store."""


def spec(name: str) -> ServiceSpec[Config]:
    """Return the spec of an installed service; raise BadInput when there is none of this name."""
    points = entry_points(group=GROUP)
    if name not in points.names:
        raise BadInput(f"service was {name!r}; installed are {', '.join(sorted(points.names)) or 'none'}")
    found = points[name].load()
    assert isinstance(found, ServiceSpec)
    return found


def combined(reports: list[Counter[str]]) -> Counter[str]:
    """Return what several incarnations of a service counted, oldest first."""
    total: Counter[str] = Counter()
    for report in reports:
        for name, count in report.items():
            total[name] = count if name.startswith(LAST) else total[name] + count
    return total
