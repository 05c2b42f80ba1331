"""What an instrument does about what is out of the ordinary: tag, hold or drop."""

from __future__ import annotations

import pytest

from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import FLAG_ANOMALY, AnomalyKind, TickKind, tick_columns
from huracan_gateway.anomaly import AnomalyConfig, Policies, Policy
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.events import Quote, Snapshot
from huracan_gateway.instrument import Instrument
from huracan_gateway.quality import QualityConfig
from huracan_gateway.reject import Reason, Rejected

NS, MS = 10**9, 10**6
START = 1_723_161_255 * NS
BTCUSDT = ADAPTER.implied("BTCUSDT", "0.10", "0.001")
CALM_S = 20
JUMP = 5_000
"""Increments: about 5 % of the price."""


def quoted(policy: Policy) -> tuple[Instrument, Rejected | None]:
    """Return an instrument after a calm market and a jump, and why the frame of the jump was refused."""
    anomalies = AnomalyConfig(policies=Policies(price_jump=policy), warm_up_s=5.0)
    quality = QualityConfig(anomalies=anomalies, book_silent_ms=3_600_000)  # only quotes come
    instrument = Instrument(BTCUSDT, epoch=1, batch_rows=100_000, adapter=ADAPTER, quality=quality)
    at_ns = START
    instrument.take(Snapshot(at_ns, 1, [(100_000, 5)], [(100_001, 5)]), recv_ns=at_ns, ingest_seq=1)
    for number in range(2, CALM_S * 20):
        at_ns += 50 * MS
        bid = 100_000 + number % 3
        instrument.take(Quote(at_ns, number, bid, 5, bid + 1, 5), recv_ns=at_ns, ingest_seq=number)
    at_ns += 50 * MS
    try:
        jump = Quote(at_ns, 10_000, 100_000 + JUMP, 5, 100_001 + JUMP, 5)
        instrument.take(jump, recv_ns=at_ns, ingest_seq=10_000)
    except Rejected as rejected:
        return instrument, rejected
    return instrument, None


def in_step(instrument: Instrument) -> bool:
    """Close every step to the jump and return what its window says of the book."""
    windows: list[FeatureWindow] = []
    while instrument.next_step is not None and len(windows) < CALM_S * 10:
        windows.append(instrument.close([]).window)
    return windows[-1].book_synced


@pytest.mark.parametrize("policy", list(Policy))
def test_a_jump_is_told_with_its_evidence_whatever_is_done_about_it(policy: Policy) -> None:
    instrument, _ = quoted(policy)
    (found,) = instrument.anomalies
    assert found.kind == AnomalyKind.ANOMALY_KIND_PRICE_JUMP
    assert found.score > found.threshold > 0
    assert found.evidence
    assert (found.ingest_seq, found.epoch, found.instrument) == (10_000, 1, BTCUSDT.id)
    assert instrument.counts["anomalies.price_jump"] == 1


def test_a_tagged_frame_counts_and_is_marked_in_the_log() -> None:
    instrument, rejected = quoted(Policy.TAG)
    assert rejected is None
    instrument.flush(START + 3_600 * NS)
    columns = tick_columns(instrument.batches[-1])
    quotes = [
        flags for flags, kind in zip(columns.flags, columns.kind, strict=True) if kind == TickKind.TICK_KIND_QUOTE
    ]
    assert [bool(flags & FLAG_ANOMALY) for flags in quotes[-4:]] == [False, False, True, True]
    assert in_step(instrument)


def test_a_held_book_is_not_to_be_relied_on_for_a_while() -> None:
    instrument, rejected = quoted(Policy.HOLD)
    assert rejected is None
    assert not in_step(instrument)


def test_a_dropped_frame_is_refused_and_changes_nothing() -> None:
    instrument, rejected = quoted(Policy.DROP)
    assert rejected is not None
    assert rejected.reason is Reason.ANOMALY
    assert "price_jump" in rejected.detail
    assert instrument.check.last_quote is not None
    assert instrument.check.last_quote.bid < 100_000 + JUMP
    assert instrument.last_ingest_seq < 10_000
