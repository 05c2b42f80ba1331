"""Datasets on disk: a Parquet file an asset, and a manifest that says what they are made of and how good it is.

The same sources give the same digest. A dataset holds what was, never labels: thresholds are fitted on the training
rows of each fold. Those in the manifest are of the final split, for people.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from huracan.clock import STEP_NS
from huracan.config import Config
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan.features.micro import MICRO
from huracan.store.logged import FEATURES
from huracan_training import labels as labelling
from huracan_training import steps
from huracan_training.bars import INTERVAL_NS, VALUES, Asset, Bars, asset, read_bars, resampled, run_lengths, tidy
from huracan_training.calendar import Calendar
from huracan_training.integrity import Refetch, Report, Span, repaired, require, verify
from huracan_training.labels import TARGETS, Thresholds, fit_thresholds, known, labels, shares
from huracan_training.samples import UNKNOWN, WINDOW, Sample, Series
from huracan_training.splits import Fold, Plan, walk_forward, within

MANIFEST = "manifest.json"
FORMAT = 1
_BAR_NAMES = (".parquet", ".csv", ".csv.gz")
_FILE_NAME = re.compile(r"[\w=-][\w.=-]*")


class Kind(StrEnum):
    """What a row of a dataset is."""

    BARS = "bars"
    STEPS = "steps"


FEATURE_SETS: Mapping[Kind, Any] = {Kind.BARS: BAR, Kind.STEPS: MICRO}


class Reliability(Config):
    """How far the data of an asset can be relied on."""

    score: float
    parts: dict[str, float]
    rows: int
    expected: int
    holes: int


class Entry(Config):
    """One asset of a dataset."""

    asset: str
    source: str
    """Name of what it was made of."""
    source_digest: str
    """SHA-256 of that, hexadecimal."""
    content_digest: str
    """SHA-256 of the columns, hexadecimal."""
    rows: int
    windows: int
    """Positions at which a model can be asked."""
    first_ns: int
    last_ns: int
    """First and last close."""
    reliability: Reliability


class Labelled(Config):
    """Labels under the thresholds of the training rows of the final split."""

    thresholds: Thresholds
    thresholds_digest: str
    shares: dict[str, dict[str, float]]
    """Share of each class among all known labels of an asset."""


class Manifest(Config):
    """What a dataset is."""

    format: int = FORMAT
    kind: Kind
    interval_ns: int
    calendar: Calendar
    feature_set_digest: str
    assets: tuple[Entry, ...]
    labels: tuple[Labelled, ...]
    unlabelled: dict[str, str]
    """Why there are no labels of a target."""
    window: int = WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Assets with what is known of them."""

    manifest: Manifest
    assets: tuple[Asset, ...]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the manifest, which names every column: hexadecimal."""
        return self.manifest.digest().hex()

    def plan(self, **settings: Any) -> Plan:
        """Return forward-only splits over the time of all assets; settings are those of `walk_forward`."""
        return _plan(self.assets, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSamples:
    """What a model gets of one fold."""

    thresholds: Thresholds
    train: tuple[Sample, ...]
    valid: tuple[Sample, ...]
    test: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How sources become a dataset."""

    interval_ns: int = INTERVAL_NS
    """Of bars; shorter ones are put together."""
    calendar: Calendar = Calendar.ALWAYS
    refetch: Refetch | None = None
    """Asked for bars that are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    asset: Asset
    report: Report
    name: str
    digest: str


def verified(path: Path, making: Making | None = None) -> list[Report]:
    """Return how far each asset of a file of bars, a recording, a run's directory or an archive can be relied on."""
    making = making or Making()
    if _kind(path) is Kind.BARS:
        return [_whole_bars(path, making)[1]]
    return [found for _, found in _steps(path)]


def build(paths: Sequence[Path], directory: Path, making: Making | None = None) -> Dataset:
    """Write the dataset of some sources into a directory and return it.

    Sources are files of bars (Parquet, CSV), or else recordings, directories of runs and archives of the log: one kind,
    an asset once. Raises BadInput for what cannot be read, for data that score 80 or less, with the parts, and for a
    directory that holds anything else.
    """
    making = making or Making()
    sources = _sources(paths, making)
    require([source.report for source in sources])
    manifest = _manifest(sources, making, _kind(paths[0]))
    dataset = Dataset(manifest=manifest, assets=tuple(source.asset for source in sources))
    _write(dataset, directory)
    return dataset


def load(directory: Path) -> Dataset:
    """Return the dataset in a directory; raise BadInput for one that is damaged, or of other features than today's."""
    path = directory / MANIFEST
    try:
        told = json.loads(path.read_text())
        told.pop("digest", None)
        manifest = Manifest.model_validate(told)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(f"{directory} is no dataset: {first_line}; make one with `huracan dataset build`") from None
    features = FEATURE_SETS[manifest.kind]
    if manifest.feature_set_digest != features.digest.hex():
        raise BadInput(f"{directory} was made with other {features.name} features than today's: build it again")
    return Dataset(manifest=manifest, assets=tuple(_read(directory, manifest, entry) for entry in manifest.assets))


def samples(assets: Sequence[Asset], thresholds: Thresholds, span: Span) -> tuple[Sample, ...]:
    """Return a sample of each asset that has labels in a span of a fold, in the order of the assets."""
    found = []
    for each in assets:
        told = labels(each, thresholds)
        at = np.flatnonzero(within(each, thresholds.horizon, span) & (told != UNKNOWN))
        if len(at):
            newest = known(told, thresholds.horizon)
            found.append(Sample(series=each.series, at=at, labels=told[at], known=newest))
    return tuple(found)


def fold_samples(assets: Sequence[Asset], fold: Fold, target: str, horizon: int) -> FoldSamples:
    """Return the samples of a fold, labelled with thresholds of its training rows alone.

    An asset that begins after the training time is labelled with the thresholds of all others together. Raises BadInput
    when no asset has enough training rows.
    """
    thresholds = fit_thresholds(
        TARGETS[target], horizon, [(each, within(each, horizon, fold.train)) for each in assets]
    )
    train, valid, test = (samples(assets, thresholds, span) for span in (fold.train, fold.valid, fold.test))
    return FoldSamples(thresholds=thresholds, train=train, valid=valid, test=test)


def _plan(assets: Sequence[Asset], **settings: Any) -> Plan:
    return walk_forward(np.concatenate([each.series.close_ns for each in assets]), **settings)


def _kind(path: Path) -> Kind:
    return Kind.BARS if path.name.lower().endswith(_BAR_NAMES) and not path.is_dir() else Kind.STEPS


def _sources(paths: Sequence[Path], making: Making) -> list[_Source]:
    if not paths:
        raise BadInput("a dataset needs a source: give files of bars, or recordings")
    if len({_kind(path) for path in paths}) != 1:
        raise BadInput("sources were files of bars and recordings: make a dataset of each")
    sources = [source for path in paths for source in _of(path, making)]
    names = [source.asset.name for source in sources]
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            raise BadInput(f"asset was named {name!r}, which names no file: rename its source")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"asset {', '.join(twice)} was there twice: leave one of its sources out")
    return sorted(sources, key=lambda source: source.asset.name)


def _of(path: Path, making: Making) -> list[_Source]:
    if _kind(path) is Kind.STEPS:
        digest = _digest_of(path)
        return [_Source(asset=each, report=told, name=path.name, digest=digest) for each, told in _steps(path)]
    bars, told = _whole_bars(path, making)
    usable = tidy(bars, making.calendar)
    made = resampled(usable, making.interval_ns)
    if len(made) <= WINDOW:
        raise BadInput(f"{path.name} has {len(made)} bars of {making.interval_ns / 1e9:g} s, fewer than a window")
    return [
        _Source(asset=asset(made, making.calendar), report=told, name=path.name, digest=_digest_of(path)),
    ]


def _whole_bars(path: Path, making: Making) -> tuple[Bars, Report]:
    bars = read_bars(path)
    if making.refetch is not None:
        return repaired(bars, making.refetch, making.calendar)
    return bars, verify(bars, making.calendar)


def _steps(path: Path) -> list[steps.Verified]:
    if not path.is_dir():
        return steps.of_recording(path)
    return steps.of_archive(path) if steps.is_archive(path) else steps.of_run(path)


def _digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of what steps are read from in a directory."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    sha = hashlib.sha256()
    inside = (path / FEATURES.name).rglob("*.parquet") if steps.is_archive(path) else path.glob(steps.RUN_ROWS)
    for each in sorted(inside):
        sha.update(f"{each.relative_to(path)} {_digest_of(each)}\n".encode())
    return sha.hexdigest()


def _manifest(sources: Sequence[_Source], making: Making, kind: Kind) -> Manifest:
    assets = [source.asset for source in sources]
    told, unlabelled = _labelled(assets, kind)
    return Manifest(
        kind=kind,
        interval_ns=making.interval_ns if kind is Kind.BARS else STEP_NS,
        calendar=making.calendar,
        feature_set_digest=FEATURE_SETS[kind].digest.hex(),
        assets=tuple(_entry(source) for source in sources),
        labels=told,
        unlabelled=unlabelled,
    )


def _entry(source: _Source) -> Entry:
    series, report = source.asset.series, source.report
    return Entry(
        asset=series.asset,
        source=source.name,
        source_digest=source.digest,
        content_digest=_content_digest(source.asset),
        rows=len(series.close_ns),
        windows=int((run_lengths(series) >= WINDOW).sum()),
        first_ns=int(series.close_ns[0]),
        last_ns=int(series.close_ns[-1]),
        reliability=Reliability(
            score=report.score,
            parts=dict(report.parts),
            rows=report.rows,
            expected=report.expected,
            holes=len(report.missing),
        ),
    )


def _wanted(kind: Kind) -> list[tuple[str, int]]:
    """Return the targets and horizons of a kind of dataset."""
    if kind is Kind.STEPS:
        return [("direction", horizon) for horizon in labelling.HORIZONS_STEPS.values()]
    return [(name, labelling.HORIZON_BARS if target.forward else 0) for name, target in TARGETS.items()]


def _labelled(assets: Sequence[Asset], kind: Kind) -> tuple[tuple[Labelled, ...], dict[str, str]]:
    found, unlabelled = [], {}
    train = _plan(assets).final.train
    for name, horizon in _wanted(kind):
        try:
            thresholds = fit_thresholds(
                TARGETS[name], horizon, [(each, within(each, horizon, train)) for each in assets]
            )
        except BadInput as error:
            unlabelled[f"{name} over {horizon}"] = str(error)
            continue
        told = {each.name: shares(labels(each, thresholds), TARGETS[name]) for each in assets}
        found.append(Labelled(thresholds=thresholds, thresholds_digest=thresholds.digest().hex(), shares=told))
    return tuple(found), unlabelled


def _columns(each: Asset) -> dict[str, Any]:
    series = each.series
    names = MICRO.names if each.bars is None else BAR.names
    columns: dict[str, Any] = {"close_ns": series.close_ns, "log_return": series.log_return}
    if each.bars is not None:
        columns |= {name: getattr(each.bars, name) for name in VALUES}
    return columns | {f"feature_{name}": series.rows[:, at] for at, name in enumerate(names)}


def _content_digest(each: Asset) -> str:
    sha = hashlib.sha256(f"{each.name}/{each.series.interval_ns}/".encode())
    for name, values in _columns(each).items():
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()


def _write(dataset: Dataset, directory: Path) -> None:
    """Write a dataset whole or not at all, in place of an older one."""
    other = directory.exists() and not directory.is_dir()
    if other or (directory.exists() and any(directory.iterdir()) and not (directory / MANIFEST).is_file()):
        raise BadInput(f"--out {directory} holds something else than a dataset: name another directory")
    fresh = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        for each in dataset.assets:
            pq.write_table(pa.table(_columns(each)), fresh / f"{each.name}.parquet", compression="zstd")
        told = dataset.manifest.model_dump(mode="json") | {"digest": dataset.digest}
        (fresh / MANIFEST).write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
        if directory.exists():
            shutil.rmtree(directory)
        fresh.rename(directory)
    except OSError as error:
        raise BadInput(f"--out {directory} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read(directory: Path, manifest: Manifest, entry: Entry) -> Asset:
    path = directory / f"{entry.asset}.parquet"
    try:
        table = pq.read_table(path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        names = [f"feature_{name}" for name in FEATURE_SETS[manifest.kind].names]
        series = Series(
            asset=entry.asset,
            interval_ns=manifest.interval_ns,
            close_ns=columns["close_ns"],
            log_return=columns["log_return"],
            rows=np.stack([columns[name] for name in names], axis=1),
        )
        bars = None
        if manifest.kind is Kind.BARS:
            bars = Bars(
                asset=entry.asset,
                interval_ns=manifest.interval_ns,
                unreadable=0,
                open_ns=series.close_ns - manifest.interval_ns,
                **{name: columns[name] for name in VALUES},
            )
    except (pa.ArrowException, OSError, KeyError) as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(f"{path} is damaged: {first_line}; build the dataset again") from None
    found = Asset(series=series, bars=bars)
    if _content_digest(found) != entry.content_digest:
        raise BadInput(f"{path} is not what {MANIFEST} says: build the dataset again")
    return found
