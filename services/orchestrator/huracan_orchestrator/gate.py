"""The gate: opinions on one window to one decision. Pure (SEMANTICS: Gate and size)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import ContextRef, RegimeShare
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.journal import WindowOpened
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan.ids import decision_id
from huracan_orchestrator.config import GateConfig

Triple = tuple[float, float, float]

SLACK = 1e-9
"""Part of a lot forgiven when sizes are rounded down: 0.29 of 100 lots is 29, whatever its binary form says."""


def _entropy(p: Sequence[float]) -> float:
    return -math.fsum(x * math.log(x) for x in p if x > 0)


def pool(forecasts: Sequence[Triple]) -> Triple:
    """Return the equally weighted mean of forecasts (p_down, p_flat, p_up)."""
    down, flat, up = (math.fsum(column) / len(forecasts) for column in zip(*forecasts, strict=True))
    return down, flat, up


def disagreement(forecasts: Sequence[Triple]) -> float:
    """Return the Jensen-Shannon divergence of K forecasts / ln K, in [0, 1]; 0 for one forecast.

    Source: Lin 1991, Divergence measures based on the Shannon entropy, eq. 5.1 with equal weights.
    """
    if len(forecasts) < 2:
        return 0.0
    spread = _entropy(pool(forecasts)) - math.fsum(map(_entropy, forecasts)) / len(forecasts)
    return min(max(spread / math.log(len(forecasts)), 0.0), 1.0)


def max_position(opened: WindowOpened, config: GateConfig) -> int:
    """Return the largest position in size increments; 0 when it needs a price and there is none."""
    instrument = opened.instrument
    lot = Decimal(instrument.size_increment) * Decimal(instrument.multiplier)
    base = config.max_position_base.get(instrument.underlying)
    if base is None:
        if not (opened.best_bid and opened.best_ask):
            return 0
        mid = Decimal(opened.best_bid + opened.best_ask) / 2 * Decimal(instrument.price_increment)
        base = config.max_position_notional / mid
    return int(base // lot)


def decide(
    opened: WindowOpened,
    opinions: Mapping[str, Opinion],
    config: GateConfig,
    *,
    epoch: int,
    config_digest: bytes,
    regime_shares: Sequence[RegimeShare] = (),
    reason: AbstainReason | None = None,
) -> Decision:
    """Return the decision on a window; with a `reason` it abstains whatever the opinions say."""
    votes, answers = _votes(opinions, config)
    forecasts = [(answer.p_down, answer.p_flat, answer.p_up) for answer in answers]
    made = _blank(opened, config, epoch=epoch, config_digest=config_digest)
    made.votes.extend(votes)
    made.contexts.extend(_contexts(opinions, config))
    made.regime_shares.extend(regime_shares)
    if forecasts:
        made.p_down, made.p_flat, made.p_up = pool(forecasts)
        made.disagreement = disagreement(forecasts)
    reason = reason or _abstains(forecasts, made.disagreement, config)
    if reason is not None:
        made.abstained, made.reason = True, reason
        return made
    _choose(made, max_position(opened, config), config)
    return made


def _votes(opinions: Mapping[str, Opinion], config: GateConfig) -> tuple[list[Vote], list[Opinion]]:
    answers = [opinions[name] for name in config.experts if name in opinions and not opinions[name].abstained]
    votes = []
    for name in config.experts:
        opinion = opinions.get(name)
        if opinion is None:
            votes.append(Vote(expert=name, reason=AbstainReason.ABSTAIN_REASON_NO_INPUT))
            continue
        votes.append(
            Vote(
                expert=name,
                opinion_id=opinion.opinion_id,
                weight=0.0 if opinion.abstained else 1 / len(answers),
                reason=opinion.reason,
                engine_digest=opinion.engine_digest,
            )
        )
    return votes, answers


def _contexts(opinions: Mapping[str, Opinion], config: GateConfig) -> list[ContextRef]:
    used = {(ref.kind, ref.key): ref for name in config.experts if name in opinions for ref in opinions[name].contexts}
    return list(used.values())


def _abstains(forecasts: Sequence[Triple], divergence: float, config: GateConfig) -> AbstainReason | None:
    if not forecasts:
        return AbstainReason.ABSTAIN_REASON_ALL_ABSTAINED
    if divergence > config.conflict_above:
        return AbstainReason.ABSTAIN_REASON_CONFLICT
    return None


def _blank(opened: WindowOpened, config: GateConfig, *, epoch: int, config_digest: bytes) -> Decision:
    instrument = opened.instrument
    return Decision(
        decision_id=decision_id(config.strategy, instrument_key(instrument.id), epoch, opened.step),
        strategy=config.strategy,
        instrument=instrument.id,
        shard=instrument.shard,
        epoch=epoch,
        step=opened.step,
        close_ns=opened.close_ns,
        direction=Direction.DIRECTION_HOLD,
        valid_until_ns=opened.close_ns + config.validity_ms * MILLISECOND_NS,
        feature_set_digest=opened.feature_set_digest,
        config_digest=config_digest,
        gateway_epoch=opened.gateway_epoch,
        first_ingest_seq=opened.first_ingest_seq,
        last_ingest_seq=opened.last_ingest_seq,
        window_digest=opened.window_digest,
        size_increment=instrument.size_increment,
    )


def _choose(made: Decision, largest: int, config: GateConfig) -> None:
    score = made.p_up - made.p_down
    if abs(score) < config.direction_threshold or largest == 0:
        made.confidence = made.p_flat
        return
    shrink = 1 - made.disagreement if made.disagreement >= config.shrink_above else 1.0
    lots = math.floor(abs(score) * shrink * largest + SLACK)
    if score > 0:
        made.direction, made.confidence, made.size = Direction.DIRECTION_BUY, made.p_up, lots
    else:
        made.direction, made.confidence, made.size = Direction.DIRECTION_SELL, made.p_down, -lots
