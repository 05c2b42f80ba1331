"""The order-flow expert as an installed service."""

from __future__ import annotations

from huracan.expert.port import Expert
from huracan.expert.spec import expert_spec
from huracan_flow.config import FlowServiceConfig
from huracan_flow.expert import expert


def flow_expert(config: FlowServiceConfig) -> Expert:
    """Return the order-flow expert as it is configured; raise BadInput for an engine that it cannot use."""
    return expert(config.flow, config.runtime)


SPEC = expert_spec("flow", FlowServiceConfig, flow_expert, swaps=lambda config: {"flow": config.swap})
