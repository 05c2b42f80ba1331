"""Raw frames through the gateway, part by part and whole: `make bench-gateway RECORDING=…`.

Parts: decoding alone (the baseline of every ratio); with order book, validation, anomaly detection and features; the
whole service with the log in memory; the whole service with every batch acknowledged by JetStream on a NATS server of
its own; and two such gateways at once, a process each, as two shards have them. All in one run, one after the other,
each as fast as it goes; the rate is frames a second of wall time, of both gateways together where there are two.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from pydantic import SecretStr

from huracan.bus.memory import MemoryBus
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.transport import PERFECT
from huracan.clock import MarketClock, SystemClock, step_close
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.service.loop import new_event_loop
from huracan.store.memory import MemoryStore
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.memory import MemoryLog
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import RecordingFeed, opened
from huracan_gateway.instrument import Instrument
from huracan_gateway.recording import Line, read_lines
from huracan_gateway.reject import Rejected
from huracan_gateway.service import Gateway


class Loaded(RecordingFeed):
    """A recording that is in memory before the time is taken."""

    def __init__(self, path: Path, lines: Sequence[Line]) -> None:
        super().__init__(path)
        self._lines = iter(lines)


def decoded(path: Path, lines: Sequence[Line]) -> float:
    """Return the seconds that decoding takes."""
    feed = RecordingFeed(path)
    decoder = feed.adapter.decoder(feed.definition)
    since_s = time.perf_counter()
    for line in lines:
        try:
            decoder.decode(line.raw)
        except Rejected:
            continue
    return time.perf_counter() - since_s


def booked(path: Path, lines: Sequence[Line]) -> float:
    """Return the seconds that decoding, book, validation, anomaly detection, features and batches take."""
    feed = RecordingFeed(path)
    decoder = feed.adapter.decoder(feed.definition)
    instrument = Instrument(feed.definition, epoch=1, batch_rows=256, adapter=feed.adapter)
    since_s = time.perf_counter()
    for number, line in enumerate(lines, 1):
        while instrument.next_step is not None and step_close(instrument.next_step) <= line.recv_ns:
            instrument.close([])
        try:
            for event in decoder.decode(line.raw)[1]:
                instrument.take(event, recv_ns=line.recv_ns, ingest_seq=number)
        except Rejected:
            continue
        instrument.bind(line.recv_ns, line.raw)
        instrument.batches.clear()
    return time.perf_counter() - since_s


async def served(path: Path, lines: Sequence[Line], ports: Ports) -> float:
    """Return the seconds until a gateway has played everything and its log has acknowledged it."""
    gateway = Gateway(GatewayConfig(), [opened(Loaded(path, lines))], ports)
    since_s = time.perf_counter()
    await gateway.run()
    return time.perf_counter() - since_s


def _standing(lines: Sequence[Line]) -> MarketClock:
    """Return a clock that never moves: steps are closed by the frames that pass them, and nobody waits."""
    return MarketClock(lines[0].recv_ns, speed=0, leads=False)


async def in_memory(path: Path, lines: Sequence[Line]) -> float:
    """Serve with bus and log in memory."""
    bus, log = MemoryBus(PERFECT), MemoryLog(PERFECT)
    ports = Ports(
        bus=bus.node("gateway"), log=log.node("gateway"), clock=_standing(lines), store=MemoryStore(), rng=SeededRng(1)
    )
    return await served(path, lines, ports)


async def on_jetstream(path: Path, lines: Sequence[Line]) -> float:
    """Serve with bus and log on a NATS server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(directory=Path(folder), port=free_port(), monitor_port=free_port())
        user = NatsUser(name="gateway", password=secrets.token_urlsafe(16), publish=(">",), subscribe=(">",))
        loop = asyncio.get_running_loop()
        program = server.prepare([user])
        context = running(program)
        await loop.run_in_executor(None, context.__enter__)
        connection = Connection(NatsLogin(url=server.url, name=user.name, password=SecretStr(user.password)))
        try:
            await connection.open()
            await make_streams(connection)
            bus = NatsBus(connection, wall=SystemClock())
            ports = Ports(bus=bus, log=JetStreamLog(bus), clock=_standing(lines), store=MemoryStore(), rng=SeededRng(1))
            return await served(path, lines, ports)
        finally:
            await connection.close()
            await loop.run_in_executor(None, context.__exit__, None, None, None)


def _on_the_loop(work: Callable[[], Awaitable[float]]) -> float:
    async def run() -> float:
        return await work()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(run())


def _acknowledged(path: Path) -> float:
    """Serve in a process of its own."""
    lines = list(read_lines(path))
    return _on_the_loop(lambda: on_jetstream(path, lines))


def side_by_side(path: Path) -> float:
    """Return half the seconds that the slower of two gateways takes while both play: each plays all frames."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        return max(processes.map(_acknowledged, [path, path])) / 2


def main() -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/bench/gateway.json"))
    given = parser.parse_args()
    path: Path = given.recording
    lines = list(read_lines(path))
    parts: dict[str, Callable[[], float]] = {
        "decode": lambda: decoded(path, lines),
        "decode, book, checks, features": lambda: booked(path, lines),
        "gateway, log in memory": lambda: _on_the_loop(lambda: in_memory(path, lines)),
        "gateway, acknowledged by JetStream": lambda: _on_the_loop(lambda: on_jetstream(path, lines)),
        "two gateways, two processes": lambda: side_by_side(path),
    }
    rows, baseline = [], 0.0
    for name, measure in parts.items():
        rate = len(lines) / measure()
        baseline = baseline or rate
        row = {"name": name, "value": rate, "unit": "frames/s", "baseline": baseline, "ratio": rate / baseline}
        rows.append(row)
        print(f"{name:40} {rate:12,.0f} frames/s  {rate / baseline:6.3f} of decoding")  # noqa: T201
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine, "load": os.getloadavg()[0], "frames": len(lines), "rows": rows}
    given.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
