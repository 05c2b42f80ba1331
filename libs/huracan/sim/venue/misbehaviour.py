"""What a venue does wrong on command: to which frames, for how long, and a list of what was done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from huracan.clock import NANOSECONDS
from huracan.config import Config
from huracan.ports import Clock

DONE_KEPT = 100_000
"""Latest deeds kept for whoever asks; the oldest go first."""


class Channel(StrEnum):
    """What a frame is about, whatever the venue calls it."""

    TRADE = "trade"
    BEST = "best"
    BOOK = "book"
    MARK = "mark"
    """Mark price and, but for OKX, funding."""
    FUNDING = "funding"
    """A stream of its own on OKX alone."""
    LIQUIDATION = "liquidation"
    REST = "rest"
    """Answers to requests."""


class Kind(StrEnum):
    """What can be done wrong."""

    DROP = "drop"
    """The connection is reset."""
    REFUSE = "refuse"
    """New connections and requests are reset before they are answered."""
    DELAY = "delay"
    """Frames and answers come `delay_s` late; what follows waits behind them."""
    DUPLICATE = "duplicate"
    """A frame comes twice."""
    REORDER = "reorder"
    """A frame comes after the next one of its stream."""
    HALF_OPEN = "half_open"
    """Nothing more is sent on the connection, no pongs either, and it stays open, for good."""
    GAP = "gap"
    """Frames are left out: those of the order book, unless another stream is named."""
    BAD_CHECKSUM = "bad_checksum"
    """The book's checksum is wrong: OKX alone sends one."""
    RATE_LIMIT = "rate_limit"
    """Requests are answered 429 with Retry-After, requests on the websocket with the venue's error."""
    CLOSE_CODE = "close_code"
    """The connection is closed with `close_code`."""
    OVERSIZED = "oversized"
    """A frame is filled up with spaces to `size_bytes`."""
    SLOW_LORIS = "slow_loris"
    """A frame trickles in byte by byte, one every `byte_every_s`."""
    GARBAGE = "garbage"
    """A frame or an answer is no JSON."""
    WRONG_SYMBOL = "wrong_symbol"
    """A frame names an instrument that nobody subscribed to."""
    SILENCE = "silence"
    """No market data is sent; pings are answered. Where one stream alone is silent, its subscriptions still begin with
    a snapshot: the venue is well, and its updates are lost on their way."""
    STALE_SNAPSHOT = "stale_snapshot"
    """The REST book is the opening one."""


OF_CONNECTIONS = frozenset({Kind.DROP, Kind.HALF_OPEN, Kind.CLOSE_CODE})
"""Done to connections at once; and, while they last, to those that are opened."""
OF_REQUESTS = frozenset({Kind.REFUSE, Kind.RATE_LIMIT, Kind.STALE_SNAPSHOT, Kind.DELAY, Kind.GARBAGE})
OF_FRAMES = frozenset(Kind) - OF_CONNECTIONS - {Kind.REFUSE, Kind.RATE_LIMIT, Kind.STALE_SNAPSHOT}
MOST = 1_000_000_000
"""Most frames, requests or connections of one command."""
LONGEST_S = 86_400.0
"""Longest time that can be asked for: nobody watches for more than a day."""


class Misbehaviour(Config):
    """A command. Without duration and count it is done once: to one frame, to one request, to all open connections."""

    kind: Kind
    venue: str
    """binance_usdm, okx or bybit."""
    symbol: str | None = None
    """As the venue writes it; None: every one. Connections count as about a symbol that they are subscribed to."""
    stream: Channel | None = None
    """None: all of them, but for a gap, which is one of the order book."""
    duration_s: PositiveFloat | None = Field(default=None, le=LONGEST_S)
    """Seconds from now, by the wall clock."""
    count: PositiveInt | None = Field(default=None, le=MOST)
    """At most so many frames, requests or connections."""
    delay_s: NonNegativeFloat = Field(default=1.0, le=LONGEST_S)
    close_code: int = Field(default=1001, ge=1000, le=4999)
    retry_after_s: PositiveInt = Field(default=1, le=int(LONGEST_S))
    size_bytes: int = Field(default=8 << 20, ge=1, le=12 << 20)
    byte_every_s: PositiveFloat = Field(default=0.01, le=LONGEST_S)

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.kind is Kind.BAD_CHECKSUM and self.venue != "okx":
            raise ValueError(f"venue: was {self.venue!r}, which sends no checksum; use okx")
        if self.stream is not None and self.stream not in self._streams:
            use = f"use one of {', '.join(self._streams)}" if self._streams else "leave it out"
            raise ValueError(f"stream: was {self.stream}, which no {self.kind} is done to; {use}")
        return self

    @property
    def _streams(self) -> Sequence[Channel]:
        """Return what can be named."""
        if self.kind is Kind.BAD_CHECKSUM:
            return [Channel.BOOK]
        of_requests, of_frames = self.kind in OF_REQUESTS, self.kind in OF_FRAMES
        return [channel for channel in Channel if (of_requests if channel is Channel.REST else of_frames)]

    @property
    def is_of_a_silent_stream(self) -> bool:
        """Return whether one stream alone is to be silent."""
        return self.kind is Kind.SILENCE and self.stream is not None

    def hits(self, symbol: str | None, channel: Channel | None) -> bool:
        """Return whether it is about this symbol and stream."""
        wanted = Channel.BOOK if self.kind in {Kind.GAP, Kind.BAD_CHECKSUM} and not self.stream else self.stream
        return self.symbol in {None, symbol} and wanted in {None, channel}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One thing that was done wrong."""

    command: int
    """Number of the command."""
    kind: Kind
    venue: str
    symbol: str | None
    stream: Channel | None
    at_ns: int
    """Unix time."""
    detail: str = ""


class Command:
    """A misbehaviour under way."""

    __slots__ = ("left", "number", "until_ns", "what")

    def __init__(self, number: int, what: Misbehaviour, now_ns: int) -> None:
        self.number = number
        self.what = what
        self.until_ns = None if what.duration_s is None else now_ns + round(what.duration_s * NANOSECONDS)
        once = what.duration_s is None and what.kind not in OF_CONNECTIONS
        self.left = what.count if what.count is not None else 1 if once else None


class Misbehaviours:
    """Commands under way, by venue, and what came of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbered = 0
        self._by_venue: dict[str, list[Command]] = {}
        self.done: deque[Done] = deque(maxlen=DONE_KEPT)

    def begin(self, what: Misbehaviour) -> Command:
        """Put a command under way."""
        self._numbered += 1
        command = Command(self._numbered, what, self._clock.now_ns())
        self._by_venue.setdefault(what.venue, []).append(command)
        return command

    def end(self, command: Command | None = None) -> None:
        """End a command, or all of them."""
        for commands in self._by_venue.values():
            commands[:] = [] if command is None else [other for other in commands if other is not command]

    def quiet(self, venue: str) -> bool:
        """Return whether nothing is under way at a venue."""
        return not self._by_venue.get(venue)

    def under_way(self) -> Sequence[Command]:
        """Return all commands that have not ended."""
        now_ns = self._clock.now_ns()
        return [command for commands in self._by_venue.values() for command in commands if not _over(command, now_ns)]

    def of(self, venue: str, kinds: frozenset[Kind], symbol: str | None, channel: Channel | None) -> list[Command]:
        """Return the commands that are about this, oldest first; those that have run out are forgotten."""
        commands = self._by_venue.get(venue)
        if not commands:
            return []
        now_ns = self._clock.now_ns()
        if any(_over(command, now_ns) for command in commands):
            commands[:] = [command for command in commands if not _over(command, now_ns)]
        return [command for command in commands if command.what.kind in kinds and command.what.hits(symbol, channel)]

    def take(self, command: Command, symbol: str | None, channel: Channel | None, detail: str = "") -> None:
        """Note that a command was carried out once."""
        if command.left is not None:
            command.left -= 1
        self.done.append(
            Done(
                command=command.number,
                kind=command.what.kind,
                venue=command.what.venue,
                symbol=symbol,
                stream=channel,
                at_ns=self._clock.now_ns(),
                detail=detail,
            )
        )


def _over(command: Command, now_ns: int) -> bool:
    return (command.left is not None and command.left <= 0) or (
        command.until_ns is not None and now_ns >= command.until_ns
    )
