"""The order-flow expert, put together."""

from __future__ import annotations

from huracan.expert.port import Expert
from huracan_flow.config import FlowConfig
from huracan_flow.responder import FlowResponder


def expert(config: FlowConfig | None = None) -> Expert:
    """Return the order-flow expert: a responder alone, for it needs no slow state."""
    return Expert(responder=FlowResponder(config or FlowConfig()))
