"""Instruments, ticks, bars and headlines: types and constructors of `huracan.market.v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.huracan.market.v1.market_pb2 import (
    Anomaly,
    AnomalyKind,
    AnomalyPolicy,
    Bar,
    Evidence,
    InstrumentDefinition,
    InstrumentId,
    InstrumentType,
    NewsItem,
    Reliability,
    ReliabilityPart,
    TickBatch,
    TickKind,
)
from huracan.ids import derived_id, news_id, shard_of

__all__ = [
    "FLAG_ANOMALY",
    "FLAG_FIRST",
    "FLAG_UNSYNCED",
    "FUNDING_UNIT",
    "MARK_UNIT",
    "Anomaly",
    "AnomalyKind",
    "AnomalyPolicy",
    "Bar",
    "Evidence",
    "InstrumentDefinition",
    "InstrumentId",
    "InstrumentType",
    "NewsItem",
    "Reliability",
    "ReliabilityPart",
    "TickArrays",
    "TickBatch",
    "TickColumns",
    "TickKind",
    "anomaly",
    "anomaly_kind_name",
    "bar",
    "instrument_definition",
    "instrument_key",
    "linear_perpetual",
    "news_item",
    "policy_name",
    "reliability",
    "tick_batch",
    "tick_columns",
]

SIMULATED_VENUE = "sim"
"""Venue of every instrument that a simulated market makes."""
FLAG_FIRST = 1
"""First row of a frame."""
FLAG_UNSYNCED = 2
"""The row did not change the book: no snapshot yet, or a gap since."""
FLAG_ANOMALY = 4
"""The frame is an anomaly, and counts all the same."""
MARK_UNIT = Decimal("1e-8")
"""Of mark and index prices in a TickBatch, in the quote asset: they are finer than the increments."""
FUNDING_UNIT = Decimal("1e-16")
"""Of funding rates in a TickBatch."""


def instrument_key(instrument: InstrumentId) -> str:
    """Return `venue.symbol`: how an instrument is named in keys, ids and tables."""
    return f"{instrument.venue}.{instrument.symbol}"


def instrument_definition(
    *,
    venue: str,
    symbol: str,
    venue_symbol: str,
    type: InstrumentType,  # noqa: A002 - the field's name in the contract
    base: str,
    quote: str,
    settle: str,
    price_increment: Decimal,
    size_increment: Decimal,
    multiplier: Decimal = Decimal(1),
    definition_version: int = 1,
    valid_from_ns: int = 0,
    expiry_ns: int = 0,
) -> InstrumentDefinition:
    """Return the definition of an instrument whose underlying is its base asset."""
    return InstrumentDefinition(
        id=InstrumentId(venue=venue, symbol=symbol, definition_version=definition_version),
        venue_symbol=venue_symbol,
        type=type,
        base=base,
        quote=quote,
        settle=settle,
        underlying=base.upper(),
        shard=shard_of(base),
        price_increment=str(price_increment),
        size_increment=str(size_increment),
        multiplier=str(multiplier),
        valid_from_ns=valid_from_ns,
        expiry_ns=expiry_ns,
    )


def linear_perpetual(
    base: str,
    *,
    venue: str,
    price_increment: Decimal,
    size_increment: Decimal,
    multiplier: Decimal = Decimal(1),
    definition_version: int = 1,
) -> InstrumentDefinition:
    """Return the definition of a perpetual settled in USDT: `btc-usdt-perp`, `BTCUSDT` to its venue."""
    return instrument_definition(
        venue=venue,
        symbol=f"{base}-usdt-perp".lower(),
        venue_symbol=f"{base}USDT",
        type=InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
        base=base,
        quote="USDT",
        settle="USDT",
        price_increment=price_increment,
        size_increment=size_increment,
        multiplier=multiplier,
        definition_version=definition_version,
    )


@dataclass(slots=True)
class TickColumns:
    """Rows of a TickBatch under construction or taken apart: equally long columns, one value a row."""

    ingest_seq: list[int] = field(default_factory=list)
    event_ns: list[int] = field(default_factory=list)
    recv_ns: list[int] = field(default_factory=list)
    venue_seq: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    side: list[int] = field(default_factory=list)
    price: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ingest_seq)


class TickArrays(NamedTuple):
    """Rows of a TickBatch under construction, as whole columns."""

    ingest_seq: NDArray[np.int64]
    event_ns: NDArray[np.int64]
    recv_ns: NDArray[np.int64]
    venue_seq: NDArray[np.int64]
    kind: NDArray[np.int64]
    flags: NDArray[np.int64]
    side: NDArray[np.int64]
    price: NDArray[np.int64]
    size: NDArray[np.int64]


def _column(values: list[int] | NDArray[np.int64], dtype: str) -> bytes:
    return np.asarray(values, dtype=dtype).tobytes()


def tick_batch(
    *, instrument: InstrumentDefinition, epoch: int, batch: int, columns: TickColumns | TickArrays, watermark_ns: int
) -> TickBatch:
    """Return a batch of ticks; an empty one still moves the watermark."""
    return TickBatch(
        instrument=instrument,
        epoch=epoch,
        batch=batch,
        rows=len(columns.ingest_seq),
        ingest_seq=_column(columns.ingest_seq, "<i8"),
        event_ns=_column(columns.event_ns, "<i8"),
        recv_ns=_column(columns.recv_ns, "<i8"),
        venue_seq=_column(columns.venue_seq, "<i8"),
        kind=_column(columns.kind, "<u1"),
        flags=_column(columns.flags, "<u1"),
        side=_column(columns.side, "<i1"),
        price=_column(columns.price, "<i8"),
        size=_column(columns.size, "<i8"),
        watermark_ns=watermark_ns,
    )


def _values(data: bytes, dtype: str, rows: int) -> list[int]:
    values: NDArray[np.int64] = np.frombuffer(data, dtype=dtype, count=rows)
    listed: list[int] = values.tolist()
    return listed


def tick_columns(batch: TickBatch) -> TickColumns:
    """Return the rows of a batch; raise ValueError when a column is shorter than `rows`."""
    rows = batch.rows
    return TickColumns(
        ingest_seq=_values(batch.ingest_seq, "<i8", rows),
        event_ns=_values(batch.event_ns, "<i8", rows),
        recv_ns=_values(batch.recv_ns, "<i8", rows),
        venue_seq=_values(batch.venue_seq, "<i8", rows),
        kind=_values(batch.kind, "<u1", rows),
        flags=_values(batch.flags, "<u1", rows),
        side=_values(batch.side, "<i1", rows),
        price=_values(batch.price, "<i8", rows),
        size=_values(batch.size, "<i8", rows),
    )


def bar(
    *,
    instrument: InstrumentId,
    interval_ns: int,
    open_ns: int,
    open: Decimal,  # noqa: A002 - the field's name in the contract
    high: Decimal,
    low: Decimal,
    close: Decimal,
    volume: Decimal,
    trades: int = 0,
    partial: bool = False,
) -> Bar:
    """Return a bar; `trades` is 0 where the source does not count them."""
    return Bar(
        instrument=instrument,
        interval_ns=interval_ns,
        open_ns=open_ns,
        open=str(open),
        high=str(high),
        low=str(low),
        close=str(close),
        volume=str(volume),
        trades=trades,
        partial=partial,
    )


def news_item(*, source: str, published_ns: int, title: str, underlyings: Sequence[str] = ()) -> NewsItem:
    """Return a headline."""
    return NewsItem(
        news_id=news_id(source, published_ns, title),
        source=source,
        published_ns=published_ns,
        title=title,
        underlyings=underlyings,
    )


def anomaly_kind_name(kind: AnomalyKind) -> str:
    """Return the name of a kind of anomaly, as `price_jump`."""
    return AnomalyKind.Name(kind).removeprefix("ANOMALY_KIND_").lower()


def policy_name(policy: AnomalyPolicy) -> str:
    """Return the name of what is done about an anomaly, as `hold`."""
    return AnomalyPolicy.Name(policy).removeprefix("ANOMALY_POLICY_").lower()


def anomaly(
    *,
    instrument: InstrumentId,
    kind: AnomalyKind,
    policy: AnomalyPolicy,
    at_ns: int,
    epoch: int,
    ingest_seq: int,
    score: float,
    threshold: float,
    evidence: Mapping[str, float],
) -> Anomaly:
    """Return an anomaly under an id that is the same whenever it is noticed again."""
    return Anomaly(
        anomaly_id=derived_id("anomaly", instrument_key(instrument), epoch, int(kind), ingest_seq, at_ns),
        instrument=instrument,
        kind=kind,
        policy=policy,
        at_ns=at_ns,
        epoch=epoch,
        ingest_seq=ingest_seq,
        score=score,
        threshold=threshold,
        evidence=[Evidence(name=name, value=value) for name, value in evidence.items()],
    )


def reliability(
    *,
    instrument: InstrumentId,
    hour_ns: int,
    epoch: int,
    score: float,
    parts: Sequence[ReliabilityPart],
    from_ns: int,
    to_ns: int,
    frames: int,
) -> Reliability:
    """Return the reliability of an instrument's data in an hour."""
    return Reliability(
        instrument=instrument,
        hour_ns=hour_ns,
        epoch=epoch,
        score=score,
        parts=parts,
        from_ns=from_ns,
        to_ns=to_ns,
        frames=frames,
    )
