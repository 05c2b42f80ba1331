"""`huracan tune`: search for settings of a model on walk-forward folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huracan_training.benchmark import DETECTOR
from huracan_training.choosing import Choice, Search
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
from huracan_training.commands.train import ModelOption, SeedOption, SetOption, options_of, settings_of
from huracan_training.datasets import build
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.tuning import TRIALS, Trial
from huracan_training.registry import Registry


def tune(
    data: DataOption,
    model: ModelOption = DETECTOR,
    given: SetOption = None,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = TRIALS,
    folds: FoldsOption = 5,
    seed: SeedOption = 1,
    horizon_bars: HorizonOption = HORIZON_BARS,
    registry: RegistryOption = "out/registry",
    out: OutOption = Path("out/tune"),
    as_json: JsonOption = False,
) -> None:
    """Search for settings; those of --set are held. Stopped and run again, it goes on after the last that ended."""
    choice = Choice(model=model, settings=settings_of(given or []), folds=folds, seed=seed, horizon_bars=horizon_bars)
    choice.space()
    dataset = build(data, out / "dataset")
    kept = Registry(registry)
    with Shown(quiet=as_json) as shown:
        search = Search(dataset, choice, kept, experiment=EXPERIMENT, room=out, walker=shown)
        found = search.run(trials)
    best = {**choice.settings, **found[0].settings}
    if as_json:
        answer = {
            "model": model,
            "data_digest": dataset.digest,
            "set": options_of(best).split(),
            "best": _told(found[0]),
        }
        counted = {"trials": [_told(each) for each in found], "registered": kept.trials(EXPERIMENT)}
        typer.echo(json.dumps(answer | counted, allow_nan=False))
        return
    failed = sum(bool(each.failure) for each in found)
    typer.echo(f"{trials} trials, {failed} failed; the registry counts {kept.trials(EXPERIMENT)} of {EXPERIMENT}")
    typer.echo(f"best: trial {found[0].number}, log loss {found[0].loss:.4f} over {folds} folds")
    typer.echo(f"--model {model} {options_of(best)}")


def _told(trial: Trial) -> dict[str, object]:
    return {
        "trial": trial.number,
        "settings": dict(trial.settings),
        "log_loss": None if trial.failure else trial.loss,
        "fold_log_losses": list(trial.losses),
        "failure": trial.failure or None,
    }
