"""Four nets of order flow, one for the windows of each regime, and one net of them all that is as large together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan.features.order_flow import View
from huracan.features.regimes import REGIMES, Cuts
from huracan.features.routing import MONOLITH, Routes, measured, net_of
from huracan_training.models.inputs import Question, fitted
from huracan_training.models.nets import NetClassifier
from huracan_training.models.order_flow import fit_view, seen_through, with_mirror_images
from huracan_training.models.table import MODELS, Settings, Surroundings, make_model
from huracan_training.samples import WINDOW, Floats, Integers, Sample
from huracan_training.scores import log_losses

MODEL = "distilled_cnn"
"""What each net is: a strided CNN that the ordered logit, fitted on the same windows, has taught."""
WIDTH, MONOLITH_WIDTH = 8, 19
"""Of a specialist and of the monolith: four nets of 1,454 weights beside one of 5,805."""
_CALM, _WILD, _STRAIGHT = 0.2, 0.8, 0.7
"""Quantiles of the training windows (DOMAIN §3)."""
_OWN = 3
"""How many more times a specialist sees a window of its own regime than one of another."""
Said = dict[str, Floats]
"""Probabilities, shape (m, classes), by name of the net."""


@dataclass(frozen=True, slots=True)
class Named:
    """A net with its name."""

    name: str
    net: NetClassifier


class _Fitted:
    """A net that was fitted already, as a teacher."""

    def __init__(self, net: NetClassifier) -> None:
        self.name = net.name
        self._net = net

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Learn nothing more."""

    def predict(self, sample: Sample) -> Floats:
        """Return what the net says."""
        return self._net.predict(sample)


class RoutedNets:
    """One small net for the windows of each regime, and the monolith: fitted on the same rows with the same seed.

    A specialist learns from the windows of all regimes, from those of its own four times as often, with the monolith as
    its teacher: of its own alone it learns a handful of seconds by heart. A regime whose specialist loses no less than
    the monolith on the rows for validation is answered by the monolith, as is one that these, or the rows for training,
    do not have.
    """

    name = "routed_cnn"

    def __init__(self, question: Question, settings: Settings, around: Surroundings) -> None:
        """Take what is asked, and settings and surroundings of all nets.

        Raises BadInput for a setting that they do not have, and surroundings in which they do not see order flow.
        """
        make_model(MODEL, question, settings, around)
        if not around.order_flow:
            raise BadInput(f"{self.name} is of order flow: give it rows of {MICRO.name}")
        self._question = question
        self._settings = settings
        self._around = around
        self.nets: tuple[Named, ...] = ()
        """The monolith first."""
        self._view: View | None = None
        self._routes: Routes | None = None

    @property
    def view(self) -> View:
        """Return how all nets see rows."""
        return fitted(self._view, self.name)

    @property
    def routes(self) -> Routes:
        """Return which net answers which windows."""
        return fitted(self._routes, self.name)

    def fit(self, train: Sequence[Sample], valid: Sequence[Sample], *, seed: int) -> None:
        """Fit the cuts of the regimes, the view and every net; raise BadInput where there is nothing to fit on."""
        horizon = self._question.horizon_bars
        self._view = fit_view(train, horizon)
        cuts = fit_cuts(train)
        moves = {}
        whole = self._net(MONOLITH, MONOLITH_WIDTH, self._around, train, valid, seed)
        found, taught = [whole], replace(self._around, teacher=lambda _question: _Fitted(whole.net))
        for number, regime in enumerate(REGIMES):
            learned, judged = (of_regime(samples, cuts, number) for samples in (train, valid))
            moves[regime] = fit_view(learned or train, horizon).moves_bps
            if learned and judged:
                found.append(self._net(net_of(regime), WIDTH, taught, [*train, *learned * _OWN], judged, seed))
        self.nets = tuple(found)
        self._routes = Routes(cuts=cuts, nets=dict.fromkeys(REGIMES, MONOLITH), moves_bps=moves)
        self._routes = self.routes.model_copy(update={"nets": self._chosen(valid)})

    def _net(
        self,
        name: str,
        width: int,
        around: Surroundings,
        train: Sequence[Sample],
        valid: Sequence[Sample],
        seed: int,
    ) -> Named:
        net = MODELS[MODEL].make(self._question, {**self._settings, "width": width}, around)
        if not isinstance(net, NetClassifier):
            raise TypeError(f"{MODEL} is a net that is none")
        net.fit(with_mirror_images(self.view, train), with_mirror_images(self.view, valid), seed=seed)
        return Named(name, net)

    def _chosen(self, valid: Sequence[Sample]) -> dict[str, str]:
        said = [self.said(sample) for sample in valid]
        losses = {
            each.name: np.concatenate(
                [log_losses(sample.labels, told[each.name]) for sample, told in zip(valid, said, strict=True)]
            )
            for each in self.nets
        }
        return chosen(losses, np.concatenate([regimes_of(sample, self.routes.cuts) for sample in valid]))

    def of_net(self, net: str, train: Sequence[Sample]) -> Sequence[Sample]:
        """Return windows of the kind that a net answers, of the samples that all were fitted on."""
        own = [number for number, regime in enumerate(REGIMES) if net_of(regime) == net]
        return of_regime(train, self.routes.cuts, own[0]) if own else train

    def said(self, sample: Sample) -> Said:
        """Return what each net says at all positions, whatever their regime."""
        seen = seen_through(self.view, sample)
        return {each.name: each.net.predict(seen) for each in self.nets}

    def predict(self, sample: Sample) -> Floats:
        """Return what the net of each window's regime says of it."""
        return routed(self.said(sample), regimes_of(sample, self.routes.cuts), self.routes.nets)


def fit_cuts(train: Sequence[Sample]) -> Cuts:
    """Return the cuts of the regimes of windows, quantiles over those of all samples; raise BadInput for none."""
    told = np.array([each for sample in train for each in _measures(sample) if each is not None]).reshape(-1, 2)
    if not len(told):
        raise BadInput("train had no window whose mids are all known: nothing says what regimes are")
    calm, wild = np.quantile(told[:, 0], (_CALM, _WILD))
    return float(calm), float(wild), float(np.quantile(told[:, 1], _STRAIGHT))


def regimes_of(sample: Sample, cuts: Cuts) -> Integers:
    """Return the number of the regime of the window at each position, shape (m,), told as it is when it is served."""
    nowhere = dict.fromkeys(REGIMES, (0.0, 0.0, 0.0))
    routes = Routes(cuts=cuts, nets=dict.fromkeys(REGIMES, MONOLITH), moves_bps=nowhere)
    rows = sample.series.rows
    told = [routes.regime(rows[at - WINDOW + 1 : at + 1]) for at in sample.at]
    return np.array(told, dtype=np.int64).reshape(len(told))


def _measures(sample: Sample) -> list[tuple[float, float] | None]:
    rows = sample.series.rows
    return [measured(rows[at - WINDOW + 1 : at + 1]) for at in sample.at]


def of_regime(samples: Sequence[Sample], cuts: Cuts, regime: int) -> list[Sample]:
    """Return samples with the positions of one regime alone; those with none are left out."""
    found = []
    for sample in samples:
        of = regimes_of(sample, cuts) == regime
        if of.any():
            found.append(replace(sample, at=sample.at[of], labels=sample.labels[of]))
    return found


def chosen(losses: Mapping[str, Floats], regimes: Integers) -> dict[str, str]:
    """Return the net of each regime: its own where that one loses less than the monolith on rows of the regime.

    Losses are by name of the net, shape (m,), as the regimes of the rows. Without a row, or a net, it is the monolith.
    """
    found = dict.fromkeys(REGIMES, MONOLITH)
    for number, regime in enumerate(REGIMES):
        own, of = net_of(regime), regimes == number
        if own in losses and of.any() and losses[own][of].mean() < losses[MONOLITH][of].mean():
            found[regime] = own
    return found


def routed(said: Said, regimes: Integers, nets: Mapping[str, str]) -> Floats:
    """Return the row of the net of each window's regime, shape (m, classes); of UNKNOWN the monolith's."""
    found = said[MONOLITH].copy()
    for number, regime in enumerate(REGIMES):
        of = regimes == number
        found[of] = said[nets[regime]][of]
    return found
