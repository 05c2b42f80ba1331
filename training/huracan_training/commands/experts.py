"""`huracan experts`: train nets that are routed by regime, judge them beside one as large, and write their bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huracan.inference.bundle import write_bundle
from huracan_training.commands.shown import AheadOption, DataOption, FoldsOption, JsonOption, OutOption, Shown
from huracan_training.commands.train import SetOption, settings_of
from huracan_training.experts import Recipe, card_of, made
from huracan_training.tasks import FLOW, asked_of


def experts(
    data: DataOption,
    horizon: AheadOption = None,
    folds: FoldsOption = FLOW.folds,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the walk-forward fits; the first is served.")] = 3,
    given: SetOption = None,
    out: OutOption = Path("out/experts"),
    as_json: JsonOption = False,
) -> None:
    """Train one net a regime and one of all, and route each window to the better one."""
    rows = FLOW.rows(horizon)
    dataset = asked_of(FLOW, data, out / "dataset")
    with Shown(quiet=as_json) as shown:
        recipe = Recipe(horizon=rows, seeds=seeds, folds=folds, settings=settings_of(given or []), watch=shown)
        found = made(dataset, recipe)
    written = write_bundle(out / "bundle", found.manifest, found.contents)
    told = json.dumps(found.report.model_dump(mode="json"), indent=1, sort_keys=True)
    (out / "report.json").write_text(told + "\n", encoding="utf-8")
    typer.echo(told if as_json else f"{card_of(found.report)}\nbundle: {written.directory}")
