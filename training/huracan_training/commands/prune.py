"""`huracan prune`: find the columns that a model can do without, and show that this beats leaving out any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from huracan_training.choosing import Choice, names_of, pruned
from huracan_training.commands.shown import (
    EXPERIMENT,
    DataOption,
    FoldsOption,
    HorizonOption,
    JsonOption,
    OutOption,
    RegistryOption,
    Shown,
)
from huracan_training.commands.train import ModelOption, SeedOption, SetOption, settings_of
from huracan_training.datasets import build
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.pruning import FITS as TRIED
from huracan_training.models.pruning import Drop, Pruning
from huracan_training.registry import FITS, Registry


def prune(
    data: DataOption,
    model: ModelOption = "lightgbm",
    given: SetOption = None,
    share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Of the columns that may go.")] = 0.25,
    folds: FoldsOption = 5,
    seed: SeedOption = 1,
    horizon_bars: HorizonOption = HORIZON_BARS,
    registry: RegistryOption = "out/registry",
    out: OutOption = Path("out/prune"),
    as_json: JsonOption = False,
) -> None:
    """Leave out the columns that matter least, on the newest walk-forward fold; `train --columns` takes the rest."""
    choice = Choice(model=model, settings=settings_of(given or []), folds=folds, seed=seed, horizon_bars=horizon_bars)
    choice.require_columns()
    dataset = build(data, out / "dataset")
    with Registry(registry).run(EXPERIMENT, kind="prune") as run, Shown(quiet=as_json) as shown:
        run.parameters(choice.parameters() | {"share": share})
        run.note("data_digest", dataset.digest)
        found = pruned(dataset, choice, share=share, walker=shown)
        told = _told(choice, dataset.digest, found)
        page = out / "pruning.json"
        page.write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        lowest = found.lowest
        run.metrics({"log_loss": found.loss, "rise": lowest.rise, "rise_error": lowest.error, FITS: TRIED})
        run.keep(page)
    if as_json:
        typer.echo(json.dumps(told, allow_nan=False))
        return
    typer.echo(f"log loss with all columns {found.loss:.4f}")
    typer.echo(f"without {', '.join(names_of(found.lowest.columns))}: {_rise(found.lowest)}")
    for drop in found.random:
        typer.echo(f"without as many by chance, {', '.join(names_of(drop.columns))}: {_rise(drop)}")
    if found.accepted:
        typer.echo(f"accepted: no more than its error. `huracan train --model {model} --columns {page}`")
    else:
        typer.echo("not accepted: more than its error. All columns stay")


def _rise(drop: Drop) -> str:
    return f"{drop.rise:+.4f}, error {drop.error:.4f}"


def _told(choice: Choice, data_digest: str, found: Pruning) -> dict[str, object]:
    matters = dict(zip(names_of(range(len(found.matters))), found.matters.tolist(), strict=True))
    groups = [names_of(np.flatnonzero(found.group == group).tolist()) for group in np.unique(found.group)]
    return {
        "model": choice.model,
        "data_digest": data_digest,
        "columns": names_of(found.kept()),
        "accepted": found.accepted,
        "beats_random": found.beats_random,
        "log_loss": found.loss,
        "lowest": _drop(found.lowest),
        "random": [_drop(each) for each in found.random],
        "attribution": dict(sorted(matters.items(), key=lambda entry: entry[1], reverse=True)),
        "alike": [group for group in groups if len(group) > 1],
    }


def _drop(drop: Drop) -> dict[str, object]:
    return {"columns": names_of(drop.columns), "rise": drop.rise, "error": drop.error}
