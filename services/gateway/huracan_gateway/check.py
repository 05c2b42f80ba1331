"""The laws of an adapter: whatever is registered in `venues.py` keeps all of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from urllib.parse import urlsplit

from huracan.clock import MILLISECOND_NS, MINUTE_NS, NANOSECONDS
from huracan.contracts.market import InstrumentDefinition, InstrumentType
from huracan.errors import SequenceGap
from huracan.market.book import Applied, DepthUpdate, SyncedBook
from huracan_gateway.adapter import Adapter, Control, Request, WholeBook
from huracan_gateway.events import (
    NO_TIME,
    RECENT_TRADES,
    Defined,
    Depth,
    Event,
    Liquidation,
    Mark,
    Quote,
    Snapshot,
    Trade,
)
from huracan_gateway.reject import Rejected
from huracan_gateway.scale import Scale

KINDS: dict[str, tuple[type[Event], ...]] = {
    "trade": (Trade,),
    RECENT_TRADES: (Trade,),
    "quote": (Quote,),
    "depth": (Depth, Snapshot),
    "snapshot": (Snapshot,),
    "mark": (Mark,),
    "liquidation": (Liquidation,),
    "instrument": (Defined,),
}
"""Kinds of frames, and what events they give: a venue's stream of depth may begin with a snapshot."""
_EARLIEST_NS, _LATEST_NS = 1_483_228_800 * NANOSECONDS, 4_102_444_800 * NANOSECONDS
"""2017 to 2100."""
_MOST_MESSAGE_BYTES = 4_096
_MOST_DAMAGED_PER_EXAMPLE = 1_500
_MOST_DETAIL = 1_000
_WRONG: tuple[object, ...] = (
    None, True, -1, 0, 1.5, 10**30, 2**63, "", "x", "-1", "NaN", "1e5", "9" * 30, [], [[]], {}, [None], "٣",
)  # fmt: skip
"""Values that stand where others belong."""
_OTHER_FRAMES = (b"", b"null", b"[]", b"[1]", b"{}", b"not json", b"\xff\xfe", b"[" * 5_000, b'{"a":' * 5_000, b"1e999")


def check_adapter(
    adapter: Adapter, examples: Sequence[bytes], instruments: bytes, others: Iterable[Adapter] = ()
) -> None:
    """Raise AssertionError, in a sentence, when an adapter breaks a law on these frames of one instrument.

    The examples hold a snapshot, and updates of the book that follow it, in their order; `instruments` is the answer
    that defines the instrument, and maybe others. No other adapter may own the examples.
    """
    definition, defining = _defined(adapter, examples, instruments)
    examples = [defining, *examples]
    for example in examples:
        _check_frame(adapter, definition, example)
        _check_owner(adapter, definition, example, others)
        _check_refusals(adapter, definition, example)
    for frame in _OTHER_FRAMES:
        assert not adapter.owns(frame), f"{adapter.venue} owned {frame[:20]!r}"
        _survives(adapter, definition, frame)
    _check_definition(adapter, definition)
    _check_book(adapter, definition, examples)
    _check_written_books(adapter, definition, examples)
    _check_websocket(adapter, definition, examples)
    _check_http(adapter, definition, examples)
    _check_cut(adapter, definition, instruments)


def _defined(adapter: Adapter, examples: Sequence[bytes], answer: bytes) -> tuple[InstrumentDefinition, bytes]:
    """Return the definition of the instrument that the examples name, and the frame that says it."""
    symbol = next((symbol for symbol in map(adapter.symbol_of, examples) if symbol), None)
    assert symbol is not None, f"no example of {adapter.venue} names its symbol"
    frame = adapter.http.instrument(answer, symbol)
    definition = adapter.defines(frame)
    assert definition is not None, f"what was cut out of the answer defines nothing: {_shown(frame)}"
    assert definition.venue_symbol == symbol, f"{symbol} was defined as {definition.venue_symbol}"
    return definition, frame


def _decoded(adapter: Adapter, definition: InstrumentDefinition, raw: bytes) -> tuple[str, Sequence[Event]]:
    return adapter.decoder(definition).decode(raw)


def _check_owner(adapter: Adapter, definition: InstrumentDefinition, example: bytes, others: Iterable[Adapter]) -> None:
    """A frame is owned by its venue and by no other; trades that say no symbol may say no venue either."""
    nameless = adapter.symbol_of(example) is None and _decoded(adapter, definition, example)[0] == RECENT_TRADES
    assert nameless or adapter.owns(example), f"{adapter.venue} did not own {_shown(example)}"
    for other in others:
        owned = other.venue != adapter.venue and other.owns(example)
        assert not owned, f"{other.venue} owned a frame of {adapter.venue}: {_shown(example)}"


def _check_frame(adapter: Adapter, definition: InstrumentDefinition, example: bytes) -> None:
    kind, events = _decoded(adapter, definition, example)
    assert kind in KINDS, f"kind was {kind!r}, none of the port's"
    assert events, f"a frame of kind {kind} gave no event"
    for event in events:
        assert isinstance(event, KINDS[kind]), f"a frame of kind {kind} gave {type(event).__name__}"
        _check_event(event)
    assert (kind, events) == _decoded(adapter, definition, example), f"decoding was not repeatable: {_shown(example)}"
    named = adapter.symbol_of(example)
    assert named in (None, definition.venue_symbol), f"symbol was {named!r}, not {definition.venue_symbol}"
    levels = adapter.levels(example)
    assert (levels is not None) == any(isinstance(event, Snapshot) for event in events), "only snapshots have levels"
    assert (adapter.defines(example) is not None) == (kind == "instrument"), "only kind instrument defines"
    for price, size in levels or ():
        Scale(Decimal(definition.price_increment)).read(price, "price")
        assert Decimal(size) >= 0, f"size was {size}"


def _check_event(event: Event) -> None:
    within = event.event_ns == NO_TIME or _EARLIEST_NS <= event.event_ns <= _LATEST_NS
    assert within, f"event time was {event.event_ns}, not in ns from 2017 to 2100"
    for number in _integers(event):
        assert isinstance(number, int), f"{number!r} of {type(event).__name__} was no integer"
        assert 0 <= number < 2**63, f"{number} of {type(event).__name__} does not fit the log's columns"
    if isinstance(event, Trade | Liquidation):
        assert event.side in (-1, 1), f"side was {event.side}"
    if isinstance(event, Mark):
        told = (event.mark, event.index)  # none of them where a ticker tells of other things: its time counts
        assert all(price is None or price > 0 for price in told), f"mark or index was not above 0: {told}"
        times = (event.next_funding_ns or _EARLIEST_NS,)
        assert all(_EARLIEST_NS <= time <= _LATEST_NS for time in times), f"funding time was {times}"


def _integers(event: Event) -> Iterator[int]:
    match event:
        case Trade():
            yield from (event.trade_id, event.price, event.size)
        case Quote():
            yield from (event.update_id, event.bid, event.bid_size, event.ask, event.ask_size)
        case Depth():
            yield event.sequence
            yield from (event.update.final, *itertools.chain(*event.update.bids, *event.update.asks))
        case Snapshot():
            yield from (event.last_update_id, event.sequence, *itertools.chain(*event.bids, *event.asks))
        case Liquidation():
            yield from (event.price, event.size)


def _check_refusals(adapter: Adapter, definition: InstrumentDefinition, example: bytes) -> None:
    """Damage is decoded or refused, never anything else; what names another symbol is refused."""
    for damaged in itertools.islice(_damaged(example), _MOST_DAMAGED_PER_EXAMPLE):
        _survives(adapter, definition, damaged)
    if adapter.symbol_of(example) is not None:
        other = InstrumentDefinition()
        other.CopyFrom(definition)
        other.venue_symbol = f"X{definition.venue_symbol}"
        with suppress(Rejected):
            _decoded(adapter, other, example)
            raise AssertionError(f"a frame of another symbol was decoded: {_shown(example)}")


def _survives(adapter: Adapter, definition: InstrumentDefinition, raw: bytes) -> None:
    asked: tuple[Callable[[bytes], object], ...] = (
        adapter.owns, adapter.symbol_of, adapter.levels, adapter.websocket.control,
    )  # fmt: skip
    try:
        for ask in asked:
            ask(raw)
        for event in _told(adapter, definition, raw):
            _check_event(event)
    except AssertionError as error:
        raise AssertionError(f"{error} in {_shown(raw)}") from None
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} ({error}) came from {_shown(raw)}") from error


def _told(adapter: Adapter, definition: InstrumentDefinition, raw: bytes) -> Sequence[Event]:
    with suppress(Rejected):
        adapter.defines(raw)
    detail = ""
    try:
        return _decoded(adapter, definition, raw)[1]
    except Rejected as refused:
        detail = refused.detail
    assert len(detail) <= _MOST_DETAIL, f"a refusal had {len(detail)} characters"
    return ()


def _damaged(example: bytes) -> Iterator[bytes]:
    """Yield the frame cut short, with bytes overwritten, and with each of its values wrong or gone."""
    for part in range(1, 8):
        yield example[: len(example) * part // 8]
    for at in range(0, min(len(example), 160), 7):
        for byte in (b"\xff", b"9", b'"', b"[", b"}"):
            yield example[:at] + byte + example[at + 1 :]
    frame = json.loads(example)
    for path in itertools.islice(_paths(frame), 120):
        for wrong in _WRONG:
            yield _with(frame, path, [wrong])
        yield _with(frame, path, [])


def _paths(value: object, path: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Yield where all values are; of a list, the first two."""
    members: Iterable[tuple[int | str, object]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value[:2])
    for key, member in members:
        yield (*path, key)
        yield from _paths(member, (*path, key))


def _with(frame: object, path: tuple[int | str, ...], instead: list[object]) -> bytes:
    """Return the frame with another value at a place, or none."""
    copy = parent = json.loads(json.dumps(frame))
    for key in path[:-1]:
        parent = parent[key]
    if instead:
        parent[path[-1]] = instead[0]
    else:
        del parent[path[-1]]
    return json.dumps(copy).encode()


def _check_definition(adapter: Adapter, definition: InstrumentDefinition) -> None:
    price, size = definition.price_increment, definition.size_increment
    assert Decimal(price) > 0, f"price increment was {price}"
    assert Decimal(size) > 0, f"size increment was {size}"
    assert Decimal(definition.multiplier) > 0, f"multiplier was {definition.multiplier}"
    assert definition.id.definition_version == 1, "a venue's definition is version 1"
    assert definition.type != InstrumentType.INSTRUMENT_TYPE_UNSPECIFIED, "the instrument has no type"
    made = adapter.implied(definition.venue_symbol, price, size)
    for field in ("id", "venue_symbol", "type", "base", "quote", "settle", "underlying", "shard"):
        told, guessed = getattr(definition, field), getattr(made, field)
        assert told == guessed, f"{field} was {told!r} as defined, {guessed!r} as implied"
    for venue_symbol in ("", "?", "\x00", "x" * 200):
        with suppress(Rejected):
            adapter.implied(venue_symbol, price, size)
            raise AssertionError(f"symbol {venue_symbol!r} was taken for an instrument")
    for increment in ("", "0", "-1", "NaN", "x"):
        with suppress(Rejected):
            adapter.implied(definition.venue_symbol, increment, size)
            raise AssertionError(f"price increment {increment!r} was taken")


def _check_book(adapter: Adapter, definition: InstrumentDefinition, examples: Sequence[bytes]) -> None:
    """The examples' snapshot, continued by their updates, is a book that is not crossed."""
    book, applied = SyncedBook(), 0
    verify = adapter.checksum(definition) if adapter.checksum is not None else None
    for event in itertools.chain.from_iterable(_decoded(adapter, definition, example)[1] for example in examples):
        checksum = None
        if isinstance(event, Snapshot):
            pending = book.snapshot(event.last_update_id, event.bids, event.asks, restart=event.restart)
            applied += sum(book.apply(update) is Applied.APPLIED for update in pending)
            checksum = event.checksum
        elif isinstance(event, Depth):
            try:
                applied += book.apply(event.update) is Applied.APPLIED
            except SequenceGap as gap:
                raise AssertionError(f"an example's update does not follow: {gap}") from None
            checksum = event.checksum if book.synced else None
        if verify is not None and checksum is not None:
            assert verify(book.book) == checksum, f"checksum was {checksum}, of this book it is {verify(book.book)}"
    assert book.synced, f"no snapshot among the examples of {adapter.venue}"
    assert applied, f"no update among the examples of {adapter.venue} follows their snapshot"
    bid, ask = book.book.best_bid(), book.book.best_ask()
    assert bid is not None, "the book of the examples has no bids"
    assert ask is not None, "the book of the examples has no asks"
    assert bid[0] < ask[0], f"best bid was {bid[0]}, best ask {ask[0]}"


def _check_written_books(adapter: Adapter, definition: InstrumentDefinition, examples: Sequence[bytes]) -> None:
    """The examples' book, as it is before each update, is read back as it was written, and the update continues it."""
    book, read = SyncedBook(), 0
    for example in examples:
        for event in _decoded(adapter, definition, example)[1]:
            if isinstance(event, Depth | Snapshot):
                marked = any(mark in example for mark in adapter.book_marks)
                assert marked, f"none of {adapter.book_marks} is in {_shown(example)}"
            for update in _updates(book, event):
                again = _read_back(adapter, definition, book) if book.synced else SyncedBook()
                if book.apply(update) is Applied.APPLIED:
                    assert again.apply(update) is Applied.APPLIED, "an update did not continue a book that was written"
                    assert again.book.levels() == book.book.levels(), "a book was another when it was written and read"
                    read += 1
    assert read, "no update continues a book that was written"


def _updates(book: SyncedBook, event: Event) -> Sequence[DepthUpdate]:
    """Return what is to be applied next; a book that is not in step keeps an update for later."""
    match event:
        case Snapshot():
            return book.snapshot(event.last_update_id, event.bids, event.asks, restart=event.restart)
        case Depth() if book.synced:
            return (event.update,)
        case Depth():
            book.apply(event.update)
    return ()


def _read_back(adapter: Adapter, definition: InstrumentDefinition, book: SyncedBook) -> SyncedBook:
    increments = Decimal(definition.price_increment), Decimal(definition.size_increment)
    bids, asks = (
        [(f"{price * increments[0]:f}", f"{size * increments[1]:f}") for price, size in side]
        for side in book.book.levels()
    )
    at_ms = _EARLIEST_NS // MILLISECOND_NS
    frame = adapter.write_book(WholeBook(definition.venue_symbol, book.final, at_ms, bids, asks))
    assert adapter.owns(frame), f"{adapter.venue} did not own the book that it wrote: {_shown(frame)}"
    _check_frame(adapter, definition, frame)
    [told] = _decoded(adapter, definition, frame)[1]
    assert isinstance(told, Snapshot), f"a book was written as {type(told).__name__}"
    assert told.last_update_id == book.final, f"a book was written at {book.final} and read at {told.last_update_id}"
    assert told.event_ns in (NO_TIME, _EARLIEST_NS), f"a book was written at {_EARLIEST_NS} ns, read at {told.event_ns}"
    again = SyncedBook()
    again.snapshot(told.last_update_id, told.bids, told.asks, restart=told.restart)
    return again


def _check_websocket(adapter: Adapter, definition: InstrumentDefinition, examples: Sequence[bytes]) -> None:
    spec = adapter.websocket
    streams = spec.streams(definition)
    assert len(set(streams)) == len(streams) > 0, f"streams were {streams}"
    assert spec.book_stream(definition) in streams, f"{spec.book_stream(definition)} is not among {streams}"
    for base in (spec.url, "ws://127.0.0.1:8080"):
        address = urlsplit(spec.address(base, streams))
        expected = urlsplit(base)
        assert (address.scheme, address.netloc) == (expected.scheme, expected.netloc), f"address was {address.geturl()}"
    assert urlsplit(spec.url).scheme == "wss", f"url was {spec.url}"
    for message in (*spec.subscribe(streams, 1), *spec.unsubscribe(streams, 2)):
        assert len(message) <= _MOST_MESSAGE_BYTES, f"a message had {len(message)} bytes"
        assert isinstance(json.loads(message), dict), f"a message was {_shown(message)}"
        assert adapter.symbol_of(message) is None or not adapter.owns(message), "a request looks like market data"
    for example in examples:
        assert spec.control(example) is None, f"control claimed market data: {_shown(example)}"
    claimed = [spec.control(frame) for frame in _OTHER_FRAMES]
    assert all(told is None or isinstance(told[0], Control) for told in claimed), f"control told {claimed}"
    assert min(spec.ping_every_s, spec.silent_after_s, spec.longest_s, spec.messages_per_s) > 0, (
        "a time was not above 0"
    )
    assert spec.ping is None or spec.silent_after_s > spec.ping_every_s, "silence is judged before a ping is answered"


def _check_http(adapter: Adapter, definition: InstrumentDefinition, examples: Sequence[bytes]) -> None:
    spec = adapter.http
    assert urlsplit(spec.url).scheme == "https", f"url was {spec.url}"
    assert not urlsplit(spec.url).path.strip("/"), f"url was {spec.url}: paths are those of requests"
    end_ns = 1_700_000_000 * NANOSECONDS
    requests: list[Request] = [
        spec.instruments(definition.venue_symbol),
        spec.snapshot(definition),
        spec.trades(definition),
        *(spec.klines(definition, minutes * MINUTE_NS, end_ns, spec.most_bars) for minutes in (1, 15)),
    ]
    for request in requests:
        assert request.path.startswith("/"), f"path was {request.path}"
        assert request.path.isascii(), f"path was {request.path!r}"
        assert " " not in request.path, f"path was {request.path!r}"
        assert request.weight > 0, f"weight of {request.path} was {request.weight}"
    assert definition.venue_symbol in requests[1].path, f"{requests[1].path} does not name the symbol"
    assert spec.most_bars > 0, f"most bars was {spec.most_bars}"
    assert spec.weight_per_s > 0, f"weight per second was {spec.weight_per_s}"
    assert spec.used({}) is None, "without headers it is not told what is used up"
    for example in examples:
        with suppress(Rejected):
            spec.bars(example, definition, MINUTE_NS)


def _check_cut(adapter: Adapter, definition: InstrumentDefinition, body: bytes) -> None:
    for broken, symbol in ((body, "NONE-SUCH"), (b"{}", definition.venue_symbol), (b"", definition.venue_symbol)):
        with suppress(Rejected):
            adapter.http.instrument(broken, symbol)
            raise AssertionError(f"an instrument was found for {symbol} in {_shown(broken)}")


def _shown(raw: bytes) -> str:
    return repr(raw[:200])
