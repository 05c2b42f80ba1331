"""What services say about themselves: types and constructors of `huracan.ops.v1`."""

from __future__ import annotations

from huracan.contracts.huracan.market.v1.market_pb2 import InstrumentId
from huracan.contracts.huracan.ops.v1.ops_pb2 import DeadLetter, GapDetected, ServiceChanged, StepAcknowledged

__all__ = [
    "DeadLetter",
    "GapDetected",
    "ServiceChanged",
    "StepAcknowledged",
    "dead_letter",
    "gap_detected",
    "service_changed",
    "step_acknowledged",
]


def step_acknowledged(service: str, instrument: InstrumentId, step: int) -> StepAcknowledged:
    """Return the word of a service that it has done all it does for a step."""
    return StepAcknowledged(service=service, instrument=instrument, step=step)


def service_changed(service: str, *, running: bool, at_ns: int) -> ServiceChanged:
    """Return the news that a service started or stopped."""
    return ServiceChanged(service=service, running=running, at_ns=at_ns)


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
