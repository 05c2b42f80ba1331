"""Decisions, their digest and the public signal: types and constructors of `huracan.decision.v1`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal

from huracan.contracts.codec import encode
from huracan.contracts.huracan.decision.v1.decision_pb2 import Decision, DecisionDigestRecord, Direction, Vote
from huracan.contracts.market import instrument_key
from huracan.contracts.trading.data.v1.trading_data_pb2 import (
    RegimeProbability,
    SignalDirection,
    TradingSignal,
)

__all__ = [
    "Decision",
    "DecisionDigestRecord",
    "Direction",
    "SignalDirection",
    "TradingSignal",
    "Vote",
    "decisions_digest",
    "digest_record",
    "direction_name",
    "trading_signal",
]

_SIGNALS = {
    Direction.DIRECTION_HOLD: SignalDirection.HOLD,
    Direction.DIRECTION_BUY: SignalDirection.BUY,
    Direction.DIRECTION_SELL: SignalDirection.SELL,
}


def direction_name(direction: Direction) -> str:
    """Return HOLD, BUY or SELL."""
    return Direction.Name(direction).removeprefix("DIRECTION_")


def digest_record(decision: Decision) -> DecisionDigestRecord:
    """Return the fields of a decision that every replay owes bit for bit."""
    return DecisionDigestRecord(
        decision_id=decision.decision_id,
        strategy=decision.strategy,
        instrument=decision.instrument,
        step=decision.step,
        direction=decision.direction,
        confidence=decision.confidence,
        size=decision.size,
        abstained=decision.abstained,
        reason=decision.reason,
        valid_until_ns=decision.valid_until_ns,
        opinion_ids=[vote.opinion_id for vote in decision.votes],
        weights=[vote.weight for vote in decision.votes],
        contexts=decision.contexts,
        engine_digests=[vote.engine_digest for vote in decision.votes],
        feature_set_digest=decision.feature_set_digest,
        config_digest=decision.config_digest,
    )


def _order(decision: Decision) -> tuple[str, int, str]:
    return instrument_key(decision.instrument), decision.step, decision.strategy


def decisions_digest(decisions: Iterable[Decision]) -> str:
    """Return the digest of a run: SHA-256, in hexadecimal, over the digest records by instrument, step, strategy.

    Each record is preceded by its length as eight big-endian bytes.
    """
    digest = hashlib.sha256()
    for decision in sorted(decisions, key=_order):
        data = encode(digest_record(decision))
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def trading_signal(decision: Decision) -> TradingSignal:
    """Return the public signal of a decision: an abstention is HOLD with confidence 0 and size 0."""
    size = Decimal(decision.size) * Decimal(decision.size_increment or "0")
    return TradingSignal(
        symbol=decision.instrument.symbol,
        timestamp=decision.close_ns,
        direction=SignalDirection.HOLD if decision.abstained else _SIGNALS[decision.direction],
        confidence=0.0 if decision.abstained else decision.confidence,
        position_size=0.0 if decision.abstained else float(size),
        regime_probs=[
            RegimeProbability(regime=share.regime, probability=share.probability) for share in decision.regime_shares
        ],
    )
