"""Nets that are routed by regime: by what, which of them answers, and that what is served is what was judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from huracan.clock import STEP_NS
from huracan.errors import BadInput
from huracan.expert.order_flow import int8_of
from huracan.features.micro import MICRO
from huracan.features.regimes import REGIMES
from huracan.features.routing import FILE, MONOLITH, net_of, read_routes
from huracan.inference.bundle import Bundle, load_bundle
from huracan.inference.engine import FP32
from huracan_regime.routed import RoutedResponder
from huracan_training.__main__ import app
from huracan_training.datasets import FoldSamples, build, fold_samples
from huracan_training.experts import Report, card_of, metrics_of
from huracan_training.models.routed import (
    MONOLITH_WIDTH,
    WIDTH,
    RoutedNets,
    chosen,
    fit_cuts,
    of_regime,
    regimes_of,
    routed,
)
from huracan_training.samples import WINDOW
from huracan_training.splits import walk_forward
from huracan_training.tasks import FLOW

from .market import synthetic_bars, write_bars
from .order_flow_market import HORIZON, served_log_loss, step_asset, window_sample, write_run

TINY = {"epochs": 2, "steps_per_epoch": 4, "batch": 32}


@pytest.fixture(scope="module")
def parts() -> FoldSamples:
    """Give the final fold of two assets."""
    assets = [step_asset(900, seed, name) for seed, name in ((1, "sim_a-usdt-perp"), (2, "sim_b-usdt-perp"))]
    plan = walk_forward(np.concatenate([each.series.close_ns for each in assets]), folds=1, valid_share=0.3)
    return fold_samples(assets, plan.final, "direction", HORIZON)


@pytest.fixture(scope="module")
def model(parts: FoldSamples) -> RoutedNets:
    found = RoutedNets(FLOW.question(HORIZON), FLOW.settings_of("distilled_cnn", TINY), FLOW.around)
    found.fit(parts.train, parts.valid, seed=1)
    return found


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train by command, and give where."""
    room = tmp_path_factory.mktemp("experts")
    runs = [write_run(room / symbol, symbol, steps=1_300, seed=seed) for seed, symbol in enumerate(("AAA", "BBB"))]
    asked = ["experts", "--folds", "1", "--seeds", "1", "--out", str(room / "out"), "--json"]
    asked += [part for run in runs for part in ("--data", str(run))]
    asked += [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (room / "told.json").write_text(result.stdout)
    return room


@pytest.fixture(scope="module")
def bundle(room: Path) -> Bundle:
    return load_bundle(room / "out" / "bundle")


def test_cuts_are_quantiles_of_the_training_windows(parts: FoldSamples) -> None:
    cuts = fit_cuts(parts.train)
    regimes = np.concatenate([regimes_of(sample, cuts) for sample in parts.train])
    counts = np.bincount(regimes, minlength=len(REGIMES)) / len(regimes)
    assert counts[:2] == pytest.approx([0.2, 0.2], abs=0.01)
    assert counts[2:].min() > 0.05
    none = [replace(each, at=each.at[:0], labels=each.labels[:0]) for each in parts.train]
    with pytest.raises(BadInput, match="train had no window whose mids are all known"):
        fit_cuts(none)


def test_positions_of_a_regime_keep_their_labels(parts: FoldSamples) -> None:
    cuts = fit_cuts(parts.train)
    split = [of_regime(parts.train, cuts, number) for number in range(len(REGIMES))]
    for place, sample in enumerate(parts.train):
        at = np.concatenate([each[place].at for each in split])
        labels = np.concatenate([each[place].labels for each in split])
        order = np.argsort(at)
        np.testing.assert_array_equal(at[order], sample.at)
        np.testing.assert_array_equal(labels[order], sample.labels)
    assert of_regime([replace(sample, at=sample.at[:0], labels=sample.labels[:0])], cuts, 0) == []


def test_four_nets_are_as_large_as_the_one() -> None:
    nets = {}
    for width in (WIDTH, MONOLITH_WIDTH):
        hidden = width * 3 // 2
        convolutions = (4 * 12 * width + width) + 2 * (4 * width * width + width) + 3 * 2 * width
        nets[width] = convolutions + 13 * hidden + (width + hidden + 1) * hidden + 3 * (hidden + 1) + 3 * 13
    assert 4 * nets[WIDTH] == pytest.approx(nets[MONOLITH_WIDTH], rel=0.005)


def test_a_regime_has_its_own_net_only_where_that_loses_less() -> None:
    regimes = np.array([0, 0, 1, 1, 2, -1])
    losses = {MONOLITH: np.array([1.0, 1, 1, 1, 1, 0]), **{net_of(name): np.ones(6) for name in REGIMES}}
    assert set(chosen(losses, regimes).values()) == {MONOLITH}, "no worse is not better"
    losses["high_volatility"] = np.array([0.8, 1.1, 9, 9, 9, 9])
    losses["low_volatility"] = np.array([0.0, 0, 1.5, 0.6, 0, 0])
    losses["ranging"] = np.zeros(6)
    del losses["trending"]
    told = chosen(losses, regimes)
    assert told == {
        "High_Volatility": "high_volatility",
        "Low_Volatility": MONOLITH,
        "Trending": MONOLITH,
        "Ranging": MONOLITH,
    }


def test_a_window_is_answered_by_the_net_of_its_regime_and_an_unknown_one_by_the_monolith() -> None:
    said = {name: np.full((4, 3), at) for at, name in enumerate((MONOLITH, "trending", "ranging"), 1)}
    nets = {**dict.fromkeys(REGIMES, MONOLITH), "Trending": "trending", "Ranging": "ranging"}
    assert routed(said, np.array([2, 0, -1, 3]), nets)[:, 0].tolist() == [1 + 1, 1, 1, 2 + 1]


def test_the_same_seed_gives_the_same_nets_and_routes(model: RoutedNets, parts: FoldSamples) -> None:
    again = RoutedNets(FLOW.question(HORIZON), FLOW.settings_of("distilled_cnn", TINY), FLOW.around)
    again.fit(parts.train, parts.valid, seed=1)
    assert again.routes == model.routes
    for sample in parts.test:
        assert again.predict(sample).tobytes() == model.predict(sample).tobytes()


def test_a_regime_without_rows_for_validation_is_answered_by_the_monolith(parts: FoldSamples) -> None:
    cuts = fit_cuts(parts.train)
    some = [*of_regime(parts.valid, cuts, 0), *of_regime(parts.valid, cuts, 1)]
    found = RoutedNets(FLOW.question(HORIZON), FLOW.settings_of("distilled_cnn", TINY), FLOW.around)
    found.fit(parts.train, some, seed=1)
    assert [each.name for each in found.nets] == [MONOLITH, "high_volatility", "low_volatility"]
    assert (found.routes.nets["Trending"], found.routes.nets["Ranging"]) == (MONOLITH, MONOLITH)


def test_what_is_served_says_what_was_judged_and_routes_as_it_was_trained(room: Path, bundle: Bundle) -> None:
    responder, routes = RoutedResponder(bundle.directory, 300), read_routes(bundle.contents[FILE], FILE)
    report = Report.model_validate_json((room / "out" / "report.json").read_text())
    dataset = build([room / "AAA", room / "BBB"], room / "dataset")
    assert served_log_loss(responder, dataset) == pytest.approx(report.log_loss, abs=1e-6)
    assert report.newest["all"].log_loss["routed"] == pytest.approx(report.log_loss)
    rows = step_asset(400, 5).series.rows
    seen = set()
    for at in range(WINDOW, 400, 7):
        window = rows[at - WINDOW : at]
        (regime,) = regimes_of(window_sample(window), routes.cuts)
        assert regime == routes.regime(window)
        seen.add(REGIMES[regime])
    assert len(seen) > 2
    assert report == Report.model_validate_json((room / "told.json").read_text())
    assert (report.nets, report.cuts) == (routes.nets, routes.cuts)
    assert bundle.manifest.metrics == metrics_of(report)
    assert bundle.contents["card.md"].decode() == card_of(report)


def test_the_bundle_has_every_net_twice_and_says_what_it_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.model, manifest.horizon_steps) == ("experts", "routed_cnn", HORIZON)
    assert (manifest.interval_ns, manifest.feature_set_digest) == (STEP_NS, MICRO.digest.hex())
    for net in (MONOLITH, *map(net_of, REGIMES)):
        assert {int8_of(net), f"{net}.{FP32}"} <= bundle.contents.keys()
    assert "Recordings are of minutes" in bundle.contents["card.md"].decode()


def test_it_is_of_steps_and_not_of_bars(tmp_path: Path) -> None:
    bars = write_bars(synthetic_bars(1_000), tmp_path / "sim_SIMUSDT_15m.parquet")
    asked = ["experts", "--data", str(bars), "--out", str(tmp_path / "out")]
    with pytest.raises(BadInput, match="--data was bars, and --target direction is of steps"):
        CliRunner().invoke(app, asked, catch_exceptions=False)
    assert not (tmp_path / "out" / "bundle").exists()
