"""Say that a service is there, is done with a step, or is gone."""

from __future__ import annotations

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.contracts.market import InstrumentId
from huracan.contracts.ops import service_changed, step_acknowledged
from huracan.ids import derived_id
from huracan.ports import Ports


async def acknowledge_step(ports: Ports, service: str, instrument: InstrumentId, step: int) -> None:
    """Say, where anybody waits for it, that a service has done all it does for a step."""
    if ports.lockstep:
        await ports.bus.publish(subjects.ops(service, "step"), step_acknowledged(service, instrument, step))


async def announce(ports: Ports, service: str, *, running: bool) -> None:
    """Publish that a service has begun to listen, or has stopped; the last word of each service is kept."""
    at_ns = ports.clock.now_ns()
    changed = service_changed(service, running=running, at_ns=at_ns)
    incarnation = ports.rng.stream("announce").getrandbits(64)  # two lives may begin at one market time
    message_id = derived_id("service", service, running, at_ns, incarnation)
    await Backoff(ports.rng, f"announce.{service}").until_done(
        lambda: ports.bus.publish_acknowledged(subjects.ops(service, "service"), changed, message_id=message_id)
    )
