"""Slow state as numbered versions: types and constructors of `huracan.context.v1`."""

from __future__ import annotations

from collections.abc import Mapping

from huracan.contracts.codec import digest
from huracan.contracts.huracan.context.v1.context_pb2 import (
    Context,
    ContextRef,
    MoodState,
    RegimeShare,
    RegimeState,
)

__all__ = [
    "MOOD",
    "REGIME",
    "Context",
    "ContextRef",
    "MoodState",
    "RegimeShare",
    "RegimeState",
    "context",
    "context_name",
    "mood_state",
    "regime_state",
]

REGIME = "regime"
"""Kind of the context with an instrument's regime probabilities; keyed by `venue.symbol`."""
MOOD = "mood"
"""Kind of the context with the mood of headlines; keyed by underlying."""


def context_name(ref: ContextRef) -> tuple[str, str]:
    """Return kind and key: what has versions."""
    return ref.kind, ref.key


def context(
    *,
    kind: str,
    key: str,
    version: int,
    epoch: int,
    as_of_ns: int,
    effective_from_ns: int,
    valid_until_ns: int,
    payload: RegimeState | MoodState,
    engine_digest: bytes,
) -> Context:
    """Return one version of a context, with the digest of its payload."""
    made = Context(
        ref=ContextRef(kind=kind, key=key, version=version),
        epoch=epoch,
        as_of_ns=as_of_ns,
        effective_from_ns=effective_from_ns,
        valid_until_ns=valid_until_ns,
        payload_digest=digest(payload),
        engine_digest=engine_digest,
    )
    if isinstance(payload, RegimeState):
        made.regime.CopyFrom(payload)
    else:
        made.mood.CopyFrom(payload)
    return made


def regime_state(*, shares: Mapping[str, float], volatility: float, bars: int) -> RegimeState:
    """Return regime probabilities by name, in the order given."""
    return RegimeState(
        shares=[RegimeShare(regime=name, probability=share) for name, share in shares.items()],
        volatility=volatility,
        bars=bars,
    )


def mood_state(*, polarity: float, weight: float, headlines: int, last_news_id: bytes) -> MoodState:
    """Return the mood of headlines; polarity in [-1, 1]."""
    return MoodState(polarity=polarity, weight=weight, headlines=headlines, last_news_id=last_news_id)
