"""Model bundles: a directory of files and a manifest that names each by its SHA-256.

Training writes them, services load them; a service needs nothing else of training. What is not named or not as
named is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from huracan.config import Config
from huracan.errors import BadInput

MANIFEST = "manifest.json"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class Manifest(Config):
    """What a bundle is, what it needs, and where it comes from."""

    name: FileName
    """Name in the registry: what the model is for, such as regime. Directories of a library begin with it."""
    version: PositiveInt
    """Version in the registry."""
    model: str = Field(min_length=1)
    """Kind of model, such as strided_cnn."""
    classes: tuple[str, ...] = Field(min_length=2)
    """Names of the classes, in the order of the probabilities."""
    feature_set: str
    """Name of the feature set of its windows."""
    feature_set_digest: Sha256
    """The feature set it was trained on; windows of another are refused."""
    columns: tuple[str, ...] = Field(min_length=1)
    """What its engine is fed, in this order: features of the set, or what its outlook makes of them."""
    window: PositiveInt
    """Rows of a window."""
    interval_ns: PositiveInt
    """Length of the step or bar of a row."""
    horizon_steps: PositiveInt
    """How many rows ahead its classes look."""
    temperature: PositiveFloat = 1.0
    """Its logits are divided by this before the softmax: fitted on validation rows, so that confidences hold."""
    data_digest: Sha256
    """Digest of what it was trained on."""
    run_id: str
    """Run of the registry that trained it."""
    champion_version: PositiveInt | None = None
    """Version it was compared with, if there was one."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Scores on data it had not seen."""
    files: dict[FileName, Sha256] = Field(default_factory=dict)
    """SHA-256 of every other file of the bundle."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files are what its manifest says."""

    directory: Path
    manifest: Manifest
    contents: Mapping[str, bytes]
    """Every file but the manifest, by name, as it was when it was checked."""

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the manifest, and with it of everything."""
        return self.manifest.digest()


def load_bundle(directory: Path) -> Bundle:
    """Return a bundle, all of it checked.

    Raises BadInput that names the file which is not as it should be, or the directory that cannot be read.
    """
    try:
        return _loaded(directory)
    except OSError as error:
        raise BadInput(f"{directory} cannot be read: {error.strerror}") from None


def _loaded(directory: Path) -> Bundle:
    path = directory / MANIFEST
    if not path.is_file():
        raise BadInput(f"{directory} is no model bundle: it has no {MANIFEST}")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "it"
        raise BadInput(f"{path}: {field}: {first['msg']}") from error
    found = {each.name for each in directory.iterdir()} - {MANIFEST}
    for name in sorted(found - manifest.files.keys()):
        raise BadInput(f"{directory / name} is not named in {MANIFEST}; take it out, or export the bundle again")
    contents = {name: _checked(directory / name, digest) for name, digest in sorted(manifest.files.items())}
    return Bundle(directory=directory, manifest=manifest, contents=contents)


def _checked(path: Path, digest: str) -> bytes:
    if not path.is_file():
        raise BadInput(f"{path} is missing; {MANIFEST} names it: export the bundle again")
    data = path.read_bytes()
    was = hashlib.sha256(data).hexdigest()
    if was != digest:
        raise BadInput(f"{path} was {was[:12]}…, not {digest[:12]}… as {MANIFEST} says: it is not what was exported")
    return data


def write_bundle(directory: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole or not at all, in place of an older one; `files` of the manifest is filled in from contents.

    Raises BadInput where there is something else in its place, or it cannot be written.
    """
    files = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    complete = Manifest.model_validate(manifest.model_dump() | {"files": files})
    text = json.dumps(complete.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{directory.parent} cannot be made: {error.strerror}") from None
    try:
        _put(directory, {**contents, MANIFEST: text.encode()})
    except OSError as error:
        raise BadInput(f"{directory} cannot be written: {error.strerror}") from None
    return load_bundle(directory)


def _put(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Put files into a directory that is there with all of them, or not at all."""
    linked = directory.is_symlink()
    if (linked or directory.exists()) and not (directory / MANIFEST).is_file():
        raise BadInput(f"{directory} is in the way: it is no model bundle; name another place, or move it")
    fresh = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        for name, data in contents.items():
            (fresh / name).write_bytes(data)
        if linked:
            directory.unlink()
        elif directory.exists():
            shutil.rmtree(directory)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
