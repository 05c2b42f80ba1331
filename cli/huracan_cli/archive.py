"""`huracan archive`: old days of the database become files and leave it; small files of the log become one a day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from huracan.clock import SystemClock
from huracan.errors import BadInput
from huracan.store.archive import day_of
from huracan.store.aside import archive_days
from huracan.store.merge import merge_files
from huracan.store.postgres import PostgresStore
from huracan_cli.options import JsonOption, PostgresOption, StateOption, console, examples, on_the_loop
from huracan_cli.state import default_directory, load

app = typer.Typer(
    no_args_is_help=True, help="Put old days of the database into files; merge the small files of the log."
)


def _path(text: str) -> Path:
    if not text:
        raise BadInput("directory was '': name one; . is the one where you are")
    return Path(text)


DirectoryArgument = Annotated[
    Path, typer.Argument(parser=_path, metavar="DIRECTORY", help="Directory of the files; it outlives the database.")
]


async def put_aside(url: str, directory: Path, keep_days: int | None, now_ns: int) -> list[Path]:
    """Detach days that ended `keep_days` before now, where that is given, and archive all that are detached.

    Return the files. Raises what `archive_days` raises.
    """
    if keep_days is not None:
        store = PostgresStore(url, 1)
        try:
            await store.maintain(now_ns, keep_days=keep_days)
        finally:
            await store.close()
    return await archive_days(url, directory)


@app.command("days", epilog=examples("archive days /var/lib/huracan/days --keep-days 30 --json"))
def days_command(
    directory: DirectoryArgument,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="First put aside days that ended so long before today.")
    ] = None,
    postgres_url: PostgresOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write days that were put aside as Parquet files, and drop each once it is on disk. As the tables' owner."""
    url = postgres_url or load(state or default_directory()).postgres_url.get_secret_value()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{directory} cannot be made: {error.strerror}; name another directory") from None
    files = on_the_loop(put_aside(url, directory, keep_days, SystemClock().now_ns()))
    if as_json:
        typer.echo(json.dumps({"files": [str(path) for path in files]}))
    else:
        console.print(Text("\n".join(str(path) for path in files) or "no day was put aside"), soft_wrap=True)


@app.command("merge", epilog=examples("archive merge /var/lib/huracan/archive --json"))
def merge_command(directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """Merge the persister's files of each topic, key and day that is over; a file goes once another has its rows."""
    merged = merge_files(directory, day_of(SystemClock().now_ns()))
    if as_json:
        told = [{"file": str(each.path), "files": each.files, "rows": each.rows} for each in merged]
        typer.echo(json.dumps({"merged": told}))
        return
    lines = [f"{each.path}: {each.rows} rows of {each.files} files" for each in merged]
    console.print(Text("\n".join(lines) or "nothing to merge"), soft_wrap=True)
