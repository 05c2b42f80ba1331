"""Answer a window as the laws ask: the first reason to abstain that holds, else the responder's forecast."""

from __future__ import annotations

from collections.abc import Mapping

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import ENGINE, Context, ContextRef
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.opinion import AbstainReason, Opinion, abstention, opinion
from huracan.expert.port import Forecast, Responder
from huracan.inference.engine import EngineFault

STALE_AFTER_NS = 500 * MILLISECOND_NS
"""A window whose newest frame is this old at its close is not answered."""

Versions = Mapping[tuple[str, str, int], Context]
"""Contexts by kind, key and version."""


def respond(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    """Return the opinion of a responder on a window, given the context versions that are at hand.

    Where its engine gives no numbers it abstains NO_INPUT.
    """
    try:
        return answer(responder, window, versions)
    except EngineFault:
        return without_numbers(responder, window)


def without_numbers(responder: Responder, window: FeatureWindow) -> Opinion:
    """Return the abstention of a responder whose engine gave no numbers."""
    return _opinion(responder, window, AbstainReason.ABSTAIN_REASON_NO_INPUT)


def answer(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    """Return what `respond` does; raise whatever the responder raises."""
    outcome: Forecast | AbstainReason | None = _blocked(responder, window)
    outcome = outcome or _missing(responder, window, versions)
    if outcome is None:
        contexts = {ref.kind: versions[ref.kind, ref.key, ref.version] for ref in _read(responder, window)}
        outcome = responder.forecast(window_matrix(window), contexts)
    return _opinion(responder, window, outcome)


def engine_ref(key: str, window: FeatureWindow) -> ContextRef | None:
    """Return which version of the choice of an engine a window names; None: what is configured answers."""
    return next((ref for ref in window.expected_contexts if ref.kind == ENGINE and ref.key == key), None)


def _read(responder: Responder, window: FeatureWindow) -> list[ContextRef]:
    return [ref for ref in window.expected_contexts if ref.kind in responder.context_kinds]


def _opinion(responder: Responder, window: FeatureWindow, outcome: Forecast | AbstainReason) -> Opinion:
    engine = engine_ref(responder.name, window)
    named = [*_read(responder, window), *([engine] if engine is not None else [])]
    if not isinstance(outcome, Forecast):
        return abstention(
            window,
            outcome,
            expert=responder.name,
            engine_digest=responder.engine_digest,
            horizon_ns=responder.horizon_ns,
            validity_ns=responder.validity_ns,
            contexts=named,
        )
    return opinion(
        window,
        expert=responder.name,
        engine_digest=responder.engine_digest,
        horizon_ns=responder.horizon_ns,
        validity_ns=responder.validity_ns,
        contexts=named,
        p_down=outcome.p_down,
        p_flat=outcome.p_flat,
        p_up=outcome.p_up,
        expected_move_bps=outcome.expected_move_bps,
    )


def _blocked(responder: Responder, window: FeatureWindow) -> AbstainReason | None:
    if window.feature_set_digest != responder.feature_set_digest:
        return AbstainReason.ABSTAIN_REASON_FEATURE_SET_MISMATCH
    if not window.book_synced:
        return AbstainReason.ABSTAIN_REASON_BOOK_UNSYNCED
    if window.close_ns - window.last_frame_ns >= STALE_AFTER_NS:
        return AbstainReason.ABSTAIN_REASON_STALE
    if window.valid_rows < window.rows:
        return AbstainReason.ABSTAIN_REASON_WARMING
    return None


def _missing(responder: Responder, window: FeatureWindow, versions: Versions) -> AbstainReason | None:
    named = _read(responder, window)
    if {ref.kind for ref in named} != set(responder.context_kinds):
        return responder.without_context
    engine = engine_ref(responder.name, window)
    named += [engine] if engine is not None else []
    found = [versions.get((ref.kind, ref.key, ref.version)) for ref in named]
    if None in found:
        return AbstainReason.ABSTAIN_REASON_CONTEXT_MISSING
    if any(context.valid_until_ns < window.close_ns for context in found if context is not None):
        return AbstainReason.ABSTAIN_REASON_CONTEXT_EXPIRED
    return None
