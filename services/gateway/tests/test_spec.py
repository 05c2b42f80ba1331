"""The gateway as it is installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import World
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.live.limits import VenueLimits
from huracan_gateway.live.open import live_sources
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


def test_feeds_of_one_rest_address_share_what_may_be_asked_of_it() -> None:
    def feed(symbol: str, rest_url: str | None = None) -> FeedConfig:
        return FeedConfig(venue="okx", symbol=symbol, rest_url=rest_url)

    async def main(clock: VirtualClock) -> list[object]:
        feeds = [feed("A-USDT-SWAP"), feed("B-USDT-SWAP", "https://www.okx.com/"), feed("A-USDT-SWAP", "http://proxy")]
        opening = [source.open for source in live_sources(feeds, World(clock, seed=1).ports("gateway"))]
        return [limits for each in opening if isinstance(each, partial) for limits in each.args if is_limits(limits)]

    one, other, proxy = run_virtual(main, start_ns=MARKET.start_ns)
    assert one is other
    assert one is not proxy


def is_limits(given: object) -> bool:
    return isinstance(given, VenueLimits)


def test_its_letters_go_under_the_feed_or_under_its_own_name() -> None:
    access = SPEC.access(GatewayConfig())
    assert ("huracan.ticks.v1.dlq", "") in access.append
    assert ("huracan.journal.v1.dlq", "gateway") in access.append
    assert not any(topic == "huracan.journal.v1" for topic, _ in access.append)
