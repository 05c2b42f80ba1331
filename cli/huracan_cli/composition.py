"""Which services a run has and how each is configured: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import huracan_flow.expert
import huracan_regime.spec
import huracan_sentiment.expert
from huracan.config import Config
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.expert.port import Expert
from huracan.ports import Ports
from huracan.service.service import Service, spec
from huracan.sim.market import SimulatedMarketConfig
from huracan.sim.world import Factory
from huracan_executor.config import ExecutorConfig
from huracan_flow.config import FlowConfig
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import Feed
from huracan_gateway.service import Gateway
from huracan_orchestrator.config import DeadlineConfig, GateConfig, OrchestratorConfig
from huracan_persister.spec import PersisterConfig
from huracan_regime.config import RegimeServiceConfig
from huracan_sentiment.config import MoodConfig, SentimentConfig

EXPERTS = ("regime", "flow", "sentiment")
SERVICES = (*EXPERTS, "orchestrator", "executor", "persister")
"""Every service but the gateway, in the order in which they drain: what one still says, the next still hears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run reads besides its frames."""

    definition: InstrumentDefinition
    first_recv_ns: int
    history: Path | None = None
    news: Path | None = None


def configs(inputs: Inputs, *, deadlines: DeadlineConfig | None = None) -> dict[str, Config]:
    """Return the configuration of each service but the gateway; without deadlines for a replay."""
    definition = inputs.definition
    return {
        "regime": RegimeServiceConfig(
            history={instrument_key(definition.id): inputs.history} if inputs.history else {},
            history_before_ns=inputs.first_recv_ns,
        ),
        "flow": FlowConfig(),
        "sentiment": SentimentConfig(mood=MoodConfig(underlyings=(definition.underlying,))),
        "orchestrator": OrchestratorConfig(
            gate=GateConfig(experts=EXPERTS), shard=definition.shard, deadlines=deadlines
        ),
        "executor": ExecutorConfig(),
        "persister": PersisterConfig() if deadlines else PersisterConfig(linger_ms=0),
    }


def expert(name: str, inputs: Inputs) -> Expert:
    """Return one expert; raise KeyError for a name that is none of EXPERTS."""
    config = configs(inputs)[name]
    made: Mapping[str, Callable[..., Expert]] = {
        "regime": huracan_regime.spec.regime_expert,
        "flow": huracan_flow.expert.expert,
        "sentiment": huracan_sentiment.expert.expert,
    }
    return made[name](config)


def factories(inputs: Inputs, *, deadlines: DeadlineConfig | None = None) -> dict[str, Factory]:
    """Return how each service but the gateway is made from its ports; without deadlines for a replay."""
    return {name: _factory(name, config) for name, config in configs(inputs, deadlines=deadlines).items()}


def _factory(name: str, config: Config) -> Factory:
    found = spec(name)

    def make(ports: Ports) -> Service:
        return found.make(config, ports)

    return make


def gateway_config(
    inputs: Inputs, *, lockstep: bool, recording: Path | None = None, simulated: SimulatedMarketConfig | None = None
) -> GatewayConfig:
    """Return the gateway's configuration: in lockstep with all services, or with steps that close on the clock."""
    return GatewayConfig(
        recording=recording,
        simulated=simulated,
        lockstep_services=SERVICES if lockstep else (),
        history=inputs.history,
        news=inputs.news,
    )


def gateway(inputs: Inputs, feed: Feed, *, lockstep: bool) -> Factory:
    """Return how a gateway is made that plays a feed in this process."""
    config = gateway_config(inputs, lockstep=lockstep)
    return lambda ports: Gateway(config, feed, ports)
