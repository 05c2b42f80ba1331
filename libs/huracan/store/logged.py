"""Records of the log as rows: columns for people and SQL, from which every record comes back to the byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.bus import subjects
from huracan.contracts import codec
from huracan.contracts.features import FeatureRow
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import TickBatch
from huracan.ports import Record

Values = list[Any] | NDArray[Any]
"""One column: a value a row, None for null."""

OFFSET, SCHEMA, HEADER = "log_offset", "schema", "header"
"""Columns of every topic: place in the log, then, in the first row of a record, its schema and what of its bytes the
other columns do not hold."""
ROW = "row"
"""Of ticks: place in the batch from 0, null where a record could not be unpacked; then the header is all of it."""
TICK_TIME = "recv_ns"
"""Of ticks: when the row was received; of a record that could not be unpacked, the record's, see `carried`."""
VALUES = "feature_values"

_TICKS = {
    "ingest_seq": "<i8",
    "event_ns": "<i8",
    "recv_ns": "<i8",
    "venue_seq": "<i8",
    "kind": "<u1",
    "flags": "<u1",
    "side": "<i1",
    "price": "<i8",
    "size": "<i8",
}
"""Columns of a TickBatch and how they are packed."""


@dataclass(frozen=True, slots=True)
class LoggedTopic:
    """How the records of one topic are kept as rows."""

    topic: str
    sql: str
    """Its table, with the schema."""
    by_day: str
    """Column with the time by which a row has its day."""
    types: Mapping[str, str]
    """Type in SQL by column, in their order."""
    columns: Callable[[str, Sequence[Record]], dict[str, Values]]
    """Return the rows of the records of a key, oldest first, as columns."""
    records: Callable[[Mapping[str, list[Any]]], list[Record]]
    """Return the records of such columns again."""
    time_ns: Callable[[Message], int]
    """Return the market time at which a record belongs; 0 where it does not say."""

    @property
    def name(self) -> str:
        """Return the name of its table without the schema, and of its folder on disk."""
        return self.sql.partition(".")[2]


def _tick_columns(_key: str, records: Sequence[Record]) -> dict[str, Values]:
    rows = [_tick_rows(record) for record in records]
    lengths = [max(length, 1) for _, length in rows]
    first = np.cumsum([0, *lengths])[:-1] if rows else np.array([], dtype=np.int64)
    packed = np.repeat([length == 0 for _, length in rows], lengths)

    def each(values: Sequence[Any]) -> NDArray[Any]:
        return np.repeat(np.array(values, dtype=object), lengths)

    batches = [batch for batch, _ in rows]
    numbers: Values = np.concatenate([np.arange(length) for length in lengths]) if rows else []
    columns: dict[str, Values] = {
        OFFSET: np.repeat(np.array([record.offset for record in records], dtype=np.int64), lengths),
        ROW: _nulled(np.asarray(numbers, dtype=np.int64), packed),
        "venue": each([batch.instrument.id.venue for batch in batches]),
        "symbol": each([batch.instrument.id.symbol for batch in batches]),
        "definition_version": each([batch.instrument.id.definition_version for batch in batches]),
        "epoch": each([batch.epoch for batch in batches]),
        "batch": each([batch.batch for batch in batches]),
    }
    for name, dtype in _TICKS.items():
        parts = [
            np.frombuffer(getattr(batch, name), dtype=dtype) if length else np.zeros(1, dtype=dtype)
            for batch, length in rows
        ]
        columns[name] = _nulled(np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64), packed)
    if packed.any():
        # Each row has a time, by which it finds its day.
        times = each(carried([_tick_time(record.message) for record in records]))
        columns[TICK_TIME] = np.where(packed, times, columns[TICK_TIME])
    schemas, headers = np.full(len(packed), None, dtype=object), np.full(len(packed), None, dtype=object)
    for place, record, (_, length) in zip(first, records, rows, strict=True):
        schemas[place] = codec.schema_of(record.message)
        headers[place] = codec.encode(_without(record.message, _TICKS) if length else record.message)
    return {**columns, SCHEMA: schemas, HEADER: headers}


def carried(times: Sequence[int]) -> list[int]:
    """Return the times of records, where one that says none (0) has that of the one before it, else of the next.

    Where none says any, all are 0: a writer claims its place before it knows a time.
    """
    last, result = next((time for time in times if time), 0), []
    for time in times:
        last = time or last
        result.append(last)
    return result


def _tick_rows(record: Record) -> tuple[TickBatch, int]:
    """Return a record as a batch and its rows; 0 rows for one that has none, or whose columns are not equally long."""
    batch = record.message
    if not isinstance(batch, TickBatch):
        return TickBatch(), 0
    whole = all(len(getattr(batch, name)) == batch.rows * int(dtype[2]) for name, dtype in _TICKS.items())
    return batch, batch.rows if whole else 0


def _nulled(values: NDArray[np.int64], packed: NDArray[np.bool_]) -> Values:
    if not packed.any():
        return values
    nulled = values.astype(object)
    nulled[packed] = None
    return nulled


def _without(message: Message, fields: Mapping[str, str] | tuple[str, ...]) -> Message:
    rest = type(message)()
    rest.CopyFrom(message)
    for name in fields:
        rest.ClearField(name)
    return rest


def _ticks(columns: Mapping[str, list[Any]]) -> list[Record]:
    starts = [at for at, header in enumerate(columns[HEADER]) if header is not None]
    records = []
    for start, end in zip(starts, [*starts, len(columns[HEADER])][1:], strict=True):
        message = codec.decode(columns[SCHEMA][start], columns[HEADER][start])
        if columns[ROW][start] is not None:
            for name, dtype in _TICKS.items():
                setattr(message, name, np.asarray(columns[name][start:end], dtype=dtype).tobytes())
        records.append(Record(columns[OFFSET][start], message))
    return records


def _tick_time(message: Message) -> int:
    if not isinstance(message, TickBatch):
        return 0
    if len(message.recv_ns) >= 8:
        return int.from_bytes(message.recv_ns[:8], "little", signed=True)
    return message.watermark_ns


def _feature_columns(_key: str, records: Sequence[Record]) -> dict[str, Values]:
    rows = [record.message if isinstance(record.message, FeatureRow) else FeatureRow() for record in records]
    unpacked = [isinstance(record.message, FeatureRow) and not len(row.values) % 4 for record, row in _both(records)]
    return {
        OFFSET: [record.offset for record in records],
        "venue": [row.instrument.venue for row in rows],
        "symbol": [row.instrument.symbol for row in rows],
        "epoch": [row.epoch for row in rows],
        "feature_set": [row.feature_set for row in rows],
        "step": [row.step for row in rows],
        "close_ns": [row.close_ns for row in rows],
        "first_ingest_seq": [row.first_ingest_seq for row in rows],
        "last_ingest_seq": [row.last_ingest_seq for row in rows],
        VALUES: [
            np.frombuffer(row.values, dtype="<f4") if whole else None for row, whole in zip(rows, unpacked, strict=True)
        ],
        SCHEMA: [codec.schema_of(record.message) for record in records],
        HEADER: [
            codec.encode(_without(record.message, ("values",)) if whole else record.message)
            for record, whole in zip(records, unpacked, strict=True)
        ],
    }


def _both(records: Sequence[Record]) -> list[tuple[Record, FeatureRow]]:
    return [(record, record.message if isinstance(record.message, FeatureRow) else FeatureRow()) for record in records]


def _features(columns: Mapping[str, list[Any]]) -> list[Record]:
    records = []
    for offset, values, schema, header in zip(
        columns[OFFSET], columns[VALUES], columns[SCHEMA], columns[HEADER], strict=True
    ):
        message = codec.decode(schema, header)
        if values is not None and isinstance(message, FeatureRow):
            message.values = np.asarray(values, dtype="<f4").tobytes()
        records.append(Record(offset, message))
    return records


def _journal_columns(key: str, records: Sequence[Record]) -> dict[str, Values]:
    entries = [record.message if isinstance(record.message, JournalEntry) else JournalEntry() for record in records]
    return {
        OFFSET: [record.offset for record in records],
        # Of the log: an account keeps entries of its shards as well.
        "key": [key] * len(entries),
        "epoch": [entry.epoch for entry in entries],
        "at_ns": [entry.at_ns for entry in entries],
        "kind": [entry.WhichOneof("entry") or "" for entry in entries],
        SCHEMA: [codec.schema_of(record.message) for record in records],
        HEADER: [codec.encode(record.message) for record in records],
    }


def _journal(columns: Mapping[str, list[Any]]) -> list[Record]:
    return [
        Record(offset, codec.decode(schema, header))
        for offset, schema, header in zip(columns[OFFSET], columns[SCHEMA], columns[HEADER], strict=True)
    ]


_BEGIN = {OFFSET: "bigint"}
_END = {SCHEMA: "text", HEADER: "bytea"}

TICKS = LoggedTopic(
    subjects.TICKS_TOPIC,
    "market_data.ticks",
    TICK_TIME,
    {
        **_BEGIN,
        ROW: "bigint",
        "venue": "text",
        "symbol": "text",
        **dict.fromkeys(("definition_version", "epoch", "batch", *_TICKS), "bigint"),
        **_END,
    },
    _tick_columns,
    _ticks,
    _tick_time,
)
FEATURES = LoggedTopic(
    subjects.FEATURES_TOPIC,
    "tick_log.feature_rows",
    "close_ns",
    {
        **_BEGIN,
        "venue": "text",
        "symbol": "text",
        "epoch": "bigint",
        "feature_set": "text",
        **dict.fromkeys(("step", "close_ns", "first_ingest_seq", "last_ingest_seq"), "bigint"),
        VALUES: "real[]",
        **_END,
    },
    _feature_columns,
    _features,
    lambda message: message.close_ns if isinstance(message, FeatureRow) else 0,
)
JOURNAL = LoggedTopic(
    subjects.JOURNAL_TOPIC,
    "tick_log.journal",
    "at_ns",
    {**_BEGIN, "key": "text", "epoch": "bigint", "at_ns": "bigint", "kind": "text", **_END},
    _journal_columns,
    _journal,
    lambda message: message.at_ns if isinstance(message, JournalEntry) else 0,
)
LOGGED: dict[str, LoggedTopic] = {each.topic: each for each in (TICKS, FEATURES, JOURNAL)}
"""How each topic of the log is kept as rows."""


def rows(columns: Mapping[str, Values]) -> list[tuple[Any, ...]]:
    """Return columns as one tuple a row, in plain Python values, as COPY takes them."""
    return list(zip(*(_plain(name, values) for name, values in columns.items()), strict=True))


def _plain(name: str, values: Values) -> list[Any]:
    if name == VALUES:
        return [None if value is None else value.tolist() for value in values]
    return values.tolist() if isinstance(values, np.ndarray) else values
