"""Mood to odds: a tilt on a strong prior that nothing much happens."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import MOOD, Context
from huracan.contracts.opinion import AbstainReason
from huracan.expert.port import Forecast
from huracan.expert.score import engine_digest
from huracan.features.micro import MICRO
from huracan.inference.engine import Engine
from huracan_sentiment.config import SentimentConfig

METHOD = "mood tilt 1"


class MoodResponder:
    """Say which way the mid price leans over the next quarter of an hour, given the mood of headlines.

    It answers every window of `micro` but looks at the mood alone.
    """

    name = "sentiment"
    context_kinds: tuple[str, ...] = (MOOD,)
    without_context = AbstainReason.ABSTAIN_REASON_NO_INPUT
    engines: tuple[Engine, ...] = ()

    def __init__(self, config: SentimentConfig) -> None:
        self.feature_set_digest = MICRO.digest
        self.engine_digest = engine_digest(METHOD, config)
        self.horizon_ns = config.horizon_ms * MILLISECOND_NS
        self.validity_ns = config.validity_ms * MILLISECOND_NS
        self._config = config

    def forecast(
        self,
        window: NDArray[np.float32],  # noqa: ARG002 - part of the port
        contexts: Mapping[str, Context],
    ) -> Forecast | AbstainReason:
        """Return the odds of a mood; NO_INPUT when it rests on no headline."""
        mood = contexts[MOOD].mood
        if not mood.headlines or not math.isfinite(mood.polarity) or not mood.weight > 0:
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        config = self._config
        believed = mood.weight / (mood.weight + config.prior_weight)
        tilt = max(-1.0, min(1.0, mood.polarity)) * believed * config.largest_tilt
        moves = 1.0 - config.flat_share
        return Forecast(p_down=(moves - tilt) / 2, p_flat=config.flat_share, p_up=(moves + tilt) / 2)
