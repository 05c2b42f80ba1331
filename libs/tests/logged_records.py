"""Records of the log as services write them, for tests of what is kept of it."""

from __future__ import annotations

import numpy as np

from huracan.contracts.features import FeatureRow
from huracan.contracts.journal import DeadlineFired, JournalEntry, journal_entry
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickBatch, TickColumns, tick_batch
from huracan.contracts.opinion import Opinion

BTC = InstrumentDefinition(
    id=InstrumentId(venue="sim", symbol="btc-usdt-perp", definition_version=1), shard=6, size_increment="0.001"
)
DAY_NS = 86_400_000_000_000
START_NS = 20_000 * DAY_NS
"""Midnight, UTC."""


def ticks(batch: int, *, rows: int = 3, recv_ns: int = START_NS, instrument: InstrumentDefinition = BTC) -> TickBatch:
    """Return a batch whose rows are told apart by their numbers."""
    numbers = list(range(batch * 1_000, batch * 1_000 + rows))
    columns = TickColumns(
        ingest_seq=numbers,
        event_ns=[recv_ns - 5 + number for number in numbers],
        recv_ns=[recv_ns + index for index in range(rows)],
        venue_seq=[2**62 + number for number in numbers],
        kind=[number % 8 for number in numbers],
        flags=[number % 3 for number in numbers],
        side=[-1 if number % 2 else 1 for number in numbers],
        price=[-number for number in numbers],
        size=numbers,
    )
    return tick_batch(instrument=instrument, epoch=1, batch=batch, columns=columns, watermark_ns=recv_ns)


def features(step: int, *, close_ns: int = START_NS, values: tuple[float, ...] = (1.5, float("nan"))) -> FeatureRow:
    """Return a row of features."""
    packed = np.array(values, dtype="<f4").tobytes()
    return FeatureRow(
        instrument=BTC.id, shard=6, epoch=1, feature_set="micro", step=step, close_ns=close_ns, values=packed
    )


def entry(number: int, *, key: str = "shard.06", at_ns: int = START_NS) -> JournalEntry:
    """Return an entry of a journal."""
    payload = Opinion(expert="flow", step=number) if number % 2 else DeadlineFired(instrument=BTC.id, step=number)
    return journal_entry(key, payload, epoch=1, at_ns=at_ns)
