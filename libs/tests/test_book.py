"""The order book: a synced book is the venue's book, and a book that may be wrong says so."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.errors import SequenceGap
from huracan.market.book import ASK, BID, Applied, DepthUpdate, Level, OrderBook, SyncedBook

Sides = tuple[dict[int, int], dict[int, int]]

sides = st.sampled_from([BID, ASK])
changes = st.tuples(sides, st.integers(1, 8), st.integers(0, 3))


def best_first(model: Sides) -> tuple[list[Level], list[Level]]:
    bids, asks = model
    return sorted(bids.items(), reverse=True), sorted(asks.items())


def change(model: Sides, side: int, price: int, size: int) -> None:
    levels = model[side == ASK]
    if size:
        levels[price] = size
    else:
        levels.pop(price, None)


def update(first: int, final: int, previous: int, *changed: tuple[int, int, int]) -> DepthUpdate:
    bids, asks = ([(price, size) for at, price, size in changed if at == side] for side in (BID, ASK))
    return DepthUpdate(first, final, previous, bids, asks)


def synced_at(final: int, bids: list[Level] | None = None, asks: list[Level] | None = None) -> SyncedBook:
    book = SyncedBook()
    book.snapshot(final, bids or [(10, 1)], asks or [(11, 1)])
    return book


@settings(deadline=None)
@given(st.lists(changes), st.integers(0, 9))
def test_a_book_holds_what_was_set_last_best_first(changed: list[tuple[int, int, int]], depth: int) -> None:
    book, model = OrderBook(), ({}, {})  # type: OrderBook, Sides
    for side, price, size in changed:
        book.set_level(side, price, size)
        change(model, side, price, size)
    bids, asks = best_first(model)
    assert book.levels() == (bids, asks)
    assert (list(book.walk(BID)), list(book.walk(ASK))) == (bids, asks)
    assert (book.bids(depth), book.asks(depth)) == (bids[:depth], asks[:depth])
    assert book.best_bid() == (bids[0] if bids else None)
    assert book.best_ask() == (asks[0] if asks else None)
    book.clear()
    assert book.levels() == ([], [])


def test_a_size_of_zero_removes_a_level_and_may_name_one_that_is_not_there() -> None:
    book = OrderBook()
    book.set_level(BID, 10, 5)
    book.set_level(BID, 10, 0)
    book.set_level(ASK, 12, 0)
    assert book.levels() == ([], [])


@dataclass
class Venue:
    """What a venue does: its book after each update, and the update itself."""

    updates: list[DepthUpdate] = field(default_factory=list)
    books: list[Sides] = field(default_factory=lambda: [({}, {})])
    finals: list[int] = field(default_factory=lambda: [100])

    def add(self, width: int, skipped: int, changed: list[tuple[int, int, int]]) -> None:
        previous = self.finals[-1]
        first = previous + 1 + skipped
        bids, asks = (dict(side) for side in self.books[-1])
        for side, price, size in changed:
            change((bids, asks), side, price, size)
        self.updates.append(update(first, first + width, previous, *changed))
        self.books.append((bids, asks))
        self.finals.append(first + width)

    def inside(self, index: int, changed: int) -> tuple[int, Sides]:
        """Return id and book at a moment inside an update, when some of its levels have changed."""
        entry = self.updates[index]
        bids, asks = (dict(side) for side in self.books[index])
        levels = [(BID, *level) for level in entry.bids] + [(ASK, *level) for level in entry.asks]
        for side, price, size in levels if entry.first == entry.final else levels[:changed]:
            change((bids, asks), side, price, size)
        return entry.first, (bids, asks)


@st.composite
def venues(draw: st.DrawFn) -> Venue:
    venue = Venue()
    one_change_a_level = st.lists(changes, max_size=4, unique_by=lambda entry: entry[:2])
    for entry in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), one_change_a_level), min_size=1)):
        venue.add(*entry)
    return venue


@settings(deadline=None)
@given(st.data())
def test_a_synced_book_is_the_venues_book_whatever_is_lost_doubled_or_late(data: st.DataObject) -> None:
    venue = data.draw(venues())
    book, settled = SyncedBook(), False
    count = len(venue.updates)
    actions = st.tuples(st.sampled_from(["update", "again", "lose", "snapshot", "inside"]), st.integers(0, count - 1))
    at = 0
    for action, index in data.draw(st.lists(actions, max_size=3 * count)):
        if action == "lose":
            at += 1
        elif action in ("update", "again"):
            if action == "update":
                index, at = at, at + 1
            if index < count:
                settled = apply(book, venue.updates[index]) or (settled and book.synced)
        else:
            final, state = venue.finals[index], venue.books[index]
            if action == "inside":
                final, state = venue.inside(index, 1)
            stale = book.synced and final < book.final
            for entry in book.snapshot(final, *best_first(state)):
                settled = apply(book, entry) or (settled and book.synced)
            settled = settled if stale else book.final in venue.finals
        if book.synced and settled:
            assert book.book.levels() == best_first(venue.books[venue.finals.index(book.final)])
        if not book.synced:
            assert book.book.levels() == ([], []), "a book that may be wrong shows nothing"


def apply(book: SyncedBook, entry: DepthUpdate) -> bool:
    """Apply an update; return whether it changed the book."""
    synced, final = book.synced, book.final
    try:
        applied = book.apply(entry)
    except SequenceGap:
        assert synced
        assert not book.synced
        return False
    assert (applied is Applied.BUFFERED) is not synced
    assert applied is Applied.APPLIED or book.final == final
    return applied is Applied.APPLIED


@settings(deadline=None)
@given(venues(), st.data())
def test_a_feed_without_losses_syncs_at_any_snapshot_and_stays_synced(venue: Venue, data: st.DataObject) -> None:
    count = len(venue.updates)
    taken = data.draw(st.integers(0, count), label="the update after which the snapshot was taken")
    arrives = data.draw(st.integers(max(taken - 1, 0), count), label="the updates received before it arrived")
    book = SyncedBook()
    for entry in venue.updates[:arrives]:
        assert book.apply(entry) is Applied.BUFFERED
    for entry in book.snapshot(venue.finals[taken], *best_first(venue.books[taken])):
        book.apply(entry)
    for entry in venue.updates[arrives:]:
        book.apply(entry)
    assert book.synced
    assert book.final == venue.finals[-1]
    assert book.book.levels() == best_first(venue.books[-1])


def test_an_update_that_does_not_follow_is_a_gap_and_nothing_is_known_until_the_next_snapshot() -> None:
    book = synced_at(100)
    assert book.apply(update(101, 105, 100, (BID, 9, 4))) is Applied.APPLIED
    with pytest.raises(SequenceGap, match="pu was 107, does not follow u 105"):
        book.apply(update(108, 110, 107, (BID, 9, 5)))
    assert not book.synced
    assert book.book.levels() == ([], [])
    assert book.apply(update(111, 112, 110)) is Applied.BUFFERED
    assert not book.synced


def test_the_update_that_showed_the_gap_is_applied_after_the_next_snapshot() -> None:
    book = synced_at(100)
    with pytest.raises(SequenceGap):
        book.apply(update(108, 110, 107, (BID, 9, 5)))
    book.apply(update(111, 112, 110, (ASK, 11, 7)))
    for entry in book.snapshot(109, [(10, 1)], [(11, 1)]):
        assert book.apply(entry) is Applied.APPLIED
    assert book.synced
    assert book.final == 112
    assert book.book.levels() == ([(10, 1), (9, 5)], [(11, 7)])


def test_updates_from_before_a_gap_are_not_mixed_with_those_after_it() -> None:
    book = SyncedBook()
    book.apply(update(91, 95, 90, (BID, 1, 1)))
    book.drop()
    assert book.snapshot(92, [(10, 1)], [(11, 1)]) == []


def test_buffered_updates_are_given_back_once() -> None:
    book = SyncedBook()
    book.apply(update(91, 95, 90))
    assert len(book.snapshot(93, [(10, 1)], [(11, 1)])) == 1
    assert book.snapshot(94, [(10, 1)], [(11, 1)]) == []


def test_the_first_update_after_a_snapshot_may_begin_before_it_but_must_reach_it() -> None:
    book = synced_at(100)
    assert book.apply(update(90, 99, 89)) is Applied.OUTDATED
    assert book.apply(update(95, 104, 94, (BID, 9, 4))) is Applied.APPLIED
    with pytest.raises(SequenceGap):
        book.apply(update(103, 108, 102))  # only the first may span: from then on pu decides


def test_the_first_update_after_a_snapshot_may_end_exactly_at_it() -> None:
    book = synced_at(100)
    assert book.apply(update(95, 100, 94, (BID, 9, 4))) is Applied.APPLIED
    assert book.apply(update(95, 100, 94, (BID, 9, 4))) is Applied.OUTDATED
    assert book.apply(update(101, 101, 100)) is Applied.APPLIED


def test_a_first_update_that_begins_after_the_snapshot_is_a_gap() -> None:
    book = synced_at(100)
    with pytest.raises(SequenceGap):
        book.apply(update(103, 105, 102))


def test_an_update_sent_twice_changes_nothing_the_second_time() -> None:
    book = synced_at(100)
    book.apply(update(101, 105, 100, (BID, 9, 4)))
    book.apply(update(106, 106, 105, (BID, 9, 0)))
    assert book.apply(update(101, 105, 100, (BID, 9, 4))) is Applied.OUTDATED
    assert book.apply(update(106, 106, 105, (BID, 9, 7))) is Applied.OUTDATED
    assert book.book.levels() == ([(10, 1)], [(11, 1)])


def test_a_snapshot_older_than_the_book_changes_nothing() -> None:
    book = synced_at(100)
    book.apply(update(101, 105, 100, (BID, 9, 4)))
    assert book.snapshot(104, [(1, 1)], [(2, 2)]) == []
    assert book.final == 105
    assert book.book.levels() == ([(10, 1), (9, 4)], [(11, 1)])


def test_a_later_snapshot_replaces_the_book_whole() -> None:
    book = synced_at(100)
    book.snapshot(200, [(20, 2)], [(21, 3), (22, 0)])
    assert book.book.levels() == ([(20, 2)], [(21, 3)])
    assert book.apply(update(195, 203, 150)) is Applied.APPLIED


def test_updates_that_wait_for_a_snapshot_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyncedBook, "_BUFFER", 3)
    book = SyncedBook()
    for number in range(5):
        book.apply(update(number + 1, number + 1, number))
    assert [entry.final for entry in book.snapshot(3, [], [])] == [3, 4, 5]
