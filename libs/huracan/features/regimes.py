"""What a regime is: four classes of bars by how volatile and how straight they were (DOMAIN §3).

Training tells them of the bars after a moment, to learn from; services of those before it, to know where they are.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from huracan.config import Config
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan.features.outlook import POOLED, asset_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

REGIMES = ("High_Volatility", "Low_Volatility", "Trending", "Ranging")
"""The four names of the public contract, in the order in which their probabilities are sent."""
UNKNOWN = -1
"""Stands for the regime of bars that are missing."""
FILE = "regimes.json"
"""Where a bundle keeps what regimes were in training."""
Cuts = tuple[float, float, float]
"""Volatility below which it is low, volatility above which it is high, efficiency above which it is trending."""
_Share = Annotated[float, Field(ge=0, le=1)]
_SUM = 1e-6
_FIRST = np.array([3, 2, 1, 1, 0, 0, 0, 0])
"""Number of the first regime that holds, by what a window is: wild counts 4, calm 2, straight 1."""


def regimes(volatility: Floats | float, efficiency: Floats | float, cuts: Cuts) -> Integers:
    """Return the number of the regime of each row, of any shape, or of one: the first of REGIMES that holds.

    `volatility` is sqrt(sum r^2) and `efficiency` |sum r| / sum |r| of the log returns r of the same bars.
    """
    calm, wild, straight = cuts
    holds = (volatility > wild) * 4 + (volatility < calm) * 2 + (efficiency > straight)
    told: Integers = _FIRST[holds]
    return told


class RegimeThresholds(Config):
    """What regimes were in training: cuts by asset, and how they followed each other."""

    horizon_bars: PositiveInt
    """Bars that a regime is told of."""
    cuts: dict[str, Cuts]
    """By asset; POOLED is of all together, for one that was not trained on."""
    transition: tuple[tuple[_Share, ...], ...]
    """How often each regime was followed by each a bar later, shape (4, 4), rows of sum 1."""
    half_life_bars: PositiveFloat
    """In how many bars what was seen counts half."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not is_told_over(self.horizon_bars):
            raise ValueError(
                f"horizon_bars was {self.horizon_bars}: {BAR.name} has no {' and '.join(_columns(self.horizon_bars))}"
            )
        if POOLED not in self.cuts:
            raise ValueError(f"cuts has no {POOLED}: nothing is said of assets that were not trained on")
        square = {len(row) for row in self.transition} == {len(REGIMES)} and len(self.transition) == len(REGIMES)
        if not square or any(abs(sum(row) - 1) > _SUM for row in self.transition):
            raise ValueError(f"transition is not {len(REGIMES)} rows of {len(REGIMES)} probabilities of sum 1")
        return self

    def known(self, window: FeatureWindow) -> Integers:
        """Return the regime of the `horizon_bars` up to each bar of a window of `bar`, shape (64,).

        UNKNOWN where a bar among them is missing.
        """
        rows = window_matrix(window).astype(np.float64)
        volatility, efficiency = (rows[:, BAR.names.index(name)] for name in _columns(self.horizon_bars))
        cuts = self.cuts.get(asset_of(window.instrument), self.cuts[POOLED])
        told = regimes(volatility, efficiency, cuts)
        return np.where(np.isfinite(volatility) & np.isfinite(efficiency), told, UNKNOWN)


def is_told_over(horizon_bars: int) -> bool:
    """Return whether `bar` says which regime so many bars were of."""
    return set(_columns(horizon_bars)) <= set(BAR.names)


def _columns(horizon_bars: int) -> tuple[str, str]:
    return f"realised_volatility_{horizon_bars}", f"efficiency_ratio_{horizon_bars}"


def read_regimes(data: bytes, place: str) -> RegimeThresholds:
    """Return what a bundle's file says of regimes; raise BadInput, naming `place`, for one that cannot be used."""
    try:
        return RegimeThresholds.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise BadInput(f"{place}: {where}: {fault['msg']}") from error
