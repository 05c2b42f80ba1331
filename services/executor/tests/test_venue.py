"""The paper venue against a second, naive model of it, and against its own record."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.bus import subjects
from huracan.contracts.execution import ExecutionReport, Order, OrderReason, OrderState, Side
from huracan.contracts.journal import JournalEntry, journal_entry
from huracan.contracts.market import FLAG_FIRST, FLAG_UNSYNCED, TickBatch, TickKind
from huracan.errors import Fatal
from huracan_executor.config import PaperVenueConfig
from huracan_executor.venue import PaperVenue

from .market import MS, SNAPSHOT, Row, batch_of, snapshot
from .orders import first_revision

BUY, SELL = Side.SIDE_BUY, Side.SIDE_SELL
DEPTH, QUOTE = int(TickKind.TICK_KIND_DEPTH), int(TickKind.TICK_KIND_QUOTE)
KEY = subjects.venue_key("paper")
CONFIG = PaperVenueConfig(latency_to_ms=10, latency_back_ms=7)


def _order(number: int, side: Side, quantity: int, limit: int, valid_until_ns: int = 10**15) -> Order:
    return first_revision(number, side, quantity, limit, valid_until_ns=valid_until_ns)


BOOK = snapshot(1 * MS, [(999, 5), (998, 10)], [(1001, 5), (1002, 10), (1004, 50)])


def _venue() -> PaperVenue:
    venue = PaperVenue(CONFIG)
    assert venue.advance(batch_of(BOOK, 2 * MS)) == []
    return venue


def _takes(report: ExecutionReport) -> list[tuple[int, int]]:
    return [(fill.price, fill.quantity) for fill in report.fills]


def test_an_order_walks_the_levels_within_its_limit_and_the_rest_is_cancelled() -> None:
    venue = _venue()
    venue.submit(_order(1, BUY, 20, 1003), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of([], 100 * MS))
    assert _takes(report) == [(1001, 5), (1002, 10)]
    assert report.order.state == OrderState.ORDER_STATE_CANCELED
    assert report.order.reason == OrderReason.ORDER_REASON_UNSPECIFIED
    assert report.order.filled_quantity == 15


def test_a_sell_takes_bids_and_a_full_fill_is_filled() -> None:
    venue = _venue()
    venue.submit(_order(1, SELL, 7, 990), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of([], 100 * MS))
    assert _takes(report) == [(999, 5), (998, 2)]
    assert report.order.state == OrderState.ORDER_STATE_FILLED


@pytest.mark.parametrize(("side", "limit"), [(BUY, 1000), (SELL, 1000)])
def test_nothing_marketable_is_cancelled_with_no_liquidity(side: Side, limit: int) -> None:
    venue = _venue()
    venue.submit(_order(1, side, 1, limit), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of([], 100 * MS))
    assert report.order.state == OrderState.ORDER_STATE_CANCELED
    assert report.order.reason == OrderReason.ORDER_REASON_NO_LIQUIDITY
    assert not report.fills
    assert report.order.filled_quantity == 0


def test_fees_and_times_are_exact() -> None:
    venue = _venue()
    venue.submit(_order(1, BUY, 7, 1002), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of([], 100 * MS))
    # 100.1 x 0.005 and 100.2 x 0.002, 5 bps each
    assert [fill.fee for fill in report.fills] == ["0.00025025", "0.0001002"]
    assert {fill.matched_ns for fill in report.fills} == {12 * MS}
    assert {fill.received_ns for fill in report.fills} | {report.received_ns} == {19 * MS}


def test_an_order_meets_the_book_of_its_arrival_not_of_its_sending() -> None:
    rows: list[Row] = [
        (12 * MS, DEPTH, FLAG_FIRST, -1, 1001, 0),
        (12 * MS + 1, DEPTH, FLAG_FIRST, -1, 1002, 0),
    ]
    venue = _venue()
    venue.submit(_order(1, BUY, 1, 1100), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of(rows, 13 * MS))
    assert _takes(report) == [(1002, 1)]  # the row at its arrival counts, the next one does not


def test_a_watermark_at_the_arrival_does_not_match_yet() -> None:
    venue = _venue()
    venue.submit(_order(1, BUY, 1, 1100), sent_ns=2 * MS)
    assert venue.advance(batch_of([], 12 * MS)) == []
    assert len(venue.advance(batch_of([], 12 * MS + 1))) == 1


def test_an_order_never_arrives_before_what_the_venue_has_seen() -> None:
    venue = _venue()
    venue.advance(batch_of([], 500 * MS))
    accepted = venue.submit(_order(1, BUY, 1, 1100), sent_ns=2 * MS)
    assert accepted is not None
    assert accepted.updated_ns == 500 * MS
    assert accepted.state == OrderState.ORDER_STATE_ACCEPTED


def test_taken_depth_stays_taken_until_the_next_frame_of_the_book() -> None:
    venue = _venue()
    for number in (1, 2):
        venue.submit(_order(number, BUY, 4, 1001), sent_ns=2 * MS)
    quote: list[Row] = [(15 * MS, QUOTE, FLAG_FIRST, -1, 1001, 5)]
    first, second = venue.advance(batch_of(quote, 16 * MS))
    assert (_takes(first), _takes(second)) == ([(1001, 4)], [(1001, 1)])
    venue.submit(_order(3, BUY, 4, 1001), sent_ns=10 * MS)
    (third,) = venue.advance(batch_of([], 30 * MS))
    assert _takes(third) == []
    venue.submit(_order(4, BUY, 4, 1001), sent_ns=30 * MS)
    bid_only: list[Row] = [(31 * MS, DEPTH, FLAG_FIRST, 1, 997, 1)]
    (fourth,) = venue.advance(batch_of(bid_only, 60 * MS))
    assert _takes(fourth) == [(1001, 4)]


def test_rows_of_an_unsynced_book_change_nothing() -> None:
    venue = _venue()
    rows: list[Row] = [(3 * MS, DEPTH, FLAG_FIRST | FLAG_UNSYNCED, -1, 1001, 0)]
    venue.submit(_order(1, BUY, 1, 1100), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of(rows, 60 * MS))
    assert _takes(report) == [(1001, 1)]


def test_the_first_row_of_a_snapshot_clears_the_book() -> None:
    venue = _venue()
    venue.submit(_order(1, BUY, 9, 9999), sent_ns=2 * MS)
    (report,) = venue.advance(batch_of(snapshot(5 * MS, [(900, 1)], [(2000, 3)]), 60 * MS))
    assert _takes(report) == [(2000, 3)]


def test_a_new_definition_version_drops_the_book_in_old_increments() -> None:
    venue = _venue()
    venue.submit(_order(1, BUY, 1, 9999), sent_ns=2 * MS)
    batch = batch_of([], 60 * MS)
    batch.instrument.id.definition_version = 2
    (report,) = venue.advance(batch)
    assert report.order.reason == OrderReason.ORDER_REASON_NO_LIQUIDITY


def test_an_order_that_arrives_after_its_validity_is_rejected_late() -> None:
    venue = _venue()
    venue.submit(_order(1, BUY, 1, 1100, valid_until_ns=12 * MS - 1), sent_ns=2 * MS)
    venue.submit(_order(2, BUY, 1, 1100, valid_until_ns=12 * MS), sent_ns=2 * MS)
    late, timely = venue.advance(batch_of([], 60 * MS))
    assert (late.order.state, late.order.reason) == (
        OrderState.ORDER_STATE_REJECTED,
        OrderReason.ORDER_REASON_LATE,
    )
    assert timely.order.state == OrderState.ORDER_STATE_FILLED


def test_the_same_client_order_id_again_is_ignored() -> None:
    venue = _venue()
    assert venue.submit(_order(1, BUY, 1, 1100), sent_ns=2 * MS) is not None
    assert venue.submit(_order(1, BUY, 1, 1100), sent_ns=3 * MS) is None
    assert len(venue.advance(batch_of([], 60 * MS))) == 1
    assert venue.submit(_order(1, BUY, 1, 1100), sent_ns=70 * MS) is None
    assert venue.advance(batch_of([], 100 * MS)) == []


def test_a_query_tells_what_the_venue_knows() -> None:
    venue = _venue()
    order = _order(1, BUY, 1, 1100)
    assert venue.query(order.client_order_id) is None
    venue.submit(order, sent_ns=2 * MS)
    waiting = venue.query(order.client_order_id)
    assert waiting is not None
    assert waiting.order.state == OrderState.ORDER_STATE_ACCEPTED
    (report,) = venue.advance(batch_of([], 60 * MS))
    assert venue.query(order.client_order_id) == report


def test_a_record_with_a_report_of_an_unknown_order_is_refused() -> None:
    report = ExecutionReport(order=_order(1, BUY, 1, 1100))
    with pytest.raises(Fatal, match="never accepted"):
        PaperVenue(CONFIG).restore([journal_entry(KEY, report, epoch=1, at_ns=0)])


# A naive model: everything offline, books rebuilt from scratch, no heap, no incremental state.


@dataclass
class _Event:
    batch: TickBatch | None = None
    rows: list[Row] | None = None
    watermark_ns: int = 0
    order: Order | None = None
    sent_ns: int = 0


_Item = tuple[str, int, Row | None, Order | None]
_MODEL_TYPES = (DEPTH, SNAPSHOT)


def _flat(events: list[_Event]) -> list[_Item]:
    """Lay all out in one line: rows, watermarks and orders."""
    line: list[_Item] = []
    for event in events:
        if event.order is not None:
            line.append(("order", event.sent_ns, None, event.order))
            continue
        line += [("row", row[0], row, None) for row in event.rows or []]
        line.append(("mark", event.watermark_ns, None, None))
    return line


def _book_before(line: list[_Item], end: int) -> tuple[dict[tuple[int, int], int], int]:
    book: dict[tuple[int, int], int] = {}
    changes = 0
    for _, _, row, _ in line[:end]:
        if row is None or row[1] not in _MODEL_TYPES or row[2] & FLAG_UNSYNCED:
            continue
        if row[1] == SNAPSHOT and row[2] & FLAG_FIRST:
            book = {}
        book[row[3], row[4]] = row[5]
        changes += 1
    return book, changes


def _model(events: list[_Event]) -> dict[str, tuple[int, list[tuple[int, int]]]]:
    """Return arrival and takes of each order that is matched within the events, by client order id."""
    line = _flat(events)
    seen = [0]
    for what, ns, _, _ in line:
        seen.append(max(seen[-1], ns) if what != "order" else seen[-1])
    waiting: list[tuple[int, int, int, Order]] = []
    for index, (what, ns, _, order) in enumerate(line):
        if what == "order" and order is not None:
            if any(order.client_order_id == known.client_order_id for *_, known in waiting):
                continue
            waiting.append((max(ns + 10 * MS, seen[index]), len(waiting), index, order))
    outcome: dict[str, tuple[int, list[tuple[int, int]]]] = {}
    taken: dict[tuple[int, int, int], int] = {}
    for arrival, _, index, order in sorted(waiting, key=lambda item: item[:2]):
        later = [at for at in range(index, len(line)) if line[at][0] != "order" and line[at][1] > arrival]
        if not later:
            continue
        book, changes = _book_before(line, later[0])
        takes: list[tuple[int, int]] = []
        side = -1 if order.side == BUY else 1
        left = order.quantity if arrival <= order.valid_until_ns else 0
        prices = [price for at, price in book if at == side and -side * (order.limit_price - price) >= 0]
        for price in sorted(prices, key=lambda price: -side * price):
            got = min(left, book[side, price] - taken.get((changes, side, price), 0))
            if got > 0:
                takes.append((price, got))
                taken[changes, side, price] = taken.get((changes, side, price), 0) + got
                left -= got
        outcome[order.client_order_id] = (arrival, takes)
    return outcome


@dataclass(frozen=True)
class _Ticks:
    rows: list[tuple[int, TickKind, int, int, int, int]]
    """Milliseconds since the row before, kind, flags, side, price, size."""
    pause_ms: int


@dataclass(frozen=True)
class _Send:
    number: int
    side: Side
    quantity: int
    limit: int
    shift_ms: int


_Script = list[_Ticks | _Send]
_row = st.tuples(
    st.integers(0, 4),
    st.sampled_from([DEPTH, DEPTH, DEPTH, SNAPSHOT, QUOTE]),
    st.sampled_from([0, FLAG_FIRST, FLAG_FIRST, FLAG_UNSYNCED]),
    st.sampled_from([1, -1]),
    st.integers(1, 12),
    st.integers(0, 6),
)
_ticks = st.builds(_Ticks, rows=st.lists(_row, max_size=8), pause_ms=st.sampled_from([0, 0, 1, 5, 12]))
_send = st.builds(
    _Send,
    number=st.integers(1, 12),
    side=st.sampled_from([BUY, SELL]),
    quantity=st.integers(1, 12),
    limit=st.integers(1, 12),
    shift_ms=st.integers(-15, 5),
)
_scripts: st.SearchStrategy[_Script] = st.lists(st.one_of(_ticks, _send), max_size=20)


def _events(script: _Script) -> list[_Event]:
    """Make a script concrete: times only grow, some orders repeat an id, some are nearly out of time."""
    events: list[_Event] = []
    now, batches = 0, 0
    for step in script:
        if isinstance(step, _Ticks):
            rows: list[Row] = []
            for gap, kind, *rest in step.rows:
                now += gap * MS
                rows.append((now, int(kind), rest[0], rest[1], rest[2], rest[3]))
            batches += 1
            now += step.pause_ms * MS
            events.append(_Event(batch=batch_of(rows, now, batches), rows=rows, watermark_ns=now))
            continue
        valid_ns = now + ((30 + step.shift_ms) if step.number % 3 else 9) * MS
        order = _order(step.number, step.side, step.quantity, step.limit, valid_ns)
        events.append(_Event(order=order, sent_ns=max(now + step.shift_ms * MS, 0)))
    return events


def _replay(venue: PaperVenue, events: list[_Event], record: list[JournalEntry]) -> list[ExecutionReport]:
    reports: list[ExecutionReport] = []
    for event in events:
        if event.batch is not None:
            new = venue.advance(event.batch)
            record += [journal_entry(KEY, report, epoch=1, at_ns=report.received_ns) for report in new]
            reports += new
        elif event.order is not None:
            accepted = venue.submit(event.order, event.sent_ns)
            if accepted is not None:
                record.append(journal_entry(KEY, accepted, epoch=1, at_ns=accepted.updated_ns))
    return reports


@settings(max_examples=300)
@given(script=_scripts)
def test_the_venue_agrees_with_the_naive_model(script: _Script) -> None:
    events = _events(script)
    reports = _replay(PaperVenue(CONFIG), events, [])
    wanted = _model(events)
    assert {report.order.client_order_id: _takes(report) for report in reports} == {
        client_id: takes for client_id, (_, takes) in wanted.items()
    }
    for report in reports:
        arrival, takes = wanted[report.order.client_order_id]
        filled = sum(quantity for _, quantity in takes)
        assert report.order.filled_quantity == filled <= report.order.quantity
        assert report.order.updated_ns == arrival
        assert report.received_ns == arrival + 7 * MS
        assert (report.order.state == OrderState.ORDER_STATE_FILLED) == (filled == report.order.quantity)
        late = arrival > report.order.valid_until_ns
        assert (report.order.state == OrderState.ORDER_STATE_REJECTED) == late


@settings(max_examples=150)
@given(script=_scripts, cut=st.integers(0, 20), kept=st.floats(0, 1))
def test_a_venue_rebuilt_from_its_record_gives_the_same_reports_and_doubles_nothing(
    script: _Script, cut: int, kept: float
) -> None:
    """Killed after `cut` events; the record may lack the last reports, never an acceptance that was returned."""
    events = _events(script)
    whole = _replay(PaperVenue(CONFIG), events, [])
    record: list[JournalEntry] = []
    before = _replay(PaperVenue(CONFIG), events[:cut], record)
    while record and record[-1].HasField("execution_report") and kept < 0.5:
        record.pop()
    on_record = {e.execution_report.order.client_order_id for e in record if e.HasField("execution_report")}
    rebuilt = PaperVenue(CONFIG)
    rebuilt.restore([*record, *(entry for entry in record if entry.HasField("order"))])
    ticks = [event for event in events[:cut] if event.batch is not None]
    again = _replay(rebuilt, ticks, [])
    assert again == [report for report in before if report.order.client_order_id not in on_record]
    for report in before:
        assert rebuilt.query(report.order.client_order_id) == report
    rest = _replay(rebuilt, events[cut:], [])
    assert before + rest == whole
