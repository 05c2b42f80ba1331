"""The registry: every run and trial, versions of models with their bundles, and which version serves.

MLflow holds it, in a SQLite file on one machine or on a server. What services load is a bundle, exported from here.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huracan.errors import BadInput
from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
FITS = "fits"
"""The metric under which a run of several models and seeds says how many they were."""
"""Alias of the version that serves."""
CHALLENGER = "challenger"
"""Alias of the newest version that was trained to take its place."""

_BUNDLE = "bundle"
_REASON = "quarantined"
_MOST_RUNS = 50_000


@dataclass(frozen=True, slots=True)
class Run:
    """One training or trial: what it was given, and how it went."""

    run_id: str
    _client: MlflowClient

    def parameters(self, given: Mapping[str, object]) -> None:
        """Keep what the run was given; a value is kept as text."""
        for name, value in given.items():
            self._client.log_param(self.run_id, name, value)

    def metrics(self, scores: Mapping[str, float], *, step: int = 0) -> None:
        """Keep scores, those of one epoch or trial under its number."""
        for name, value in scores.items():
            self._client.log_metric(self.run_id, name, value, step=step)

    def note(self, name: str, value: str) -> None:
        """Keep a word about the run: a digest, an error and what was done about it."""
        self._client.set_tag(self.run_id, name, value)

    def keep(self, file: Path) -> None:
        """Keep a file, such as a report."""
        self._client.log_artifact(self.run_id, str(file))


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A model in the registry."""

    name: str
    version: int
    run_id: str
    quarantined: str | None
    """Why it must not serve; None if it may."""


class Registry:
    """Runs, versions and aliases in MLflow, at a SQLite file or a server."""

    def __init__(self, place: str) -> None:
        """Open the registry at the URL of a server or at a directory, which is made."""
        self._client, self._artifacts = _opened(place)

    @contextmanager
    def run(self, experiment: str, **tags: str) -> Iterator[Run]:
        """Begin a run of an experiment; what is raised ends it as failed, with the error as its note."""
        found = self._client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else self._client.create_experiment(experiment, self._artifacts)
        run = Run(self._client.create_run(experiment_id, tags=tags).info.run_id, self._client)
        try:
            yield run
        except BaseException as error:
            run.note("error", f"{type(error).__name__}: {error}")
            self._client.set_terminated(run.run_id, "FAILED")
            raise
        self._client.set_terminated(run.run_id)

    def trials(self, experiment: str) -> int:
        """Return how much an experiment has tried: the number that the deflated Sharpe needs.

        Each run counts what it says under `FITS`, else as one, failed ones too.
        """
        found = self._client.get_experiment_by_name(experiment)
        runs = self._client.search_runs([found.experiment_id], max_results=_MOST_RUNS) if found else []
        return sum(int(run.data.metrics.get(FITS, 1)) for run in runs)

    def register(
        self, run: Run, manifest: Manifest, contents: Mapping[str, bytes], *, quarantined: str | None = None
    ) -> Version:
        """Keep a model as the next version of its name, and as its challenger; its bundle gets version and run.

        `quarantined` says why it must not serve: it is kept, and cannot be promoted.
        """
        with _quietly():
            if not any(each.name == manifest.name for each in self._client.search_registered_models()):
                self._client.create_registered_model(manifest.name)
            source = f"{self._client.get_run(run.run_id).info.artifact_uri}/{_BUNDLE}"
            tags = {_REASON: quarantined} if quarantined else {}
            made = self._client.create_model_version(manifest.name, source, run.run_id, tags=tags)
            number = int(made.version)
            champion = self.at(manifest.name, CHAMPION)
            manifest = manifest.model_copy(
                update={
                    "version": number,
                    "run_id": run.run_id,
                    "champion_version": champion.version if champion else None,
                }
            )
            with tempfile.TemporaryDirectory() as directory:
                bundle = write_bundle(Path(directory) / _BUNDLE, manifest, contents)
                self._client.log_artifacts(run.run_id, str(bundle.directory), _BUNDLE)
            self._client.set_registered_model_alias(manifest.name, CHALLENGER, str(number))
            return _version(made)

    def at(self, name: str, which: str | int) -> Version | None:
        """Return a version of a model by its alias or number; None if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            with _quietly():
                if isinstance(which, int):
                    return _version(self._client.get_model_version(name, str(which)))
                return _version(self._client.get_model_version_by_alias(name, which))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def promote(self, name: str, version: int, *, author: str) -> Version:
        """Make a version the champion, and keep who said so.

        Raises BadInput if there is no such version, or it is quarantined.
        """
        found = self.at(name, version)
        if found is None:
            raise BadInput(f"{name} has no version {version}; `huracan train` makes one")
        if found.quarantined:
            raise BadInput(f"{name} version {version} is quarantined and cannot be promoted: {found.quarantined}")
        with _quietly():
            self._client.set_model_version_tag(name, str(version), "promoted_by", author)
            self._client.set_registered_model_alias(name, CHAMPION, str(version))
        return found

    def export(self, version: Version, directory: Path) -> Bundle:
        """Write the bundle of a version to a directory, checked, in place of an older one."""
        with tempfile.TemporaryDirectory() as scratch, _quietly():
            kept = load_bundle(Path(self._client.download_artifacts(version.run_id, _BUNDLE, scratch)))
            return write_bundle(directory, kept.manifest, kept.contents)


def _opened(place: str) -> tuple[MlflowClient, str | None]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with _quietly():
        from mlflow.tracking import MlflowClient

        if "://" in place:
            return MlflowClient(place), None
        directory = Path(place).resolve()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--registry {place} cannot be made: {error.strerror}") from None
        return MlflowClient(f"sqlite:///{directory / 'registry.db'}"), (directory / "artifacts").as_uri()


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what MLflow's own libraries warn its makers of from our users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _version(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        version=int(found.version),
        run_id=str(found.run_id),
        quarantined=found.tags.get(_REASON),
    )
