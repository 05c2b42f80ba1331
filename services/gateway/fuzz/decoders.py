"""What a fuzzer feeds to the readers of what venues send, and what holds whatever the bytes are.

Only documented errors come out: Rejected of a frame or an answer, BadInput of a recording. What is accepted is sane:
levels have a price above 0 and a size that fits, numbers fit the log's columns, and the book that updates make has no
empty level. `run.py` feeds these targets with atheris; `tests/test_fuzz_corpus.py` replays the kept inputs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Final

from huracan.clock import MINUTE_NS, NANOSECONDS
from huracan.contracts.market import Bar, InstrumentDefinition
from huracan.errors import BadInput, SequenceGap
from huracan.market.book import Level, SyncedBook
from huracan_gateway import venues
from huracan_gateway.adapter import Adapter
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
from huracan_gateway.recording import read_head, read_lines
from huracan_gateway.reject import Rejected
from huracan_gateway.venues import ADAPTERS

CORPUS: Final = Path(__file__).with_name("corpus.jsonl")
"""Kept inputs, one a line: the name of the target, and the bytes it is given in base64."""
SYMBOLS: Final = {
    "binance_usdm": ("SIMUSDT", "0.1", "0.001"),
    "binance_coinm": ("SIMUSD_PERP", "0.1", "1"),
    "binance_spot": ("SIMUSDT", "0.01", "0.00001"),
    "okx": ("SIM-USDT-SWAP", "0.1", "0.01"),
    "bybit": ("SIMUSDT", "0.1", "0.001"),
}
"""Of each venue the instrument whose frames are decoded, simulated, with its price and size increments."""
_MOST_FRAMES = 16
_MOST_DETAIL = 1_000
"""Characters of a refusal: it is logged and kept."""
_EARLIEST_NS, _LATEST_NS = 1_483_228_800 * NANOSECONDS, 4_102_444_800 * NANOSECONDS
_NOW_NS = 1_795_250_400 * NANOSECONDS
_HEADERS = ("x-mbx-used-weight-1m", "x-bapi-limit", "x-bapi-limit-status")


@cache
def _definition(venue: str) -> InstrumentDefinition:
    return ADAPTERS[venue].implied(*SYMBOLS[venue])


def frames(venue: str, data: bytes) -> None:
    """Feed lines to one decoder of a venue, in order, and the events to a book."""
    adapter, definition = ADAPTERS[venue], _definition(venue)
    decoder, book = adapter.decoder(definition), SyncedBook()
    for raw in data.split(b"\n")[:_MOST_FRAMES]:
        _judge(adapter, raw)
        try:
            kind, events = decoder.decode(raw)
        except Rejected as refused:
            _check_refusal(refused)
            continue
        assert events or kind == RECENT_TRADES, "a frame was accepted without an event"
        for event in events:
            _check(event)
            _keep(book, event)
            if isinstance(event, Depth | Snapshot) and event.checksum is not None and adapter.checksum is not None:
                assert -(2**31) <= adapter.checksum(definition)(book.book) < 2**31, "a checksum was not of 32 bits"


def _judge(adapter: Adapter, raw: bytes) -> None:
    """Ask what is asked of every message before it is decoded: none of it may fail."""
    adapter.owns(raw)
    adapter.symbol_of(raw)
    adapter.levels(raw)
    adapter.websocket.control(raw)
    venues.foreign(raw, adapter.venue)
    try:
        definition = adapter.defines(raw)
    except Rejected as refused:
        _check_refusal(refused)
    else:
        if definition is not None:
            adapter.decoder(definition)


def _check_refusal(refused: Rejected) -> None:
    assert 0 < len(refused.detail) <= _MOST_DETAIL, f"a refusal had {len(refused.detail)} characters"


def _check(event: Event) -> None:
    assert event.event_ns == NO_TIME or _EARLIEST_NS <= event.event_ns <= _LATEST_NS, f"time was {event.event_ns}"
    for number in _numbers(event):
        assert 0 <= number < 2**63, f"{number} of {type(event).__name__} does not fit the log's columns"
    for price, size in _levels(event):
        assert 0 < price < 2**63, f"price of a level was {price}"
        assert 0 <= size < 2**63, f"size of a level was {size}"
    if isinstance(event, Trade | Liquidation):
        assert event.side in (-1, 1), f"side was {event.side}"


def _numbers(event: Event) -> Sequence[int]:
    match event:
        case Trade():
            return event.trade_id, event.price, event.size
        case Quote():
            return event.update_id, event.bid, event.bid_size, event.ask, event.ask_size
        case Depth(update=update):
            return update.first, update.final, update.previous, event.sequence
        case Snapshot():
            return event.last_update_id, event.sequence
        case Mark():
            return (event.next_funding_ns,)
        case Liquidation():
            return event.price, event.size
        case Defined(definition=definition):
            return (definition.expiry_ns,)


def _levels(event: Event) -> Iterable[Level]:
    match event:
        case Depth(update=changed):
            return chain(changed.bids, changed.asks)
        case Snapshot():
            return chain(event.bids, event.asks)
    return ()


def _keep(book: SyncedBook, event: Event) -> None:
    with contextlib.suppress(SequenceGap):
        if isinstance(event, Snapshot):
            for update in book.snapshot(event.last_update_id, event.bids, event.asks, restart=event.restart):
                book.apply(update)
        elif isinstance(event, Depth):
            book.apply(event.update)
    for side in book.book.levels():
        assert all(size > 0 for _, size in side), "the book has a level without size"


def answers(venue: str, data: bytes) -> None:
    """Feed a body to the readers of a venue's REST answers: definitions, bars and the limit's headers."""
    adapter, definition = ADAPTERS[venue], _definition(venue)
    try:
        found = adapter.defines(adapter.http.instrument(data, definition.venue_symbol))
        if found is not None:
            _check_definition(adapter, found)
    except Rejected as refused:
        _check_refusal(refused)
    try:
        _check_bars(adapter.http.bars(data, definition, MINUTE_NS))
    except Rejected as refused:
        _check_refusal(refused)
    used = adapter.http.used(dict.fromkeys(_HEADERS, data[:40].decode("latin-1")))
    assert used is None or 0.0 <= used <= 1.0, f"share of the limit was {used}"


def _check_definition(adapter: Adapter, definition: InstrumentDefinition) -> None:
    """Whatever is defined can be decoded and asked for."""
    adapter.decoder(definition)
    streams = adapter.websocket.streams(definition)
    adapter.websocket.address(adapter.websocket.url, streams)
    adapter.websocket.subscribe(streams, 1)
    for request in (
        adapter.http.snapshot(definition),
        adapter.http.trades(definition),
        adapter.http.klines(definition, MINUTE_NS, _NOW_NS, 10),
    ):
        assert request.path.startswith("/"), f"path was {request.path!r}"


def _check_bars(bars: Sequence[Bar]) -> None:
    for bar in bars:
        assert bar.interval_ns == MINUTE_NS, f"interval was {bar.interval_ns}"
    for earlier, later in pairwise(bars):
        assert earlier.open_ns <= later.open_ns, "bars were not in order"


def recordings(data: bytes) -> None:
    """Feed a file to the readers of recordings, plain or gzip."""
    with tempfile.NamedTemporaryFile(dir=_directory()) as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        for line in read_lines(path):
            assert line.rejected is not None or line.recv_ns > 0, "a line was accepted without a receive time"
        with contextlib.suppress(BadInput):
            read_head(path)


def _directory() -> str | None:
    """Return where files are memory, if anywhere; else None."""
    memory = Path("/dev/shm")  # noqa: S108 - each file has a name of its own, and goes when closed
    return str(memory) if memory.is_dir() else None


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    **{f"frames.{venue}": partial(frames, venue) for venue in SYMBOLS},
    **{f"answers.{venue}": partial(answers, venue) for venue in SYMBOLS},
    "recordings": recordings,
}
"""What takes bytes, by name; the first byte of a fuzzer's input is a place in this table."""


def target_of(data: bytes) -> str:
    """Return the name of the target that the first byte chooses."""
    return list(TARGETS)[(data[0] if data else 0) % len(TARGETS)]


def feed(data: bytes) -> None:
    """Feed what follows the first byte to the target that it chooses; raise whatever the target let out."""
    TARGETS[target_of(data)](data[1:])


def kept(path: Path = CORPUS) -> list[tuple[str, bytes]]:
    """Return the kept inputs: target and bytes."""
    lines = map(json.loads, path.read_text().splitlines())
    return [(line["target"], base64.b64decode(line["bytes"])) for line in lines]
