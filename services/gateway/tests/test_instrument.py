"""One instrument: the log tells the same book, steps and bars close as defined, gaps are told to everyone."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.clock import MINUTE_NS, STEP_NS, step_close, step_of
from huracan.contracts.context import ContextRef
from huracan.contracts.features import window_matrix
from huracan.contracts.market import FLAG_FIRST, FLAG_UNSYNCED, Bar, TickKind, bar
from huracan.features.micro import MICRO
from huracan.market.book import ASK, BID, DepthUpdate, Level, OrderBook
from huracan_gateway.bybit.adapter import ADAPTER as BYBIT
from huracan_gateway.events import Depth, Event, Quote, Snapshot, Trade
from huracan_gateway.instrument import Bars, ClosedStep, Instrument
from huracan_gateway.reject import Reason, Rejected

from .fed_instrument import BTCUSDT, START, Feed, Row, event_of, levels, rows_of

NS = 10**9
DEPTH, SNAPSHOT = TickKind.TICK_KIND_DEPTH, TickKind.TICK_KIND_SNAPSHOT


def read_into(book: OrderBook, rows: Sequence[Row]) -> None:
    """Follow the log as its contract says: a snapshot's first row clears, unsynced rows change nothing."""
    for row in rows:
        if row.kind == SNAPSHOT and row.flags & FLAG_FIRST:
            book.clear()
        if row.kind in (DEPTH, SNAPSHOT) and not row.flags & FLAG_UNSYNCED:
            book.set_level(row.side, row.price, row.size)


# Bids and asks overlap now and then, updates are lost, doubled and late, snapshots come at any time.
events = st.lists(
    st.tuples(
        st.sampled_from(["depth", "depth", "depth", "lost", "again", "snapshot", "old snapshot", "trade", "quote"]),
        levels(1, 9),
        levels(8, 16),
    ),
    max_size=40,
)


@given(events, st.integers(1, 12))
def test_the_log_tells_the_same_book_as_the_gateway_has_at_every_frame(
    steps: list[tuple[str, list[Level], list[Level]]], batch_rows: int
) -> None:
    feed, book = Feed(batch_rows=batch_rows), OrderBook()
    for kind, bids, asks in steps:
        before = feed.instrument.book.book.levels(), feed.instrument.book.synced
        event = event_of(feed, kind, bids, asks)
        try:
            feed.take(event)
        except Rejected:
            assert feed.rows() == [], "a frame that is refused is not in the log"
            assert (feed.instrument.book.book.levels(), feed.instrument.book.synced) == before
            continue
        rows = feed.rows()
        read_into(book, rows)
        assert book.levels() == feed.instrument.book.book.levels()
        assert {row.ingest_seq for row in rows} <= {feed.sequence}
        assert {row.recv_ns for row in rows} <= {feed.recv_ns}


@given(events)
def test_every_level_of_every_accepted_frame_is_in_the_log_exactly_once(
    steps: list[tuple[str, list[Level], list[Level]]],
) -> None:
    feed = Feed()
    for kind, bids, asks in steps:
        event = event_of(feed, kind, bids, asks)
        try:
            feed.take(event)
        except Rejected:
            continue
        rows = [row for row in feed.rows() if row.kind != SNAPSHOT or isinstance(event, Snapshot)]
        sent = [(row.side, row.price, row.size) for row in rows]
        match event:
            case Depth(update=update):
                assert {row.venue_seq for row in rows} <= {update.final}
                assert sent == [(BID, *level) for level in update.bids] + [(ASK, *level) for level in update.asks]
                assert all(bool(row.flags & FLAG_UNSYNCED) is not feed.instrument.book.synced for row in rows)
            case Trade():
                assert sent == [(event.side, event.price, event.size)]
                assert rows[0].venue_seq == event.trade_id
            case Quote():
                assert sent == [(BID, event.bid, event.bid_size), (ASK, event.ask, event.ask_size)]
                assert rows[0].venue_seq == event.update_id
            case Snapshot() if feed.instrument.book.synced:
                whole = feed.instrument.book.book.levels()
                book = OrderBook()
                read_into(book, rows)
                assert book.levels() == whole
        assert [bool(row.flags & FLAG_FIRST) for row in rows] == [True, *[False] * (len(rows) - 1)][: len(rows)]


def test_a_gap_clears_every_readers_book_and_the_next_snapshot_fills_it_again() -> None:
    feed, book = Feed(), OrderBook()
    feed.snapshot([(10, 1), (9, 4)], [(11, 1)])
    feed.depth([(8, 2)])
    read_into(book, feed.rows())
    assert book.levels() == ([(10, 1), (9, 4), (8, 2)], [(11, 1)])
    feed.depth([(7, 7)], lost=3)
    (gap,) = feed.instrument.gaps
    assert (gap.stream, gap.expected, gap.was, gap.ingest_seq) == ("depth", 101, 104, feed.sequence)
    assert (gap.at_ns, gap.action) == (feed.recv_ns, "book dropped")
    assert feed.instrument.counts["gaps.depth"] == 1
    rows = feed.rows()
    assert [(row.kind, row.flags) for row in rows] == [(SNAPSHOT, FLAG_FIRST), (DEPTH, FLAG_FIRST | FLAG_UNSYNCED)]
    read_into(book, rows)
    assert book.levels() == ([], [])
    feed.depth([(6, 6)])
    read_into(book, feed.rows())
    assert book.levels() == ([], [])
    feed.take(Snapshot(2, 105, [(10, 5)], [(11, 5)]))
    read_into(book, feed.rows())
    assert book.levels() == feed.instrument.book.book.levels() == ([(10, 5), (7, 7), (6, 6)], [(11, 5)])
    assert feed.instrument.counts["snapshots"] == 2


def test_a_snapshot_without_levels_clears_every_readers_book() -> None:
    feed, book = Feed(), OrderBook()
    feed.snapshot()
    feed.snapshot([], [])
    read_into(book, feed.rows())
    assert book.levels() == feed.instrument.book.book.levels() == ([], [])


def test_a_book_that_crosses_itself_is_dropped_and_told_as_a_gap() -> None:
    feed, book = Feed(), OrderBook()
    feed.snapshot()
    feed.depth([(11, 4)])
    (gap,) = feed.instrument.gaps
    assert (gap.stream, gap.action) == ("depth", "best bid was not below best ask; book dropped")
    assert not feed.instrument.book.synced
    read_into(book, feed.rows())
    assert book.levels() == ([], [])


def test_a_gap_among_buffered_updates_drops_the_book_that_the_snapshot_gave() -> None:
    feed, book = Feed(), OrderBook()
    feed.depth([(9, 1)])
    feed.depth([(8, 1)], lost=2)
    feed.take(Snapshot(2, 100, [(10, 1)], [(11, 1)]))
    assert not feed.instrument.book.synced
    assert [gap.expected for gap in feed.instrument.gaps] == [101]
    read_into(book, feed.rows())
    assert book.levels() == ([], [])
    assert feed.next_step() is None, "no step closes before the book is synced"


def test_missing_trades_are_told_and_the_next_ones_taken() -> None:
    feed = Feed()
    feed.trade()
    feed.trade_id += 3
    feed.trade()
    (gap,) = feed.instrument.gaps
    assert (gap.stream, gap.expected, gap.was, gap.action) == ("trade", 2, 5, "trades are missing; carried on")
    assert len(feed.rows()) == 2


@pytest.mark.parametrize(
    ("event", "reason", "named"),
    [
        (Quote(4, 6, 11, 1, 11, 1), Reason.CROSSED, "best bid was 11, best ask 11"),
        (Quote(4, 6, 12, 1, 11, 1), Reason.CROSSED, "best bid was 12"),
        (Quote(4, 6, 0, 1, 11, 1), Reason.NOT_POSITIVE, "bid=0"),
        (Quote(4, 6, 10, 0, 11, 1), Reason.NOT_POSITIVE, "bid_size=0"),
        (Quote(4, 6, 10, 1, 11, 0), Reason.NOT_POSITIVE, "ask_size=0"),
        (Quote(4, 5, 10, 1, 11, 1), Reason.DUPLICATE, "update id was 5 after 5"),
        (Quote(4, 4, 10, 1, 11, 1), Reason.OUT_OF_ORDER, "update id was 4 after 5"),
        (Trade(3, 6, 10, 0, 1), Reason.NOT_POSITIVE, "size 0"),
        (Trade(3, 6, 0, 1, 1), Reason.NOT_POSITIVE, "price was 0"),
        (Trade(3, 5, 10, 1, 1), Reason.DUPLICATE, "trade id was 5 after 5"),
        (Trade(3, 3, 10, 1, 1), Reason.OUT_OF_ORDER, "trade id was 3 after 5"),
        (Depth(1, DepthUpdate(99, 100, 98, [(9, 9)], [])), Reason.DUPLICATE, "u was 100, the book is at 101"),
        (Depth(1, DepthUpdate(101, 101, 100, [(9, 9)], [])), Reason.DUPLICATE, "u was 101"),
        (Snapshot(2, 100, [(1, 1)], []), Reason.OUT_OF_ORDER, "lastUpdateId was 100, behind 101"),
        (Snapshot(2, 102, [(12, 1), (10, 1)], [(11, 1)]), Reason.CROSSED, "best bid was 12, best ask 11"),
        (Snapshot(2, 102, [(11, 1)], [(12, 1), (11, 2)]), Reason.CROSSED, "best bid was 11"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_what_came_before_is_refused_and_changes_nothing(
    event: Event, reason: Reason, named: str
) -> None:
    feed = Feed()
    feed.snapshot()
    feed.depth([(9, 1)])
    feed.trade_id = feed.quote_id = 4
    feed.trade()
    feed.quote()
    feed.rows()
    book, frame_ns = feed.instrument.book.book.levels(), feed.instrument.last_frame_ns
    error = feed.refused(event)
    assert error.reason is reason
    assert named in error.detail
    assert feed.rows() == []
    assert feed.instrument.book.book.levels() == book
    assert feed.instrument.book.synced
    assert (feed.instrument.last_frame_ns, feed.instrument.last_ingest_seq) == (frame_ns, feed.sequence - 1)
    feed.trade()
    feed.quote()
    feed.depth([(9, 0)])
    assert feed.instrument.gaps == [], "the next frames follow as if nothing had come"


def test_levels_of_size_zero_do_not_cross_a_snapshot() -> None:
    feed = Feed()
    feed.snapshot([(12, 0), (10, 1)], [(9, 0), (11, 1)])
    assert feed.instrument.book.book.levels() == ([(10, 1)], [(11, 1)])


@given(st.lists(st.sampled_from(["trade", "quote", "depth", "close", "flush"]), max_size=60), st.integers(1, 6))
def test_batches_are_numbered_without_a_gap_and_watermarks_never_go_back(kinds: list[str], batch_rows: int) -> None:
    feed = Feed(batch_rows=batch_rows)
    feed.snapshot()
    for kind in kinds:
        if kind == "close":
            list(feed.until(feed.recv_ns + 2 * STEP_NS))
        elif kind == "flush":
            feed.instrument.flush(feed.recv_ns - STEP_NS)
        elif kind == "depth":
            feed.depth([(9, 1), (8, 1)])
        else:
            getattr(feed, kind)()
    feed.instrument.flush(feed.recv_ns + 1)
    batches = feed.instrument.batches
    assert [batch.batch for batch in batches] == list(range(1, len(batches) + 1))
    assert {batch.epoch for batch in batches} == {7}
    marks = [batch.watermark_ns for batch in batches]
    assert marks == sorted(marks)
    for index, mark in enumerate(marks):
        assert all(row.recv_ns >= mark for row in rows_of(batches[index + 1 :])), "all before the mark has come"
    assert len(rows_of(batches)) == feed.instrument.counts["rows_logged"]
    sequences = [row.ingest_seq for row in rows_of(batches)]
    assert sequences == sorted(sequences)


def test_the_first_step_is_that_of_the_frame_that_synced_the_book() -> None:
    feed = Feed()
    feed.trade(later_ns=3 * STEP_NS)
    assert feed.next_step() is None
    feed.snapshot()
    assert feed.next_step() == step_of(feed.recv_ns)
    (closed,) = feed.until(step_close(step_of(feed.recv_ns)))
    assert closed.row.step == closed.window.step == closed.window.first_step == step_of(START) + 3
    assert closed.window.close_ns == START + 4 * STEP_NS
    assert closed.window.valid_rows == 1
    assert closed.window.epoch == closed.row.epoch == 7


def test_steps_close_when_nothing_came_and_each_names_the_frames_it_rests_on() -> None:
    feed = Feed()
    feed.snapshot()
    feed.trade()
    closed = list(feed.until(START + 3 * STEP_NS))
    feed.trade()
    closed += feed.until(START + 4 * STEP_NS)
    assert [entry.row.step - step_of(START) for entry in closed] == [0, 1, 2, 3]
    ranges = [(entry.row.first_ingest_seq, entry.row.last_ingest_seq) for entry in closed]
    assert ranges == [(1, 2), (0, 0), (0, 0), (3, 3)]
    windows = [(entry.window.first_ingest_seq, entry.window.last_ingest_seq) for entry in closed]
    assert windows == [(1, 2), (1, 2), (1, 2), (1, 3)]


def test_a_window_tells_its_close_its_book_and_its_contexts() -> None:
    feed = Feed()
    feed.snapshot([(10, 1)], [(12, 1)])
    refs = [ContextRef(kind="regime", key="k", version=3)]
    window = feed.instrument.close(refs).window
    assert (window.best_bid, window.best_ask, window.book_synced) == (10, 12, True)
    assert list(window.expected_contexts) == refs
    assert window.instrument == BTCUSDT
    assert (window.feature_set, window.feature_set_digest) == ("micro", MICRO.digest)
    assert (window.interval_ns, window.last_frame_ns) == (STEP_NS, feed.recv_ns)
    feed.depth(lost=1)
    window = feed.instrument.close([]).window
    assert (window.best_bid, window.best_ask, window.book_synced) == (0, 0, False)


def test_a_window_fills_row_by_row_and_then_moves_on() -> None:
    feed = Feed()
    feed.snapshot()
    windows = [entry.window for entry in feed.until(START + 70 * STEP_NS)]
    assert [window.valid_rows for window in windows] == [min(count, 64) for count in range(1, 71)]
    assert {window.first_step for window in windows} == {step_of(START)}
    assert np.isnan(window_matrix(windows[9])[: 64 - 10]).all()
    newest = feed.instrument.close([])
    row = np.frombuffer(newest.row.values, "<f4")
    np.testing.assert_array_equal(window_matrix(newest.window)[-1], row)
    assert newest.window.first_ingest_seq == 0, "the one frame is older than the window"


def feature(closed: ClosedStep, name: str) -> float:
    index = [entry.name for entry in MICRO.features].index(name)
    return float(np.frombuffer(closed.row.values, "<f4")[index])


def test_what_came_before_the_book_was_synced_belongs_to_no_step() -> None:
    feed = Feed()
    feed.trade(size=500)
    feed.snapshot()
    feed.trade(size=3_000)
    (closed,) = feed.until(START + STEP_NS)
    assert feature(closed, "signed_volume") == pytest.approx(3.0)


def test_after_a_rest_a_new_run_begins_and_the_window_warms_again() -> None:
    feed = Feed()
    feed.snapshot()
    list(feed.until(START + 70 * STEP_NS))
    feed.instrument.rest()
    assert feed.next_step() is None
    feed.trade(size=2_000, side=-1, later_ns=100 * STEP_NS)
    (closed,) = feed.until(step_close(step_of(feed.recv_ns)))
    assert closed.window.first_step == closed.window.step == step_of(START) + 170
    assert closed.window.valid_rows == 1
    assert closed.window.book_synced
    assert feature(closed, "signed_volume") == pytest.approx(-2.0), "the frame that ended the silence counts"


def test_after_a_rest_bars_begin_anew() -> None:
    feed = Feed()
    feed.instrument.observe_from(START - START % MINUTE_NS)
    feed.snapshot()
    feed.trade()
    list(feed.until(START + 5 * STEP_NS))
    feed.instrument.rest()
    feed.trade(later_ns=3 * MINUTE_NS)
    closed = [bars for entry in feed.until(START + 6 * MINUTE_NS) for bars in entry.bars]
    opened = [window.bar.open_ns // MINUTE_NS for _, window in closed]
    assert opened[0] == (START + 3 * MINUTE_NS) // MINUTE_NS + 1, "the bar in which the silence ended is partial"
    assert opened == list(range(opened[0], opened[-1] + 1))


def test_after_a_rest_without_a_book_no_step_closes_until_a_snapshot_came() -> None:
    feed = Feed()
    feed.snapshot()
    feed.depth(lost=1)
    list(feed.until(START + STEP_NS))
    feed.instrument.rest()
    feed.trade(later_ns=100 * STEP_NS)
    assert feed.next_step() is None
    feed.snapshot()
    assert feed.next_step() == step_of(feed.recv_ns)


MINUTE_START = START - START % MINUTE_NS + MINUTE_NS


def minutes(feed: Feed, count: int) -> list[tuple[str, int, int]]:
    """Trade once every ten seconds; return name, minute and number of trades of the bars whose windows came."""
    came = []
    for number in range(count * 6):
        at = MINUTE_START + number * 10 * NS
        for closed in feed.until(at):
            came += [(name, window.bar.open_ns, window.bar.trades) for name, window in closed.bars]
        feed.recv_ns = at
        feed.trade(later_ns=0)
    return [(name, (open_ns - MINUTE_START) // MINUTE_NS, trades) for name, open_ns, trades in came]


def test_a_bar_whose_start_was_not_seen_enters_no_window() -> None:
    feed = Feed()
    feed.instrument.observe_from(START)
    feed.snapshot()
    feed.trade()
    assert START < MINUTE_START
    assert minutes(feed, 4) == [("bar_1m", 0, 6), ("bar_1m", 1, 6), ("bar_1m", 2, 6)]


def test_without_a_known_start_no_bar_is_whole() -> None:
    feed = Feed()
    feed.snapshot()
    assert minutes(feed, 3) == []


def test_a_bar_that_does_not_follow_the_one_before_starts_its_window_and_its_features_anew() -> None:
    def whole(minute: int, price: int) -> Bar:
        text = Decimal(price)
        return bar(
            instrument=BTCUSDT.id, interval_ns=MINUTE_NS, open_ns=minute * MINUTE_NS,
            open=text, high=text + 1, low=text - 1, close=text, volume=text,
        )  # fmt: skip

    broken, fresh = (Bars(BTCUSDT, 1, "bar_1m", MINUTE_NS) for _ in range(2))
    for minute in range(30):
        broken.push(whole(minute, 100 + minute))
    window, alone = broken.push(whole(31, 90)), fresh.push(whole(31, 90))
    assert window is not None
    assert alone is not None
    assert (window.valid_rows, window.first_step) == (1, 31)
    assert window.values == alone.values, "nothing of before the gap is in it"


def test_bars_close_with_the_step_that_ends_them_and_say_what_they_rest_on() -> None:
    feed = Feed()
    feed.instrument.observe_from(MINUTE_START)
    feed.recv_ns = MINUTE_START
    feed.snapshot([(100, 1)], [(110, 1)])
    for price in (101, 108, 99, 104):
        feed.trade(price=price, size=2)
    closed = [entry for entry in feed.until(MINUTE_START + MINUTE_NS) if entry.bars]
    (only,) = closed
    assert only.row.close_ns == MINUTE_START + MINUTE_NS
    ((name, window),) = only.bars
    assert (name, window.feature_set, window.step) == ("bar_1m", "bar", MINUTE_START // MINUTE_NS)
    bar = window.bar
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == ("10.10", "10.80", "9.90", "10.40", "0.008")
    assert (window.close_ns, window.interval_ns) == (MINUTE_START + MINUTE_NS, MINUTE_NS)
    assert (window.last_ingest_seq, window.valid_rows) == (feed.sequence, 1)
    assert window.last_frame_ns == feed.instrument.last_frame_ns


def test_a_book_that_no_update_reaches_while_the_best_moves_is_dropped_for_everyone() -> None:
    feed, book = Feed(), OrderBook()
    feed.snapshot()
    feed.depth()
    list(feed.until(START + NS))
    feed.quote((12, 1), (13, 1))
    synced = [closed.window.book_synced for closed in feed.until(START + 4 * NS)]
    assert 20 <= synced.index(False) <= 21
    assert not any(synced[synced.index(False) :])
    (gap,) = feed.instrument.gaps
    assert (gap.stream, "though the best moved" in gap.action) == ("depth", True)
    assert feed.instrument.counts["anomalies.book_desync"] == 1
    read_into(book, feed.rows())
    assert book.levels() == ([], [])


@pytest.mark.parametrize("quote", [((10, 1), (11, 1)), None])
def test_a_quiet_book_is_kept_while_nothing_says_that_it_is_behind(quote: tuple[Level, Level] | None) -> None:
    feed = Feed()
    if quote is None:
        feed.quote((20, 1), (21, 1))  # older than the book: it says nothing of it
    feed.snapshot()
    if quote is not None:
        feed.quote(*quote)
    assert all(closed.window.book_synced for closed in feed.until(START + 60 * NS))
    assert not feed.instrument.gaps


def test_a_book_that_is_updated_is_kept_however_its_quotes_run_ahead() -> None:
    feed = Feed()
    feed.snapshot()
    for number in range(60):
        feed.depth([(5, number % 2)])
        feed.quote((12 + number % 3, 1), (15, 1))
        assert all(closed.window.book_synced for closed in feed.until(feed.recv_ns + NS // 5))


def test_a_book_in_doubt_is_dropped_once_and_readers_of_the_log_lose_it_too() -> None:
    feed, book = Feed(), OrderBook()
    feed.snapshot()
    feed.instrument.lose_book()
    feed.instrument.lose_book()
    read_into(book, feed.rows())
    assert (book.levels(), feed.instrument.counts["books_lost"]) == (([], []), 1)
    assert not feed.instrument.gaps
    feed.snapshot()
    feed.depth()
    assert feed.instrument.book.synced


def test_a_trade_that_is_refused_for_its_price_can_come_again() -> None:
    instrument = Instrument(BTCUSDT, epoch=1, batch_rows=100, adapter=BYBIT)
    instrument.take(Trade(1, 1, 100, 1, 1), recv_ns=START, ingest_seq=1)
    with pytest.raises(Rejected):
        instrument.take(Trade(1, 2, 1, 1, 1), recv_ns=START + 1, ingest_seq=2)
    instrument.take(Trade(1, 2, 100, 1, 1), recv_ns=START + 2, ingest_seq=3)
