"""`huracan dataset`: what people and machines are told."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from huracan.errors import BadInput
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan_training.calendar import DAY_NS, Calendar, expected_opens
from huracan_training.commands.dataset import app, interval_ns

from .market import synthetic_bars, write_bars

README = Path(__file__).resolve().parents[1] / "README.md"
RUNNER = CliRunner()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_bars(synthetic_bars(500), tmp_path / "sim_GOOD_15m.parquet")


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return write_bars(synthetic_bars(500).take(np.arange(500) % 10 != 3), tmp_path / "sim_BAD_15m.parquet")


def test_a_build_tells_its_digest(good: Path, tmp_path: Path) -> None:
    shown = RUNNER.invoke(app, ["build", str(good), "--out", str(tmp_path / "out")])
    told = RUNNER.invoke(app, ["build", str(good), "--out", str(tmp_path / "out"), "--json"])
    assert (shown.exit_code, told.exit_code) == (0, 0)
    digest = json.loads(told.stdout)["digest"]
    assert f"digest {digest}" in shown.stdout
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["digest"] == digest


def test_a_verdict_is_the_exit_code(good: Path, bad: Path) -> None:
    assert RUNNER.invoke(app, ["verify", str(good)]).exit_code == 0
    shown = RUNNER.invoke(app, ["verify", str(good), str(bad)])
    told = RUNNER.invoke(app, ["verify", str(good), str(bad), "--json"])
    assert (shown.exit_code, told.exit_code) == (1, 1)
    assert [(each["asset"], each["usable"]) for each in json.loads(told.stdout)] == [
        ("sim_GOOD", True),
        ("sim_BAD", False),
    ]
    assert "missing was" in " ".join(shown.stdout.split())


def test_missing_bars_are_taken_out_of_another_file(good: Path, bad: Path, tmp_path: Path) -> None:
    assert RUNNER.invoke(app, ["verify", str(bad), "--refetch", str(good)]).exit_code == 0
    out = str(tmp_path / "out")
    assert RUNNER.invoke(app, ["build", str(bad), "--refetch", str(good), "--out", out]).exit_code == 0
    refused = RUNNER.invoke(app, ["verify", str(bad), str(good), "--refetch", str(good)])
    assert isinstance(refused.exception, BadInput)


def test_a_dataset_with_too_little_history_says_what_it_has_no_labels_of(tmp_path: Path) -> None:
    short = write_bars(synthetic_bars(120), tmp_path / "short_15m.parquet")
    shown = RUNNER.invoke(app, ["build", str(short), "--out", str(tmp_path / "out")])
    assert "no labels of regime over 16" in " ".join(shown.stdout.split())


def test_what_the_readme_says_of_datasets_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_bars(synthetic_bars(1_500), tmp_path / "bars.parquet")
    write_recording(SimulatedMarketConfig(seed=11, duration_s=10.0), tmp_path / "day.jsonl.gz")
    opens = expected_opens(Calendar.US_EQUITIES, DAY_NS, 0, 400 * DAY_NS)
    daily = replace(synthetic_bars(len(opens)), interval_ns=DAY_NS, open_ns=opens)
    pyarrow.csv.write_csv(pq.read_table(write_bars(daily, tmp_path / "spy.parquet")), tmp_path / "SPY.csv")
    (tmp_path / "SPY.csv.gz").write_bytes(gzip.compress((tmp_path / "SPY.csv").read_bytes()))
    section = README.read_text().partition("## Datasets")[2].partition("\n## ")[0]
    commands = re.findall(r"^huracan dataset ([^#\n]+)", section, flags=re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        told = RUNNER.invoke(app, shlex.split(command))
        assert told.exit_code == 0, (command, told.output, told.exception)
    (script,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    exec(compile(script, str(README), "exec"), {})


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900), ("1d", 86_400), ("1h", 3_600), ("30s", 30)])
def test_an_interval_is_written_as_people_do(text: str, seconds: int) -> None:
    assert interval_ns(text) == seconds * 1_000_000_000


@pytest.mark.parametrize("text", ["", "15", "0m", "m", "15 m", "1w"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="give a number and s, m, h or d"):
        interval_ns(text)
