"""The regime expert, put together."""

from __future__ import annotations

from huracan.expert.port import Expert
from huracan_regime.builder import History, RegimeContextBuilder
from huracan_regime.config import RegimeConfig
from huracan_regime.responder import RegimeResponder


def expert(config: RegimeConfig, history: History) -> Expert:
    """Return the regime expert: the responder, and the builder that writes its context."""
    return Expert(responder=RegimeResponder(config), builders=(RegimeContextBuilder(config, history),))
