"""The regime expert as an installed service."""

from __future__ import annotations

from huracan.contracts.context import CORRELATION, DRIFT, REGIME
from huracan.contracts.market import InstrumentId
from huracan.expert.port import Expert
from huracan.expert.spec import expert_spec
from huracan_regime.builder import RegimeContextBuilder
from huracan_regime.config import RegimeServiceConfig
from huracan_regime.correlation import CorrelationContextBuilder
from huracan_regime.detector import DetectorContextBuilder
from huracan_regime.drift import heard_of
from huracan_regime.expert import expert, fitted
from huracan_regime.history import history_from_files, read_observations


def regime_expert(config: RegimeServiceConfig) -> Expert:
    """Return the regime expert as it is configured.

    Raises BadInput, naming the file, for an engine or a history that cannot be used.
    """
    return expert(config.regime, _regimes(config), config.correlation, config.drift)


def _regimes(config: RegimeServiceConfig) -> RegimeContextBuilder | DetectorContextBuilder:
    """Return what tells regimes: the net of a bundle, or a model fitted already where it is known what to fit on."""
    if config.engine is not None:
        return DetectorContextBuilder(config.engine, valid_intervals=config.regime.model.valid_intervals)
    model, before_ns = config.regime.model, config.history_before_ns
    known = {}
    if before_ns is not None:
        for key, path in config.history.items():
            venue, _, symbol = key.partition(".")
            known[key] = read_observations(path, InstrumentId(venue=venue, symbol=symbol), model, before_ns=before_ns)
    history = history_from_files(config.history, model, before_ns=before_ns)
    return fitted(config.regime, history, known)


SPEC = expert_spec(
    "regime",
    RegimeServiceConfig,
    regime_expert,
    builds=(REGIME, CORRELATION, DRIFT),
    builds_from=tuple(dict.fromkeys((*RegimeContextBuilder.inputs, *CorrelationContextBuilder.inputs))),
    watches=lambda config: heard_of(config.drift),
)
