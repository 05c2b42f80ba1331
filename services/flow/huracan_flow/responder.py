"""Order flow to odds: an ordered logit on recent queue imbalance, order-flow imbalance and trades."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import Context
from huracan.contracts.opinion import AbstainReason
from huracan.expert.port import Forecast
from huracan.expert.score import Score, engine_digest, forecast
from huracan.features.micro import MICRO
from huracan.inference.engine import Engine
from huracan_flow.config import FlowConfig

METHOD = "flow ordered logit 1"


class FlowResponder:
    """Say which way the mid price goes over the horizon, from who is at the queue and who arrives.

    Order-flow imbalance: Cont, Kukanov & Stoikov 2014; queue imbalance as a predictor: Gould & Bonart 2016.
    """

    name = "flow"
    context_kinds: tuple[str, ...] = ()
    without_context = AbstainReason.ABSTAIN_REASON_NO_INPUT
    engines: tuple[Engine, ...] = ()

    def __init__(self, config: FlowConfig) -> None:
        self.feature_set_digest = MICRO.digest
        self.engine_digest = engine_digest(METHOD, config)
        self.horizon_ns = config.horizon_ms * MILLISECOND_NS
        self.validity_ns = config.validity_ms * MILLISECOND_NS
        self._config = config
        self._score = Score(MICRO.names, config.terms)

    def forecast(
        self,
        window: NDArray[np.float32],
        contexts: Mapping[str, Context],  # noqa: ARG002 - part of the port
    ) -> Forecast | AbstainReason:
        """Return the odds of a window; NO_INPUT when every value it looks at is missing."""
        added = self._score.contributions(window)
        if added is None:
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        return forecast(sum(added), flat_threshold=self._config.flat_threshold, move_bps=self._config.move_bps)
