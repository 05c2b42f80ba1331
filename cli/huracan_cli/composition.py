"""Which services a run has and how each is configured: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import huracan_flow.spec
import huracan_regime.spec
import huracan_sentiment.expert
from huracan.config import Config
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.errors import BadInput
from huracan.expert.port import Expert
from huracan.expert.trial import SwapConfig
from huracan.ports import Ports
from huracan.service.service import Service, spec
from huracan.sim.world import Factory
from huracan_executor.config import ExecutorConfig
from huracan_flow.config import FlowServiceConfig
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.feed import Feed, opened
from huracan_gateway.service import Gateway
from huracan_orchestrator.config import DeadlineConfig, GateConfig, OrchestratorConfig
from huracan_persister.spec import PersisterConfig
from huracan_regime.config import DetectorSwapConfig, RegimeServiceConfig
from huracan_sentiment.config import MoodConfig, SentimentConfig

GATEWAY = "gateway"
EXPERTS = ("regime", "flow", "sentiment")
SERVICES = (*EXPERTS, "orchestrator", "executor", "persister")
"""Every service but the gateway, in the order in which they drain: what one still says, the next still hears."""
BUNDLES = Path(__file__).resolve().parents[2] / "training" / "bundles"
"""The nets of this release, by name; an installation without them has plainer models answer."""
ENGINES = {"regime": "regime", "experts": "regime", "flow": "flow"}
"""Which expert an engine is for, by the name in its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run reads besides its frames."""

    definitions: Sequence[InstrumentDefinition]
    """Of one shard: one orchestrator decides for all of them."""
    first_recv_ns: int
    history: Mapping[str, Path] = field(default_factory=dict)
    """Files of bars by instrument key."""
    news: Path | None = None
    engines: Mapping[str, Path] = field(default_factory=dict)
    """Directories of bundles by name, in place of those of this release."""
    library: Path | None = None
    """Directory of bundles that may serve instead of the configured ones while the run goes on."""


def history_of(definition: InstrumentDefinition, history: Path | None) -> dict[str, Path]:
    """Return the history of a run with one instrument, as `Inputs` has it."""
    return {instrument_key(definition.id): history} if history else {}


def configs(inputs: Inputs, *, deadlines: DeadlineConfig | None = None) -> dict[str, Config]:
    """Return the configuration of each service but the gateway; without deadlines for a replay.

    Raises BadInput for instruments of several shards.
    """
    shards = {definition.shard for definition in inputs.definitions}
    if len(shards) != 1:
        names = ", ".join(instrument_key(definition.id) for definition in inputs.definitions)
        raise BadInput(f"instruments were {names or 'none'}, of {len(shards)} shards: name those of one underlying")
    return {
        "regime": RegimeServiceConfig(
            history=dict(inputs.history),
            history_before_ns=inputs.first_recv_ns,
            engine=_engine(inputs, "regime"),
            experts=_engine(inputs, "experts"),
            swap=DetectorSwapConfig(library=inputs.library),
            experts_swap=SwapConfig(library=inputs.library),
        ),
        "flow": FlowServiceConfig(engine=_engine(inputs, "flow"), swap=SwapConfig(library=inputs.library)),
        "sentiment": SentimentConfig(
            mood=MoodConfig(underlyings=tuple(dict.fromkeys(each.underlying for each in inputs.definitions)))
        ),
        "orchestrator": OrchestratorConfig(gate=GateConfig(experts=EXPERTS), shard=shards.pop(), deadlines=deadlines),
        "executor": ExecutorConfig(),
        "persister": PersisterConfig() if deadlines else PersisterConfig(linger_ms=0),
    }


def _engine(inputs: Inputs, name: str) -> Path | None:
    """Return the directory of the net of an expert; None where there is none."""
    if name in inputs.engines:
        return inputs.engines[name]
    directory = BUNDLES / name
    return directory if directory.is_dir() else None


def expert(name: str, inputs: Inputs) -> Expert:
    """Return one expert; raise KeyError for a name that is none of EXPERTS."""
    config = configs(inputs)[name]
    made: Mapping[str, Callable[..., Expert]] = {
        "regime": huracan_regime.spec.regime_expert,
        "flow": huracan_flow.spec.flow_expert,
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
    inputs: Inputs, *, lockstep: bool, recording: Path | None = None, feeds: Sequence[FeedConfig] = ()
) -> GatewayConfig:
    """Return the gateway's configuration: in lockstep with all services, or with steps that close on the clock."""
    alone = not feeds and len(inputs.definitions) == 1
    return GatewayConfig(
        recording=recording,
        feeds=tuple(feeds),
        lockstep_services=SERVICES if lockstep else (),
        history=inputs.history.get(instrument_key(inputs.definitions[0].id)) if alone else None,
        news=inputs.news,
    )


def gateway(inputs: Inputs, feed: Feed, *, lockstep: bool) -> Factory:
    """Return how a gateway is made that plays a feed in this process."""
    config = gateway_config(inputs, lockstep=lockstep)
    return lambda ports: Gateway(config, [opened(feed)], ports)
