"""What the ledger strikes: real servers and processes, a market, and a network between them that can fail."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from pydantic import SecretStr

from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.nats.users import EVERYTHING, service_permissions
from huracan.clock import SystemClock
from huracan.config import Config
from huracan.contracts.market import instrument_key
from huracan.embedded.files import write_secret
from huracan.embedded.kafka import KafkaServer
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.postgres import PostgresServer
from huracan.embedded.supervisor import Program, State, Supervisor
from huracan.ids import shard_of
from huracan.ports import Rng
from huracan.service.service import spec
from huracan.sim.exchange import BINANCE_USDM, OKX, SIM, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.told import Book, Candle, Listing, Told, Trade
from huracan.sim.venue.market import Market
from huracan.sim.venue.server import VenueServer
from huracan.store.migrate import migrate, migrations_directory
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.topics import make_topics
from huracan_cli.answers import answers
from huracan_cli.chaos.proxy import FaultProxy
from huracan_cli.chaos.strikes import DESK, FIRST, KAFKA, LINKS, NATS, POSTGRES, SECOND, VENUES
from huracan_cli.composition import EXPERTS, GATEWAY
from huracan_executor.config import ExecutorConfig
from huracan_flow.config import FlowServiceConfig
from huracan_gateway import venues
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_orchestrator.config import DeadlineConfig, GateConfig, OrchestratorConfig
from huracan_persister.config import LogTopic, PersisterConfig, SpillConfig
from huracan_persister.share import Share
from huracan_regime.config import RegimeServiceConfig
from huracan_sentiment.config import MoodConfig, SentimentConfig

PERSISTER = "persister"
PROCESSES = (GATEWAY, DESK, FIRST, SECOND)
"""All of them, in the order in which they drain: what one still says, the next still hears."""
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP"}
"""Venues that number their trades in order, and what is traded there."""
STREAMS = {"binance_usdm": "", "okx": "/ws/v5/public"}
REPEATS = 1_000
"""Trades that a venue sends again at each connection: as good as all that it told, so that nothing but what the gateway
forgets or loses can be missing."""
MAX_EVENT_AGE_S = 600
"""And no repeated trade is too old to be taken, however slow the machine is."""
PARTS = 64
"""Of the persister: as many as shards, so that each key of the log and each shard is one part's."""
VALID_MS, DEADLINE_MS = 10_000, 400
"""How long decisions and books are good for, and windows wait: there are to be fills on a machine that lags too."""
TABLES: tuple[LogTopic, ...] = ("ticks",)
HEAP_MB = 256
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 30.0
DRAINS_AGAIN = 3
LOOK_EVERY_S = 0.05


class NumberedMarket:
    """A market that keeps the numbers of all trades it told, and ends when it is told to."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.told: dict[str, list[int]] = {listing.venue: [] for listing in market.listings}
        """Numbers of trades by venue, oldest first."""
        self.over = False

    @property
    def listings(self) -> Sequence[Listing]:
        """Return what is traded."""
        return self._market.listings

    def events(self) -> Iterator[Told]:
        """Yield what happens until it is over."""
        venue_of = {listing.key: listing.venue for listing in self.listings}
        for told in self._market.events():
            if self.over:
                return
            if isinstance(told, Trade):
                self.told[venue_of[told.listing]].append(told.trade_id)
            yield told

    def book(self, listing_key: str) -> Book:
        """Return a listing's book."""
        return self._market.book(listing_key)

    def candles(self, listing_key: str, interval_ns: int, end_ns: int, count: int) -> Sequence[Candle]:
        """Return closed bars."""
        return self._market.candles(listing_key, interval_ns, end_ns, count)


class Stage:
    """Start it, strike it, stop it. Servers and processes are started again as soon as they end.

    `processes` says which of them there are; where there is one persister, it has all shards. `mains` names, for a
    process, what Python is to run instead of `-m huracan.service`.
    """

    def __init__(
        self,
        directory: Path,
        rng: Rng,
        *,
        seed: int,
        processes: Collection[str] = PROCESSES,
        mains: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.directory = directory
        self.processes = processes
        self.supervisor = Supervisor(rng)
        clock = SystemClock()
        exchange = SimulatedExchangeConfig(
            seed=seed, start_ns=clock.now_ns(), assets=(SIM,), venues=(BINANCE_USDM, OKX), market_orders_per_s=3.0
        )
        self.market = NumberedMarket(SimulatedExchange(exchange))
        self.instruments = {venue: _key(venue, symbol) for venue, symbol in SYMBOLS.items()}
        """Key in the log by venue."""
        self.shard = shard_of(SIM.asset)
        self.account = ExecutorConfig().account
        self._venues = VenueServer(market=self.market, on_wall_time=True, clock=clock, repeats=REPEATS)
        self._mains = mains or {}
        self._shares = _shares(rng, self.instruments.values())
        if SECOND not in processes:
            self._shares[FIRST] += self._shares.pop(SECOND)
        self._passwords: dict[str, str] = {}
        self.proxies: dict[str, FaultProxy] = {}
        self._programs: dict[str, Program] = {}
        self._handing_over = False

    # Up.

    async def open(self) -> None:
        """Return once everything runs."""
        await self._venues.start()
        await self._start_servers()
        await self._make_ready()
        configs = self._configs()
        self._programs = {name: self._program(name, services) for name, services in configs.items()}
        await asyncio.gather(*(self.supervisor.start(program) for program in self._programs.values()))

    async def _start_servers(self) -> None:
        directory, ports = self.directory, {name: free_port() for name in LINKS}
        ports[VENUES] = self._venues.port
        for name, port in ports.items():
            self.proxies[name] = FaultProxy(name, port)
            await self.proxies[name].start()
        self._kafka = KafkaServer(
            directory=directory / KAFKA,
            port=ports[KAFKA],
            controller_port=free_port(),
            heap_mb=HEAP_MB,
            quick_start=True,
            advertised_port=self.proxies[KAFKA].port,
        )
        self._nats = NatsServer(directory=directory / NATS, port=ports[NATS], monitor_port=free_port())
        self._postgres = PostgresServer(directory=directory / POSTGRES, port=ports[POSTGRES])
        prepared = await asyncio.gather(
            asyncio.to_thread(self._kafka.prepare),
            asyncio.to_thread(self._nats.prepare, self._users()),
            asyncio.to_thread(self._postgres.prepare),
        )
        await asyncio.gather(*(self.supervisor.start(program) for program in prepared))

    async def _make_ready(self) -> None:
        await make_topics(self.kafka)
        await migrate(self.store_url, migrations_directory())
        async with asyncio.timeout(READY_WITHIN_S):
            self.connection = Connection(
                NatsLogin(url=self._nats.url, name="ledger", password=SecretStr(self._passwords["ledger"]))
            )
            await self.connection.open()
            await make_streams(self.connection)
        self.bus = NatsBus(self.connection, wall=SystemClock())

    def _users(self) -> list[NatsUser]:
        shares = PersisterConfig(shards=tuple(chain(*self._shares.values())), of=PARTS)
        configs = {name: config for services in self._configs().values() for name, config in services.items()}
        configs[PERSISTER] = shares.model_copy(update={"tables": TABLES})
        permissions = {
            "ledger": EVERYTHING,
            **{name: service_permissions(name, spec(name).access(config)) for name, config in configs.items()},
        }
        self._passwords = {name: secrets.token_urlsafe(24) for name in permissions}
        return [
            NatsUser(name=name, password=self._passwords[name], publish=allowed.publish, subscribe=allowed.subscribe)
            for name, allowed in permissions.items()
        ]

    def _configs(self) -> dict[str, dict[str, Config]]:
        """Return the services of each process, and how they are configured."""
        desk: dict[str, Config] = {
            "regime": RegimeServiceConfig(),
            "flow": FlowServiceConfig(),
            "sentiment": SentimentConfig(mood=MoodConfig(underlyings=(SIM.asset,))),
            "orchestrator": OrchestratorConfig(
                gate=GateConfig(experts=EXPERTS, validity_ms=VALID_MS),
                shard=self.shard,
                deadlines=DeadlineConfig(reask_after_ms=DEADLINE_MS // 2, deadline_ms=DEADLINE_MS),
            ),
            "executor": ExecutorConfig(stale_after_ms=VALID_MS),
        }
        configs: dict[str, dict[str, Config]] = {
            GATEWAY: {GATEWAY: GatewayConfig(feeds=tuple(map(self._feed, SYMBOLS)), max_event_age_s=MAX_EVENT_AGE_S)},
            DESK: desk,
            **{name: {PERSISTER: self._persister(name, parts)} for name, parts in self._shares.items()},
        }
        return {name: configs[name] for name in PROCESSES if name in self.processes}

    def _persister(self, replica: str, parts: Sequence[int]) -> PersisterConfig:
        return PersisterConfig(
            shards=tuple(sorted(parts)),
            of=PARTS,
            linger_ms=50,
            tables=TABLES,
            tables_every_s=0.2,
            spill=SpillConfig(directory=self.directory / f"{replica}.spill"),
        )

    def _feed(self, venue: str) -> FeedConfig:
        host = f"127.0.0.1:{self._port(VENUES)}/{venue}"
        return FeedConfig(
            venue=venue,
            symbol=SYMBOLS[venue],
            websocket_url=f"ws://{host}{STREAMS[venue]}",
            rest_url=f"http://{host}",
            connects_per_minute=60.0,
        )

    def _port(self, link: str) -> int:
        return self.proxies[link].port if link in self.proxies else 1

    def _program(self, process: str, services: Mapping[str, Config]) -> Program:
        port, path = free_port(), self.directory / f"{process}.json"
        keeps = any(spec(name).keeps for name in services)
        settings = {
            "services": {name: config.model_dump(mode="json") for name, config in services.items()},
            "nats": {
                "url": f"nats://127.0.0.1:{self._port(NATS)}",
                "passwords": {name: self._passwords[name] for name in services},
            },
            "ticklog": "kafka",
            "kafka": {"servers": f"127.0.0.1:{self._port(KAFKA)}"},
            "store": {"url": self._postgres_url(self._port(POSTGRES)) if keeps else None},
            "http_port": port,
        }
        write_secret(path, json.dumps(settings, indent=2))
        main = self._mains.get(process, ("-m", "huracan.service"))
        return Program(
            name=process,
            command=(sys.executable, *main, "--config", str(path.resolve())),
            directory=self.directory,
            ready=lambda: answers(port, "/readyz"),
            ready_within_s=READY_WITHIN_S,
            stop_within_s=STOP_WITHIN_S,
        )

    def _postgres_url(self, port: int) -> str:
        return self._postgres.url.replace(f":{self._postgres.port}/", f":{port}/")

    def can_be_killed(self, name: str) -> bool:
        """Return whether a server or process runs now, and is started again whenever it ends."""
        return self.supervisor.pid(name) is not None and not (name == FIRST and self._handing_over)

    def runs(self) -> bool:
        """Return whether all runs that is there: of what is stopped for good, nothing is expected."""
        states = map(self.supervisor.state, self.supervisor.programs)
        return not self._handing_over and all(state in (State.READY, State.STOPPED) for state in states)

    # How whoever counts reaches it, past the network that fails.

    @property
    def store_url(self) -> str:
        """Return the address of the database itself."""
        return self._postgres.url

    @property
    def kafka(self) -> KafkaConfig:
        """Return how the broker is reached: it names the proxy, so only in quiet times."""
        return KafkaConfig(servers=self._kafka.address)

    # Down.

    async def hand_over(self) -> None:
        """Stop the second replica for good, and start the first one again with the shards of both."""
        self._handing_over = True
        await self.supervisor.stop(SECOND)
        await self.supervisor.stop(FIRST)
        parts = tuple(chain(*self._shares.values()))
        self._programs.pop(SECOND)
        self._programs[FIRST] = self._program(FIRST, {PERSISTER: self._persister(FIRST, parts)})
        await self.supervisor.start(self._programs[FIRST])
        self._handing_over = False

    async def stop_processes(self) -> None:
        """Drain the processes in the order of their talk: what one still says the next hears."""
        for name, program in self._programs.items():
            await self._settled(name)
            await self.supervisor.stop(name)
            for _ in range(DRAINS_AGAIN):
                if not await self.supervisor.finished(name):
                    break
                await self.supervisor.start(program)
                await self.supervisor.stop(name)

    async def _settled(self, name: str) -> None:
        while self.supervisor.state(name) in (State.STARTING, State.WAITING):  # noqa: ASYNC110 - it restarts
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        """Stop whatever runs."""
        if hasattr(self, "connection"):
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self.connection.close()
        await self.supervisor.stop_all()
        for proxy in self.proxies.values():
            await proxy.close()
        await self._venues.stop()


def _key(venue: str, symbol: str) -> str:
    return instrument_key(venues.named(venue).implied(symbol, "1", "1").id)


def _shares(rng: Rng, instruments: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the parts of each replica: what is struck apart must be kept apart, by whom is drawn."""
    decisions = shard_of(SIM.asset)
    keys = [next(part for part in range(PARTS) if Share((part,), PARTS).has_key(key)) for key in instruments]
    one, other = (0, *keys[:1]), (decisions, *keys[1:])
    drawn = [one, other]
    rng.stream("shares").shuffle(drawn)
    return {FIRST: drawn[0], SECOND: drawn[1]}
