"""The simulated study that tests of evaluation and report share, evaluated once."""

from __future__ import annotations

import pytest

from huracan_training.evaluation import Evaluation, evaluate

from .simulated_study import Market, simulated_market


@pytest.fixture(scope="session")
def market() -> Market:
    """Return a small study: three assets, five folds, two seeds of the judged model."""
    assets = ["btc-usdt-perp", "eth-usdt-perp", "sol-usdt-perp"]
    return simulated_market(assets, folds=5, bars=220, seeds=2, replicates=100)


@pytest.fixture(scope="session")
def evaluation(market: Market) -> Evaluation:
    """Return the evaluation of the small study."""
    return evaluate(market.study, market.forecasts, market.series)
