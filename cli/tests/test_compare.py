"""Two engines on one recording: what differs is told, and judged by what came."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan.inference.bundle import load_bundle, write_bundle
from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan_cli.compare import BLOCK_STEPS, MIN_BLOCKS, Comparison, Score, _gain, compare, render, verdict
from huracan_cli.composition import BUNDLES
from huracan_cli.replay import Replay

MARKET = SimulatedMarketConfig(seed=5, duration_s=12.0, regime_switch_s=4.0)
FLOW = BUNDLES / "flow"


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    path = tmp_path_factory.mktemp("market") / "market.jsonl.gz"
    write_recording(MARKET, path)
    return Replay(recording=path)


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flow engine with its odds drawn to a third each."""
    bundle = load_bundle(FLOW)
    directory = tmp_path_factory.mktemp("engines") / "unsure"
    write_bundle(directory, bundle.manifest.model_copy(update={"temperature": 1e6, "version": 2}), bundle.contents)
    return directory


@pytest.fixture(scope="module")
def told(request_: Replay, unsure: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(replace(request_, out=tmp_path_factory.mktemp("out")), FLOW, unsure)


def test_an_engine_beside_itself_changes_nothing(request_: Replay, untraced: None) -> None:
    same = compare(request_, FLOW, FLOW)
    assert same.champion == same.challenger
    assert (same.agreement, same.distance, same.decisions_changed) == (1.0, 0.0, 0)
    assert same.gain is not None
    assert same.gain.mean == 0


def test_both_are_scored_on_the_windows_that_both_answered(told: Comparison) -> None:
    assert told.expert == "flow"
    assert told.windows > told.compared >= told.scored > 0
    assert told.champion.answered == told.challenger.answered == told.compared
    assert told.challenger.score is not None
    assert told.challenger.score.log_loss == pytest.approx(math.log(3), abs=1e-3)
    assert told.champion.score is not None
    assert told.gain is not None
    assert told.gain.mean == pytest.approx(told.champion.score.log_loss - told.challenger.score.log_loss)
    assert told.distance is not None
    assert told.distance > 0
    assert told.challenger.version == 2


def test_what_the_change_did_to_decisions_is_counted(told: Comparison) -> None:
    assert told.champion.decisions_digest != told.challenger.decisions_digest
    assert 0 < told.decisions_changed <= told.windows


def test_both_runs_are_kept(request_: Replay, unsure: Path, tmp_path: Path, untraced: None) -> None:
    compare(replace(request_, out=tmp_path), FLOW, unsure)
    assert all((tmp_path / side / "decisions.parquet").is_file() for side in ("champion", "challenger"))


@pytest.mark.parametrize("side", ["champion", "challenger"])
def test_a_file_in_the_place_of_a_run_is_refused_before_anything_is_replayed(
    request_: Replay, tmp_path: Path, side: str
) -> None:
    (tmp_path / side).write_text("mine")
    with pytest.raises(BadInput, match=rf"{side} cannot be made: File exists$"):
        compare(replace(request_, out=tmp_path), FLOW, FLOW)
    assert (tmp_path / side).read_text() == "mine"
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_comparison_is_shown_side_by_side_with_a_verdict(told: Comparison) -> None:
    table = render(told)
    assert [column.header for column in table.columns] == ["what", "champion", "challenger"]
    assert "too few for an interval" in verdict(told)
    gain = told.gain
    assert gain is not None
    for low, high, word in ((0.1, 0.2, ": better."), (-0.2, -0.1, ": worse."), (-0.1, 0.1, "no difference")):
        assert word in verdict(told.model_copy(update={"gain": gain.model_copy(update={"low": low, "high": high})}))
    assert "nothing to judge by" in verdict(told.model_copy(update={"gain": None}))


def test_where_both_abstained_the_verdict_says_why_and_what_warms_them_up(
    request_: Replay, tmp_path: Path, untraced: None
) -> None:
    experts = BUNDLES / "experts"
    cold = compare(request_, experts, experts)
    assert cold.compared == 0
    all_of_them = f"WARMING {cold.windows}"
    assert f"; abstained: champion {all_of_them}; challenger {all_of_them}. " in verdict(cold)
    assert verdict(cold).endswith("give those from before it with --history.")
    write_history(MARKET, tmp_path / "bars.parquet", bars=700)
    warm = compare(replace(request_, history=tmp_path / "bars.parquet"), experts, experts)
    assert warm.compared > 0
    assert "abstained" not in verdict(warm)


def test_a_reason_that_bars_do_not_end_is_told_without_naming_them(told: Comparison) -> None:
    side = told.challenger.model_copy(update={"answered": 0, "abstained": {"STALE": 3, "NO_INPUT": 9}})
    both = told.model_copy(update={"compared": 0, "gain": None, "champion": side, "challenger": side})
    assert verdict(both) == (
        "No window was answered by both; abstained: champion STALE 3, NO_INPUT 9; challenger STALE 3, NO_INPUT 9."
    )


def test_an_interval_holds_the_true_gain_about_as_often_as_it_says() -> None:
    noise = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        slow = np.repeat(noise.normal(size=40), BLOCK_STEPS // 2)
        gain = _gain(0.3 + slow + noise.normal(size=len(slow)))
        assert gain.low is not None
        assert gain.high is not None
        held += gain.low <= 0.3 <= gain.high
    assert 170 <= held <= 200


def test_a_short_recording_gives_a_gain_without_an_interval() -> None:
    gain = _gain(np.ones(BLOCK_STEPS * MIN_BLOCKS - 1))
    assert (gain.mean, gain.low, gain.high) == (1.0, None, None)


def test_scores_are_those_of_their_definitions() -> None:
    score = Score.of(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]), np.array([0, 1]))
    assert score.log_loss == pytest.approx((math.log(2) + math.log(10)) / 2)
    assert score.brier == pytest.approx((0.25 + 0.0625 + 0.0625 + 0.01 + 0.81 + 0.64) / 2)
    assert score.accuracy == 0.5


def test_engines_of_two_experts_are_not_compared(request_: Replay) -> None:
    with pytest.raises(BadInput, match=r"flow is an engine for flow and .*experts for experts: compare two of one"):
        compare(request_, FLOW, BUNDLES / "experts")


def test_detectors_are_not_compared_where_nothing_rests_on_them(request_: Replay, tmp_path: Path) -> None:
    detector = BUNDLES / "regime"
    for sides in ((detector, detector), (BUNDLES / "experts", detector), (FLOW, detector)):
        with pytest.raises(BadInput, match=r"regime is a detector, .* huracan evaluate --data BARS --bundle .*regime$"):
            compare(replace(request_, out=tmp_path), *sides)
    assert list(tmp_path.iterdir()) == []


def test_engines_that_look_ahead_unlike_far_are_not_compared(request_: Replay, tmp_path: Path) -> None:
    bundle = load_bundle(FLOW)
    write_bundle(tmp_path / "far", bundle.manifest.model_copy(update={"horizon_steps": 50}), bundle.contents)
    with pytest.raises(BadInput, match=r"flow looks 1 s ahead and .*far 5 s: compare two of one horizon"):
        compare(request_, FLOW, tmp_path / "far")


def test_an_engine_that_no_expert_runs_is_refused(request_: Replay, tmp_path: Path) -> None:
    bundle = load_bundle(FLOW)
    write_bundle(tmp_path / "other", bundle.manifest.model_copy(update={"name": "weather"}), bundle.contents)
    with pytest.raises(BadInput, match=r"engine for weather; those that can be compared are for experts, flow$"):
        compare(request_, FLOW, tmp_path / "other")


def test_what_is_no_bundle_is_refused(request_: Replay, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no model bundle"):
        compare(request_, FLOW, tmp_path)
