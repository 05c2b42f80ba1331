"""The regime expert as an installed service."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from huracan.contracts.context import CORRELATION, DRIFT, REGIME, EngineBundle, RegimeState
from huracan.contracts.market import InstrumentId
from huracan.errors import BadInput
from huracan.expert.engines import named
from huracan.expert.port import ContextBuilder, ContextDraft, Expert, Part
from huracan.expert.score import engine_digest
from huracan.expert.spec import expert_spec
from huracan.features.regimes import REGIMES
from huracan.inference.bundle import Bundle, load_bundle
from huracan.inference.engine import Engine
from huracan_regime.builder import METHOD, RegimeContextBuilder
from huracan_regime.config import RegimeServiceConfig
from huracan_regime.correlation import CorrelationContextBuilder
from huracan_regime.detector import DetectorContextBuilder
from huracan_regime.drift import heard_of
from huracan_regime.expert import expert, fitted
from huracan_regime.history import history_from_files, read_observations

EXPERTS = "regime"
"""Key of the nets that answer windows: of their choices, and for whoever asks for others. It is the service's name."""
DETECTOR = "regime.detector"
"""Key of what tells the regimes."""


def regime_expert(config: RegimeServiceConfig) -> Expert:
    """Return the regime expert as it is configured.

    Raises BadInput, naming the file, for an engine, nets or a history that cannot be used.
    """
    regimes = _regimes(config)
    made = expert(config.regime, regimes, config.correlation, config.drift, experts=config.experts)
    return replace(made, part=_detector(regimes, config))


def _detector(regimes: RegimeContextBuilder | DetectorContextBuilder, config: RegimeServiceConfig) -> Part:
    model = config.regime.model
    name = EngineBundle(digest=engine_digest(METHOD, model), name="regime model")
    if config.engine is not None:
        name = named(load_bundle(config.engine))
    opened = partial(_opened, regimes, config)
    return Part(key=DETECTOR, builder=regimes, name=name, opened=opened, engines=_engines, odds=_odds)


def _opened(regimes: ContextBuilder, config: RegimeServiceConfig, source: Path | Bundle) -> DetectorContextBuilder:
    """Return the detector of a bundle; raise BadInput for one that looks less or further ahead than the configured."""
    made = DetectorContextBuilder(source, valid_intervals=config.regime.model.valid_intervals, runtime=config.runtime)
    if isinstance(regimes, DetectorContextBuilder) and made.horizon_bars != regimes.horizon_bars:
        raise BadInput(f"horizon_steps was {made.horizon_bars} bars: contexts tell of {regimes.horizon_bars}")
    return made


def _engines(builder: ContextBuilder) -> tuple[Engine, ...]:
    return builder.engines if isinstance(builder, DetectorContextBuilder) else ()


def _odds(draft: ContextDraft) -> list[float]:
    assert isinstance(draft.payload, RegimeState)
    told = {share.regime: share.probability for share in draft.payload.shares}
    return [told.get(regime, 0.0) for regime in REGIMES]


def _regimes(config: RegimeServiceConfig) -> RegimeContextBuilder | DetectorContextBuilder:
    """Return what tells regimes: the net of a bundle, or a model fitted already where it is known what to fit on."""
    if config.engine is not None:
        valid_intervals = config.regime.model.valid_intervals
        return DetectorContextBuilder(config.engine, valid_intervals=valid_intervals, runtime=config.runtime)
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
    swaps=lambda config: {EXPERTS: config.experts_swap, DETECTOR: config.swap},
)
