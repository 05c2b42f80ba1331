"""What services say about themselves: types and constructors of `huracan.ops.v1`."""

from __future__ import annotations

from collections.abc import Mapping

from huracan.contracts.huracan.market.v1.market_pb2 import InstrumentId
from huracan.contracts.huracan.ops.v1.ops_pb2 import (
    Count,
    DeadLetter,
    GapDetected,
    ServiceChanged,
    ServiceReport,
    StepAcknowledged,
)

__all__ = [
    "DeadLetter",
    "GapDetected",
    "ServiceChanged",
    "ServiceReport",
    "StepAcknowledged",
    "dead_letter",
    "gap_detected",
    "service_changed",
    "service_report",
    "step_acknowledged",
]


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
    return DeadLetter(raw=raw, source=source, schema=schema, reason=reason, detail=detail, attempt=attempt, at_ns=at_ns)
