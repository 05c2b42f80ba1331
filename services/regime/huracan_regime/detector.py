"""Bars to regime contexts by a net: what the bars ahead are likely to be, served by an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from huracan.contracts.context import REGIME, RegimeTransition, regime_state, regime_transition
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import instrument_key
from huracan.errors import BadInput
from huracan.expert.port import ContextDraft
from huracan.features.bar import BAR
from huracan.features.outlook import FILE, read_outlook
from huracan.features.regimes import FILE as REGIMES_FILE
from huracan.features.regimes import REGIMES, UNKNOWN, RegimeThresholds, read_regimes
from huracan.inference.bundle import Bundle, load_bundle
from huracan.inference.engine import Engine, EngineFault
from huracan.inference.opening import RuntimeConfig, open_engine
from huracan_regime.builder import log_returns
from huracan_regime.chain import RegimeChain


class DetectorContextBuilder:
    """Build the regime context of each instrument from its windows of 15-minute bars, as the net of a bundle sees them.

    An instrument that the net was not trained on is seen as all of those together. Windows that are not full, not newer
    than the last one used, or of another feature set change nothing, and neither does a window to which the engine
    gives no numbers: the context before it goes on until it expires.

    Where the bundle says what regimes were in training, a context also tells which the bars up to now were, how likely
    another follows, and what a Markov chain of them says.
    """

    inputs: tuple[str, ...] = ("feat.v1.bar_15m.>",)

    def __init__(self, source: Path | Bundle, *, valid_intervals: int, runtime: RuntimeConfig | None = None) -> None:
        """Open the engine of a bundle, or of the one in a directory.

        Raises BadInput for a bundle that is not whole, tells no regimes, or is of other features.
        """
        bundle = source if isinstance(source, Bundle) else load_bundle(source)
        directory = bundle.directory
        if bundle.manifest.classes != REGIMES:
            told = ", ".join(bundle.manifest.classes)
            raise BadInput(f"{directory} tells {told} apart, not {', '.join(REGIMES)}")
        if FILE not in bundle.contents:
            raise BadInput(f"{directory} has no {FILE}: nothing says how bars are seen; train it again")
        self._outlook = read_outlook(bundle.contents[FILE], str(directory / FILE))
        runtime = runtime or RuntimeConfig()
        self._engine = open_engine(bundle, prefer=runtime.prefer, cache=runtime.plans)
        self.engines: tuple[Engine, ...] = (self._engine,)
        self._engine.check_features(BAR.digest, self._outlook.columns)
        self._thresholds = _thresholds(bundle)
        self._chains: dict[str, RegimeChain] = {}
        self._valid_intervals = valid_intervals
        self._as_of: dict[str, int] = {}

    @property
    def horizon_bars(self) -> int:
        """Return of how many bars ahead it tells."""
        return self._engine.manifest.horizon_steps

    @property
    def engine_digest(self) -> bytes:
        """Return what contexts name as what made them."""
        return self._engine.digest

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        """Take one window and return the instrument's new context, if it gives one."""
        if not isinstance(message, FeatureWindow) or not self._usable(message):
            return []
        try:
            (shares,) = self._engine.run(self._outlook.window(message)[np.newaxis]).tolist()
        except EngineFault:
            return []
        key = instrument_key(message.instrument.id)
        self._as_of[key] = message.close_ns
        returns = log_returns(message)
        state = regime_state(
            shares=dict(zip(REGIMES, shares, strict=True)),
            volatility=float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
            bars=message.valid_rows,
            horizon_bars=self._engine.manifest.horizon_steps,
            transition=self._transition(key, message, shares),
        )
        return [
            ContextDraft(
                kind=REGIME,
                key=key,
                as_of_ns=message.close_ns,
                valid_until_ns=message.close_ns + self._valid_intervals * message.interval_ns,
                payload=state,
                engine_digest=self._engine.digest,
            )
        ]

    def _transition(self, key: str, window: FeatureWindow, shares: Sequence[float]) -> RegimeTransition | None:
        """Return what is said of a change of regime; None where the bundle or the bars do not tell the present one."""
        if self._thresholds is None:
            return None
        if key not in self._chains:
            prior = np.array(self._thresholds.transition)
            self._chains[key] = RegimeChain(prior, self._thresholds.half_life_bars)
        chain, interval_ns = self._chains[key], window.interval_ns
        close_ns = window.close_ns - interval_ns * np.arange(window.rows - 1, -1, -1, dtype=np.int64)
        chain.follow(self._thresholds.known(window), close_ns, interval_ns)
        if chain.known == UNKNOWN:
            return None
        return regime_transition(
            known=REGIMES[chain.known],
            change_probability=1.0 - shares[chain.known],
            chain=dict(zip(REGIMES, chain.ahead(self._thresholds.horizon_bars).tolist(), strict=True)),
            expected_bars=chain.expected_bars(),
        )

    def _usable(self, window: FeatureWindow) -> bool:
        manifest = self._engine.manifest
        return (
            window.feature_set_digest == BAR.digest
            and window.valid_rows == window.rows == manifest.window
            and window.interval_ns == manifest.interval_ns
            and window.close_ns > self._as_of.get(instrument_key(window.instrument.id), -1)
        )


def _thresholds(bundle: Bundle) -> RegimeThresholds | None:
    if REGIMES_FILE not in bundle.contents:
        return None
    place = bundle.directory / REGIMES_FILE
    found = read_regimes(bundle.contents[REGIMES_FILE], str(place))
    if found.horizon_bars != bundle.manifest.horizon_steps:
        raise BadInput(
            f"{place}: horizon_bars was {found.horizon_bars}, not {bundle.manifest.horizon_steps} as the net's"
        )
    return found
