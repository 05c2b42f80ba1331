"""`huracan replay --compare`: two engines of one expert on one recording, and what that changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from huracan.clock import NANOSECONDS, STEP_NS
from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.journal import JournalEntry, WindowOpened
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import AbstainReason, Opinion, reason_name
from huracan.errors import BadInput
from huracan.inference.bundle import Bundle, load_bundle
from huracan_cli.composition import ENGINES
from huracan_cli.replay import Outcome, Replay, replay

FLAT_BPS = 0.25
"""A move of the mid up to this size counts as flat, for both: what the experts' nets were trained on."""
BLOCK_STEPS = 100
"""Windows of ten seconds are one block of the interval: what overlaps or follows closely is no news of its own."""
MIN_BLOCKS = 8
_NORMAL_95 = 1.96
WARMING = reason_name(AbstainReason.ABSTAIN_REASON_WARMING)
DETECTOR = "regime"
"""Among ENGINES, what tells regimes from bars: windows are routed without it."""

Numbers = NDArray[np.float64]
Window = tuple[str, int]
"""Instrument and step."""


class Score(BaseModel):
    """How well the opinions of one engine foretold the mid, on windows that both engines answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_loss: float
    """Nats; a third for each class has 1.0986."""
    brier: float
    accuracy: float

    @classmethod
    def of(cls, odds: Numbers, came: NDArray[np.intp]) -> Self:
        """Return the scores of odds, shape (n, 3) for down, flat and up, where these classes came."""
        told = np.eye(odds.shape[1])[came]
        return cls(
            log_loss=float(_losses(odds, came).mean()),
            brier=float(np.square(odds - told).sum(axis=1).mean()),
            accuracy=float((odds.argmax(axis=1) == came).mean()),
        )


class Side(BaseModel):
    """One engine, and the run that it gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    version: int
    digest: str
    """Of the bundle."""
    answered: int
    abstained: dict[str, int]
    """Windows without a forecast, by reason."""
    score: Score | None
    """None where no horizon ended within the recording."""
    decisions: dict[str, int]
    orders: int
    fills: int
    fees: str
    pnl: str
    """Net of fees, in the settlement asset."""
    decisions_digest: str


class Gain(BaseModel):
    """How much lower the challenger's log loss is, nats: the mean over windows, and where 95 % of such means are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    low: float | None
    """None for a recording that is too short to tell."""
    high: float | None


class Comparison(BaseModel):
    """Champion and challenger on one recording."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording: str
    expert: str
    windows: int
    compared: int
    """Windows that both answered."""
    scored: int
    """Of these, those whose horizon ended within the recording."""
    flat_bps: float
    agreement: float | None
    """Share of the compared windows in which both find the same class most likely."""
    distance: float | None
    """Mean total variation distance of their odds, 0 to 1."""
    gain: Gain | None
    decisions_changed: int
    """Decisions of another direction, size or reason."""
    champion: Side
    challenger: Side


def compare(
    request: Replay, champion: Path, challenger: Path, progress: Callable[[int], None] = lambda _: None
) -> Comparison:
    """Replay a recording once with each of two bundles, everything else the same, and compare.

    Each run is written to a directory of its own in that of the request. Raises BadInput for bundles that cannot be
    served or are not of one expert, for a directory that cannot be made, and as `replay` does.
    """
    bundles = [load_bundle(path) for path in (champion, challenger)]
    names = [bundle.manifest.name for bundle in bundles]
    for path, name in zip((champion, challenger), names, strict=True):
        if name == DETECTOR:
            raise BadInput(
                f"{path} is a detector, on which no opinion rests, as windows are routed by what they are themselves: "
                f"judge it on bars, with huracan evaluate --data BARS --bundle {path}"
            )
        if name not in ENGINES:
            comparable = ", ".join(each for each in ENGINES if each != DETECTOR)
            raise BadInput(f"{path} is an engine for {name}; those that can be compared are for {comparable}")
    if names[0] != names[1]:
        raise BadInput(f"{champion} is an engine for {names[0]} and {challenger} for {names[1]}: compare two of one")
    ahead_s = [each.manifest.horizon_steps * each.manifest.interval_ns / NANOSECONDS for each in bundles]
    if ahead_s[0] != ahead_s[1]:
        raise BadInput(
            f"{champion} looks {ahead_s[0]:g} s ahead and {challenger} {ahead_s[1]:g} s: compare two of one horizon"
        )
    outs = [None if request.out is None else request.out / side for side in ("champion", "challenger")]
    for out in filter(None, outs):
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{out} cannot be made: {error.strerror}") from None
    runs = [
        replay(replace(request, engines={names[0]: path}, out=out), progress)
        for path, out in zip((champion, challenger), outs, strict=True)
    ]
    return _compared(request.recording.name, ENGINES[names[0]], bundles, runs)


def _compared(recording: str, expert: str, bundles: Sequence[Bundle], runs: Sequence[Outcome]) -> Comparison:
    answers = [_answers(run.opinions, expert) for run in runs]
    both = sorted(answers[0].keys() & answers[1].keys())
    odds = [np.array([_odds(each[window]) for window in both]).reshape(-1, 3) for each in answers]
    came = _came([answers[0][window] for window in both], _mids(runs[0].journal))
    known = came >= 0
    scores: list[Score | None] = [None, None]
    gain = None
    if known.any():
        scores = [Score.of(each[known], came[known]) for each in odds]
        gain = _gain(_losses(odds[0][known], came[known]) - _losses(odds[1][known], came[known]))
    sides = [_side(bundle, run, expert, score) for bundle, run, score in zip(bundles, runs, scores, strict=True)]
    return Comparison(
        recording=recording,
        expert=expert,
        windows=runs[0].summary.windows,
        compared=len(both),
        scored=int(known.sum()),
        flat_bps=FLAT_BPS,
        agreement=float((odds[0].argmax(axis=1) == odds[1].argmax(axis=1)).mean()) if both else None,
        distance=float(np.abs(odds[0] - odds[1]).sum(axis=1).mean() / 2) if both else None,
        gain=gain,
        decisions_changed=_changed(*runs),
        champion=sides[0],
        challenger=sides[1],
    )


def _side(bundle: Bundle, run: Outcome, expert: str, score: Score | None) -> Side:
    summary = run.summary
    return Side(
        bundle=str(bundle.directory),
        version=bundle.manifest.version,
        digest=bundle.digest.hex(),
        answered=summary.opinions[expert],
        abstained=summary.abstained[expert],
        score=score,
        decisions=summary.decisions,
        orders=sum(summary.orders.values()),
        fills=summary.fills,
        fees=summary.fees,
        pnl=summary.pnl,
        decisions_digest=summary.decisions_digest,
    )


def _answers(opinions: Sequence[Opinion], expert: str) -> dict[Window, Opinion]:
    own = (each for each in opinions if each.expert == expert and not each.abstained)
    return {(instrument_key(each.instrument), each.step): each for each in own}


def _odds(opinion: Opinion) -> tuple[float, float, float]:
    return opinion.p_down, opinion.p_flat, opinion.p_up


def _mids(journal: Sequence[JournalEntry]) -> dict[Window, float]:
    """Return the mid at the close of each window that had one, in price increments."""
    opened: list[WindowOpened] = [entry.window_opened for entry in journal if entry.HasField("window_opened")]
    return {
        (instrument_key(each.instrument.id), each.step): (each.best_bid + each.best_ask) / 2
        for each in opened
        if each.best_bid and each.best_ask
    }


def _came(opinions: Sequence[Opinion], mids: Mapping[Window, float]) -> NDArray[np.intp]:
    """Return which class came over the horizon of each opinion: 0 down, 1 flat, 2 up; -1 where it is not known."""
    came = np.full(len(opinions), -1, dtype=np.intp)
    for place, opinion in enumerate(opinions):
        key = instrument_key(opinion.instrument)
        now, then = (mids.get((key, opinion.step + steps)) for steps in (0, opinion.horizon_ns // STEP_NS))
        if now is not None and then is not None:
            move_bps = 1e4 * (then - now) / now
            came[place] = 1 if abs(move_bps) <= FLAT_BPS else int(move_bps > 0) * 2
    return came


def _losses(odds: Numbers, came: NDArray[np.intp]) -> Numbers:
    losses: Numbers = -np.log(np.maximum(odds[np.arange(len(came)), came], 1e-6))
    return losses


def _gain(gains: Numbers) -> Gain:
    """Return the mean and its interval from means of blocks, which are nearly independent of each other."""
    blocks = len(gains) // BLOCK_STEPS
    mean = float(gains.mean())
    if blocks < MIN_BLOCKS:
        return Gain(mean=mean, low=None, high=None)
    means = gains[: blocks * BLOCK_STEPS].reshape(blocks, BLOCK_STEPS).mean(axis=1)
    reach = _NORMAL_95 * float(means.std(ddof=1)) / math.sqrt(blocks)
    return Gain(mean=mean, low=mean - reach, high=mean + reach)


def _changed(champion: Outcome, challenger: Outcome) -> int:
    pairs = zip(champion.decisions, challenger.decisions, strict=True)
    return sum(
        (one.direction, one.size, reason_name(one.reason)) != (other.direction, other.size, reason_name(other.reason))
        for one, other in pairs
    )


def render(told: Comparison) -> Table:
    """Return a comparison as a table, champion beside challenger."""
    table = Table("what", "champion", "challenger", title=f"{told.expert} on {told.recording}")
    sides = [told.champion, told.challenger]
    for name in Side.model_fields:
        if name != "score":
            table.add_row(name, *(_text(getattr(side, name)) for side in sides))
    for name in Score.model_fields:
        table.add_row(name, *("" if side.score is None else f"{getattr(side.score, name):.4f}" for side in sides))
    return table


def verdict(told: Comparison) -> str:
    """Return in a sentence which of the two foretold the mid better, or why that cannot be told."""
    if not told.compared:
        return _unanswered(told)
    if told.gain is None or told.agreement is None:
        return "No horizon of an opinion ended within the recording: nothing to judge by."
    said = (
        f"Same class most likely in {told.agreement:.1%} of {told.compared} windows; "
        f"{told.decisions_changed} decisions changed. Log loss of the challenger lower by {told.gain.mean:+.4f} nats"
    )
    if told.gain.low is None or told.gain.high is None:
        return f"{said}; {told.scored} windows are too few for an interval."
    better = "better" if told.gain.low > 0 else "worse" if told.gain.high < 0 else "no difference that can be told"
    return f"{said} [{told.gain.low:+.4f}, {told.gain.high:+.4f}]: {better}."


def _unanswered(told: Comparison) -> str:
    champion, challenger = told.champion.abstained, told.challenger.abstained
    said = f"No window was answered by both; abstained: champion {_text(champion)}; challenger {_text(challenger)}."
    if WARMING not in champion | challenger:
        return said
    return (
        f"{said} {WARMING} takes {WINDOW_ROWS} steps, and for regime more bars than a short recording has: "
        "give those from before it with --history."
    )


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in Counter(value).items()) or "none"
    return str(value)
