"""Models that are kept answer as they did; those that are not are refitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from huracan.errors import BadInput
from huracan_training.models.keeping import read_state, write_state
from huracan_training.models.table import MODELS, make_model
from huracan_training.samples import Kept

from .switching import QUESTION, switching_parts

SMALL: dict[str, dict[str, float | int]] = {
    "lightgbm": {"rounds": 10},
    "hmm": {"restarts": 1, "iterations": 5},
    "kalman_hmm": {"restarts": 1, "iterations": 5},
}
NET: dict[str, float | int] = {"width": 8, "depth": 2, "epochs": 1, "steps_per_epoch": 2}


REFITTED = {"logistic", "random_forest"}


@pytest.mark.parametrize("name", sorted(set(MODELS) - REFITTED))
def test_a_model_that_was_kept_answers_the_same_bytes(name: str, tmp_path: Path) -> None:
    parts = switching_parts(bars=500, step=2)
    settings = SMALL.get(name, NET if name in ("lstm", "strided_cnn", "causal_tcn", "distilled_cnn") else {})
    model, again = make_model(name, QUESTION, settings), make_model(name, QUESTION, settings)
    assert isinstance(model, Kept)
    assert isinstance(again, Kept)
    with pytest.raises(BadInput, match="was not fitted"):
        model.write(tmp_path / "too early")
    model.fit(parts.train, parts.valid, seed=1)
    model.write(tmp_path / "kept")
    again.read(tmp_path / "kept")
    for sample in parts.judged:
        assert again.predict(sample).tobytes() == model.predict(sample).tobytes()


def test_baselines_that_are_refitted_cannot_be_kept() -> None:
    assert {name for name in MODELS if not isinstance(make_model(name, QUESTION), Kept)} == REFITTED


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_what_was_not_kept_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "model.json").write_text(text)
    with pytest.raises(BadInput, match=r"model\.json"):
        read_state(tmp_path)


def test_a_state_is_written_over_whole(tmp_path: Path) -> None:
    write_state(tmp_path, {"a": 1.1})
    write_state(tmp_path, {"a": 0.1 + 0.2})
    assert read_state(tmp_path) == {"a": 0.1 + 0.2}
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
