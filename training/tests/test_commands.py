"""Train, judge, promote and judge again by command, on synthetic bars: what is kept is what was judged."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from huracan.errors import BadInput
from huracan.inference.bundle import load_bundle
from huracan_training.__main__ import app
from huracan_training.commands.shown import Shown
from huracan_training.commands.train import options_of, settings_of
from huracan_training.detector import detector_of
from huracan_training.models.boosting import Boosting
from huracan_training.models.outlook import NAMES
from huracan_training.registry import Registry
from huracan_training.retraining import served
from huracan_training.samples import Sample

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


def _train(room: Path, bars: list[str]) -> tuple[dict[str, object], int]:
    """Train a model, and return what the command says of it, and how often it was fitted."""
    fits, fit = 0, Boosting.fit

    def counted(model: Boosting, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        nonlocal fits
        fits += 1
        fit(model, train, valid, seed=seed)

    registry = ["--registry", str(room / "registry")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Boosting, "fit", counted)
        told = _run("train", *bars, "--model", "lightgbm", *QUICK, *registry, "--out", str(room / "train"), "--json")
    return json.loads(told), fits


@pytest.fixture(scope="module")
def trained(room: Path, bars: list[str]) -> dict[str, object]:
    """Train a model, and give what the command says of it."""
    told, fits = _train(room, bars)
    assert fits == 1, "what was judged is what is kept"
    return told


@pytest.fixture(scope="module")
def pruning(room: Path, bars: list[str]) -> dict[str, Any]:
    """Look for columns to leave out, and give what the command says of them."""
    kept = Registry(str(room / "registry"))
    before = kept.trials("regime")
    where = ["--registry", str(room / "registry"), "--out", str(room / "prune"), "--json"]
    asked = ["prune", *bars, "--model", "lightgbm", *QUICK, "--set", "min_data_in_leaf=20", "--folds", "2"]
    told: dict[str, Any] = json.loads(_run(*asked, "--share", "0.3", *where))
    assert kept.trials("regime") == before + 5, "all columns, without the least, and three times without others"
    return told


def test_a_model_is_trained_judged_beside_its_rivals_and_registered(trained: dict[str, object], room: Path) -> None:
    assert (trained["name"], trained["version"], trained["model"]) == ("regime", 1, "lightgbm")
    baselines = trained["baselines"]
    assert isinstance(baselines, dict)
    assert set(baselines) == {"persistence", "hmm", "random_forest"}
    assert (trained["quarantined"] is None) == trained["promoted"]
    assert (room / "train" / "report.html").is_file()


def test_what_was_judged_before_a_stop_is_registered_the_same(
    trained: dict[str, object], room: Path, bars: list[str]
) -> None:
    again, fits = _train(room, bars)
    assert fits == 1, "it was judged before, and only fitted to be kept"
    kept = Registry(str(room / "registry"))
    versions = [kept.at("regime", int(str(told["version"]))) for told in (trained, again)]
    first, second = (kept.export(version, room / "one of two") for version in versions if version)
    assert second.contents == first.contents


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
    assert set(detector.trained_on.seen_ns) == {"sim_AUSDT", "sim_BUSDT"}
    contender, room_of_it = served(detector, "regime"), room / "nowhere"
    assert contender.identity == load_bundle(bundle).digest.hex()
    assert contender.make(room_of_it) is not contender.make(room_of_it), "each fold meets its assets anew"
    other = write_bars(synthetic_bars(1_200, seed=9, asset="sim_CUSDT"), room / "sim_CUSDT_15m.parquet")
    judged = ["evaluate", "--bundle", str(bundle), "--folds", "2", "--json"]
    fresh = json.loads(_run(*judged, "--data", str(other), "--out", str(room / "fresh")))
    again = json.loads(_run(*judged, *bars, "--out", str(room / "again")))
    assert fresh["model"] == again["model"] == "regime"
    assert len(fresh["study"]["folds"]) == 3, "an asset that is new to it is asked about in every fold"
    assert len(again["study"]["folds"]) == 1, "of those it was trained on only the newest bars are left"
    until_ns = max(last_ns for _, last_ns in detector.trained_on.seen_ns.values())
    assert again["scores"]["rows"] < fresh["scores"]["rows"]
    assert again["study"]["folds"][0]["test_to_ns"] > until_ns


def test_a_champion_is_judged_beside_its_challenger_of_fewer_columns(
    trained: dict[str, object], pruning: dict[str, Any], room: Path, bars: list[str]
) -> None:
    registry = ["--registry", str(room / "registry")]
    champion = _fit_to_serve(room)
    _run("promote", "regime", champion, *registry)
    fewer = [name for name in NAMES if name not in pruning["lowest"]["columns"]]
    (room / "fewer.json").write_text(json.dumps({"columns": fewer}))
    chosen = ["--columns", str(room / "fewer.json")]
    later = ["retrain", *bars, "--model", "lightgbm", *QUICK, "--seed", "2", *chosen, *registry]
    told = json.loads(_run(*later, "--out", str(room / "retrain"), "--json"))
    assert told["version"] > int(champion)
    assert "champion" in told["baselines"]
    kept = Registry(str(room / "registry"))
    version = kept.at("regime", told["version"])
    assert version is not None
    bundle = kept.export(version, room / "challenger")
    assert json.loads(bundle.contents["outlook.json"])["columns"] == fewer
    detector_of(bundle)
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


def test_a_search_counts_every_trial_and_goes_on_where_it_was(room: Path, bars: list[str]) -> None:
    kept = Registry(str(room / "registry"))
    before = kept.trials("regime")

    def tuned(trials: int, out: str) -> dict[str, Any]:
        asked = ["tune", *bars, "--model", "markov_chain", "--folds", "2", "--trials", str(trials), "--seed", "3"]
        told: dict[str, Any] = json.loads(
            _run(*asked, "--registry", str(room / "registry"), "--out", str(room / out), "--json")
        )
        return told

    assert tuned(2, "tune")["registered"] == kept.trials("regime") == before + 2
    later = tuned(4, "tune")
    assert kept.trials("regime") == before + 4, "what had ended is not tried again"
    at_once = tuned(4, "at once")
    assert kept.trials("regime") == before + 8
    assert later["trials"] == at_once["trials"]
    losses = [trial["log_loss"] for trial in later["trials"]]
    assert losses == sorted(losses)
    assert later["best"] == later["trials"][0]
    assert settings_of(later["set"][1::2]) == later["best"]["settings"]


def test_columns_to_leave_out_are_told_by_name_beside_what_chance_costs(pruning: dict[str, Any], room: Path) -> None:
    lowest = pruning["lowest"]["columns"]
    assert 0 < len(lowest) <= 0.3 * len(NAMES)
    assert pruning["accepted"] == (pruning["lowest"]["rise"] <= pruning["lowest"]["error"])
    assert pruning["columns"] == [name for name in NAMES if not pruning["accepted"] or name not in lowest]
    assert {len(drop["columns"]) for drop in pruning["random"]} == {len(lowest)}
    matters = pruning["attribution"]
    assert set(matters) == set(NAMES)
    assert list(matters.values()) == sorted(matters.values(), reverse=True)
    assert json.loads((room / "prune" / "pruning.json").read_text()) == pruning


@pytest.mark.parametrize(("stopped", "done"), [(False, "8/8"), (True, "3/8")])
def test_progress_tells_what_is_fitted_and_how_a_net_is_doing(stopped: bool, done: str) -> None:
    written = io.StringIO()
    with suppress(KeyboardInterrupt), Shown(quiet=False, console=Console(file=written, width=160)) as shown:
        shown.fitting("lstm, fold 2, seed 1", 3, 8)
        shown.step(0, 4, 9, 1.5)
        shown.epoch(0, 1.25, 1.375, 64, 1e-3)
        if stopped:
            raise KeyboardInterrupt
    told = written.getvalue()
    assert "lstm, fold 2, seed 1" in told
    assert done in told
    assert "epoch 0, loss 1.2500, valid 1.3750, batch 64" in told
    assert "4/9" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "xgboost"], "model was 'xgboost', left out because"),
        (["train", "--set", "width=wide"], "--set was 'width=wide': give a name and a number"),
        (["train", "--model", "random_forest"], "random_forest is refitted wherever it is asked"),
        (["retrain", "--model", "hmm"], "hmm is refitted wherever it is asked"),
        (["train", "--set", "dropout=2"], "dropout of distilled_cnn was 2; give a number from 0 to 0.95"),
        (["train", "--set", "wingspan=3"], "settings of distilled_cnn had wingspan"),
        (["train", "--horizon", "1000000000000"], "horizon was 1000000000000 steps, and"),
        (["evaluate", "--model", "weather"], "--model was 'weather': there is regime"),
        (["evaluate", "--bundle", "/nowhere"], "/nowhere is no model bundle"),
        (["train", "--columns", "/nowhere.json"], "--columns /nowhere.json names no columns"),
        (["tune", "--model", "majority"], "majority has no settings to search; choose one of markov_chain, logistic"),
        (["tune", "--model", "logistic", "--set", "inverse_penalty=1"], "logistic has no settings to search"),
        (["tune", "--set", "wingspan=3"], "settings of distilled_cnn had wingspan"),
        (["prune", "--model", "hmm"], "hmm looks at no columns, and has none to leave out"),
        (["prune", "--share", "0.01"], "share 0.01 of .* columns left no group to drop"),
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


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("[1]", "names no columns"),
        ("{", "names no columns"),
        ('{"columns": "move"}', "had no list of columns"),
        ('{"columns": []}', "columns were none"),
        ('{"columns": ["move", "wingspan"]}', "columns were wingspan: choose of"),
    ],
)
def test_a_file_that_names_no_columns_is_refused(told: str, message: str, bars: list[str], tmp_path: Path) -> None:
    (tmp_path / "columns.json").write_text(told)
    with pytest.raises(BadInput, match=message):
        CliRunner().invoke(app, ["train", *bars, "--columns", str(tmp_path / "columns.json")], catch_exceptions=False)


def test_settings_are_taken_to_the_last_digit_as_they_are_told() -> None:
    settings = {"width": 96, "dropout": 0.1 + 0.2, "learning_rate": 1e-05, "lambda_l2": 100.0}
    again = settings_of(options_of(settings).split()[1::2])
    assert again == settings
    assert [type(value) for value in again.values()] == [int, float, float, float]


def test_settings_are_numbers_whole_where_they_are_written_whole() -> None:
    assert settings_of(["width=96", "dropout=0.25", "learning_rate=1e-3"]) == {
        "width": 96,
        "dropout": 0.25,
        "learning_rate": 0.001,
    }
