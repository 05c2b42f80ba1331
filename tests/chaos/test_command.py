"""The fault command writes its ledgers and fails when a promise is broken."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan_cli.chaos import __main__ as command
from huracan_cli.chaos import ledger as struck
from huracan_cli.chaos.numbers import compare
from huracan_cli.chaos.run import Ledger
from huracan_cli.chaos.strikes import KILL, Strike

DEMANDED = {"lost", "duplicated", "out_of_order", "faults", "seed"}


def _call(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["chaos", "--out", str(out), *arguments])
    command.main()


def _simulated(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> list[dict[str, object]]:
    _call(monkeypatch, out, "--part", "simulation", *arguments)
    ledgers: list[dict[str, object]] = json.loads((out / "simulation.json").read_text())
    return ledgers


def test_one_seed_is_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (ledger,) = _simulated(monkeypatch, tmp_path, "--seed", "2", "--faults", "5")
    assert (ledger["seed"], ledger["broken"]) == (2, [])
    assert ledger.keys() >= DEMANDED


def test_a_broken_promise_fails_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "run_chaos", lambda seed, faults: Ledger(seed, {}, broken=["a promise"] * faults))
    with pytest.raises(SystemExit, match="1"):
        _simulated(monkeypatch, tmp_path, "--runs", "2", "--faults", "1")


def _ledgers_of(monkeypatch: pytest.MonkeyPatch, made: Callable[[int], struck.Ledger]) -> None:
    async def run_ledger(seed: int, *, on_strike: Callable[[Strike], None]) -> struck.Ledger:
        on_strike(Strike(at_s=1.0, kind=KILL, target="kafka"))
        return made(seed)

    monkeypatch.setattr(command, "run_ledger", run_ledger)


def test_each_seed_on_real_servers_has_a_file_and_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _ledgers_of(monkeypatch, lambda seed: struck.Ledger(seed, {"kill kafka": 21}, ticks=7, fills=seed - 1))
    _call(monkeypatch, tmp_path, "--part", "ledger")
    for seed in (1, 2, 3):
        ledger = json.loads((tmp_path / f"ledger-{seed}.json").read_text())
        assert ledger["seed"] == seed
        assert ledger.keys() >= DEMANDED
    said = capsys.readouterr().out
    assert "ledger, seed 2: 21 faults; 7 ticks" in said
    assert said.endswith("3 of 3 ledgers have every number exactly once and in order, over 63 faults\n")


def test_seeds_that_have_no_fill_between_them_fail_and_one_alone_says_that_it_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(seed: int) -> struck.Ledger:
        ledger = struck.Ledger(seed, ticks=7, windows=7, decisions=7)
        struck.judge_nothing(ledger, desk=True)
        return ledger

    _ledgers_of(monkeypatch, made)
    with pytest.raises(SystemExit, match="1"):
        _call(monkeypatch, tmp_path, "--part", "ledger")
    assert capsys.readouterr().out.endswith("BROKEN: fills: there were none, so nothing is shown\n")
    _call(monkeypatch, tmp_path, "--part", "ledger", "--seed", "3")
    assert capsys.readouterr().out.endswith("faults\nfills: there were none, so nothing is shown\n")
    written = json.loads((tmp_path / "ledger-3.json").read_text())
    assert written["unshown"] == [f"{name}: there were none, so nothing is shown" for name in ("orders", "fills")]


def test_a_number_that_is_lost_on_real_servers_is_named_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(seed: int) -> struck.Ledger:
        ledger = struck.Ledger(seed)
        ledger.take(compare("trades", [1, 2], [1]))
        return ledger

    _ledgers_of(monkeypatch, made)
    with pytest.raises(SystemExit, match="1"):
        _call(monkeypatch, tmp_path, "--part", "ledger", "--seed", "9")
    assert json.loads((tmp_path / "ledger-9.json").read_text())["lost"] == 1
    assert "BROKEN: trades: 1 lost: 2" in capsys.readouterr().out


def test_where_kafka_cannot_be_had_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(seed: int) -> struck.Ledger:
        raise BadInput("java was not found; install Java 17")

    _ledgers_of(monkeypatch, refused)
    with pytest.raises(SystemExit, match="2"):
        _call(monkeypatch, tmp_path, "--part", "ledger")
    assert "install Java 17" in capsys.readouterr().out
