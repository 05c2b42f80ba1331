"""`huracan dataset`: build datasets from bars, recordings and logs, and say how far data can be relied on."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from huracan.errors import BadInput
from huracan_training.bars import read_bars
from huracan_training.calendar import Calendar
from huracan_training.datasets import Dataset, Making, build, verified
from huracan_training.integrity import REFUSED_AT, Refetch, Report, from_bars

app = typer.Typer(no_args_is_help=True, help="Datasets to train on: build them, and verify what they are made of.")

_UNITS_NS = {"s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000, "d": 86_400_000_000_000}
_SPAN = re.compile(r"(\d+)([smhd])")

Files = Annotated[
    list[Path], typer.Argument(help="Files of bars (Parquet, CSV), recordings, directories of runs, or archives.")
]
CalendarOption = Annotated[Calendar, typer.Option(help="Which bars should be there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
RefetchOption = Annotated[
    Path | None, typer.Option(help="File of bars of the same asset, out of which missing ones are taken.")
]


@app.command("build")
def build_command(
    files: Files,
    out: Annotated[Path, typer.Option(help="Directory of the dataset.")] = Path("out/dataset"),
    interval: Annotated[str, typer.Option(help="Of the bars, as 15m or 1d; shorter ones are put together.")] = "15m",
    calendar: CalendarOption = Calendar.ALWAYS,
    refetch: RefetchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write Parquet files and a manifest; refuse data that score 80 or less, and say why."""
    making = Making(interval_ns=interval_ns(interval), calendar=calendar, refetch=_refetch(files, refetch))
    dataset = build(files, out, making)
    if as_json:
        typer.echo(json.dumps({"directory": str(out)} | _told(dataset)))
        return
    console = Console()
    table = _table("asset", "rows", "windows", "score")
    for entry in dataset.manifest.assets:
        score = f"{entry.reliability.score:.1f}"
        table.add_row(entry.asset, f"{entry.rows:,}", f"{entry.windows:,}", score)
    console.print(table)
    for name, why in dataset.manifest.unlabelled.items():
        console.print(f"no labels of {name}: {why}")
    console.print(f"{out}\ndigest {dataset.digest}", soft_wrap=True)


@app.command("verify")
def verify_command(
    files: Files,
    calendar: CalendarOption = Calendar.ALWAYS,
    refetch: RefetchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score data from 0 to 100, part by part. Exit code 1 when any scores 80 or less: nothing is trained on it."""
    making = Making(calendar=calendar, refetch=_refetch(files, refetch))
    reports = [(path, report) for path in files for report in verified(path, making)]
    if as_json:
        typer.echo(json.dumps([{"file": str(path), "usable": told.usable} | asdict(told) for path, told in reports]))
    else:
        Console().print(_shown([told for _, told in reports]))
    if not all(told.usable for _, told in reports):
        raise typer.Exit(1)


def interval_ns(text: str) -> int:
    """Return the nanoseconds of an interval as people write it: 15m, 1h, 1d; raise BadInput for anything else."""
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise BadInput(f"--interval was {text!r}: give a number and s, m, h or d, as 15m")
    return int(found[1]) * _UNITS_NS[found[2]]


def _refetch(files: Sequence[Path], other: Path | None) -> Refetch | None:
    if other is None:
        return None
    if len(files) != 1:
        raise BadInput(f"--refetch fills one file of bars, and there were {len(files)}: fill one at a time")
    return from_bars(read_bars(other))


def _told(dataset: Dataset) -> dict[str, object]:
    return {"digest": dataset.digest} | dataset.manifest.model_dump(mode="json")


def _shown(reports: Sequence[Report]) -> Table:
    table = _table("asset", "rows", "expected", "holes", "score")
    table.add_column("what lowers it")
    for told in reports:
        colour = "green" if told.usable else "red"
        table.add_row(
            told.asset,
            f"{told.rows:,}",
            f"{told.expected:,}",
            f"{len(told.missing):,}",
            f"[{colour}]{told.score:.1f}[/{colour}]",
            "; ".join(told.reasons()),
        )
    table.caption = f"nothing is trained on data that score {REFUSED_AT:g} or less"
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
