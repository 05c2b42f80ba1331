"""What the gateway and ccxt say of the same frames, in the same words, and where the two may differ."""

from __future__ import annotations

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from huracan.clock import MINUTE_NS
from huracan.contracts.market import Bar, InstrumentDefinition
from huracan.market.book import Applied, Level, SyncedBook
from huracan_gateway.events import RECENT_TRADES, Defined, Depth, Event, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.reject import Rejected

from .sessions import TYPES, Session, milliseconds

DEPTH = 20
"""Levels a side that are compared after each update; at the end all are."""
ID_BITS = 2**63 - 1
SECOND_MS = 1_000
SPOT_LOT = Decimal("0.00001")
"""Of BTCUSDT."""
NEAR = Decimal("0.1")
"""Share by which what was filled may differ from the order."""
FIELDS = {
    "trade": ("id", "price", "size", "side", "time"),
    "quote": ("bid", "bid_size", "ask", "ask_size", "time"),
    "book": ("bids", "asks", "id", "time"),
    "last book": ("bids", "asks"),
    "snapshot": ("bids", "asks", "id", "time"),
    "mark": ("mark", "index", "funding_rate", "next_funding", "time"),
    "liquidation": ("price", "size", "side", "time"),
    "bar": ("open", "high", "low", "close", "volume", "time"),
    "instrument": (
        "price_increment", "size_increment", "multiplier", "base", "quote", "settle", "type", "linear", "inverse",
        "expiry", "trading",
    ),
}  # fmt: skip
"""What is compared, by kind: `book` after each update, `last book` at the end, `snapshot` as it was asked for."""
Said = dict[str, Any]
"""One thing said: its kind, and fields in the venue's units; times in Unix milliseconds, None where not told."""
NUMBERS = frozenset(
    {"price", "size", "bid", "bid_size", "ask", "ask_size", "mark", "index", "funding_rate", "open", "high", "low",
     "close", "volume", "price_increment", "size_increment", "multiplier"}
)  # fmt: skip
TIMES = frozenset({"time", "next_funding", "expiry"})


@dataclass(frozen=True, slots=True)
class Apart:
    """Why a field is not the same, and what must hold of ours and theirs instead."""

    why: str
    holds: Callable[[Any, Any], bool]


def _lacks(_: Any, theirs: Any) -> bool:
    return theirs is None


def _soon_after(ours: Any, theirs: Any) -> bool:
    return None not in (ours, theirs) and 0 <= ours - theirs < SECOND_MS


def _rounded_up(ours: Sequence[Sequence[Decimal]], theirs: Sequence[Sequence[Decimal]]) -> bool:
    """Return whether levels are the same but for sizes that are no whole lots (0.00001 BTC)."""
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(
        mine[0] == other[0] and 0 <= mine[1] - other[1] < SPOT_LOT for mine, other in pairs
    )


SENT = Apart("Binance says when it was traded or matched (T) and when it was sent (E): ccxt keeps T, we E", _soon_after)
MATCHED = Apart(
    "Bybit says when it was matched (cts) and when it was sent (ts): ccxt keeps ts, we cts as trades have it",
    lambda ours, theirs: _soon_after(theirs, ours),
)
NO_NUMBER = Apart("ccxt keeps no number of Bybit's books, and follows updates without one", _lacks)
NO_NUMBER_ASKED = Apart("ccxt keeps no number of an OKX book that was asked for", _lacks)
NO_STATUS = Apart("we keep no status: a feed reads what it is told to", lambda ours, _: ours is None)
BANKRUPT = Apart(
    "Binance says the order's own price and quantity (p, q) and what was filled at last (ap, l): ccxt keeps these, we "
    "the order's, whose price is that of bankruptcy, as OKX and Bybit have it",
    lambda ours, theirs: abs(ours / theirs - 1) < NEAR,
)
NO_LOTS = Apart("sizes of spot that are finer than the lot are rounded up by us", _rounded_up)
NO_CONTRACT = Apart("ccxt has contracts of futures alone; we say 1", lambda ours, theirs: (ours, theirs) == (1, None))
LEAST_ORDER = Apart(
    "ccxt says the least order of inverse contracts, not what one is worth: a US dollar", lambda ours, _: ours == 1
)
NO_SETTLEMENT = Apart("ccxt has none of spot; we say the quote asset", _lacks)
NO_FUNDING = Apart("ccxt reads no funding from Binance's mark price stream", _lacks)
NO_FUNDING_TIME = Apart("ccxt keeps no time of an OKX funding rate", _lacks)
POSITION = Apart(
    "Bybit says which position was closed (Buy: a long one): ccxt hands that on, we say the side of the closing order",
    lambda ours, theirs: {ours, theirs} == {"buy", "sell"},
)
BOOKS = ("snapshot", "book", "last book")
BINANCE = ("binance_usdm", "binance_coinm", "binance_spot")
APART: Mapping[tuple[str, str, str], Apart] = {
    **{(venue, "trade", "time"): SENT for venue in BINANCE},
    **{(venue, kind, "time"): SENT for venue in BINANCE[:2] for kind in ("liquidation", "snapshot", "book")},
    **{(venue, "liquidation", name): BANKRUPT for venue in BINANCE[:2] for name in ("price", "size")},
    **{(venue, "mark", name): NO_FUNDING for venue in BINANCE[:2] for name in ("funding_rate", "next_funding")},
    ("okx", "mark", "time"): NO_FUNDING_TIME,
    ("okx", "snapshot", "id"): NO_NUMBER_ASKED,
    **{("bybit", kind, "time"): MATCHED for kind in ("quote", "book", "snapshot")},
    **{("bybit", kind, "id"): NO_NUMBER for kind in ("book", "snapshot")},
    ("bybit", "liquidation", "side"): POSITION,
    ("bybit", "instrument", "multiplier"): LEAST_ORDER,
    **{(venue, "instrument", "trading"): NO_STATUS for venue in (*BINANCE, "okx", "bybit")},
    **{("binance_spot", kind, side): NO_LOTS for kind in BOOKS for side in ("bids", "asks")},
    ("binance_spot", "instrument", "multiplier"): NO_CONTRACT,
    ("binance_spot", "instrument", "settle"): NO_SETTLEMENT,
}
"""By venue, kind and field. Where ours and theirs are equal all the same, that counts as agreement."""


@dataclass(slots=True)
class Result:
    """What was compared, by venue, kind and field."""

    frames: Counter[tuple[str, str]] = field(default_factory=Counter)
    agreed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    apart: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Frames that the gateway refuses, by reason: they are not compared."""
    different: list[str] = field(default_factory=list)

    def by_venue(self) -> dict[str, dict[str, int]]:
        """Return how many frames were compared, by venue and kind."""
        counts: dict[str, dict[str, int]] = defaultdict(dict)
        for (venue, kind), count in sorted(self.frames.items()):
            counts[venue][kind] = count
        return dict(counts)


class Ours:
    """What the gateway makes of the frames of an instrument, in the words that are compared."""

    def __init__(self, session: Session) -> None:
        definition = session.definition
        self.venue = session.adapter.venue
        self.book = SyncedBook()
        self._decoder = session.adapter.decoder(definition)
        self._price, self._size = Decimal(definition.price_increment), Decimal(definition.size_increment)
        self._known: dict[str, Any] = {}
        self._times: dict[int, int] = {}
        """Of updates, by their final id."""

    def read(self, raw: bytes) -> tuple[str, str, list[Said]]:
        """Return how a frame came, its kind, and what it says; raise Rejected for one that is refused."""
        kind, events = self._decoder.decode(raw)
        frame = json.loads(raw)
        streamed = isinstance(frame, dict) and bool(frame.keys() & {"stream", "arg", "topic"})
        how = "stream" if streamed else {RECENT_TRADES: "trades"}.get(kind, kind)
        kind = "trade" if kind == RECENT_TRADES else kind
        said = [each for event in events for each in self._says(event, streamed=streamed)]
        return how, kind, said + self._changed(events, streamed=streamed)

    def levels(self, side: Sequence[Level]) -> list[list[Decimal]]:
        """Return levels in the venue's units."""
        return [[price * self._price, size * self._size] for price, size in side]

    def _says(self, event: Event, *, streamed: bool) -> list[Said]:
        match event:
            case Trade():
                return [{"kind": "trade", "id": event.trade_id, **self._order(event)}]
            case Liquidation():
                return [{"kind": "liquidation", **self._order(event)}]
            case Quote():
                (bid, bid_size), (ask, ask_size) = self.levels(
                    [(event.bid, event.bid_size), (event.ask, event.ask_size)]
                )
                best = {"bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size}
                return [{"kind": "quote", **best, "time": milliseconds(event.event_ns)}]
            case Mark():
                return [self._mark(event)]
            case Snapshot() if not streamed:
                sides = {"bids": self.levels(event.bids), "asks": self.levels(event.asks)}
                number = event.last_update_id or None
                return [{"kind": "snapshot", **sides, "id": number, "time": milliseconds(event.event_ns)}]
            case Defined():
                return [_defined(event.definition)]
        return []

    def _order(self, event: Trade | Liquidation) -> Said:
        return {
            "price": event.price * self._price,
            "size": event.size * self._size,
            "side": "buy" if event.side == 1 else "sell",
            "time": milliseconds(event.event_ns),
        }

    def _mark(self, event: Mark) -> Said:
        told = {
            "mark": event.mark,
            "index": event.index,
            "funding_rate": event.funding_rate,
            "next_funding": milliseconds(event.next_funding_ns),
        }
        if self.venue == "bybit":  # a frame tells what has changed: ccxt adds what it knows
            self._known |= {name: value for name, value in told.items() if value is not None}
            told |= self._known
        return {"kind": "mark", **told, "time": milliseconds(event.event_ns)}

    def _changed(self, events: Sequence[Event], *, streamed: bool) -> list[Said]:
        """Return the best levels, where a frame has changed the book."""
        changed = False
        for event in events:
            match event:
                case Snapshot() if streamed or self.venue.startswith("binance"):
                    self._times[event.last_update_id] = event.event_ns
                    for update in self.book.snapshot(
                        event.last_update_id, event.bids, event.asks, restart=event.restart
                    ):
                        self.book.apply(update)
                    changed = True
                case Depth():
                    self._times[event.update.final] = event.event_ns
                    changed = self.book.apply(event.update) is Applied.APPLIED or changed
        if not changed:
            return []
        book = self.book.book
        sides = {"bids": self.levels(book.bids(DEPTH)), "asks": self.levels(book.asks(DEPTH))}
        last = self.book.final
        return [{"kind": "book", **sides, "id": last or None, "time": milliseconds(self._times[last])}]


def _defined(definition: InstrumentDefinition) -> Said:
    name, linear, inverse = TYPES[definition.type]
    return {
        "kind": "instrument",
        **{name: Decimal(getattr(definition, name)) for name in ("price_increment", "size_increment", "multiplier")},
        **{name: getattr(definition, name) for name in ("base", "quote", "settle")},
        "type": name,
        "linear": linear,
        "inverse": inverse,
        "expiry": milliseconds(definition.expiry_ns),
        "trading": None,
    }


def _bar(bar: Bar) -> Said:
    values = {name: Decimal(getattr(bar, name)) for name in ("open", "high", "low", "close", "volume")}
    return {"kind": "bar", **values, "time": milliseconds(bar.open_ns)}


def _theirs(said: Said, venue: str) -> Said:
    """Return what ccxt said with numbers in the place of texts."""
    read = dict(said)
    for name, value in said.items():
        if value is None:
            continue
        if name in NUMBERS:
            read[name] = Decimal(value)
        elif name in TIMES:
            read[name] = int(value)
        elif name == "id":
            read[name] = UUID(value).int & ID_BITS if venue == "bybit" and "-" in value else int(value)
        elif name in ("bids", "asks"):
            read[name] = _sides(value)
    return read


def _sides(levels: Sequence[Sequence[str]]) -> list[list[Decimal]]:
    return [[Decimal(price), Decimal(size)] for price, size in levels]


class Oracle:
    """ccxt in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def compare(self, sessions: Iterable[Session]) -> Result:
        """Have ccxt read the frames of sessions, and compare what it says with what the gateway makes of them."""
        result = Result()
        for session in sessions:
            self._compare(session, result)
        return result

    def _ask(self, session: Session, frames: Sequence[tuple[str, bytes]]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        texts = [(how, raw.decode()) for how, raw in frames]
        asked = {"venue": session.adapter.venue, "definition": session.text.decode(), "frames": texts}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the oracle ended: its error is above"
        return json.loads(answer)

    def _compare(self, session: Session, result: Result) -> None:
        ours, read = Ours(session), []
        venue = ours.venue
        for raw in session.frames:
            try:
                read.append((raw, *ours.read(raw)))
            except Rejected as refused:
                result.refused[refused.reason] += 1
        if session.bars:
            bars = session.adapter.http.bars(session.bars, session.definition, MINUTE_NS)
            read.append((session.bars, "bars", "bar", [_bar(bar) for bar in bars]))
        answer = self._ask(session, [(how, raw) for raw, how, _, _ in read])
        for (raw, how, kind, mine), told in zip(read, answer["said"], strict=True):
            result.frames[venue, kind] += 1
            theirs = [_theirs(each, venue) for each in told]
            if how == "bars":  # ccxt gives the bar that is still open too
                theirs = [each for each in theirs if mine and each["time"] <= mine[-1]["time"]]
            _compare_frame(venue, raw, _in_order(mine, how), _in_order(theirs, how), result)
        if ours.book.synced:
            sides = ("bids", "asks")
            mine_whole = dict(zip(sides, map(ours.levels, ours.book.book.levels()), strict=True))
            theirs_whole = dict(zip(sides, map(_sides, answer["book"]), strict=True))
            last = {"kind": "last book"}
            _compare_frame(venue, b"", [last | mine_whole], [last | theirs_whole], result)


def _in_order(said: list[Said], how: str) -> list[Said]:
    """Return trades that were asked for by their numbers: ccxt sorts those of one time in its own way."""
    return sorted(said, key=lambda each: int(each["id"])) if how == "trades" else said


def _compare_frame(venue: str, raw: bytes, ours: list[Said], theirs: list[Said], result: Result) -> None:
    kinds = [[each["kind"] for each in side] for side in (ours, theirs)]
    if kinds[0] != kinds[1]:
        result.different.append(f"{venue}: we said {kinds[0]}, ccxt {kinds[1]} {theirs[:1]} of {raw[:300]!r}")
        return
    for mine, other in zip(ours, theirs, strict=True):
        for name in FIELDS[mine["kind"]]:
            key, apart = (venue, mine["kind"], name), APART.get((venue, mine["kind"], name))
            if mine[name] == other[name]:
                result.agreed[key] += 1
            elif apart is not None and apart.holds(mine[name], other[name]):
                result.apart[key] += 1
            else:
                result.different.append(f"{'/'.join(key)}: ours {mine[name]}, ccxt's {other[name]}, of {raw[:300]!r}")
