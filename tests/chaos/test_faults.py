"""A thousand seeded faults break no promise."""

from __future__ import annotations

from functools import cache

import pytest

from huracan_cli.chaos.run import Ledger, run_chaos

RUNS, FAULTS = 25, 40


@cache
def _ledger(seed: int) -> Ledger:
    return run_chaos(seed, FAULTS)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_a_thousand_faults_break_no_promise(seed: int) -> None:
    ledger = _ledger(seed)
    assert ledger.broken == []
    assert sum(ledger.faults.values()) >= FAULTS - 4  # a kill of what is already down is no fault
    assert (ledger.lost, ledger.duplicated, ledger.out_of_order) == (0, 0, 0)
    assert ledger.windows == ledger.decided + ledger.missed
    assert ledger.windows > 200


def test_the_runs_trade_under_fire() -> None:
    ledgers = [_ledger(seed) for seed in (1, 2, 3)]
    assert all(ledger.fills > 0 and ledger.messages_lost > 0 and ledger.messages_doubled > 0 for ledger in ledgers)


def test_a_seed_gives_the_same_ledger_again() -> None:
    assert run_chaos(4, FAULTS) == _ledger(4)
