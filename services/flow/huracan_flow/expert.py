"""The order-flow expert, put together."""

from __future__ import annotations

from functools import partial

from huracan.expert.port import Expert
from huracan.inference.bundle import load_bundle
from huracan.inference.opening import RuntimeConfig
from huracan_flow.config import FlowConfig
from huracan_flow.net import NetResponder
from huracan_flow.responder import FlowResponder


def expert(config: FlowConfig | None = None, runtime: RuntimeConfig | None = None) -> Expert:
    """Return the order-flow expert: a responder alone, for it needs no slow state; any net of directions may follow it.

    Raises BadInput, naming the file, for an engine that cannot be served.
    """
    config = config or FlowConfig()
    opened = partial(NetResponder, validity_ms=config.validity_ms, runtime=runtime)
    if config.engine is None:
        return Expert(responder=FlowResponder(config), opened=opened)
    bundle = load_bundle(config.engine)
    return Expert(responder=opened(bundle), bundle=bundle, opened=opened)
