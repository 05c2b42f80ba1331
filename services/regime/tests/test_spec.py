"""The regime expert as it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from huracan.errors import BadInput
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_regime.config import DriftConfig, LossConfig, RegimeServiceConfig
from huracan_regime.spec import SPEC


def test_the_defaults_are_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        assert SPEC.make(RegimeServiceConfig(), World(clock, seed=1).ports("regime")).name == SPEC.name == "regime"

    run_virtual(main, start_ns=1)


def test_a_history_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    config = RegimeServiceConfig(history={"sim.sim-usdt-perp": tmp_path / "absent.parquet"}, history_before_ns=10**18)

    async def main(clock: VirtualClock) -> None:
        with pytest.raises(BadInput, match=r"absent\.parquet"):
            SPEC.make(config, World(clock, seed=1).ports("regime"))

    run_virtual(main, start_ns=1)


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="colour"):
        RegimeServiceConfig.model_validate({"regime": {"colour": "red"}})


def test_it_writes_regimes_correlations_drift_and_which_engines_it_has_and_no_other_context() -> None:
    access = SPEC.access(RegimeServiceConfig())
    assert [pattern for pattern in access.publish if pattern.startswith("ctx.")] == [
        "ctx.v1.regime.>",
        "ctx.v1.correlation.>",
        "ctx.v1.drift.>",
        "ctx.v1.engine.regime",
        "ctx.v1.engine.regime=2e=detector",
    ]
    assert access.everything == ("feat.v1.bar_15m.>",)
    assert not SPEC.keeps


def test_it_hears_the_experts_whose_losses_it_is_told_to_follow() -> None:
    deaf = DriftConfig(loss=LossConfig(experts=()))
    heard = {"sig.v1.regime.>", "sig.v1.flow.>"}
    assert heard <= set(SPEC.access(RegimeServiceConfig()).subscribe)
    assert not heard & set(SPEC.access(RegimeServiceConfig(drift=deaf)).subscribe)
