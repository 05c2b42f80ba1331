"""What we read against what a data vendor's own mappers made of the same messages, field by field."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from huracan.clock import MILLISECOND_NS
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan.market.book import Applied, SyncedBook
from huracan_gateway import unsupported
from huracan_gateway.adapter import Decoder
from huracan_gateway.events import NO_TIME, Depth, Event, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.identity import define
from huracan_gateway.reject import Rejected
from huracan_gateway.venues import ADAPTERS

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
MESSAGES = SHARED / "ws_raw" / "tardis_messages.jsonl.gz"
EXPECTED = SHARED / "reference" / "tardis_mappers_expected.snapshot.gz"
VENUES = {
    "binance": "binance_spot",
    "binance-futures": "binance_usdm",
    "okex": "okx",
    "okex-futures": "okx",
    "bybit": "bybit",
}
"""The vendor's names of what is read here. Of Binance COIN-M and OKX's swaps the messages are not among the shared."""
TESTS = {name: f"map {name.replace('binance-futures', 'binance futures')} messages" for name in VENUES}
DAY_MS = 86_400_000
INCREMENT = Decimal("0.00000001")
SIDES = {"buy": 1, "sell": -1}
NOT_READ = {"lastPrice", "openInterest", "predictedFundingRate"}
"""Fields of the vendor's that we have not: nothing here is made of them."""
Row = Mapping[str, Any]
Fields = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One message, with what the vendor made of it."""

    exchange: str
    number: int
    """Its place in the vendor's test, from 1."""
    message: Row
    theirs: Sequence[Row]


@dataclass(slots=True)
class Ours:
    """What we make of a message: the events, or the reason of the refusal."""

    told: str
    """Kind of the frame, or the reason."""
    events: Sequence[Event] = field(default_factory=list)


VENDORS_OWN = "made by the vendor out of answers to requests: no message of the venue"
NOT_SUBSCRIBED = "of a stream that we do not subscribe to"
LATER = "the vendor reads this stream from a later day on; the same message is compared below"
NO_MARKET_DATA = "no market data"
APART: dict[tuple[str, int], tuple[str, str]] = {
    ("binance", 4): ("unknown_stream", NOT_SUBSCRIBED),
    ("binance", 5): ("unknown_stream", VENDORS_OWN + "; what is in it is compared below"),
    ("binance", 7): ("depth", "the vendor waits for a snapshot, which already has it"),
    ("binance", 8): ("depth", "the vendor waits for a snapshot; the book that both make is compared below"),
    ("binance", 9): ("unknown_stream", VENDORS_OWN + "; the book that it begins is compared below"),
    ("binance-futures", 1): (
        "bad_field",
        "an @aggTrade without its number: cut by hand; the vendor takes none of them",
    ),
    ("binance-futures", 2): ("unknown_stream", NOT_SUBSCRIBED),
    ("binance-futures", 4): ("unknown_stream", NOT_SUBSCRIBED),
    ("binance-futures", 6): ("depth", "the vendor waits for a snapshot; `pu` is `u`: altered by hand"),
    ("binance-futures", 7): ("unknown_stream", VENDORS_OWN + ", and crossed: altered by hand"),
    ("binance-futures", 8): ("out_of_order", "`pu` is far above `u`: altered by hand"),
    ("binance-futures", 9): ("unknown_stream", VENDORS_OWN),
    ("binance-futures", 11): ("trade", "the vendor leaves out X INSURANCE_FUND; its number counts, so we take it"),
    ("okex", 8): ("unknown_stream", NO_MARKET_DATA),
    ("okex", 12): ("unknown_stream", NOT_SUBSCRIBED),
    ("okex", 13): ("unknown_stream", NOT_SUBSCRIBED),
    ("okex-futures", 18): ("unknown_stream", NO_MARKET_DATA),
    ("okex-futures", 22): ("unknown_stream", NOT_SUBSCRIBED),
    ("okex-futures", 23): ("unknown_stream", NOT_SUBSCRIBED),
    ("okex-futures", 24): ("unknown_stream", NOT_SUBSCRIBED),
    ("okex-futures", 26): ("unknown_stream", VENDORS_OWN),
    ("okex-futures", 27): ("unknown_stream", VENDORS_OWN),
    ("okex-futures", 28): ("unknown_stream", NOT_SUBSCRIBED),
    ("okex-futures", 30): ("liquidation", LATER),
    ("bybit", 48): ("mark", "a change of nothing that is read: the vendor says nothing, we say an empty mark"),
    ("bybit", 53): ("liquidation", LATER),
}
"""Messages that are not compared one by one: what we make of each, and why that is no pair."""
FROM_OTHER_STREAMS = {("okex-futures", 29): {"indexPrice"}}
"""Fields that the vendor carries over from messages that are not compared."""


@cache
def read(path: Path) -> str:
    if not path.is_file():
        pytest.skip(f"needs {path.name} in ../shared")
    with gzip.open(path, "rt") as file:
        return file.read()


@cache
def expected() -> Mapping[str, Sequence[Row]]:
    """Return the vendor's outputs by test and number: each entry is JSON but for `undefined`."""
    entries = re.findall(r"^exports\[`(.+?)`\] = `\n(.*?)\n`;", read(EXPECTED), re.DOTALL | re.MULTILINE)
    return {
        name.removeprefix("mappers > "): json.loads(
            re.sub(r'(?m)^(\s*"\w+": )undefined(,?)$', r"\1null\2", text), parse_float=Decimal, parse_int=Decimal
        )
        for name, text in entries
        if name.removeprefix("mappers > ").rpartition(" ")[0] in TESTS.values()
    }


@cache
def pairs(exchange: str) -> Sequence[Pair]:
    entries = (json.loads(line) for line in read(MESSAGES).splitlines())
    messages = [entry["message"] for entry in entries if entry["exchange"] == exchange]
    outputs = [expected().get(f"{TESTS[exchange]} {number}") for number in range(1, len(messages) + 1)]
    assert all(output is not None for output in outputs)
    assert f"{TESTS[exchange]} {len(messages) + 1}" not in expected()
    return [
        Pair(exchange=exchange, number=number, message=message, theirs=output or [])
        for number, (message, output) in enumerate(zip(messages, outputs, strict=True), 1)
    ]


def encoded(message: object) -> bytes:
    return json.dumps(message).encode()


def definition(venue: str, symbol: str) -> InstrumentDefinition:
    """Return an instrument of a symbol, in increments so fine that every message has multiples of them."""
    return define(
        venue=venue,
        venue_symbol=symbol,
        type=InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
        base=symbol,
        quote="USDT",
        settle="USDT",
        price_increment=INCREMENT,
        size_increment=INCREMENT,
    )


def decoded(exchange: str) -> Iterator[tuple[Pair, Ours]]:
    """Yield every message with what we make of it; a connection, of one kind of trades, keeps its decoder for a day."""
    adapter = ADAPTERS[VENUES[exchange]]
    decoders: dict[tuple[object, ...], Decoder] = {}
    for pair in pairs(exchange):
        raw = encoded(pair.message)
        name = unsupported.named(raw)
        if name is not None:
            yield pair, Ours(name)
            continue
        symbol = adapter.symbol_of(raw) or "nameless"
        connection = (symbol, pair.message.get("stream"), pair.message.get("ts", 0) // DAY_MS)
        made = decoders.setdefault(connection, adapter.decoder(definition(adapter.venue, symbol)))
        try:
            kind, events = made.decode(raw)
        except Rejected as refused:
            yield pair, Ours(str(refused.reason))
        else:
            yield pair, Ours(kind, events)


def nanoseconds(text: str | None) -> int:
    if text is None:
        return 0
    return (
        (datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00:00Z"))
        // timedelta(milliseconds=1)
        * MILLISECOND_NS
    )


def number_of(text: str) -> int:
    """Return the number of a trade as we keep it: 63 bits of an identifier."""
    return int(text) if text.isdigit() else int(text.replace("-", ""), 16) & (2**63 - 1)


def vendors(row: Row) -> Fields:
    """Return what the vendor says in our terms; a time that is only that of receipt is none."""
    received = row["timestamp"] == row["localTimestamp"]
    fields: Fields = {"type": row["type"], "timestamp": NO_TIME if received else nanoseconds(row["timestamp"])}
    for name, value in row.items():
        if name in {"type", "symbol", "exchange", "timestamp", "localTimestamp", *NOT_READ}:
            continue
        if name in ("bids", "asks"):
            fields[name] = [(level["price"], level["amount"]) for level in value]
        elif name == "side":
            fields[name] = SIDES[value]
        elif name == "id":
            fields.update({} if value is None else {name: number_of(value)})
        else:
            fields[name] = nanoseconds(value) if name == "fundingTimestamp" else value
    return fields


def levels(of: Sequence[tuple[int, int]]) -> list[tuple[Decimal, Decimal]]:
    return [(price * INCREMENT, size * INCREMENT) for price, size in of]


def book_change(event: Depth | Snapshot) -> Fields:
    book = event.update if isinstance(event, Depth) else event
    return {
        "type": "book_change",
        "timestamp": event.event_ns,
        "isSnapshot": isinstance(event, Snapshot),
        "bids": levels(book.bids),
        "asks": levels(book.asks),
    }


def order(event: Trade | Liquidation, at_ns: int) -> Fields:
    fields: Fields = {
        "type": "trade" if isinstance(event, Trade) else "liquidation",
        "timestamp": at_ns,
        "price": event.price * INCREMENT,
        "amount": event.size * INCREMENT,
        "side": event.side,
    }
    return fields | ({"id": event.trade_id} if isinstance(event, Trade) else {})


def traded_ns(pair: Pair, event: Trade | Liquidation) -> int:
    """Return when it was traded. Binance says that too (`T`); the time that we take is when it said so (`E`)."""
    if not pair.exchange.startswith("binance"):
        return event.event_ns
    data = pair.message["data"]
    assert event.event_ns == data["E"] * MILLISECOND_NS
    traded = data["o"]["T"] if "o" in data else data["T"]
    assert 0 <= data["E"] - traded < 100
    return int(traded) * MILLISECOND_NS


def ours(pair: Pair, event: Event, known: dict[str, object]) -> Fields:
    """Return what we say in the vendor's names; what a symbol's marks told before stays known, as with the vendor."""
    match event:
        case Trade() | Liquidation():
            return order(event, traded_ns(pair, event))
        case Quote():
            return {
                "type": "book_ticker",
                "timestamp": event.event_ns,
                "bidPrice": event.bid * INCREMENT,
                "bidAmount": event.bid_size * INCREMENT,
                "askPrice": event.ask * INCREMENT,
                "askAmount": event.ask_size * INCREMENT,
            }
        case Depth() | Snapshot():
            return book_change(event)
        case Mark():
            told = {
                "markPrice": event.mark,
                "indexPrice": event.index,
                "fundingRate": event.funding_rate,
                "fundingTimestamp": event.next_funding_ns or None,
            }
            known.update((name, value) for name, value in told.items() if value is not None)
            known["fundingTimestamp"] = known.get("fundingTimestamp", 0)
            return {"type": "derivative_ticker", "timestamp": event.event_ns, **dict.fromkeys(told), **known}
    raise AssertionError(f"{type(event).__name__} is nothing that the vendor has")


@dataclass(slots=True)
class Outcome:
    """What became of a venue's messages."""

    compared: int = 0
    apart: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)


def compared(exchange: str) -> Outcome:
    outcome = Outcome()
    known: dict[str, dict[str, object]] = {}
    for pair, made in decoded(exchange):
        if (exchange, pair.number) in APART:
            assert made.told == APART[exchange, pair.number][0], pair
            outcome.apart += 1
        elif not made.events:
            assert made.told == unsupported.named(encoded(pair.message)), (pair, made)
            outcome.refused[made.told] += 1
        else:
            compare(pair, made, known, outcome.fields)
            outcome.compared += 1
    return outcome


def compare(pair: Pair, made: Ours, known: dict[str, dict[str, object]], fields: Counter[str]) -> None:
    symbols = [row["symbol"] for row in pair.theirs]
    assert len(made.events) == len(pair.theirs), pair
    for event, row, symbol in zip(made.events, pair.theirs, symbols, strict=True):
        mine, theirs = ours(pair, event, known.setdefault(symbol, {})), vendors(row)
        for name in FROM_OTHER_STREAMS.get((pair.exchange, pair.number), ()):
            assert mine.pop(name) is None
            assert theirs.pop(name) is not None
        assert mine == theirs, pair
        fields.update(name for name in mine if name != "type")
        fields[str(mine["type"])] += 1


BYBIT_V2 = "Bybit's v2 API, which has ended: v5 is read here"
OKX_V3 = "OKX's v3 API, which has ended: v5 is read here"
OUTCOMES = {
    "binance": (5, 5, {}),
    "binance-futures": (7, 8, {}),
    "okex": (3, 3, {OKX_V3: 7}),
    "okex-futures": (6, 8, {OKX_V3: 17}),
    "bybit": (14, 2, {BYBIT_V2: 38}),
}
"""Of each venue the messages that are compared, that are apart, and that are refused by the name of their version."""
FIELDS = {
    "timestamp": 37,
    "price": 15,
    "amount": 15,
    "side": 15,
    "id": 10,
    "trade": 10,
    "bidPrice": 5,
    "bidAmount": 5,
    "askPrice": 5,
    "askAmount": 5,
    "book_ticker": 5,
    "isSnapshot": 8,
    "bids": 8,
    "asks": 8,
    "book_change": 8,
    "markPrice": 9,
    "indexPrice": 8,
    "fundingRate": 9,
    "fundingTimestamp": 9,
    "derivative_ticker": 9,
    "liquidation": 5,
}
"""Events of each type, and fields of theirs, that are compared."""


@pytest.mark.parametrize("exchange", VENUES)
def test_every_field_is_what_the_vendors_mappers_make_of_it(exchange: str) -> None:
    outcome = compared(exchange)
    assert (outcome.compared, outcome.apart, outcome.refused) == OUTCOMES[exchange]
    assert outcome.compared + outcome.apart + outcome.refused.total() == len(pairs(exchange))


def test_every_kind_of_data_that_both_know_is_compared() -> None:
    fields = sum((compared(exchange).fields for exchange in VENUES), Counter[str]())
    assert fields == FIELDS


def test_a_book_that_begins_between_updates_is_the_vendors() -> None:
    of = {pair.number: pair for pair in pairs("binance")}
    adapter, book = ADAPTERS["binance_spot"], SyncedBook()
    decoder = adapter.decoder(definition("binance_spot", "GNTBTC"))
    for number in (7, 8):
        (update,) = decoder.decode(encoded(of[number].message))[1]
        assert isinstance(update, Depth)
        assert book.apply(update.update) is Applied.BUFFERED
    (snapshot,) = decoder.decode(encoded(of[9].message["data"]))[1]
    assert isinstance(snapshot, Snapshot)
    done = [book.apply(each) for each in book.snapshot(snapshot.last_update_id, snapshot.bids, snapshot.asks)]
    assert done == [Applied.OUTDATED, Applied.APPLIED]
    bids, asks = book.book.levels()
    theirs = vendors(of[9].theirs[0])
    assert (levels(bids), levels(asks)) == (theirs["bids"], theirs["asks"])


def test_an_answer_in_the_vendors_wrapping_is_the_venues_snapshot() -> None:
    pair = pairs("binance")[4]
    (snapshot,) = (
        ADAPTERS["binance_spot"].decoder(definition("binance_spot", "BTCUSDC")).decode(encoded(pair.message["data"]))[1]
    )
    assert isinstance(snapshot, Snapshot)
    assert book_change(snapshot) == vendors(pair.theirs[0])
