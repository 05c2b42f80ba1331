"""Which services there are and how each is made from its ports: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huracan_flow.expert
import huracan_regime.expert
import huracan_sentiment.expert
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.expert.port import Expert
from huracan.expert.service import ExpertService
from huracan.ports import Ports
from huracan.sim.world import Factory
from huracan_executor.config import ExecutorConfig
from huracan_executor.service import Executor
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import Feed
from huracan_gateway.service import Gateway
from huracan_orchestrator.config import DeadlineConfig, GateConfig
from huracan_orchestrator.service import Orchestrator
from huracan_persister.service import Persister
from huracan_regime.config import RegimeConfig
from huracan_regime.history import history_from_files
from huracan_sentiment.config import MoodConfig, SentimentConfig

EXPERTS = ("regime", "flow", "sentiment")
SERVICES = (*EXPERTS, "orchestrator", "executor", "persister")
"""Every service but the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run reads besides its frames."""

    definition: InstrumentDefinition
    first_recv_ns: int
    history: Path | None = None
    news: Path | None = None


def expert(name: str, inputs: Inputs) -> Expert:
    """Return one expert; raise KeyError for a name that is none of EXPERTS."""
    underlying = inputs.definition.underlying
    made: dict[str, Callable[[], Expert]] = {
        "regime": lambda: _regime(inputs),
        "flow": huracan_flow.expert.expert,
        "sentiment": lambda: huracan_sentiment.expert.expert(
            SentimentConfig(mood=MoodConfig(underlyings=(underlying,)))
        ),
    }
    return made[name]()


def _regime(inputs: Inputs) -> Expert:
    config = RegimeConfig()
    files = {instrument_key(inputs.definition.id): inputs.history} if inputs.history else {}
    history = history_from_files(files, config.model, before_ns=inputs.first_recv_ns)
    return huracan_regime.expert.expert(config, history)


def factories(inputs: Inputs, *, deadlines: DeadlineConfig | None = None) -> dict[str, Factory]:
    """Return how each service but the gateway is made; without deadlines for a replay."""

    def answering(name: str) -> Factory:
        return lambda ports: ExpertService(expert(name, inputs), ports)

    def orchestrator(ports: Ports) -> Orchestrator:
        return Orchestrator(GateConfig(experts=EXPERTS), ports, shard=inputs.definition.shard, deadlines=deadlines)

    return {
        **{name: answering(name) for name in EXPERTS},
        "orchestrator": orchestrator,
        "executor": lambda ports: Executor(ExecutorConfig(), ports),
        "persister": Persister,
    }


def gateway(inputs: Inputs, feed: Feed, *, lockstep: bool) -> Factory:
    """Return how the gateway is made: in lockstep with all services, or with steps that close on the clock."""
    config = GatewayConfig(lockstep_services=SERVICES if lockstep else (), history=inputs.history, news=inputs.news)
    return lambda ports: Gateway(config, feed, ports)
