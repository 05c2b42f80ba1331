"""The regime expert, put together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from huracan.expert.port import ContextBuilder, Expert
from huracan.inference.bundle import load_bundle
from huracan_regime.builder import History, RegimeContextBuilder
from huracan_regime.config import CorrelationConfig, DriftConfig, RegimeConfig
from huracan_regime.correlation import CorrelationContextBuilder
from huracan_regime.detector import DetectorContextBuilder
from huracan_regime.drift import DriftContextBuilder
from huracan_regime.responder import RegimeResponder
from huracan_regime.routed import RoutedResponder


def expert(
    config: RegimeConfig,
    regimes: RegimeContextBuilder | DetectorContextBuilder,
    correlation: CorrelationConfig | None = None,
    drift: DriftConfig | None = None,
    *,
    experts: Path | None = None,
) -> Expert:
    """Return the regime expert: the responder, and the builders that write its contexts.

    With `experts`, the directory of a bundle of routed nets, these answer. Raises BadInput for one that cannot be
    served.
    """
    builders: tuple[ContextBuilder, ...] = (regimes, CorrelationContextBuilder(correlation or CorrelationConfig()))
    watchers = (DriftContextBuilder(drift or DriftConfig()),)
    opened = partial(RoutedResponder, validity_ms=config.validity_ms)
    if experts is None:
        return Expert(responder=RegimeResponder(config), builders=builders, watchers=watchers, opened=opened)
    bundle = load_bundle(experts)
    return Expert(responder=opened(bundle), builders=builders, watchers=watchers, bundle=bundle, opened=opened)


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
