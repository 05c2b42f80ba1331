"""Configuration of the gate and of its deadlines."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field, PositiveInt

from huracan.config import Config
from huracan.ids import SHARDS

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class GateConfig(Config):
    """Everything a decision depends on. Its digest is in every decision, its JSON in the journal."""

    strategy: str = "core"
    """Name of the strategy; a token of its subjects."""
    experts: tuple[str, ...] = ("regime", "flow", "sentiment")
    """Experts whose answers a window waits for, in the order in which they are folded."""
    direction_threshold: Share = 0.10
    """Hold when |p_up - p_down| is below; under 0.05 noise trades, above 0.3 almost nothing does."""
    shrink_above: Share = 0.2
    """From this disagreement on the size is shrunk by it."""
    conflict_above: Share = 0.5
    """Abstain when the disagreement is greater: the experts contradict each other."""
    validity_ms: PositiveInt = 500
    """How long after the close of its step a decision may be acted on."""
    max_position_base: dict[str, Decimal] = Field(default_factory=lambda: {"BTC": Decimal("0.1")})
    """Largest position by underlying, in base units."""
    max_position_notional: Decimal = Decimal(6_000)
    """Largest position of any other underlying, in the quote asset at the mid price."""


class DeadlineConfig(Config):
    """When a live window stops waiting. Replays have no deadline."""

    reask_after_ms: PositiveInt = 25
    """Ask a silent responder once more after this long; below 10 ordinary jitter fires it, above 40 it is too late."""
    deadline_ms: PositiveInt = 50
    """Decide without the silent ones this long after the close of the step."""


class OrchestratorConfig(Config):
    """How the orchestrator runs."""

    gate: GateConfig = GateConfig()
    shard: int = Field(ge=0, lt=SHARDS)
    """The shard it decides for."""
    deadlines: DeadlineConfig | None = DeadlineConfig()
    """When live windows stop waiting; null in a replay, where they wait for ever."""
