"""`huracan retrain`: each night a challenger; it takes over where it beats baselines and champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from huracan.user import user_name
from huracan_training.benchmark import DETECTOR
from huracan_training.commands.shown import EXPERIMENT, DataOption, JsonOption, OutOption, RegistryOption, Shown
from huracan_training.commands.train import (
    ColumnsOption,
    ModelOption,
    SeedOption,
    SetOption,
    columns_of,
    settings_of,
    tell,
)
from huracan_training.datasets import build
from huracan_training.optimise.making import Asked
from huracan_training.registry import Registry
from huracan_training.report import write_report
from huracan_training.retraining import Recipe, champion_of, trained


def retrain(
    data: DataOption,
    model: ModelOption = DETECTOR,
    given: SetOption = None,
    seed: SeedOption = 1,
    chosen: ColumnsOption = None,
    registry: RegistryOption = "out/registry",
    out: OutOption = Path("out/retrain"),
    as_json: JsonOption = False,
) -> None:
    """Train a challenger, judge it beside the champion on bars neither has seen, optimise it, export what is better."""
    recipe = Recipe(model=model, settings=settings_of(given or []), columns=columns_of(chosen), seed=seed)
    recipe.contender()
    dataset = build(data, out / "dataset")
    kept = Registry(registry)
    champion = champion_of(kept, out)
    if champion is not None:
        recipe = replace(recipe, horizon_bars=champion.horizon_bars)
    with kept.run(EXPERIMENT, kind="retrain") as run, Shown(quiet=as_json) as shown:
        run.parameters({"model": model, "seed": seed, **recipe.settings})
        run.note("data_digest", dataset.digest)
        run.note("columns", " ".join(recipe.columns))
        told = trained(
            dataset,
            recipe,
            kept,
            run,
            trials=kept.trials(EXPERIMENT),
            room=out / "said",
            champion=champion,
            walker=shown,
            optimise=Asked(seed=seed, watch=shown),
        )
        page = write_report(told.evaluation, out)
        run.keep(page)
    takes_over = told.version.quarantined is None and told.beats_champion
    if takes_over:
        kept.promote(told.version.name, told.version.version, author=f"{user_name()} by huracan retrain")
        kept.export(told.version, out / "bundle")
    tell(told, page, as_json=as_json)
    if not as_json:
        typer.echo(f"it serves now: {out / 'bundle'}" if takes_over else "the champion stays")
