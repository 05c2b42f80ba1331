"""Settings of the order-flow expert."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from huracan.config import Config
from huracan.expert.score import Term
from huracan.expert.trial import SwapConfig
from huracan.inference.opening import RuntimeConfig


class FlowConfig(Config):
    """Which model answers, and the parameters of the ordered logit; README.md says how the defaults were obtained."""

    engine: Path | None = None
    """Directory of the bundle of a net: it answers, over the horizon of the bundle, and of all else here only the
    validity counts. None: the ordered logit answers."""
    terms: tuple[Term, ...] = Field(
        default=(
            Term(column="queue_imbalance", half_life_steps=1, limit=1, weight=1.15),
            Term(column="ofi_integrated", half_life_steps=2, limit=3, weight=0.1),
            Term(column="trade_imbalance", half_life_steps=1, limit=1, weight=0.025),
        ),
        min_length=1,
    )
    """What the score is made of. Weights in log odds; positive means that the feature points the way the
    price goes."""
    flat_threshold: float = Field(default=1.3, ge=0, le=10)
    """Log odds against an upward and against a downward move when the score is 0: 0 is never flat, 1.3 flat
    in 57 %, above 4 always flat."""
    flat_bps: float = Field(default=0.25, gt=0, le=100)
    """A move of the mid up to this size counts as flat: what `p_flat` was calibrated for and is to be judged
    by."""
    move_bps: float = Field(default=1.3, ge=0, le=1000)
    """Mean size of a move that is not flat, for the expected move."""
    horizon_ms: int = Field(default=1000, ge=100, le=60_000)
    """How far ahead the forecast looks. The other parameters hold for one horizon: change all of them or
    none."""
    validity_ms: int = Field(default=300, ge=100, le=1000)
    """How long an opinion may be used after its step; SEMANTICS says 300 for every opinion on `micro`."""


class FlowServiceConfig(FlowConfig):
    """How the order-flow service runs."""

    runtime: RuntimeConfig = RuntimeConfig()
    swap: SwapConfig = SwapConfig()
    """Which nets may serve instead while it runs, and what they must keep."""

    @property
    def flow(self) -> FlowConfig:
        """Return what answers: what runs it is in the digest of its engine, and where others are found in none."""
        return FlowConfig.model_validate(self.model_dump(exclude={"runtime", "swap"}))
