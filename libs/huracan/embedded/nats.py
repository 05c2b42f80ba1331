"""A NATS server of our own: JetStream, users with passwords and permissions, on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huracan.embedded import binaries
from huracan.embedded.files import make_directory, write_secret
from huracan.embedded.ports import require_free
from huracan.embedded.supervisor import Program
from huracan.errors import BadInput

MAX_PAYLOAD_BYTES = 1_048_576
"""Largest message: twice what the bus sends."""
MAX_MEMORY_BYTES = 268_435_456
"""Most that JetStream keeps in memory."""
MAX_FILE_BYTES = 10_737_418_240
"""Most that JetStream keeps on disk."""
STOP_WITHIN_S = 10.0
"""Time it has to write what it holds."""

_ANSWER_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsUser:
    """Who may connect, and the subjects it may publish and subscribe to: (">",) is all, () is none."""

    name: str
    password: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsServer:
    """Where a server keeps its data and listens; the same directory again has the same streams."""

    directory: Path
    port: int
    monitor_port: int

    @property
    def url(self) -> str:
        """Return the address, without a user."""
        return f"nats://127.0.0.1:{self.port}"

    def prepare(self, users: Sequence[NatsUser]) -> Program:
        """Write the configuration, readable by us alone, and return the program to start.

        Raises BadInput when there is no nats-server or no user, when a port is taken or the directory cannot be
        written, and for a name, password or subject that the configuration cannot hold.
        """
        program = binaries.nats_server()
        if not users:
            raise BadInput("users was empty: nobody could connect; name at least one")
        require_free("port", self.port)
        require_free("monitor_port", self.monitor_port)
        make_directory(self.directory, mode=0o700)
        configuration = self.directory / "nats-server.conf"
        write_secret(configuration, self._configuration(users))
        return Program(
            name="nats",
            command=(str(program), "--config", str(configuration)),
            directory=self.directory,
            ready=self._is_healthy,
            stop_within_s=STOP_WITHIN_S,
        )

    def _configuration(self, users: Sequence[NatsUser]) -> str:
        store = self.directory.resolve() / "jetstream"
        return (
            f"server_name: huracan\n"
            f'listen: "127.0.0.1:{self.port}"\n'
            f'http: "127.0.0.1:{self.monitor_port}"\n'
            f"max_payload: {MAX_PAYLOAD_BYTES}\n"
            f"jetstream {{\n"
            f"  store_dir: {_quoted('directory', str(store))}\n"
            f"  max_mem: {MAX_MEMORY_BYTES}\n"
            f"  max_file: {MAX_FILE_BYTES}\n"
            f"}}\n"
            f"authorization {{\n"
            f"  users: [\n{''.join(map(_user, users))}  ]\n"
            f"}}\n"
        )

    async def _is_healthy(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.monitor_port)
        try:
            writer.write(b"GET /healthz?js-enabled-only=true HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            status = await reader.read(_ANSWER_BYTES)
        finally:
            writer.close()
        return status.split(maxsplit=2)[1:2] == [b"200"]


def _user(user: NatsUser) -> str:
    return (
        f"    {{user: {_quoted('user', user.name)}, password: {_quoted('password', user.password)}, "
        f"permissions: {{publish: {_allowed(user.publish)}, subscribe: {_allowed(user.subscribe)}}}}}\n"
    )


def _allowed(subjects: Iterable[str]) -> str:
    listed = ", ".join(_quoted("subject", subject) for subject in subjects)
    return f"{{allow: [{listed}]}}" if listed else '{deny: ">"}'


def _quoted(what: str, text: str) -> str:
    if not text.isprintable() or '"' in text or "\\" in text:
        shown = "a secret" if what == "password" else json.dumps(text)
        raise BadInput(f"{what} was {shown} with a quote, a backslash or an unprintable character; leave those out")
    return f'"{text}"'
