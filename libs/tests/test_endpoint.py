"""What a process tells those who watch it: alive, ready, and what its services counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from huracan.embedded.ports import free_port
from huracan.errors import BadInput
from huracan.service.endpoint import Endpoint, Watched

HOST = "127.0.0.1"
COUNTS = {"opinions": 7, "refused.old_epoch": 1, "last.skew_ns": -3}


def _watched(name: str, *, alive: bool = True, ready: bool = True) -> Watched:
    return Watched(
        name, alive=lambda: alive, ready=lambda: ready, counts=lambda: COUNTS, bus_counts=lambda: {"published": 9}
    )


def _asked(services: list[Watched], path: str) -> tuple[int, str, str]:
    """Return status, content type and body of a path."""

    async def ask(port: int) -> tuple[int, str, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}{path}") as response:
            return response.status, response.headers["Content-Type"], await response.text()

    return asyncio.run(_open(services, ask))


async def _open(services: list[Watched], ask: Callable[[int], Awaitable[tuple[int, str, str]]]) -> tuple[int, str, str]:
    endpoint, port = Endpoint(lambda: services), free_port()
    await endpoint.open(HOST, port)
    try:
        return await ask(port)
    finally:
        await endpoint.close()


@pytest.mark.parametrize(
    ("services", "path", "status"),
    [
        ([_watched("flow")], "/healthz", 200),
        ([_watched("flow")], "/readyz", 200),
        ([_watched("flow", ready=False)], "/healthz", 200),
        ([_watched("flow", ready=False)], "/readyz", 503),
        ([_watched("flow", alive=False)], "/healthz", 503),
        ([_watched("flow"), _watched("regime", ready=False)], "/readyz", 503),
        ([_watched("flow"), _watched("regime", alive=False)], "/healthz", 503),
        ([_watched("flow"), _watched("regime")], "/readyz", 200),
        ([], "/healthz", 503),
        ([], "/readyz", 503),
        ([_watched("flow")], "/", 404),
    ],
)
def test_a_process_is_as_well_as_the_worst_of_its_services(services: list[Watched], path: str, status: int) -> None:
    assert _asked(services, path)[0] == status


def test_metrics_are_counters_and_gauges_by_service() -> None:
    status, content_type, body = _asked([_watched("flow"), _watched("regime", ready=False)], "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    kinds = {name: family.type for name, family in families.items()}
    assert kinds == {
        "huracan_flow_events": "counter",
        "huracan_flow_last": "gauge",
        "huracan_regime_events": "counter",
        "huracan_regime_last": "gauge",
        "huracan_service_ready": "gauge",
        "huracan_bus_events": "counter",
    }
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["huracan_flow_events_total", "opinions"] == 7
    assert values["huracan_flow_events_total", "refused.old_epoch"] == 1
    assert values["huracan_flow_last", "skew_ns"] == -3
    assert values["huracan_service_ready", "flow"] == 1
    assert values["huracan_service_ready", "regime"] == 0
    assert values["huracan_bus_events_total", "published", "flow"] == 9
    assert all(family.documentation for family in families.values())


def test_a_port_that_is_taken_is_refused_by_its_field() -> None:
    async def main(port: int) -> None:
        endpoint = Endpoint(list)
        try:
            with pytest.raises(BadInput, match=f"http_port was {port}, which cannot be had"):
                await endpoint.open(HOST, port)
        finally:
            await endpoint.close()

    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        asyncio.run(main(taken.getsockname()[1]))


def test_what_was_never_opened_can_be_closed() -> None:
    asyncio.run(Endpoint(list).close())
