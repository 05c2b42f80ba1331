"""Skew and book check: what is measured about a feed, against the slow and obvious way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan_gateway.book_check import BookCheck
from huracan_gateway.events import Quote
from huracan_gateway.instrument import Instrument
from huracan_gateway.recording import read_head, read_lines
from huracan_gateway.skew import WINDOW_NS, SkewEstimator

RECORDING = (
    Path(__file__).resolve().parents[4]
    / "shared/data/ticks/hftbacktest/binance_usdm_btcusdt_20240808.jsonl.gz"
)  # fmt: skip


gaps = st.integers(0, 10**9) | st.sampled_from([0, WINDOW_NS // 3, WINDOW_NS // 2, WINDOW_NS, WINDOW_NS + 1])


@given(st.lists(st.tuples(gaps, st.integers(-(10**10), 10**10)), max_size=30))
def test_skew_is_the_least_difference_of_the_last_minute(frames: list[tuple[int, int]]) -> None:
    estimator, recv_ns = SkewEstimator(), 0
    seen: list[tuple[int, int]] = []
    for later, difference in frames:
        recv_ns += later
        estimator.observe(recv_ns - difference, recv_ns)
        seen.append((recv_ns, difference))
        assert estimator.skew_ns() == min(was for at, was in seen if at >= recv_ns - WINDOW_NS)


def test_a_venue_clock_ahead_of_ours_is_a_negative_skew() -> None:
    estimator = SkewEstimator()
    assert (estimator.known, estimator.skew_ns()) == (False, 0)
    estimator.observe(2_270, 1_000)
    assert (estimator.known, estimator.skew_ns()) == (True, -1_270)


def quote(update_id: int, bid: int = 10, ask: int = 11) -> Quote:
    return Quote(0, update_id, bid, 1, ask, 1)


def best(bid: int = 10, ask: int = 11) -> tuple[tuple[int, int], tuple[int, int]]:
    return (bid, 1), (ask, 1)


def result(check: BookCheck) -> tuple[int, int]:
    return check.compared, check.matched


def test_an_update_is_compared_only_once_a_newer_quote_shows_which_was_the_last() -> None:
    check = BookCheck()
    check.quoted(quote(5, bid=9))
    check.updated(7, best(bid=10))
    check.quoted(quote(6, bid=10))
    check.quoted(quote(7, bid=10))
    assert result(check) == (0, 0)
    check.quoted(quote(8, bid=12))
    assert result(check) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [((10, 2), (11, 1)), ((10, 1), (11, 2)), ((9, 1), (11, 1)), ((10, 1), (12, 1)), (None, (11, 1)), ((10, 1), None)],
)
def test_a_wrong_price_or_size_on_either_side_is_no_match(wrong: tuple[tuple[int, int], tuple[int, int]]) -> None:
    check = BookCheck()
    check.quoted(quote(5))
    check.updated(5, wrong)
    check.quoted(quote(6))
    assert result(check) == (1, 0)
    assert check.ratio == 0


def test_updates_that_were_buffered_are_compared_with_the_quotes_of_their_time() -> None:
    check = BookCheck()
    for update_id in range(1, 20):
        check.quoted(quote(update_id, bid=update_id, ask=100))
    for update_id in (3, 8, 15):
        check.updated(update_id, best(bid=update_id, ask=100))
    assert result(check) == (3, 3)


def test_an_update_before_the_first_quote_is_not_compared() -> None:
    check = BookCheck()
    check.updated(4, best())
    check.quoted(quote(5))
    assert result(check) == (0, 0)
    assert check.ratio is None


def test_what_still_waits_at_the_end_is_decided_then() -> None:
    check = BookCheck()
    check.quoted(quote(5))
    check.updated(6, best())
    check.updated(7, best(bid=9))
    assert result(check) == (0, 0)
    check.finish()
    assert result(check) == (2, 1)
    assert check.ratio == 0.5


def test_the_newest_quote_is_known() -> None:
    check = BookCheck()
    assert check.last_quote is None
    for update_id in (5, 6):
        check.quoted(quote(update_id))
    assert check.last_quote == quote(6)


def test_what_waits_when_the_book_is_lost_is_not_compared() -> None:
    check = BookCheck()
    check.quoted(quote(5))
    check.updated(6, best(bid=1))
    check.lost()
    check.quoted(quote(7))
    check.finish()
    assert result(check) == (0, 0)


def of_increasing_ids() -> st.SearchStrategy[list[tuple[str, int, int]]]:
    entries = st.tuples(st.sampled_from(["quote", "update"]), st.integers(1, 3), st.integers(1, 2))
    return st.lists(entries, max_size=40)


@given(of_increasing_ids())
def test_the_check_is_that_of_the_definition(entries: list[tuple[str, int, int]]) -> None:
    check, ids = BookCheck(), Counter[str]()
    quotes: list[tuple[int, int]] = []
    updates: list[tuple[int, int]] = []
    for kind, later, bid in entries:
        ids[kind] += later
        if kind == "quote":
            check.quoted(quote(ids[kind], bid=bid))
            quotes.append((ids[kind], bid))
        else:
            check.updated(ids[kind], best(bid=bid))
            updates.append((ids[kind], bid))
    check.finish()
    last = [next((bid for at, bid in reversed(quotes) if at <= final), None) for final, _ in updates]
    expected = [was == bid for was, (_, bid) in zip(last, updates, strict=True) if was is not None]
    assert result(check) == (len(expected), sum(expected))


@pytest.mark.usefixtures("untraced")
def test_the_book_of_the_real_recording_is_the_venues_at_every_update() -> None:
    if not RECORDING.exists():
        pytest.skip(f"needs {RECORDING}")
    head = read_head(RECORDING)
    decoder, skew = head.adapter.decoder(head.definition), SkewEstimator()
    instrument = Instrument(head.definition, epoch=1, batch_rows=4_096, adapter=head.adapter)
    kinds = Counter[str]()
    for sequence, line in enumerate(read_lines(RECORDING), 1):
        kind, (event,) = decoder.decode(line.raw)
        kinds[kind] += 1
        skew.observe(event.event_ns, line.recv_ns)
        instrument.take(event, recv_ns=line.recv_ns, ingest_seq=sequence)
        instrument.batches.clear()
    instrument.check.finish()
    assert kinds == {"depth": 6_551, "quote": 66_089, "trade": 21_313, "snapshot": 1}
    assert result(instrument.check) == (6_547, 6_547)
    assert instrument.gaps == []
    assert instrument.book.synced
    assert -1.3e9 < skew.skew_ns() < -1.2e9
