"""`huracan optimise`: prune and quantise the net of a bundle, and write a bundle of it if it still says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huracan.inference.bundle import load_bundle, write_bundle
from huracan_training.commands.shown import DataOption, JsonOption, OutOption, Shown
from huracan_training.commands.train import SeedOption, SetOption, settings_of
from huracan_training.datasets import build
from huracan_training.optimise.making import PRUNED, Asked, Optimised, optimised, require_optimisable, table_of


def optimise(
    data: DataOption,
    bundle: Annotated[Path, typer.Option(help="Directory of the bundle, which stays as it is.")],
    out: OutOption = Path("out/optimise"),
    prune: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the channels to take out; 0 for none.")
    ] = PRUNED,
    given: SetOption = None,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Take channels out of a net, tune the rest, quantise it to INT8, and keep it if it says what it said."""
    loaded = load_bundle(bundle)
    require_optimisable(loaded)
    dataset = build(data, out / "dataset")
    with Shown(quiet=as_json) as shown:
        shown.fitting(f"{loaded.manifest.model}, fewer channels", 0, 1)
        settings = settings_of(given) if given else None
        found = optimised(loaded, dataset, Asked(share=prune, seed=seed, settings=settings, watch=shown))
    if as_json:
        typer.echo(json.dumps(summary(found), allow_nan=False))
    else:
        for line in (*found.notes, table_of(found.variants), f"TensorRT-RTX parser: {found.lint}"):
            typer.echo(line)
    found.require_parity()
    written = write_bundle(out / "bundle", found.manifest, found.contents)
    if not as_json:
        typer.echo(f"temperature {written.manifest.temperature:.3f}; bundle: {written.directory}")


def summary(found: Optimised) -> dict[str, object]:
    """Return what became of a bundle, for programs."""
    return {
        "held": not found.failures(),
        "failures": list(found.failures()),
        "temperature": found.manifest.temperature,
        "metrics": found.manifest.metrics,
        "tensorrt_rtx": str(found.lint),
        "notes": list(found.notes),
    }
