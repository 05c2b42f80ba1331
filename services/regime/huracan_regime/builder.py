"""Bars to regime contexts: fit once on the past, then filter each window of bars forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.contracts.context import REGIME, regime_state
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.market import instrument_key
from huracan.expert.port import ContextDraft
from huracan.expert.score import engine_digest
from huracan.features.bar import BAR
from huracan_regime.config import RegimeConfig
from huracan_regime.filter import forward_filter
from huracan_regime.model import OBSERVED, RegimeModel, fit

METHOD = "regime hmm 1"

History = Callable[[FeatureWindow], NDArray[np.float64]]
"""Return the observations of bars that close no later than the window, shape (n, 2) as in OBSERVED, oldest
first."""


_LOG_RETURN = BAR.names.index("log_return")


def log_returns(window: FeatureWindow) -> NDArray[np.float64]:
    """Return the log returns of the bars of a window that have one, shape (n,), oldest first."""
    returns = window_matrix(window)[:, _LOG_RETURN].astype(np.float64)
    return returns[np.isfinite(returns)]


class RegimeContextBuilder:
    """Build the regime context of each instrument from its windows of 15-minute bars.

    The first full window fixes the instrument's model, fitted on history that ends no later than the window;
    until there is enough history there is no context, and the responder abstains WARMING. Windows that are
    not newer than the last one used, or of another feature set, change nothing.
    """

    inputs: tuple[str, ...] = ("feat.v1.bar_15m.>",)

    def __init__(self, config: RegimeConfig, history: History) -> None:
        self._config = config
        self._history = history
        self._models: dict[str, RegimeModel] = {}
        self._as_of: dict[str, int] = {}
        self._observed = [BAR.names.index(name) for name in OBSERVED]

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        """Take one window and return the instrument's new context, if it gives one."""
        if not isinstance(message, FeatureWindow) or not self._usable(message):
            return []
        key = instrument_key(message.instrument.id)
        model = self._model(key, message)
        if model is None:
            return []
        draft = self._draft(key, message, model)
        if draft is None:
            return []
        self._as_of[key] = message.close_ns
        return [draft]

    def _usable(self, window: FeatureWindow) -> bool:
        newest = self._as_of.get(instrument_key(window.instrument.id), -1)
        full = window.valid_rows == window.rows
        return full and window.feature_set_digest == BAR.digest and window.close_ns > newest

    def fit_ahead(self, key: str, observed: NDArray[np.float64]) -> None:
        """Fit an instrument's model before its first window: a fit takes seconds that a live market does not wait."""
        fitted = fit(observed, self._config.model)
        if fitted is not None:
            self._models[key] = fitted

    def _model(self, key: str, window: FeatureWindow) -> RegimeModel | None:
        if key not in self._models:
            fitted = fit(self._history(window), self._config.model)
            if fitted is None:
                return None
            self._models[key] = fitted
        return self._models[key]

    def _draft(self, key: str, window: FeatureWindow, model: RegimeModel) -> ContextDraft | None:
        returns = log_returns(window)
        if len(returns) < 2:
            return None
        values = window_matrix(window).astype(np.float64)
        emission = model.log_emission(values[:, self._observed])
        shares = forward_filter(emission, model.transition, model.start)[-1].tolist()
        return ContextDraft(
            kind=REGIME,
            key=key,
            as_of_ns=window.close_ns,
            valid_until_ns=window.close_ns + self._config.model.valid_intervals * window.interval_ns,
            payload=regime_state(
                shares=dict(zip(model.names, shares, strict=True)),
                volatility=float(returns.std(ddof=1)),
                bars=window.valid_rows,
            ),
            engine_digest=engine_digest(METHOD, self._config.model, model.parameter_bytes()),
        )
