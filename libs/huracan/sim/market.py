"""Simulate one seeded market, SIMUSDT, that speaks raw Binance USD-M combined-stream frames.

A price-level book (integer ticks and lots) is driven by Poisson limit orders, cancels and market orders in
the manner of Smith, Farmer, Gillemot & Krishnamurthy (2003), "Statistical theory of the continuous double
auction". Order sides are tilted by a hidden, persistent imbalance (a mean-reverting process), so that flow
leads the mid as in Cont, Kukanov & Stoikov (2014). At `regime_switch_s` the market turns from calm to
turbulent: faster flow, larger market orders, a thinner book, and one-sided swings that change direction.

Parameters: all of them are fields of `SimulatedMarketConfig`, with unit, reason and safe range. Fixed by
definition: symbol SIMUSDT (reserved: simulated data never carries a real symbol), tick 0.10, lot 0.001,
opening mid 50,000.05 (ticks 500,000 / 500,001).

The frames hold together as the venue's do: update ids rise by one per book change, `pu` is the previous `u`,
and after every depthUpdate the best prices and sizes equal the last bookTicker whose `u` is not above its
final `u`.

Determinism: every draw is `random()` of a seeded stream (Python promises its sequence) shaped with `math`, so
a seed gives the same bytes in every process. Latency has a stream of its own: `latency_*` and `clock_skew_ms`
move receive times and leave the raw frames as they are.

Not modelled: single orders, queue position and our own orders (a level is one number; no impact); icebergs,
liquidations, funding, mark price, fees; halts, gaps, reconnects, duplicated or reordered frames (the fault
bus makes those); streams out of step with each other (all three are delivered in event order); a REST
snapshot cut at 1,000 levels (the book stays far below); fat tails and daily patterns. One market order prints
one trade per level. The predictability is put in by hand: profit made here says nothing about a real market.
"""

from __future__ import annotations

import gzip
import math
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from huracan.config import Config
from huracan.rng import SeededRng
from huracan.sim.exchange.ladder import Ladder

if TYPE_CHECKING:
    import pyarrow as pa

SYMBOL: Final = "SIMUSDT"
OPENING_BID_TICKS: Final = 500_000
TICK_SIZE: Final = Decimal("0.1")
LOT_SIZE: Final = Decimal("0.001")
QUARTER_HOUR_NS: Final = 900 * 1_000_000_000

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_FIRST_UPDATE_ID: Final = 1_000_000
_FIRST_TRADE_ID: Final = 1
_MIN_LEVELS: Final = 20
"""A side is never taken below this many levels, so there is always a best price."""
_MAX_LEVELS: Final = 400
"""Above this, one far level is cancelled per depth interval: a drifting price leaves orders behind."""
_UNIT_SPREAD: Final = math.sqrt(12.0)
"""Makes a double in [-0.5, 0.5) one of variance 1: sums of a few are as good as normal here."""


class SimulatedMarketConfig(Config):
    """Configure a simulated market; raises pydantic's ValidationError for a value outside its range.

    Rates are per second of event time while calm; turbulence multiplies them by `turbulent_rate_factor`.
    """

    seed: NonNegativeInt
    """Names the market: one seed, one sequence of bytes."""
    symbol: Literal["SIMUSDT"] = SYMBOL
    """Reserved, and the only one accepted, so that simulated data can always be told from real data."""
    start_ns: PositiveInt = Field(default=1_700_000_150_000_000_000, le=2**62)
    """Event time of the first frame. The default is 2023-11-14 22:15:50 UTC: a 1 m bar that is seen from its
    start begins ten seconds in, and `history` ends 50 s earlier with no 15 m bar missing between."""
    duration_s: PositiveFloat = Field(default=120.0, le=1e7)
    """Event time covered. A day is about 20 million frames."""
    regime_switch_s: NonNegativeFloat = 60.0
    """Turn turbulent this long after the start; 0 is turbulent at once, `duration_s` or more never."""
    limit_orders_per_s: float = Field(default=85.0, ge=1e-3, le=1e5)
    """Below a third of `cancels_per_s` the book runs down to its minimum depth and the spread opens."""
    cancels_per_s: float = Field(default=95.0, ge=1e-3, le=1e5)
    """Requests; one that finds its level empty changes nothing. Below half of `limit_orders_per_s` the levels
    fill up, the best grows to 10 units and more, and the price hardly moves."""
    market_orders_per_s: float = Field(default=10.0, ge=1e-3, le=1e5)
    """Above half of `limit_orders_per_s` the best is eaten faster than it refills and the price jumps."""
    depth_interval_ms: float = Field(default=50.0, ge=1, le=1_000)
    """Book changes of this long make one depthUpdate, as in the venue's @0ms futures stream."""
    flow_memory_s: float = Field(default=3.0, ge=0.05, le=1e4)
    """Relaxation time of the hidden imbalance: how long flow keeps its direction. Below 0.5 flow says little
    about the next second, above 30 the price just trends."""
    calm_imbalance: float = Field(default=0.35, ge=0, le=0.9)
    """Standard deviation of the hidden imbalance while calm; at 0 flow holds no information."""
    turbulent_imbalance: float = Field(default=0.45, ge=0, le=0.9)
    """The same while turbulent."""
    turbulent_bias: float = Field(default=0.4, ge=0, le=0.9)
    """Strength of the one-sided swings while turbulent; above 0.6 one side is worn down to its minimum depth."""
    turbulent_swing_s: float = Field(default=12.0, ge=1e-3, le=1e7)
    """Mean time before a swing turns round. The longer it is, the further the price walks."""
    pull_range: float = Field(default=0.03, ge=1e-4, le=1)
    """Distance from the opening price, as a share of it, at which the pull home equals a fully one-sided flow:
    what keeps the price of a long market in bounds. Below 0.005 it is felt within two minutes."""
    turbulent_rate_factor: float = Field(default=1.75, ge=0.1, le=10)
    """Speed-up of all order flow while turbulent; 1 keeps the frame rate of the calm market."""
    turbulent_market_size_factor: float = Field(default=2.5, ge=0.1, le=10)
    """Growth of market orders while turbulent; above 5 single orders move the price by tens of ticks."""
    turbulent_depth_factor: float = Field(default=0.6, ge=0.1, le=10)
    """Size of limit orders while turbulent, against calm; below 0.3 the price jumps."""
    latency_ms: float = Field(default=2.0, ge=0, le=60_000)
    """Least time from venue to receiver."""
    latency_jitter_ms: float = Field(default=0.8, ge=0, le=60_000)
    """Mean of the exponential part of the latency."""
    clock_skew_ms: float = Field(default=0.0, ge=-1e7, le=1e7)
    """How far our clock is behind the venue's: receive = event + latency - skew, so that frames may arrive
    "before" they happen, as in the shared BTCUSDT recording (1.27 s). Below 50 s `history` stays as it is."""

    @model_validator(mode="after")
    def _receive_times_are_positive(self) -> Self:
        if self.start_ns <= self.clock_skew_ms * _NS_PER_MS:
            raise ValueError(f"start_ns: must leave receive times positive, was {self.start_ns}")
        return self

    @property
    def end_ns(self) -> int:
        """Return the event time at which the market ends."""
        return self.start_ns + round(self.duration_s * _NS_PER_S)


_Draw = Callable[[], float]
"""Return the next double in [0, 1)."""


def _exponential(draw: _Draw) -> float:
    return -math.log(1.0 - draw())


class _Side(Ladder):
    """One side of the book, in wire form."""

    __slots__ = ()

    def best_first(self) -> str:
        """Return every level in wire form, in the order of a REST snapshot."""
        return self._rows(sorted(self.levels))

    def drain_touched(self) -> str:
        """Return what changed since the last call in wire form, by rising price as in a depthUpdate."""
        rows = self._rows(sorted(self.before, reverse=self.sign < 0))
        self.before.clear()
        return rows

    def _rows(self, keys: list[int]) -> str:
        sign, levels = self.sign, self.levels
        return ",".join(f'["{_price(sign * key)}","{_size(levels.get(key, 0))}"]' for key in keys)


class _Regime(NamedTuple):
    gap_ns: float
    imbalance: float
    bias: float
    market_lots: float
    limit_lots: float


_CALM_MARKET_LOTS, _CALM_LIMIT_LOTS, _LEAST_LOTS = 600.0, 600.0, 200
_LIMITS_AT_BEST, _CANCELS_AT_BEST = 0.7, 0.3
"""Most limit orders join the best, most cancels come from behind it: thin levels there let the price move."""
_DEPTH_TICKS, _FAR_TICKS, _FAR_SHARE = 14.0, 150.0, 0.1
_DEEP_SIZE: Final = 0.5
"""Size of orders behind the best, against those at it."""
_PASSIVE_TILT: Final = 0.6
"""Limit orders and cancels follow the imbalance less than market orders do."""
_CANCEL_SHARE: Final = 0.7
"""A cancel at the best takes up to this share of the level; behind it, the whole level."""
_FILL_SPREAD: Final = 0.5
"""Chance per tick of extra spread that a limit order improves the price: closes the spread fast."""


class SimulatedMarket:
    """Generate the frames of one simulated market, lazily and in order."""

    def __init__(self, config: SimulatedMarketConfig) -> None:
        self.config = config
        streams = SeededRng(config.seed)
        self._draw = streams.stream("sim.market").random
        self._draw_latency = streams.stream("sim.market.latency").random
        self._skew_ns = round(config.clock_skew_ms * _NS_PER_MS)
        self._interval_ns = round(config.depth_interval_ms * _NS_PER_MS)
        self._switch_ns = config.start_ns + round(min(config.regime_switch_s, config.duration_s) * _NS_PER_S)
        total = config.limit_orders_per_s + config.cancels_per_s + config.market_orders_per_s
        self._market_share = config.market_orders_per_s / total
        self._cancel_share = self._market_share + config.cancels_per_s / total
        self._calm = _Regime(_NS_PER_S / total, config.calm_imbalance, 0.0, _CALM_MARKET_LOTS, _CALM_LIMIT_LOTS)
        self._turbulent = _Regime(
            _NS_PER_S / total / config.turbulent_rate_factor,
            config.turbulent_imbalance,
            config.turbulent_bias,
            _CALM_MARKET_LOTS * config.turbulent_market_size_factor,
            _CALM_LIMIT_LOTS * config.turbulent_depth_factor,
        )
        self._regime = self._regime_at(config.start_ns)
        self._frames: deque[tuple[int, bytes]] = deque()
        self._now_ns = config.start_ns
        self._changed_ns = config.start_ns
        self._flush_ns = config.start_ns + self._interval_ns
        self._last_recv_ns = 0
        self._finished = False
        self._update_id = self._flushed_id = _FIRST_UPDATE_ID
        self._trade_id = _FIRST_TRADE_ID
        self._imbalance = self._wave = 0.0
        self._swing = 1 if self._draw() < 0.5 else -1
        self._bids = _Side(-1, OPENING_BID_TICKS)
        self._asks = _Side(1, OPENING_BID_TICKS + 1)
        self._quote = (0, 0, 0, 0)
        self._open_book()

    def next_frame(self) -> tuple[int, bytes] | None:
        """Return the next (receive time in ns, raw frame) in order, or None once the market is over."""
        while not self._frames and not self._finished:
            self._step()
        return self._frames.popleft() if self._frames else None

    def snapshot(self) -> bytes:
        """Return the raw REST depth snapshot of the whole book at the current simulated time.

        Its lastUpdateId lies inside a depthUpdate that `next_frame` has yet to return, so that the venue's
        bootstrap rule (U <= lastUpdateId <= u for the first one applied) holds for a caller with nothing
        buffered. Asking never changes the frames. Once the market has ended it is the final book.
        """
        while self._update_id == self._flushed_id and not self._finished:
            self._step()
        return (
            f'{{"lastUpdateId":{self._update_id},'
            f'"E":{self._now_ns // _NS_PER_MS},"T":{self._changed_ns // _NS_PER_MS},'
            f'"bids":[{self._bids.best_first()}],"asks":[{self._asks.best_first()}]}}'
        ).encode()

    def _open_book(self) -> None:
        for side in (self._bids, self._asks):
            for level in range(2 * _MIN_LEVELS):
                side.levels[side.best + 3 * level] = 2 * self._limit_lots(level)
        self._emit_quote_if_changed()

    def _step(self) -> None:
        self._now_ns += 1 + int(self._regime.gap_ns * _exponential(self._draw))
        while self._flush_ns <= min(self._now_ns, self.config.end_ns):
            self._tick()
        if self._now_ns >= self.config.end_ns:
            self._now_ns = self.config.end_ns
            self._finished = True
            self._emit_depth(self._now_ns)
            return
        kind = self._draw()
        if kind < self._market_share:
            self._market_order()
        elif kind < self._cancel_share:
            self._cancel()
        else:
            self._limit_order()

    def _tick(self) -> None:
        for side in (self._bids, self._asks):
            if len(side.levels) > _MAX_LEVELS:
                far = max(side.levels)
                side.take(far, side.levels[far])
                self._book_changed(self._flush_ns)
        self._emit_depth(self._flush_ns)
        self._regime = self._regime_at(self._flush_ns)
        self._turn_the_tide(self._interval_ns / _NS_PER_S)
        self._flush_ns += self._interval_ns

    def _regime_at(self, event_ns: int) -> _Regime:
        return self._turbulent if event_ns >= self._switch_ns else self._calm

    def _turn_the_tide(self, elapsed_s: float) -> None:
        regime, noise = self._regime, _UNIT_SPREAD * (self._draw() - 0.5)
        decay = math.exp(-elapsed_s / self.config.flow_memory_s)
        self._wave = self._wave * decay + regime.imbalance * math.sqrt(1 - decay * decay) * noise
        if self._draw() < elapsed_s / self.config.turbulent_swing_s:
            self._swing = -self._swing
        home = (OPENING_BID_TICKS + self._bids.best) / (self.config.pull_range * OPENING_BID_TICKS)
        self._imbalance = max(-0.95, min(0.95, self._wave + self._swing * regime.bias + home))

    def _side(self, bid_when_rising: bool, tilt: float) -> _Side:
        signed = tilt * self._imbalance if bid_when_rising else -tilt * self._imbalance
        return self._bids if self._draw() < 0.5 * (1.0 + signed) else self._asks

    def _depth_ticks(self, share_at_best: float) -> int:
        where = self._draw()
        if where < share_at_best:
            return 0
        scale = _FAR_TICKS if where > 1.0 - _FAR_SHARE else _DEPTH_TICKS
        return 1 + int(scale * _exponential(self._draw))

    def _limit_lots(self, depth_ticks: int) -> int:
        mean = self._regime.limit_lots * (_DEEP_SIZE if depth_ticks else 1.0)
        return _LEAST_LOTS + int(mean * _exponential(self._draw))

    def _limit_order(self) -> None:
        side = self._side(True, _PASSIVE_TILT)
        gap = self._bids.best + self._asks.best - 1
        if gap and self._draw() < _FILL_SPREAD * gap:
            # Cubed, so that one order closes most of a wide gap: a sweep leaves a quote behind, not a void.
            depth = -1 - int((1.0 - self._draw() ** 3) * gap)
        else:
            depth = self._depth_ticks(_LIMITS_AT_BEST)
        side.add(side.best + depth, self._limit_lots(max(depth, 0)))
        self._book_changed(self._now_ns)

    def _cancel(self) -> None:
        side = self._side(False, _PASSIVE_TILT)
        depth = self._depth_ticks(_CANCELS_AT_BEST)
        key = side.best + depth
        share = self._draw()
        lots = side.levels.get(key, 0)
        if not lots:
            return
        cancelled = lots if depth or lots < 2 * _LEAST_LOTS else 1 + int(_CANCEL_SHARE * share * lots)
        if cancelled == lots and len(side.levels) <= _MIN_LEVELS:
            return
        side.take(key, cancelled)
        self._book_changed(self._now_ns)

    def _market_order(self) -> None:
        side = self._side(False, 1.0)
        left = 1 + int(self._regime.market_lots * _exponential(self._draw))
        while left > 0 and len(side.levels) > _MIN_LEVELS:
            key = side.best
            filled = min(left, side.levels[key])
            left -= filled
            side.take(key, filled)
            self._emit_trade(side, key, filled)
            self._book_changed(self._now_ns)

    def _book_changed(self, event_ns: int) -> None:
        self._update_id += 1
        self._changed_ns = event_ns
        self._emit_quote_if_changed()

    def _emit(self, event_ns: int, raw: str) -> None:
        config = self.config
        delay_ms = config.latency_ms + config.latency_jitter_ms * _exponential(self._draw_latency)
        self._last_recv_ns = max(self._last_recv_ns, event_ns + int(delay_ms * _NS_PER_MS) - self._skew_ns)
        self._frames.append((self._last_recv_ns, raw.encode()))

    def _emit_quote_if_changed(self) -> None:
        bids, asks = self._bids, self._asks
        quote = (bids.best, bids.levels[bids.best], asks.best, asks.levels[asks.best])
        if quote == self._quote:
            return
        self._quote = quote
        ms = self._changed_ns // _NS_PER_MS
        self._emit(
            self._changed_ns,
            f'{{"stream":"simusdt@bookTicker","data":{{"e":"bookTicker","u":{self._update_id},"s":"{SYMBOL}",'
            f'"b":"{_price(-quote[0])}","B":"{_size(quote[1])}","a":"{_price(quote[2])}","A":"{_size(quote[3])}",'
            f'"T":{ms},"E":{ms}}}}}',
        )

    def _emit_trade(self, side: _Side, key: int, lots: int) -> None:
        ms = self._now_ns // _NS_PER_MS
        self._emit(
            self._now_ns,
            f'{{"stream":"simusdt@trade","data":{{"e":"trade","E":{ms},"T":{ms},"s":"{SYMBOL}","t":{self._trade_id},'
            f'"p":"{_price(side.sign * key)}","q":"{_size(lots)}","X":"MARKET",'
            f'"m":{"true" if side is self._bids else "false"}}}}}',
        )
        self._trade_id += 1

    def _emit_depth(self, event_ns: int) -> None:
        if self._update_id == self._flushed_id:
            return
        self._emit(
            event_ns,
            f'{{"stream":"simusdt@depth@0ms","data":{{"e":"depthUpdate","E":{event_ns // _NS_PER_MS},'
            f'"T":{self._changed_ns // _NS_PER_MS},"s":"{SYMBOL}",'
            f'"U":{self._flushed_id + 1},"u":{self._update_id},"pu":{self._flushed_id},'
            f'"b":[{self._bids.drain_touched()}],"a":[{self._asks.drain_touched()}]}}}}',
        )
        self._flushed_id = self._update_id


_SNAPSHOT_ASKED_AFTER, _SNAPSHOT_ANSWERED_AFTER = 3, 5  # depth frames


def recording(config: SimulatedMarketConfig) -> Iterator[tuple[int, bytes]]:
    """Yield (receive time in ns, raw frame) as a recorder writes them, one REST snapshot included.

    As in real recordings the snapshot is asked for after a few depth frames and answered about 100 ms later,
    when the update that holds its lastUpdateId has already gone by: the reader must have kept it.
    """
    market = SimulatedMarket(config)
    snapshot: bytes | None = None
    depth_frames, recv_ns, delivered = 0, config.start_ns, False
    while (frame := market.next_frame()) is not None:
        yield frame
        recv_ns = frame[0]
        if delivered:
            continue
        depth_frames += b"@depth" in frame[1]
        if snapshot is None and depth_frames == _SNAPSHOT_ASKED_AFTER:
            snapshot = market.snapshot()
        if snapshot is not None and depth_frames == _SNAPSHOT_ANSWERED_AFTER:
            yield recv_ns, snapshot
            delivered = True
    if not delivered:
        yield recv_ns, snapshot or market.snapshot()


def write_recording(config: SimulatedMarketConfig, path: Path | str) -> int:
    """Write a recording as `<recv_ns> <raw>` lines and return how many; gzip if the name ends with `.gz`.

    The bytes depend on the configuration alone: the gzip header carries neither time nor name.
    """
    target = Path(path)
    with target.open("wb") as file:
        if target.suffix != ".gz":
            return _write_lines(config, file)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            return _write_lines(config, packed)


def _write_lines(config: SimulatedMarketConfig, out: IO[bytes] | gzip.GzipFile) -> int:
    count = 0
    for recv_ns, raw in recording(config):
        out.write(b"%d %b\n" % (recv_ns, raw))
        count += 1
    return count


class _BarRegime(NamedTuple):
    volatility_bps: float
    """Of the free walk over 15 minutes."""
    drift: float
    """In units of volatility per bar; its sign turns from one trend to the next."""
    pull: float
    """Share of the distance to where the regime began that is undone per sub-step."""


_BAR_REGIMES: Final = (
    _BarRegime(60.0, 0.0, 0.0),  # high volatility: close to the turbulent market
    _BarRegime(7.0, 0.0, 0.0),  # low volatility: close to the calm market
    _BarRegime(18.0, 1.2, 0.0),  # trending
    _BarRegime(28.0, 0.0, 0.1),  # ranging
)
_SUB_STEPS: Final = 30
_LONGEST_STAY_BARS: Final = 48
_MEAN_VOLUME: Final = 300.0


def history(config: SimulatedMarketConfig, *, bars: int, interval_ns: int = QUARTER_HOUR_NS) -> pa.Table:
    """Return `bars` bars, all closed when the market's first frame arrives, the last at its opening mid.

    Columns as in the shared Binance USD-M bar files: date (bar open, UTC), open, high, low, close, volume.
    The walk is coarse: four regimes (high and low volatility, trending, ranging) take turns in seeded order,
    each for `_LONGEST_STAY_BARS` / 2 to `_LONGEST_STAY_BARS` bars, shorter where `bars` is small, so that
    from 12 bars on all four occur. Raises ValueError if `bars` or `interval_ns` is below 1.
    """
    import pyarrow as pa  # only bars need it: a gateway on the simulated venue starts without it

    if bars < 1 or interval_ns < 1:
        raise ValueError(f"history: bars and interval_ns must be 1 or more, were {bars} and {interval_ns}")
    first_recv_ns = config.start_ns - max(0, round(config.clock_skew_ms * _NS_PER_MS))
    close_ns = first_recv_ns // interval_ns * interval_ns
    date = close_ns - interval_ns * np.arange(bars, 0, -1, dtype=np.int64)
    path, volume = _coarse_walk(config.seed, bars, math.sqrt(interval_ns / QUARTER_HOUR_NS))
    ticks = np.round((OPENING_BID_TICKS + 0.5) * np.exp(path - path[-1, -1]))
    price = ticks / float(1 / TICK_SIZE)
    return pa.table(
        {
            # Nanoseconds, as in the shared files.
            "date": pa.array(date, type=pa.timestamp("ns", tz="UTC")),
            "open": price[:, 0],
            "high": price.max(axis=1),
            "low": price.min(axis=1),
            "close": price[:, -1],
            "volume": np.round(volume, 3),
        }
    )


def write_history(config: SimulatedMarketConfig, path: Path | str, *, bars: int) -> None:
    """Write `history` in 15 m bars as Parquet."""
    import pyarrow.parquet as pq

    pq.write_table(history(config, bars=bars), str(path))


def _coarse_walk(seed: int, bars: int, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log prices [bars, sub-steps + 1], each bar opening where the last closed, and volumes [bars]."""
    draw = SeededRng(seed).stream("sim.market.history").random
    path = np.empty((bars, _SUB_STEPS + 1))
    volume = np.empty(bars)
    level, bar, direction = 0.0, 0, 1.0 if draw() < 0.5 else -1.0
    for regime, stay in _stays(draw, bars):
        sigma = scale * regime.volatility_bps * 1e-4
        drift = direction * regime.drift * sigma / _SUB_STEPS
        if regime.drift:
            direction = -direction
        activity = _MEAN_VOLUME * scale * scale * math.sqrt(regime.volatility_bps / 20)
        noise, home = _UNIT_SPREAD * sigma / math.sqrt(_SUB_STEPS), level
        for _ in range(min(stay, bars - bar)):
            steps = [level]
            for _ in range(_SUB_STEPS):
                level += drift + noise * (draw() - 0.5) - regime.pull * (level - home)
                steps.append(level)
            path[bar] = steps
            volume[bar] = activity * (0.5 + draw())
            bar += 1
    return path, volume


def _stays(draw: _Draw, bars: int) -> Iterator[tuple[_BarRegime, int]]:
    shortest = min(_LONGEST_STAY_BARS // 2, max(1, bars // 12))
    total = 0
    while total < bars:
        for regime in sorted(_BAR_REGIMES, key=lambda _: draw()):
            stay = shortest + int(draw() * (shortest + 1))
            total += stay
            yield regime, stay


def _price(ticks: int) -> str:
    return f"{ticks // 10}.{ticks % 10}0"


def _size(lots: int) -> str:
    return f"{lots // 1000}.{lots % 1000:03d}"
