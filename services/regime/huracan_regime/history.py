"""History for the fit: observations of bars from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from huracan.clock import MINUTE_NS
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import Bar, InstrumentId, instrument_key
from huracan.features.bar_batch import bar_rows
from huracan.market.history import load_history
from huracan_regime.builder import History
from huracan_regime.config import RegimeModelConfig
from huracan_regime.model import OBSERVED

_WARM_UP_BARS = 16
BAR_NS = 15 * MINUTE_NS


def observations(bars: list[Bar]) -> NDArray[np.float64]:
    """Return the observations of bars, shape (n, 2) as in OBSERVED; NaN where a feature has too few bars
    before it."""
    if not bars:
        return np.empty((0, len(OBSERVED)))
    prices = [[float(getattr(bar, name)) for bar in bars] for name in ("open", "high", "low", "close", "volume")]
    open_ns = np.array([bar.open_ns for bar in bars], dtype=np.int64)
    rows = bar_rows(open_ns, *np.array(prices), interval_ns=bars[0].interval_ns, names=OBSERVED)
    return rows.astype(np.float64)


def no_history(window: FeatureWindow) -> NDArray[np.float64]:  # noqa: ARG001 - a History
    """Return no observations: there is then no regime context."""
    return np.empty((0, len(OBSERVED)))


def history_from_files(
    files: Mapping[str, Path], config: RegimeModelConfig, *, before_ns: int | None = None
) -> History:
    """Return a History that reads bar files, keyed by `venue.symbol`; instruments without a file have no
    history.

    Only bars that had closed at the window's close count, and in a replay only those that had closed at
    `before_ns`, the recording's first receive time: a builder restarted in the middle then fits the same
    model. A file that cannot be used raises BadInput when it is read, at the instrument's first full window.
    """

    def read(window: FeatureWindow) -> NDArray[np.float64]:
        path = files.get(instrument_key(window.instrument.id))
        if path is None:
            return no_history(window)
        until_ns = window.close_ns if before_ns is None else min(before_ns, window.close_ns)
        return read_observations(path, window.instrument.id, config, before_ns=until_ns)

    return read


def read_observations(
    path: Path, instrument: InstrumentId, config: RegimeModelConfig, *, before_ns: int
) -> NDArray[np.float64]:
    """Return the observations to fit on: of the last 15-minute bars of a file that had closed by a time."""
    bars = load_history(
        path,
        instrument=instrument,
        interval_ns=BAR_NS,
        before_ns=before_ns,
        last=config.max_history_bars + _WARM_UP_BARS,
    )
    return observations(bars)
