"""Regime to odds: one specialist answers, that of the most probable regime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import REGIME, Context
from huracan.contracts.opinion import AbstainReason
from huracan.expert.port import Forecast
from huracan.expert.score import Score, engine_digest, forecast
from huracan.features.micro import MICRO
from huracan.inference.engine import Engine
from huracan_regime.config import RegimeConfig

METHOD = "regime specialists 1"


class RegimeResponder:
    """Say which way the mid price goes over the horizon, as the specialist of the present regime sees it.

    Routing is sparse: only the specialist of the most probable regime is asked.
    """

    name = "regime"
    context_kinds: tuple[str, ...] = (REGIME,)
    without_context = AbstainReason.ABSTAIN_REASON_WARMING
    engines: tuple[Engine, ...] = ()

    def __init__(self, config: RegimeConfig) -> None:
        self.feature_set_digest = MICRO.digest
        self.engine_digest = engine_digest(METHOD, config)
        self.horizon_ns = config.horizon_ms * MILLISECOND_NS
        self.validity_ns = config.validity_ms * MILLISECOND_NS
        self._specialists = {
            regime: (specialist, Score(MICRO.names, specialist.terms))
            for regime, specialist in config.specialists().items()
        }

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        """Return the odds of a window; NO_INPUT when the specialist's values are all missing."""
        shares = contexts[REGIME].regime.shares
        present = max(shares, key=lambda share: share.probability, default=None)
        if present is None or present.regime not in self._specialists:
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        specialist, score = self._specialists[present.regime]
        added = score.contributions(window)
        if added is None:
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        agreed = not specialist.must_agree or min(added) > 0 or max(added) < 0
        return forecast(
            sum(added) if agreed else 0.0,
            flat_threshold=specialist.flat_threshold,
            move_bps=specialist.move_bps,
        )
