"""The regime expert, put together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from huracan.expert.port import ContextBuilder, Expert
from huracan_regime.builder import History, RegimeContextBuilder
from huracan_regime.config import CorrelationConfig, DriftConfig, RegimeConfig
from huracan_regime.correlation import CorrelationContextBuilder
from huracan_regime.detector import DetectorContextBuilder
from huracan_regime.drift import DriftContextBuilder
from huracan_regime.responder import RegimeResponder


def expert(
    config: RegimeConfig,
    regimes: RegimeContextBuilder | DetectorContextBuilder,
    correlation: CorrelationConfig | None = None,
    drift: DriftConfig | None = None,
) -> Expert:
    """Return the regime expert: the responder, and the builders that write its contexts."""
    builders: tuple[ContextBuilder, ...] = (regimes, CorrelationContextBuilder(correlation or CorrelationConfig()))
    watchers = (DriftContextBuilder(drift or DriftConfig()),)
    return Expert(responder=RegimeResponder(config), builders=builders, watchers=watchers)


def fitted(
    config: RegimeConfig, history: History, known: Mapping[str, NDArray[np.float64]] | None = None
) -> RegimeContextBuilder:
    """Return what tells regimes by a hidden Markov model.

    `known` gives the observations of instruments, by `venue.symbol`, whose models are fitted now.
    """
    builder = RegimeContextBuilder(config, history)
    for key, observed in (known or {}).items():
        builder.fit_ahead(key, observed)
    return builder
