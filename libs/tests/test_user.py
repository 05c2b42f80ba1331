"""Who signs what a command changes."""

from __future__ import annotations

import getpass
import os

import pytest

from huracan.user import user_name


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)


def test_a_user_signs_by_name() -> None:
    assert user_name() == getpass.getuser() != ""


def test_a_user_without_a_name_signs_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert user_name() == "uid 4000000000"
