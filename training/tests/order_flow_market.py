"""Synthetic steps of a market whose queue tells where the mid goes: what models of direction are tried on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np

from huracan.clock import STEP_NS
from huracan.contracts.context import REGIME, Context, regime_state
from huracan.contracts.features import FeatureRow, feature_row
from huracan.contracts.market import Reliability, ReliabilityPart, linear_perpetual
from huracan.expert.port import Forecast
from huracan.features.micro import MICRO
from huracan.features.regimes import REGIMES
from huracan.store.parquet import write_messages
from huracan_regime.routed import RoutedResponder
from huracan_training.bars import Asset
from huracan_training.benchmark import final_fold
from huracan_training.datasets import Dataset
from huracan_training.samples import WINDOW, Floats, Rows, Sample, Series
from huracan_training.steps import RUN_ROWS

FIRST_STEP = 17_231_612_550
HORIZON = 10
_ALWAYS_MISSING = ("funding_rate_bps", "liquidation_imbalance_60s", "venue_mid_gap_bps")


def queue_of(steps: int, seed: int) -> Floats:
    """Return a queue imbalance of each step that lasts for some of them."""
    rng, queue = np.random.default_rng(seed), np.zeros(steps)
    for at in range(1, steps):
        queue[at] = np.clip(0.9 * queue[at - 1] + 0.4 * rng.standard_normal(), -1, 1)
    return queue


def step_rows(steps: int, seed: int, pull_bps: float = 0.15) -> Rows:
    """Return rows of `micro`: the mid follows the queue of the step before, and stands still in half of the steps."""
    rng, queue = np.random.default_rng(seed + 1000), queue_of(steps, seed)
    rows = rng.standard_normal((steps, MICRO.columns)).astype(np.float32)
    moves = (pull_bps * np.roll(queue, 1) + 0.1 * rng.standard_normal(steps)) * (rng.random(steps) < 0.5)
    rows[:, MICRO.names.index("mid_return_bps")] = moves
    rows[:, MICRO.names.index("queue_imbalance")] = queue
    rows[:, MICRO.names.index("trade_imbalance")] = np.where(rng.random(steps) < 0.3, np.nan, np.tanh(rows[:, 0]))
    for name in _ALWAYS_MISSING:
        rows[:, MICRO.names.index(name)] = np.nan
    return rows


def step_asset(steps: int, seed: int, name: str = "sim_a-usdt-perp", pull_bps: float = 0.15) -> Asset:
    """Return steps as datasets have them."""
    rows = step_rows(steps, seed, pull_bps)
    returns = rows[:, MICRO.names.index("mid_return_bps")].astype(np.float64) * 1e-4
    returns[0] = np.nan
    close_ns = STEP_NS * (FIRST_STEP + 1 + np.arange(steps, dtype=np.int64))
    return Asset(series=Series(asset=name, interval_ns=STEP_NS, close_ns=close_ns, log_return=returns, rows=rows))


def write_run(directory: Path, symbol: str, *, steps: int = 1_500, seed: int = 0) -> Path:
    """Write the feature rows of a run, and that its frames were good, into a directory and return it."""
    instrument = linear_perpetual(symbol, venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
    rows: list[FeatureRow] = [
        feature_row(
            instrument=instrument,
            epoch=1,
            feature_set=MICRO.name,
            feature_set_digest=MICRO.digest,
            step=FIRST_STEP + at,
            close_ns=STEP_NS * (FIRST_STEP + at + 1),
            first_ingest_seq=at + 1,
            last_ingest_seq=at + 1,
            values=values,
        )
        for at, values in enumerate(step_rows(steps, seed))
    ]
    directory.mkdir(parents=True)
    write_messages(rows, directory / RUN_ROWS)
    hour = Reliability(
        instrument=rows[0].instrument,
        hour_ns=0,
        epoch=1,
        parts=[ReliabilityPart(name="gap", value=0.0)],
        from_ns=rows[0].close_ns,
        to_ns=rows[-1].close_ns,
    )
    write_messages([hour], directory / "reliability.parquet")
    return directory


def window_sample(window: Rows) -> Sample:
    """Return a sample that asks about one window alone, shape (64, columns)."""
    steps = len(window)
    series = Series(
        asset="sim_any-usdt-perp",
        interval_ns=STEP_NS,
        close_ns=STEP_NS * (FIRST_STEP + 1 + np.arange(steps, dtype=np.int64)),
        log_return=np.zeros(steps),
        rows=window,
    )
    unknown = np.full(steps, -1, dtype=np.int64)
    return Sample(series=series, at=np.array([steps - 1]), labels=np.ones(1, dtype=np.int64), known=unknown)


def served_log_loss(responder: RoutedResponder, dataset: Dataset) -> float:
    """Return what a responder loses on the newest rows of a dataset, nats."""
    state = {REGIME: Context(regime=regime_state(shares={REGIMES[0]: 1.0}, volatility=0.0, bars=0))}
    losses = []
    for sample in final_fold(dataset, HORIZON).samples.test:
        for at, label in zip(sample.at, sample.labels, strict=True):
            told = responder.forecast(sample.series.rows[at - WINDOW + 1 : at + 1], state)
            assert isinstance(told, Forecast)
            losses.append(-np.log((told.p_down, told.p_flat, told.p_up)[label]))
    return float(np.mean(losses))
