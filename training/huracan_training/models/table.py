"""Every model by name: registered with what it is for, or left out with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from huracan.errors import BadInput
from huracan_training.models.baselines import Majority, MarkovChain, Persistence
from huracan_training.models.boosting import Boosting, BoostingSettings
from huracan_training.models.forest import Forest
from huracan_training.models.hmm import FilteredHmm, HmmSettings
from huracan_training.models.inputs import Question
from huracan_training.models.kalman import KalmanHmm
from huracan_training.models.linear import Logistic
from huracan_training.models.loop import LoopSettings, Watch
from huracan_training.models.nets import BuildNet, CausalTcn, LstmNet, NetClassifier, NetSettings, StridedCnn
from huracan_training.models.order_flow import OrderFlow
from huracan_training.models.outlook import NAMES, Outlooked
from huracan_training.models.tuning import Between, Space
from huracan_training.samples import Classifier
from huracan_training.scaling import Method

S = TypeVar("S", BoostingSettings, LoopSettings, NetSettings, HmmSettings)
Settings = Mapping[str, float | int]
TEACHER = "lightgbm"
_STRIDED = NetSettings(width=64, depth=3, dropout=0.25)
_GENTLE: Settings = {
    "learning_rate": 2e-3,
    "weight_decay": 0.03,
    "averaging": 0.99,
    "noise": 0.05,
    "largest_batch": 256,
}
"""Of a student: labels of windows that overlap are learned by heart within few epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a model is given besides the question."""

    outlook: bool = False
    """Whether rows are of `bar`, and models are to see an outlook in their place."""
    columns: tuple[str, ...] = NAMES
    """Of the outlook, those that models are fed."""
    teacher: Callable[[Question], Classifier] | None = None
    """Makes whom a net learns from that has a teacher, in place of its own."""
    order_flow: bool = False
    """Whether rows are of `micro`, and models are to see a view of them, and its mirror image."""
    loop: LoopSettings = field(default_factory=LoopSettings)
    """How nets are trained."""
    room: Path | None = None
    """Where a net keeps its checkpoint and what helped after a fault; None for nowhere."""
    watch: Watch | None = None

    @property
    def scaling(self) -> Method:
        """Return how rows are to be scaled."""
        return Method.AS_IS if self.outlook or self.order_flow else Method.STANDARD


Make = Callable[[Question, Settings, Surroundings], Classifier]


BOUNDS: Mapping[str, Between] = {
    "averaging": Between(0, 0.9999),
    "bagging_fraction": Between(0.01, 1),
    "batch": Between(1, 65_536, whole=True),
    "checkpoint_steps": Between(1, 1_000_000, whole=True),
    "class_weight_power": Between(0, 1),
    "clip_norm": Between(1e-6, 1e6),
    "depth": Between(1, 12, whole=True),
    "dropout": Between(0, 0.95),
    "epochs": Between(1, 100_000, whole=True),
    "exploding_norm": Between(1e-6, 1e12),
    "feature_fraction": Between(0.01, 1),
    "grow_after": Between(1, 100_000, whole=True),
    "half_life_bars": Between(1, 1e9),
    "inverse_penalty": Between(1e-9, 1e9),
    "iterations": Between(1, 10_000, whole=True),
    "lambda_l2": Between(0, 1e6),
    "largest_batch": Between(1, 65_536, whole=True),
    "learning_rate": Between(1e-8, 1),
    "least_leaf": Between(1, 100_000, whole=True),
    "least_share": Between(0, 0.5),
    "max_bars": Between(100, 100_000_000, whole=True),
    "max_bin": Between(2, 65_535, whole=True),
    "min_data_in_leaf": Between(1, 1_000_000, whole=True),
    "noise": Between(0, 10),
    "num_leaves": Between(2, 10_000, whole=True),
    "patience": Between(1, 100_000, whole=True),
    "plateau_factor": Between(0.01, 0.99),
    "plateau_patience": Between(0, 100_000, whole=True),
    "restarts": Between(1, 1_000, whole=True),
    "rounds": Between(1, 100_000, whole=True),
    "steps_per_epoch": Between(1, 1_000_000, whole=True),
    "taught": Between(0, 1),
    "trees": Between(1, 10_000, whole=True),
    "weight_decay": Between(0, 10),
    "width": Between(1, 4_096, whole=True),
}
"""What each setting may be at all; what is worth searching is in the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One registered model."""

    name: str
    purpose: str
    make: Make
    sees_rows: bool = False
    """Whether it looks at feature rows, not at returns or labels alone."""
    space: Space = field(default_factory=dict)
    """What can be tuned, by setting."""
    sizes: tuple[type, ...] = ()
    """Settings classes whose fields can be set as well."""
    teacher: str = ""
    """The model that it learns from: that one's settings, with its name and a dot before them, are its own too."""

    @property
    def is_net(self) -> bool:
        """Return whether it is a net, which starts from chance."""
        return LoopSettings in self.sizes

    def settings(self) -> set[str]:
        """Return the names of all settings."""
        taught = {f"{self.teacher}.{name}" for name in MODELS[self.teacher].settings()} if self.teacher else set()
        own = {name for size in self.sizes for name in _names(size) if name in BOUNDS}
        return taught.union(self.space, own)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One model that is not registered."""

    name: str
    reason: str


def _with(settings: S, given: Settings) -> S:
    """Return settings with those of the given ones that are theirs."""
    theirs: dict[str, Any] = {name: value for name, value in given.items() if name in _names(type(settings))}
    return replace(settings, **theirs)


def _checked(model: str, setting: str, value: float) -> float:
    """Return a setting as its model takes it; raise BadInput for one that is out of its bounds."""
    bound = BOUNDS[setting.rpartition(".")[2]]
    if not bound.low <= value <= bound.high or (bound.whole and value != int(value)):
        kind = "a whole number" if bound.whole else "a number"
        raise BadInput(f"{setting} of {model} was {value}; give {kind} from {bound.low:g} to {bound.high:g}")
    return int(value) if bound.whole else value


def _names(settings: type) -> set[str]:
    return {entry.name for entry in fields(settings)}


def _net(name: str, build: BuildNet, size: NetSettings, *, trained: Settings | None = None, teacher: str = "") -> Make:
    """Return what makes a net, of a size, trained with settings of its own beside those it is given."""

    def make(question: Question, settings: Settings, around: Surroundings) -> Classifier:
        return NetClassifier(
            name,
            build,
            question,
            _with(size, settings),
            loop=_with(around.loop, {**(trained or {}), **settings}),
            scaling=around.scaling,
            room=around.room,
            watch=around.watch,
            teacher=_teacher(teacher, question, settings, around) if teacher else None,
        )

    return make


def _teacher(name: str, question: Question, settings: Settings, around: Surroundings) -> Classifier:
    """Return a teacher, with the settings that begin with its name and a dot; raise BadInput where another teaches."""
    start = f"{name}."
    theirs = {key.removeprefix(start): value for key, value in settings.items() if key.startswith(start)}
    if around.teacher is not None:
        teacher = around.teacher(question)
        if theirs:
            raise BadInput(f"{start}{next(iter(theirs))} was set, and {teacher.name} is the teacher here: leave it out")
        return teacher
    return MODELS[name].make(question, theirs, around)


def _boosting(question: Question, settings: Settings, around: Surroundings) -> Classifier:
    return Boosting(question, settings=_with(BoostingSettings(), settings), scaling=around.scaling)


def _forest(question: Question, settings: Settings, around: Surroundings) -> Classifier:
    leaf, trees = settings.get("least_leaf"), int(settings.get("trees", 200))
    return Forest(question, trees=trees, least_leaf=None if leaf is None else int(leaf), scaling=around.scaling)


def _logistic(question: Question, settings: Settings, around: Surroundings) -> Classifier:
    return Logistic(question, inverse_penalty=settings.get("inverse_penalty"), scaling=around.scaling)


def _markov_chain(question: Question, settings: Settings, around: Surroundings) -> Classifier:
    return MarkovChain(question, half_life_bars=settings.get("half_life_bars"))


_NET_SPACE: Space = {
    "width": Between(64, 256, whole=True, log=True),
    "dropout": Between(0.1, 0.5),
    "learning_rate": Between(1e-5, 1e-2, log=True),
}
"""DOMAIN §11."""

_ROWS = (
    ModelRow(
        name="majority",
        purpose="class shares of train: what every forecast must beat",
        make=lambda question, settings, around: Majority(question),
    ),
    ModelRow(
        name="persistence",
        purpose="the newest known label, by how often each class followed it: hard to beat in accuracy",
        make=lambda question, settings, around: Persistence(question),
    ),
    ModelRow(
        name="markov_chain",
        purpose="a chain of known labels with forgetting, stepped over the horizon",
        make=_markov_chain,
        space={"half_life_bars": Between(500, 50_000, log=True)},
    ),
    ModelRow(
        name="logistic",
        purpose="the least model that reads features",
        make=_logistic,
        sees_rows=True,
        space={"inverse_penalty": Between(1e-4, 1, log=True)},
    ),
    ModelRow(
        name="random_forest",
        purpose="the baseline that a detector is judged against",
        make=_forest,
        sees_rows=True,
        space={"least_leaf": Between(5, 500, whole=True, log=True), "trees": Between(100, 400, whole=True)},
    ),
    ModelRow(
        name="lightgbm",
        purpose="boosted trees: the strongest model of tables, with exact attribution",
        make=_boosting,
        sees_rows=True,
        space={
            "learning_rate": Between(0.01, 0.2, log=True),
            "num_leaves": Between(4, 63, whole=True, log=True),
            "min_data_in_leaf": Between(20, 1000, whole=True, log=True),
            "feature_fraction": Between(0.2, 1),
            "lambda_l2": Between(0.01, 100, log=True),
        },
        sizes=(BoostingSettings,),
    ),
    ModelRow(
        name="hmm",
        purpose="filtered hidden Markov model of returns: regimes without features or labels",
        make=lambda question, settings, around: FilteredHmm(question, settings=_with(HmmSettings(), settings)),
        sizes=(HmmSettings,),
    ),
    ModelRow(
        name="kalman_hmm",
        purpose="Kalman trend, and its regimes forecast by a hidden Markov chain",
        make=lambda question, settings, around: KalmanHmm(question, settings=_with(HmmSettings(), settings)),
        sizes=(HmmSettings,),
    ),
    ModelRow(
        name="lstm",
        purpose="the original detector: hidden 128, 2 layers, last step to the classes",
        make=_net("lstm", LstmNet, NetSettings(width=128, depth=2, dropout=0.1)),
        sees_rows=True,
        space=_NET_SPACE,
        sizes=(NetSettings, LoopSettings),
    ),
    ModelRow(
        name="strided_cnn",
        purpose="three convolutions that quarter the window, beside its last row: the fastest net, and fit for INT8",
        make=_net("strided_cnn", StridedCnn, _STRIDED),
        sees_rows=True,
        space=_NET_SPACE,
        sizes=(NetSettings, LoopSettings),
    ),
    ModelRow(
        name="causal_tcn",
        purpose="six dilated causal convolutions that see the whole window, fit for INT8",
        make=_net("causal_tcn", CausalTcn, NetSettings(width=64, depth=6, dropout=0.1)),
        sees_rows=True,
        space=_NET_SPACE,
        sizes=(NetSettings, LoopSettings),
    ),
    ModelRow(
        name="distilled_cnn",
        purpose="strided_cnn that also learns what lightgbm says of the train windows: one net, better than either",
        make=_net("distilled_cnn", StridedCnn, _STRIDED, trained=_GENTLE, teacher=TEACHER),
        sees_rows=True,
        space=_NET_SPACE,
        sizes=(NetSettings, LoopSettings),
        teacher=TEACHER,
    ),
)
MODELS: Mapping[str, ModelRow] = {row.name: row for row in _ROWS}
"""Every registered model by name, simplest first."""

LEFT_OUT = (
    LeftOut(name="xgboost", reason="does what LightGBM does; a second boosting library would tell nothing new"),
    LeftOut(name="smoothed_hmm", reason="smoothed and Viterbi states look at bars after the one they name"),
    LeftOut(name="cnn_lstm_attention", reason="comes later, as a net behind the same interface"),
    LeftOut(name="transformer", reason="comes later, as a net behind the same interface"),
    LeftOut(name="jump_model", reason="comes later, as an observer of returns behind the same interface"),
    LeftOut(name="markov_regression", reason="statsmodels takes a second for a thousand bars: for labels, not here"),
)
"""Every model that is not registered, and why."""


def make_model(
    name: str, question: Question, settings: Settings | None = None, around: Surroundings | None = None
) -> Classifier:
    """Return a new model; raise BadInput for one that is not registered, and a setting or column it does not have."""
    left_out = {entry.name: entry.reason for entry in LEFT_OUT}
    if name in left_out:
        raise BadInput(f"model was {name!r}, left out because: {left_out[name]}")
    if name not in MODELS:
        raise BadInput(f"model was {name!r}; choose one of {', '.join(MODELS)}")
    unknown = set(settings or {}) - MODELS[name].settings()
    if unknown:
        has = ", ".join(sorted(MODELS[name].settings())) or "none"
        raise BadInput(f"settings of {name} had {', '.join(sorted(unknown))}; it has {has}")
    given = {setting: _checked(name, setting, value) for setting, value in (settings or {}).items()}
    row, around = MODELS[name], around or Surroundings()
    if around.columns != NAMES and not row.sees_rows:
        raise BadInput(f"columns of {name} were chosen, which looks at none: leave them out")
    model = row.make(question, given, around)
    return seeing(model, question, around) if row.sees_rows else model


def seeing(model: Classifier, question: Question, around: Surroundings) -> Classifier:
    """Return a model that sees rows as the surroundings have it."""
    if around.outlook:
        return Outlooked(model, question.horizon_bars, around.columns)
    if around.order_flow:
        return OrderFlow(model, question.horizon_bars)
    return model
