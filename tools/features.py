"""Write docs/features.md from the declarations, and append new features to the list of all there ever were.

A feature is never removed, renamed or moved, and its version never goes back: models are trained on these columns.
Where one is, nothing is written. `--check` writes nothing and fails when page or list is not that of the declarations.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from huracan.features.bar import BAR, WARM_UP_BARS
from huracan.features.micro import MICRO
from huracan.features.table import Feature, FeatureSet, Missing

REPO = Path(__file__).resolve().parent.parent
PAGE = REPO / "docs" / "features.md"
KNOWN = REPO / "tests" / "contract" / "features.txt"
SETS: tuple[FeatureSet[Any], ...] = (MICRO, BAR)
ABOUT = {
    "micro": "One row every 100 ms of receive time, for each instrument once its book is synced. Past events and "
    "steps alone enter a row; all look-back is over steps without a gap.",
    "bar": "One row a closed bar, of one minute and of 15 minutes; the numbers in the names are bars. A bar that does "
    "not follow the one before starts all look-back anew. A window of 64 rows has every value after "
    f"{WARM_UP_BARS} bars: the gateway reads as many from a history file or the venue. `bar_rows` makes the rows of a "
    "whole history at once, bit for bit the same.",
}
HEAD = """# Features

Written by `tools/features.py` (`make gen`) from the declarations in `libs/huracan/features/`; `make lint` compares.

A window is 64 rows of one set, float32, row by row, columns in the order of the ids. Where a value is missing it is
NaN, and marked in the window's mask; it is missing in the cases that its row names, and a number in every other. Values
are never clipped. Ids are only ever appended; the digest of a set covers all that is said of it here, and a model that
was made for another digest abstains. `micro_rows` makes rows of `micro` again from the ticks of the log, byte for byte.
"""
Line = tuple[str, int, str, int]
"""Set, id, name, version."""


def declared() -> list[Line]:
    """Return all features as lines of the list."""
    return [(each.name, row.id, row.name, row.version) for each in SETS for row in each.features]


def listed(text: str) -> list[Line]:
    """Return the lines of a list."""
    rows = [line.split() for line in text.splitlines() if line]
    return [(name, int(number), feature, int(version)) for name, number, feature, version in rows]


def broken(known: list[Line], now: list[Line]) -> list[str]:
    """Return what was removed, renamed or moved, or has an older version than it had."""
    names = {(each, number): (name, version) for each, number, name, version in now}
    found = []
    for each, number, name, version in known:
        is_now, of_version = names.get((each, number), ("nothing", 0))
        if is_now != name:
            found.append(f"{each} {number} was {name} and is now {is_now}")
        elif of_version < version:
            found.append(f"{each} {number} {name} had version {version} and has now {of_version}")
    return found


def page() -> str:
    """Return the page of all features."""
    parts = [HEAD, "## When a value is missing\n", "| rule | when |", "|---|---|"]
    parts += [f"| `{rule.name}` | {_said(rule)} |" for rule in Missing]
    for each in SETS:
        parts += [
            f"\n## `{each.name}`: {each.columns} features\n",
            ABOUT[each.name],
            f"\nDigest `{each.digest.hex()}`.\n",
        ]
        parts += ["| id | name | unit | range | missing | source | version |", "|---|---|---|---|---|---|---|"]
        parts += [_row(row) for row in each.features]
    return "\n".join(parts) + "\n"


def _row(row: Feature[Any]) -> str:
    missing = ", ".join(f"`{rule.name}`" for rule in row.missing) or "never"
    span = f"{'[' if math.isfinite(row.low) else '('}{_number(row.low)}, {_number(row.high)}"
    source = row.source.replace("|", "\\|")
    close = "]" if math.isfinite(row.high) else ")"
    return f"| {row.id} | `{row.name}` | {row.unit} | {span}{close} | {missing} | {source} | {row.version} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def _said(rule: Missing) -> str:
    """Return what stands below a rule in the source: the words of an enum's members are not kept at run time."""
    lines = (REPO / "libs/huracan/features/table.py").read_text(encoding="utf-8").splitlines()
    at = next(index for index, line in enumerate(lines) if line.strip().startswith(f"{rule.name} = "))
    return lines[at + 1].strip().strip('"')


def problems(page_path: Path = PAGE, known_path: Path = KNOWN) -> list[str]:
    """Return what is wrong with page and list."""
    known, now = listed(known_path.read_text(encoding="utf-8")), declared()
    found = broken(known, now)
    if not found and known != now:
        found.append(f"{known_path.name} does not list all features; run `make gen`")
    if page_path.read_text(encoding="utf-8") != page():
        found.append(f"{page_path.name} is not of these declarations; run `make gen`")
    return found


def main() -> int:
    """Write page and list, or with --check report what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when page or list is wrong")
    check: bool = parser.parse_args().check
    known = listed(KNOWN.read_text(encoding="utf-8")) if KNOWN.is_file() else []
    found = problems() if check else broken(known, declared())
    print("".join(f"{line}\n" for line in found), end="")
    if not check and not found:
        PAGE.write_text(page(), encoding="utf-8")
        KNOWN.write_text("".join(" ".join(map(str, line)) + "\n" for line in declared()), encoding="utf-8")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
