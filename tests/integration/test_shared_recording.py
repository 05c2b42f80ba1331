"""The shared BTCUSDT recording with its history: every frame accounted for, the same decisions every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from huracan.contracts.decision import Decision, Direction, decisions_digest
from huracan.contracts.execution import Fill, Order
from huracan.store.parquet import read_table
from huracan_cli.explain import explain

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RECORDING = SHARED / "ticks" / "hftbacktest" / "binance_usdm_btcusdt_20240808.jsonl.gz"
HISTORY = SHARED / "ohlcv" / "binance_usdm_BTCUSDT_15m_2023_2024.parquet"

pytestmark = pytest.mark.skipif(
    not (RECORDING.is_file() and HISTORY.is_file()), reason=f"needs {RECORDING.name} and {HISTORY.name} in ../shared"
)


def _replay(out: Path, hash_seed: str) -> dict[str, object]:
    command = [sys.executable, "-m", "huracan_cli", "replay", str(RECORDING), "--history", str(HISTORY)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [*command, "--out", str(out), "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads(done.stdout)
    return summary


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay")
    _replay(out, "0")
    return out


@pytest.fixture(scope="module")
def summary(run: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads((run / "summary.json").read_text())
    return told


def test_every_frame_is_accounted_for(summary: dict[str, object]) -> None:
    assert summary["frames_in"] == 93_954
    assert summary["frames_by_kind"] == {
        "depth": 6_551, "quote": 66_089, "snapshot": 1, "trade": 21_313, "unreadable": 0,
    }  # fmt: skip
    assert (summary["ticks_logged"], summary["rejected"], summary["gaps"]) == (93_954, {}, 0)
    assert summary["skew_ms"] == pytest.approx(-1272.549, abs=0.001)
    assert summary["simulated"] is False


def test_the_book_is_the_venues_own_every_time(summary: dict[str, object]) -> None:
    assert (summary["book_compared"], summary["book_match_ratio"]) == (6_547, 1.0)


def test_every_window_is_answered_and_decided(summary: dict[str, object]) -> None:
    # 344.5 s of closed steps; the first 63 windows warm up; without headlines sentiment has nothing to say
    assert summary["windows"] == 3_445
    assert summary["opinions"] == {"regime": 3_382, "flow": 3_382, "sentiment": 0}
    assert summary["abstained"] == {
        "regime": {"WARMING": 63}, "flow": {"WARMING": 63}, "sentiment": {"NO_INPUT": 3_382, "WARMING": 63},
    }  # fmt: skip
    decisions = summary["decisions"]
    assert isinstance(decisions, dict)
    assert sum(decisions.values()) == 3_445
    assert decisions["BUY"] + decisions["SELL"] >= 0.01 * 3_445


def test_it_trades_and_the_account_adds_up(run: Path, summary: dict[str, object]) -> None:
    orders, fills = read_table(run, Order), read_table(run, Fill)
    assert summary["fills"] == len(fills) > 0
    signs = {order.order_id: 1 if order.side == 1 else -1 for order in orders}
    position = sum(signs[fill.order_id] * fill.quantity for fill in fills)
    assert float(str(summary["position"])) == pytest.approx(position * 0.001)
    assert all(abs(row.size) <= 100 for row in read_table(run, Decision))


def test_another_run_and_any_hash_seed_give_the_same_decisions(
    run: Path, summary: dict[str, object], tmp_path: Path
) -> None:
    assert decisions_digest(read_table(run, Decision)) == summary["decisions_digest"]
    assert _replay(tmp_path, "random") == summary


def test_decisions_are_made_again_from_what_was_kept(run: Path) -> None:
    decisions = read_table(run, Decision)
    wanted = {direction: next(row for row in decisions if row.direction == direction) for direction in (1, 2, 3)}
    assert wanted[Direction.DIRECTION_HOLD].abstained  # the first is warming up
    for decision in (*wanted.values(), decisions[len(decisions) // 2], decisions[-1]):
        told = explain(run, decision.decision_id.hex())
        assert told.same_bytes
        assert {vote.proof for vote in told.votes} == {"same bytes"}
