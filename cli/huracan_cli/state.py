"""The state directory of `huracan up`: its servers' data, its processes' settings and logs, and how to reach them."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr, ValidationError

from huracan.config import Config
from huracan.embedded.files import write_secret
from huracan.errors import BadInput
from huracan.ticklog.kafka.config import KafkaConfig

FILE = "run.json"
LOCK = "lock"


class RunState(Config):
    """What runs, written by `huracan up` for the other commands; readable by its user alone."""

    pid: int
    """Process id of `huracan up`."""
    started_ns: int
    source: str
    """What is played: a recording's file name, or which simulated market."""
    simulated: bool
    instrument: str
    layout: str
    nats_url: str
    nats_user: str | None
    """The one user of a server that is not ours; None: a user each, whose passwords follow."""
    passwords: dict[str, SecretStr]
    kafka: KafkaConfig | None = None
    """Where the log is kept; None: with the bus."""
    postgres_url: SecretStr
    engines: Path | None = None
    """Directory of bundles that may serve instead of the configured ones."""
    http_ports: dict[str, int]
    """Of /healthz, /readyz and /metrics by process."""

    def write(self, directory: Path) -> None:
        """Write it into the state directory."""
        revealed = self.model_dump(mode="json")
        revealed["passwords"] = {name: secret.get_secret_value() for name, secret in self.passwords.items()}
        revealed["kafka"] = self.kafka.revealed() if self.kafka else None
        revealed["postgres_url"] = self.postgres_url.get_secret_value()
        write_secret(directory / FILE, json.dumps(revealed, indent=2))


def default_directory() -> Path:
    """Return where `huracan up` keeps its state unless told: under /var/lib for root, else in the user's own."""
    if os.environ.get("HURACAN_STATE"):
        return Path(os.environ["HURACAN_STATE"])
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/huracan")
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "huracan"


def load(directory: Path) -> RunState:
    """Return what runs; raise BadInput when nothing does."""
    path = directory / FILE
    try:
        state = RunState.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"nothing runs in {directory}: start it with `huracan up`") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise BadInput(f"{path} is not of this release: {error.errors(include_url=False)[0]['msg']}") from None
    if not _lives(state.pid):
        raise BadInput(f"`huracan up` with pid {state.pid} has ended without tidying up: start it again")
    return state


def remove(directory: Path) -> None:
    """Forget what ran."""
    (directory / FILE).unlink(missing_ok=True)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a state directory while a system runs on it; raise BadInput when another process does.

    The lock goes with the process that holds it, however that ends.
    """
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"a system runs already on {directory}: stop it with `huracan down`") from None
        yield


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def runs(directory: Path) -> bool:
    """Return whether a process holds a state directory."""
    try:
        with held(directory):
            return False
    except BadInput:
        return True
    except OSError:
        return False
