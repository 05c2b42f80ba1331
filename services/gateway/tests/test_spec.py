"""The gateway as it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import World
from huracan_gateway.config import GatewayConfig
from huracan_gateway.spec import SPEC

MARKET = SimulatedMarketConfig(seed=1, duration_s=0.5, regime_switch_s=0.25)


def _make(config: GatewayConfig) -> str:
    async def main(clock: VirtualClock) -> str:
        return SPEC.make(config, World(clock, seed=1).ports("gateway")).name

    return run_virtual(main, start_ns=MARKET.start_ns)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Half a second of a simulated market."""
    path = tmp_path / "market.jsonl"
    write_recording(MARKET, path)
    return path


def test_it_needs_something_to_play_and_says_what() -> None:
    with pytest.raises(BadInput, match="neither recording nor feeds was set"):
        _make(GatewayConfig())


def test_it_plays_a_recording_in_a_replay_and_by_the_clock(recording: Path) -> None:
    assert _make(GatewayConfig(recording=recording)) == "gateway"
    assert _make(GatewayConfig(recording=recording, lockstep_services=("flow",))) == "gateway"


def test_a_recording_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.jsonl"):
        _make(GatewayConfig(recording=tmp_path / "absent.jsonl"))


def test_its_letters_go_under_the_feed_or_under_its_own_name() -> None:
    access = SPEC.access(GatewayConfig())
    assert ("huracan.ticks.v1.dlq", "") in access.append
    assert ("huracan.journal.v1.dlq", "gateway") in access.append
    assert not any(topic == "huracan.journal.v1" for topic, _ in access.append)
