"""Several venues in one gateway: one stands by for another, and one that is refused costs nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from huracan.clock import SystemClock
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import instrument_key
from huracan.contracts.ops import FeedChanged, feed_state_name
from huracan.sim.exchange import BINANCE_USDM, OKX, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.venue.misbehaviour import Kind, Misbehaviour
from huracan.sim.venue.server import VenueServer
from huracan.sim.world import World
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.live.config import FallbackConfig
from huracan_gateway.service import Gateway
from huracan_gateway.spec import SPEC

WITHIN_S = 15.0
PRIMARY, STANDBY = "sim.sim-usdt-perp", "sim.sim-usdt-perp-okx"
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP"}
STREAMS = {"binance_usdm": "", "okx": "/ws/v5/public"}


class Heard:
    """What the gateway published."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []
        self.windows: list[str] = []

    def take(self, message: Message) -> None:
        match message:
            case FeedChanged():
                told = (instrument_key(message.instrument), feed_state_name(message.state), message.provider)
                self.changes.append(told)
            case FeatureWindow():
                self.windows.append(instrument_key(message.instrument.id))


def feed(venue: str, server: VenueServer, **more: object) -> FeedConfig:
    given = {
        "venue": venue,
        "symbol": SYMBOLS[venue],
        "websocket_url": f"ws{server.url.removeprefix('http')}/{venue}{STREAMS[venue]}",
        "rest_url": f"{server.url}/{venue}",
        "silent_after_ms": 500,
        "calm_ms": 150,
        "fallback": FallbackConfig(kind="none"),
        "connects_per_minute": 6_000,
        "book_begins_within_ms": 200,
    }
    return FeedConfig.model_validate({**given, **more})


async def until(condition: Callable[[], bool], what: str) -> None:
    loop = asyncio.get_running_loop()
    latest_s = loop.time() + WITHIN_S
    while not condition():
        assert loop.time() < latest_s, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def played(
    feeds: Callable[[VenueServer], Sequence[FeedConfig]],
    story: Callable[[VenueServer, Heard], object],
) -> tuple[Heard, Gateway]:
    """Run a gateway on the feeds while a story is told, then stop it; what it published, and itself."""

    async def main() -> tuple[Heard, Gateway]:
        clock = SystemClock()
        market = SimulatedExchange(SimulatedExchangeConfig(seed=7, start_ns=clock.now_ns(), venues=(BINANCE_USDM, OKX)))
        async with VenueServer(market=market, on_wall_time=True, clock=clock) as server:
            world, heard = World(clock, seed=1, lockstep=False), Heard()

            async def listen() -> None:
                inbox = world.bus.node("watcher").inbox()
                inbox.subscribe("ops.v1.gateway.>")
                inbox.subscribe("feat.v1.micro.>")
                async for delivery in inbox:
                    heard.take(delivery.decode())

            listening = asyncio.create_task(listen())
            config = GatewayConfig(feeds=tuple(feeds(server)))
            world.start("gateway", lambda ports: SPEC.make(config, ports))
            gateway = world.services["gateway"]
            assert isinstance(gateway, Gateway)
            try:
                told = story(server, heard)
                assert asyncio.iscoroutine(told)
                await told
                gateway.stop()
                await world.finish("gateway")
            finally:
                listening.cancel()
                await world.stop()
            return heard, gateway

    return asyncio.run(main())


def test_a_second_venue_takes_over_while_the_first_is_silent_each_time_and_gives_back() -> None:
    async def story(server: VenueServer, heard: Heard) -> None:
        await until(lambda: PRIMARY in heard.windows, "the first venue's windows")
        for times in (1, 2):
            before = heard.windows.count(STANDBY)
            server.misbehave(Misbehaviour(kind=Kind.SILENCE, venue="binance_usdm", duration_s=60.0))
            await until(lambda: heard.windows.count(STANDBY) > before + 5, "the second venue's windows")  # noqa: B023
            server.behave()
            returned = (PRIMARY, "returned", "websocket")
            await until(lambda: heard.changes.count(returned) >= 2 * times, "the return")  # noqa: B023

    heard, _ = played(
        lambda server: [
            feed("binance_usdm", server),
            feed("okx", server, standby_for="binance_usdm:SIMUSDT"),
        ],
        story,
    )
    assert heard.changes.count((PRIMARY, "fallback", STANDBY)) == 2
    first = heard.changes.index((PRIMARY, "fallback", STANDBY))
    assert (PRIMARY, "silent", "websocket") in heard.changes[:first]
    assert not any(key == STANDBY for key, _, _ in heard.changes[:first]), "it was not even connected before"


def test_a_feed_that_is_refused_for_good_costs_only_itself() -> None:
    async def story(server: VenueServer, heard: Heard) -> None:
        await until(lambda: STANDBY in heard.windows, "the other venue's windows")
        before = len(heard.windows)
        await until(lambda: len(heard.windows) > before + 5, "more of them")

    heard, gateway = played(
        lambda server: [
            feed("binance_usdm", server, websocket_url=f"ws{server.url.removeprefix('http')}/nowhere"),
            feed("okx", server),
        ],
        story,
    )
    assert (PRIMARY, "refused", "websocket") in heard.changes
    assert set(heard.windows) == {STANDBY}
    assert gateway.report()["feeds.refused"] == 1
