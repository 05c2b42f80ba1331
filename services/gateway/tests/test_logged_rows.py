"""Rows of features made again from the log of ticks: whatever they rest on is in it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from huracan.clock import STEP_NS, step_close, step_of
from huracan.features.logged import micro_rows
from huracan.features.venues import VenueTop
from huracan.market.book import Level
from huracan_gateway.events import Event, Liquidation, Mark
from huracan_gateway.reject import Rejected

from .fed_instrument import START, Feed, event_of, levels

KINDS = [
    "depth",
    "depth",
    "depth",
    "lost",
    "again",
    "snapshot",
    "old snapshot",
    "trade",
    "quote",
    "liquidation",
    "mark",
]


def any_event(feed: Feed, kind: str, bids: list[Level], asks: list[Level]) -> Event:
    if kind == "liquidation":
        return Liquidation(5, 9, 1 + len(asks), 1 if bids else -1)
    if kind == "mark":
        return Mark(6, Decimal(9 + len(bids)), Decimal(10) if asks else None, Decimal("0.0001") * len(asks), START * 2)
    return event_of(feed, kind, bids, asks)


tapes = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        levels(1, 9),
        levels(8, 16),
        st.sampled_from([0, 1_000_000, 30_000_000, 120_000_000]),
        st.sampled_from(["on", "on", "on", "on", "on", "lose", "rest"]),
    ),
    max_size=60,
)


LOST_AND_FOUND_IN_THE_FIRST_STEP: list[tuple[str, list[Level], list[Level], int, str]] = [
    ("snapshot", [], [], 0, "lose"),
    ("snapshot", [(1, 1)], [(8, 1)], 0, "on"),
    ("trade", [], [(9, 1)], 120_000_000, "on"),
]


@settings(deadline=None)
@example(LOST_AND_FOUND_IN_THE_FIRST_STEP, 1)
@given(tapes, st.integers(1, 12))
def test_rows_made_again_from_the_log_are_those_of_the_gateway_to_the_byte(
    tape: list[tuple[str, list[Level], list[Level], int, str]], batch_rows: int
) -> None:
    feed, rows, beside = Feed(batch_rows=batch_rows), dict[int, bytes](), VenueTop(1.0, 0.5, 3.0)
    for kind, bids, asks, later_ns, then in tape:
        while (step := feed.next_step()) is not None and step_close(step) <= feed.recv_ns + later_ns:
            rows[step] = feed.instrument.close([], [beside]).row.values
        try:
            feed.take(any_event(feed, kind, bids, asks), later_ns=later_ns)
        except Rejected:
            continue
        if then == "lose":
            feed.instrument.lose_book()
        elif then == "rest" and (step := feed.next_step()) is not None:  # it comes after steps without a frame
            rows[step] = feed.instrument.close([], [beside]).row.values
            feed.instrument.rest()
            feed.recv_ns += 3 * STEP_NS
    feed.rows()
    again = micro_rows(feed.logged, list(rows), lambda _step: [beside])
    assert [row.astype("<f4").tobytes() for row in again] == list(rows.values())


def test_rows_are_not_made_again_from_a_log_that_ends_before_they_close() -> None:
    feed = Feed()
    feed.snapshot()
    feed.rows()
    with pytest.raises(ValueError, match="end before step"):
        micro_rows(feed.logged, [step_of(START)])
