"""Whether a net that was made smaller still says what it said: on rows that nothing was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from huracan.inference.probabilities import softmax
from huracan_training.bootstrap import Interval
from huracan_training.chance import generator
from huracan_training.comparisons import compared
from huracan_training.samples import Floats, Integers, Sample
from huracan_training.scores import Scores, log_losses, scored

MOST_F1 = 0.005
"""Macro-F1 that may be lost."""
MOST_LOSS = 0.005
"""Log loss that may be gained, nats."""
_FURTHEST = np.log(10.0)
"""Temperatures are sought from a tenth to ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows to judge by."""

    labels: Integers
    """Shape (m,)."""
    at_ns: Integers
    """When each was asked, shape (m,)."""
    horizon: int
    """How many rows ahead labels look."""

    @classmethod
    def of(cls, samples: Sequence[Sample], horizon: int) -> Rows:
        """Return the positions of samples, one sample after another."""
        return cls(
            labels=np.concatenate([each.labels for each in samples]),
            at_ns=np.concatenate([each.series.close_ns[each.at] for each in samples]),
            horizon=horizon,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How a net differs from the one that it was made from, on the same rows at temperature 1."""

    gain: Interval
    """Log loss that it does not have, nats, mean over rows, by block bootstrap; below zero it loses."""
    macro_f1_lost: float
    mean_deviation: float
    """Mean |p - p'| over rows and classes."""
    largest_deviation: float
    agreement: float
    """Share of rows of the same arg max."""

    def failures(self) -> tuple[str, ...]:
        """Return why it must not serve; empty where it may. What is no number fails."""
        found = []
        if not self.macro_f1_lost <= MOST_F1:
            found.append(f"macro-F1 fell by {self.macro_f1_lost:.4f}, more than {MOST_F1}")
        if not self.gain.value >= -MOST_LOSS:
            found.append(f"log loss rose by {-self.gain.value:.4f} nats, more than {MOST_LOSS}")
        return tuple(found)


def parity(rows: Rows, logits: Floats, reference: Floats, *, seed: int) -> Parity:
    """Return how logits (m, classes) differ from those of the net that they were made from."""
    said, meant = softmax(logits, 1.0), softmax(reference, 1.0)
    losses, others = log_losses(rows.labels, said), log_losses(rows.labels, meant)
    deviations = np.abs(said - meant)
    return Parity(
        gain=_gain(rows, losses, others, generator(seed, "parity")),
        macro_f1_lost=scored(rows.labels, meant).macro_f1 - scored(rows.labels, said).macro_f1,
        mean_deviation=float(deviations.mean()),
        largest_deviation=float(deviations.max()),
        agreement=float((said.argmax(axis=1) == meant.argmax(axis=1)).mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to serve a net."""

    name: str
    bytes: int
    """Of its file."""
    scores: Scores
    """At temperature 1."""
    parity: Parity | None = None
    """None of the net that others are compared with."""

    def metrics(self) -> dict[str, float]:
        """Return its numbers by name, as a manifest keeps them."""
        scores = self.scores
        found = {
            "bytes": float(self.bytes),
            "log_loss": scores.log_loss,
            "macro_f1": scores.macro_f1,
            "ece": scores.ece,
        }
        if self.parity is not None:
            found |= {
                "log_loss_gain": self.parity.gain.value,
                "log_loss_gain_low": self.parity.gain.low,
                "log_loss_gain_high": self.parity.gain.high,
                "macro_f1_lost": self.parity.macro_f1_lost,
                "mean_deviation": self.parity.mean_deviation,
                "largest_deviation": self.parity.largest_deviation,
                "agreement": self.parity.agreement,
            }
        return {f"{self.name}.{key}": value for key, value in found.items()}


def fit_temperature(rows: Rows, logits: Floats, *, seed: int) -> float:
    """Return what logits (m, classes) over it lose least by, in [0.1, 10] (Guo et al. 2017); 1 unless that is certain.

    A temperature that gains less than chance would, by the interval of its gain on these same rows, makes confidences
    worse on others as often as better.
    """

    def losses(log_temperature: float) -> Floats:
        return log_losses(rows.labels, softmax(logits, float(np.exp(log_temperature))))

    found = minimize_scalar(lambda at: losses(at).mean(), bounds=(-_FURTHEST, _FURTHEST), method="bounded")
    gain = _gain(rows, losses(found.x), losses(0.0), generator(seed, "temperature"))
    return float(np.exp(found.x)) if gain.above_zero else 1.0


def _gain(rows: Rows, losses: Floats, others: Floats, chance: np.random.Generator) -> Interval:
    """Return how much less losses (m,) are than others on the same rows, by block bootstrap."""
    return compared(losses, others, rows.at_ns, rows.horizon, chance, baseline="").gain
