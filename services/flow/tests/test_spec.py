"""The order-flow expert as it is installed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_flow.config import FlowConfig
from huracan_flow.spec import SPEC


def test_the_defaults_are_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        assert SPEC.make(FlowConfig(), World(clock, seed=1).ports("flow")).name == SPEC.name == "flow"

    run_virtual(main, start_ns=1)


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="colour"):
        FlowConfig.model_validate({"colour": "red"})


def test_it_has_no_say_in_any_context() -> None:
    access = SPEC.access(FlowConfig())
    assert access.publish == ("sig.v1.flow.>", "ops.v1.flow.>")
    assert access.append == (("huracan.journal.v1.dlq", "flow"),)
    assert not SPEC.keeps
