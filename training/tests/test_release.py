"""The models of this release: bundles are whole, and say of recorded markets what the committed reports say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from huracan.features.routing import FILE as ROUTES
from huracan.features.routing import read_routes
from huracan.inference.bundle import load_bundle
from huracan_regime.routed import RoutedResponder
from huracan_training import experts
from huracan_training.benchmark import TARGET, final_fold
from huracan_training.commands.evaluate import BUNDLES
from huracan_training.datasets import build
from huracan_training.detector import CARD, detector_of, unseen_folds
from huracan_training.scores import log_loss
from huracan_training.tasks import FLOW, TASKS, Task

from .market import SHARED
from .order_flow_market import served_log_loss

REPORT = BUNDLES.parent / "reports" / TARGET / "report.json"
RECORDINGS = sorted((SHARED / "ticks" / "hftbacktest").glob("binance_*_20240808.jsonl.gz"))
BARS = sorted((SHARED / "ohlcv").glob("binance_*_15m*.parquet"))


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_bundle_of_this_release_is_whole_and_has_its_card(task: Task) -> None:
    bundle = load_bundle(BUNDLES / task.name)
    assert detector_of(bundle).trained_on.target == task.target
    assert b"Log loss" in bundle.contents[CARD]
    assert task.caution.encode() in bundle.contents[CARD]


def test_the_committed_report_of_directions_is_of_the_committed_net() -> None:
    told = json.loads((BUNDLES.parent / "reports" / FLOW.name / "report.json").read_text())
    manifest = load_bundle(BUNDLES / FLOW.name).manifest
    assert told["data_digest"] == manifest.data_digest
    assert told["study"]["horizon_bars"] == manifest.horizon_steps
    for score in ("log_loss", "macro_f1", "ece", "brier"):
        assert told["scores"][score] == pytest.approx(manifest.metrics[score], abs=1e-9), score


def test_the_committed_report_of_routed_nets_is_of_the_committed_bundle() -> None:
    bundle, report = load_bundle(BUNDLES / experts.NAME), _routed_report()
    assert bundle.manifest.data_digest == report.data_digest
    assert bundle.manifest.metrics == pytest.approx(experts.metrics_of(report), abs=1e-12)
    assert bundle.contents[CARD].decode() == experts.card_of(report)
    routes = read_routes(bundle.contents[ROUTES], ROUTES)
    assert (routes.nets, routes.cuts) == (report.nets, report.cuts)


@pytest.mark.skipif(len(RECORDINGS) < 3, reason="needs binance_*_20240808.jsonl.gz in ../shared/data/ticks/hftbacktest")
def test_the_committed_routed_nets_say_what_their_report_says(tmp_path: Path) -> None:
    report, dataset = _routed_report(), build(RECORDINGS, tmp_path)
    assert dataset.digest == report.data_digest
    # Processors round apart.
    told = served_log_loss(RoutedResponder(BUNDLES / experts.NAME, 300), dataset)
    assert told == pytest.approx(report.log_loss, abs=1e-4)


def _routed_report() -> experts.Report:
    file = BUNDLES.parent / "reports" / experts.NAME / "report.json"
    return experts.Report.model_validate_json(file.read_text())


@pytest.mark.skipif(len(BARS) < 12, reason="needs binance_*_15m*.parquet in ../shared/data/ohlcv")
def test_the_committed_report_is_what_the_committed_bundle_says(tmp_path: Path) -> None:
    told = json.loads(REPORT.read_text())
    bundle = load_bundle(BUNDLES / TARGET)
    detector = detector_of(bundle)
    dataset = build(BARS, tmp_path)
    files = {entry.asset: entry.source_digest for entry in dataset.manifest.assets}
    assert {each["asset"]: each["digest"] for each in told["study"]["sources"]} == files
    assert told["data_digest"] == bundle.manifest.data_digest
    fold = final_fold(dataset, bundle.manifest.horizon_steps)
    detector.fit(fold.samples.train, fold.samples.valid, seed=1)
    (unseen,) = unseen_folds(detector, [fold])
    tests = unseen.samples.test
    probabilities = np.concatenate([detector.predict(sample) for sample in tests])
    labels = np.concatenate([sample.labels for sample in tests])
    assert len(labels) == told["scores"]["rows"]
    # Processors round apart.
    assert log_loss(labels, probabilities) == pytest.approx(told["scores"]["log_loss"], abs=1e-4)
    assert told["promoted"], "a bundle in quarantine is not committed"
