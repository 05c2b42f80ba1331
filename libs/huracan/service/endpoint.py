"""What a process tells those who watch it: /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from huracan.errors import BadInput
from huracan.service.service import LAST


@dataclass(frozen=True, slots=True)
class Watched:
    """One service as its process sees it."""

    name: str
    alive: Callable[[], bool]
    ready: Callable[[], bool]
    counts: Callable[[], dict[str, int]]
    bus_counts: Callable[[], dict[str, int]]
    away: Callable[[], list[str]] = list
    """Names of the servers that it needs and that do not answer: it is not ready then."""

    @property
    def readiness(self) -> bool | str:
        """Return whether it is ready, and where a server is the reason that it is not, which."""
        away = self.away()
        return f"{', '.join(away)} is away" if away else self.ready()


class _Collector:
    """Turn what services count into metrics at the moment they are asked for."""

    def __init__(self, services: Callable[[], Iterable[Watched]]) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of all services."""
        ready = GaugeMetricFamily("huracan_service_ready", "Whether the service listens.", labels=["service"])
        bus = CounterMetricFamily("huracan_bus_events", "What happened to messages.", labels=["service", "event"])
        for service in self._services():
            ready.add_metric([service.name], float(service.readiness is True))
            for event, count in service.bus_counts().items():
                bus.add_metric([service.name, event], count)
            yield from _counts(service)
        yield ready
        yield bus


def _counts(service: Watched) -> Iterable[Metric]:
    events = CounterMetricFamily(f"huracan_{service.name}_events", "What the service counted.", labels=["event"])
    newest = GaugeMetricFamily(f"huracan_{service.name}_last", "Newest value of what it follows.", labels=["what"])
    for name, count in service.counts().items():
        if name.startswith(LAST):
            newest.add_metric([name.removeprefix(LAST)], count)
        else:
            events.add_metric([name], count)
    return events, newest


class Endpoint:
    """Serve the three paths on the event loop of the services: a loop that hangs does not answer."""

    def __init__(self, services: Callable[[], Iterable[Watched]]) -> None:
        self._services = services
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(services))
        self._runner: web.AppRunner | None = None

    async def open(self, host: str, port: int) -> None:
        """Listen; raise BadInput when the port cannot be had."""
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._readiness)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise BadInput(f"http_port was {port}, which cannot be had on {host}: {error}; choose another") from None

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return _state({service.name: service.alive() for service in self._services()})

    async def _readiness(self, _: web.Request) -> web.Response:
        return _state({service.name: service.readiness for service in self._services()})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _state(services: Mapping[str, bool | str]) -> web.Response:
    good = bool(services) and all(state is True for state in services.values())
    return web.json_response(dict(services), status=200 if good else 503)
