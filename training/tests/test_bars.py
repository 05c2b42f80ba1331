"""Any file of bars is read, broken rows too; windows never run across a gap; a session follows the one before."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from huracan.clock import MINUTE_NS
from huracan.contracts.market import InstrumentId
from huracan.errors import BadInput
from huracan.features.bar import BAR, BarState
from huracan.market.history import load_history
from huracan_training.bars import INTERVAL_NS, VALUES, Bars, asset, asset_of, good, read_bars, resampled, tidy, windowed
from huracan_training.calendar import DAY_NS, Calendar
from huracan_training.samples import WINDOW

from .market import START_NS, synthetic_bars, write_bars

HEADER = "date,open,high,low,close,volume\n"
ROW = "{},10,12,9,11,5\n"


def _csv(path: Path, dates: list[str], header: str = HEADER) -> Path:
    path.write_text(header + "".join(ROW.format(date) for date in dates))
    return path


def test_rows_that_are_broken_are_read_and_known_to_be(tmp_path: Path) -> None:
    path = tmp_path / "sim_X_1m.csv"
    rows = [
        "2024-01-01 00:00:00,10,12,9,11,5",
        "2024-01-01 00:01:00,10,12,9,eleven,5",
        "2024-01-01 00:02:00,10,12,9,,5",
        "2024-01-01 00:03:00,10,12,9,13,5",
        "2024-01-01 00:04:00,-1,12,-2,11,5",
        "2024-01-01 00:05:00,10,12,9,11,-5",
        "never,10,12,9,11,5",
        "2024-01-01 00:02:00,10,12,9,11,5",
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    bars = read_bars(path)
    assert (bars.asset, bars.interval_ns, bars.unreadable, len(bars)) == ("sim_X", MINUTE_NS, 1, 7)
    assert good(bars).tolist() == [True, False, False, False, False, False, True]


@pytest.mark.parametrize(
    "dates",
    [
        ["2024-01-01", "2024-01-02", "2024-01-03"],
        ["2024-01-01T00:00:00Z", "2024-01-02T01:00:00+01:00", "2024-01-03T00:00:00Z"],
        ["1/1/24", "1/2/24", "1/3/24"],
        ["01/01/2024", "01/02/2024", "01/03/2024"],
        ["1704067200", "1704153600", "1704240000"],
        ["1704067200000", "1704153600000", "1704240000000"],
        ["1704067200000000000", "1704153600000000000", "1704240000000000000"],
    ],
)
def test_dates_are_understood_as_providers_write_them(dates: list[str], tmp_path: Path) -> None:
    bars = read_bars(_csv(tmp_path / "bars.csv", dates))
    assert bars.open_ns.tolist() == [1_704_067_200_000_000_000 + day * DAY_NS for day in range(3)]


def test_a_date_that_is_far_off_is_named(tmp_path: Path) -> None:
    path = _csv(tmp_path / "sim_X_1m.csv", ["2024-01-01 00:00", "2024-01-01 00:01", "2124-01-01 00:02"])
    with pytest.raises(BadInput, match="3 bars of 60 s had dates from 2024-01-01 to 2124-01-01; correct the one"):
        tidy(read_bars(path))


def test_dates_that_nanoseconds_cannot_tell_are_unreadable(tmp_path: Path) -> None:
    days = [datetime(year, 1, day, tzinfo=UTC) for year, day in ((2024, 1), (2024, 2), (9999, 1))]
    columns: dict[str, object] = {"date": pa.array(days, pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table(columns | {name: [1.0] * 3 for name in VALUES}), tmp_path / "x.parquet")
    assert read_bars(tmp_path / "x.parquet").unreadable == 1
    text = _csv(tmp_path / "x.csv", ["2024-01-01T00:00:00.0", "2024-01-02T00:00:00.0", "9999-01-01T00:00:00.0"])
    assert read_bars(text).unreadable == 1


def test_a_packed_file_and_a_column_of_another_name_are_read(tmp_path: Path) -> None:
    text = HEADER.replace("date", "datetime") + ROW.format("2024-01-01 00:00") + ROW.format("2024-01-01 00:15")
    path = tmp_path / "QQQ_15m.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_bars(path).interval_ns == INTERVAL_NS


def test_a_file_without_two_dates_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"some\.csv has fewer than 2 bars"):
        read_bars(_csv(tmp_path / "some.csv", ["never", "2024-01-01"]))
    with pytest.raises(BadInput, match=r"none\.csv has fewer than 2 bars"):
        read_bars(_csv(tmp_path / "none.csv", ["", ""]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("binance_spot_BTCUSDT_15m.parquet", "binance_spot_BTCUSDT"),
        ("binance_usdm_BTCUSDT_15m_2023_2024.parquet", "binance_usdm_BTCUSDT"),
        ("ftx_BTC-PERP_1m_20211231_20220201.parquet", "ftx_BTC-PERP"),
        ("SPY_1993_2022.csv.gz", "SPY_1993_2022"),
        ("15m.csv", "15m"),
    ],
)
def test_an_asset_is_called_as_its_file(name: str, expected: str) -> None:
    assert asset_of(Path(name)) == expected


def test_tidy_bars_are_in_order_each_once_and_good() -> None:
    bars = synthetic_bars(50)
    broken = bars.close.copy()
    broken[7] = np.nan
    mixed = replace(bars, close=broken).take(np.array([3, 2, 2, *range(4, 50), 0, 1]))
    late = replace(mixed, open_ns=np.where(mixed.open_ns == bars.open_ns[20], bars.open_ns[20] + 1, mixed.open_ns))
    assert tidy(late).open_ns.tolist() == np.delete(bars.open_ns, [7, 20]).tolist()


def test_longer_bars_are_made_where_all_parts_are_there(tmp_path: Path) -> None:
    minutes = replace(synthetic_bars(61), interval_ns=MINUTE_NS, open_ns=START_NS + MINUTE_NS * np.arange(61))
    made = resampled(minutes.take(np.arange(61) != 20), INTERVAL_NS)
    assert made.open_ns.tolist() == [START_NS, START_NS + 2 * INTERVAL_NS, START_NS + 3 * INTERVAL_NS]
    path = write_bars(minutes, tmp_path / "m.parquet")
    loaded = load_history(path, instrument=InstrumentId(), interval_ns=INTERVAL_NS, before_ns=2**62)
    assert [(float(bar.high), float(bar.low), float(bar.close)) for bar in loaded[2:]] == list(
        zip(made.high[1:].tolist(), made.low[1:].tolist(), made.close[1:].tolist(), strict=True)
    )
    assert [float(bar.volume) for bar in loaded[2:]] == pytest.approx(made.volume[1:].tolist())
    with pytest.raises(BadInput, match="give shorter ones"):
        resampled(minutes, 100_000_000_000)


def test_features_are_those_of_the_live_engine(tmp_path: Path) -> None:
    bars = synthetic_bars(200)
    rows = asset(bars).series.rows
    path = write_bars(bars, tmp_path / "b.parquet")
    state = BarState()
    live = [
        state.push(bar)
        for bar in load_history(path, instrument=InstrumentId(), interval_ns=INTERVAL_NS, before_ns=2**62)
    ]
    np.testing.assert_array_equal(rows, np.stack(live))
    assert np.isfinite(rows[150, BAR.names.index("atr_ratio")])


def test_no_window_runs_across_a_gap() -> None:
    bars = synthetic_bars(200)
    series = asset(bars.take(np.arange(200) != 100)).series
    assert windowed(series).tolist() == [*range(WINDOW - 1, 100), *range(100 + WINDOW - 1, 199)]
    assert np.flatnonzero(np.isnan(series.log_return)).tolist() == [0, 100]
    np.testing.assert_array_equal(series.rows[100:], asset(bars.take(np.arange(200) > 100)).series.rows)


def test_a_session_follows_the_one_before() -> None:
    days = np.arange("2024-01-09", "2024-05-08", dtype="datetime64[D]").astype(np.int64)
    every = synthetic_bars(len(days))
    daily = replace(every, interval_ns=DAY_NS, open_ns=days * DAY_NS)
    sessions = tidy(daily, Calendar.US_EQUITIES)
    holidays = ["2024-01-15", "2024-02-19", "2024-03-29"]
    assert len(sessions) == np.busday_count("2024-01-09", "2024-05-08", holidays=holidays)
    series = asset(sessions, Calendar.US_EQUITIES).series
    assert np.isfinite(series.log_return[1:]).all()
    assert windowed(series)[0] == WINDOW - 1


def test_rows_that_are_not_tidy_make_no_series() -> None:
    bars = synthetic_bars(100)
    with pytest.raises(BadInput, match="tidy them first"):
        asset(bars.take(np.arange(100)[::-1]))


def test_the_digest_is_of_every_value() -> None:
    bars = synthetic_bars(10)
    other: Bars = replace(bars, volume=bars.volume + np.eye(10)[3])
    assert bars.digest() == synthetic_bars(10).digest() != other.digest()
