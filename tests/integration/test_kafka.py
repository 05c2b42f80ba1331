"""A gateway whose log is on Kafka: what it published can be made again from what it logged."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.clock import SystemClock
from huracan.contracts import codec
from huracan.contracts.features import FeatureRow, FeatureWindow
from huracan.contracts.journal import window_opened
from huracan.contracts.market import TickBatch, instrument_key, tick_columns
from huracan.features.logged import micro_rows
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.log import KafkaLog
from huracan_cli.explain import rebuilt
from huracan_gateway.feed import recorded

SPEED = 10.0
"""Market seconds in a second: 20 are played in two."""


class Server(Protocol):
    """A server that runs."""

    url: str


@dataclass(frozen=True)
class Played:
    """What a gateway said on the bus, and what it logged."""

    windows: list[FeatureWindow]
    rows: list[FeatureRow]
    ticks: list[TickBatch]


async def _play(market: Path, directory: Path, nats_url: str, servers: str) -> Played:
    parts, tape = urlsplit(nats_url), recorded(market)
    assert parts.username
    url, user, password = f"nats://{parts.hostname}:{parts.port}", parts.username, parts.password or ""
    settings = {
        "services": {"gateway": {"recording": str(market)}},
        "nats": {"url": url, "user": user, "passwords": {user: password}},
        "ticklog": "kafka",
        "kafka": {"servers": servers},
        "clock": {"start_ns": tape.first_recv_ns, "speed": SPEED},
    }
    path = directory / "gateway.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    connection = Connection(
        NatsLogin(url=url, name=f"desk-{secrets.token_hex(4)}", user=user, password=SecretStr(password))
    )
    key, windows = instrument_key(tape.definition.id), list[FeatureWindow]()
    log = KafkaLog(KafkaConfig(servers=servers), name="desk")
    try:
        await connection.open()
        await make_streams(connection)
        bus = NatsBus(connection, wall=SystemClock())
        inbox = bus.inbox()
        inbox.subscribe(subjects.features(subjects.MICRO, tape.definition))
        await bus.prepared()
        hearing = asyncio.create_task(_hear(inbox, windows))
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "huracan.service", "--config", str(path))
        try:
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
        await connection.flush()
        await bus.drain()
        await hearing
        rows = [record.message for record in await log.read(subjects.FEATURES_TOPIC, key, 0)]
        ticks = [record.message for record in await log.read(subjects.TICKS_TOPIC, key, 0)]
        return Played(
            windows,
            [row for row in rows if isinstance(row, FeatureRow)],
            [batch for batch in ticks if isinstance(batch, TickBatch)],
        )
    finally:
        await log.close()
        await connection.close()


async def _hear(inbox: NatsInbox, windows: list[FeatureWindow]) -> None:
    async for delivery in inbox:
        message = delivery.decode()
        assert isinstance(message, FeatureWindow)
        windows.append(message)


@pytest.fixture(scope="module")
def played(market: Path, tmp_path_factory: pytest.TempPathFactory, nats_server: Server, kafka_server: Server) -> Played:
    """What a process of a gateway made of the market."""
    return asyncio.run(_play(market, tmp_path_factory.mktemp("gateway"), nats_server.url, kafka_server.url))


def test_windows_rebuilt_from_the_log_are_those_that_were_published_byte_for_byte(played: Played) -> None:
    assert len(played.windows) > 150
    for window in played.windows:
        assert codec.encode(rebuilt(played.rows, window_opened(window))) == codec.encode(window)


def test_rows_made_again_from_the_ticks_of_the_log_are_those_in_it_byte_for_byte(played: Played) -> None:
    again = micro_rows(played.ticks, [row.step for row in played.rows])
    assert [each.astype("<f4").tobytes() for each in again] == [row.values for row in played.rows]


def test_each_step_that_was_published_has_its_row_in_order(played: Played) -> None:
    steps = [row.step for row in played.rows]
    assert steps == list(range(steps[0], steps[0] + len(steps)))
    assert steps[-len(played.windows) :] == [window.step for window in played.windows]


def test_the_ticks_of_every_frame_are_in_the_log_in_order_and_once(played: Played, market: Path) -> None:
    batches = [batch.batch for batch in played.ticks]
    assert batches == list(range(batches[0], batches[0] + len(batches)))
    last = played.windows[-1].last_ingest_seq
    sequences = [number for batch in played.ticks for number in tick_columns(batch).ingest_seq]
    assert sequences == sorted(sequences)
    assert last <= sequences[-1] <= len(market.read_bytes().splitlines())
