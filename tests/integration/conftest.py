"""A short simulated market to replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording

MARKET = SimulatedMarketConfig(seed=11, duration_s=20.0, regime_switch_s=8.0)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 20 simulated seconds, plain text."""
    path = tmp_path_factory.mktemp("market") / "market.jsonl"
    write_recording(MARKET, path)
    return path


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars that end before the market begins."""
    path = tmp_path_factory.mktemp("history") / "history.parquet"
    write_history(MARKET, path, bars=1_200)
    return path
