"""Journal entries: types and constructors of `huracan.journal.v1`."""

from __future__ import annotations

from huracan.contracts.codec import digest
from huracan.contracts.huracan.context.v1.context_pb2 import Context
from huracan.contracts.huracan.execution.v1.execution_pb2 import ExecutionReport, Order
from huracan.contracts.huracan.features.v1.features_pb2 import FeatureWindow
from huracan.contracts.huracan.journal.v1.journal_pb2 import (
    DeadlineFired,
    EpochStarted,
    ExpertAvailability,
    JournalEntry,
    Published,
    RiskStateChanged,
    WindowOpened,
)
from huracan.contracts.huracan.opinion.v1.opinion_pb2 import Opinion

__all__ = [
    "DeadlineFired",
    "EpochStarted",
    "ExpertAvailability",
    "JournalEntry",
    "Payload",
    "Published",
    "RiskStateChanged",
    "WindowOpened",
    "deadline_fired",
    "journal_entry",
    "window_opened",
]

Payload = (
    EpochStarted
    | WindowOpened
    | Opinion
    | Context
    | DeadlineFired
    | ExpertAvailability
    | Published
    | Order
    | ExecutionReport
    | RiskStateChanged
)

_FIELDS: dict[type, str] = {
    EpochStarted: "epoch_started",
    WindowOpened: "window_opened",
    Opinion: "opinion",
    Context: "context",
    DeadlineFired: "deadline_fired",
    ExpertAvailability: "expert_availability",
    Published: "published",
    Order: "order",
    ExecutionReport: "execution_report",
    RiskStateChanged: "risk_state_changed",
}


def journal_entry(key: str, payload: Payload, *, epoch: int, at_ns: int) -> JournalEntry:
    """Return an entry of a journal."""
    made = JournalEntry(key=key, epoch=epoch, at_ns=at_ns)
    getattr(made, _FIELDS[type(payload)]).CopyFrom(payload)
    return made


def window_opened(window: FeatureWindow) -> WindowOpened:
    """Return what a decision depends on of a window, without its values."""
    return WindowOpened(
        instrument=window.instrument,
        gateway_epoch=window.epoch,
        step=window.step,
        first_step=window.first_step,
        close_ns=window.close_ns,
        first_ingest_seq=window.first_ingest_seq,
        last_ingest_seq=window.last_ingest_seq,
        best_bid=window.best_bid,
        best_ask=window.best_ask,
        window_digest=digest(window),
        feature_set_digest=window.feature_set_digest,
        valid_rows=window.valid_rows,
        last_frame_ns=window.last_frame_ns,
        book_synced=window.book_synced,
        expected_contexts=window.expected_contexts,
        frames_digest=window.frames_digest,
    )


def deadline_fired(opened: WindowOpened) -> DeadlineFired:
    """Return the entry that closes a window whose time is over."""
    return DeadlineFired(instrument=opened.instrument.id, gateway_epoch=opened.gateway_epoch, step=opened.step)
