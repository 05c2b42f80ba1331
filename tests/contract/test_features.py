"""Features are only ever appended, and the page of them is that of the declarations."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from huracan.features.bar import BAR
from huracan.features.micro import MICRO

REPO = Path(__file__).resolve().parents[2]
KNOWN = [("micro", 1, "one", 1), ("micro", 2, "two", 2), ("bar", 1, "one", 1)]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("features_tool", REPO / "tools" / "features.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_feature_there_ever_was_is_there_under_its_id_and_no_other() -> None:
    lines = [line.split() for line in (REPO / "tests/contract/features.txt").read_text(encoding="utf-8").splitlines()]
    for features in (MICRO, BAR):
        listed = [line[1:] for line in lines if line[0] == features.name]
        assert [[str(row.id), row.name, str(row.version)] for row in features.features] == listed


def test_the_sets_are_as_large_as_was_promised() -> None:
    assert MICRO.columns >= 32
    assert BAR.columns >= 24


def test_the_page_of_features_is_that_of_the_declarations(tool: ModuleType) -> None:
    assert tool.problems() == []


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (KNOWN[:1] + KNOWN[2:], "micro 2 was two and is now nothing"),
        ([("micro", 1, "two", 2), ("micro", 2, "one", 1), KNOWN[2]], "micro 1 was one and is now two"),
        ([KNOWN[0], ("micro", 2, "renamed", 2), KNOWN[2]], "micro 2 was two and is now renamed"),
        ([KNOWN[0], ("micro", 2, "two", 1), KNOWN[2]], "micro 2 two had version 2 and has now 1"),
    ],
)
def test_a_feature_that_was_removed_moved_or_renamed_is_told(
    tool: ModuleType, now: list[tuple[str, int, str, int]], said: str
) -> None:
    assert said in tool.broken(KNOWN, now)


def test_a_further_feature_and_a_newer_version_break_nothing(tool: ModuleType) -> None:
    assert tool.broken(KNOWN, [("micro", 1, "one", 3), *KNOWN[1:], ("bar", 2, "two", 1)]) == []


def test_a_page_or_a_list_that_was_not_written_anew_is_told(tool: ModuleType, tmp_path: Path) -> None:
    page, known = tmp_path / "features.md", tmp_path / "features.txt"
    page.write_text("old", encoding="utf-8")
    known.write_text("micro 1 mid_return_bps 1\n", encoding="utf-8")
    assert [line.split(";")[0] for line in tool.problems(page, known)] == [
        "features.txt does not list all features",
        "features.md is not of these declarations",
    ]
