"""Synthetic bars with changing volatility and drift, and files of them: what tests train and judge on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from huracan_training.bars import INTERVAL_NS, VALUES, Bars

START_NS = 1_700_000_100_000_000_000 // INTERVAL_NS * INTERVAL_NS
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Recorded data; tests of it skip by name where it is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimes:
    """How the market of a test moves: each bar belongs to one of a few kinds, which last."""

    volatilities: tuple[float, ...] = (0.0005, 0.0015, 0.003, 0.006)
    """Standard deviation of the log return of a bar, by kind."""
    drifts: tuple[float, ...] = (0.0, 0.001, 0.0, -0.002)
    """Mean log return of a bar, by kind."""
    stay: float = 0.98
    """Probability that the next bar is of the same kind."""


def synthetic_bars(
    count: int, *, seed: int = 0, asset: str = "sim_SIMUSDT", regimes: Regimes | None = None, start_ns: int = START_NS
) -> Bars:
    """Return bars of 15 minutes without a fault; the same for the same arguments."""
    regimes = regimes or Regimes()
    random = np.random.default_rng(seed)
    kinds = np.zeros(count, dtype=np.int64)
    for at in range(1, count):
        kinds[at] = kinds[at - 1] if random.random() < regimes.stay else random.integers(len(regimes.drifts))
    volatility, drift = np.array(regimes.volatilities)[kinds], np.array(regimes.drifts)[kinds]
    close = 100.0 * np.exp(np.cumsum(drift + volatility * random.standard_normal(count)))
    opened = np.concatenate([[100.0], close[:-1]])
    wicks = np.exp(volatility * np.abs(random.standard_normal((2, count))))
    return Bars(
        asset=asset,
        interval_ns=INTERVAL_NS,
        unreadable=0,
        open_ns=start_ns + INTERVAL_NS * np.arange(count, dtype=np.int64),
        open=opened,
        high=np.maximum(opened, close) * wicks[0],
        low=np.minimum(opened, close) / wicks[1],
        close=close,
        volume=np.exp(random.standard_normal(count)) * 100.0 * (1.0 + 200.0 * volatility),
    )


def write_bars(bars: Bars, path: Path) -> Path:
    """Write bars as Parquet, as providers do, and return the path."""
    columns = {"date": pa.array(bars.open_ns, pa.timestamp("ns", "UTC"))}
    columns |= {name: pa.array(getattr(bars, name)) for name in VALUES}
    pq.write_table(pa.table(columns), path)
    return path
