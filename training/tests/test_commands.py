"""Train, judge, promote and judge again by command, on synthetic bars: what is kept is what was judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from huracan.errors import BadInput
from huracan.inference.bundle import load_bundle
from huracan_training.__main__ import app
from huracan_training.commands.train import settings_of
from huracan_training.detector import detector_of
from huracan_training.registry import Registry

from .market import synthetic_bars, write_bars

QUICK = ["--set", "rounds=12", "--set", "num_leaves=4"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("room")


@pytest.fixture(scope="module")
def bars(room: Path) -> list[str]:
    """Give the option of two files of bars."""
    return [
        part
        for seed, name in enumerate(("sim_AUSDT", "sim_BUSDT"))
        for part in (
            "--data",
            str(write_bars(synthetic_bars(1_800, seed=seed, asset=name), room / f"{name}_15m.parquet")),
        )
    ]


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def trained(room: Path, bars: list[str]) -> dict[str, object]:
    """Train a model, and give what the command says of it."""
    registry = ["--registry", str(room / "registry")]
    told = _run("train", *bars, "--model", "lightgbm", *QUICK, *registry, "--out", str(room / "train"), "--json")
    answer: dict[str, object] = json.loads(told)
    return answer


def test_a_model_is_trained_judged_beside_its_rivals_and_registered(trained: dict[str, object], room: Path) -> None:
    assert (trained["name"], trained["version"], trained["model"]) == ("regime", 1, "lightgbm")
    baselines = trained["baselines"]
    assert isinstance(baselines, dict)
    assert set(baselines) == {"persistence", "hmm", "random_forest"}
    assert (trained["quarantined"] is None) == trained["promoted"]
    assert (room / "train" / "report.html").is_file()


def _fit_to_serve(room: Path) -> str:
    """Register what was trained once more, out of quarantine, and return its version."""
    kept = Registry(str(room / "registry"))
    first = kept.at("regime", 1)
    assert first is not None
    bundle = kept.export(first, room / "first")
    with kept.run("regime") as run:
        return str(kept.register(run, bundle.manifest, bundle.contents).version)


def test_a_champion_serves_is_exported_and_judged_on_what_it_has_not_seen(
    trained: dict[str, object], room: Path, bars: list[str]
) -> None:
    registry, bundle = ["--registry", str(room / "registry")], room / "bundle"
    version = _fit_to_serve(room)
    _run("promote", "regime", version, "--author", "a desk", "--export", str(bundle), *registry, "--json")
    detector = detector_of(load_bundle(bundle))
    assert set(detector.trained_on.until_ns) == {"sim_AUSDT", "sim_BUSDT"}
    other = write_bars(synthetic_bars(1_200, seed=9, asset="sim_CUSDT"), room / "sim_CUSDT_15m.parquet")
    judged = ["evaluate", "--bundle", str(bundle), "--folds", "2", "--json"]
    fresh = json.loads(_run(*judged, "--data", str(other), "--out", str(room / "fresh")))
    again = json.loads(_run(*judged, *bars, "--out", str(room / "again")))
    assert fresh["model"] == again["model"] == "regime"
    assert len(fresh["study"]["folds"]) == 3, "an asset that is new to it is asked about in every fold"
    assert len(again["study"]["folds"]) == 1, "of those it was trained on only the newest bars are left"
    until_ns = max(detector.trained_on.until_ns.values())
    assert again["scores"]["rows"] < fresh["scores"]["rows"]
    assert again["study"]["folds"][0]["test_to_ns"] > until_ns


def test_a_champion_is_judged_beside_its_challenger(trained: dict[str, object], room: Path, bars: list[str]) -> None:
    registry = ["--registry", str(room / "registry")]
    champion = _fit_to_serve(room)
    _run("promote", "regime", champion, *registry)
    later = ["retrain", *bars, "--model", "lightgbm", *QUICK, "--seed", "2", *registry]
    told = json.loads(_run(*later, "--out", str(room / "retrain"), "--json"))
    assert told["version"] > int(champion)
    assert "champion" in told["baselines"]
    assert (room / "retrain" / "bundle").exists() == (told["quarantined"] is None), "what is worse is not exported"


def test_all_models_are_compared_and_a_stopped_benchmark_goes_on(room: Path, bars: list[str]) -> None:
    asked = ["benchmark", *bars, "--model", "logistic", "--against", "persistence", "--folds", "2"]
    more = ["--registry", str(room / "registry"), "--out", str(room / "benchmark"), "--json"]
    first = json.loads(_run(*asked, *more))
    said = {path: path.stat().st_mtime_ns for path in (room / "benchmark" / "said").glob("*.npz")}
    again = json.loads(_run(*asked, *more))
    assert len(said) == 4
    assert {path: path.stat().st_mtime_ns for path in said} == said, "nothing is fitted twice"
    assert again["scores"] == first["scores"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "xgboost"], "model was 'xgboost', left out because"),
        (["train", "--set", "width=wide"], "--set was 'width=wide': give a name and a number"),
        (["train", "--set", "wingspan=3"], "settings of strided_cnn had wingspan"),
        (["evaluate", "--model", "weather"], "--model was 'weather': there is regime"),
        (["evaluate", "--bundle", "/nowhere"], "/nowhere is no model bundle"),
        (["promote", "regime", "99"], "regime has no version 99"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_reason(
    room: Path, bars: list[str], arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HURACAN_REGISTRY", str(room / "registry"))
    given = arguments if arguments[0] == "promote" else [*arguments, *bars]
    with pytest.raises(BadInput, match=message):
        CliRunner().invoke(app, given, catch_exceptions=False)


def test_settings_are_numbers_whole_where_they_are_written_whole() -> None:
    assert settings_of(["width=96", "dropout=0.25", "learning_rate=1e-3"]) == {
        "width": 96,
        "dropout": 0.25,
        "learning_rate": 0.001,
    }
