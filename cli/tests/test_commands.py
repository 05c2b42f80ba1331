"""The commands as people type them: what they print, what they write, and how they fail."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from huracan.contracts.decision import Decision
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan_cli.main import entry_point
from huracan_cli.record import Recorded
from huracan_cli.summary import Summary
from huracan_executor.config import ExecutorConfig
from huracan_orchestrator.config import GateConfig

README = Path(__file__).resolve().parents[2] / "README.md"
THREE = ["sim.sim-usdt-perp", "sim.sim-usdt-perp-okx", "sim.sim-usdt-perp-bybit"]
OKX = ("--venue", "okx", "--symbol", "SIM-USDT-SWAP")
POLL_S = 0.05
LONGEST_POLLS = 1_200
MARKET = SimulatedMarketConfig(seed=5, duration_s=12.0, regime_switch_s=4.0)


def huracan(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "huracan_cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Run the command in this process, for what ends at once: a process of its own takes longer to import it."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["huracan", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry_point()
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(arguments, ended.value.code, said.out, said.err)

    return run


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


def forge(run: Path, forged: Path) -> None:
    """Copy a run with every decision altered."""
    for file in run.iterdir():
        (forged / file.name).write_bytes(file.read_bytes())
    table = pq.read_table(run / "decisions.parquet")
    rows = table.to_pylist()
    for row in rows:
        decision = Decision.FromString(row["message"])
        decision.size += 1
        row["message"] = decision.SerializeToString(deterministic=True)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), forged / "decisions.parquet")


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
    forge(run, tmp_path)
    done = huracan("explain", "last", "--run", tmp_path)
    assert done.returncode == 1
    assert "DIFFERENT BYTES" in done.stdout


def test_demo_on_simulated_venues_shows_three_side_by_side_and_says_what_they_are(tmp_path: Path) -> None:
    options = ("--source", "simulated", "--seed", "3", "--seconds", "9", "--layout", "single")
    done = huracan("demo", "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" in done.stdout
    summary = Summary.model_validate_json((tmp_path / "summary.json").read_text())
    assert summary.simulated
    assert summary.layout == "single"
    assert list(summary.instruments) == THREE
    for each in summary.instruments.values():
        assert each.simulated
        assert each.frames_in == each.ticks_logged + sum(each.rejected.values()) > 0
        assert each.windows == sum(each.decisions.values()) > 30
        assert each.book_match_ratio == 1.0
        # A machine that stalls may ask for a book again; no trade is missing.
        assert set(each.gaps_by_stream) <= {"depth"}
    for name in ("frames_in", "windows", "fills", "book_compared"):
        assert getattr(summary, name) == sum(getattr(each, name) for each in summary.instruments.values())
    assert summary.opinions["regime"] > 0, "bars came from the venues"
    page = (tmp_path / "report.html").read_text()
    assert all(f"Market: {key} (SIMULATED)" in page for key in THREE)
    assert {path["lost"] + path["doubled"] for path in summary.ledger.values()} == {0}
    assert "class='simulated'" in page
    again = huracan("replay", "--journal", tmp_path, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["same_bytes"] is True


def test_demo_on_a_recording_with_history(recording: Path, tmp_path: Path) -> None:
    history = tmp_path / "bars.parquet"
    write_history(MARKET, history, bars=700)
    options = ("--recording", recording, "--history", history, "--speed", "3", "--out", tmp_path, "--json")
    done = huracan("demo", *options)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["opinions"]["regime"] > 0
    assert summary["layout"] == "seven"
    assert summary["rows_persisted"]["decisions"] == sum(summary["decisions"].values())
    assert {"p50", "p99", "count"} == set(summary["latency_us"]["window_to_decision"])


def test_demo_runs_on_servers_that_are_there_already(
    recording: Path, tmp_path: Path, state: Path, postgres_url: str
) -> None:
    server = NatsServer(directory=state / "nats", port=free_port(), monitor_port=free_port())
    everyone = NatsUser(name="everyone", password="known", publish=(">",), subscribe=(">",))
    url = server.url.replace("nats://", "nats://everyone:known@")
    with running(server.prepare([everyone])):
        options = ("--recording", recording, "--speed", "6", "--layout", "single", "--out", tmp_path, "--json")
        done = huracan("demo", *options, "--nats-url", url, "--postgres-url", postgres_url)
        assert done.returncode == 0, done.stderr
        wrong = huracan("demo", *options, "--nats-url", url.replace("known", "guessed"), "--postgres-url", postgres_url)
    assert wrong.returncode == 2
    assert "refused user 'everyone'" in wrong.stderr
    assert "guessed" not in wrong.stderr
    rows = huracan("query", "decisions", "--limit", "1000", "--json", "--postgres-url", postgres_url)
    assert len(json.loads(rows.stdout)) == json.loads(done.stdout)["rows_persisted"]["decisions"]
    first = huracan("query", "decisions", "--limit", "1", "--json", "--postgres-url", postgres_url)
    after = first.stderr.split()[-1]
    second = huracan("query", "decisions", "--limit", "1", "--after", after, "--json", "--postgres-url", postgres_url)
    assert json.loads(first.stdout) + json.loads(second.stdout) == json.loads(rows.stdout)[:2]
    desk = "00000000-0000-4000-8000-000000000001"
    shown = huracan("query", "decisions", "--as-desk", desk, "--json", "--postgres-url", postgres_url)
    assert json.loads(shown.stdout) == []
    again = huracan("migrate", "--postgres-url", postgres_url, "--json")
    assert json.loads(again.stdout).items() >= {"applied": [], "detached": 0, "in_default": 0}.items()


def test_a_replay_of_a_journal_says_so_and_fails_when_a_decision_was_altered(run: Path, tmp_path: Path) -> None:
    same = huracan("replay", "--journal", run)
    assert same.returncode == 0, same.stderr
    assert "the same bytes" in same.stdout
    forge(run, tmp_path)
    altered = huracan("replay", "--journal", tmp_path)
    assert altered.returncode == 1
    assert "DIFFERENT BYTES" in altered.stdout
    told = json.loads(huracan("replay", "--journal", tmp_path, "--json").stdout)
    assert told["different"] == told["decisions"] == told["kept"]
    assert told["missing"] == told["unexplained"] == 0


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
        (["demo", "--layout", "sim", "--out", "{directory}"], r"--layout was sim"),
        (["demo", "--source", "simulated", "--speed", "4"], r"--speed was 4.0.*goes with --recording"),
        (["demo", "--source", "public", "--recording", "{market}"], r"--source was public.*leave one of them out"),
        (["up", "--layout", "sim"], r"--layout was sim"),
        (["record", "--venue", "mtgox", "--symbol", "X", "--out", "x"], r"venue was 'mtgox'; supported are"),
        (["record", "--simulated", "--venue", "okx", "--symbol", "X", "--out", "x"], r"symbol was 'X', which okx"),
        (["record", "--simulated", "--venue", "deribit", "--symbol", "X", "--out", "x"], r"--venue was 'deribit'"),
        (["record", *OKX, "--out", "x", "--websocket-url", "http://there"], r"--websocket-url was 'http://there'"),
        (["record", "--simulated", *OKX, "--out", "{garbage}"], r"--out .*garbage is there already"),
        (["up", "--state", "{garbage}"], r"garbage"),
        (["replay"], r"needs a recording or --journal"),
        (["replay", "{market}", "--journal", "{run}"], r"needs a recording or --journal"),
        (["replay", "--journal", "{run}", "--compare", "a", "b"], r"--compare replays a recording in memory"),
        (["replay", "{market}", "--compare", "a", "b"], r"a is no model bundle"),
        (["replay", "--journal", "nowhere"], r"nowhere/journal.parquet was not found"),
        (["migrate"], r"no database was named"),
        (["down", "--state", "{directory}"], r"nothing runs in"),
        (["tail", "sig.v1.>", "--state", "{directory}"], r"nothing runs in"),
        (["query", "fills", "--state", "{directory}"], r"nothing runs in"),
        (["explain", "abc", "--run", "nowhere"], r"nowhere/decisions.parquet was not found"),
        (["explain", "zz", "--run", "{run}"], r"decision id was 'zz': 0 decisions"),
        (["explain", "", "--run", "{run}"], r"decision id was '': \d+ decisions"),
        (["explain", "last", "--database", ""], r"--database was '': give postgresql"),
        (["explain", "zz[/b]", "--run", "{run}"], r"decision id was 'zz\[/b\]': 0 decisions"),
        (["replay", "{markup}"], r"no frame of binance_usdm.*\[/closing\] hello"),
        (["replay", "{directory}"], r"cannot be read: it is no regular file"),
        (["replay", "/dev/null"], r"cannot be read: it is no regular file"),
        (["replay", "{market}", "--history", "{directory}"], r"is no file"),
    ],
)
def test_what_people_get_wrong_ends_in_one_sentence(
    arguments: list[str], sentence: str, recording: Path, run: Path, tmp_path: Path, typed: Typed
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "garbage").write_bytes(b"garbage\n")
    (tmp_path / "markup").write_bytes(b"[/closing] hello\n")
    (tmp_path / "directory").mkdir()
    strange = {"markup": tmp_path / "markup", "directory": tmp_path / "directory"}
    places = strange | {"empty": tmp_path / "empty", "garbage": tmp_path / "garbage", "market": recording, "run": run}
    done = typed(*(part.format_map(places) for part in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(sentence, " ".join(done.stderr.split())), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1


@pytest.mark.parametrize(
    "command", ["replay", "demo", "record", "explain", "up", "down", "migrate", "tail", "status", "query", "doctor"]
)
def test_every_command_has_an_example_and_speaks_json(command: str, typed: Typed, tmp_path: Path) -> None:
    done = typed(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Examples: huracan {command}" in " ".join(done.stdout.split())
    assert "--json" in done.stdout


@pytest.fixture
def state() -> Iterator[Path]:
    """Give a state directory that every user can pass through, as PostgreSQL under root needs it."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-up-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


def test_the_commands_of_the_readme_run(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HURACAN_STATE", str(state))
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert {line.split()[0] for line in lines} == {"make", ".venv/bin/huracan"}
    options = ("--source", "simulated", "--seconds", "9", "--out", "out/demo")
    demo = huracan("demo", *options, cwd=tmp_path)  # what `make demo` calls
    assert demo.returncode == 0, demo.stderr
    with upped(tmp_path) as up:
        for line in lines:
            if line.startswith(".venv/bin/huracan ") and line != ".venv/bin/huracan up":
                bounded = ["--count", "3"] if " tail " in line else []
                done = huracan(*shlex.split(line)[1:], *bounded, cwd=tmp_path)
                assert done.returncode == 0, (line, done.stderr)
        assert up.wait(30) == 0, "`huracan down` ended it"


@contextmanager
def upped(cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `huracan up` until it is ready; kill it at the end if it still runs."""
    command = [sys.executable, "-m", "huracan_cli", "up", "--source", "simulated", "--json"]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout is not None
            assert json.loads(up.stdout.readline())["ready"] is True
            yield up
        finally:
            up.kill()


def test_up_keeps_its_data_refuses_a_second_and_can_begin_anew(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HURACAN_STATE", str(state))
    with upped(tmp_path) as up:
        second = huracan("up", cwd=tmp_path)
        assert second.returncode == 2
        assert "a system runs already on" in second.stderr
        assert huracan("tail", "sig.v1.decision.>", "--count", "2").returncode == 0
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0, "Ctrl-C drains it"
    assert huracan("status").returncode == 3
    with upped(tmp_path) as up:
        epochs = [
            json.loads(line)["epoch"]
            for line in huracan("tail", "sig.v1.decision.>", "--count", "2", "--json").stdout.splitlines()
        ]
        assert set(epochs) == {2}, "the orchestrator took its journal over"
        assert huracan("down", "--json").returncode == 0
        assert up.wait(30) == 0


def test_ctrl_c_ends_a_recording_whole(tmp_path: Path) -> None:
    out = tmp_path / "made" / "okx.jsonl"
    command = [sys.executable, "-m", "huracan_cli", "record", "--simulated", *OKX, "--out", str(out), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as recording:
        try:
            for _ in range(LONGEST_POLLS):
                if out.is_file() and out.stat().st_size:
                    break
                time.sleep(POLL_S)
            recording.send_signal(signal.SIGINT)
            said, _ = recording.communicate(timeout=30)
        finally:
            recording.kill()
    assert recording.returncode == 0
    told = Recorded.model_validate_json(said)
    assert told.simulated
    assert told.lines == len(out.read_bytes().splitlines()) > 0
    assert told.bytes == out.stat().st_size


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
