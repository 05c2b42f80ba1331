"""`huracan evaluate`: judge a model that is kept on bars it has not seen, beside baselines fitted anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from huracan.errors import BadInput
from huracan.inference.bundle import load_bundle
from huracan_training.benchmark import TARGET, Line, final_fold, judged_on, registered, rivals, walk_forward_folds
from huracan_training.commands.shown import DataOption, JsonOption, OutOption, Shown, print_evaluation
from huracan_training.detector import TRIALS, detector_of, unseen_folds
from huracan_training.report import summary, write_report
from huracan_training.retraining import served
from huracan_training.tasks import OF_NAME, asked_of

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
"""Of this release, by the name of what they are for."""


def evaluate(
    data: DataOption,
    model: Annotated[str, typer.Option(help="What the model is for; its bundle of this release is judged.")] = TARGET,
    bundle: Annotated[Path | None, typer.Option(help="Directory of another bundle.")] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Walk-forward folds, on which baselines are fitted.")] = None,
    out: OutOption = Path("out/evaluate"),
    as_json: JsonOption = False,
) -> None:
    """Judge a model on rows it has not seen, beside baselines that are fitted on what is before them."""
    if model not in OF_NAME:
        raise BadInput(f"--model was {model!r}: there is {', '.join(OF_NAME)}")
    loaded = load_bundle(bundle or BUNDLES / model)
    detector = detector_of(loaded)
    task, horizon_bars = detector.task, detector.horizon_bars
    dataset, folds = asked_of(task, data, out / "dataset"), folds or task.folds
    offered = [*walk_forward_folds(dataset, folds, horizon_bars), final_fold(dataset, horizon_bars, folds=folds)]
    unseen = unseen_folds(detector, offered)
    begun_ns, ended_ns = detector.trained_on.span_ns()
    closes_ns = np.concatenate([each.series.close_ns[each.at] for fold in unseen for each in fold.samples.test])
    before, after = int((closes_ns < begun_ns).sum()), int((closes_ns >= ended_ns).sum())
    known = sorted({each.name for each in dataset.assets} & detector.trained_on.seen_ns.keys())
    manifest = loaded.manifest
    within = (
        f"{manifest.name} version {manifest.version} was trained on none of these rows, as far as file names tell. "
        f"Of {closes_ns.size:,} rows {after:,} are of after its training time; the other "
        f"{closes_ns.size - after:,} ({before:,} of before it) are of markets whose later fate it has seen in others."
    )
    notes = (
        within,
        *([f"Of {', '.join(known)} only rows outside its training time count."] if known else []),
        "Baselines are fitted on the rows before each fold; of those the model learns at most how assets are seen.",
    )
    shares = registered(["majority"], seeds=1, horizon_bars=horizon_bars, task=task)
    beside = {each.name: each for each in (*shares, *rivals(task, horizon_bars))}
    line = Line(
        judged=task.name,
        contenders=(served(detector, task.name), *beside.values()),
        horizon_bars=horizon_bars,
        notes=notes,
    )
    with Shown(quiet=as_json) as shown:
        evaluation = judged_on(
            dataset, unseen, line, room=out / "said", trials=int(loaded.manifest.metrics.get(TRIALS, 0)), walker=shown
        )
    page = write_report(evaluation, out)
    if as_json:
        typer.echo(json.dumps(summary(evaluation), allow_nan=False))
        return
    print_evaluation(evaluation, page)
