"""How the moves of instruments go together: bars of all of them to one context, and to a map that people can read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.contracts.context import CORRELATION, correlation_state
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.market import instrument_key
from huracan.contracts.ops import heat_map
from huracan.expert.port import ContextDraft
from huracan.expert.score import engine_digest
from huracan.features.bar import BAR
from huracan_regime.config import CorrelationConfig

METHOD = "correlation ewma ledoit-wolf 1"
KEY = "market"
"""There is one such context: of all instruments that are heard."""

Array = NDArray[np.float64]
_LOG_RETURN = BAR.names.index("log_return")
_ABSORBING = 5
"""One in so many eigenvalues counts as one of the largest (Kritzman et al. 2011)."""
_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlated:
    """What was estimated from some returns."""

    correlations: Array
    """Shape (n, n), 1 on the diagonal."""
    absorption_ratio: float
    """Share of the variance of standardised returns that the largest n / 5 eigenvalues hold, in (0, 1]."""
    shrinkage: float
    """Weight of the identity in the estimate, in [0, 1]."""


def correlated(returns: Array, half_life: float) -> Correlated | None:
    """Return how columns of returns, shape (bars, n), oldest first, go together; None where one of them never moves.

    Weights halve every `half_life` bars into the past. Returns are divided by their weighted root mean square, so that
    what is shrunk towards the identity is a correlation (Ledoit and Wolf 2004); rows that weigh more count as more
    spread out in the estimate of how far. Returns have mean 0: over some bars a mean is noise.
    """
    from sklearn.covariance import ledoit_wolf  # slow to import, and only the builder needs it
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    bars = len(returns)
    weights = 0.5 ** (np.arange(bars - 1, -1, -1) / half_life)
    weighted = returns * np.sqrt(bars * weights / weights.sum())[:, None]
    size = np.sqrt(np.square(weighted).mean(axis=0))
    if not (size > 0).all():
        return None
    with threadpool_limits(limits=1):
        covariance, shrinkage = ledoit_wolf(weighted / size, assume_centered=True)
        spread = np.sqrt(np.diagonal(covariance))
        correlations = np.clip(covariance / np.outer(spread, spread), -1.0, 1.0)
        np.fill_diagonal(correlations, 1.0)
        eigenvalues = np.linalg.eigvalsh(correlations)[::-1]
    largest = max(1, round(len(eigenvalues) / _ABSORBING))
    return Correlated(
        correlations=np.round(correlations, _DECIMALS),
        absorption_ratio=round(float(eigenvalues[:largest].sum() / eigenvalues.sum()), _DECIMALS),
        shrinkage=round(float(shrinkage), _DECIMALS),
    )


class CorrelationContextBuilder:
    """Build the correlation context from the bars of every instrument.

    A bar counts once every instrument that had the one before it has closed it too, or else when somebody closes the
    next: an instrument that fell silent is left out, and holds nobody up. Only bars that all of them have are compared.
    """

    inputs: tuple[str, ...] = ("feat.v1.bar_15m.>",)

    def __init__(self, config: CorrelationConfig) -> None:
        self._config = config
        self._digest = engine_digest(METHOD, config)
        self._returns: dict[str, deque[tuple[int, float]]] = {}
        """Close and log return of the bars of each instrument, oldest first."""
        self._told_ns = 0

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        """Take one window and return the contexts that are whole because of it."""
        if not isinstance(message, FeatureWindow) or message.feature_set_digest != BAR.digest:
            return []
        earlier_ns = self._newest_ns()
        if not self._take(instrument_key(message.instrument.id), message):
            return []
        found = []
        if message.close_ns > earlier_ns > self._told_ns:  # somebody did not close it; it is over all the same
            found += self._draft(earlier_ns, message.interval_ns)
        if message.close_ns > self._told_ns and self._is_whole(message.close_ns, message.interval_ns):
            found += self._draft(message.close_ns, message.interval_ns)
        return found

    def _take(self, key: str, window: FeatureWindow) -> bool:
        """Keep the bars of a window that are new; return whether there are any."""
        kept = self._returns.setdefault(key, deque(maxlen=self._config.max_bars))
        values = window_matrix(window)[window.rows - window.valid_rows :, _LOG_RETURN].tolist()
        first_ns = window.close_ns - (len(values) - 1) * window.interval_ns
        closes = range(first_ns, window.close_ns + 1, window.interval_ns)
        new = [
            (close_ns, value)
            for close_ns, value in zip(closes, values, strict=True)
            if isfinite(value) and (not kept or close_ns > kept[-1][0])
        ]
        kept.extend(new)
        return bool(new)

    def _newest_ns(self) -> int:
        return max((kept[-1][0] for kept in self._returns.values() if kept), default=0)

    def _is_whole(self, close_ns: int, interval_ns: int) -> bool:
        newest = close_ns == self._newest_ns()
        return newest and all(kept[-1][0] != close_ns - interval_ns for kept in self._returns.values() if kept)

    def _draft(self, close_ns: int, interval_ns: int) -> list[ContextDraft]:
        """Return the context as of a close; none where too few instruments have too few bars together."""
        returns = {key: {at: value for at, value in kept if at <= close_ns} for key, kept in self._returns.items()}
        keys = sorted(key for key, own in returns.items() if close_ns in own and len(own) >= self._config.min_bars)
        if len(keys) < 2:
            return []
        common = sorted(set.intersection(*(set(returns[key]) for key in keys)))
        if len(common) < self._config.min_bars:
            return []
        table = np.array([[returns[key][at] for key in keys] for at in common])
        found = correlated(table, self._config.half_life_bars)
        if found is None:
            return []
        self._told_ns = close_ns
        return [
            ContextDraft(
                kind=CORRELATION,
                key=KEY,
                as_of_ns=close_ns,
                valid_until_ns=close_ns + self._config.valid_intervals * interval_ns,
                payload=correlation_state(
                    instruments=keys,
                    correlations=found.correlations,
                    absorption_ratio=found.absorption_ratio,
                    shrinkage=found.shrinkage,
                    bars=len(common),
                ),
                engine_digest=self._digest,
                shows=heat_map(CORRELATION, keys, keys, found.correlations, low=-1.0, high=1.0, as_of_ns=close_ns),
            )
        ]
