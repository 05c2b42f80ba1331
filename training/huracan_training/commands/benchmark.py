"""`huracan benchmark`: compare every registered model on walk-forward folds, and judge one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from huracan_training.benchmark import AROUND, DETECTOR, Line, judged_on, registered, walk_forward_folds
from huracan_training.commands.shown import (
    EXPERIMENT,
    DataOption,
    FoldsOption,
    HorizonOption,
    JsonOption,
    OutOption,
    RegistryOption,
    Shown,
    print_evaluation,
)
from huracan_training.datasets import build
from huracan_training.labels import HORIZON_BARS
from huracan_training.models.table import LEFT_OUT, MODELS
from huracan_training.registry import FITS, Registry
from huracan_training.report import summary, write_report

_CHOSEN = (
    "Designs, settings and columns were chosen by folds such as these: the report of a bundle is of its final fold, "
    "which was looked at once."
)


def benchmark(
    data: DataOption,
    judged: Annotated[str, typer.Option("--model", help="The one to be judged.")] = DETECTOR,
    against: Annotated[
        list[str] | None, typer.Option(help=f"Models beside it, of {', '.join(MODELS)}; all without it.")
    ] = None,
    folds: FoldsOption = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the judged one, if it is a net.")] = 3,
    seeds_beside: Annotated[int, typer.Option(min=1, help="Seeds of each net beside it.")] = 1,
    horizon_bars: HorizonOption = HORIZON_BARS,
    registry: RegistryOption = "out/registry",
    out: OutOption = Path("out/benchmark"),
    as_json: JsonOption = False,
) -> None:
    """Compare models walk-forward, per asset and regime. Stopped and run again, it goes on where it was."""
    shown = Shown(quiet=as_json)
    names, around = [judged, *(against or MODELS)], replace(AROUND, watch=shown)
    contenders = registered(names, seeds=seeds, seeds_beside=seeds_beside, horizon_bars=horizon_bars, around=around)
    left = ", ".join(name for name in MODELS if name not in names)
    line = Line(
        judged=judged,
        contenders=contenders,
        horizon_bars=horizon_bars,
        notes=(
            _CHOSEN,
            f"Nets beside the judged one were fitted from {seeds_beside} seed{'s' if seeds_beside > 1 else ''} each.",
            *([f"Not asked in this run: {left}."] if left else []),
        ),
    )
    dataset = build(data, out / "dataset")
    kept = Registry(registry)
    with kept.run(EXPERIMENT, kind="benchmark") as run, shown:
        run.parameters({"model": judged, "folds": folds, "seeds": seeds, "horizon_bars": horizon_bars})
        run.note("data_digest", dataset.digest)
        evaluation = judged_on(
            dataset,
            walk_forward_folds(dataset, folds, horizon_bars),
            line,
            room=out / "said",
            trials=kept.trials(EXPERIMENT),
            walker=shown,
        )
        run.metrics({FITS: sum(len(each.seeds) for each in contenders)})
        run.metrics({"log_loss": evaluation.judged.scores.log_loss, "ece": evaluation.judged.scores.ece})
        page = write_report(evaluation, out)
        run.keep(page)
    if as_json:
        typer.echo(json.dumps(summary(evaluation), allow_nan=False))
        return
    print_evaluation(evaluation, page)
    for left_out in LEFT_OUT:
        typer.echo(f"left out: {left_out.name}: {left_out.reason}")
