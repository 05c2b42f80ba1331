"""Routed nets beside one net of the same size: judged walk-forward, and as they are served on the newest rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from huracan.config import Config
from huracan.contracts.context import REGIME, Context, regime_state
from huracan.errors import BadInput
from huracan.expert.order_flow import int8_of
from huracan.expert.port import Forecast
from huracan.features.micro import MICRO
from huracan.features.order_flow import FILE as VIEW
from huracan.features.regimes import REGIMES, Cuts
from huracan.features.routing import FILE as ROUTES
from huracan.features.routing import MONOLITH, net_of
from huracan.inference.bundle import Manifest
from huracan.inference.engine import FP32, INT8_CPU, session_of
from huracan.inference.probabilities import as_probabilities, softmax
from huracan_regime.config import RegimeConfig
from huracan_regime.responder import RegimeResponder
from huracan_training.benchmark import final_fold, walk_forward_folds
from huracan_training.chance import generator
from huracan_training.comparisons import compared
from huracan_training.datasets import Dataset
from huracan_training.detector import CARD, TRAINING, TrainedOn, manifest_of, seen_ns
from huracan_training.models.artefacts import logits_of
from huracan_training.models.loop import Watch
from huracan_training.models.nets import NetClassifier, export_onnx
from huracan_training.models.order_flow import COLUMNS, seen_through, with_mirror_images
from huracan_training.models.ordered_logit import OrderedLogit
from huracan_training.models.routed import MODEL, RoutedNets, Said, regimes_of, routed
from huracan_training.models.table import Settings
from huracan_training.optimise.making import calibration
from huracan_training.optimise.parity import Rows, fit_temperature, parity
from huracan_training.optimise.quantising import quantised
from huracan_training.samples import WINDOW, Floats, Integers, Sample
from huracan_training.scores import Mask, log_losses, scored
from huracan_training.tasks import FLOW
from huracan_training.walk import Labelled

NAME = "experts"
"""Of the bundle."""
ALL = "all"
"""Rows of whatever regime, in tables."""
ROUTED, SPECIALISTS, FORMULA, TODAY, TODAY_BY_WINDOW = (
    "routed",
    "specialists",
    "ordered_logit",
    "today",
    "today_by_window",
)
MODELS: Mapping[str, str] = {
    ROUTED: "one of four nets, or the monolith where that one was better on the rows for validation",
    SPECIALISTS: "always one of four nets",
    MONOLITH: "one net of as many weights as the four",
    FORMULA: "the formula of the flow expert, fitted on the same rows",
    TODAY: "the specialists that are set in the regime expert, by the regime of the bar, High_Volatility all along",
    TODAY_BY_WINDOW: "the same, by the regime of the window",
}
"""Who is compared."""
COMPARED = ((ROUTED, MONOLITH), (SPECIALISTS, MONOLITH), (ROUTED, TODAY), (MONOLITH, TODAY), (ROUTED, FORMULA))
"""Whose gains are told, over whom."""
_CHOSEN = (
    "How the four are taught was chosen of three ways with the scores of all these recordings in sight, the newest "
    "rows too:\n  what is said of them is no test of that choice. `today` has constants that were fitted on one of "
    "these recordings."
)
_OF_THE_BARS = REGIMES[0]
"""The detector's regime at the time of the recordings that there are."""


class Gain(Config):
    """How much less one loses than another on the same rows, nats, with its interval at 95 %."""

    value: float
    low: float
    high: float


class Group(Config):
    """Rows of one regime, or of all."""

    rows: int
    log_loss: dict[str, float]
    gains: dict[str, Gain]
    """By `<one> over <another>`."""


class Report(Config):
    """What was found."""

    data_digest: str
    horizon_steps: int
    weights: dict[str, int]
    """Of each net."""
    cuts: Cuts
    nets: dict[str, str]
    """Which net answers, by regime."""
    seeds: int
    folds: int
    own_net: dict[str, int]
    """In how many of the walk-forward fits a regime was answered by its own net."""
    walk_forward: dict[str, Group]
    """By regime, FP32, the mean of the seeds."""
    newest: dict[str, Group]
    """By regime, as it is served."""
    temperature: float
    log_loss: float
    macro_f1: float
    ece: float
    brier: float
    """Of what is served, on the newest rows."""
    int8_gain: Gain
    """Of INT8 over FP32, both at temperature 1."""
    int8_mean_deviation: float
    int8_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What models lost on rows, nats."""

    at_ns: Integers
    regimes: Integers
    losses: Mapping[str, Floats]
    """By model, shape (m,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A bundle of routed nets, and how it was judged."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How routed nets are trained and judged."""

    horizon: int
    """Steps that labels look ahead."""
    seeds: int = 3
    """Of the walk-forward fits; the first is served."""
    folds: int = FLOW.folds
    settings: Settings = field(default_factory=dict)
    """Of every net, on top of those of the flow expert's."""
    watch: Watch | None = None

    def fitted(self, fold: Labelled, seed: int) -> RoutedNets:
        """Return routed nets that were fitted on a fold; raise BadInput for a setting that they do not have."""
        around = replace(FLOW.around, watch=self.watch)
        model = RoutedNets(FLOW.question(self.horizon), FLOW.settings_of(MODEL, self.settings), around)
        model.fit(fold.samples.train, fold.samples.valid, seed=seed)
        return model


def made(dataset: Dataset, recipe: Recipe) -> Made:
    """Return routed nets as they are served, judged beside the monolith.

    Walk-forward from several seeds in FP32, and on the newest rows from the first one in INT8. Same data: same bytes.
    Raises BadInput for data that leave nothing to learn from, and where INT8 does not say what FP32 said.
    """
    horizon = recipe.horizon
    walked, own = _walked(dataset, recipe)
    fold = final_fold(dataset, horizon)
    model = recipe.fitted(fold, 1)
    files = _files(model, fold)
    temperature = fit_temperature(
        Rows.of(fold.samples.valid, horizon), _logits(model, files, fold.samples.valid, INT8_CPU), seed=1
    )
    tests = fold.samples.test
    rows, logits = Rows.of(tests, horizon), _logits(model, files, tests, INT8_CPU)
    differs = parity(rows, logits, _logits(model, files, tests, FP32), seed=1)
    if differs.failures():
        raise BadInput(f"the gate is closed, nothing is written: {'; '.join(differs.failures())}")
    served = scored(rows.labels, softmax(logits, temperature))
    newest = _lost(model, fold, horizon, lambda sample: _said(model, files, sample, temperature))
    gain = differs.gain
    report = Report(
        data_digest=dataset.digest,
        horizon_steps=horizon,
        weights={each.name: sum(values.numel() for values in each.net.net.parameters()) for each in model.nets},
        cuts=model.routes.cuts,
        nets=model.routes.nets,
        seeds=recipe.seeds,
        folds=recipe.folds,
        own_net=own,
        walk_forward=_groups(walked, horizon),
        newest=_groups(newest, horizon),
        temperature=temperature,
        log_loss=served.log_loss,
        macro_f1=served.macro_f1,
        ece=served.ece,
        brier=served.brier,
        int8_gain=Gain(value=gain.value, low=gain.low, high=gain.high),
        int8_mean_deviation=differs.mean_deviation,
        int8_agreement=differs.agreement,
    )
    manifest = manifest_of(model.name, COLUMNS, dataset, horizon, metrics_of(report))
    seen = TrainedOn(
        target=FLOW.target, seen_ns=seen_ns([*fold.samples.train, *fold.samples.valid], horizon)
    ).canonical_json()
    told = {
        VIEW: model.view.canonical_json().encode(),
        ROUTES: model.routes.canonical_json().encode(),
        TRAINING: seen.encode(),
        CARD: card_of(report).encode(),
    }
    return Made(
        manifest=manifest.model_copy(update={"name": NAME, "temperature": temperature}),
        contents={**files, **told},
        report=report,
    )


def metrics_of(report: Report) -> dict[str, float]:
    """Return the numbers of a report that a manifest keeps, by name."""
    found = {name: getattr(report, name) for name in ("log_loss", "macro_f1", "ece", "brier")}
    found |= {f"{net}.weights": float(count) for net, count in report.weights.items()}
    for judged, groups in (("walk_forward", report.walk_forward), ("newest", report.newest)):
        for regime, group in groups.items():
            found |= {f"{judged}.{regime}.{name}": group.log_loss[name] for name in (ROUTED, SPECIALISTS, MONOLITH)}
            for one, other in COMPARED[:2]:
                gain = group.gains[f"{one} over {other}"]
                found |= {f"{judged}.{regime}.{one}.gain_{end}": getattr(gain, end) for end in ("low", "high")}
    return found


def _walked(dataset: Dataset, recipe: Recipe) -> tuple[Lost, dict[str, int]]:
    """Return what models lost on the walk-forward folds, mean of the seeds, and how often a regime had its own net."""
    parts, own = [], dict.fromkeys(REGIMES, 0)
    for fold in walk_forward_folds(dataset, recipe.folds, recipe.horizon):
        found = []
        for seed in range(1, recipe.seeds + 1):
            model = recipe.fitted(fold, seed)
            found.append(_lost(model, fold, recipe.horizon, model.said))
            for regime in REGIMES:
                own[regime] += model.routes.nets[regime] != MONOLITH
        losses = {name: np.mean([each.losses[name] for each in found], axis=0) for name in MODELS}
        parts.append(replace(found[0], losses=losses))
    return _together(parts), own


def _lost(model: RoutedNets, fold: Labelled, horizon: int, said: Callable[[Sample], Said]) -> Lost:
    formula = OrderedLogit(FLOW.question(horizon), MICRO.names)
    formula.fit(fold.samples.train, fold.samples.valid, seed=1)
    parts = []
    for sample in fold.samples.test:
        regimes, told = regimes_of(sample, model.routes.cuts), said(sample)
        own = {regime: net_of(regime) if net_of(regime) in told else MONOLITH for regime in REGIMES}
        answers = {
            ROUTED: routed(told, regimes, model.routes.nets),
            SPECIALISTS: routed(told, regimes, own),
            MONOLITH: told[MONOLITH],
            FORMULA: formula.predict(sample),
            TODAY: _today(sample, np.full(len(regimes), REGIMES.index(_OF_THE_BARS))),
            TODAY_BY_WINDOW: _today(sample, regimes),
        }
        losses = {name: log_losses(sample.labels, answer) for name, answer in answers.items()}
        parts.append(Lost(at_ns=sample.series.close_ns[sample.at], regimes=regimes, losses=losses))
    return _together(parts)


def _today(sample: Sample, regimes: Integers) -> Floats:
    """Return what the specialists of the regime expert that are set by hand say of windows of these regimes."""
    responder, rows = RegimeResponder(RegimeConfig()), sample.series.rows
    contexts = [Context(regime=regime_state(shares={name: 1.0}, volatility=0.0, bars=0)) for name in REGIMES]
    found = []
    for at, regime in zip(sample.at, regimes, strict=True):
        told = responder.forecast(rows[at - WINDOW + 1 : at + 1], {REGIME: contexts[regime]})
        found.append([told.p_down, told.p_flat, told.p_up] if isinstance(told, Forecast) else [1.0, 1.0, 1.0])
    return as_probabilities(np.array(found))


def _together(parts: Sequence[Lost]) -> Lost:
    return Lost(
        at_ns=np.concatenate([each.at_ns for each in parts]),
        regimes=np.concatenate([each.regimes for each in parts]),
        losses={name: np.concatenate([each.losses[name] for each in parts]) for name in MODELS},
    )


def _groups(lost: Lost, horizon: int) -> dict[str, Group]:
    """Return what was lost of each regime and of all, with the gains."""
    chosen = {ALL: np.ones(len(lost.regimes), dtype=np.bool_)}
    chosen |= {regime: lost.regimes == number for number, regime in enumerate(REGIMES)}
    return {name: _group(lost, of, horizon, name) for name, of in chosen.items() if of.any()}


def _group(lost: Lost, of: Mask, horizon: int, name: str) -> Group:
    gains = {}
    for one, other in COMPARED:
        found = compared(
            lost.losses[one][of],
            lost.losses[other][of],
            lost.at_ns[of],
            horizon,
            generator(1, f"{name} {one} {other}"),
            baseline=other,
        ).gain
        gains[f"{one} over {other}"] = Gain(value=found.value, low=found.low, high=found.high)
    log_loss = {model: float(lost.losses[model][of].mean()) for model in MODELS}
    return Group(rows=int(of.sum()), log_loss=log_loss, gains=gains)


def _files(model: RoutedNets, fold: Labelled) -> dict[str, bytes]:
    """Return every net as ONNX in FP32 and INT8, ranges told from windows that it was trained on."""
    found = {}
    for each in model.nets:
        learned = with_mirror_images(model.view, model.of_net(each.name, fold.samples.train))
        plain = _exported(each.net)
        found[f"{each.name}.{FP32}"] = plain
        found[int8_of(each.name)] = quantised(plain, calibration(each.net.fed(learned), seed=1), INT8_CPU)
    return found


def _exported(net: NetClassifier) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / FP32
        export_onnx(net.net, len(COLUMNS), file)
        return file.read_bytes()


def _net_logits(model: RoutedNets, files: Mapping[str, bytes], sample: Sample, artefact: str) -> Said:
    seen = seen_through(model.view, sample)
    return {
        each.name: logits_of(session_of(files[f"{each.name}.{artefact}"]), each.net.fed([seen])) for each in model.nets
    }


def _logits(model: RoutedNets, files: Mapping[str, bytes], samples: Sequence[Sample], artefact: str) -> Floats:
    """Return the logits of the net that answers each window, shape (m, classes)."""
    return np.concatenate(
        [
            routed(_net_logits(model, files, each, artefact), regimes_of(each, model.routes.cuts), model.routes.nets)
            for each in samples
        ]
    )


def _said(model: RoutedNets, files: Mapping[str, bytes], sample: Sample, temperature: float) -> Said:
    told = _net_logits(model, files, sample, INT8_CPU)
    return {name: softmax(logits, temperature) for name, logits in told.items()}


def card_of(report: Report) -> str:
    """Return the card of a bundle."""
    loaded = [name for name in (MONOLITH, *map(net_of, REGIMES)) if name in report.weights]
    weights = ", ".join(f"{name} {report.weights[name]:,}" for name in loaded)
    answered = "\n".join(f"- {regime}: {report.nets[regime]}" for regime in REGIMES)
    own = ", ".join(f"{regime} {report.own_net[regime]}" for regime in REGIMES)
    names = "\n".join(f"- `{name}`: {told}." for name, told in MODELS.items())
    calm, wild, straight = report.cuts
    gain = report.int8_gain
    return f"""# {NAME}: routed nets

Tell the direction of the next {report.horizon_steps} steps from a window of 64: down, flat, up. One small net for the
windows of each regime, and one net of all that is as large as the four together; of a window one of them is asked.

- Regime of a window, by its own mids: High_Volatility above {wild:.3f} bps over its 64 steps, Low_Volatility below
  {calm:.3f}, else Trending where a straight line through the mids has R^2 above {straight:.3f}, else Ranging:
  quantiles of the training windows. It is not the regime of the bars: the recordings lie within one of 15 minutes.
- Every net is a strided CNN of the columns of the flow expert. The ordered logit has taught the monolith; the
  monolith has taught the four, which saw windows of their own regime four times as often as those of the others.
- Weights: {weights}.
- Data {report.data_digest[:12]}. {FLOW.caution}
- {_CHOSEN}

Who answers, by the rows for validation: a regime's own net where it lost less than the monolith, else the monolith.

{answered}

- In {report.folds * report.seeds} walk-forward fits a regime had its own net: {own}.

As it is served: INT8, confidences over a temperature of {report.temperature:.3f}, told from the rows for validation.

- Log loss {report.log_loss:.4f} nats, Brier {report.brier:.4f}, macro-F1 {report.macro_f1:.3f}, ECE {report.ece:.3f}.
- INT8 over FP32: {gain.value:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}], mean change of p
  {report.int8_mean_deviation:.4f}, same arg max {report.int8_agreement:.2%}.

{names}

Log loss in nats, {report.folds} walk-forward folds, FP32, mean of {report.seeds} seeds:

{_table(report.walk_forward)}

The newest rows, INT8 as it is served, seed 1:

{_table(report.newest)}

Gains in log loss, with 95 % block-bootstrap intervals; above 0 the first is better. Walk-forward:

{_gains(report.walk_forward)}

The newest rows:

{_gains(report.newest)}
"""


def _in_order(groups: Mapping[str, Group]) -> list[tuple[str, Group]]:
    return [(name, groups[name]) for name in (ALL, *REGIMES) if name in groups]


def _table(groups: Mapping[str, Group]) -> str:
    lines = [f"| regime | rows | {' | '.join(MODELS)} |", "|---" * (len(MODELS) + 2) + "|"]
    for name, group in _in_order(groups):
        told = " | ".join(f"{group.log_loss[model]:.4f}" for model in MODELS)
        lines.append(f"| {name} | {group.rows:,} | {told} |")
    return "\n".join(lines)


def _gains(groups: Mapping[str, Group]) -> str:
    names = [f"{one} over {other}" for one, other in COMPARED]
    lines = [f"| regime | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, group in _in_order(groups):
        told = (group.gains[each] for each in names)
        lines.append(f"| {name} | {' | '.join(f'{g.value:+.3f} [{g.low:+.3f}, {g.high:+.3f}]' for g in told)} |")
    return "\n".join(lines)
