"""How Apache Kafka is reached, and how its topics are kept."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from huracan.config import Config
from huracan.errors import BadInput

PREFIX = "HURACAN_KAFKA__"
"""Of the environment variables that set one field each."""

_SERVER = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


def _servers(servers: str) -> str:
    """Refuse what is not host:port, or several with commas between them."""
    for server in servers.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or not 0 < int(found["port"]) <= 65_535:
            raise ValueError(f"was {servers!r}; it is host:port, or several with commas between them")
    return servers


class KafkaConfig(Config):
    """Where the brokers are, who we are to them, what we send and how long they keep it."""

    model_config = ConfigDict(validate_default=True)  # what is left out is judged with what is given

    servers: Annotated[str, AfterValidator(_servers)] = "127.0.0.1:19092"
    """host:port of one broker or, with commas between them, of several: any of them names the others."""
    tls: bool = False
    """Whether connections are encrypted, and servers must have a certificate."""
    ca_file: Path | None = None
    """PEM file of the authority that signed the servers' certificates; None: those that the system trusts."""
    certificate_file: Path | None = None
    """PEM file of our own certificate, where servers ask for one."""
    key_file: Path | None = None
    """PEM file of its key."""
    sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """How we say who we are; None: not at all, or by our certificate."""
    user: str | None = None
    password: SecretStr | None = None
    compression: Literal["none", "gzip", "lz4", "zstd"] = "zstd"
    """Of batches, by their writer: zstd took 0.1 ms of a batch of ticks, lz4 0.7, gzip 8 (`make bench-persist`)."""
    in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = 8_192
    """Records on their way to the brokers; past it appending blocks. Above 100,000 they weigh more than they speed."""
    ack_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 5_000
    """Longest wait for an acknowledgement before an append is Recoverable; below 1,000 a busy disk seems a loss."""
    max_batch_bytes: Annotated[int, Field(ge=16_384, le=64 << 20)] = 1_000_000
    """Largest batch, and record, before compression; brokers take 1,048,588 unless they are told otherwise."""
    replication: Annotated[int, Field(ge=1, le=32)] = 1
    """Brokers that keep each record, of topics that we make: 3 in production, one of which may then be away."""
    ticks_retention_h: Annotated[int, Field(ge=1)] = 168
    features_retention_h: Annotated[int, Field(ge=1)] = 168
    dead_letters_retention_h: Annotated[int, Field(ge=1)] = 336

    @field_validator("ca_file", "certificate_file", "key_file", mode="after")
    @classmethod
    def _needs_tls(cls, given: Path | None, info: ValidationInfo) -> Path | None:
        if given is not None and not info.data.get("tls", False):
            raise ValueError(f"was {str(given)!r} without tls; set kafka.tls, or leave it out")
        if info.field_name == "key_file" and (given is None) != (info.data.get("certificate_file") is None):
            raise ValueError("goes with certificate_file: set both or none")
        return given

    @field_validator("sasl", mode="after")
    @classmethod
    def _plain_is_hidden(cls, given: str | None, info: ValidationInfo) -> str | None:
        if given == "PLAIN" and not info.data.get("tls", False) and not _on_this_machine(info.data.get("servers", "")):
            raise ValueError("was PLAIN without tls, which shows the password to the network; set kafka.tls, or SCRAM")
        return given

    @field_validator("user", mode="after")
    @classmethod
    def _user_goes_with_sasl(cls, given: str | None, info: ValidationInfo) -> str | None:
        if bool(given) != (info.data.get("sasl") is not None):
            raise ValueError("goes with sasl: set both or none")
        return given

    @field_validator("password", mode="after")
    @classmethod
    def _password_goes_with_user(cls, given: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if bool(given) != bool(info.data.get("user")):
            raise ValueError("goes with user: set both or none")
        return given

    def revealed(self) -> dict[str, object]:
        """Return the fields as JSON has them, the password too: for files that their owner alone can read."""
        password = self.password.get_secret_value() if self.password else None
        return {**self.model_dump(mode="json"), "password": password}

    @property
    def protocol(self) -> str:
        """Return Kafka's name of the way to talk to the servers."""
        return ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")


def from_environment() -> KafkaConfig:
    """Return what HURACAN_KAFKA__SERVERS and its like say; raise BadInput, naming the variable, for what cannot be."""
    given = {name.removeprefix(PREFIX).lower(): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        return KafkaConfig.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "_".join(map(str, fault["loc"])).upper()
        raise BadInput(f"{name}: {fault['msg'].removeprefix('Value error, ')}") from None


def _on_this_machine(servers: str) -> bool:
    hosts = [server.strip().rpartition(":")[0].strip("[]") for server in servers.split(",")]
    return all(host == "localhost" or _is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
