"""How the persister runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from huracan.bus import subjects
from huracan.config import Config
from huracan.ids import SHARDS

LogTopic = Literal["ticks", "feature_rows", "journal"]
TOPICS: dict[LogTopic, str] = {
    "ticks": subjects.TICKS_TOPIC,
    "feature_rows": subjects.FEATURES_TOPIC,
    "journal": subjects.JOURNAL_TOPIC,
}
"""Topics of the log by the name of their table and folder."""


class SpillConfig(Config):
    """Where messages wait on disk while the database is away. When it is full, nothing more is acknowledged (block)."""

    directory: Path
    """Of this replica alone, on a disk that outlives the process."""
    max_bytes: Annotated[int, Field(ge=1 << 20)] = 1 << 30
    """Most bytes that wait: 1 GiB is some hours of decisions. Below 1 MiB a single batch might not fit."""


class ArchiveConfig(Config):
    """Parquet files of the log, by topic, day and key. One that is removed stays removed, all but the newest of a key,
    whose name says how far the archive has come."""

    directory: Path
    topics: Annotated[tuple[LogTopic, ...], Field(min_length=1)] = ("ticks", "feature_rows", "journal")
    every_s: PositiveFloat = 300.0
    """A file of each key this often. Below 10 they are many and small; the log must keep more than this."""


class PersisterConfig(Config):
    """How the persister runs: it keeps everything that has a table."""

    linger_ms: NonNegativeInt = 100
    """Wait this long between two saves, so that one has more rows: a transaction costs as much as a hundred of them.
    0 in a replay, which waits for each step to be saved; above 1,000 people see the past."""
    keep: Literal["all", "changed"] = "all"
    """Which decisions are kept, with their opinions: all, or those that change anything or lead to an order."""
    shards: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    """Parts that this replica keeps, of `of`. Part 0 has what belongs to no shard: contexts, accounts, reports."""
    of: Annotated[int, Field(ge=1, le=SHARDS)] = 1
    """Parts that all replicas share between them: a shard belongs to the part that is its rest by division."""
    keep_days: PositiveInt | None = None
    """Put days aside that ended this long before today, for `huracan.store.aside`; null keeps all. Below 2, rows
    that come late about yesterday would have no place; below the days that the stream keeps, what comes again out of
    it would be a row anew."""
    spill: SpillConfig | None = None
    """Without one nothing is acknowledged while the database is away."""
    tables: tuple[LogTopic, ...] = ()
    """What of the log goes into the database too. A day of ticks is many gigabytes."""
    tables_every_s: PositiveFloat = 1.0
    archive: ArchiveConfig | None = None

    @model_validator(mode="after")
    def _are_parts(self) -> Self:
        if len(set(self.shards)) < len(self.shards) or max(self.shards) >= self.of:
            raise ValueError(
                f"shards were {list(self.shards)} of {self.of}: name different ones from 0 to {self.of - 1}"
            )
        return self
