"""The judge of an engine on trial: how it does beside another on the same windows, and which bound it leaves first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from huracan.clock import MICROSECOND_NS
from huracan.config import Config
from huracan.contracts.ops import EngineTrial
from huracan.inference.engine import NoNumbers

_P99 = 99
_SLOW_SHARE = 0.01
"""What lies above a 99th percentile."""
_OVERRUN = 5
"""How many times the limit a slow window may take beyond it, on average: the windows after it wait so long."""
_STALLS = 2
"""Slow windows that are put down to the machine for each that is slow for the other engine: stalls come at random."""


class SwapConfig(Config):
    """Where engines are found that may serve instead of the configured one, and what one must keep to go on serving."""

    library: Path | None = None
    """Directory of bundles, a directory each, that all copies of the service read. None: what is configured serves."""
    decides: bool = True
    """Whether this copy of the service is asked about engines, tries them, and writes which one serves: exactly one
    copy does, the others follow it."""
    shadow_windows: PositiveInt = 1_200
    """Windows that a challenger answers in the shadow: two minutes of one instrument. Below 300 a disagreement of a few
    per cent is chance; each costs the run of a second engine."""
    probation_windows: PositiveInt = 1_200
    """Windows for which the engine before it goes on beside one that took over, and may come back."""
    max_error_share: float = Field(default=0.0, ge=0, lt=1)
    """Of the windows of a trial, those on which the engine may fail. An engine that is whole fails on none."""
    max_no_numbers_share: float = Field(default=0.0, ge=0, lt=1)
    """Those on which it may give no numbers where the other does: each is a window without the expert's opinion."""
    max_p99_us: PositiveInt = 1_000
    """Slowest answer but for one in a hundred: half of the 2 ms from window to decision. It is time on a processor. A
    machine that stalls is slow for both engines: where windows of the other are slow, twice as many more may be. Not
    judged in lockstep."""
    max_p99_ratio: float = Field(default=5.0, gt=1)
    """The same, as a multiple of the other's. Below 2 the two may change places by chance."""
    min_agreement: float = Field(default=0.6, ge=0, le=1)
    """Share of windows with the likeliest class of the other: a better model differs somewhere, one that differs in
    every second window was trained on, or is fed, something else."""
    max_distance: float = Field(default=0.25, gt=0, le=1)
    """Mean total variation distance from the other's probabilities: agreement alone does not see odds that are sure of
    everything."""
    max_restarts: NonNegativeInt = 2
    """How often the service may be started again during a trial, which then begins anew: an engine that brings its
    process down does so each time, a release or a machine that fails once."""
    lead_steps: NonNegativeInt = 10
    """Steps from the word that an engine serves which other copies have not loaded yet, to the first that it answers: a
    second, where loading takes tens of milliseconds."""


class Flaw(StrEnum):
    """Why an engine gave no forecast, where that is its own fault."""

    ERROR = "error"
    NO_NUMBERS = "no_numbers"


def flaw_of(error: Exception) -> Flaw:
    """Return which flaw an engine has that raised this."""
    return Flaw.NO_NUMBERS if isinstance(error, NoNumbers) else Flaw.ERROR


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine made of one window."""

    probabilities: Sequence[float] | None
    """None: it abstained, or has a flaw that nothing made up for."""
    flaw: Flaw | None
    compute_ns: int


@dataclass(frozen=True, slots=True)
class Left:
    """A bound that was left."""

    bound: str
    was: float
    limit: float

    def __str__(self) -> str:
        return f"{self.bound} was {self.was:.4g}, and the limit {self.limit:.4g}"


class Trial:
    """The windows that an engine on trial and another have both answered, and what is made of them.

    A bound is left as soon as the rest of the planned windows could not bring it back, so that a bad engine ends early
    and one stray window ends nothing that the bounds allow. Times are judged only where they are measured (`timed`).
    """

    def __init__(self, config: SwapConfig, planned: int, *, timed: bool) -> None:
        self.windows = 0
        self.planned = planned
        self._config = config
        self._timed = timed
        self._errors = 0
        self._no_numbers = 0
        self._compared = 0
        self._disagreed = 0
        self._distance = 0.0
        self._times: tuple[list[int], list[int]] = ([], [])
        self._slow = [0, 0]
        self._overrun_ns = [0, 0]

    @property
    def complete(self) -> bool:
        """Return whether all windows that were planned are there."""
        return self.windows >= self.planned

    def count(self, tried: Answer, other: Answer) -> None:
        """Take what both made of a window; one on which both abstained tells nothing."""
        if tried.flaw is None and tried.probabilities is None and other.probabilities is None:
            return
        self.windows += 1
        if tried.flaw is Flaw.ERROR:
            self._errors += 1
        elif tried.flaw is Flaw.NO_NUMBERS or (tried.probabilities is None and other.probabilities is not None):
            self._no_numbers += 1
        if tried.probabilities is not None and other.probabilities is not None:
            self._compare(np.asarray(tried.probabilities), np.asarray(other.probabilities))
        if self._timed:
            limit_ns = self._config.max_p99_us * MICROSECOND_NS
            for place, answer in enumerate((tried, other)):
                self._times[place].append(answer.compute_ns)
                self._slow[place] += answer.compute_ns > limit_ns
                self._overrun_ns[place] += max(0, answer.compute_ns - limit_ns)

    def _compare(self, tried: NDArray[np.float64], other: NDArray[np.float64]) -> None:
        self._compared += 1
        self._disagreed += int(tried.argmax() != other.argmax())
        self._distance += float(np.abs(tried - other).sum()) / 2

    def left(self) -> Left | None:
        """Return the first bound that it has left for good; None while it is within all."""
        return next((found for bound in self._bounds for found in [bound()] if found is not None), None)

    @property
    def _bounds(self) -> tuple[Callable[[], Left | None], ...]:
        return self._few_errors, self._numbers, self._fast, self._agrees, self._near

    def _few_errors(self) -> Left | None:
        return self._share("errors", self._errors, self._config.max_error_share)

    def _numbers(self) -> Left | None:
        return self._share("no_numbers", self._no_numbers, self._config.max_no_numbers_share)

    def _share(self, bound: str, count: int, limit: float) -> Left | None:
        return Left(bound, count / self.windows, limit) if count > limit * self.planned else None

    def _fast(self) -> Left | None:
        slow, machine = self._slow
        if slow > _SLOW_SHARE * self.planned + _STALLS * machine:
            return Left("p99", self._p99_us()[0], self._config.max_p99_us)
        over_ns, machine_ns = self._overrun_ns
        limit_us = _OVERRUN * _SLOW_SHARE * self.planned * self._config.max_p99_us
        if over_ns > limit_us * MICROSECOND_NS + _STALLS * machine_ns:
            return Left("overrun", over_ns / MICROSECOND_NS, limit_us)
        if self._timed and self.complete:
            p99_us, other_us = self._p99_us()
            if p99_us > self._config.max_p99_ratio * other_us:
                return Left("p99_ratio", p99_us / max(other_us, 1e-3), self._config.max_p99_ratio)
        return None

    def _agrees(self) -> Left | None:
        least, of = self._config.min_agreement, self._judged_of
        if self._disagreed <= (1 - least) * of:
            return None
        return Left("agreement", 1 - self._disagreed / self._compared, least)

    def _near(self) -> Left | None:
        if self._distance <= self._config.max_distance * self._judged_of:
            return None
        return Left("distance", self._distance / self._compared, self._config.max_distance)

    @property
    def _judged_of(self) -> int:
        """Return of how many windows the share counts: of all that may come, at the end of those that were compared."""
        return self._compared if self.complete else self.planned

    def _p99_us(self) -> tuple[float, float]:
        if not self._times[0]:
            return 0.0, 0.0
        tried, other = (float(np.percentile(times, _P99)) / MICROSECOND_NS for times in self._times)
        return tried, other

    def told(self) -> EngineTrial:
        """Return all of it as a message."""
        p99_us, other_us = self._p99_us()
        left = self.left()
        return EngineTrial(
            windows=self.windows,
            planned=self.planned,
            errors=self._errors,
            no_numbers=self._no_numbers,
            compared=self._compared,
            disagreed=self._disagreed,
            distance=self._distance / self._compared if self._compared else 0.0,
            p99_us=p99_us,
            other_p99_us=other_us,
            left=left.bound if left else "",
            was=left.was if left else 0.0,
            limit=left.limit if left else 0.0,
        )
