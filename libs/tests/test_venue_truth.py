"""A local venue server tells which anomalies its market has put in."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from huracan.clock import SystemClock
from huracan.sim.exchange import AnomalyConfig, AnomalyKind, SimulatedExchangeConfig
from huracan.sim.venue.settings import VenueSettings, server

WITHIN_S = 30.0
SPREAD = AnomalyConfig(kind=AnomalyKind.SPREAD, listing="okx.SIM", from_s=0.0, duration_s=2.0, size=20.0)


@pytest.mark.parametrize("anomalies", [(SPREAD,), ()], ids=["one", "none"])
def test_what_was_put_in_is_told_with_its_time_and_size(anomalies: tuple[AnomalyConfig, ...]) -> None:
    async def main() -> list[dict[str, object]]:
        settings = VenueSettings(exchange=SimulatedExchangeConfig(seed=1, anomalies=anomalies))
        async with server(settings, SystemClock()) as venues, aiohttp.ClientSession() as session:
            told: list[dict[str, object]] = []
            async with asyncio.timeout(WITHIN_S):
                while len(told) < len(anomalies):
                    told = await (await session.get(f"{venues.url}/injected")).json()
                    await asyncio.sleep(0.02)
            return told

    told = asyncio.run(main())
    assert [(each["kind"], each["listing"], each["size"]) for each in told] == [
        (each.kind.value, each.listing, each.size) for each in anomalies
    ]
    for each in told:
        assert isinstance(each["from_ns"], int)
        assert isinstance(each["until_ns"], int)
        assert each["until_ns"] - each["from_ns"] == 2 * 10**9
