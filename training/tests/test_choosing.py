"""A search loses no trial that has ended, whatever ends it, and the registry counts each once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from huracan_training.choosing import Choice, Search
from huracan_training.datasets import Dataset, build
from huracan_training.models.tuning import Trial
from huracan_training.registry import Registry

from .market import synthetic_bars, write_bars

CHAIN = Choice(model="markov_chain", settings={}, folds=2)


class Interrupting:
    """Count what it is told; stop everything when so many fits have begun."""

    def __init__(self, after: int = 1_000) -> None:
        self.left = after
        self.epochs = 0

    def fitting(self, told: str, done: int, total: int) -> None:
        """Stop everything, as Ctrl-C does, when it is time."""
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def step(self, epoch: int, done: int, steps: int, loss: float) -> None:
        """Do nothing."""

    def epoch(self, epoch: int, train_loss: float, valid_loss: float, batch: int, learning_rate: float) -> None:
        """Count it."""
        self.epochs += 1


Begin = Callable[[Path, Choice, Interrupting], Search]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Give a small dataset of one asset."""
    room = tmp_path_factory.mktemp("market")
    return build([write_bars(synthetic_bars(1_800), room / "sim_AUSDT_15m.parquet")], room / "dataset")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Give an empty registry."""
    return Registry(str(tmp_path_factory.mktemp("registry")))


@pytest.fixture
def begin(dataset: Dataset, registry: Registry, request: pytest.FixtureRequest) -> Begin:
    """Give what begins a search, logged under the name of the test."""

    def begun(room: Path, choice: Choice, walker: Interrupting) -> Search:
        return Search(dataset, choice, registry, experiment=request.node.name, room=room, walker=walker)

    return begun


def test_a_search_that_was_interrupted_ends_as_it_would_have(
    begin: Begin, registry: Registry, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "room", CHAIN, Interrupting(after=5)).run(4)
    assert registry.trials(request.node.name) == 2, "the third was fitted on one of its two folds"
    found = begin(tmp_path / "room", CHAIN, Interrupting(after=4)).run(4)
    assert registry.trials(request.node.name) == 4
    assert found == begin(tmp_path / "other", CHAIN, Interrupting()).run(4)


def test_another_search_takes_nothing_of_the_trials_of_one(begin: Begin, tmp_path: Path) -> None:
    begin(tmp_path, CHAIN, Interrupting()).run(1)
    begin(tmp_path, CHAIN, Interrupting(after=0)).run(1)
    for other in (
        Choice(model="markov_chain", settings={}, folds=1),
        Choice(model="markov_chain", settings={}, seed=2),
    ):
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path, other, Interrupting(after=0)).run(1)


def test_a_trial_that_failed_counts_too(
    begin: Begin, registry: Registry, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    failed = Trial(number=0, settings={"half_life_bars": 600.0}, losses=(1.25,), failure="nothing fits")
    begin(tmp_path, CHAIN, Interrupting()).record(failed)
    assert registry.trials(request.node.name) == 1
    later = begin(tmp_path, CHAIN, Interrupting())
    assert later.recall(0, failed.settings) == failed
    assert later.recall(0, {"half_life_bars": 601.0}) is None


def test_a_search_for_settings_of_a_net_tells_its_epochs(begin: Begin, tmp_path: Path) -> None:
    held = {"width": 8, "depth": 2, "learning_rate": 1e-3, "epochs": 1, "steps_per_epoch": 2}
    watch = Interrupting()
    (trial,) = begin(tmp_path, Choice(model="strided_cnn", settings=held, folds=2), watch).run(1)
    assert set(trial.settings) == {"dropout"}
    assert watch.epochs == len(trial.losses) == 2
