"""The form in which features are declared, and the digest that says which ones a window holds."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

State = TypeVar("State")

NAN = float("nan")

_LARGEST = float(np.finfo(np.float32).max)


class Missing(Flag):
    """When a feature has no value. A feature may have several such cases; in any other it is a number."""

    NEVER = 0
    """Always a number: a count or a sum over what happened, zero when nothing did."""
    NAN_IF_NO_BOOK = auto()
    """No depth has come since the start or since the book was last lost."""
    NAN_IF_ONE_SIDED = auto()
    """There is no best bid and ask to measure from: none known, one side empty, or crossed."""
    NAN_IF_LOCKED = auto()
    """Best bid and ask are equal, so that there is no spread to measure in."""
    NAN_IF_NO_TRADE = auto()
    """Nothing was traded in this step."""
    NAN_BEFORE_FIRST_TRADE = auto()
    """Nothing was traded since the start."""
    NAN_UNTIL_FULL = auto()
    """The trailing window it is measured over is not full, or was broken by a missing step or value."""
    NAN_IF_FLAT = auto()
    """All values it compares are equal, so that a ratio of their differences has no value."""
    NAN_IF_NO_VOLUME = auto()
    """Nothing was traded in all of its trailing window."""
    NAN_IF_NO_BOUNCE = auto()
    """Changes do not turn back on each other: their covariance, of which it is the root, is not below zero."""
    NAN_WITHOUT_STREAM = auto()
    """Nothing of the stream it needs has come since the start: the venue may have none, or it is not asked for."""
    NAN_IF_STALE = auto()
    """What it is measured from came too long ago to hold; how long that is the source says."""
    NAN_IF_NO_LIQUIDATION = auto()
    """Nothing was liquidated in all of its trailing window."""
    NAN_WITHOUT_PEER = auto()
    """No other venue's market of the same underlying and quote asset had a mid at the close of the step before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Generic[State]):
    """One column: what it is, between which values it lies, when it is missing, and how to get it."""

    id: int
    """Counts from 1 within a set; never reused, never reordered."""
    name: str
    unit: str
    low: float
    """Smallest possible value, -inf where there is none."""
    high: float
    """Largest possible value, inf where there is none."""
    missing: Missing
    source: str
    """Paper or definition it follows."""
    version: int
    """Incremented when the computation changes, so that the digest does."""
    compute: Callable[[State], float]
    """Return the value from the state at the close of a step; not finite where it is missing."""


def feature(
    id: int,  # noqa: A002 - the field's name in the declaration
    name: str,
    *,
    unit: str,
    low: float,
    high: float,
    missing: Missing,
    source: str,
    compute: Callable[[State], float],
    version: int = 1,
) -> Feature[State]:
    """Declare a feature: one row of the table of a set."""
    return Feature(
        id=id,
        name=name,
        unit=unit,
        low=low,
        high=high,
        missing=missing,
        source=source,
        version=version,
        compute=compute,
    )


@dataclass(frozen=True)
class FeatureSet(Generic[State]):
    """The columns of a window, in their order."""

    name: str
    features: tuple[Feature[State], ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless ids count from 1 without a gap and names are unique."""
        if [each.id for each in self.features] != list(range(1, self.columns + 1)):
            raise ValueError(f"feature set {self.name}: ids must count from 1 in the order of the table")
        if len(set(self.names)) != self.columns:
            raise ValueError(f"feature set {self.name}: a name is used twice")

    @property
    def columns(self) -> int:
        """Return the number of features."""
        return len(self.features)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(each.name for each in self.features)

    @cached_property
    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical declaration: all of it but the code."""
        rows = [
            [
                f.id,
                f.name,
                f.unit,
                repr(float(f.low)),
                repr(float(f.high)),
                _words(f.missing),
                f.source,
                f.version,
            ]
            for f in self.features
        ]
        return hashlib.sha256(json.dumps([self.name, rows], separators=(",", ":")).encode()).digest()

    @cached_property
    def _computes(self) -> tuple[Callable[[State], float], ...]:
        return tuple(each.compute for each in self.features)

    def row(self, state: State) -> NDArray[np.float32]:
        """Return the features of a state, shape (columns,): NaN where not a finite float32, never clipped."""
        most = _LARGEST
        values = [value if -most <= (value := compute(state)) <= most else NAN for compute in self._computes]
        return np.frombuffer(array("f", values), dtype=np.float32)  # thrice as fast as np.array of a list

    def out_of_range(self, row: NDArray[np.float32]) -> Sequence[str]:
        """Return `name was value, not in [low, high]` for each value outside its declared range."""
        return [
            f"{each.name} was {value}, not in [{each.low}, {each.high}]"
            for each, value in zip(self.features, row.tolist(), strict=True)
            if value < np.float32(each.low) or value > np.float32(each.high)
        ]


def _words(missing: Missing) -> list[str]:
    return [rule.name or "" for rule in missing]
