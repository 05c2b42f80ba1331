"""The commands as people type them: what they print, what they write, and how they fail."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan_cli.summary import Summary
from huracan_executor.config import ExecutorConfig
from huracan_orchestrator.config import GateConfig

README = Path(__file__).resolve().parents[2] / "README.md"
MARKET = SimulatedMarketConfig(seed=5, duration_s=12.0, regime_switch_s=4.0)


def huracan(*arguments: str | Path, cwd: Path | None = None, traced: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command; untraced by coverage it is three times faster."""
    command = [sys.executable, "-m", "huracan_cli", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if traced or not name.startswith("COV")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "market.jsonl.gz"
    write_recording(MARKET, path)
    return path


@pytest.fixture(scope="module")
def run(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    done = huracan("replay", recording, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_replay_shows_a_table_and_writes_a_summary(recording: Path, run: Path) -> None:
    summary = Summary.model_validate_json((run / "summary.json").read_text())
    assert summary.source == recording.name
    assert summary.simulated
    assert summary.frames_in == sum(summary.frames_by_kind.values())
    assert summary.frames_in == summary.ticks_logged + sum(summary.rejected.values())
    assert (run / "decisions.parquet").is_file()


def test_json_output_is_the_summary_and_nothing_else(recording: Path, run: Path, tmp_path: Path) -> None:
    done = huracan("replay", recording, "--out", tmp_path, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads((run / "summary.json").read_text())


def test_explain_proves_a_decision(run: Path) -> None:
    shown = huracan("explain", "last", "--run", run)
    assert shown.returncode == 0, shown.stderr
    assert "the same bytes" in shown.stdout
    told = json.loads(huracan("explain", "last", "--run", run, "--json").stdout)
    assert told["same_bytes"] is True
    assert told["direction"] in ("BUY", "SELL")
    assert [vote["expert"] for vote in told["votes"]] == ["regime", "flow", "sentiment"]
    assert {vote["proof"] for vote in told["votes"]} == {"same bytes"}
    again = json.loads(huracan("explain", told["decision_id"][:12].upper(), "--run", run, "--json").stdout)
    assert again == told


def test_explain_says_so_and_fails_when_the_bytes_differ(run: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from huracan.contracts.decision import Decision

    for file in run.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    table = pq.read_table(run / "decisions.parquet")
    rows = table.to_pylist()
    for row in rows:
        forged = Decision.FromString(row["message"])
        forged.size += 1
        row["message"] = forged.SerializeToString(deterministic=True)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), tmp_path / "decisions.parquet")
    done = huracan("explain", "last", "--run", tmp_path)
    assert done.returncode == 1
    assert "DIFFERENT BYTES" in done.stdout


def test_demo_without_a_recording_is_labelled_simulated_everywhere(tmp_path: Path) -> None:
    done = huracan("demo", "--out", tmp_path, "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["simulated"] is True
    assert summary["instrument"].startswith("sim.")
    assert summary["opinions"]["regime"] > 0
    report = (tmp_path / "report.html").read_text()
    assert "Simulated market." in report
    assert report.count("<svg") == 3


def test_demo_on_a_recording_with_history(recording: Path, tmp_path: Path) -> None:
    history = tmp_path / "bars.parquet"
    write_history(MARKET, history, bars=700)
    done = huracan("demo", "--recording", recording, "--history", history, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["opinions"]["regime"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["replay", "nowhere.jsonl"], r"recording nowhere.jsonl cannot be read: No such file"),
        (["replay", "{empty}"], r"has no frame of binance_usdm.*it is empty"),
        (["replay", "{garbage}"], r"has no frame of binance_usdm.*bad_line"),
        (["replay", "{market}", "--history", "nowhere.parquet"], r"nowhere.parquet"),
        (["replay", "{market}", "--news", "nowhere.csv"], r"nowhere.csv"),
        (["replay", "{market}", "--out", "{garbage}"], r"--out .* cannot be made"),
        (["demo", "--out", "{garbage}"], r"--out .* cannot be made"),
        (["explain", "abc", "--run", "nowhere"], r"nowhere/decisions.parquet was not found"),
        (["explain", "zz", "--run", "{run}"], r"decision id was 'zz': 0 decisions"),
        (["explain", "", "--run", "{run}"], r"decision id was '': \d+ decisions"),
        (["explain", "zz[/b]", "--run", "{run}"], r"decision id was 'zz\[/b\]': 0 decisions"),
        (["replay", "{markup}"], r"no frame of binance_usdm.*\[/closing\] hello"),
        (["replay", "{directory}"], r"cannot be read: it is no regular file"),
        (["replay", "/dev/null"], r"cannot be read: it is no regular file"),
        (["replay", "{market}", "--history", "{directory}"], r"is no file"),
    ],
)
def test_what_people_get_wrong_ends_in_one_sentence(
    arguments: list[str], sentence: str, recording: Path, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "garbage").write_bytes(b"garbage\n")
    (tmp_path / "markup").write_bytes(b"[/closing] hello\n")
    (tmp_path / "directory").mkdir()
    strange = {"markup": tmp_path / "markup", "directory": tmp_path / "directory"}
    places = strange | {"empty": tmp_path / "empty", "garbage": tmp_path / "garbage", "market": recording, "run": run}
    done = huracan(*(part.format_map(places) for part in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(sentence, " ".join(done.stderr.split())), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1


def test_every_command_has_an_example() -> None:
    for command in ("replay", "demo", "explain"):
        done = huracan(command, "--help")
        assert done.returncode == 0
        assert f"Example: huracan {command}" in done.stdout


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert {line.split()[0] for line in lines} == {"make", ".venv/bin/huracan"}
    demo = huracan("demo", "--out", "out/demo", cwd=tmp_path, traced=False)  # what `make demo` calls
    assert demo.returncode == 0, demo.stderr
    for line in lines:
        if line.startswith(".venv/bin/huracan "):
            done = huracan(*shlex.split(line)[1:], cwd=tmp_path, traced=False)
            assert done.returncode == 0, (line, done.stderr)


def test_the_targets_of_the_readme_exist() -> None:
    named = set(re.findall(r"make ([a-z-]+)", README.read_text()))
    makefile = (README.parent / "Makefile").read_text()
    assert named
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in named)


def test_gate_and_executor_agree_on_the_largest_position() -> None:
    gate, executor = GateConfig(), ExecutorConfig()
    assert gate.max_position_base == executor.max_position_base
    assert gate.max_position_notional == executor.max_position_notional
    assert gate.strategy == executor.strategy
