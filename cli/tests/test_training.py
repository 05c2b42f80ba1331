"""Commands of the training room are handed over to the environment that has it, or it is said how to make one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan_cli.training import training_python


def test_without_the_training_room_it_is_said_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run `make setup-training`, and again"):
        training_python(tmp_path)


def test_the_environment_within_ours_takes_the_commands(tmp_path: Path) -> None:
    python = tmp_path / "training" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert training_python(tmp_path) == python
