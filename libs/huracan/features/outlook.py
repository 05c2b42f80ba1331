"""What a detector of regimes is fed: the columns of `bar` on the scale of the volatility that it is asked about.

Volatilities of all kinds and lengths become ln of the volatility of one bar, less the middle of what the asset had over
the horizon in training, over the width between its low and its high fifth: where in that distribution the next bars lie
is what is asked. Beside them stands how lively the bars ahead are by the clock alone. An outlook is fitted in training,
and seen through here, by training and services alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, ValidationError

from huracan.clock import DAY_NS
from huracan.config import Config
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.market import InstrumentDefinition
from huracan.errors import BadInput
from huracan.features.bar import BAR

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]
Integers = NDArray[np.int64]
Columns = Mapping[str, Floats]
"""Columns of `bar` by name, each of shape (n,)."""

FILE = "outlook.json"
"""Where a bundle keeps the outlook of its model."""
LIMIT = 10.0
"""Scaled values end here on both sides: one bad print must not decide what a network says."""
POOLED = "*"
"""What all assets together are filed under: how one is seen that was not trained on."""
_TINY = 1e-5
"""Volatility of a bar in which nothing moves: a tenth of a basis point."""
_PARKINSON = math.sqrt(4 * math.log(2))
_SATURDAY = 2
"""Days from the epoch, a Thursday, to a Saturday."""
_PLAIN = (
    *(f"scaled_return_{bars}" for bars in (4, 16, 96)),
    "scaled_largest_move_16",
    *(f"efficiency_ratio_{bars}" for bars in (10, 16, 32, 96)),
    "trend_t",
    "trend_t_96",
    "rsi_14",
    "atr_ratio",
    "volatility_ratio",
    "jump_share_96",
    "downside_share_96",
    "autocorrelation_96",
    "volatility_of_volatility_96",
    "volume_z_96",
    "range_z_96",
    *(f"log_volume_ratio_{bars}_672" for bars in (4, 16, 96)),
    "channel_location_96",
    "drawdown_96",
)
"""Columns that say nothing of how large moves are, or only against what is usual."""
_TIME = ("time_of_day_sin", "time_of_day_cos", "time_of_week_sin", "time_of_week_cos")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    compute: Callable[[Columns], Floats]
    volatility: bool = False
    """Whether it is ln of the volatility of one bar."""
    scaled: bool = True


def _volatility(name: str, bars: int, unit: float = 1.0) -> _Column:
    return _Column(name, lambda columns: _log_volatility(columns[name] / unit, bars), volatility=True)


def _log_volatility(values: Floats, bars: int) -> Floats:
    return np.asarray(0.5 * np.log(values**2 / bars + _TINY**2))


def _usual(columns: Columns) -> Floats:
    usual = columns["realised_volatility_96"] / math.sqrt(96)
    return np.where(usual > 0, usual, np.nan)


_COLUMNS = (
    _volatility("log_range", 1, _PARKINSON),
    *(_volatility(f"realised_volatility_{bars}", bars) for bars in (4, 16, 32, 96, 288, 672)),
    *(_volatility(f"parkinson_volatility_{bars}", bars) for bars in (4, 16, 96)),
    *(_volatility(f"garman_klass_volatility_{bars}", bars) for bars in (16, 96)),
    _volatility("rogers_satchell_volatility_16", 16),
    _Column("move", lambda columns: columns["log_return"] / _usual(columns)),
    _Column("size_of_move", lambda columns: np.abs(columns["log_return"]) / _usual(columns)),
    *(_Column(name, itemgetter(name)) for name in _PLAIN),
    *(_Column(name, itemgetter(name), scaled=False) for name in _TIME),
    _Column("half_day_sin", lambda columns: 2 * columns["time_of_day_sin"] * columns["time_of_day_cos"], scaled=False),
    _Column("half_day_cos", lambda columns: 1 - 2 * columns["time_of_day_sin"] ** 2, scaled=False),
)
NAMES = (*(column.name for column in _COLUMNS), "clock_ahead", "clock_change")
"""Names of the columns that models are fed."""
VOLATILE = np.array([column.volatility for column in _COLUMNS])
"""Which of the columns but those of the clock are ln of the volatility of one bar."""
UNSCALED = np.array([not column.scaled for column in _COLUMNS])
"""Which of the columns but those of the clock are fed as they are."""


class Scale(Config):
    """Centre and spread of each column."""

    centre: tuple[float, ...]
    spread: tuple[float, ...]
    """Above 0: 1 where the training rows do not differ."""


class View(Config):
    """How one asset is seen."""

    scale: Scale
    """Of all columns but those of the clock."""
    clock: tuple[float, ...]
    """How much livelier each time of the day is than the week, ln; of working days, then of weekends."""


class Outlook(Config):
    """How assets are seen, by name; POOLED is of all together, for an asset that was not trained on."""

    horizon_bars: PositiveInt
    views: dict[str, View]
    columns: tuple[str, ...] = NAMES
    """Those that models are fed."""

    def rows(self, asset: str, rows: Rows, close_ns: Integers, interval_ns: int) -> Rows:
        """Return what models are fed of rows of `bar` that closed at `close_ns`, shape (n,).

        Shape (n, columns), in [-10, 10]; NaN where missing. Raises BadInput for rows that are not of the `bar` set, and
        for bars of another interval than those that the outlook was fitted on.
        """
        view = self.views.get(asset, self.views[POOLED])
        if len(view.clock) != 2 * slots_a_day(interval_ns):
            bars = interval_ns / 1e9
            raise BadInput(f"bars were of {bars:g} s; the outlook was fitted on {len(view.clock) // 2} bars a day")
        centre, spread = np.array(view.scale.centre), np.array(view.scale.spread)
        values = (recast(rows) - centre) / spread
        ahead, past = _clock(close_ns, interval_ns, np.array(view.clock), self.horizon_bars)
        clock = np.column_stack([ahead, ahead - past]) / spread[np.argmax(VOLATILE)]
        chosen = [NAMES.index(name) for name in self.columns]
        seen: Rows = np.clip(np.column_stack([values, clock]).take(chosen, axis=1), -LIMIT, LIMIT).astype(np.float32)
        return seen

    def window(self, window: FeatureWindow) -> Rows:
        """Return what an engine is fed of a full window of `bar`, shape (columns, 64), in [-10, 10]: 0 where missing.

        0 is what the asset mostly has. Raises BadInput for a window of another feature set or interval, and for one
        that is still warming.
        """
        name = asset_of(window.instrument)
        if window.feature_set_digest != BAR.digest:
            was, wanted = (digest.hex()[:12] for digest in (window.feature_set_digest, BAR.digest))
            raise BadInput(f"window of {name} was of {window.feature_set} {was}…, not {BAR.name} {wanted}…")
        if window.valid_rows < window.rows:
            raise BadInput(f"window of {name} had {window.valid_rows} of {window.rows} rows: wait until it is full")
        close_ns = window.close_ns - window.interval_ns * np.arange(window.rows - 1, -1, -1, dtype=np.int64)
        seen = self.rows(name, window_matrix(window), close_ns, window.interval_ns)
        return np.ascontiguousarray(np.where(np.isnan(seen), np.float32(0), seen).T)


def asset_of(instrument: InstrumentDefinition) -> str:
    """Return the name of an instrument in training, as bar files are named: `binance_usdm_BTCUSDT`."""
    return f"{instrument.id.venue}_{instrument.venue_symbol}"


def read_outlook(data: bytes, place: str) -> Outlook:
    """Return the outlook of a bundle's file; raise BadInput, naming `place`, for one that cannot be used."""
    try:
        outlook = Outlook.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise BadInput(f"{place}: {where}: {fault['msg']}") from error
    if POOLED not in outlook.views:
        raise BadInput(f"{place}: views has no {POOLED}: it says nothing of assets that were not trained on")
    if outlook.columns != in_order(outlook.columns):
        raise BadInput(f"{place}: columns are not in the order in which they are made")
    for asset, view in outlook.views.items():
        if {len(view.scale.centre), len(view.scale.spread)} != {len(_COLUMNS)}:
            raise BadInput(f"{place}: views.{asset}.scale is not of {len(_COLUMNS)} columns")
    return outlook


def in_order(columns: Sequence[str]) -> tuple[str, ...]:
    """Return columns in the order of NAMES; raise BadInput where there are none, or one that is not of an outlook."""
    unknown = sorted(set(columns) - set(NAMES))
    if unknown or not columns:
        raise BadInput(f"columns were {', '.join(unknown) or 'none'}: choose of {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in columns)


def recast(rows: Rows) -> Floats:
    """Return all columns but those of the clock, none scaled, shape (n, columns), of rows of `bar`.

    Raises BadInput for rows that are not of the `bar` set.
    """
    if rows.shape[1] != BAR.columns:
        raise BadInput(f"rows had {rows.shape[1]} columns: an outlook is of the {BAR.columns} of {BAR.name}")
    columns = {name: rows[:, index].astype(np.float64) for index, name in enumerate(BAR.names)}
    return np.column_stack([column.compute(columns) for column in _COLUMNS])


def slots_a_day(interval_ns: int) -> int:
    """Return how many times of the day are told apart."""
    return max(1, DAY_NS // interval_ns)


def slots(close_ns: Integers, interval_ns: int) -> Integers:
    """Return which time of the day bars are of, those of weekends after those of working days, shape (n,)."""
    open_ns = close_ns - interval_ns
    weekend = (open_ns // DAY_NS - _SATURDAY) % 7 < 2
    found: Integers = open_ns % DAY_NS // interval_ns % slots_a_day(interval_ns)
    return found + weekend * slots_a_day(interval_ns)


def _clock(close_ns: Integers, interval_ns: int, clock: Floats, horizon_bars: int) -> tuple[Floats, Floats]:
    """Return how much livelier the bars of the horizon are by the clock, and as many up to now, shape (n,) each."""

    def mean(steps: range) -> Floats:
        bars = [clock[slots(close_ns + step * interval_ns, interval_ns)] for step in steps]
        return np.asarray(np.mean(bars, axis=0))

    return mean(range(1, horizon_bars + 1)), mean(range(1 - horizon_bars, 1))
