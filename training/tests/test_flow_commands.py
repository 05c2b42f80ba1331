"""Train, export, serve and judge a model of direction by command, on synthetic steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from huracan.errors import BadInput
from huracan.expert.port import Forecast
from huracan.inference.bundle import load_bundle, write_bundle
from huracan_flow.net import NetResponder
from huracan_training.__main__ import app
from huracan_training.commands.evaluate import BUNDLES
from huracan_training.detector import CARD, detector_of
from huracan_training.samples import WINDOW

from .market import synthetic_bars, write_bars
from .order_flow_market import step_asset, window_sample, write_run

TINY = [part for setting in ("width=8", "epochs=2", "steps_per_epoch=4", "batch=32") for part in ("--set", setting)]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flow")


@pytest.fixture(scope="module")
def runs(room: Path) -> list[str]:
    """Give the option of two runs."""
    return [
        part
        for seed, symbol in enumerate(("AAA", "BBB"))
        for part in ("--data", str(write_run(room / symbol, symbol, steps=1_300, seed=seed)))
    ]


def _run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.fixture(scope="module")
def trained(room: Path, runs: list[str]) -> dict[str, Any]:
    """Train a model, and give what the command says of it."""
    asked = ["train", "--target", "direction", "--horizon", "1s", *runs, *TINY, "--export", str(room / "bundle")]
    return _run(*asked, "--registry", str(room / "registry"), "--out", str(room / "train"), "--json")


def test_a_net_of_directions_is_trained_and_judged_beside_the_formula(trained: dict[str, Any], room: Path) -> None:
    assert (trained["name"], trained["version"], trained["model"]) == ("flow", 1, "distilled_cnn")
    baselines = {
        "majority", "persistence", "logistic", "random_forest", "lightgbm", "ordered_logit", "flow_today",
    }  # fmt: skip
    assert set(trained["baselines"]) == baselines
    assert trained["study"]["classes"] == ["down", "flat", "up"]
    assert (trained["study"]["horizon_bars"], trained["study"]["interval_ns"]) == (10, 100_000_000)
    bundle = load_bundle(room / "bundle")
    manifest = bundle.manifest
    assert (manifest.name, manifest.feature_set, manifest.horizon_steps) == ("flow", "micro", 10)
    assert b"Recordings are of minutes" in bundle.contents[CARD]
    assert b"rows of 0.1 s" in (room / "train" / "report.html").read_bytes()


@pytest.mark.usefixtures("trained")
def test_what_is_served_says_what_was_judged(room: Path) -> None:
    detector, responder = detector_of(load_bundle(room / "bundle")), NetResponder(room / "bundle", 300)
    rows = step_asset(200, 5).series.rows
    for at in range(WINDOW, 200, 17):
        window = rows[at - WINDOW : at]
        told = responder.forecast(window, {})
        assert isinstance(told, Forecast)
        judged = detector.predict(window_sample(window))[0]
        np.testing.assert_allclose([told.p_down, told.p_flat, told.p_up], judged, atol=1e-5)


@pytest.mark.usefixtures("trained")
def test_it_is_judged_on_an_instrument_that_it_has_not_seen(room: Path) -> None:
    other = write_run(room / "CCC", "CCC", steps=1_300, seed=7)
    judged = ["evaluate", "--model", "flow", "--bundle", str(room / "bundle"), "--folds", "1", "--json"]
    told = _run(*judged, "--data", str(other), "--out", str(room / "other"))
    assert told["model"] == "flow"
    assert len(told["study"]["folds"]) == 2
    assert {"majority", "ordered_logit", "flow_today"} <= set(told["baselines"])


def test_markets_are_left_out_of_what_is_learned_by_option(room: Path, runs: list[str]) -> None:
    asked = ["benchmark", "--target", "direction", *runs, "--model", "logistic", "--against", "majority"]
    where = ["--registry", str(room / "registry"), "--out", str(room / "new"), "--json"]
    told = _run(*asked, "--folds", "1", "--new-assets", *where)
    assert len(told["study"]["folds"]) == 2, "a fold of two assets"
    assert any("on the others alone" in note for note in told["study"]["notes"])
    assert set(told["baselines"]) == {"majority", "ordered_logit", "flow_today"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--target", "weather"], "--target was 'weather': there is regime, direction"),
        (
            ["train", "--target", "direction", "--horizon", "1h"],
            "--horizon was '1h': give a number of steps",
        ),
        (["train", "--target", "regime"], "--data was steps, and --target regime is of bars"),
        (["benchmark"], "--data was steps, and --target regime is of bars"),
        (["evaluate", "--bundle", str(BUNDLES / "regime")], "--data was steps, and --target regime is of bars"),
    ],
)
def test_what_cannot_be_asked_of_steps_is_said(arguments: list[str], message: str, room: Path, runs: list[str]) -> None:
    where = ["--out", str(room / "refused")]
    with pytest.raises(BadInput, match=message):
        CliRunner().invoke(app, [*arguments, *runs, *where], catch_exceptions=False)


def test_columns_of_an_outlook_are_not_of_steps(room: Path, runs: list[str]) -> None:
    (room / "columns.json").write_text(json.dumps({"columns": ["move"]}))
    given = ["train", "--target", "direction", "--columns", str(room / "columns.json"), *runs]
    with pytest.raises(BadInput, match="--columns are of the regime"):
        CliRunner().invoke(app, given, catch_exceptions=False)


def test_directions_are_not_asked_of_bars(room: Path) -> None:
    bars = write_bars(synthetic_bars(1_000), room / "sim_SIMUSDT_15m.parquet")
    given = ["train", "--target", "direction", "--data", str(bars), "--out", str(room / "bars")]
    with pytest.raises(BadInput, match="--data was bars, and --target direction is of steps"):
        CliRunner().invoke(app, given, catch_exceptions=False)


@pytest.mark.usefixtures("trained")
def test_a_bundle_of_something_else_is_not_judged(room: Path) -> None:
    bundle = load_bundle(room / "bundle")
    other = write_bundle(room / "other bundle", bundle.manifest.model_copy(update={"name": "weather"}), bundle.contents)
    with pytest.raises(BadInput, match="is of weather: models that can be judged are of regime, flow"):
        detector_of(other)
