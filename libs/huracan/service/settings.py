"""What a process is told: which services it hosts, where the servers are, whose time it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from huracan.config import Config
from huracan.errors import BadInput
from huracan.ticklog.kafka.config import KafkaConfig

Port = Annotated[int, Field(ge=0, le=65_535)]


_NATS_SERVER = re.compile(r"(nats|tls|wss?)://[^\s/@]+")


def _servers(url: str) -> str:
    """Refuse a URL that holds a password, without repeating it: URLs are logged."""
    if "@" in url:
        raise ValueError("holds a user; name it in nats.user and its password in nats.passwords")
    if not all(_NATS_SERVER.fullmatch(server.strip()) for server in url.split(",")):
        raise ValueError(f"was {url!r}; it is nats://host:port, or several with commas between them")
    return url


class NatsConfig(Config):
    """The bus, and the log where it is on JetStream."""

    url: Annotated[str, AfterValidator(_servers)] = "nats://127.0.0.1:4222"
    """nats://host:port, several with commas between them; tls:// for a connection that is encrypted."""
    user: str | None = None
    """One user for all services, on a server that has no user for each."""
    passwords: dict[str, SecretStr] = Field(default_factory=dict)
    """By user; each service comes as the user of its own name."""


class StoreConfig(Config):
    """The database."""

    url: SecretStr | None = None
    """postgresql://user:password@host:port/database; only services that save need it."""
    pool_size: Annotated[int, Field(ge=1, le=20)] = 4
    """Most connections of one process; the persister uses one for messages and one for the log."""


class MarketClockConfig(Config):
    """Time as a recording has it, where it is played; without this the wall clock is the market's."""

    start_ns: int
    """First receive time of what is played."""
    speed: NonNegativeFloat = 0.0
    """Market seconds in a second; 0: time stands still but for what is heard (a replay)."""
    since_ns: int = 0
    """Wall time at which this market began to be played: what was sent before is of another, whose time is not ours."""
    origin: Path | None = None
    """File that keeps when the leader began, so that one that is started again goes on where the market is."""


class ProcessSettings(BaseSettings):
    """Settings of a process: environment first (`HURACAN_NATS__URL` sets `nats.url`), then its JSON file."""

    model_config = SettingsConfigDict(
        env_prefix="HURACAN_", env_nested_delimiter="__", extra="forbid", frozen=True, allow_inf_nan=False
    )

    services: dict[str, dict[str, object]] = Field(min_length=1)
    """Configuration by service: more than one share the process, its event loop and its fate."""
    nats: NatsConfig = NatsConfig()
    ticklog: Literal["jetstream", "kafka"] = "jetstream"
    """Where ticks, feature rows and journals are kept: with the bus, or on `kafka`. A log that is begun stays there."""
    kafka: KafkaConfig = KafkaConfig()
    store: StoreConfig = StoreConfig()
    clock: MarketClockConfig | None = None
    lockstep: bool = False
    """Whether this is a replay: messages are then handed on in the order of what their senders knew."""
    http_port: Port = 0
    """Port of /healthz, /readyz and /metrics on `http_host`; 0: none."""
    http_host: str = "127.0.0.1"
    drain_timeout_s: Annotated[float, Field(gt=0)] = 8.0
    """Longest time to finish what is here after SIGTERM; below 1 work is redone, above 30 a node waits for it."""
    log_format: Literal["json", "text"] = "json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's form
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's form
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return env_settings, file_secret_settings, init_settings


def load(path: Path) -> ProcessSettings:
    """Return the settings of a JSON file, overridden by the environment.

    Raises OSError for a file that cannot be read, ValueError for one that is not JSON, BadInput for JSON that is no
    object, and pydantic's ValidationError.
    """
    given = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(given, dict):
        raise BadInput(f"the file holds {type(given).__name__}, not an object of settings")
    return ProcessSettings(**given)
