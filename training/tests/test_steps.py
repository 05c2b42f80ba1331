"""Datasets of steps: a recording, the run that replayed it and the archive of its log give the same rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from huracan.bus import subjects
from huracan.contracts.features import FeatureRow
from huracan.contracts.market import Reliability, ReliabilityPart, instrument_key
from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan.ports import Record
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.store.archive import Archive
from huracan.store.parquet import read_messages, write_messages
from huracan_cli.replay import Replay, replay
from huracan_training.bars import Asset, windowed
from huracan_training.datasets import Kind, build, load
from huracan_training.integrity import Report
from huracan_training.labels import HORIZONS_STEPS, TARGETS, fit_thresholds, forward_returns, labels
from huracan_training.samples import WINDOW
from huracan_training.steps import of_archive, of_recording, of_run

SECONDS = 20.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "market.jsonl"
    write_recording(SimulatedMarketConfig(seed=11, duration_s=SECONDS, regime_switch_s=8.0), path)
    return path


@pytest.fixture(scope="module")
def run(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    replay(Replay(recording=recording, out=out))
    return out


@pytest.fixture(scope="module")
def played(recording: Path) -> tuple[Asset, Report]:
    (found,) = of_recording(recording)
    return found


def _archived(rows: list[FeatureRow], directory: Path) -> Path:
    records = [Record(offset, row) for offset, row in enumerate(rows)]
    key = instrument_key(rows[0].instrument)
    asyncio.run(Archive(directory).save_records(subjects.FEATURES_TOPIC, key, records))
    return directory


def test_a_recording_gives_the_rows_of_its_replay(played: tuple[Asset, Report], run: Path) -> None:
    ours = played[0].series
    theirs = of_run(run)[0][0].series
    assert ours.asset == theirs.asset == "sim_sim-usdt-perp"
    np.testing.assert_array_equal(ours.close_ns, theirs.close_ns)
    np.testing.assert_array_equal(ours.rows, theirs.rows)
    assert ours.rows.shape[1] == MICRO.columns


def test_an_archive_gives_the_same_rows(played: tuple[Asset, Report], run: Path, tmp_path: Path) -> None:
    rows = read_messages(run / "features.parquet", FeatureRow)
    ((found, told),) = of_archive(_archived(rows, tmp_path))
    np.testing.assert_array_equal(found.series.rows, played[0].series.rows)
    assert told.score == 100.0


def test_a_good_recording_is_reliable_by_rows_and_frames(played: tuple[Asset, Report]) -> None:
    series, told = played[0].series, played[1]
    assert told.usable
    assert told.expected == told.rows == len(series.close_ns) == pytest.approx(SECONDS * 10, abs=2)
    assert windowed(series).tolist() == list(range(WINDOW - 1, len(series.close_ns)))


def test_returns_are_those_of_the_mid(played: tuple[Asset, Report]) -> None:
    each = played[0]
    momentum = each.series.rows[:, MICRO.names.index("mid_momentum_1s_bps")]
    ahead = forward_returns(each, HORIZONS_STEPS["1s"])
    known = np.flatnonzero(np.isfinite(ahead))
    np.testing.assert_allclose(ahead[known], momentum[known + 10] * 1e-4, atol=1e-8)
    everything = np.ones(len(ahead), dtype=np.bool_)
    told = labels(each, fit_thresholds(TARGETS["direction"], 10, [(each, everything)]))
    assert set(told[known].tolist()) == {0, 1, 2}


def test_lost_and_repeated_rows_are_counted_and_the_highest_epoch_counts(run: Path, tmp_path: Path) -> None:
    rows = read_messages(run / "features.parquet", FeatureRow)
    again = FeatureRow.FromString(rows[50].SerializeToString())
    again.epoch += 1
    again.values = np.full(MICRO.columns, 7, dtype="<f4").tobytes()
    damaged = [*rows[:50], again, *rows[50:100], *rows[102:]]
    ((found, told),) = of_archive(_archived(damaged, tmp_path))
    assert found.series.rows[50].tolist() == [7.0] * MICRO.columns
    assert told.parts["duplicate"] > 0
    assert told.parts["missing"] == pytest.approx(2 / len(rows))
    assert not told.usable
    assert np.isnan(found.series.log_return[100])
    assert windowed(found.series).tolist() == [*range(WINDOW - 1, 100), *range(100 + WINDOW - 1, len(rows) - 2)]


def test_frames_that_were_bad_lower_the_score_of_good_rows(run: Path, tmp_path: Path) -> None:
    rows = read_messages(run / "features.parquet", FeatureRow)
    write_messages(rows, tmp_path / "features.parquet")
    hours = [
        Reliability(
            instrument=rows[0].instrument,
            hour_ns=hour,
            epoch=1,
            parts=[ReliabilityPart(name="gap", value=gap), ReliabilityPart(name="clock_drift", value=drift)],
            from_ns=from_ns,
            to_ns=to_ns,
        )
        for hour, gap, drift, from_ns, to_ns in ((0, 0.9, 0.0, 0, 10), (0, 0.04, 0.01, 0, 25), (1, 0.0, 0.02, 25, 100))
    ]
    write_messages(hours, tmp_path / "reliability.parquet")
    ((_, told),) = of_run(tmp_path)
    assert told.parts["gap"] == pytest.approx(0.04 * 25 / 100)
    assert told.parts["clock_drift"] == 0.02
    assert told.score == pytest.approx(50.0)


def test_a_dataset_of_steps_comes_back_and_says_what_it_has_no_labels_of(recording: Path, tmp_path: Path) -> None:
    ours = build([recording], tmp_path / "out")
    assert load(tmp_path / "out").digest == ours.digest == build([recording], tmp_path / "again").digest
    assert (ours.manifest.kind, ours.assets[0].bars) == (Kind.STEPS, None)
    assert [each for each in ours.manifest.unlabelled if "direction over 100" in each]


def test_a_run_and_an_archive_make_the_same_dataset_but_for_their_names(run: Path, tmp_path: Path) -> None:
    archive = _archived(read_messages(run / "features.parquet", FeatureRow), tmp_path / "archive")
    (ours,), (theirs,) = (build([path], tmp_path / "out" / path.name).manifest.assets for path in (run, archive))
    assert ours.content_digest == theirs.content_digest
    assert ours.source_digest != theirs.source_digest
    assert build([run], tmp_path / "again").manifest.assets[0].source_digest == ours.source_digest


def test_rows_of_other_features_and_none_are_refused(run: Path, tmp_path: Path) -> None:
    rows = read_messages(run / "features.parquet", FeatureRow)
    rows[3].feature_set_digest = b"\x00" * 32
    with pytest.raises(BadInput, match="feature set micro was 000000000000"):
        of_archive(_archived(rows, tmp_path))
    (tmp_path / "empty" / "feature_rows").mkdir(parents=True)
    with pytest.raises(BadInput, match="empty has no steps"):
        of_archive(tmp_path / "empty")
