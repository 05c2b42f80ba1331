"""The orchestrator as it is installed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_orchestrator.config import GateConfig, OrchestratorConfig
from huracan_orchestrator.spec import SPEC


def test_it_needs_a_shard_and_says_so() -> None:
    with pytest.raises(ValidationError, match=r"shard\n.*required"):
        OrchestratorConfig.model_validate({})


def test_a_shard_is_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        service = SPEC.make(OrchestratorConfig(shard=0), World(clock, seed=1).ports("orchestrator"))
        assert service.name == SPEC.name == "orchestrator"

    run_virtual(main, start_ns=1)


def test_it_speaks_for_its_strategy_and_hears_its_shard() -> None:
    access = SPEC.access(OrchestratorConfig(shard=7, gate=GateConfig(strategy="Core 2", experts=("flow",))))
    assert access.publish == (
        "sig.v1.decision.=43=ore=20=2.>",
        "sig.v1.signal.=43=ore=20=2.>",
        "ops.v1.orchestrator.>",
        "rpc.v1.flow.opine",
    )
    assert access.subscribe == ("feat.v1.micro.07.>", "sig.v1.flow.07.>")
    assert ("huracan.journal.v1", "shard.07") in access.append
    assert not SPEC.keeps
