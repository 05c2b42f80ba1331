"""Feature rows of 100 ms steps: out of a recording, as the gateway makes them, out of a run, or out of the archive."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.clock import STEP_NS
from huracan.contracts.context import ContextRef
from huracan.contracts.features import FeatureRow, FeatureWindow
from huracan.contracts.market import InstrumentDefinition, Reliability, instrument_key
from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan.ports import Clock
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.store.archive import read_archived
from huracan.store.logged import FEATURES
from huracan.store.parquet import read_messages, read_table
from huracan_gateway.anomaly import DivergenceDetector
from huracan_gateway.channel import Channel
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import RecordingFeed
from huracan_training.bars import Asset
from huracan_training.integrity import Report, report, verify_steps
from huracan_training.samples import Series

RUN_ROWS = "features.parquet"
"""Where `huracan replay --out` puts the feature rows of a run."""
STALE_STEPS = 5
"""Steps without a frame after which an opinion abstains as stale: 500 ms."""
_BPS = 1e-4
_MID_RETURN = MICRO.names.index("mid_return_bps")


@dataclass(slots=True)
class _Kept:
    """Takes what a channel gives, and keeps its feature rows and what was told of its reliability."""

    clock: Clock
    epoch: int = 1
    rows: list[FeatureRow] = field(default_factory=list)
    hours: list[Reliability] = field(default_factory=list)

    async def log(self, topic: str, key: str, message: Message, record_id: bytes) -> None:  # noqa: ARG002 - the port's form
        """Keep a feature row."""
        if isinstance(message, FeatureRow):
            self.rows.append(message)

    async def tell(self, event: str, message: Message, message_id: bytes | None = None) -> None:  # noqa: ARG002 - the port's form
        """Keep the score of an hour."""
        if isinstance(message, Reliability):
            self.hours.append(message)

    async def window(self, name: str, definition: InstrumentDefinition, window: FeatureWindow) -> None:
        """Do nothing."""

    async def news(self, now_ns: int) -> None:
        """Do nothing."""

    def in_force(self, open_ns: int, definition: InstrumentDefinition) -> list[ContextRef]:  # noqa: ARG002 - the port's form
        """Return none."""
        return []

    async def stepped(self, key: str, step: int) -> None:
        """Return at once."""


Verified = tuple[Asset, Report]


def of_recording(path: Path) -> list[Verified]:
    """Return the steps of a recording, as the gateway closes them; raise BadInput for one that cannot be used.

    Its reliability is also that of its frames, as the gateway's meter measures it: of each part the worse.
    """
    feed = RecordingFeed(path)
    config = GatewayConfig(recording=path)

    async def played(clock: VirtualClock) -> _Kept:
        kept = _Kept(clock)
        channel = Channel(feed, config, kept, DivergenceDetector(config.quality.anomalies))
        await channel.play()
        instrument = channel.instrument
        kept.hours.append(instrument.meter.current(instrument.last_frame_ns))
        return kept

    kept = run_virtual(played, start_ns=feed.head.first_recv_ns)
    return _verified(kept.rows, kept.hours, source=path.name)


def of_run(directory: Path) -> list[Verified]:
    """Return the steps of a run that wrote its tables into a directory, and how reliable its frames were."""
    rows = read_messages(directory / RUN_ROWS, FeatureRow)
    return _verified(rows, read_table(directory, Reliability), source=directory.name)


def of_archive(directory: Path) -> list[Verified]:
    """Return the steps of every instrument in an archive of the log."""
    folders = sorted({path.parent.name for path in (directory / FEATURES.name).glob("*/*/*.parquet")})
    rows: list[FeatureRow] = []
    for folder in folders:
        key = ".".join(subjects.text(part) for part in folder.split("."))
        records = read_archived(directory, subjects.FEATURES_TOPIC, key)
        rows += [record.message for record in records if isinstance(record.message, FeatureRow)]
    return _verified(rows, [], source=directory.name)


def is_archive(directory: Path) -> bool:
    """Return whether a directory is an archive of the log with feature rows."""
    return (directory / FEATURES.name).is_dir()


def _verified(rows: Iterable[FeatureRow], hours: Sequence[Reliability], *, source: str) -> list[Verified]:
    by_key: dict[str, list[FeatureRow]] = defaultdict(list)
    for row in rows:
        if row.feature_set == subjects.MICRO:
            by_key[instrument_key(row.instrument)].append(row)
    if not by_key:
        raise BadInput(f"{source} has no steps: no row of the feature set {subjects.MICRO}")
    found = []
    for key in sorted(by_key):
        _check_set(by_key[key], key)
        told = _worse(_report(key, by_key[key]), [each for each in hours if instrument_key(each.instrument) == key])
        found.append((_asset(key, by_key[key]), told))
    return found


def _check_set(rows: Sequence[FeatureRow], key: str) -> None:
    digests = {row.feature_set_digest for row in rows}
    if digests != {MICRO.digest}:
        was = ", ".join(sorted(digest.hex()[:12] for digest in digests))
        raise BadInput(
            f"{key}: feature set {subjects.MICRO} was {was}, and is {MICRO.digest.hex()[:12]} now; replay the recording"
        )


def _asset(key: str, rows: Sequence[FeatureRow]) -> Asset:
    """Return the steps in order, of a step that is there twice the row of the highest epoch."""
    newest: dict[int, FeatureRow] = {}
    for row in sorted(rows, key=lambda row: (row.step, row.epoch)):
        newest[row.step] = row
    ordered = list(newest.values())
    values = np.stack([np.frombuffer(row.values, dtype="<f4") for row in ordered]).astype(np.float32)
    follows = np.diff([row.step for row in ordered], prepend=ordered[0].step - 1) == 1
    series = Series(
        asset=key.replace(".", "_"),
        interval_ns=STEP_NS,
        close_ns=np.array([row.close_ns for row in ordered], dtype=np.int64),
        log_return=np.where(follows, values[:, _MID_RETURN].astype(np.float64) * _BPS, np.nan),
        rows=values,
    )
    return Asset(series=series)


def _report(key: str, rows: Sequence[FeatureRow]) -> Report:
    steps = np.array([row.step for row in rows], dtype=np.int64)
    returns = np.array([np.frombuffer(row.values, dtype="<f4")[_MID_RETURN] for row in rows], dtype=np.float64)
    framed = np.array([row.last_ingest_seq > 0 for row in rows], dtype=np.bool_)
    at = np.arange(len(rows))
    since = at - np.maximum.accumulate(np.where(framed, at, 0))
    return verify_steps(key.replace(".", "_"), steps, returns * _BPS, since > STALE_STEPS)


def _worse(rows: Report, hours: Sequence[Reliability]) -> Report:
    """Return the worse of each part: of the rows, and of the frames over all hours, weighed by their time."""
    latest = {(each.hour_ns, each.epoch): each for each in sorted(hours, key=lambda each: each.to_ns)}
    weights = {key: each.to_ns - each.from_ns for key, each in latest.items()}
    whole = sum(weights.values())
    if not whole:
        return rows
    parts = dict(rows.parts)
    for name in {part.name for each in latest.values() for part in each.parts}:
        values = {key: part.value for key, each in latest.items() for part in each.parts if part.name == name}
        mean = math.fsum(value * weights[key] for key, value in values.items()) / whole
        parts[name] = max(parts.get(name, 0.0), max(values.values()) if name == "clock_drift" else mean)
    return report(rows.asset, parts, rows=rows.rows, expected=rows.expected, missing=rows.missing)
