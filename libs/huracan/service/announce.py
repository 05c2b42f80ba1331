"""Say that a service is there, or gone."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.contracts.ops import service_changed
from huracan.ids import derived_id
from huracan.ports import Ports


class Service(Protocol):
    """One service: a name, what it counted, and a life that lasts until it is cancelled."""

    name: str
    counts: Counter[str]

    async def run(self) -> None:
        """Serve until cancelled, or until there is nothing left to do."""


async def announce(ports: Ports, service: str, *, running: bool) -> None:
    """Publish that a service has begun to listen, or has stopped; the last word of each service is kept."""
    at_ns = ports.clock.now_ns()
    changed = service_changed(service, running=running, at_ns=at_ns)
    message_id = derived_id("service", service, running, at_ns)
    await Backoff(ports.clock, ports.rng, f"announce.{service}").until_done(
        lambda: ports.bus.publish_acknowledged(subjects.ops(service, "service"), changed, message_id=message_id)
    )
