"""Bars from files: what is usable, what is put together, and what is refused in which words."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from huracan.contracts.market import Bar, InstrumentId
from huracan.errors import BadInput
from huracan.market.history import load_history

OHLCV = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ohlcv"
INSTRUMENT = InstrumentId(venue="binance_usdm", symbol="btc-usdt-perp", definition_version=1)
SECOND = 10**9
MINUTE = 60 * SECOND
QUARTER = 15 * MINUTE
START = 1_672_531_200 * SECOND
END = START + 10**9 * SECOND

Columns = dict[str, Any]


def load(path: Path, interval_ns: int = QUARTER, before_ns: int = END, last: int | None = None) -> list[Bar]:
    return load_history(path, instrument=INSTRUMENT, interval_ns=interval_ns, before_ns=before_ns, last=last)


def columns(rows: int = 20, interval_ns: int = QUARTER) -> Columns:
    close = [100.5 + row for row in range(rows)]
    return {
        "date": pa.array([START + row * interval_ns for row in range(rows)], pa.timestamp("ns", "UTC")),
        "open": [value - 0.3 for value in close],
        "high": [value + 1.0 for value in close],
        "low": [value - 1.0 for value in close],
        "close": close,
        "volume": [0.1 * row for row in range(rows)],
    }


def parquet(folder: Path, data: Columns, name: str = "history.parquet") -> Path:
    path = folder / name
    pq.write_table(pa.table(data), path)
    return path


def csv(folder: Path, text: str, name: str = "history.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def real(name: str) -> Path:
    path = OHLCV / name
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND


def test_a_file_becomes_bars_with_the_numbers_as_written(tmp_path: Path) -> None:
    bars = load(parquet(tmp_path, columns() | {"volume": [0.1] * 20}))
    assert len(bars) == 20
    first = bars[0]
    assert (first.open_ns, first.interval_ns, first.instrument) == (START, QUARTER, INSTRUMENT)
    assert (first.open, first.high, first.low, first.close) == ("100.2", "101.5", "99.5", "100.5")
    assert (first.volume, first.trades, first.partial) == ("0.1", 0, False)


def test_a_bar_that_had_not_closed_in_time_is_ignored(tmp_path: Path) -> None:
    path = parquet(tmp_path, columns())
    assert len(load(path, before_ns=START + 3 * QUARTER)) == 3
    assert len(load(path, before_ns=START + 3 * QUARTER - 1)) == 2
    assert load(path, before_ns=START) == []
    assert load(path, before_ns=START - 10**15) == []


def test_what_comes_after_the_time_asked_for_changes_nothing(tmp_path: Path) -> None:
    early = load(parquet(tmp_path, columns()), before_ns=START + 10 * QUARTER)
    later = columns()
    for name in ("open", "high", "low", "close"):
        later[name][10:] = [5 * value for value in later[name][10:]]
    assert load(parquet(tmp_path, later), before_ns=START + 10 * QUARTER) == early


def test_only_the_newest_bars_are_built_when_asked(tmp_path: Path) -> None:
    path = parquet(tmp_path, columns())
    assert load(path, last=3) == load(path)[-3:]
    assert load(path, last=0) == []
    assert load(path, last=99) == load(path)


def test_shorter_bars_are_put_together_where_the_interval_is_complete(tmp_path: Path) -> None:
    data = pa.table(columns(rows=47, interval_ns=5 * MINUTE) | {"volume": [0.1] * 47})
    kept = data.filter(pa.array([row not in (0, 10) for row in range(47)]))
    path = tmp_path / "history.parquet"
    pq.write_table(kept, path)
    bars = load(path)
    assert [(bar.open_ns - START) // QUARTER for bar in bars] == [1, 2, *range(4, 15)]
    first = bars[0]
    assert (first.open, first.high, first.low, first.close) == ("103.2", "106.5", "102.5", "105.5")
    assert first.volume == "0.3"


def test_a_group_is_usable_once_its_last_bar_is(tmp_path: Path) -> None:
    path = parquet(tmp_path, columns(rows=45, interval_ns=MINUTE))
    assert len(load(path, before_ns=START + 2 * QUARTER)) == 2
    assert len(load(path, before_ns=START + 2 * QUARTER - 1)) == 1


DATES: dict[str, Callable[[list[int]], Any]] = {
    "timestamps in s": lambda ns: pa.array([t // SECOND for t in ns], pa.timestamp("s")),
    "timestamps in ms": lambda ns: pa.array([t // 10**6 for t in ns], pa.timestamp("ms", "UTC")),
    "timestamps in another zone": lambda ns: pa.array(ns, pa.timestamp("ns", "Asia/Tokyo")),
    "epoch s": lambda ns: [t // SECOND for t in ns],
    "epoch ms": lambda ns: [t // 10**6 for t in ns],
    "epoch us": lambda ns: [t // 10**3 for t in ns],
    "epoch ns": lambda ns: ns,
    "ISO text": lambda ns: [datetime.fromtimestamp(t // SECOND, UTC).isoformat() for t in ns],
    "ISO text without zone": lambda ns: [str(np.datetime64(t, "ns"))[:19].replace("T", " ") for t in ns],
}


@pytest.mark.parametrize("form", DATES)
def test_dates_are_understood_in_every_form(tmp_path: Path, form: str) -> None:
    times = [START + row * QUARTER for row in range(20)]
    path = parquet(tmp_path, columns() | {"date": DATES[form](times)})
    assert [bar.open_ns for bar in load(path)] == times


@pytest.mark.parametrize("name", ["history.csv", "history.csv.gz", "HISTORY.CSV"])
def test_csv_is_read_with_any_case_and_order_of_columns(tmp_path: Path, name: str) -> None:
    head, first = "\ufeffVolume,Close,Low,High,Open,Date,note\n", "1,2,1,3,2,2024-01-01 00:00,a\n"
    text = head + first + "0.5,2.5,2,3,2,2024-01-01 00:15,b\n"
    bars = load(csv(tmp_path, text, name))
    assert [bar.close for bar in bars] == ["2.0", "2.5"]
    assert [bar.open_ns for bar in bars] == [at(2024, 1, 1), at(2024, 1, 1, 0, 15)]


def test_daily_dates_are_midnight_utc(tmp_path: Path) -> None:
    text = "date,open,high,low,close,volume\n2024-01-01,2,3,1,2,1\n2024-01-02,2,3,1,2,1\n"
    bars = load(csv(tmp_path, text), interval_ns=24 * 60 * MINUTE)
    assert [bar.open_ns for bar in bars] == [at(2024, 1, 1), at(2024, 1, 2)]


def replaced(name: str, row: int, value: float) -> Columns:
    data = columns()
    data[name][row - 1] = value
    return data


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("high", 17, 3.0, "history.parquet row 17: high was 3.0, below low 115.5"),
        ("open", 1, 99.0, "history.parquet row 1: open was 99.0, below low 99.5"),
        ("open", 1, 102.0, "history.parquet row 1: open was 102.0, above high 101.5"),
        ("close", 20, 1.0, "history.parquet row 20: close was 1.0, below low 118.5"),
        ("close", 20, 200.0, "history.parquet row 20: close was 200.0, above high 120.5"),
        ("low", 2, 0.0, "history.parquet row 2: low was 0.0, not above 0"),
        ("low", 2, -1.0, "history.parquet row 2: low was -1.0, not above 0"),
        ("volume", 5, -0.5, "history.parquet row 5: volume was -0.5, below 0"),
        ("close", 3, float("nan"), "history.parquet row 3: close was nan, not a finite number"),
        ("high", 3, float("inf"), "history.parquet row 3: high was inf, not a finite number"),
        ("open", 4, None, "history.parquet row 4: open was empty"),
    ],
)
def test_a_row_that_contradicts_itself_is_named(
    tmp_path: Path, name: str, row: int, value: float, message: str
) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        load(parquet(tmp_path, replaced(name, row, value)))


def with_dates(*minutes: int) -> Columns:
    data = columns(rows=len(minutes))
    return data | {"date": [START + minute * MINUTE for minute in minutes]}


@pytest.mark.parametrize(
    ("minutes", "message"),
    [
        ((0, 15, 15), "row 3: date was 2023-01-01T00:15:00Z, which repeats that of the row above"),
        ((0, 30, 15), "row 3: date was 2023-01-01T00:15:00Z, which is before that of the row above"),
        ((0, 15, 30, 52), "row 4: date was 2023-01-01T00:52:00Z, no multiple of 15m (UTC)"),
    ],
)
def test_dates_must_increase_on_the_grid(tmp_path: Path, minutes: tuple[int, ...], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        load(parquet(tmp_path, with_dates(*minutes)))


def test_an_interval_that_does_not_divide_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    for minutes, named in ((60, "1h"), (10, "10m"), (30, "30m")):
        with pytest.raises(BadInput, match=f"history.parquet has {named} bars; they cannot make 15m bars"):
            load(parquet(tmp_path, columns(interval_ns=minutes * MINUTE)))


def test_the_interval_is_the_most_common_difference(tmp_path: Path) -> None:
    bars = load(parquet(tmp_path, with_dates(0, 45, 60, 75, 150)))
    assert [(bar.open_ns - START) // MINUTE for bar in bars] == [0, 45, 60, 75, 150]


CSV_HEAD = "date,open,high,low,close,volume\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "history.csv is empty"),
        (CSV_HEAD, "history.csv has no rows"),
        (
            "date,open,high,low,close\n1,2,3,4,5\n",
            "history.csv has no column volume; it has date, open, high",
        ),
        ("a\n1\n", "history.csv has no column date, open, high, low, close, volume; it has a"),
        ("date,Date,open,high,low,close,volume\n1,1,1,1,1,1,1\n", "history.csv has two columns for date"),
        (CSV_HEAD + "2024-01-01,2,3,1,2,1\n", "history.csv has 1 row; the interval"),
        (
            CSV_HEAD + "2024-01-01,2,3,1,2,1\n01/02/2024,2,3,1,2,1\n",
            "row 2: date was '01/02/2024', not an ISO date",
        ),
        (CSV_HEAD + "2024-01-01,2,3,1,2,1\n,2,3,1,2,1\n", "history.csv row 2: date was empty"),
        (CSV_HEAD + "2024-01-01,2,3,1,2,1\n2024-01-02,2,x,1,2,1\n", "row 2: high was 'x', not a number"),
        (CSV_HEAD + "2024-01-01,2,3,1,2,1\n2024-01-02,2,,1,2,1\n", "history.csv row 2: high was empty"),
        (CSV_HEAD + "1.5,2,3,1,2,1\n2.5,2,3,1,2,1\n", "history.csv: date was of type double, not a time"),
        (CSV_HEAD + "99999999999,2,3,1,2,1\n", "history.csv: date was 99999999999, after the year 2262"),
        (CSV_HEAD + "2024-01-01,2,3\n", "history.csv cannot be read: "),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)) as refused:
        load(csv(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    for name in ("history.parquet", "history.csv.gz"):
        path = tmp_path / name
        path.write_bytes(b"not this")
        with pytest.raises(BadInput, match=f"{name} cannot be read: "):
            load(path)
    path = tmp_path / "history.xlsx"
    path.write_bytes(b"x")
    with pytest.raises(BadInput, match=r"history\.xlsx is neither \.parquet nor \.csv"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        load(tmp_path / "none.parquet")
    with pytest.raises(BadInput, match="is no file"):
        load(tmp_path)


def test_the_real_history_ends_before_the_recording(tmp_path: Path) -> None:
    path = real("binance_usdm_BTCUSDT_15m_2023_2024.parquet")
    recording = at(2024, 8, 8, 23, 54, 15)
    bars = load(path, before_ns=recording)
    assert len(bars) == (at(2024, 8, 8, 23, 45) - at(2023, 1, 1)) // QUARTER
    assert bars[-1].open_ns + QUARTER <= recording < bars[-1].open_ns + 2 * QUARTER
    truncated = tmp_path / "truncated.parquet"
    pq.write_table(pq.read_table(path).slice(0, len(bars)), truncated)
    assert load(truncated) == bars
    assert (bars[0].open, bars[0].volume) == ("16537.5", "1519.88")


def test_real_minutes_become_quarters() -> None:
    bars = load(real("ftx_BTC-PERP_1m_20211231_20220201.parquet"))
    assert bars[0].open_ns == at(2021, 12, 31, 23, 15)
    assert len(bars) == 3001
    assert bars[0].open_ns % QUARTER == 0
    rows = pq.read_table(OHLCV / "ftx_BTC-PERP_1m_20211231_20220201.parquet").slice(14, 15).to_pylist()
    assert float(bars[0].high) == max(row["high"] for row in rows)
    assert bars[0].volume == str(sum(Decimal(str(row["volume"])) for row in rows))


def test_real_five_minutes_become_the_real_quarters() -> None:
    """Two files of one market agree on prices where they overlap."""
    fives = load(real("binance_spot_BTCUSDT_5m.parquet"), before_ns=at(2024, 4, 1))
    quarters = load(real("binance_spot_BTCUSDT_15m.parquet"), before_ns=at(2024, 4, 1))
    ohlc = {bar.open_ns: (bar.open, bar.high, bar.low, bar.close) for bar in quarters}
    assert len(fives) == 31 * 96
    assert all(ohlc[bar.open_ns] == (bar.open, bar.high, bar.low, bar.close) for bar in fives)
