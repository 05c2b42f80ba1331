"""What is asked of rows of each kind: a target and how far it looks ahead, how rows are seen, and what is beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huracan.clock import STEP_NS
from huracan.errors import BadInput
from huracan_training.datasets import FEATURE_SETS, Dataset, Kind, build
from huracan_training.evaluation import RIVALS
from huracan_training.labels import HORIZON_BARS, HORIZONS_STEPS, TARGETS
from huracan_training.models.inputs import Question
from huracan_training.models.loop import LoopSettings
from huracan_training.models.order_flow import COLUMNS
from huracan_training.models.ordered_logit import OrderedLogit
from huracan_training.models.outlook import NAMES
from huracan_training.models.table import Settings, Surroundings
from huracan_training.samples import WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked of rows of one kind, and how."""

    name: str
    """What the answers are for: of its bundles, and of its trials in the registry."""
    target: str
    kind: Kind
    horizon: int
    """Rows that labels look ahead, where nobody says otherwise."""
    horizons: Mapping[str, int] = field(default_factory=dict)
    """Those that have a name."""
    model: str
    """That is trained where none is named."""
    settings: Mapping[str, Settings] = field(default_factory=dict)
    """By model, where they are not the model's own."""
    columns: tuple[str, ...]
    """That models are fed."""
    around: Surroundings
    splits: Mapping[str, Any] = field(default_factory=dict)
    """Of `walk_forward`."""
    folds: int = 5
    """Walk forward, where nobody says otherwise."""
    rivals: tuple[str, ...]
    """Registered models beside which every model is judged."""

    caution: str
    """What whoever reads its scores must know."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes of its target."""
        return TARGETS[self.target].classes

    @property
    def features(self) -> Any:
        """Return the feature set of its rows."""
        return FEATURE_SETS[self.kind]

    def question(self, horizon: int) -> Question:
        """Return what is asked of every model."""
        return Question(classes=len(self.classes), horizon_bars=horizon)

    def settings_of(self, model: str, given: Settings) -> Settings:
        """Return the settings of a model with those that are given on top."""
        return {**self.settings.get(model, {}), **given}

    def rows(self, horizon: str | None) -> int:
        """Return the rows of a horizon: by its name, or a number of them; raise BadInput for anything else."""
        if horizon is None:
            return self.horizon
        if horizon in self.horizons:
            return self.horizons[horizon]
        if not horizon.isdecimal() or not int(horizon):
            named = ", ".join(self.horizons)
            raise BadInput(f"--horizon was {horizon!r}: give a number of {self.kind}{f', or {named}' if named else ''}")
        return int(horizon)


_NARROW: Settings = {
    "width": 16,
    "dropout": 0.3,
    "learning_rate": 2e-3,
    "weight_decay": 0.03,
    "averaging": 0.95,
    "noise": 0.3,
    "largest_batch": 256,
}
"""Of a net for minutes of data: small, and never shown the same window twice."""

REGIME = Task(
    name="regime",
    target="regime",
    kind=Kind.BARS,
    horizon=HORIZON_BARS,
    model="distilled_cnn",
    columns=NAMES,
    around=Surroundings(outlook=True, loop=LoopSettings(steps_per_epoch=100, patience=8, plateau_patience=3)),
    rivals=RIVALS,
    caution="It says nothing about direction.",
)
FLOW = Task(
    name="flow",
    target="direction",
    kind=Kind.STEPS,
    horizon=HORIZONS_STEPS["1s"],
    horizons=HORIZONS_STEPS,
    model="distilled_cnn",
    settings={
        "strided_cnn": _NARROW,
        "distilled_cnn": {**_NARROW, "taught": 0.95},
        "causal_tcn": {**_NARROW, "width": 12, "depth": 4},
    },
    columns=COLUMNS,
    around=Surroundings(
        order_flow=True,
        loop=LoopSettings(epochs=20, batch=128, steps_per_epoch=25, patience=5, plateau_patience=2),
        teacher=lambda question: OrderedLogit(question, COLUMNS),
    ),
    splits={"embargo_ns": WINDOW * STEP_NS, "valid_share": 0.25},
    folds=4,
    rivals=("majority", "persistence", "logistic", "random_forest", "lightgbm"),
    caution="Recordings are of minutes: a handful of independent moves of one asset. Nothing here says that it holds "
    "on another day, and the moves that it expects are far below what trading costs.",
)
TASKS: Mapping[str, Task] = {task.target: task for task in (REGIME, FLOW)}
"""By target."""
OF_NAME: Mapping[str, Task] = {task.name: task for task in TASKS.values()}
OF_KIND: Mapping[Kind, Task] = {task.kind: task for task in TASKS.values()}


def task_of(target: str) -> Task:
    """Return the task of a target; raise BadInput for a target that no model is trained on."""
    if target not in TASKS:
        raise BadInput(f"--target was {target!r}: there is {', '.join(TASKS)}")
    return TASKS[target]


def asked_of(task: Task, data: Sequence[Path], directory: Path) -> Dataset:
    """Return the dataset of some sources, built into a directory; raise BadInput for one that is not of the task."""
    dataset = build(data, directory)
    if dataset.manifest.kind is not task.kind:
        raise BadInput(f"--data was {dataset.manifest.kind}, and --target {task.target} is of {task.kind}")
    return dataset
