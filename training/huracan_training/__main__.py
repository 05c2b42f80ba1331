"""The commands of the training room: what `huracan dataset`, `huracan benchmark` and their like hand over."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.markup import escape

from huracan.errors import HuracanError
from huracan_training.commands import dataset
from huracan_training.commands.benchmark import benchmark
from huracan_training.commands.evaluate import evaluate
from huracan_training.commands.experts import experts
from huracan_training.commands.optimise import optimise
from huracan_training.commands.promote import promote
from huracan_training.commands.prune import prune
from huracan_training.commands.retrain import retrain
from huracan_training.commands.train import train
from huracan_training.commands.tune import tune

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(dataset.app, name="dataset")
for command in (train, evaluate, benchmark, tune, prune, optimise, experts, promote, retrain):
    app.command(command.__name__)(command)


def main() -> None:
    """Run a command; errors that people can cause end it with one sentence and exit code 2."""
    try:
        app(prog_name="huracan")
    except HuracanError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
