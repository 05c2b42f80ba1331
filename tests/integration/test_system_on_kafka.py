"""A whole system whose log is on Kafka: the same decisions, every tick and fill kept, and the commands on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Protocol

import pytest
from pydantic import TypeAdapter

from huracan.bus import subjects
from huracan.contracts import codec
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Fill
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import TickBatch, instrument_key
from huracan.embedded import binaries
from huracan.errors import BadInput
from huracan.ports import Record
from huracan.ticklog.kafka.config import from_environment
from huracan.ticklog.kafka.log import KafkaLog
from huracan_cli.replay import Replay, replay
from huracan_cli.results import fold_decisions
from huracan_cli.run import run
from huracan_cli.sources import recording
from huracan_cli.status import Status
from huracan_cli.system import Layout, Plan, System
from huracan_cli.ticklogs import TickLogKind, begin, broker
from huracan_executor.config import ExecutorConfig

SPEED = 4.0
"""Market seconds in a second: 20 are played in five."""
POLL_S = 0.1
LONGEST_POLLS = 1_200


class Server(Protocol):
    """A server that runs."""

    url: str


@pytest.fixture
def home(kafka_server: Server) -> Iterator[Path]:
    """Give a directory that every user can pass through, as PostgreSQL under root needs it."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-kafka-"))
    directory.chmod(0o711)
    yield directory
    rmtree(directory)


def _plan(market: Path, history: Path, *, speed: float, layout: Layout) -> Plan:
    source = recording(market, speed=speed, history=history)
    return Plan(source=source, layout=layout, ticklog=TickLogKind.KAFKA)


@pytest.mark.usefixtures("home", "untraced")
def test_a_replay_with_its_log_on_kafka_is_the_simulations_to_the_byte(market: Path, history: Path) -> None:
    ran = asyncio.run(run(_plan(market, history, speed=0, layout=Layout.HOSTED)))
    simulated = replay(Replay(recording=market, history=history))
    assert ran.summary.fills > 0
    assert ran.summary.decisions_digest == simulated.summary.decisions_digest
    assert [codec.encode(row) for row in ran.decisions] == [codec.encode(row) for row in simulated.decisions]
    assert {(paths["lost"], paths["doubled"]) for paths in ran.summary.ledger.values()} == {(0, 0)}


@dataclass(frozen=True)
class Played:
    """What a live run did, and what its log and its tables hold."""

    counts: Counter[str]
    journal: list[Decision]
    decisions: list[Decision]
    reported: list[bytes]
    """Ids of the fills in the journal of the account."""
    fills: list[Fill]
    batches: list[TickBatch]


def _entry(record: Record) -> JournalEntry:
    assert isinstance(record.message, JournalEntry)
    return record.message


async def _played(plan: Plan, directory: Path) -> Played:
    system = System(plan, directory)
    try:
        await system.open(fresh=True)
        await system.ended()
        await system.stop_services()
        await system.reported()
        assert isinstance(system.log, KafkaLog)
        (definition,) = system.source.inputs.definitions
        journal = await system.log.read(subjects.JOURNAL_TOPIC, subjects.journal_key(definition.shard), 0)
        account = await system.log.read(subjects.JOURNAL_TOPIC, subjects.account_key(ExecutorConfig().account), 0)
        ticks = await system.log.read(subjects.TICKS_TOPIC, instrument_key(definition.id), 0)
        return Played(
            counts=system.counts["gateway"],
            journal=fold_decisions([record.message for record in journal]),
            decisions=await system.store.load(Decision),
            reported=[fill.fill_id for record in account for fill in _entry(record).execution_report.fills],
            fills=await system.store.load(Fill),
            batches=[record.message for record in ticks if isinstance(record.message, TickBatch)],
        )
    finally:
        await system.close()


def test_a_live_run_with_its_log_on_kafka_keeps_every_tick_decision_and_fill(
    home: Path, market: Path, history: Path
) -> None:
    played = asyncio.run(_played(_plan(market, history, speed=SPEED, layout=Layout.SINGLE), home))
    assert len(played.decisions) > 50
    assert {row.decision_id: codec.encode(row) for row in played.journal} == {
        row.decision_id: codec.encode(row) for row in played.decisions
    }
    assert sorted(fill.fill_id for fill in played.fills) == sorted(played.reported)
    assert [batch.batch for batch in played.batches] == list(range(1, len(played.batches) + 1))
    assert sum(batch.rows for batch in played.batches) == played.counts["rows_logged"] > 0


# The commands on such a system.


def _huracan(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "huracan_cli", *arguments, "--state", str(state)]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HURACAN_")}


def test_the_commands_work_on_a_system_whose_log_is_on_kafka(home: Path) -> None:
    state, said = home / "state", home / "up.log"
    command = [sys.executable, "-m", "huracan_cli", "up", "--source", "simulated", "--layout", "single", "--json"]
    with said.open("w") as log:
        up = subprocess.Popen(
            [*command, "--ticklog", "kafka", "--state", str(state)], env=_environment(), stdout=log, stderr=log
        )
    try:
        for _ in range(LONGEST_POLLS):
            if "ready" in said.read_text() or up.poll() is not None:
                break
            time.sleep(POLL_S)
        told = TypeAdapter(Status).validate_json(_huracan("status", "--json", state=state).stdout)
        assert told.ready, said.read_text()
        assert told.ticklog.startswith("Kafka at 127.0.0.1:")
        assert _huracan("dlq", "list", state=state).returncode == 0
        assert _huracan("query", "decisions", "--json", state=state).returncode == 0
        assert _huracan("down", state=state).returncode == 0
    finally:
        up.kill()
        up.wait()
    refused = _huracan("up", "--source", "simulated", "--ticklog", "jetstream", state=state)
    assert refused.returncode == 2
    assert "was begun on kafka" in refused.stderr


# Which Kafka, and whether it may be another than the last time.


def test_a_log_stays_where_it_was_begun_unless_all_is_wiped(tmp_path: Path) -> None:
    begin(tmp_path, TickLogKind.KAFKA, wipe=False)
    begin(tmp_path, TickLogKind.KAFKA, wipe=False)
    with pytest.raises(BadInput, match=r"--ticklog was jetstream, .* was begun on kafka: .* begin anew with --wipe"):
        begin(tmp_path, TickLogKind.JETSTREAM, wipe=False)
    begin(tmp_path, TickLogKind.JETSTREAM, wipe=True)
    with pytest.raises(BadInput, match="was begun on jetstream"):
        begin(tmp_path, TickLogKind.KAFKA, wipe=False)


def test_a_state_directory_of_before_the_choice_is_on_jetstream(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    with pytest.raises(BadInput, match="was begun on jetstream"):
        begin(tmp_path, TickLogKind.KAFKA, wipe=False)


def test_a_cluster_that_the_environment_names_is_taken_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HURACAN_KAFKA__SERVERS", "kafka:9092")
    monkeypatch.setenv("HURACAN_KAFKA__TICKS_RETENTION_H", "5")
    found = broker(tmp_path)
    assert (found.config.servers, found.config.ticks_retention_h, found.program) == ("kafka:9092", 5, None)
    monkeypatch.setenv("HURACAN_KAFKA__SERVERS", "kafka")
    with pytest.raises(BadInput, match=r"HURACAN_KAFKA__SERVERS: was 'kafka'; it is host:port"):
        broker(tmp_path)
    monkeypatch.delenv("HURACAN_KAFKA__SERVERS")
    monkeypatch.setenv("HURACAN_KAFKA__TLS", "true")
    with pytest.raises(BadInput, match="HURACAN_KAFKA__SERVERS was not set"):
        broker(tmp_path)


def test_where_kafka_cannot_run_it_is_said_what_to_install_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise BadInput("java was not found; install Java 17")

    monkeypatch.setattr(binaries, "java", missing)
    with pytest.raises(
        BadInput, match=r"--ticklog was kafka: java was not found; install Java 17; or name a cluster in"
    ):
        broker(tmp_path)


def test_a_run_needs_a_kafka_that_holds_no_journal_of_another(
    home: Path, market: Path, history: Path, kafka_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HURACAN_KAFKA__SERVERS", kafka_server.url)

    async def write() -> None:
        log = KafkaLog(from_environment(), name="other")
        try:
            await log.append(subjects.JOURNAL_TOPIC, "shard.00", Decision(), record_id=b"1")
        finally:
            await log.close()

    asyncio.run(write())
    with pytest.raises(BadInput, match=rf"{kafka_server.url} holds the journal of another run"):
        asyncio.run(_played(_plan(market, history, speed=SPEED, layout=Layout.SINGLE), home))
