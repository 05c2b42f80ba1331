"""What services say about themselves: types and constructors of `huracan.ops.v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.huracan.context.v1.context_pb2 import DriftLevel, DriftState
from huracan.contracts.huracan.market.v1.market_pb2 import InstrumentId
from huracan.contracts.huracan.ops.v1.ops_pb2 import (
    Count,
    DeadLetter,
    DriftChanged,
    EngineAction,
    EngineEvent,
    EngineReport,
    EngineRequest,
    EngineTrial,
    FeedChanged,
    FeedState,
    GapDetected,
    HeatMap,
    ServiceChanged,
    ServiceReport,
    StepAcknowledged,
)
from huracan.contracts.market import instrument_key
from huracan.ids import derived_id

__all__ = [
    "LAST_ATTEMPT",
    "DeadLetter",
    "DriftChanged",
    "EngineAction",
    "EngineEvent",
    "EngineReport",
    "EngineRequest",
    "EngineTrial",
    "FeedChanged",
    "FeedState",
    "GapDetected",
    "HeatMap",
    "ServiceChanged",
    "ServiceReport",
    "StepAcknowledged",
    "dead_letter",
    "drift_changed",
    "engine_event_name",
    "feed_changed",
    "feed_state_name",
    "gap_detected",
    "heat_map",
    "service_changed",
    "service_report",
    "step_acknowledged",
]

LAST_ATTEMPT = (1 << 32) - 1
"""The highest attempt that a dead letter can name; any after it counts as it."""


def step_acknowledged(service: str, instrument: InstrumentId, step: int) -> StepAcknowledged:
    """Return the word of a service that it has done all it does for a step."""
    return StepAcknowledged(service=service, instrument=instrument, step=step)


def service_changed(service: str, *, running: bool, at_ns: int) -> ServiceChanged:
    """Return the news that a service started or stopped."""
    return ServiceChanged(service=service, running=running, at_ns=at_ns)


def service_report(service: str, counts: Mapping[str, int], *, started_ns: int, at_ns: int) -> ServiceReport:
    """Return what an incarnation of a service has counted."""
    return ServiceReport(
        service=service,
        started_ns=started_ns,
        at_ns=at_ns,
        counts=[Count(name=name, value=value) for name, value in sorted(counts.items())],
    )


def gap_detected(
    *,
    instrument: InstrumentId,
    stream: str,
    expected: int,
    was: int,
    at_ns: int,
    ingest_seq: int,
    action: str,
) -> GapDetected:
    """Return a broken sequence."""
    return GapDetected(
        instrument=instrument,
        stream=stream,
        expected=expected,
        was=was,
        at_ns=at_ns,
        ingest_seq=ingest_seq,
        action=action,
    )


def dead_letter(
    *, raw: bytes, source: str, schema: str, reason: str, detail: str, attempt: int, at_ns: int
) -> DeadLetter:
    """Return a message that could not be read, whole, with the reason."""
    return DeadLetter(
        raw=raw,
        source=source,
        schema=schema,
        reason=reason,
        detail=detail,
        attempt=min(attempt, LAST_ATTEMPT),
        at_ns=at_ns,
    )


def engine_event_name(event: EngineEvent) -> str:
    """Return the name of what happened to engines, as `taken_over`."""
    return EngineEvent.Name(event).removeprefix("ENGINE_EVENT_").lower()


def feed_state_name(state: FeedState) -> str:
    """Return the name of a feed's state, as `reconnecting`."""
    return FeedState.Name(state).removeprefix("FEED_STATE_").lower()


def feed_changed(
    *,
    instrument: InstrumentId,
    state: FeedState,
    provider: str,
    detail: str,
    at_ns: int,
    epoch: int,
    number: int,
    attempt: int = 0,
) -> FeedChanged:
    """Return what happened to a feed; `number` counts the changes of the instrument within the epoch."""
    return FeedChanged(
        change_id=derived_id("feed", instrument_key(instrument), epoch, number),
        instrument=instrument,
        state=state,
        provider=provider,
        detail=detail,
        at_ns=at_ns,
        epoch=epoch,
        attempt=attempt,
    )


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: NDArray[np.float64],
    *,
    low: float,
    high: float,
    as_of_ns: int,
) -> HeatMap:
    """Return a table of numbers, shape (rows, columns), to be drawn in colours from `low` to `high`."""
    return HeatMap(
        title=title,
        rows=rows,
        columns=columns,
        values=values.astype("<f8").tobytes(),
        low=low,
        high=high,
        as_of_ns=as_of_ns,
    )


def drift_changed(instrument: InstrumentId, before: DriftLevel, state: DriftState, *, at_ns: int) -> DriftChanged:
    """Return that a level of drift was left, and what came instead."""
    return DriftChanged(instrument=instrument, before=before, state=state, at_ns=at_ns)
