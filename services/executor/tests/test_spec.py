"""The executor as it is installed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_executor.config import ExecutorConfig
from huracan_executor.spec import SPEC


def test_the_defaults_are_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        assert SPEC.make(ExecutorConfig(), World(clock, seed=1).ports("executor")).name == SPEC.name == "executor"

    run_virtual(main, start_ns=1)


def test_an_account_that_is_no_token_is_refused() -> None:
    with pytest.raises(ValidationError, match="account"):
        ExecutorConfig(account="Paper.*")


def test_it_touches_its_account_and_no_other() -> None:
    access = SPEC.access(ExecutorConfig(account="desk-2", strategy="slow"))
    assert access.publish == ("exec.v1.desk-2.>", "ops.v1.executor.>")
    assert access.consume == (("executor.desk-2", "sig.v1.decision.slow.>"),)
    assert {key for _, key in access.append} == {"account.desk-2", "venue.desk-2", "executor"}
    assert not SPEC.keeps
