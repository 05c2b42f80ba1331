"""A thousand seeded faults break no promise."""

from __future__ import annotations

import pytest

from huracan_cli.chaos.run import run_chaos

RUNS, FAULTS = 28, 40


@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_a_thousand_faults_break_no_promise(seed: int) -> None:
    ledger = run_chaos(seed, FAULTS)
    assert ledger.broken == []
    assert sum(ledger.faults.values()) >= FAULTS - 4  # a kill of what is already down is no fault
    assert (ledger.lost, ledger.duplicated, ledger.out_of_order) == (0, 0, 0)
    assert ledger.windows == ledger.decided + ledger.missed
    assert ledger.windows > 200


def test_the_runs_trade_under_fire() -> None:
    ledgers = [run_chaos(seed, FAULTS) for seed in (1, 2, 3)]
    assert all(ledger.fills > 0 and ledger.messages_lost > 0 and ledger.messages_doubled > 0 for ledger in ledgers)


def test_a_seed_gives_the_same_ledger_again() -> None:
    assert run_chaos(4, FAULTS) == run_chaos(4, FAULTS)
