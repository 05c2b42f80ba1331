"""One listing as a venue shows it, and what all venues have in common."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.sim.told import Best, Candle, Changed, Liquidated, Listing, Marked, Told, Trade
from huracan.sim.venue.book import Increments, LiveBook
from huracan.sim.venue.connection import Connection, Rules, Said, frame
from huracan.sim.venue.market import Market
from huracan.sim.venue.misbehaviour import Channel

TICK_NS = 10 * MILLISECOND_NS
"""Books and batches are sent at multiples of this event time."""
TRADES_KEPT = 1_000
FUNDING_EVERY_H = 8
_LETTERS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Answer(NamedTuple):
    """An answer to a request."""

    body: bytes
    status: int = 200
    symbol: str | None = None
    """Which listing it is about."""
    stale: bytes | None = None
    """What a stale one would have said."""
    weight: int = 1


Query = Mapping[str, str]
Route = Callable[[Query], Answer]


class Topic:
    """A stream that can be subscribed to, under the venue's name for it."""

    __slots__ = ("channel", "joining", "name", "subscribers", "symbol")

    def __init__(self, name: str, channel: Channel, symbol: str) -> None:
        self.name = name
        self.channel = channel
        self.symbol = symbol
        self.subscribers: dict[Connection, None] = {}
        self.joining: dict[Connection, None] = {}
        """They get a snapshot first."""

    def publish(self, text: str) -> None:
        """Send to every subscriber."""
        if self.subscribers:
            self.publish_bytes(text.encode())

    def publish_bytes(self, payload: bytes) -> None:
        """Send to every subscriber."""
        said = Said(self.channel, self.symbol, self.name, payload, frame(payload))
        for connection in self.subscribers:
            connection.say(said)

    def welcome(self, text: str) -> None:
        """Send a snapshot to those who are joining, who are subscribers then."""
        payload = text.encode()
        said = Said(self.channel, self.symbol, self.name, payload, frame(payload), begins=True)
        for connection in self.joining:
            self.subscribers[connection] = None
            connection.say(said)
        self.joining.clear()

    def leave(self, connection: Connection) -> None:
        """Take a subscriber out."""
        self.subscribers.pop(connection, None)
        self.joining.pop(connection, None)


class Board(ABC):
    """One listing on one venue. Texts come from what the market told; the wall clock has no part in them."""

    def __init__(self, listing: Listing, market: Market, symbol: str, *, trimmed: bool = False) -> None:
        self.listing = listing
        self.symbol = symbol
        self.market = market
        self.price = Increments(listing.tick, trimmed=trimmed)
        self.size = Increments(listing.lot, trimmed=trimmed)
        self.book = LiveBook(market.book(listing.key))
        self.trades: deque[Trade] = deque(maxlen=TRADES_KEPT)
        self.best: Best | None = None
        self.marked: Marked | None = None
        self.now_ns = self.book.at_ns
        self.topics: dict[str, Topic] = {}
        self.repeats = 0
        """Newest trades that a connection is sent when it subscribes to them."""

    @property
    def now_ms(self) -> int:
        """Return the event time of what was told last, in milliseconds."""
        return self.now_ns // MILLISECOND_NS

    def topic(self, name: str) -> Topic | None:
        """Return the stream of this name, made at its first use; None when this listing has none such."""
        found = self.topics.get(name)
        if found is None:
            channel = self.channel(name)
            if channel is None:
                return None
            found = self.topics[name] = Topic(name, channel, self.symbol)
        return found

    def take(self, told: Told) -> None:
        """Take what the market told, and send it on."""
        self.now_ns = told.at_ns
        match told:
            case Changed():
                self.book.apply(told)
                self.on_changed(told)
            case Best():
                self.best = told
                self.on_best(told)
            case Trade():
                self.trades.append(told)
                self.on_trade(told)
            case Marked():
                before, self.marked = self.marked, told
                self.on_marked(told, before)
            case Liquidated():
                self.on_liquidated(told)

    def candles(self, interval_ns: int, end_ms: int | None, count: int) -> Sequence[Candle]:
        """Return closed bars that open before a time in milliseconds; None: the newest."""
        before_ns = self.now_ns if end_ms is None else end_ms * MILLISECOND_NS
        closed_by_ns = -(-before_ns // interval_ns) * interval_ns
        return self.market.candles(self.listing.key, interval_ns, closed_by_ns, count)

    def turnover(self, candle: Candle) -> str:
        """Return roughly what was traded in a bar in the quote asset: its volume at its close."""
        listing = self.listing
        return f"{candle.lots * listing.lot * listing.contract * candle.close * listing.tick:f}"

    @abstractmethod
    def channel(self, name: str) -> Channel | None:
        """Return what a stream's name is about; None when there is no such stream."""

    @abstractmethod
    def join(self, topic: Topic, connection: Connection) -> None:
        """Subscribe a connection; a snapshot comes where the venue sends one."""

    def repeat(self, topic: Topic, connection: Connection) -> None:
        """Send whoever has just subscribed to trades the newest of them, as many as this venue repeats."""
        if not self.repeats or topic.channel is not Channel.TRADE:
            return
        alone = Topic(topic.name, topic.channel, topic.symbol)
        alone.subscribers[connection] = None
        for trade in list(self.trades)[-self.repeats :]:
            alone.publish(self.trade_text(topic.name, trade))

    @abstractmethod
    def trade_text(self, name: str, trade: Trade) -> str:
        """Return the message of a stream that tells one trade."""

    def on_changed(self, changed: Changed) -> None:  # noqa: B027 - most venues compare books
        """Note changes of the book, which is already up to date."""

    @abstractmethod
    def on_best(self, best: Best) -> None:
        """Send the best bid and ask."""

    @abstractmethod
    def on_trade(self, trade: Trade) -> None:
        """Send a trade."""

    @abstractmethod
    def on_marked(self, marked: Marked, before: Marked | None) -> None:
        """Send mark price and funding."""

    @abstractmethod
    def on_liquidated(self, liquidated: Liquidated) -> None:
        """Send a liquidation."""

    @abstractmethod
    def tick(self, at_ns: int) -> None:
        """Send what is sent in batches, at a multiple of TICK_NS, after everything that happened before it."""


class Desk(ABC):
    """One venue: its listings, its paths, and how its clients are answered."""

    token: str
    """SEMANTICS: Ids."""
    rules: Rules
    websocket_paths: Sequence[str]
    """Under the venue's prefix."""

    def __init__(self) -> None:
        self.boards: dict[str, Board] = {}
        """By the venue's symbol."""

    @abstractmethod
    def add(self, listing: Listing, market: Market) -> Board:
        """Add a listing."""

    @abstractmethod
    def routes(self) -> Mapping[str, Route]:
        """Return what is answered, by path under the venue's prefix."""

    @abstractmethod
    def heard(self, connection: Connection, message: str, *, limited: Callable[[], bool]) -> None:
        """Answer a text message of a client; when limited, requests get the venue's error for too many."""

    @abstractmethod
    def too_many(self) -> bytes:
        """Return the body of a 429."""

    def headers(self, weight: int, now_ns: int) -> Mapping[str, str]:  # noqa: ARG002 - most venues tell nothing
        """Return what an answer's headers say of the limit, after a request of this weight."""
        return {}

    def opened(self, connection: Connection, query: Query) -> None:  # noqa: B027 - most venues wait for requests
        """Greet a new connection."""

    def left(self, connection: Connection) -> None:
        """Forget a connection."""
        for name in list(connection.subscribed):
            self.unsubscribe(connection, name)

    def subscribe(self, connection: Connection, name: str) -> bool:
        """Subscribe a connection to the streams of this name; return whether there is one."""
        found = [(board, topic) for board in self.boards.values() if (topic := board.topic(name)) is not None]
        for board, topic in found:
            connection.subscribed.setdefault(name, set()).add(board.symbol)
            topic.leave(connection)
            board.join(topic, connection)
            board.repeat(topic, connection)
        return bool(found)

    def unsubscribe(self, connection: Connection, name: str) -> bool:
        """Take a connection off the streams of this name; return whether it was on one."""
        was = connection.subscribed.pop(name, None) is not None
        for board in self.boards.values():
            topic = board.topics.get(name)
            if topic is not None:
                topic.leave(connection)
        return was


def interval_ns(text: str) -> int | None:
    """Return the length of an interval like 1m, 15m, 4h, 1D; None for what is none, months included."""
    number, letter = text[:-1], text[-1:]
    letter = letter if letter == "m" else letter.lower()
    if not number.isdecimal() or letter not in _LETTERS or number == "0":
        return None
    return int(number) * _LETTERS[letter] * NANOSECONDS


def integer(query: Query, name: str, default: int, most: int) -> int:
    """Return an integer of a query, at least 1 and at most `most`; the default for what is none."""
    text = query.get(name, "")
    return min(max(int(text), 1), most) if text.isdecimal() and len(text) < 20 else default


def milliseconds(query: Query, name: str) -> int | None:
    """Return a time of a query; None where it is absent or none."""
    text = query.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 16 else None


def text_of(value: str) -> str:
    """Return a text as JSON, quotes included: what clients sent may hold anything."""
    return json.dumps(value)
