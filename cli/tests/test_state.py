"""The state directory: what is written comes back, to its user alone, and only while it is true."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from huracan.errors import BadInput
from huracan_cli.state import FILE, RunState, default_directory, load, remove


def _state(pid: int) -> RunState:
    return RunState(
        pid=pid,
        started_ns=1_772_375_400_000_000_000,
        source="day.jsonl.gz",
        simulated=False,
        instrument="binance_usdm.btc-usdt-perp",
        layout="seven",
        nats_url="nats://127.0.0.1:4222",
        nats_user=None,
        passwords={"watcher": SecretStr("seen"), "desk": SecretStr("told")},
        postgres_url=SecretStr("postgresql://huracan:hidden@127.0.0.1:5432/huracan"),
        http_ports={"gateway": 8080},
    )


def test_what_is_written_comes_back_with_its_secrets(tmp_path: Path) -> None:
    state = _state(os.getpid())
    state.write(tmp_path)
    assert load(tmp_path) == state
    assert load(tmp_path).passwords["desk"].get_secret_value() == "told"


def test_the_file_is_its_users_alone_and_printing_it_shows_no_secret(tmp_path: Path) -> None:
    state = _state(os.getpid())
    state.write(tmp_path)
    state.write(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    for secret in ("hidden", "told"):
        assert secret not in repr(state)
        assert secret not in state.model_dump_json()


def test_nothing_runs_where_nothing_was_written_or_it_was_removed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing runs in .*: start it with `huracan up`"):
        load(tmp_path / "missing")
    _state(os.getpid()).write(tmp_path)
    remove(tmp_path)
    remove(tmp_path)
    with pytest.raises(BadInput, match="nothing runs"):
        load(tmp_path)


def test_a_system_that_was_killed_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    _state(ended.pid).write(tmp_path)
    with pytest.raises(BadInput, match=f"pid {ended.pid} has ended without tidying up"):
        load(tmp_path)


def test_a_file_of_another_release_is_refused_by_name(tmp_path: Path) -> None:
    _state(os.getpid()).write(tmp_path)
    path = tmp_path / FILE
    for text in ("", "{}", json.dumps({**json.loads(path.read_text()), "novelty": 1})):
        path.write_text(text)
        with pytest.raises(BadInput, match=f"{path} is not of this release"):
            load(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_the_directory_is_the_one_that_is_named_else_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HURACAN_STATE", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.delenv("HURACAN_STATE")
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "huracan"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/var/lib/huracan")
