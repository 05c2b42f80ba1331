"""The page of guarantees names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
ROOMS = ("libs/tests", "services", "cli/tests", "tests")


def test_every_guarantee_names_tests_that_exist() -> None:
    rows = [line for line in (REPO / "docs/guarantees.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    named = [re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1]) for row in rows[1:]]
    assert all(named), "a row names no test"
    files = [file for room in ROOMS for file in (REPO / room).rglob("test_*.py")]
    written = set(re.findall(r"def (test_\w+)", "\n".join(file.read_text(encoding="utf-8") for file in files)))
    assert {test for row in named for test in row} - written == set()
