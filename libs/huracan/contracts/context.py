"""Slow state as numbered versions: types and constructors of `huracan.context.v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from huracan.contracts.codec import digest
from huracan.contracts.huracan.context.v1.context_pb2 import (
    Context,
    ContextRef,
    CorrelationState,
    DriftFinding,
    DriftLevel,
    DriftState,
    EngineBundle,
    EngineChoice,
    EngineStage,
    MoodState,
    RegimeShare,
    RegimeState,
    RegimeTransition,
)
from huracan.contracts.huracan.market.v1.market_pb2 import InstrumentId
from huracan.contracts.market import instrument_key

__all__ = [
    "CORRELATION",
    "DRIFT",
    "ENGINE",
    "MOOD",
    "REGIME",
    "Context",
    "ContextRef",
    "CorrelationState",
    "DriftFinding",
    "DriftLevel",
    "DriftState",
    "EngineBundle",
    "EngineChoice",
    "EngineStage",
    "MoodState",
    "Payload",
    "RegimeShare",
    "RegimeState",
    "RegimeTransition",
    "context",
    "context_name",
    "correlation_state",
    "drift_finding",
    "drift_key",
    "drift_level_name",
    "drift_state",
    "engine_choice",
    "engine_stage_name",
    "mood_state",
    "regime_state",
    "regime_transition",
]

REGIME = "regime"
"""Kind of the context with an instrument's regime probabilities; keyed by `venue.symbol`."""
MOOD = "mood"
"""Kind of the context with the mood of headlines; keyed by underlying."""
CORRELATION = "correlation"
"""Kind of the context with how the moves of all instruments go together; its key is `market`."""
ENGINE = "engine"
"""Kind of the context with which bundle an expert answers from; its key is the expert, or a part of it. It holds for
every instrument: each window names it."""
DRIFT = "drift"
"""Kind of the context with how far the steps of an instrument have moved; keyed by `drift_key`."""

Payload = RegimeState | MoodState | CorrelationState | EngineChoice | DriftState


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
    payload: Payload,
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
    match payload:
        case RegimeState():
            made.regime.CopyFrom(payload)
        case MoodState():
            made.mood.CopyFrom(payload)
        case CorrelationState():
            made.correlation.CopyFrom(payload)
        case EngineChoice():
            made.engine.CopyFrom(payload)
        case DriftState():
            made.drift.CopyFrom(payload)
    return made


def regime_state(
    *,
    shares: Mapping[str, float],
    volatility: float,
    bars: int,
    horizon_bars: int = 0,
    transition: RegimeTransition | None = None,
) -> RegimeState:
    """Return regime probabilities by name, in the order given: of so many bars ahead, or of now."""
    return RegimeState(
        shares=_shares(shares),
        volatility=volatility,
        bars=bars,
        horizon_bars=horizon_bars,
        transition=transition,
    )


def regime_transition(
    *, known: str, change_probability: float, chain: Mapping[str, float], expected_bars: float
) -> RegimeTransition:
    """Return what is said of a change of regime; `chain` gives a probability for each regime."""
    return RegimeTransition(
        known=known, change_probability=change_probability, chain=_shares(chain), expected_bars=expected_bars
    )


def _shares(shares: Mapping[str, float]) -> list[RegimeShare]:
    return [RegimeShare(regime=name, probability=share) for name, share in shares.items()]


def mood_state(*, polarity: float, weight: float, headlines: int, last_news_id: bytes) -> MoodState:
    """Return the mood of headlines; polarity in [-1, 1]."""
    return MoodState(polarity=polarity, weight=weight, headlines=headlines, last_news_id=last_news_id)


def correlation_state(
    *,
    instruments: Sequence[str],
    correlations: NDArray[np.float64],
    absorption_ratio: float,
    shrinkage: float,
    bars: int,
) -> CorrelationState:
    """Return how the moves of n instruments go together; correlations of shape (n, n), in [-1, 1]."""
    return CorrelationState(
        instruments=instruments,
        correlations=correlations.astype("<f8").tobytes(),
        absorption_ratio=absorption_ratio,
        shrinkage=shrinkage,
        bars=bars,
    )


def engine_choice(
    serves: EngineBundle,
    *,
    author: str,
    reason: str,
    beside: EngineBundle | None = None,
    stage: EngineStage = EngineStage.ENGINE_STAGE_SETTLED,
) -> EngineChoice:
    """Return which bundle an expert answers from; in a stage other than settled, with the one beside it."""
    return EngineChoice(serves=serves, beside=beside, stage=stage, author=author, reason=reason)


def engine_stage_name(stage: EngineStage) -> str:
    """Return the name of a stage, as `shadow`."""
    return EngineStage.Name(stage).removeprefix("ENGINE_STAGE_").lower()


def drift_level_name(level: DriftLevel) -> str:
    """Return the name of a level, as `watch`."""
    return DriftLevel.Name(level).removeprefix("DRIFT_LEVEL_").lower()


def drift_key(instrument: InstrumentId) -> str:
    """Return the key of an instrument's drift: not its own, so that no window names it, for it decides nothing."""
    return f"micro.{instrument_key(instrument)}"


def drift_finding(
    *, name: str, method: str, level: DriftLevel, value: float, limit: float, before: float, after: float
) -> DriftFinding:
    """Return one thing that has moved: what its method says, past which limit, and its means before and after."""
    return DriftFinding(name=name, method=method, level=level, value=value, limit=limit, before=before, after=after)


def drift_state(
    *,
    level: DriftLevel,
    since_ns: int,
    findings: Sequence[DriftFinding],
    rows: int,
    missed: int,
    reference_rows: int,
    reference_digest: bytes,
) -> DriftState:
    """Return how far an instrument has moved, and what of it, the worst first."""
    return DriftState(
        level=level,
        since_ns=since_ns,
        findings=findings,
        rows=rows,
        missed=missed,
        reference_rows=reference_rows,
        reference_digest=reference_digest,
    )
