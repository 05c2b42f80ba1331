"""Keep what was fitted as JSON in a directory: no pickle, nothing that runs when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huracan.errors import BadInput
from huracan.store.files import sync_directory
from huracan_training.samples import Classifier, Served

_FILE = "model.json"


def servable(model: Classifier) -> Served:
    """Return a model that can be kept and served; raise BadInput for one that cannot."""
    if not isinstance(model, Served):
        raise BadInput(f"{model.name} is refitted wherever it is asked, and cannot be served; train another model")
    return model


def write_state(directory: Path, state: Mapping[str, object], file: str = _FILE) -> None:
    """Write a state into a directory, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    aside = directory / f"{file}.part"
    aside.write_text(json.dumps(state, indent=1, sort_keys=True), encoding="utf-8")
    aside.replace(directory / file)
    sync_directory(directory)


def read_state(directory: Path, file: str = _FILE) -> dict[str, Any]:
    """Return the state that was written; raise BadInput where there is none."""
    try:
        state = json.loads((directory / file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{directory / file} could not be read ({error}); save a fitted model there first") from error
    if not isinstance(state, dict):
        raise BadInput(f"{directory / file} was no object; save a fitted model there first")
    return state
