"""`huracan evaluate`: judge a model that is kept on bars it has not seen, beside baselines fitted anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from huracan.errors import BadInput
from huracan.inference.bundle import load_bundle
from huracan_training.benchmark import TARGET, Line, final_fold, judged_on, registered, walk_forward_folds
from huracan_training.commands.shown import DataOption, JsonOption, OutOption, Shown, print_evaluation
from huracan_training.datasets import build
from huracan_training.detector import TRIALS, detector_of, unseen_folds
from huracan_training.evaluation import RIVALS
from huracan_training.report import summary, write_report
from huracan_training.retraining import served

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
"""Of this release, by the name of what they are for."""


def evaluate(
    data: DataOption,
    model: Annotated[str, typer.Option(help="What the model is for; its bundle of this release is judged.")] = TARGET,
    bundle: Annotated[Path | None, typer.Option(help="Directory of another bundle.")] = None,
    folds: Annotated[int, typer.Option(min=1, help="Walk-forward folds, on which baselines are fitted.")] = 5,
    out: OutOption = Path("out/evaluate"),
    as_json: JsonOption = False,
) -> None:
    """Judge a model on bars it has not seen, beside baselines that are fitted on what is before them."""
    if model != TARGET:
        raise BadInput(f"--model was {model!r}: there is {TARGET}")
    loaded = load_bundle(bundle or BUNDLES / model)
    detector = detector_of(loaded)
    horizon_bars = loaded.manifest.horizon_steps
    dataset = build(data, out / "dataset")
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
        "Baselines are fitted on the rows before each fold; of those the model learns only how assets are seen.",
    )
    line = Line(
        judged=model,
        contenders=(served(detector, model), *registered(["majority", *RIVALS], seeds=1, horizon_bars=horizon_bars)),
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
