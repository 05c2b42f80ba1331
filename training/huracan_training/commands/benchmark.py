"""`huracan benchmark`: compare every registered model on walk-forward folds, and judge one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from huracan_training.benchmark import Line, apart, judged_on, registered, rivals, walk_forward_folds
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
from huracan_training.models.table import LEFT_OUT, MODELS
from huracan_training.registry import FITS, Registry
from huracan_training.report import summary, write_report
from huracan_training.tasks import REGIME, asked_of, task_of

_CHOSEN = (
    "Designs, settings and columns were chosen by folds such as these: the report of a bundle is of its final fold, "
    "which was looked at once."
)
_NEW_ASSETS = "Each asset is asked about by models that were fitted on the others alone, before that time."


def benchmark(
    data: DataOption,
    target: TargetOption = REGIME.target,
    horizon: AheadOption = None,
    judged: Annotated[str, typer.Option("--model", help="The one to be judged; that of the target without it.")] = "",
    against: Annotated[
        list[str] | None, typer.Option(help=f"Models beside it, of {', '.join(MODELS)}; all without it.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Walk-forward folds.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the judged one, if it is a net.")] = 3,
    seeds_beside: Annotated[int, typer.Option(min=1, help="Seeds of each net beside it.")] = 1,
    new_assets: Annotated[
        bool, typer.Option("--new-assets", help="Ask of each asset what was learned from the others before that time.")
    ] = False,
    registry: RegistryOption = "out/registry",
    out: OutOption = Path("out/benchmark"),
    as_json: JsonOption = False,
) -> None:
    """Compare models walk-forward, per asset and regime. Stopped and run again, it goes on where it was."""
    shown, task = Shown(quiet=as_json), task_of(target)
    judged, folds, horizon_bars = judged or task.model, folds or task.folds, task.rows(horizon)
    names, around = [judged, *(against or MODELS)], replace(task.around, watch=shown)
    contenders = registered(
        names, seeds=seeds, seeds_beside=seeds_beside, horizon_bars=horizon_bars, around=around, task=task
    )
    formulas = [each for each in rivals(task, horizon_bars) if each.name not in MODELS]
    left = ", ".join(name for name in MODELS if name not in names)
    line = Line(
        judged=judged,
        contenders=(*contenders, *formulas),
        horizon_bars=horizon_bars,
        notes=(
            _CHOSEN,
            f"Nets beside the judged one were fitted from {seeds_beside} seed{'s' if seeds_beside > 1 else ''} each.",
            *([f"Not asked in this run: {left}."] if left else []),
            *([_NEW_ASSETS] if new_assets else []),
        ),
    )
    dataset = asked_of(task, data, out / "dataset")
    offered = walk_forward_folds(dataset, folds, horizon_bars)
    kept = Registry(registry)
    with kept.run(task.name, kind="benchmark") as run, shown:
        run.parameters({"model": judged, "folds": folds, "seeds": seeds, "horizon_bars": horizon_bars})
        run.note("data_digest", dataset.digest)
        evaluation = judged_on(
            dataset,
            apart(offered) if new_assets else offered,
            line,
            room=out / "said",
            trials=kept.trials(task.name),
            walker=shown,
        )
        run.metrics({FITS: sum(len(each.seeds) for each in line.contenders)})
        run.metrics({"log_loss": evaluation.judged.scores.log_loss, "ece": evaluation.judged.scores.ece})
        page = write_report(evaluation, out)
        run.keep(page)
    if as_json:
        typer.echo(json.dumps(summary(evaluation), allow_nan=False))
        return
    print_evaluation(evaluation, page)
    for left_out in LEFT_OUT:
        typer.echo(f"left out: {left_out.name}: {left_out.reason}")
