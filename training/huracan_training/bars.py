"""Bars from any file, broken rows included; what of them can be used, and the series that models see."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from huracan.clock import MINUTE_NS
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan.features.bar_batch import bar_rows
from huracan.market.history import bar_columns, read_table
from huracan_training.calendar import Calendar, expected_opens
from huracan_training.samples import WINDOW, Floats, Integers, Rows, Series

Mask = NDArray[np.bool_]

INTERVAL_NS: Final = 15 * MINUTE_NS
"""The bars of which regimes are told."""
VALUES = ("open", "high", "low", "close", "volume")
NOWHERE = -1
"""The slot of a bar that opens when none should."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPARSEST = 100
_DAYS = ("%m/%d/%Y", "%m/%d/%y")
"""Dates as US providers write them, where they are not ISO; years of two digits are those from 1969 on."""
_UNITS = ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1_000))
_INTERVAL_IN_NAME = re.compile(r"[_-]\d+(?:s|m|h|d)(?=_|-|$).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Rows of bars, each column of shape (n,): in a file's order and unchecked, or what `tidy` made of them."""

    asset: str
    interval_ns: int
    open_ns: Integers
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    unreadable: int
    """Rows that were left out because nothing says when they opened."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.open_ns)

    def take(self, rows: Integers | Mask) -> Bars:
        """Return some of the rows."""
        return self.made(self.open_ns[rows], {name: getattr(self, name)[rows] for name in VALUES})

    def made(self, open_ns: Integers, values: dict[str, Floats]) -> Bars:
        """Return other rows of the same asset and interval."""
        return Bars(asset=self.asset, interval_ns=self.interval_ns, unreadable=0, open_ns=open_ns, **values)

    def digest(self) -> str:
        """Return the SHA-256 of everything in the columns, hexadecimal."""
        sha = hashlib.sha256(f"{self.asset}/{self.interval_ns}/".encode())
        for column in (self.open_ns.astype("<i8"), *(getattr(self, name).astype("<f8") for name in VALUES)):
            sha.update(column.tobytes())
        return sha.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What is known of one asset: the series that models see, and the bars that it was made of."""

    series: Series
    bars: Bars | None = None
    """One for each position of the series; None where it was made of steps."""

    @property
    def name(self) -> str:
        """Return the name of the asset."""
        return self.series.asset


def read_bars(path: Path, *, asset: str | None = None) -> Bars:
    """Return every row of a file that says when it opened: broken, repeated and misplaced ones too.

    The file is as `load_history` takes it, and dates may also be as in the US; a value that is no number is NaN. The
    asset is that of the file's name, `binance_spot_BTCUSDT` of `binance_spot_BTCUSDT_15m.parquet`. Raises BadInput for
    a file that cannot be read, without a column that bars have, or of which fewer than two rows have a date.
    """
    columns = bar_columns(read_table(path), path.name)
    moments = _moments(columns["date"])
    dated = np.array([moment is not None for moment in moments], dtype=np.bool_)
    open_ns = np.array([moment for moment in moments if moment is not None], dtype=np.int64)
    if len(np.unique(open_ns)) < 2:
        raise BadInput(f"{path.name} has fewer than 2 bars: column date says of no others when they opened")
    values = {name: _floats(columns[name])[dated] for name in VALUES}
    lengths, counts = np.unique(np.diff(np.unique(open_ns)), return_counts=True)
    return Bars(
        asset=asset or asset_of(path),
        interval_ns=int(lengths[np.argmax(counts)]),
        open_ns=open_ns,
        unreadable=int((~dated).sum()),
        **values,
    )


def asset_of(path: Path) -> str:
    """Return the asset that a file is named for: its name up to an interval, as `_15m`, or the first dot."""
    stem = path.name.partition(".")[0]
    return _INTERVAL_IN_NAME.sub("", stem) or stem


def good(bars: Bars) -> Mask:
    """Return which rows are bars: prices above 0, low to high around open and close, volume not below 0; all finite."""
    prices = np.stack([bars.open, bars.high, bars.low, bars.close])
    whole = np.isfinite(prices).all(axis=0) & (prices > 0).all(axis=0)
    inside = (prices.min(axis=0) >= bars.low) & (prices.max(axis=0) <= bars.high)
    return np.asarray(whole & inside & np.isfinite(bars.volume) & (bars.volume >= 0))


def slots(bars: Bars, calendar: Calendar) -> tuple[Integers, Integers]:
    """Return the place of each row among the bars that should be there from the first to the last, and their opens.

    A row that opens when none should is NOWHERE. Raises BadInput when the rows fill less than a hundredth of the time
    that their dates span: then one of those is wrong.
    """
    first_ns, last_ns = int(bars.open_ns.min()), int(bars.open_ns.max())
    if (last_ns - first_ns) // bars.interval_ns > _SPARSEST * max(len(bars), WINDOW):
        raise BadInput(
            f"{bars.asset}: {len(bars)} bars of {bars.interval_ns / 1e9:g} s had dates from {_date(first_ns)} to "
            f"{_date(last_ns)}; correct the one that is wrong"
        )
    expected = expected_opens(calendar, bars.interval_ns, first_ns, last_ns)
    if not len(expected):
        return np.full(len(bars), NOWHERE, dtype=np.int64), expected
    places = np.searchsorted(expected, bars.open_ns).clip(max=len(expected) - 1)
    return np.where(expected[places] == bars.open_ns, places, NOWHERE).astype(np.int64), expected


def tidy(bars: Bars, calendar: Calendar = Calendar.ALWAYS) -> Bars:
    """Return what can be used, oldest first: good rows that open when one should, of each open the first."""
    places, _ = slots(bars, calendar)
    usable = np.flatnonzero(good(bars) & (places != NOWHERE))
    _, first = np.unique(bars.open_ns[usable], return_index=True)
    return bars.take(usable[first])


def resampled(bars: Bars, interval_ns: int) -> Bars:
    """Return tidy bars put together to longer ones, where all parts are there; raise BadInput where they do not fit."""
    if interval_ns == bars.interval_ns:
        return bars
    if interval_ns % bars.interval_ns:
        name, has, asked = bars.asset, bars.interval_ns / 1e9, interval_ns / 1e9
        raise BadInput(f"{name} has bars of {has:g} s, of which none of {asked:g} s can be made: give shorter ones")
    count = interval_ns // bars.interval_ns
    _, starts, sizes = np.unique(bars.open_ns // interval_ns, return_index=True, return_counts=True)
    first = starts[sizes == count]
    rows = first[:, np.newaxis] + np.arange(count)
    return Bars(
        asset=bars.asset,
        interval_ns=interval_ns,
        unreadable=0,
        open_ns=bars.open_ns[first],
        open=bars.open[first],
        high=bars.high[rows].max(axis=1),
        low=bars.low[rows].min(axis=1),
        close=bars.close[first + count - 1],
        volume=bars.volume[rows].sum(axis=1),
    )


def asset(bars: Bars, calendar: Calendar = Calendar.ALWAYS) -> Asset:
    """Return tidy bars with their series. In a calendar of sessions a bar follows the last one of the session before.

    Raises BadInput for rows that are not tidy.
    """
    places, _ = slots(bars, calendar)
    if (places == NOWHERE).any() or (np.diff(places) <= 0).any() or not good(bars).all():
        raise BadInput(f"{bars.asset}: rows are broken, repeated or misplaced; tidy them first")
    returns = np.full(len(bars), np.nan)
    follows = np.flatnonzero(np.diff(places) == 1) + 1
    returns[follows] = np.log(bars.close[follows] / bars.close[follows - 1])
    series = Series(
        asset=bars.asset,
        interval_ns=bars.interval_ns,
        close_ns=bars.open_ns + bars.interval_ns,
        log_return=returns,
        rows=feature_rows(bars, places),
    )
    return Asset(series=series, bars=bars)


def feature_rows(bars: Bars, places: Integers) -> Rows:
    """Return the row of the `bar` feature set of each bar, shape (n, columns); a gap in `places` starts anew.

    A bar is taken to open where its place says, so that sessions follow each other; but the time of day and of week is
    that at which it did.
    """
    columns = [getattr(bars, name) for name in VALUES]
    opens = bars.open_ns[0] + bars.interval_ns * (places - places[0])
    rows = bar_rows(opens, *columns, interval_ns=bars.interval_ns)
    clock = [at for at, name in enumerate(BAR.names) if name.startswith("time_of_")]
    names = [BAR.names[at] for at in clock]
    rows[:, clock] = bar_rows(bars.open_ns, *columns, interval_ns=bars.interval_ns, names=names)
    return rows


def run_lengths(series: Series) -> Integers:
    """Return how many consecutive rows end at each position, at least 1, shape (n,)."""
    follows = np.zeros(len(series.close_ns), dtype=np.bool_)
    follows[1:] = np.diff(series.close_ns) == series.interval_ns
    follows |= np.isfinite(series.log_return)
    at = np.arange(len(follows))
    return at - np.maximum.accumulate(np.where(follows, 0, at)) + 1


def windowed(series: Series) -> Integers:
    """Return the positions at which 64 consecutive rows end: those at which a model can be asked."""
    return np.flatnonzero(run_lengths(series) >= WINDOW)


def _moments(column: pa.ChunkedArray[Any]) -> list[int | None]:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        try:
            nanoseconds: list[int | None] = column.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_pylist()
        except pa.ArrowException:
            return [_moment(str(value)) for value in column.to_pylist()]
        return nanoseconds
    values = column.to_pylist()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _since_epoch([None if value is None or not math.isfinite(value) else int(value) for value in values])
    return [_moment(str(value)) for value in values]


def _since_epoch(values: list[int | None]) -> list[int | None]:
    """Return integers in the unit that most of them are in."""
    sizes = sorted(abs(value) for value in values if value is not None)
    if not sizes:
        return values
    unit = next((unit for bound, unit in _UNITS if sizes[len(sizes) // 2] < bound), 1)
    largest = np.iinfo(np.int64).max // unit
    return [value * unit if value is not None and abs(value) <= largest else None for value in values]


def _moment(text: str) -> int | None:
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _us_day(text)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    ns = since // timedelta(microseconds=1) * 1_000
    return ns if abs(ns) < 2**63 else None


def _date(ns: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=ns // 1_000):%Y-%m-%d}"


def _us_day(text: str) -> int | None:
    for form in _DAYS:
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
    return None


def _floats(column: pa.ChunkedArray[Any]) -> Floats:
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        return np.array([_number(value) for value in column.to_pylist()], dtype=np.float64)


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return math.nan
