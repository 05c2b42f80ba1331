"""The one port of venues: what a folder like `okx/` must say about its venue (`venues.py` has them all).

Everything here is pure: bytes in, events out, and the texts that are to be sent. Who connects, waits, retries and
counts is `live/`, once for all venues. `check_adapter` (`check.py`) states the laws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from huracan.contracts.market import Bar, InstrumentDefinition
from huracan.market.book import OrderBook
from huracan_gateway.events import Event

Checksum = Callable[[OrderBook], int]
"""Return the venue's checksum of a book."""


class TradeIds(StrEnum):
    """What can be told from the numbers of trades."""

    CONTIGUOUS = "contiguous"
    """Each is one more than the one before: a missing trade is seen."""
    RISING = "rising"
    """Each is greater than the one before: only order is checked."""
    NAMES = "names"
    """They are identifiers without order: only what was seen lately is refused as a duplicate."""


class Decoder(Protocol):
    """Decodes the frames of one instrument: those of its streams, and the bodies of answers to requests."""

    def decode(self, raw: bytes) -> tuple[str, Sequence[Event]]:
        """Return the kind of a frame and what it says; raise Rejected naming field and reason.

        Kinds: trade, quote, depth, snapshot, mark, liquidation, instrument, and `events.RECENT_TRADES`. A frame with
        several trades has an event for each, in the venue's order.
        """


class WholeBook(NamedTuple):
    """An order book that is to be written as its venue writes it."""

    symbol: str
    """As the venue writes it."""
    number: int
    """Of the last update that it holds."""
    event_ms: int
    """Unix time of the venue."""
    bids: Sequence[tuple[str, str]]
    """Price and size as texts, best first."""
    asks: Sequence[tuple[str, str]]


class Control(StrEnum):
    """What a websocket message is when it is no market data."""

    ACKNOWLEDGED = "acknowledged"
    """A subscription, or another request, was taken."""
    PONG = "pong"
    REFUSED = "refused"
    """A request was refused for good: the symbol or channel does not exist."""
    RATE_LIMITED = "rate_limited"
    RECONNECT = "reconnect"
    """The venue says that it is about to close the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Websocket:
    """How a venue's public stream is talked to."""

    url: str
    """Of the public endpoint; where streams are part of the address, `address` adds them."""
    address: Callable[[str, Sequence[str]], str]
    """Return the address to connect to from a base URL and the streams that are wanted."""
    streams: Callable[[InstrumentDefinition], Sequence[str]]
    """Return the names of all streams of an instrument, as `subscribe` takes them."""
    book_stream: Callable[[InstrumentDefinition], str]
    """Return the one of them that carries the order book."""
    subscribe: Callable[[Sequence[str], int], Sequence[bytes]]
    """Return the messages that subscribe to streams, given a request number; none where the address says it all."""
    unsubscribe: Callable[[Sequence[str], int], Sequence[bytes]]
    control: Callable[[bytes], tuple[Control, str] | None]
    """Return what a message is that is no market data, with its text; None for market data."""
    ping: bytes | None
    """Text to send when the venue expects one; None: it sends websocket pings itself, which are answered."""
    ping_every_s: float
    silent_after_s: float
    """Without any message for this long the connection is dead."""
    longest_s: float = 86_400.0
    """The venue closes connections after this long; they are renewed before."""
    max_frame_bytes: int = 4 << 20
    messages_per_s: float = 5.0
    """Most messages that may be sent to it."""
    apart: Callable[[str], str] = lambda _stream: ""
    """Streams for which this differs need connections of their own."""
    resubscribe_for_snapshot: bool = False
    """The order book comes in the stream: subscribing to it again gives a new one. Else it is asked for by request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One GET: its path with the query, and what it weighs against the venue's limit."""

    path: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """How a venue's public REST interface is asked, and its answers read."""

    url: str
    instruments: Callable[[str], Request]
    """Return the request whose answer defines a venue symbol."""
    instrument: Callable[[bytes, str], bytes]
    """Cut the answer down to one symbol, its bytes unchanged: a frame of kind `instrument`; raise Rejected without."""
    snapshot: Callable[[InstrumentDefinition], Request]
    """The answer's body is a frame of kind `snapshot`."""
    trades: Callable[[InstrumentDefinition], Request]
    """The latest trades, for polling: the answer's body is a frame of kind `trade`."""
    klines: Callable[[InstrumentDefinition, int, int, int], Request]
    """Ask for bars: interval_ns, end_ns (bars that open before it), most bars."""
    bars: Callable[[bytes, InstrumentDefinition, int], Sequence[Bar]]
    """Return the closed bars of such an answer, oldest first; the interval is given in nanoseconds."""
    most_bars: int
    used: Callable[[Mapping[str, str]], float | None]
    """Return the share of the limit that is used up, 0 to 1, from an answer's headers in lower case; None: not told."""
    weight_per_s: float = 10.0
    """What may be spent a second, kept well under the venue's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A venue."""

    venue: str
    """Token (SEMANTICS: Ids)."""
    versions: str
    """API version and documentation that it follows."""
    decoder: Callable[[InstrumentDefinition], Decoder]
    owns: Callable[[bytes], bool]
    """Return whether a frame can be this venue's, judged by its outer form alone; False for what is no JSON."""
    symbol_of: Callable[[bytes], str | None]
    """Return the venue symbol that a frame of this venue is about, or None where it does not say."""
    levels: Callable[[bytes], Sequence[tuple[str, str]] | None]
    """Return price and size texts of all levels of a snapshot frame, None for any other: they imply the increments."""
    implied: Callable[[str, str, str], InstrumentDefinition]
    """Return the definition that a symbol and increments imply, for recordings without one; raise Rejected."""
    defines: Callable[[bytes], InstrumentDefinition | None]
    """Return what a frame of kind `instrument` defines; None for other frames; raise Rejected for a damaged one."""
    book_marks: Sequence[bytes]
    """Texts of which every frame of the order book holds one, for whoever wants no other: not all need be decoded."""
    write_book: Callable[[WholeBook], bytes]
    """Return the frame of kind `snapshot` that tells a book, which the venue's updates then continue: a tape's answer
    to whoever asks for the book."""
    trade_ids: TradeIds
    websocket: Websocket
    http: Http
    quotes_repeat: bool = False
    """The best bid and ask are sent again when they have not changed, under the same id."""
    checksum: Callable[[InstrumentDefinition], Checksum] | None = None
    """Return how the venue's checksum of a book is computed; None: it sends none."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Other names of the same venue in messages of ours: an API version that is refused by name, and why."""
