"""Where a system's ticks, feature rows and journals are kept: with the bus on JetStream, or on Apache Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shutil import rmtree

from huracan.embedded import binaries
from huracan.embedded.kafka import KafkaServer
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Program
from huracan.errors import BadInput
from huracan.ticklog.kafka.config import PREFIX, KafkaConfig, from_environment

VARIABLE = "HURACAN_TICKLOG"
KAFKA = "kafka"
"""Name of our broker, and of the directory that keeps its data."""
BEGUN = "ticklog"
"""File of a state directory that says where its log was begun."""
_NATS = "nats"


class TickLogKind(StrEnum):
    """Where the log is kept."""

    JETSTREAM = "jetstream"
    KAFKA = "kafka"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The Kafka that a system uses."""

    config: KafkaConfig
    program: Program | None
    """What runs a broker of our own; None: somebody else keeps it up."""


def broker(directory: Path) -> Broker:
    """Return the Kafka that the environment names, or else one of our own, with its data in a directory.

    Raises BadInput for settings that make no sense, and where ours cannot run: without Java, or without Kafka's jars
    and without Maven to fetch them.
    """
    config = from_environment()
    if "servers" in config.model_fields_set:
        return Broker(config=config, program=None)
    if config.protocol != "PLAINTEXT":
        raise BadInput(f"{PREFIX}SERVERS was not set, and a broker of our own asks for no user: name your servers")
    try:
        binaries.java()
        binaries.kafka_jars()
    except BadInput as missing:
        raise BadInput(f"--ticklog was kafka: {missing}; or name a cluster in {PREFIX}SERVERS") from None
    server = KafkaServer(directory=directory / KAFKA, port=free_port(), controller_port=free_port(), quick_start=True)
    return Broker(config=config.model_copy(update={"servers": server.address}), program=server.prepare())


def begin(directory: Path, kind: TickLogKind, *, wipe: bool) -> None:
    """Note where the log of a state directory is begun, unless it was before; forget all of it first if told to.

    Raises BadInput when it was begun elsewhere: positions and epochs are in the journal, and a new one knows none.
    """
    begun = directory / BEGUN
    if wipe:
        begun.unlink(missing_ok=True)
        rmtree(directory / KAFKA, ignore_errors=True)
    elif not begun.exists() and (directory / _NATS).exists():  # of before there was a choice
        begun.write_text(TickLogKind.JETSTREAM, encoding="ascii")
    before = begun.read_text(encoding="ascii").strip() if begun.exists() else str(kind)
    if before != kind:
        raise BadInput(
            f"--ticklog was {kind}, and the log of {directory} was begun on {before}: leave it there, or begin anew "
            "with --wipe"
        )
    begun.write_text(kind, encoding="ascii")
