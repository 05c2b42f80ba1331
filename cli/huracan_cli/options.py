"""What the commands share: consoles, options, and the loop that they run on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from huracan.errors import BadInput
from huracan.service.loop import new_event_loop
from huracan_cli.sources import Market
from huracan_cli.ticklogs import VARIABLE, TickLogKind

T = TypeVar("T")

console = Console()
problems = Console(stderr=True)

HistoryOption = Annotated[
    Path | None, typer.Option(help="Bars from before the recording (Parquet or CSV), to warm up.")
]
NewsOption = Annotated[Path | None, typer.Option(help="Headlines (CSV or JSON lines); each is seen at its own time.")]
SeedOption = Annotated[int, typer.Option(help="Seed of all randomness of the run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
SpeedOption = Annotated[
    float | None, typer.Option(min=0.01, max=100, help="Market seconds in a second of a recording.")
]
RecordingOption = Annotated[Path | None, typer.Option(help="Recording to play; live feeds of three venues without it.")]
SourceOption = Annotated[
    Market,
    typer.Option(help="Live feeds: public; simulated, on this machine; auto: public where they can be reached."),
]
NatsOption = Annotated[
    str | None, typer.Option(envvar="HURACAN_NATS_URL", help="NATS server with JetStream to use; else one is started.")
]


def _database(url: str | None) -> str | None:
    if url == "":
        raise BadInput("--postgres-url was '': give postgresql://user:password@host:port/database, or leave it out")
    return url


PostgresOption = Annotated[
    str | None,
    typer.Option(envvar="HURACAN_POSTGRES_URL", callback=_database, help="PostgreSQL to use; else one is started."),
]
TickLogOption = Annotated[
    TickLogKind,
    typer.Option(
        envvar=VARIABLE,
        help="Where the log is kept: with the bus, or on Kafka: that of HURACAN_KAFKA__SERVERS, else one is started.",
    ),
]
StateOption = Annotated[
    Path | None, typer.Option(help="State directory of `huracan up`; HURACAN_STATE, else the user's own.")
]


def examples(*commands: str) -> str:
    """Return the examples that end a command's help."""
    return "Examples: " + "   |   ".join(f"huracan {command}" for command in commands)


def on_the_loop(work: Coroutine[object, object, T]) -> T:
    """Run to the end on the loop that services run on, in this thread: the processes it starts die with it."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def interactive() -> bool:
    """Return whether a person looks at what is printed."""
    return console.is_terminal and sys.stdout.isatty()
