"""The registry: what was trained, which version serves, and that a quarantined one never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan.inference.bundle import Manifest, load_bundle
from huracan_training.registry import CHALLENGER, CHAMPION, Registry, Version

CONTENTS = {"model.onnx": b"\x08\x01", "card.md": b"# Regime\n"}


def _manifest() -> Manifest:
    return Manifest(
        name="regime",
        version=1,
        model="strided_cnn",
        classes=("High_Volatility", "Low_Volatility", "Trending", "Ranging"),
        feature_set="bar",
        feature_set_digest="0" * 64,
        columns=("log_return",),
        window=64,
        interval_ns=900_000_000_000,
        horizon_steps=16,
        data_digest="1" * 64,
        run_id="none yet",
        metrics={"log_loss": 1.2},
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(str(tmp_path_factory.mktemp("registry")))


def _registered(registry: Registry, quarantined: str | None = None) -> Version:
    with registry.run("regime") as run:
        run.parameters({"hidden": 64})
        run.metrics({"log_loss": 1.2}, step=1)
        run.note("data_digest", "1" * 64)
        return registry.register(run, _manifest(), CONTENTS, quarantined=quarantined)


def test_a_version_is_kept_and_its_bundle_exported_without_mlflow_in_it(registry: Registry, tmp_path: Path) -> None:
    version = _registered(registry)
    registry.export(version, tmp_path / "regime")
    loaded = load_bundle(tmp_path / "regime")
    assert loaded.contents == CONTENTS
    assert (loaded.manifest.version, loaded.manifest.run_id) == (version.version, version.run_id)
    assert registry.at("regime", CHALLENGER) == version


def test_a_challenger_says_which_champion_it_was_up_against(registry: Registry, tmp_path: Path) -> None:
    champion = registry.promote("regime", _registered(registry).version, author="a desk")
    challenger = _registered(registry)
    assert registry.export(challenger, tmp_path / "next").manifest.champion_version == champion.version
    assert registry.at("regime", CHAMPION) == champion
    assert registry.at("regime", CHALLENGER) == challenger


def test_a_quarantined_version_is_kept_but_cannot_be_promoted(registry: Registry) -> None:
    before = registry.at("regime", CHAMPION)
    version = _registered(registry, "log loss against random_forest: 0.01 [-0.02, 0.04]")
    with pytest.raises(BadInput, match=r"quarantined and cannot be promoted: log loss against random_forest"):
        registry.promote("regime", version.version, author="a desk")
    assert registry.at("regime", CHAMPION) == before
    assert registry.at("regime", version.version) == version


def test_what_is_not_there_is_said_by_name(registry: Registry) -> None:
    assert registry.at("no_such_model", CHAMPION) is None
    with pytest.raises(BadInput, match="no_such_model has no version 7"):
        registry.promote("no_such_model", 7, author="a desk")


def test_a_place_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(BadInput, match=r"thesis\.txt cannot be made: File exists"):
        Registry(str(tmp_path / "thesis.txt"))


def test_every_trial_counts_those_that_failed_too(registry: Registry) -> None:
    assert registry.trials("tuning") == 0
    with registry.run("tuning"):
        pass
    with pytest.raises(ZeroDivisionError), registry.run("tuning"):
        _ = 1 / 0
    assert registry.trials("tuning") == 2
