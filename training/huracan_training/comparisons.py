"""Whether one model is better than another, and whether that is enough to promote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from huracan.errors import BadInput
from huracan_training.bootstrap import HORIZONS, REPLICATES, Interval, bootstrapped, by_time, mean_block
from huracan_training.samples import Floats, Integers

MUST_BEAT = ("random_forest", "persistence")
"""Baselines without which a model stays in quarantine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How much less a model loses than a baseline on the same rows; above zero the model is better."""

    baseline: str
    asset: str
    """Of which asset; empty for all together."""
    rows: int
    times: int
    """Distinct times: what is resampled."""
    block: float
    """Mean rows of a block."""
    gain: Interval
    """Baseline's loss minus the model's, mean over rows, in the loss's unit (nats for log loss)."""
    skill: float
    """Gain over the baseline's loss."""
    dm: float
    """Diebold-Mariano statistic, above zero where the model is better."""
    p: float
    """Two-sided p of the Diebold-Mariano statistic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a model may be promoted, and why not."""

    promoted: bool
    reasons: tuple[str, ...]
    """One sentence for each condition, the failed ones first."""


def compared(
    model_losses: Floats,
    baseline_losses: Floats,
    at_ns: Integers,
    horizon: int,
    generator: np.random.Generator,
    *,
    baseline: str,
    asset: str = "",
    replicates: int = REPLICATES,
) -> Comparison:
    """Return the gain of a model over a baseline on the same rows, with a paired interval.

    Losses and times have shape (m,). Times are resampled in blocks (Politis and Romano 1994) of mean length
    max(times^(1/3), 4 horizons), so that what assets share and what labels share in time is not counted as evidence
    twice. Raise BadInput where the shapes differ or nothing was scored.
    """
    if not (model_losses.shape == baseline_losses.shape == at_ns.shape) or not at_ns.size:
        raise BadInput(
            f"losses {model_losses.shape}, {baseline_losses.shape} of {baseline} and times {at_ns.shape} do not match; "
            "score both models on the same rows"
        )
    gains = baseline_losses - model_losses
    times, sums = by_time(at_ns, gains[:, None])
    block = mean_block(times.size, horizon)
    gain = bootstrapped(sums, lambda each: each[:, 0] / each[:, 1], block, generator, replicates=replicates)
    statistic, p = diebold_mariano(sums[:, 0] / sums[:, 1], horizon)
    total = float(baseline_losses.mean())
    return Comparison(
        baseline=baseline,
        asset=asset,
        rows=at_ns.size,
        times=times.size,
        block=block,
        gain=gain,
        skill=gain.value / total if total > 0 else float("nan"),
        dm=statistic,
        p=p,
    )


def diebold_mariano(gains: Floats, horizon: int) -> tuple[float, float]:
    """Return the statistic mean / sqrt(long-run variance / n) of loss differences (n,) and its two-sided normal p.

    Diebold and Mariano 1995, with the variance of Newey and West 1987: Bartlett weights up to lag
    max(4 horizon - 1, 4 (n / 100)^(2/9)). NaN where the differences do not vary.
    """
    rows = gains.size
    lags = min(max(HORIZONS * horizon - 1, int(4 * (rows / 100) ** (2 / 9))), rows - 1)
    centred = gains - gains.mean()
    variance = float(centred @ centred) / rows
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / rows
    if variance <= 0:
        return float("nan"), float("nan")
    statistic = float(gains.mean()) / (variance / rows) ** 0.5
    return statistic, 2 * NormalDist().cdf(-abs(statistic))


def judged(comparisons: Sequence[Comparison], *, must_beat: Sequence[str] = MUST_BEAT) -> Verdict:
    """Return the verdict over the comparisons of all assets together.

    A model is promoted when the interval of its gain lies above zero against every baseline of `must_beat`; one that
    was not compared counts as not beaten.
    """
    pooled: Mapping[str, Comparison] = {each.baseline: each for each in comparisons if not each.asset}
    failed, held = [], []
    for name in must_beat:
        if name not in pooled:
            failed.append(f"Was not compared with {_words(name)}")
            continue
        gain = pooled[name].gain
        said = f"{_words(name)} by {gain.value:+.4f} nats, 95 % interval [{gain.low:+.4f}, {gain.high:+.4f}]"
        if gain.above_zero:
            held.append(f"Beats {said}")
        else:
            failed.append(f"Does not beat {said}: it must lie above zero")
    return Verdict(promoted=not failed, reasons=(*failed, *held))


def _words(name: str) -> str:
    return name.replace("_", " ")


def assets_beaten(comparisons: Sequence[Comparison], baselines: Sequence[str]) -> tuple[str, ...]:
    """Return the assets in which the gain over each of the baselines has an interval above zero, in order of name."""
    beaten = [
        {each.asset for each in comparisons if each.asset and each.baseline == name and each.gain.above_zero}
        for name in baselines
    ]
    return tuple(sorted(set.intersection(*beaten))) if beaten else ()
