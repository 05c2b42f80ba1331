"""The summary adds up: for each instrument, for all of them, and in money."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from huracan.contracts.execution import AccountState, Position
from huracan.contracts.market import InstrumentDefinition, Reliability, instrument_key
from huracan_cli.results import Stored
from huracan_cli.summary import Run, summarise
from huracan_executor.config import ExecutorConfig
from huracan_gateway.binance_usdm.adapter import ADAPTER

SERVICES = ("gateway", "regime", "flow", "sentiment", "orchestrator", "executor", "persister")
BTC = ADAPTER.implied("BTCUSDT", "0.1", "0.001")
SIM = ADAPTER.implied("SIMUSDT", "0.01", "0.01")
BTC_KEY, SIM_KEY = instrument_key(BTC.id), instrument_key(SIM.id)
OF_BTC = {"frames_in": 5, "ticks_logged": 4, "rejected.duplicate": 1, "frames.quote": 5, "anomalies.spread": 2}
OF_SIM = {"frames_in": 3, "ticks_logged": 3, "frames.quote": 2, "windows": 7, "feed.silent": 1}
LAST_OF_BTC = {"bid": 600_001, "ask": 600_002, "skew_ns": 1_500_000}
LAST_OF_SIM = {"bid": 5_000, "ask": 5_001, "skew_ns": 0}


def _gateway() -> Counter[str]:
    """Return what a gateway counts of two instruments: totals, and each under its key."""
    counts = Counter(OF_BTC) + Counter(OF_SIM)
    for key, own, last in ((BTC_KEY, OF_BTC, LAST_OF_BTC), (SIM_KEY, OF_SIM, LAST_OF_SIM)):
        counts.update({f"{key}/{name}": count for name, count in own.items()})
        counts.update({f"last.{key}/{name}": count for name, count in last.items()})
    counts.update({f"last.{name}": count for name, count in LAST_OF_BTC.items()})
    return counts


def _run(gateway: Counter[str], *definitions: InstrumentDefinition, stored: Stored | None = None) -> Run:
    nothing = Stored(decisions=[], opinions=[], orders=[], fills=[], accounts=[], reliability=[])
    counts = {name: Counter[str]() for name in SERVICES} | {"gateway": gateway}
    return Run(source="here", layout="seven", definitions=definitions, counts=counts, tables=stored or nothing)


def _holding(*positions: Position) -> Stored:
    account = AccountState(cash="99000.5", fees="1.25", positions=positions)
    scores = [
        Reliability(instrument=BTC.id, to_ns=to_ns, score=score) for to_ns, score in ((2, 91.5), (3, 97.25), (1, 12.0))
    ]
    return Stored(decisions=[], opinions=[], orders=[], fills=[], accounts=[account], reliability=scores)


def test_each_instrument_has_its_own_counts_and_the_totals_are_their_sum() -> None:
    summary = summarise(_run(_gateway(), BTC, SIM))
    assert list(summary.instruments) == [BTC_KEY, SIM_KEY]
    assert summary.instrument == f"{BTC_KEY}, {SIM_KEY}"
    btc, sim = summary.instruments.values()
    assert (btc.frames_in, btc.rejected, btc.anomalies, btc.feed) == (5, {"duplicate": 1}, {"spread": 2}, {})
    assert (sim.frames_in, sim.rejected, sim.windows, sim.feed) == (3, {}, 7, {"silent": 1})
    assert sim.frames_by_kind == {"quote": 2, "unreadable": 1}
    assert (btc.skew_ms, btc.mid, sim.mid) == (1.5, "60000.15", "50.005")
    assert (summary.frames_in, summary.windows, summary.rejected) == (8, 7, {"duplicate": 1})


def test_a_run_is_simulated_only_when_all_of_it_is() -> None:
    summary = summarise(_run(_gateway(), BTC, SIM))
    assert not summary.simulated
    assert [each.simulated for each in summary.instruments.values()] == [False, True]
    assert summarise(_run(Counter(OF_SIM), SIM)).simulated


def test_positions_are_worth_their_own_mids_to_the_last_digit() -> None:
    held = [Position(instrument=BTC.id, quantity=-3), Position(instrument=SIM.id, quantity=700)]
    summary = summarise(_run(_gateway(), BTC, SIM, stored=_holding(*held)))
    worth = Decimal("99000.5") - 3 * Decimal("0.001") * Decimal("60000.15") + 7 * Decimal("50.005")
    assert Decimal(summary.pnl) == worth - ExecutorConfig().equity
    assert [each.position for each in summary.instruments.values()] == ["-0.003", "7.00"]
    assert Decimal(summary.position) == Decimal("6.997")


def test_the_newest_score_counts_and_none_is_made_up() -> None:
    btc, sim = summarise(_run(_gateway(), BTC, SIM, stored=_holding())).instruments.values()
    assert (btc.reliability, sim.reliability) == (97.25, None)


def test_one_instrument_says_the_same_as_the_run() -> None:
    gateway = Counter(OF_BTC | {f"last.{name}": count for name, count in LAST_OF_BTC.items()})
    summary = summarise(_run(gateway, BTC, stored=_holding(Position(instrument=BTC.id, quantity=2))))
    (own,) = summary.instruments.values()
    told = summary.model_dump()
    own_counts = own.model_dump(exclude={"mid", "reliability"})
    assert {name: told[name] for name in own_counts} == own_counts
    assert summary.instrument == BTC_KEY


@pytest.mark.parametrize("lost", ["frames_in", f"{SIM_KEY}/frames_in"])
def test_frames_that_do_not_add_up_are_an_error_in_each_instrument_too(lost: str) -> None:
    gateway = _gateway()
    gateway[lost] += 1
    with pytest.raises(RuntimeError, match="does not add up"):
        summarise(_run(gateway, BTC, SIM))
