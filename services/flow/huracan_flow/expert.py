"""The order-flow expert, put together."""

from __future__ import annotations

from huracan.expert.port import Expert
from huracan_flow.config import FlowConfig
from huracan_flow.net import NetResponder
from huracan_flow.responder import FlowResponder


def expert(config: FlowConfig | None = None) -> Expert:
    """Return the order-flow expert: a responder alone, for it needs no slow state.

    Raises BadInput, naming the file, for an engine that cannot be served.
    """
    config = config or FlowConfig()
    if config.engine is None:
        return Expert(responder=FlowResponder(config))
    return Expert(responder=NetResponder(config.engine, config.validity_ms))
