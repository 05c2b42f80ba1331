"""The order-flow expert as it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from huracan.expert.trial import SwapConfig
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_flow.config import FlowConfig, FlowServiceConfig
from huracan_flow.expert import expert
from huracan_flow.spec import SPEC


def test_the_defaults_are_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        assert SPEC.make(FlowServiceConfig(), World(clock, seed=1).ports("flow")).name == SPEC.name == "flow"

    run_virtual(main, start_ns=1)


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="colour"):
        FlowServiceConfig.model_validate({"colour": "red"})


def test_of_contexts_it_writes_which_engine_it_answers_from() -> None:
    access = SPEC.access(FlowServiceConfig())
    assert access.publish == ("sig.v1.flow.>", "ops.v1.flow.>", "sig.v1.shadow.flow.>", "ctx.v1.engine.flow")
    assert access.append == (("huracan.journal.v1", "context.engine.flow"), ("huracan.journal.v1.dlq", "flow"))
    assert not SPEC.keeps


def test_a_copy_that_follows_writes_no_context() -> None:
    access = SPEC.access(FlowServiceConfig(swap=SwapConfig(decides=False)))
    assert access.publish == ("sig.v1.flow.>", "ops.v1.flow.>")
    assert access.append == (("huracan.journal.v1.dlq", "flow"),)
    assert "rpc.v1.flow.engine" not in access.subscribe


def test_where_others_are_found_does_not_change_an_answer(tmp_path: Path) -> None:
    here, there = FlowServiceConfig(), FlowServiceConfig(swap=SwapConfig(library=tmp_path))
    assert expert(here.flow).responder.engine_digest == expert(there.flow).responder.engine_digest
    assert expert(here.flow).responder.engine_digest == expert(FlowConfig()).responder.engine_digest
