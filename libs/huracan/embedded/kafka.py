"""An Apache Kafka broker of our own: one node that is broker and controller at once (KRaft), on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huracan.embedded import binaries
from huracan.embedded.files import make_directory, write_secret
from huracan.embedded.ports import require_free
from huracan.embedded.supervisor import Program, leashed
from huracan.errors import BadInput, Fatal

HEAP_MB = 512
"""Heap that carried millions of records; 256 is enough for tests."""
STOP_WITHIN_S = 20.0
"""Time to close its segments."""
READY_WITHIN_S = 90.0
"""Time to start and to look through its segments after a crash: some 5 s on an idle machine."""

_INTERNAL_TOPICS = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
_ASK_VERSIONS = struct.pack("!ihhih", 10, 18, 0, 1, -1)
_LOG4J = """<Configuration>
  <Appenders><Console name="console"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredListeners:
    """Two more ports of the same broker, for users with a password: one in plain text, one encrypted."""

    sasl_port: int
    tls_port: int
    users: Mapping[str, str]
    """Password by user, over PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512."""
    ruled: frozenset[str] = frozenset()
    """Users who may do only what they have the right to; all others, and who comes without a password, anything."""
    keystore: Path
    """PKCS #12 file with the server's key and certificate."""
    keystore_password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaServer:
    """Where a broker keeps its data and listens; the same directory again has the same topics."""

    directory: Path
    port: int
    controller_port: int
    heap_mb: int = HEAP_MB
    quick_start: bool = False
    """Whether Java compiles lightly: up in half the time, and slower under load."""
    secured: SecuredListeners | None = None
    advertised_port: int | None = None
    """Port that clients are told to come to, where something stands in between; None: `port`."""

    @property
    def address(self) -> str:
        """Return host and port of the listener without a password."""
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> Program:
        """Write the configuration, format the data directory where there is none, and return the program to start.

        Takes some seconds the first time. Raises BadInput when there is no Java or no Kafka, when a port is taken or
        the directory cannot be written, and for a user that the configuration cannot hold.
        """
        java, jars = binaries.java(), binaries.kafka_jars()
        for name, port in self._ports().items():
            require_free(name, port)
        make_directory(self.directory, mode=0o700)
        directory = self.directory.resolve()
        (directory / "log4j2.xml").write_text(_LOG4J, encoding="utf-8")
        machine = (
            str(java),
            *(f"-Xms{self.heap_mb}m", f"-Xmx{self.heap_mb}m", "-XX:+UseSerialGC"),
            *(("-XX:TieredStopAtLevel=1",) if self.quick_start else ()),
            f"-Dlog4j2.configurationFile={directory / 'log4j2.xml'}",
            *("-cp", f"{jars}/*"),
        )
        if not (directory / "data").exists():
            self._format(directory, machine)
        write_secret(directory / "server.properties", self._properties(directory / "data"))
        return Program(
            name="kafka",
            command=(*machine, "kafka.Kafka", str(directory / "server.properties")),
            directory=directory,
            ready=self._answers,
            stop_within_s=STOP_WITHIN_S,
            ready_within_s=READY_WITHIN_S,
        )

    def _ports(self) -> dict[str, int]:
        ports = {"port": self.port, "controller_port": self.controller_port}
        if self.secured is not None:
            ports |= {"sasl_port": self.secured.sasl_port, "tls_port": self.secured.tls_port}
        return ports

    def _format(self, directory: Path, machine: tuple[str, ...]) -> None:
        """Format aside and move into place, so that a kill leaves all or nothing."""
        unfinished, properties = directory / "data.new", directory / "format.properties"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_secret(properties, self._properties(unfinished))
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        command = [*machine, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)]
        for user, password in self.secured.users.items() if self.secured else ():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                command += ["--add-scram", f"{mechanism}=[name={_plain(user)},password={_plain(password)}]"]
        done = subprocess.run(leashed(command), cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Fatal(f"{unfinished} could not be formatted for Kafka: {done.stdout}{done.stderr}")
        properties.unlink()
        unfinished.rename(directory / "data")

    def _properties(self, data: Path) -> str:
        names = {"PLAINTEXT": self.port}
        if self.secured is not None:
            names |= {"SASL_PLAINTEXT": self.secured.sasl_port, "SASL_SSL": self.secured.tls_port}
        listening = _listeners(names)
        advertised = _listeners({**names, "PLAINTEXT": self.advertised_port or self.port})
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{listening},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": advertised,
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(f"{name}:{name}" for name in names) + ",CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            # One that was killed is not let in again before its session is over.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        for topic in _INTERNAL_TOPICS:
            settings |= {f"{topic}.replication.factor": "1", f"{topic}.num.partitions": "1"}
        if self.secured is not None:
            settings |= _secured(self.secured)
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    async def _answers(self) -> bool:
        """Return whether the broker says which requests it understands."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(_ASK_VERSIONS)
            return len(await reader.read(4)) == 4
        finally:
            writer.close()


def _listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _secured(secured: SecuredListeners) -> dict[str, str]:
    users = " ".join(f'user_{_plain(user)}="{_plain(password)}"' for user, password in secured.users.items())
    module = "org.apache.kafka.common.security"
    settings = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(secured.keystore.resolve()),
        "ssl.keystore.password": secured.keystore_password,
    }
    if secured.ruled:
        free = ["ANONYMOUS", *sorted(secured.users.keys() - secured.ruled)]
        settings["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        settings["super.users"] = ";".join(f"User:{user}" for user in free)
    for listener in ("sasl_plaintext", "sasl_ssl"):
        start = f"listener.name.{listener}"
        settings[f"{start}.plain.sasl.jaas.config"] = f"{module}.plain.PlainLoginModule required {users};"
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            settings[f"{start}.{mechanism}.sasl.jaas.config"] = f"{module}.scram.ScramLoginModule required;"
    return settings


def _plain(text: str) -> str:
    if not text or not all(char.isalnum() or char in "-_" for char in text):
        raise BadInput(
            "a Kafka user or password held other characters than letters, digits, '-' and '_'; leave those out"
        )
    return text
