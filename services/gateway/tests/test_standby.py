"""Several venues in one gateway: one stands by for another, and one that is refused or absent costs nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from google.protobuf.message import Message
from pydantic import ValidationError

from huracan.clock import SystemClock
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import instrument_key
from huracan.contracts.ops import FeedChanged, feed_state_name
from huracan.embedded.ports import free_port
from huracan.errors import BadInput, Fatal
from huracan.sim.exchange import BINANCE_USDM, OKX, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.venue.misbehaviour import Kind, Misbehaviour
from huracan.sim.venue.server import VenueServer
from huracan.sim.world import World
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.live.config import FallbackConfig
from huracan_gateway.live.feed import LiveFeed
from huracan_gateway.service import Gateway
from huracan_gateway.spec import SPEC

WITHIN_S = 60.0
PRIMARY, STANDBY = "sim.sim-usdt-perp", "sim.sim-usdt-perp-okx"
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP"}
STREAMS = {"binance_usdm": "", "okx": "/ws/v5/public"}


class Heard:
    """What the gateway published."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []
        self.details: list[str] = []
        self.ids: list[bytes] = []
        self.windows: list[str] = []

    def take(self, message: Message) -> None:
        match message:
            case FeedChanged():
                told = (instrument_key(message.instrument), feed_state_name(message.state), message.provider)
                self.changes.append(told)
                self.details.append(message.detail)
                self.ids.append(message.change_id)
            case FeatureWindow():
                self.windows.append(instrument_key(message.instrument.id))


def feed(venue: str, port: int, **more: object) -> FeedConfig:
    given = {
        "venue": venue,
        "symbol": SYMBOLS[venue],
        "websocket_url": f"ws://127.0.0.1:{port}/{venue}{STREAMS[venue]}",
        "rest_url": f"http://127.0.0.1:{port}/{venue}",
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


def venues(clock: SystemClock, port: int = 0) -> VenueServer:
    market = SimulatedExchange(SimulatedExchangeConfig(seed=7, start_ns=clock.now_ns(), venues=(BINANCE_USDM, OKX)))
    return VenueServer(market=market, port=port, on_wall_time=True, clock=clock)


@asynccontextmanager
async def gateway_of(clock: SystemClock, feeds: Sequence[FeedConfig]) -> AsyncIterator[tuple[Gateway, Heard, World]]:
    """Run a gateway, and hear what it publishes."""
    world, heard = World(clock, seed=1, lockstep=False), Heard()

    async def listen() -> None:
        inbox = world.bus.node("watcher").inbox()
        inbox.subscribe("ops.v1.gateway.>")
        inbox.subscribe("feat.v1.micro.>")
        async for delivery in inbox:
            heard.take(delivery.decode())

    listening = asyncio.create_task(listen())
    world.start("gateway", lambda ports: SPEC.make(GatewayConfig(feeds=tuple(feeds)), ports))
    gateway = world.services["gateway"]
    assert isinstance(gateway, Gateway)
    try:
        yield gateway, heard, world
    finally:
        listening.cancel()
        await world.stop()


def played(
    feeds: Callable[[int], Sequence[FeedConfig]],
    story: Callable[[VenueServer, Heard], Awaitable[None]],
    *,
    refused: str | None = None,
) -> tuple[Heard, Gateway]:
    """Run a gateway on the feeds while a story is told, then stop it; what it published, and itself.

    A venue that is named refuses every connection from the start, until it is told to behave.
    """

    async def main() -> tuple[Heard, Gateway]:
        clock = SystemClock()
        async with venues(clock) as server:
            if refused is not None:
                server.misbehave(Misbehaviour(kind=Kind.REFUSE, venue=refused, duration_s=60.0))
            async with gateway_of(clock, feeds(server.port)) as (gateway, heard, world):
                await story(server, heard)
                gateway.stop()
                await world.finish("gateway")
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
        lambda port: [feed("binance_usdm", port), feed("okx", port, standby_for="binance_usdm:SIMUSDT")],
        story,
    )
    assert heard.changes.count((PRIMARY, "fallback", STANDBY)) == 2
    first = heard.changes.index((PRIMARY, "fallback", STANDBY))
    assert (PRIMARY, "silent", "websocket") in heard.changes[:first]
    assert not any(key == STANDBY for key, _, _ in heard.changes[:first]), "it was not even connected before"


def failing(gateway: Gateway, key: str, error: Exception) -> None:
    """Have a feed end with an error, as when its venue refuses a subscription."""
    playing = gateway.channels[key].feed
    assert isinstance(playing, LiveFeed)
    playing._failure = error
    playing._lines.wake()


def test_a_book_without_updates_is_no_longer_in_step_and_one_refused_after_its_return_is_stood_in_for_once() -> None:
    async def main() -> None:
        clock = SystemClock()
        async with venues(clock) as server:
            feeds = [feed("binance_usdm", server.port), feed("okx", server.port, standby_for="binance_usdm:SIMUSDT")]
            async with gateway_of(clock, feeds) as (gateway, heard, world):
                await until(lambda: PRIMARY in heard.windows, "the first venue's windows")
                book = gateway.channels[PRIMARY].instrument.book
                server.misbehave(Misbehaviour(kind=Kind.SILENCE, venue="binance_usdm", duration_s=60.0))
                await until(lambda: (PRIMARY, "fallback", STANDBY) in heard.changes, "the second venue")
                await until(lambda: not book.synced, "the loss of the book")
                server.behave()
                fallback, returned = (PRIMARY, "fallback", STANDBY), (PRIMARY, "returned", "websocket")
                await until(lambda: heard.changes.count(returned) >= 2, "the return")

                def stands() -> bool:  # on a machine that stalls it may fall silent again
                    return (
                        book.synced and [each for each in heard.changes if each in (fallback, returned)][-1] == returned
                    )

                await until(stands, "the book, and nobody in its place")
                returns, falls = heard.changes.count(returned), heard.changes.count(fallback)
                failing(gateway, PRIMARY, Fatal("the venue refused a subscription: delisted"))
                before = heard.windows.count(STANDBY)
                await until(lambda: heard.windows.count(STANDBY) > before + 5, "the second venue's windows")
                assert heard.changes.count(fallback) == falls + 1
                assert heard.changes.count(returned) == returns
                gateway.stop()
                await world.finish("gateway")

    asyncio.run(main())


def test_when_a_gateway_ends_nothing_goes_on_standing_by() -> None:
    async def main() -> None:
        clock = SystemClock()
        async with venues(clock) as server:
            feeds = [feed("binance_usdm", server.port), feed("okx", server.port, standby_for="binance_usdm:SIMUSDT")]
            async with gateway_of(clock, feeds) as (gateway, heard, world):
                await until(lambda: PRIMARY in heard.windows, "the first venue's windows")
                server.misbehave(Misbehaviour(kind=Kind.SILENCE, venue="binance_usdm", duration_s=60.0))
                await until(lambda: STANDBY in heard.windows, "the second venue's windows")
                failing(gateway, PRIMARY, ValueError("a bug"))
                with pytest.raises(ValueError, match="a bug"):
                    await world.finish("gateway")
                left.extend(task.get_name() for task in asyncio.all_tasks())

    left: list[str] = []
    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(main())
    assert left
    assert not {*left} & {f"stand by {STANDBY}", f"return of {PRIMARY}"}


def test_a_gateway_whose_feeds_were_all_refused_ends_with_an_error() -> None:
    async def main() -> None:
        clock = SystemClock()
        async with venues(clock) as server:
            nowhere = f"ws://127.0.0.1:{server.port}/nowhere"
            feeds = [feed(venue, server.port, websocket_url=nowhere) for venue in ("okx", "binance_usdm")]
            async with gateway_of(clock, feeds) as (gateway, _, world):
                gateways.append(gateway)
                await world.finish("gateway")

    gateways: list[Gateway] = []
    with pytest.raises(Fatal, match="the handshake was answered 404"):
        asyncio.run(main())
    assert gateways[0].report()["feeds.refused"] == 2


@pytest.mark.parametrize("mute", [False, True])
def test_bars_that_a_venue_does_not_give_are_told_and_hold_nothing_back(
    monkeypatch: pytest.MonkeyPatch, *, mute: bool
) -> None:
    monkeypatch.setattr("huracan_gateway.live.open.BARS_WITHIN_S", 0.1)

    async def klines(_: web.Request) -> web.Response:
        if mute:
            await asyncio.Event().wait()
        return web.Response(status=400)

    async def main() -> Heard:
        clock = SystemClock()
        app = web.Application()
        app.router.add_get("/api/v5/market/history-candles", klines)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        async with venues(clock) as server:

            async def others(request: web.Request) -> web.Response:
                async with ClientSession() as session, session.get(f"{server.url}/okx{request.path_qs}") as answer:
                    return web.Response(body=await answer.read(), status=answer.status)

            app.router.add_get("/{path:.*}", others)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            try:
                rest_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                async with gateway_of(clock, [feed("okx", server.port, rest_url=rest_url)]) as (gateway, heard, world):
                    await until(lambda: STANDBY in heard.windows, "windows")
                    assert gateway.report()["history_bars.refused"] == 1
                    gateway.stop()
                    await world.finish("gateway")
            finally:
                await runner.cleanup()
            return heard

    heard = asyncio.run(main())
    assert (STANDBY, "refused", "rest") in heard.changes
    assert any(detail.startswith("no bars to warm with: ") for detail in heard.details)


def test_a_feed_that_is_refused_for_good_costs_only_itself() -> None:
    async def story(server: VenueServer, heard: Heard) -> None:
        await until(lambda: STANDBY in heard.windows, "the other venue's windows")
        before = len(heard.windows)
        await until(lambda: len(heard.windows) > before + 5, "more of them")

    heard, gateway = played(
        lambda port: [
            feed("binance_usdm", port, websocket_url=f"ws://127.0.0.1:{port}/nowhere"),
            feed("okx", port),
        ],
        story,
    )
    assert (PRIMARY, "refused", "websocket") in heard.changes
    assert set(heard.windows) == {STANDBY}
    assert gateway.report()["feeds.refused"] == 1


def test_a_venue_that_does_not_answer_at_the_start_costs_only_itself_until_it_does() -> None:
    async def story(server: VenueServer, heard: Heard) -> None:
        await until(lambda: STANDBY in heard.windows, "the other venue's windows")
        await until(lambda: (PRIMARY, "silent", "rest") in heard.changes, "its silence")
        assert PRIMARY not in heard.windows
        server.behave()
        await until(lambda: PRIMARY in heard.windows, "its windows")

    heard, gateway = played(lambda port: [feed("binance_usdm", port), feed("okx", port)], story, refused="binance_usdm")
    own = [(state, provider) for key, state, provider in heard.changes if key == PRIMARY]
    assert own[: own.index(("connected", "websocket"))].count(("reconnecting", "rest")) > 1
    assert len(set(heard.ids)) == len(heard.ids), "each change has an id of its own"
    assert list(gateway.channels) == [PRIMARY, STANDBY], "in the order of the feeds, whoever came first"
    counts = gateway.report()
    assert counts[f"{PRIMARY}/feed.reconnecting"] == own.count(("reconnecting", "rest"))
    assert counts["feed.connected"] == sum(state == "connected" for _, state, _ in heard.changes)


def test_a_second_venue_takes_over_for_one_that_does_not_answer_at_the_start() -> None:
    async def story(server: VenueServer, heard: Heard) -> None:
        await until(lambda: STANDBY in heard.windows, "the second venue's windows")
        assert (PRIMARY, "fallback", STANDBY) in heard.changes
        server.behave()
        await until(lambda: (PRIMARY, "returned", "websocket") in heard.changes, "the return")
        await until(lambda: PRIMARY in heard.windows, "its windows")

    heard, _ = played(
        lambda port: [feed("okx", port, standby_for="binance_usdm:SIMUSDT"), feed("binance_usdm", port)],
        story,
        refused="binance_usdm",
    )
    assert heard.changes.count((PRIMARY, "fallback", STANDBY)) == 1


def test_a_gateway_whose_only_venue_is_absent_waits_says_why_and_begins_when_it_is_there() -> None:
    async def main() -> None:
        clock, port = SystemClock(), free_port()
        async with gateway_of(clock, [feed("okx", port)]) as (gateway, heard, world):
            await until(lambda: heard.changes.count((STANDBY, "reconnecting", "rest")) > 2, "tries")
            assert not gateway.ready.is_set()
            assert gateway.report()["feed.reconnecting"] > 2
            assert all("okx GET /api/v5/public/instruments" in detail for detail in heard.details)
            async with venues(clock, port):
                await until(lambda: STANDBY in heard.windows, "windows")
                assert gateway.ready.is_set()
                gateway.stop()
                await world.finish("gateway")

    asyncio.run(main())


def test_a_gateway_that_waits_for_its_venue_stops_when_told() -> None:
    async def main() -> None:
        async with gateway_of(SystemClock(), [feed("okx", free_port())]) as (gateway, heard, world):
            await until(lambda: (STANDBY, "reconnecting", "rest") in heard.changes, "a try")
            gateway.stop()
            await world.finish("gateway")

    asyncio.run(main())


def test_a_symbol_that_a_venue_does_not_list_is_an_error_by_name() -> None:
    async def main() -> None:
        clock = SystemClock()
        async with venues(clock) as server:
            feeds = [feed("okx", server.port, symbol="NONE-SUCH-SWAP"), feed("binance_usdm", server.port)]
            async with gateway_of(clock, feeds) as (_, _, world):
                await world.finish("gateway")

    with pytest.raises(BadInput, match="symbol was 'NONE-SUCH-SWAP', which okx does not define"):
        asyncio.run(main())


def test_what_a_venue_refuses_only_when_others_are_read_already_costs_only_itself() -> None:
    async def story(server: VenueServer, heard: Heard) -> None:
        await until(lambda: STANDBY in heard.windows, "the other venue's windows")
        await until(lambda: any(state == "reconnecting" for _, state, _ in heard.changes), "a try")
        server.behave()
        await until(lambda: any(state == "refused" for _, state, _ in heard.changes), "the refusal")
        before = len(heard.windows)
        await until(lambda: len(heard.windows) > before + 5, "more windows")

    _, gateway = played(
        lambda port: [feed("binance_usdm", port, symbol="NONEUSDT"), feed("okx", port)], story, refused="binance_usdm"
    )
    assert gateway.report()["feeds.refused"] == 1


@pytest.mark.parametrize(
    ("standby_for", "fault"),
    [
        ("", "okx:SIM-USDT-SWAP was there twice"),
        ("okx:SIM-USDT-SWAP", "which is no other feed"),
        ("bybit:SIMUSDT", "standby_for of okx:SIM-USDT-SWAP was 'bybit:SIMUSDT', which is no other feed"),
    ],
)
def test_feeds_that_cannot_be_told_apart_or_stand_by_for_none_are_refused(standby_for: str, fault: str) -> None:
    feeds = [feed("okx", 1, standby_for=standby_for)] * (1 if standby_for else 2)
    with pytest.raises(ValidationError, match=fault):
        GatewayConfig(feeds=tuple(feeds))
