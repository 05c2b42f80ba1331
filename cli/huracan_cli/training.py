"""Commands of the training room, which has an environment of its own: they are handed over to it, word for word."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import typer

from huracan.errors import BadInput

COMMANDS = {
    "dataset": "Build datasets of bars, recordings and the log, and judge how far they can be relied on.",
    "train": "Train a model and keep it in the registry.",
    "evaluate": "Judge a model on data it has not seen, beside its baselines.",
    "benchmark": "Compare every registered model, walk-forward, per asset and regime.",
    "tune": "Search for settings of a model, walk-forward; every trial is logged.",
    "prune": "Find the columns that a model can do without.",
    "optimise": "Prune and quantise the net of a bundle, and keep it if it still says the same.",
    "experts": "Train nets that are routed by regime, beside one net as large.",
    "promote": "Let a version of a model serve.",
    "retrain": "Train a challenger, judge it against the champion, and export what passes.",
}
PACKAGE = "huracan_training"


def add_to(app: typer.Typer) -> None:
    """Add the commands of the training room to the `huracan` command."""
    for name, text in COMMANDS.items():
        app.command(
            name,
            help=text,
            add_help_option=False,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(_handed_over)


def _handed_over(context: typer.Context) -> None:
    python = training_python(Path(sys.prefix))
    os.execv(python, [str(python), "-m", PACKAGE, str(context.info_name), *context.args])  # noqa: S606 - no shell


def training_python(prefix: Path) -> Path:
    """Return the Python of the training room beside an environment; raise BadInput if it was never made."""
    if importlib.util.find_spec(PACKAGE):
        return Path(sys.executable)
    python = prefix / "training" / "bin" / "python"
    if not python.exists():
        raise BadInput(
            "the training room is not installed (PyTorch and MLflow, 6 GB): run `make setup-training`, and again"
        )
    return python
