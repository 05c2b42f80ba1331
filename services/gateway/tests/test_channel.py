"""A channel between its feed and a log that is slow."""

from __future__ import annotations

import asyncio
from pathlib import Path

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts.context import ContextRef
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import InstrumentDefinition, TickBatch
from huracan.ports import Clock
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan_gateway.anomaly import AnomalyConfig, DivergenceDetector
from huracan_gateway.channel import Channel
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import RecordingFeed


class SlowLog:
    """An outlet whose log takes nothing until it is let."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.epoch = 1
        self.batches: list[int] = []
        self.open = asyncio.Event()

    async def log(self, topic: str, key: str, message: Message, record_id: bytes) -> None:
        await self.open.wait()
        await asyncio.sleep(0)
        if topic == subjects.TICKS_TOPIC:
            assert isinstance(message, TickBatch)
            self.batches.append(message.batch)

    async def tell(self, event: str, message: Message, message_id: bytes | None = None) -> None:
        raise AssertionError(f"{event} was told")

    async def window(self, name: str, definition: InstrumentDefinition, window: FeatureWindow) -> None:
        raise AssertionError(f"a window of {name} was published")

    async def news(self, now_ns: int) -> None:
        raise AssertionError("news were asked for")

    def in_force(self, open_ns: int, definition: InstrumentDefinition) -> list[ContextRef]:
        raise AssertionError("contexts were asked for")

    async def stepped(self, key: str, step: int) -> None:
        raise AssertionError(f"step {step} was waited for")


def test_batches_keep_their_order_while_the_log_is_slow(tmp_path: Path) -> None:
    path = tmp_path / "market.jsonl.gz"
    write_recording(SimulatedMarketConfig(seed=1, duration_s=2.0), path)

    async def run(clock: VirtualClock) -> list[int]:
        outlet = SlowLog(clock)
        channel = Channel(RecordingFeed(path), GatewayConfig(), outlet, DivergenceDetector(AnomalyConfig()))
        channel.instrument.flush(1)
        channel.instrument.flush(2)
        first = asyncio.create_task(channel.claim())
        await asyncio.sleep(0)
        second = asyncio.create_task(channel.claim())
        await asyncio.sleep(0)
        outlet.open.set()
        await asyncio.gather(first, second)
        return outlet.batches

    assert run_virtual(run, start_ns=0) == [1, 2, 3, 4]
