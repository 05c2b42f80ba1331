"""All services on one virtual-time loop, each behind its own ports, each killed and restarted at will."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from huracan.bus.memory import MemoryBus
from huracan.bus.transport import PERFECT, Transport
from huracan.ports import Clock, Ports
from huracan.rng import SeededRng
from huracan.service.announce import announce
from huracan.service.service import Service, combined
from huracan.store.memory import MemoryStore
from huracan.ticklog.memory import MemoryLog

Factory = Callable[[Ports], Service]
"""Makes a service anew from its ports: how it starts is how it recovers."""

SUPERVISOR = "supervisor"


class World:
    """Run services in memory. The bus, the log and the store outlive every service."""

    def __init__(self, clock: Clock, *, seed: int, transport: Transport = PERFECT, lockstep: bool = True) -> None:
        self.bus = MemoryBus(transport)
        self.log = MemoryLog(transport)
        self.store = MemoryStore()
        self.services: dict[str, Service] = {}
        """The living, or last, incarnation of each service."""
        self._counted: dict[str, Counter[str]] = {}
        self.starts: Counter[str] = Counter()
        self._clock = clock
        self._lockstep = lockstep
        self._seed = seed
        self._factories: dict[str, Factory] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ports(self, node: str) -> Ports:
        """Return the ports of a node."""
        rng = SeededRng(self._seed).stream(f"{node}/{self.starts[node]}")
        return Ports(
            bus=self.bus.node(node),
            log=self.log.node(node),
            clock=self._clock,
            store=self.store,
            rng=SeededRng(rng.getrandbits(64)),
            lockstep=self._lockstep,
        )

    def start(self, name: str, factory: Factory | None = None) -> asyncio.Task[None]:
        """Start a service, or start it again as it was made the first time."""
        self._factories[name] = factory or self._factories[name]
        self.starts[name] += 1
        service = self._factories[name](self.ports(name))
        if name in self.services:
            self._counted[name] = self.counts[name]
        self.services[name] = service
        task = self._tasks[name] = asyncio.create_task(service.run(), name=name)
        return task

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """Return what each service counted over all its incarnations."""
        return {
            name: combined([self._counted.get(name, Counter()), service.report()])
            for name, service in self.services.items()
        }

    async def kill(self, name: str) -> None:
        """Stop a service in the middle of whatever it does."""
        await self._end(name)
        _raise_failure([self._tasks[name]])

    async def _end(self, name: str) -> None:
        task = self._tasks[name]
        task.cancel()
        await asyncio.wait([task])
        self.bus.disconnect(name)

    async def announce_death(self, name: str) -> None:
        """Say, in its place, that a service is gone: what a supervisor does."""
        await announce(self.ports(SUPERVISOR), name, running=False)

    async def finish(self, name: str) -> None:
        """Wait for a service to end by itself; raise what any other service failed with meanwhile."""
        last = self._tasks[name]
        while not last.done():
            running = [task for task in self._tasks.values() if not task.done()]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            _raise_failure(running)

    def check(self) -> None:
        """Raise what any service has failed with."""
        _raise_failure(self._tasks.values())

    async def stop(self) -> None:
        """Stop every service, then raise what any of them failed with."""
        for name in self._tasks:
            await self._end(name)
        self.check()


def _raise_failure(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise the first failure; all of them are taken note of."""
    errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for error in errors:
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is not None:
            raise error
