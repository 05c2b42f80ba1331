"""A gateway that is killed and comes back: what its venues repeat is logged once, and what it lost comes again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from google.protobuf.message import Message

from huracan.bus.subjects import TICKS_TOPIC
from huracan.clock import SystemClock
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.market import (
    InstrumentDefinition,
    InstrumentId,
    TickBatch,
    TickColumns,
    TickKind,
    tick_batch,
    tick_columns,
)
from huracan.embedded.ports import free_port
from huracan.sim.exchange import BINANCE_USDM, BYBIT, OKX, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.venue.server import VenueServer
from huracan.sim.venue.settings import VenueSettings, server
from huracan.sim.world import World
from huracan.ticklog.memory import MemoryLog
from huracan_gateway import recall
from huracan_gateway.adapter import TradeIds
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.recall import FIRST_LOOK, NAMES_RECALLED, recalled_trades
from huracan_gateway.spec import SPEC

WITHIN_S = 60.0
LIVES = 3
TRADES = 25
"""Of each venue in a life."""
VENUES = {
    "binance_usdm": ("SIMUSDT", ""),
    "okx": ("SIM-USDT-SWAP", "/ws/v5/public"),
    "bybit": ("SIMUSDT", "/v5/public/linear"),
}
KEY = "sim.sim-usdt-perp"
INSTRUMENT = InstrumentDefinition(id=InstrumentId(venue="sim", symbol="sim-usdt-perp", definition_version=1))


def _config(port: int) -> GatewayConfig:
    feeds = [
        FeedConfig(
            venue=venue,
            symbol=symbol,
            websocket_url=f"ws://127.0.0.1:{port}/{venue}{path}",
            rest_url=f"http://127.0.0.1:{port}/{venue}",
        )
        for venue, (symbol, path) in VENUES.items()
    ]
    return GatewayConfig(feeds=tuple(feeds))


async def _logged(log: MemoryLog, key: str) -> list[int]:
    """Return the trades in the log by the venue's id, in the order of the log."""
    batches = [record.message for record in await log.node("reader").read(TICKS_TOPIC, key, 0)]
    columns = [tick_columns(batch) for batch in batches if isinstance(batch, TickBatch)]
    return [
        number
        for of_batch in columns
        for kind, number in zip(of_batch.kind, of_batch.venue_seq, strict=True)
        if kind == TickKind.TICK_KIND_TRADE
    ]


async def _until(world: World, count: int) -> None:
    """Wait until every venue has so many trades in the log."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            world.check()
            keys = world.log.keys(TICKS_TOPIC)
            if len(keys) == len(VENUES) and min([len(await _logged(world.log, key)) for key in keys]) >= count:
                return
            await asyncio.sleep(0.02)


def test_of_what_venues_repeat_to_a_gateway_that_was_killed_each_trade_is_logged_once() -> None:
    async def main() -> dict[str, list[int]]:
        clock = SystemClock()
        exchange = SimulatedExchangeConfig(
            seed=3, start_ns=clock.now_ns(), venues=(BINANCE_USDM, OKX, BYBIT), market_orders_per_s=12.0
        )
        market = SimulatedExchange(exchange)
        async with VenueServer(market=market, on_wall_time=True, clock=clock, repeats=1_000) as server:
            world = World(clock, seed=1, lockstep=False)
            config = _config(server.port)
            world.start("gateway", lambda ports: SPEC.make(config, ports))
            for life in range(1, LIVES + 1):
                await _until(world, life * TRADES)
                await world.kill("gateway")
                if life < LIVES:
                    world.start("gateway")
            return {key: await _logged(world.log, key) for key in world.log.keys(TICKS_TOPIC)}

    found = asyncio.run(main())
    assert len(found) == len(VENUES)
    for key, numbers in found.items():
        assert len(set(numbers)) == len(numbers) >= LIVES * TRADES, key
    in_order = [numbers for key, numbers in found.items() if "bybit" not in key]
    assert len(in_order) == 2
    for numbers in in_order:
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "what was lost with the process is there"


def test_trades_of_a_simulated_market_that_was_started_again_are_new() -> None:
    exchange = SimulatedExchangeConfig(seed=3, venues=(BINANCE_USDM, OKX, BYBIT), market_orders_per_s=12.0)

    async def main() -> tuple[dict[str, list[int]], Counter[str]]:
        clock = SystemClock()
        settings = VenueSettings(exchange=exchange, port=free_port())
        config = _config(settings.port)
        world = World(clock, seed=1, lockstep=False)
        for life in range(1, LIVES + 1):
            async with server(settings, clock):
                world.start("gateway", lambda ports: SPEC.make(config, ports))
                await _until(world, life * TRADES)
                await world.kill("gateway")
        return {key: await _logged(world.log, key) for key in world.log.keys(TICKS_TOPIC)}, world.counts["gateway"]

    found, counts = asyncio.run(main())
    assert {name: count for name, count in counts.items() if "rejected" in name and count} == {}
    for key, numbers in found.items():
        assert len(set(numbers)) == len(numbers) >= LIVES * TRADES, key


def _batch(number: int, epoch: int, trades: list[int]) -> TickBatch:
    ones = [1] * len(trades)
    columns = TickColumns(
        ingest_seq=trades,
        event_ns=ones,
        recv_ns=ones,
        venue_seq=trades,
        kind=[TickKind.TICK_KIND_TRADE for _ in trades],
        flags=[0 for _ in trades],
        side=ones,
        price=ones,
        size=ones,
    )
    return tick_batch(instrument=INSTRUMENT, epoch=epoch, batch=number, columns=columns, watermark_ns=number)


def _recalled(batches: Sequence[Message], trade_ids: TradeIds = TradeIds.RISING) -> list[int]:
    async def main() -> list[int]:
        log = MemoryLog().node("gateway")
        for number, batch in enumerate(batches):
            await log.append(TICKS_TOPIC, KEY, batch, record_id=str(number).encode())
        return await recalled_trades(log, KEY, trade_ids, Counter())

    return asyncio.run(main())


def test_a_log_without_trades_recalls_none() -> None:
    assert _recalled([]) == []
    assert _recalled([_batch(1, 1, [])]) == []


@pytest.mark.parametrize("trade_ids", TradeIds)
def test_trades_of_a_writer_that_had_lost_its_place_are_not_recalled(trade_ids: TradeIds) -> None:
    batches = [_batch(1, 1, [5]), _batch(1, 2, []), _batch(2, 1, [6]), _batch(2, 2, [7])]
    assert _recalled(batches, trade_ids) == [5, 7]


def test_a_trade_before_a_long_silence_is_recalled() -> None:
    silence = [_batch(number, 1, []) for number in range(2, FIRST_LOOK + 100)]
    assert _recalled([_batch(1, 1, [9]), *silence]) == [9]


def test_trades_that_are_known_by_name_alone_are_recalled_however_few_there_are_among_the_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recall, "NAMES_RECALLED", 100)
    log, quiet = MemoryLog(), encode(_batch(1, 1, []))
    for number in range(20_000):
        data = quiet if number % 100 else encode(_batch(1, 1, [number // 100]))
        log.put(TICKS_TOPIC, KEY, schema_of(TickBatch()), data, b"%d" % number)

    def recalled(trade_ids: TradeIds) -> list[int]:
        return asyncio.run(recalled_trades(log.node("gateway"), KEY, trade_ids, Counter()))

    named = recalled(TradeIds.NAMES)
    assert 100 <= len(named) < 200
    assert named == list(range(named[0], 200))
    assert recalled(TradeIds.RISING) == list(range(190, 200))
    monkeypatch.setattr(recall, "LONGEST_LOOK", 5_000)
    assert recalled(TradeIds.NAMES) == list(range(150, 200))


@pytest.mark.parametrize("trade_ids", TradeIds)
@pytest.mark.parametrize("place", [0, 1, 300, FIRST_LOOK, 2 * FIRST_LOOK])
def test_a_record_that_cannot_be_read_is_counted_and_keeps_no_gateway_from_starting(
    place: int, trade_ids: TradeIds
) -> None:
    log = MemoryLog()
    for number in range(2 * FIRST_LOOK + 1):
        batch = _batch(1, 1, [number])
        schema = "huracan.later.v1.Thing" if number == place else schema_of(batch)
        log.put(TICKS_TOPIC, KEY, schema, encode(batch), str(number).encode())
    counts: Counter[str] = Counter()
    found = asyncio.run(recalled_trades(log.node("gateway"), KEY, trade_ids, counts))
    every = [number for number in range(2 * FIRST_LOOK + 1) if number != place]
    if trade_ids is TradeIds.NAMES:
        assert found == every[-len(found) :]
        assert len(found) >= NAMES_RECALLED
    else:
        assert found == [number for number in every if number > FIRST_LOOK]
    assert counts["recall.unread"] == (place > FIRST_LOOK or trade_ids is TradeIds.NAMES)
