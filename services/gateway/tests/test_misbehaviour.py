"""The gateway reads venues that misbehave: its book stays theirs, it tells what happened, and no trade comes twice."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.clock import SystemClock
from huracan.contracts.market import Anomaly, TickBatch, TickKind, anomaly_kind_name, instrument_key, tick_columns
from huracan.contracts.ops import DeadLetter, FeedChanged, GapDetected, feed_state_name
from huracan.market.book import Level
from huracan.sim.exchange import BINANCE_USDM, BYBIT, OKX, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.told import Book, Candle, Changed, Listing, Told
from huracan.sim.venue.misbehaviour import Channel, Kind, Misbehaviour
from huracan.sim.venue.server import VenueServer
from huracan.sim.world import World
from huracan_gateway import venues
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.live.config import FallbackConfig
from huracan_gateway.quality import QualityConfig
from huracan_gateway.service import Gateway
from huracan_gateway.spec import SPEC

Venue = Literal["binance_usdm", "okx", "bybit"]
VENUES: Sequence[Venue] = get_args(Venue)
LISTED = {"binance_usdm": BINANCE_USDM, "okx": OKX, "bybit": BYBIT}
SYMBOLS = {"binance_usdm": "SIMUSDT", "okx": "SIM-USDT-SWAP", "bybit": "SIMUSDT"}
STREAMS = {"binance_usdm": "", "okx": "/ws/v5/public", "bybit": "/v5/public/linear"}
WITHIN_S = 30.0
"""Longest wait for what one misbehaviour leads to; nothing comes near it."""
POLL_S = 0.005
DEPTH = 20
STALE_AFTER = 200
"""Looks, 5 ms apart at least, after which a book that the exchange has no longer is stale. In that second the gateway
has seen that nothing comes (`silent_after_ms`), or that the best bid and ask have left the book (`book_silent_ms`), and
a step or two has closed; what comes at all comes every 100 ms, 200 ms late at most. Looks are counted, not seconds: on
a machine that is busy elsewhere exchange, venue, gateway and looks wait in one loop."""
POLLS_WEIGH = 1_000.0
"""What may be spent a second: at the venue's own limit a book that is polled every 100 ms would be two seconds old."""
DEAD_AFTER_S = 0.6
"""Without any message for this long a connection is replaced: the venues' own limits are half a minute and more."""
_PART = re.compile(r"\d+ of \d+ events: ")
"""How the refusal of a part of a frame begins, whose rest was taken."""
Top = tuple[tuple[Level, ...], tuple[Level, ...]]


@dataclass(frozen=True, slots=True)
class Case:
    """What a venue does wrong at once, and the signs that the gateway gives of it."""

    wrong: Sequence[tuple[Kind, Channel | None]]
    signs: Sequence[str]
    duration_s: float | None = None
    polled: bool = False
    """Whether REST is to give order book and trades meanwhile, until the venue behaves."""
    only: Sequence[Venue] = VENUES

    @property
    def name(self) -> str:
        return " and ".join(f"{kind} of {channel or 'everything'}" for kind, channel in self.wrong)


BY_REQUEST: Sequence[Venue] = ("binance_usdm", "okx")
BY_STREAM: Sequence[Venue] = ("bybit",)
"""Where a lost order book is asked for by a request, and where by subscribing again."""
LOST = (Kind.GAP, Channel.BOOK)
RESYNC = ("gap depth", "anomaly book_desync", "feed resyncing", "feed resynced")
REPLACED = ("feed silent", "feed fallback", "feed reconnecting", "feed returned")
CASES = (
    Case([(Kind.DUPLICATE, Channel.TRADE), (Kind.DUPLICATE, Channel.BOOK)], ["refused duplicate"] * 2),
    Case([(Kind.REORDER, Channel.TRADE)], ["refused out_of_order"], only=["binance_usdm"]),
    Case([(Kind.GAP, Channel.TRADE)], ["gap trade"], only=["binance_usdm"]),
    Case([(Kind.REORDER, Channel.BOOK)], RESYNC),
    Case([LOST], RESYNC, only=BY_STREAM),
    Case([LOST, (Kind.RATE_LIMIT, Channel.REST)], [*RESYNC, "feed rate_limited"], only=BY_REQUEST),
    Case([LOST, (Kind.RATE_LIMIT, None)], ["gap depth", "feed rate_limited", "feed connected"], only=BY_STREAM),
    Case([(Kind.BAD_CHECKSUM, Channel.BOOK)], RESYNC, only=["okx"]),
    Case([(Kind.GARBAGE, Channel.BOOK)], ["refused bad_json", *RESYNC], only=BY_STREAM),
    Case([(Kind.GARBAGE, Channel.BOOK), (Kind.GARBAGE, Channel.REST)], ["refused bad_json", *RESYNC], only=BY_REQUEST),
    Case([(Kind.WRONG_SYMBOL, Channel.BOOK)], ["refused other_symbol", *RESYNC], only=BY_STREAM),
    Case(
        [(Kind.WRONG_SYMBOL, Channel.BOOK), (Kind.STALE_SNAPSHOT, Channel.REST)],
        ["refused other_symbol", *RESYNC, "gap depth"],  # updates do not continue the stale book
        only=BY_REQUEST,
    ),
    Case([(Kind.DELAY, None)], []),
    Case([(Kind.DROP, None)], ["feed reconnecting", "feed connected"]),
    Case([(Kind.CLOSE_CODE, None)], ["feed reconnecting", "feed connected"]),
    Case([(Kind.OVERSIZED, Channel.BOOK)], ["feed reconnecting", "feed connected"]),
    Case([(Kind.DROP, None), (Kind.REFUSE, None)], ["feed reconnecting", "feed connected"]),
    Case([(Kind.SILENCE, None)], ["feed silent", "feed fallback"], duration_s=WITHIN_S, polled=True),
    Case([(Kind.SILENCE, Channel.BOOK)], RESYNC, duration_s=WITHIN_S),
    Case([(Kind.HALF_OPEN, None)], REPLACED),
    Case([(Kind.SLOW_LORIS, Channel.BOOK)], REPLACED),
)


class Remembered:
    """A simulated exchange of which it is known which best levels it had with each id of its book, and until when."""

    def __init__(self, config: SimulatedExchangeConfig) -> None:
        self._exchange = SimulatedExchange(config)
        self.listings: Sequence[Listing] = self._exchange.listings
        self.last_id = 0
        self.tops: dict[int, Top] = {}
        self.newest: dict[Top, int] = {}
        """The last id of a book with these levels."""
        self.looks = 0
        """How often books were compared so far."""
        self.past: dict[int, int] = {}
        """Looks there had been when the venue's clients could know that the exchange had another book, by id."""
        self._remember(self.book(self.listings[0].key))

    def _remember(self, book: Book) -> None:
        top = (tuple(book.bids[:DEPTH]), tuple(book.asks[:DEPTH]))
        self.last_id = book.last_id
        self.tops[book.last_id], self.newest[top] = top, book.last_id

    def events(self) -> Iterator[Told]:
        for told in self._exchange.events():
            before = self.last_id
            if isinstance(told, Changed):
                self._remember(self.book(told.listing))
            yield told
            if self.last_id != before:
                self.past[before] = self.looks

    def is_stale(self, number: int) -> bool:
        """Return whether the exchange has not had a book of this id for too long."""
        return self.looks - self.past.get(number, self.looks) > STALE_AFTER

    def book(self, listing_key: str) -> Book:
        return self._exchange.book(listing_key)

    def candles(self, listing_key: str, interval_ns: int, end_ns: int, count: int) -> Sequence[Candle]:
        return self._exchange.candles(listing_key, interval_ns, end_ns, count)


@dataclass
class Scene:
    """One venue, the gateway that reads it, and what that published."""

    venue: Venue
    market: Remembered
    server: VenueServer
    gateway: Gateway
    published: list[tuple[str, Message]] = field(default_factory=list)
    strangers: list[int] = field(default_factory=list)
    """Ids of books in step that the exchange never had, or had long ago."""
    trades: int = 0
    """Trades in the log."""
    connected: bool = False
    asked_at: int = -1
    """Order books that had come when one was asked for last."""

    def signs(self) -> Counter[str]:
        """Count what was published on the gateway's subjects, and what was refused."""
        signs = Counter(_sign(subject, message) for subject, message in self.published)
        for name, count in self.gateway.report().items():
            if name.startswith("rejected."):
                signs[f"refused {name.removeprefix('rejected.')}"] = count
        return signs

    def book_id(self) -> int | None:
        """Return the exchange's id of the book that the gateway holds; None while that is not in step."""
        instrument = self.gateway.instrument
        if instrument is None or not instrument.book.synced:
            return None
        book, final = instrument.book.book, instrument.book.final
        top = (tuple(book.bids(DEPTH)), tuple(book.asks(DEPTH)))
        if self.venue == "bybit":  # its updates have numbers of their own
            found = self.market.newest.get(top)
        else:
            found = final if self.market.tops.get(final) == top else None
        if found is None or self.market.is_stale(found):
            self.strangers.append(final)
        return found

    def is_newer_than(self, number: int) -> bool:
        found = self.book_id()
        return found is not None and found > number

    async def watch(self, world: World) -> None:
        inbox = world.bus.node("watcher").inbox()
        inbox.subscribe("ops.v1.gateway.>")
        async for delivery in inbox:
            self.published.append((delivery.subject, delivery.decode()))
            match _sign(*self.published[-1]):
                case "feed resyncing":
                    self.asked_at = self.gateway.report()["frames.snapshot"]
                case "feed connected" | "feed reconnecting" as sign:
                    self.connected = sign == "feed connected"

    def is_calm(self) -> bool:
        """Whether the websocket gives the data, and no order book is still to come."""
        signs = self.signs()
        return (
            self.is_newer_than(0)
            and self.connected
            and signs["feed silent"] == signs["feed returned"]
            and self.gateway.report()["frames.snapshot"] > self.asked_at
        )

    async def compare(self) -> None:
        """Compare the books all the time: one in step is right whatever happens."""
        while True:
            self.book_id()
            self.market.looks += 1
            await asyncio.sleep(POLL_S)

    async def count(self, world: World) -> None:
        """Count the trades in the log."""
        await until(lambda: self.gateway.instrument is not None, lambda: "there is no instrument")
        assert self.gateway.instrument is not None
        log, offset = world.log.node("counter"), 0
        key = instrument_key(self.gateway.instrument.definition.id)
        while True:
            await log.wait(subjects.TICKS_TOPIC, key, offset)
            for record in await log.read(subjects.TICKS_TOPIC, key, offset):
                self.trades += len(_trade_ids([record.message]))
                offset = record.offset + 1

    async def is_polled(self) -> None:
        """Wait until the silent venue's book and trades have come all the same, and let it speak again."""
        last_id, trades, returns = self.market.last_id, self.trades, self.signs()["feed returned"]
        await until(
            lambda: self.is_newer_than(last_id) and self.trades > trades,
            lambda: f"polled were book {self.book_id()} after {last_id} and {self.trades - trades} trades",
        )
        self.server.behave()
        await until(lambda: self.signs()["feed returned"] > returns, lambda: "the websocket is not back")

    async def suffer(self, case: Case) -> None:
        """Have the venue misbehave, and wait until the gateway has told it and has the exchange's newer book."""
        await until(self.is_calm, lambda: f"before {case.name}: no calm, told was {dict(self.signs())}")
        before, wanted = self.signs(), Counter(case.signs)
        commands = {
            self.server.misbehave(
                Misbehaviour(
                    kind=kind,
                    venue=self.venue,
                    stream=channel,
                    duration_s=case.duration_s,
                    delay_s=0.2,
                    byte_every_s=0.1,
                    count=3 if kind is Kind.REFUSE else None,
                )
            )
            for kind, channel in case.wrong
        }

        def told() -> bool:
            done = {deed.command for deed in self.server.done}
            return commands <= done and all(self.signs()[sign] >= before[sign] + wanted[sign] for sign in wanted)

        await until(told, lambda: f"{case.name}: told was {dict(self.signs() - before)} of {dict(wanted)}")
        if case.polled:
            await self.is_polled()
        self.server.behave()
        last_id = self.market.last_id
        await until(
            lambda: self.is_newer_than(last_id),
            lambda: f"{case.name}: the book was {self.book_id()} long after {last_id}, told {self.signs() - before}",
        )


def _sign(subject: str, message: Message) -> str:
    match message:
        case FeedChanged() if subject == subjects.ops("gateway", "feed"):
            return f"feed {feed_state_name(message.state)}"
        case GapDetected() if subject == subjects.ops("gateway", "gap"):
            return f"gap {message.stream}"
        case Anomaly() if subject == subjects.ops("gateway", "anomaly"):
            return f"anomaly {anomaly_kind_name(message.kind)}"
    return subject


async def until(condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Wait for a condition; fail, with a reason, when it does not come."""
    loop = asyncio.get_running_loop()
    latest_s = loop.time() + WITHIN_S
    while not condition():
        assert loop.time() < latest_s, otherwise()
        await asyncio.sleep(POLL_S)


def feed(venue: Venue, server: VenueServer) -> FeedConfig:
    return FeedConfig(
        venue=venue,
        symbol=SYMBOLS[venue],
        websocket_url=f"ws{server.url.removeprefix('http')}/{venue}{STREAMS[venue]}",
        rest_url=f"{server.url}/{venue}",
        silent_after_ms=500,
        calm_ms=150,
        fallback=FallbackConfig(poll_interval_ms=100),
        stable_after_s=0.1,
        connects_per_minute=6_000,
        rate_limited_pause_s=0.2,
        snapshot_within_ms=1_000,
        book_begins_within_ms=200,
        definition_every_s=0,
    )


async def play(venue: Venue) -> tuple[Scene, World]:
    """Run the gateway through every case of a venue, one after the other, to its own end."""
    clock = SystemClock()
    market = Remembered(SimulatedExchangeConfig(seed=7, start_ns=clock.now_ns(), venues=(LISTED[venue],)))
    async with VenueServer(market=market, on_wall_time=True, clock=clock) as server:
        world = World(clock, seed=1, lockstep=False)
        quality = QualityConfig(book_silent_ms=400)
        config = GatewayConfig(feeds=(feed(venue, server),), resync_after_ms=1_000, quality=quality)
        world.start("gateway", lambda ports: SPEC.make(config, ports))
        gateway = world.services["gateway"]
        assert isinstance(gateway, Gateway)
        scene = Scene(venue, market, server, gateway)
        background = [asyncio.create_task(work) for work in (scene.watch(world), scene.count(world), scene.compare())]
        try:
            for case in CASES:
                if venue in case.only:
                    await scene.suffer(case)
            gateway.stop()
            await world.finish("gateway")
        finally:
            for task in background:
                task.cancel()
            await world.stop()
    return scene, world


@pytest.mark.parametrize("venue", VENUES)
def test_whatever_a_venue_does_the_book_is_the_exchanges_it_is_told_and_every_frame_counts(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = venues.ADAPTERS[venue]
    websocket = replace(adapter.websocket, silent_after_s=DEAD_AFTER_S)
    impatient = replace(adapter, websocket=websocket, http=replace(adapter.http, weight_per_s=POLLS_WEIGH))
    monkeypatch.setitem(venues.ADAPTERS, venue, impatient)

    async def main() -> tuple[Scene, Sequence[Message], Sequence[Message]]:
        scene, world = await play(venue)
        assert scene.gateway.instrument is not None
        log, key = world.log.node("reader"), instrument_key(scene.gateway.instrument.definition.id)
        ticks = await log.read(subjects.TICKS_TOPIC, key, 0)
        letters = await log.read(subjects.dead_letters(subjects.TICKS_TOPIC), key, 0)
        return scene, [record.message for record in ticks], [record.message for record in letters]

    scene, ticks, letters = asyncio.run(main())
    assert scene.strangers == [], "a book that said it was in step was none that the exchange had lately"
    trades = _trade_ids(ticks)
    assert trades, "there were trades"
    assert [number for number, times in Counter(trades).items() if times > 1] == []
    counts = scene.gateway.report()
    refused = Counter(
        {name.removeprefix("rejected."): count for name, count in counts.items() if name.startswith("rejected.")}
    )
    assert counts["frames_in"] == counts["ticks_logged"] + refused.total()
    whole = [letter for letter in letters if isinstance(letter, DeadLetter) and not _PART.match(letter.detail)]
    assert Counter(letter.reason for letter in whole) == refused
    assert counts["frames_missed"] == 0


def _trade_ids(ticks: Sequence[Message]) -> list[int]:
    found = []
    for batch in ticks:
        assert isinstance(batch, TickBatch)
        columns = tick_columns(batch)
        kinds = zip(columns.kind, columns.venue_seq, strict=True)
        found += [number for kind, number in kinds if kind == TickKind.TICK_KIND_TRADE]
    return found
