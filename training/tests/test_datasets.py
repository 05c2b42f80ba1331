"""Datasets of bars: the same sources give the same digest, and what is damaged is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from huracan.clock import MINUTE_NS
from huracan.errors import BadInput
from huracan_training.bars import Bars
from huracan_training.calendar import DAY_NS, Calendar
from huracan_training.datasets import MANIFEST, Dataset, Making, build, fold_samples, load, verified
from huracan_training.integrity import from_bars
from huracan_training.labels import TARGETS, labels
from huracan_training.samples import UNKNOWN, WINDOW
from huracan_training.scaling import fit_scaler
from huracan_training.splits import within

from .market import SHARED, START_NS, synthetic_bars, write_bars

COUNT = 900


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("bars")
    late = START_NS + 700 * 900_000_000_000
    all_bars = {
        "sim_AAA_15m": synthetic_bars(COUNT, seed=1),
        "sim_BBB_15m": synthetic_bars(COUNT, seed=2),
        "sim_LATE_15m": synthetic_bars(300, seed=3, start_ns=late),
    }
    return [write_bars(bars, directory / f"{name}.parquet") for name, bars in all_bars.items()]


@pytest.fixture(scope="module")
def built(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    directory = tmp_path_factory.mktemp("dataset")
    return build(sources, directory), directory


def _missing(bars: Bars, path: Path) -> Path:
    return write_bars(bars.take(np.arange(len(bars)) % 20 != 3), path)


def test_a_dataset_comes_back_as_it_was(built: tuple[Dataset, Path]) -> None:
    ours, directory = built
    theirs = load(directory)
    assert theirs.digest == ours.digest
    assert [each.name for each in theirs.assets] == ["sim_AAA", "sim_BBB", "sim_LATE"]
    for one, other in zip(ours.assets, theirs.assets, strict=True):
        assert one.bars is not None
        assert other.bars is not None
        assert one.bars.digest() == other.bars.digest()
        np.testing.assert_array_equal(one.series.rows, other.series.rows)
        np.testing.assert_array_equal(one.series.log_return, other.series.log_return)


def test_the_same_sources_give_the_same_digest_in_any_order(
    built: tuple[Dataset, Path], sources: list[Path], tmp_path: Path
) -> None:
    assert build(sources[::-1], tmp_path).digest == built[0].digest
    assert build(sources[:2], tmp_path).digest != built[0].digest
    assert load(tmp_path).digest != built[0].digest


def test_the_manifest_says_what_it_is_made_of(built: tuple[Dataset, Path]) -> None:
    ours, directory = built
    told = json.loads((directory / MANIFEST).read_text())
    assert told["digest"] == ours.digest
    first = told["assets"][0]
    assert (first["source"], first["rows"], first["windows"]) == ("sim_AAA_15m.parquet", COUNT, COUNT - WINDOW + 1)
    assert first["reliability"]["score"] > 80
    assert {each["thresholds"]["target"] for each in told["labels"]} == set(TARGETS)
    assert sum(told["labels"][0]["shares"]["sim_AAA"].values()) == pytest.approx(1.0)


def test_samples_of_a_fold_are_labelled_windows_of_its_spans(built: tuple[Dataset, Path]) -> None:
    ours, _ = built
    plan = ours.plan(folds=3)
    for fold in (*plan.folds, plan.final):
        told = fold_samples(ours.assets, fold, "regime", 8)
        assert [sample.series.asset for sample in told.train][:2] == ["sim_AAA", "sim_BBB"]
        for span, found in ((fold.train, told.train), (fold.valid, told.valid), (fold.test, told.test)):
            for sample in found:
                each = next(each for each in ours.assets if each.name == sample.series.asset)
                assert within(each, 8, span)[sample.at].all()
                assert (sample.labels != UNKNOWN).all()
                np.testing.assert_array_equal(sample.labels, labels(each, told.thresholds)[sample.at])
                assert len(sample.known) == len(sample.series.close_ns)
                assert sample.at.min() >= WINDOW - 1


def test_an_asset_that_comes_later_is_judged_by_the_thresholds_of_the_others(built: tuple[Dataset, Path]) -> None:
    ours, _ = built
    told = fold_samples(ours.assets, ours.plan().final, "regime", 8)
    assert "sim_LATE" not in told.thresholds.values
    assert "sim_LATE" in [sample.series.asset for sample in told.test]
    scaler = fit_scaler([(sample.series, np.isin(np.arange(len(sample.known)), sample.at)) for sample in told.train])
    assert np.isfinite(scaler.transform(told.test[-1].series.rows, "sim_LATE")[0]).all()


def test_data_that_score_80_or_less_are_refused_with_the_parts(tmp_path: Path) -> None:
    path = _missing(synthetic_bars(COUNT), tmp_path / "sim_X_15m.parquet")
    with pytest.raises(BadInput, match=r"sim_X scored 0\.0: missing was 0\.05 \(0 points at 0\.02\), gap was"):
        build([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_fetched_again_makes_a_file_usable(tmp_path: Path) -> None:
    whole = synthetic_bars(COUNT)
    path = _missing(whole, tmp_path / "sim_X_15m.parquet")
    dataset = build([path], tmp_path / "out", Making(refetch=from_bars(whole)))
    assert dataset.manifest.assets[0].reliability.score == 100.0
    assert dataset.manifest.assets[0].rows == COUNT
    assert verified(path)[0].score == 0.0


def test_shorter_bars_are_put_together(tmp_path: Path) -> None:
    fives = replace(synthetic_bars(COUNT), interval_ns=300_000_000_000)
    fives = replace(fives, open_ns=START_NS + fives.interval_ns * np.arange(COUNT))
    dataset = build([write_bars(fives, tmp_path / "sim_X_5m.parquet")], tmp_path / "out")
    assert dataset.manifest.assets[0].rows == COUNT // 3
    assert set(np.diff(dataset.assets[0].series.close_ns).tolist()) == {900_000_000_000}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "a dataset needs a source"),
        (["a_15m.parquet", "market.jsonl"], "make a dataset of each"),
        (["a_15m.parquet", "a_5m.parquet"], "asset a was there twice"),
        ([".x_15m.parquet"], "rename its source"),
        (["short_15m.parquet"], "short_15m.parquet has 30 bars of 900 s, fewer than a window"),
    ],
)
def test_sources_that_make_no_dataset_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        if name.endswith(".parquet"):
            write_bars(synthetic_bars(30 if name.startswith("short") else 100), tmp_path / name)
    with pytest.raises(BadInput, match=message):
        build([tmp_path / name for name in names], tmp_path / "out")


def test_a_directory_of_something_else_is_left_alone(sources: list[Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(BadInput, match="holds something else than a dataset"):
        build(sources[:1], tmp_path)
    with pytest.raises(BadInput, match="holds something else than a dataset"):
        build(sources[:1], tmp_path / "thesis.txt")


def test_one_that_was_cut_off_while_it_was_written_is_written_again(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pq.write_table

    def cut_off(table: pa.Table, where: Path, **options: Any) -> None:
        if "BBB" in where.name:
            raise KeyboardInterrupt
        write(table, where, **options)

    for before in (False, True):
        out = tmp_path / f"dataset{before}"
        if before:
            build(sources[:1], out)
        with monkeypatch.context() as patch:
            patch.setattr(pq, "write_table", cut_off)
            with pytest.raises(KeyboardInterrupt):
                build(sources, out)
        assert out.exists() == before
        assert build(sources, out).digest == load(out).digest
        assert [each.name for each in load(out).assets] == ["sim_AAA", "sim_BBB", "sim_LATE"]


def test_a_place_that_cannot_be_written_is_refused_by_name(sources: list[Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(BadInput, match=r"thesis\.txt/dataset cannot be written: Not a directory"):
        build(sources[:1], tmp_path / "thesis.txt" / "dataset")


@pytest.mark.parametrize("damage", ["manifest", "json", "values", "column", "file", "features"])
def test_a_damaged_dataset_is_refused(damage: str, built: tuple[Dataset, Path], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(built[1], tmp_path / "copy"))
    path, manifest = directory / "sim_BBB.parquet", directory / MANIFEST
    told = json.loads(manifest.read_text())
    if damage == "manifest":
        manifest.unlink()
    elif damage == "json":
        manifest.write_text("[]")
    elif damage == "features":
        manifest.write_text(json.dumps(told | {"feature_set_digest": "00"}))
    elif damage == "file":
        path.write_bytes(b"no parquet")
    else:
        table = pq.read_table(path)
        at = table.column_names.index("close")
        changed = pa.array(table["close"].to_numpy() * 2) if damage == "values" else None
        pq.write_table(table.set_column(at, "close", changed) if changed else table.remove_column(at), path)
    with pytest.raises(BadInput, match=r"no dataset|damaged|is not what|build it again"):
        load(directory)


@pytest.mark.parametrize("name", ["binance_spot_DOGEUSDT_15m", "binance_usdm_BTCUSDT_15m_2023_2024"])
def test_recorded_bars_are_reliable(name: str) -> None:
    path = SHARED / "ohlcv" / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    (told,) = verified(path)
    assert (told.usable, told.missing, told.parts["duplicate"], told.parts["out_of_order"]) == (True, (), 0.0, 0.0)
    assert told.score > 95


@pytest.mark.parametrize(("name", "interval_ns"), [("SPY_1993_2022", DAY_NS), ("QQQ_1m_10day_2022", MINUTE_NS)])
def test_recorded_sessions_are_those_of_the_calendar(name: str, interval_ns: int) -> None:
    path = SHARED / "equity_daily" / f"{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    (told,) = verified(path, Making(interval_ns=interval_ns, calendar=Calendar.US_EQUITIES))
    assert (told.missing, told.score) == ((), 100.0)
    assert not verified(path)[0].usable
