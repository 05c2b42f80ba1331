"""Opinions and abstentions: types and constructors of `huracan.opinion.v1`."""

from __future__ import annotations

from collections.abc import Sequence

from huracan.contracts.codec import digest
from huracan.contracts.huracan.context.v1.context_pb2 import ContextRef
from huracan.contracts.huracan.features.v1.features_pb2 import FeatureWindow
from huracan.contracts.huracan.opinion.v1.opinion_pb2 import AbstainReason, Opinion
from huracan.contracts.market import instrument_key
from huracan.ids import opinion_id

__all__ = ["AbstainReason", "Opinion", "abstention", "opinion", "reason_name"]


def reason_name(reason: AbstainReason) -> str:
    """Return the reason as SEMANTICS spells it, for example WARMING."""
    return AbstainReason.Name(reason).removeprefix("ABSTAIN_REASON_")


def _blank(
    window: FeatureWindow,
    *,
    expert: str,
    engine_digest: bytes,
    horizon_ns: int,
    validity_ns: int,
    contexts: Sequence[ContextRef],
) -> Opinion:
    instrument, window_digest = window.instrument, digest(window)
    key = instrument_key(instrument.id)
    return Opinion(
        opinion_id=opinion_id(expert, key, window.epoch, window.step, engine_digest, window_digest),
        expert=expert,
        instrument=instrument.id,
        shard=instrument.shard,
        epoch=window.epoch,
        step=window.step,
        close_ns=window.close_ns,
        horizon_ns=horizon_ns,
        engine_digest=engine_digest,
        feature_set_digest=window.feature_set_digest,
        window_digest=window_digest,
        contexts=contexts,
        valid_until_ns=window.close_ns + validity_ns,
    )


def opinion(
    window: FeatureWindow,
    *,
    expert: str,
    engine_digest: bytes,
    horizon_ns: int,
    validity_ns: int,
    contexts: Sequence[ContextRef],
    p_down: float,
    p_flat: float,
    p_up: float,
    expected_move_bps: float | None = None,
) -> Opinion:
    """Return a forecast; confidence is the probability of the arg max."""
    made = _blank(
        window,
        expert=expert,
        engine_digest=engine_digest,
        horizon_ns=horizon_ns,
        validity_ns=validity_ns,
        contexts=contexts,
    )
    made.p_down, made.p_flat, made.p_up = p_down, p_flat, p_up
    made.confidence = max(p_down, p_flat, p_up)
    if expected_move_bps is not None:
        made.expected_move_bps = expected_move_bps
    return made


def abstention(
    window: FeatureWindow,
    reason: AbstainReason,
    *,
    expert: str,
    engine_digest: bytes,
    horizon_ns: int,
    validity_ns: int,
    contexts: Sequence[ContextRef] = (),
) -> Opinion:
    """Return an abstention with its reason."""
    made = _blank(
        window,
        expert=expert,
        engine_digest=engine_digest,
        horizon_ns=horizon_ns,
        validity_ns=validity_ns,
        contexts=contexts,
    )
    made.abstained = True
    made.reason = reason
    return made
