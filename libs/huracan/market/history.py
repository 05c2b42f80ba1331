"""Bars from files: what a venue's history or a data provider left behind, checked before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from huracan.contracts.market import Bar, InstrumentId, bar
from huracan.errors import BadInput

Prices = NDArray[np.float64]
Times = NDArray[np.int64]

_COLUMNS = ("date", "open", "high", "low", "close", "volume")
_PRICES = ("open", "high", "low", "close")
_ALIASES = {"timestamp": "date", "datetime": "date"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1_000))
_SPANS = ((86_400_000_000_000, "d"), (3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"))


@dataclass(frozen=True, slots=True)
class _History:
    date: Times
    open: Prices
    high: Prices
    low: Prices
    close: Prices
    volume: Prices

    def between(self, first: int, end: int) -> _History:
        return _History(*(getattr(self, name)[first:end] for name in _COLUMNS))


def load_history(
    path: Path, *, instrument: InstrumentId, interval_ns: int, before_ns: int, last: int | None = None
) -> list[Bar]:
    """Return the bars of a file that had closed at `before_ns`, oldest first; the newest `last` if given.

    The file is Parquet or CSV (also `.csv.gz`) with the columns date (or timestamp, datetime), open, high, low, close
    and volume, in any case and order. `date` is the bar's open in UTC: a timestamp, a date, ISO text, or an
    integer since the epoch in s, ms, µs or ns. Bars shorter than `interval_ns` are put together where the
    interval is complete. Raises BadInput for a file that cannot be read, or whose rows (counted from 1 after
    the header) contradict themselves.
    """
    table = read_table(path)
    history = _validated(table, path.name)
    file_interval_ns = _interval(history.date, path.name)
    if interval_ns % file_interval_ns:
        raise BadInput(f"{path.name} has {_span(file_interval_ns)} bars; they cannot make {_span(interval_ns)} bars")
    _check_aligned(history.date, file_interval_ns, path.name)
    count = interval_ns // file_interval_ns
    end = int(np.searchsorted(history.date, before_ns - file_interval_ns, side="right"))
    usable = history.between(0, end)
    starts = _complete_groups(usable.date, interval_ns, count)
    if last is not None:
        starts = starts[max(0, len(starts) - last) :]
    return _bars(usable, starts, count, instrument, interval_ns)


def read_table(path: Path) -> pa.Table:
    """Return the table in a file of bars as it is; raise BadInput for one that cannot be read."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file" if not path.exists() else f"{path}: is no file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return pyarrow.parquet.read_table(path)
        if name.endswith((".csv", ".csv.gz")):
            return pyarrow.csv.read_csv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    raise BadInput(f"{path} is neither .parquet nor .csv nor .csv.gz")


def _validated(table: pa.Table, name: str) -> _History:
    columns = bar_columns(table, name)
    if table.num_rows == 0:
        raise BadInput(f"{name} has no rows")
    date = _times(columns["date"], name)
    numbers = {column: _numbers(columns[column], column, name) for column in _COLUMNS[1:]}
    history = _History(date=date, **numbers)
    _check_dates(history.date, name)
    _check_values(history, name)
    return history


def bar_columns(table: pa.Table, name: str) -> dict[str, pa.ChunkedArray[Any]]:
    """Return the columns of a table of bars by lower-case name, the time as `date`; raise BadInput if one is absent."""
    found: dict[str, pa.ChunkedArray[Any]] = {}
    for index, raw in enumerate(table.column_names):
        column = raw.strip().lower()
        column = _ALIASES.get(column, column)
        if column in found and column in _COLUMNS:
            raise BadInput(f"{name} has two columns for {column}")
        found[column] = table.column(index)
    absent = [column for column in _COLUMNS if column not in found]
    if absent:
        raise BadInput(f"{name} has no column {', '.join(absent)}; it has {', '.join(table.column_names)}")
    return found


def _times(column: pa.ChunkedArray[Any], name: str) -> Times:
    if column.null_count:
        raise BadInput(f"{name} row {_first_null(column) + 1}: date was empty")
    kind = column.type
    try:
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return _int64(column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()))
        if pa.types.is_integer(kind):
            return _epoch_ns(_int64(column.cast(pa.int64())), name)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{name}: date cannot be told in nanoseconds: {error}") from error
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([_parsed(str(text), row, name) for row, text in enumerate(column.to_pylist(), 1)], np.int64)
    raise BadInput(f"{name}: date was of type {kind}, not a time, ISO text or an integer")


def _parsed(text: str, row: int, name: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadInput(f"{name} row {row}: date was {text!r}, not an ISO date") from error
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def _epoch_ns(values: Times, name: str) -> Times:
    largest = max(abs(int(values.max())), abs(int(values.min())))
    unit = next((unit for bound, unit in _UNITS if largest < bound), 1)
    if largest * unit > np.iinfo(np.int64).max:
        raise BadInput(f"{name}: date was {largest}, after the year 2262 whether read as s, ms or µs")
    return values * unit


def _numbers(column: pa.ChunkedArray[Any], title: str, name: str) -> Prices:
    if column.null_count:
        raise BadInput(f"{name} row {_first_null(column) + 1}: {title} was empty")
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:
        values = column.to_pylist()
    row = next(row for row, value in enumerate(values) if not _is_number(value))
    raise BadInput(f"{name} row {row + 1}: {title} was {values[row]!r}, not a number")


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _check_dates(date: Times, name: str) -> None:
    backward = np.diff(date) <= 0
    if backward.any():
        row = int(np.argmax(backward)) + 1
        what = "repeats" if date[row] == date[row - 1] else "is before"
        raise BadInput(f"{name} row {row + 1}: date was {_moment(date[row])}, which {what} that of the row above")


def _check_values(history: _History, name: str) -> None:
    for column in _COLUMNS[1:]:
        values: Prices = getattr(history, column)
        _refuse(~np.isfinite(values), values, f"{name} row {{row}}: {column} was {{value}}, not a finite number")
    for column in _PRICES:
        values = getattr(history, column)
        _refuse(values <= 0, values, f"{name} row {{row}}: {column} was {{value}}, not above 0")
    _refuse(history.volume < 0, history.volume, f"{name} row {{row}}: volume was {{value}}, below 0")
    for column, side, bound in (
        ("high", "below low", history.low),
        ("open", "below low", history.low),
        ("close", "below low", history.low),
        ("open", "above high", history.high),
        ("close", "above high", history.high),
    ):
        values = getattr(history, column)
        outside = values < bound if side == "below low" else values > bound
        _refuse(outside, values, f"{name} row {{row}}: {column} was {{value}}, {side} {{bound}}", bound)


def _refuse(bad: NDArray[np.bool_], values: Prices, message: str, bound: Prices | None = None) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        limit = float(bound[row]) if bound is not None else None
        raise BadInput(message.format(row=row + 1, value=float(values[row]), bound=limit))


def _interval(date: Times, name: str) -> int:
    if len(date) < 2:
        raise BadInput(f"{name} has 1 row; the interval of its bars cannot be told from fewer than 2")
    lengths, counts = np.unique(np.diff(date), return_counts=True)
    return int(lengths[np.argmax(counts)])


def _check_aligned(date: Times, interval_ns: int, name: str) -> None:
    off = date % interval_ns != 0
    if off.any():
        row = int(np.argmax(off))
        raise BadInput(
            f"{name} row {row + 1}: date was {_moment(date[row])}, no multiple of {_span(interval_ns)} (UTC)"
        )


def _complete_groups(date: Times, interval_ns: int, count: int) -> Times:
    groups, starts, sizes = np.unique(date // interval_ns, return_index=True, return_counts=True)
    return np.asarray(starts[sizes == count], np.int64) if len(groups) else np.empty(0, np.int64)


def _bars(history: _History, starts: Times, count: int, instrument: InstrumentId, interval_ns: int) -> list[Bar]:
    rows = starts[:, np.newaxis] + np.arange(count)
    high, low = history.high[rows].max(axis=1, initial=0.0), history.low[rows].min(axis=1, initial=np.inf)
    columns = zip(
        history.date[starts].tolist(),
        history.open[starts].tolist(),
        high.tolist(),
        low.tolist(),
        history.close[starts + count - 1].tolist(),
        history.volume[rows].tolist(),
        strict=True,
    )
    return [
        bar(
            instrument=instrument,
            interval_ns=interval_ns,
            open_ns=open_ns,
            open=_exact(opened),
            high=_exact(highest),
            low=_exact(lowest),
            close=_exact(closed),
            volume=sum(map(_exact, volumes[1:]), _exact(volumes[0])),
        )
        for open_ns, opened, highest, lowest, closed, volumes in columns
    ]


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))


def _int64(column: pa.ChunkedArray[Any]) -> Times:
    return np.asarray(column.to_numpy(), np.int64)


def _first_null(column: pa.ChunkedArray[Any]) -> int:
    return int(np.argmax(column.is_null().to_numpy()))


def _moment(ns: np.int64) -> str:
    return str(np.datetime64(int(ns), "ns")).removesuffix("000000000").rstrip(".") + "Z"


def _span(ns: int) -> str:
    return next((f"{ns // unit}{letter}" for unit, letter in _SPANS if ns % unit == 0), f"{ns} ns")
