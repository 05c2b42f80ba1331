"""What a process is told: refused in one line where it cannot be used, overridden by the environment, never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from huracan.errors import BadInput
from huracan.service.__main__ import main
from huracan.service.settings import ProcessSettings, load

SECRET = "s3cret-and-nobodys-business"
STORE = f"postgresql://huracan:{SECRET}@127.0.0.1:5432/huracan"


def _file(directory: Path, text: object) -> Path:
    """Write settings, as JSON unless they are text already."""
    path = directory / "settings.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"services": {"flow": {}}, "colour": "red"}, "colour", "not permitted"),
        ({"services": {"flow": {"colour": "red"}}}, "services.flow.colour", "not permitted"),
        ({"services": {"flow": {}}, "nats": {"colour": "red"}}, "nats.colour", "not permitted"),
        ({"services": {"flow": {}}, "http_port": "high"}, "http_port", "integer"),
        ({"services": {"flow": {}}, "http_port": 65_536}, "http_port", "65535"),
        ({"services": {"flow": {"move_bps": "much"}}}, "services.flow.move_bps", "number"),
        ({"services": {"flow": 3}}, "services.flow", "dictionary"),
        ({"services": {"flow": {}}, "drain_timeout_s": 0}, "drain_timeout_s", "greater than 0"),
        ({"services": {"flow": {}}, "clock": {"start_ns": 1, "speed": -1}}, "clock.speed", "greater than"),
        ({"services": {"astrology": {}}}, "astrology", "installed are executor, flow"),
        ({"services": {"orchestrator": {}}}, "services.orchestrator.shard", "required"),
        ({"services": {"persister": {}}}, "store.url", "HURACAN_STORE__URL"),
        ({"services": {}}, "services", "at least 1"),
        ({}, "services", "required"),
        ({"services": {"flow": {}}, "nats": {"url": "localhost"}}, "nats.url", "nats://host:port"),
        ({"services": {"flow": {}}, "nats": {"url": f"nats://a:{SECRET}@b:4222"}}, "nats.url", "nats.passwords"),
        ({"services": {"flow": {}}, "nats": {"passwords": {"flow": [SECRET]}}}, "nats.passwords.flow", "string"),
        ({"services": {"flow": {}}, "store": {"url": {"password": SECRET}}}, "store.url", "string"),
        ({"services": {"flow": {}}, "store": {"url": STORE, "pool": 1}}, "store.pool", "not permitted"),
        ([SECRET], "settings", "not an object"),
        (f"{{{SECRET}", "settings.json", "property name"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(
    given: object, field: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(_file(tmp_path, given))]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert field in said.err
    assert reason in said.err
    assert SECRET not in said.err


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "absent.json")]) == 2
    said = capsys.readouterr().err
    assert said == f"config {tmp_path / 'absent.json'}: No such file or directory\n"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["--config", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_environment_overrides_the_file_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, {"services": {"flow": {"move_bps": 2}}, "nats": {"url": "nats://file:1", "user": "file"}})
    monkeypatch.setenv("HURACAN_NATS__URL", "nats://environment:2")
    monkeypatch.setenv("HURACAN_NATS__PASSWORDS__FLOW", SECRET)
    monkeypatch.setenv("HURACAN_SERVICES__FLOW__FLAT_BPS", "0.5")
    settings = load(path)
    assert settings.nats.url == "nats://environment:2"
    assert settings.nats.user == "file"
    assert settings.nats.passwords["flow"].get_secret_value() == SECRET
    assert settings.services == {"flow": {"move_bps": 2, "flat_bps": "0.5"}}


def test_an_unknown_field_in_the_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HURACAN_NATS__COLOUR", SECRET)
    assert main(["--config", str(_file(tmp_path, {"services": {"flow": {}}}))]) == 2
    said = capsys.readouterr().err
    assert "nats.colour" in said
    assert SECRET not in said


def test_the_order_of_the_services_in_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HURACAN_SERVICES__REGIME__HISTORY_BEFORE_NS", "1")
    path = _file(tmp_path, {"services": {"sentiment": {}, "regime": {}, "flow": {}}})
    assert list(load(path).services) == ["sentiment", "regime", "flow"]


def test_printed_settings_hide_secrets_and_show_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(
        tmp_path, {"services": {"flow": {}, "persister": {}}, "nats": {"user": "me", "passwords": {"me": SECRET}}}
    )
    monkeypatch.setenv("HURACAN_STORE__URL", STORE)
    assert main(["--config", str(path), "--print-config"]) == 0
    said = capsys.readouterr()
    assert SECRET not in said.out
    assert said.err == ""
    printed = json.loads(said.out)
    assert printed["nats"] == {"url": "nats://127.0.0.1:4222", "user": "me", "passwords": {"me": "**********"}}
    assert printed["store"] == {"url": "**********", "pool_size": 4}
    assert printed["services"]["persister"]["linger_ms"] == 100
    assert printed["drain_timeout_s"] == 8.0


def test_printed_settings_are_those_of_the_same_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, {"services": {"flow": {"move_bps": 2}}, "http_port": 8080})
    assert main(["--config", str(path), "--print-config"]) == 0
    again = tmp_path / "again.json"
    again.write_text(capsys.readouterr().out)
    assert main(["--config", str(again), "--print-config"]) == 0
    assert capsys.readouterr().out == again.read_text()


def test_settings_are_refused_before_they_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, {"services": {"flow": {"colour": "red"}}})
    assert main(["--config", str(path), "--print-config"]) == 2
    assert "services.flow.colour" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["http_port", "services", "nats"])
def test_settings_are_frozen(field: str) -> None:
    settings = ProcessSettings(services={"flow": {}})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, field, getattr(settings, field))


def test_settings_that_are_no_object_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds str"):
        load(_file(tmp_path, '"flow"'))
