"""Where frames come from: chosen by what can be reached, and said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from huracan.contracts.market import instrument_key
from huracan.embedded.supervisor import Supervisor
from huracan.errors import BadInput, Recoverable
from huracan.rng import SeededRng
from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan_cli import sources
from huracan_cli.composition import GATEWAY, Inputs, configs
from huracan_cli.run import temporary_directory
from huracan_cli.sources import Market, Opening, Source
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.config import GatewayConfig
from huracan_gateway.quality import QualityConfig
from huracan_regime.config import RegimeServiceConfig

MARKET = SimulatedMarketConfig(seed=5, duration_s=2.0)


def _opened(opening: Opening, directory: Path) -> Source:
    async def opened() -> Source:
        supervisor = Supervisor(SeededRng.fresh())
        try:
            return await opening(supervisor, directory)
        finally:
            await supervisor.stop_all()

    return asyncio.run(opened())


async def _unreachable(url: str, within_s: float) -> bool:
    return False


def test_without_public_feeds_simulated_venues_are_read_with_their_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "reachable", _unreachable)
    source = _opened(sources.markets(Market.AUTO, seed=3), tmp_path)
    assert source.simulated
    assert source.label.startswith("simulated venues, seed 3: binance_usdm SIMUSDT, okx SIM-USDT-SWAP")
    assert source.time is None
    assert source.instrument == "sim.sim-usdt-perp, sim.sim-usdt-perp-okx, sim.sim-usdt-perp-bybit"
    made = source.configs()
    gateway, regime = made[GATEWAY], made["regime"]
    assert isinstance(gateway, GatewayConfig)
    assert isinstance(regime, RegimeServiceConfig)
    assert [feed.venue for feed in gateway.feeds] == ["binance_usdm", "okx", "bybit"]
    assert {path.name for path in regime.history.values()} == {f"{key}.history.parquet" for key in regime.history}
    assert gateway.quality.anomalies.warm_up_s == 10.0, "a short run meets the anomalies that are put in"
    assert [feed.history for feed in gateway.feeds] == list(regime.history.values())
    assert all(path.is_file() for path in regime.history.values())


def test_who_asks_for_public_feeds_gets_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "reachable", _unreachable)
    with pytest.raises(Recoverable, match="none of binance_usdm BTCUSDT, okx BTC-USDT-SWAP, bybit BTCUSDT"):
        _opened(sources.markets(Market.PUBLIC, seed=3), tmp_path)


def test_public_feeds_are_those_that_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_but_one(url: str, within_s: float) -> bool:
        return "bybit" not in url

    monkeypatch.setattr(sources, "reachable", all_but_one)
    feeds = asyncio.run(sources._public_feeds())
    assert [feed.name for feed in feeds] == ["binance_usdm:BTCUSDT", "okx:BTC-USDT-SWAP"]
    assert {(feed.websocket_url, feed.rest_url) for feed in feeds} == {(None, None)}, "the venues' own addresses"


def test_a_recording_brings_its_own_time_and_history(tmp_path: Path) -> None:
    market, bars = tmp_path / "market.jsonl", tmp_path / "bars.parquet"
    write_recording(MARKET, market)
    write_history(MARKET, bars, bars=10)
    source = _opened(sources.recording(market, speed=0, history=bars), tmp_path)
    gateway = source.configs()[GATEWAY]
    assert isinstance(gateway, GatewayConfig)
    assert (gateway.recording, gateway.history) == (market, bars)
    assert gateway.lockstep_services
    assert gateway.quality == QualityConfig()
    assert source.time is not None
    assert source.time.start_ns == source.inputs.first_recv_ns


def test_on_a_fast_tape_the_machine_has_as_long_as_on_a_slow_one(tmp_path: Path) -> None:
    market = tmp_path / "market.jsonl"
    write_recording(MARKET, market)
    gateways = [_opened(sources.recording(market, speed=speed), tmp_path).configs()[GATEWAY] for speed in (1.0, 10.0)]
    plain, fast = (gateway for gateway in gateways if isinstance(gateway, GatewayConfig))
    assert plain == GatewayConfig.model_validate(plain.model_dump() | {"quality": QualityConfig()})
    assert fast.flush_after_ms == 10 * plain.flush_after_ms
    assert fast.quality.book_silent_ms == 10 * plain.quality.book_silent_ms


def test_instruments_of_two_shards_are_refused_by_name() -> None:
    definitions = [ADAPTER.implied(symbol, "0.1", "0.001") for symbol in ("BTCUSDT", "ETHUSDT")]
    names = ", ".join(instrument_key(definition.id) for definition in definitions)
    with pytest.raises(BadInput, match=f"instruments were {names}, of 2 shards"):
        configs(Inputs(definitions=definitions, first_recv_ns=0))


def test_a_temporary_directory_can_be_passed_through_by_every_user() -> None:
    directory = temporary_directory()
    assert directory.stat().st_mode & 0o777 == 0o711
    directory.rmdir()
