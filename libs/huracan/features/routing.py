"""Which regime a window of `micro` is of, by what its own mids did: what specialists are trained on and asked by.

The rule is that of bars (`regimes`), volatility first. Over 64 steps the mid moves a few times or not at all, so that
the efficiency ratio of most windows is 1 or 0: how straight a window was is told by the line through its mids. Training
asks the same function about the same rows: a specialist is served what it was trained on.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Self

import numpy as np
from pydantic import ValidationError, model_validator

from huracan.config import Config
from huracan.contracts.features import WINDOW_ROWS
from huracan.errors import BadInput
from huracan.features.micro import MICRO
from huracan.features.order_flow import Moves, Rows
from huracan.features.regimes import REGIMES, UNKNOWN, Cuts, regimes

FILE = "routes.json"
"""In a bundle."""
MONOLITH = "monolith"
"""The one net of all regimes: asked where there is no specialist, or it fails."""

_STEPS = np.arange(WINDOW_ROWS) - (WINDOW_ROWS - 1) / 2
_SPREAD_OF_STEPS = float((_STEPS * _STEPS).sum())
_MID_RETURN = MICRO.names.index("mid_return_bps")


def measured(window: Rows) -> tuple[float, float] | None:
    """Return how volatile and how straight a window was, shape (64, columns of micro); None where a return is missing.

    Volatility is sqrt(sum r^2) of the returns of the mid, bps. Straightness is R^2 of the least-squares line through
    the mids, in [0, 1], 0 where nothing moves: a larger one is a larger t-statistic of its slope.
    """
    with np.errstate(invalid="ignore"):  # of NaN that signals, in rows that came as bytes
        returns = window[:, _MID_RETURN].astype(np.float64)
    squares = float((returns * returns).sum())
    if not isfinite(squares):
        return None
    mids = returns.cumsum()
    mids -= mids.sum() / WINDOW_ROWS
    spread, along = float((mids * mids).sum()), float((_STEPS * mids).sum())
    straightness = along * along / (_SPREAD_OF_STEPS * spread) if spread else 0.0
    return sqrt(squares), straightness


def net_of(regime: str) -> str:
    """Return the name of the net of a regime."""
    return regime.lower()


class Routes(Config):
    """Which net answers a window of which regime, and how far the mid went in it."""

    cuts: Cuts
    """Volatility below which a window is low, above which it is high, bps; straightness above which it is trending."""
    nets: dict[str, str]
    """Name of the net by regime: its own, or the monolith's where that one was no better."""
    moves_bps: dict[str, Moves]
    """By regime, the mean move of the mid over the horizon in the classes down, flat and up of its training rows."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, told in (("nets", self.nets), ("moves_bps", self.moves_bps)):
            if set(told) != set(REGIMES):
                raise ValueError(f"{name} were of {', '.join(sorted(told)) or 'nothing'}: give {', '.join(REGIMES)}")
        wrong = [net for regime, net in self.nets.items() if net not in (MONOLITH, net_of(regime))]
        if wrong:
            raise ValueError(f"nets had {', '.join(wrong)}: a regime is answered by its own, or by the {MONOLITH}")
        return self

    def regime(self, window: Rows) -> int:
        """Return the number of the regime of a window, shape (64, columns of micro); UNKNOWN where it does not say."""
        told = measured(window)
        return UNKNOWN if told is None else int(regimes(*told, self.cuts))


def read_routes(data: bytes, place: str) -> Routes:
    """Return what a bundle's file says of routes; raise BadInput, naming `place`, for one that cannot be used."""
    try:
        return Routes.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise BadInput(f"{place}: {where}: {fault['msg']}") from error
