"""`huracan promote`: let a version of a model serve, and export it for those who serve it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from huracan.user import user_name
from huracan_training.commands.shown import JsonOption, RegistryOption
from huracan_training.registry import Registry


def promote(
    name: Annotated[str, typer.Argument(help="What the model is for, such as regime.")],
    version: Annotated[int, typer.Argument(help="Its version in the registry.")],
    export: Annotated[Path | None, typer.Option(help="Directory to write its bundle to, in place of another.")] = None,
    author: Annotated[str | None, typer.Option(help="Who says so; the user's name without it.")] = None,
    registry: RegistryOption = "out/registry",
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion. One in quarantine is refused, with the reason."""
    kept = Registry(registry)
    promoted = kept.promote(name, version, author=author or user_name())
    bundle = kept.export(promoted, export) if export else None
    told = {"name": name, "version": version, "bundle": str(export) if bundle else None}
    if as_json:
        typer.echo(json.dumps(told | ({"digest": bundle.digest.hex()} if bundle else {})))
        return
    typer.echo(f"{name} version {version} serves" + (f"; its bundle is {export}" if bundle else ""))
