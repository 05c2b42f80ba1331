"""The fault command writes its ledgers and fails when a promise is broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from huracan_cli.chaos import __main__ as command
from huracan_cli.chaos.run import Ledger


def _call(monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> list[dict[str, object]]:
    monkeypatch.setattr(sys, "argv", ["chaos", "--out", str(out), *arguments])
    command.main()
    ledgers: list[dict[str, object]] = json.loads((out / "simulation.json").read_text())
    return ledgers


def test_one_seed_is_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (ledger,) = _call(monkeypatch, tmp_path, "--seed", "2", "--faults", "5")
    assert (ledger["seed"], ledger["broken"]) == (2, [])
    assert {"lost", "duplicated", "out_of_order", "faults"} <= ledger.keys()


def test_a_broken_promise_fails_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "run_chaos", lambda seed, faults: Ledger(seed, {}, broken=["a promise"] * faults))
    with pytest.raises(SystemExit, match="1"):
        _call(monkeypatch, tmp_path, "--runs", "2", "--faults", "1")
