"""The order-flow expert as an installed service."""

from __future__ import annotations

from huracan.expert.spec import expert_spec
from huracan_flow.config import FlowServiceConfig
from huracan_flow.expert import expert

SPEC = expert_spec("flow", FlowServiceConfig, lambda config: expert(config.flow), swap=lambda config: config.swap)
