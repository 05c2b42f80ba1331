"""`huracan train`: train a model, judge it on the newest bars, and keep it in the registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from huracan.errors import BadInput
from huracan_training.commands.shown import (
    AheadOption,
    DataOption,
    JsonOption,
    OutOption,
    RegistryOption,
    Shown,
    TargetOption,
    print_evaluation,
)
from huracan_training.models.outlook import NAMES, in_order
from huracan_training.models.table import MODELS, Settings
from huracan_training.registry import Registry
from huracan_training.report import summary, write_report
from huracan_training.retraining import Recipe, Trained, trained
from huracan_training.tasks import REGIME, asked_of, task_of

ModelOption = Annotated[str, typer.Option(help=f"Of {', '.join(MODELS)}.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of the model, as width=96; give it once for each.")
]
SeedOption = Annotated[int, typer.Option(min=1, help="Seed of all randomness of training.")]
ColumnsOption = Annotated[
    Path | None, typer.Option("--columns", help="What `huracan prune` wrote: the columns that the model is fed.")
]


def train(
    data: DataOption,
    target: TargetOption = REGIME.target,
    horizon: AheadOption = None,
    model: Annotated[str, typer.Option(help=f"Of {', '.join(MODELS)}; that of the target without it.")] = "",
    given: SetOption = None,
    seed: SeedOption = 1,
    chosen: ColumnsOption = None,
    registry: RegistryOption = "out/registry",
    export: Annotated[
        Path | None, typer.Option(help="Directory for the bundle, whether it is in quarantine or not.")
    ] = None,
    out: OutOption = Path("out/train"),
    as_json: JsonOption = False,
) -> None:
    """Train on all but the newest rows, judge on those beside the baselines, and keep it in the registry."""
    task = task_of(target)
    if chosen and task is not REGIME:
        raise BadInput(f"--columns are of the {REGIME.target}: models of {task.target} are fed the same ones always")
    recipe = Recipe(
        task=task,
        model=model or task.model,
        settings=task.settings_of(model or task.model, settings_of(given or [])),
        columns=columns_of(chosen) if chosen else task.columns,
        seed=seed,
        horizon_bars=task.rows(horizon),
    )
    recipe.contender()
    dataset = asked_of(task, data, out / "dataset")
    kept = Registry(registry)
    with kept.run(task.name, kind="train") as run, Shown(quiet=as_json) as shown:
        run.parameters({"model": recipe.model, "seed": seed, "horizon_bars": recipe.horizon_bars, **recipe.settings})
        run.note("data_digest", dataset.digest)
        run.note("columns", " ".join(recipe.columns))
        told = trained(dataset, recipe, kept, run, trials=kept.trials(task.name), room=out / "said", walker=shown)
        page = write_report(told.evaluation, out)
        run.keep(page)
    if export is not None:
        kept.export(told.version, export)
    tell(told, page, as_json=as_json)


def tell(told: Trained, page: Path, *, as_json: bool) -> None:
    """Say what became of a model that was trained."""
    version = told.version
    if as_json:
        answer = {
            "name": version.name,
            "version": version.version,
            "quarantined": version.quarantined,
            "served": told.served,
        }
        typer.echo(json.dumps(answer | summary(told.evaluation), allow_nan=False))
        return
    print_evaluation(told.evaluation, page)
    where = f"in quarantine: {version.quarantined}" if version.quarantined else "fit to serve: `huracan promote`"
    typer.echo(f"{version.name} version {version.version}, {told.served}, {where}")


def settings_of(given: Sequence[str]) -> Settings:
    """Return settings out of name=number; raise BadInput for anything else."""
    settings: dict[str, float | int] = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise BadInput(f"--set was {each!r}: give a name and a number, as width=96") from None
        settings[name] = int(number) if number.is_integer() and "." not in value else number
    return settings


def options_of(settings: Settings) -> str:
    """Return the options that give these settings, to the last digit: what `settings_of` takes."""
    return " ".join(f"--set {name}={value!r}" for name, value in settings.items())


def columns_of(file: Path | None) -> tuple[str, ...]:
    """Return the columns that a pruning kept, all without one; raise BadInput for a file that names none."""
    if file is None:
        return NAMES
    try:
        columns = json.loads(file.read_text(encoding="utf-8"))["columns"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"--columns {file} names no columns ({error}): give what `huracan prune` wrote") from None
    if not isinstance(columns, list):
        raise BadInput(f"--columns {file} had no list of columns: give what `huracan prune` wrote")
    return in_order([str(each) for each in columns])
