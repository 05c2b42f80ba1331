"""What is out of the ordinary in a market's data: robust, streaming, judged before a frame is taken.

Everything is measured against the instrument's own recent past, in slots of 100 ms of receive time, by running
quantiles that one outlier, however large, moves by a small fixed factor only. Pure: times come in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from statistics import median
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS
from huracan.config import Config
from huracan.contracts.market import AnomalyKind, AnomalyPolicy, InstrumentDefinition, anomaly_kind_name
from huracan_gateway.events import Depth, Event, Quote, Trade
from huracan_gateway.identity import INVERSE

_JUMP, _SPREAD = AnomalyKind.ANOMALY_KIND_PRICE_JUMP, AnomalyKind.ANOMALY_KIND_SPREAD
_VOLUME, _STUFFING = AnomalyKind.ANOMALY_KIND_VOLUME, AnomalyKind.ANOMALY_KIND_QUOTE_STUFFING
_SILENCE, _DESYNC = AnomalyKind.ANOMALY_KIND_FEED_SILENCE, AnomalyKind.ANOMALY_KIND_BOOK_DESYNC
_DIVERGENCE = AnomalyKind.ANOMALY_KIND_VENUE_DIVERGENCE

SECOND_SLOTS = NANOSECONDS // STEP_NS
_REFERENCE_SLOTS = 11
_LEAST_SLOTS = 3
"""Slots with a price that a reference needs."""
_NORMAL_95 = 1.96
"""The 95th percentile of the absolute value of a standard normal variable."""
_NORMAL_MAD = 1.4826
"""What makes the MAD of a normal variable its standard deviation."""


class Policy(StrEnum):
    """What is done about an anomaly."""

    TAG = "tag"
    """The frame counts, and is marked in the log."""
    HOLD = "hold"
    """The frame counts, and windows say for a while that the book is not to be relied on."""
    DROP = "drop"
    """The frame is refused."""


NoFrame = Literal[Policy.TAG, Policy.HOLD]
"""For anomalies that no single frame makes: there is none to drop."""


class Policies(Config):
    """What is done about each kind of anomaly. Tag is the default: a detector that is wrong then costs nothing."""

    price_jump: Policy = Policy.TAG
    """Drop keeps single bad prints out; of a real jump it drops half a second."""
    spread: Policy = Policy.TAG
    volume: Policy = Policy.TAG
    """Drop loses real trades while they are most."""
    quote_stuffing: Policy = Policy.TAG
    """Drop breaks the order book's sequence."""
    feed_silence: NoFrame = Policy.TAG
    book_desync: NoFrame = Policy.TAG
    venue_divergence: NoFrame = Policy.TAG


_POLICIES = {
    Policy.TAG: AnomalyPolicy.ANOMALY_POLICY_TAG,
    Policy.HOLD: AnomalyPolicy.ANOMALY_POLICY_HOLD,
    Policy.DROP: AnomalyPolicy.ANOMALY_POLICY_DROP,
}


class AnomalyConfig(Config):
    """When something counts as out of the ordinary. Figures are those of `bench/gateway_anomalies.py`."""

    policies: Policies = Policies()
    warm_up_s: PositiveFloat = 60.0
    """No alarm before this much of the data that a detector learns from was seen. Below 30 a quiet minute is taken for
    the whole day; a restart is blind for so long."""
    refractory_s: PositiveFloat = 30.0
    """An episode ends when it was ordinary for this long; until then there is no second alarm of its kind. Below 5 one
    event of the market is reported many times."""
    jump_sigmas: PositiveFloat = 20.0
    """A price this many robust standard deviations from the median of the last second: the 95th percentile of such
    distances over 1.96, as the MAD of a mid that mostly stands still is zero. At 15 one recorded move of BTCUSDT
    counts, at 12 three; at 20 a jump of 20 bps is found in most cases, above 40 one of a third of a per cent passes."""
    jump_least_bps: PositiveFloat = 0.5
    """The standard deviation is taken to be at least this: a mid that stood still would make every tick a jump."""
    spread_sigmas: PositiveFloat = 6.0
    """The logarithm of the spread this many robust standard deviations above its median. At 3 and the least below,
    two and a half times the usual spread count; at 10 only twenty times do."""
    spread_least_log: PositiveFloat = 0.3
    """The standard deviation of the logarithm is taken to be at least this: 6 sigmas are six times the usual spread."""
    spread_hold_ms: PositiveInt = 300
    """And it must stay so for this long: after a sweep the recorded spreads are wide for up to 190 ms. At 150 two of
    them count."""
    volume_ratio: PositiveFloat = 20.0
    """Traded notional of a second, over the 99th percentile of seconds with trades. The recorded moves reach 15: at 12
    one counts, at 5 three."""
    stuffing_ratio: PositiveFloat = 3.0
    """Quotes and depth updates of a second, over the 99th percentile of seconds: recorded bursts reach 1.5."""
    stuffing_per_trade: PositiveFloat = 4.0
    """And messages per trade must be this many times their median: in recorded bursts they fall to a tenth of it."""
    silence_ratio: PositiveFloat = 10.0
    """A silence over the 99th percentile of gaps between frames. Exponential waiting times are longer once in 10^20, at
    5 once in 10^10; those of an instrument that trades in bursts more often."""
    silence_floor_ms: PositiveInt = 1_000
    """But never less than this: recorded gaps reach 345."""
    divergence_sigmas: PositiveFloat = 8.0
    """The price ratio of two venues this many robust standard deviations from its median. Spot and perpetuals of one
    recorded venue never reach 3 for 100 ms; venues far apart follow each other later, and 8 leaves room for them."""
    divergence_least_bps: PositiveFloat = 1.0
    """The standard deviation is taken to be at least this: prices come in increments."""
    divergence_hold_ms: PositiveInt = 500
    """And it must stay so for this long: longer than the journey between venues on different continents."""
    divergence_stale_ms: PositiveInt = 1_000
    """Prices further apart in receive time are not compared: a silent venue is silent, it does not diverge."""

    def policy_of(self, kind: AnomalyKind) -> AnomalyPolicy:
        """Return what is done about a kind."""
        return _POLICIES[getattr(self.policies, anomaly_kind_name(kind))]


@dataclass(frozen=True, slots=True)
class Found:
    """An anomaly: how far out, from where on that is one, and the numbers behind it."""

    kind: AnomalyKind
    score: float
    threshold: float
    evidence: Mapping[str, float]


class RunningQuantile:
    """The running quantile of positive numbers.

    The first `warm` are taken exactly. After that each multiplies the estimate by a fixed factor, up when it is above
    and down when not, in the ratio that balances at the quantile (multiplicative stochastic approximation: Robbins &
    Monro 1951; Yazidi & Hammer 2019, "Multiplicative Update Methods for Incremental Quantile Estimation"): whatever its
    size, one number moves the estimate by less than `rate`.
    """

    __slots__ = ("_down", "_first", "_probability", "_up", "_warm", "floor", "value")

    def __init__(self, probability: float, *, rate: float, warm: int, floor: float) -> None:
        self.floor = floor
        self.value = 0.0
        """The estimate, at least the floor; 0 until warm."""
        self._probability = probability
        self._up = math.exp(rate * probability)
        self._down = math.exp(-rate * (1.0 - probability))
        self._warm = warm
        self._first: list[float] = []

    def push(self, number: float) -> None:
        """Take the next number."""
        if self.value:
            moved = self.value * (self._up if number > self.value else self._down)
            self.value = max(moved, self.floor)
            return
        self._first.append(number)
        if len(self._first) >= self._warm:
            ordered = sorted(self._first)
            self.value = max(ordered[min(int(self._probability * len(ordered)), len(ordered) - 1)], self.floor)
            self._first.clear()


class _Episodes:
    """One alarm per episode and kind: it lasts until nothing was found for the refractory period."""

    __slots__ = ("_ends", "_refractory_ns")

    def __init__(self, refractory_s: float) -> None:
        self._refractory_ns = int(refractory_s * NANOSECONDS)
        self._ends: dict[str | int, int] = {}

    def begins(self, key: str | int, now_ns: int) -> bool:
        """Prolong the episode of a key, and return whether it began now."""
        begins = now_ns >= self._ends.get(key, now_ns)
        self._ends[key] = now_ns + self._refractory_ns
        return begins


class _Seconds:
    """The sum over the last second, in slots."""

    __slots__ = ("_slots", "now", "total")

    def __init__(self) -> None:
        self._slots = deque([0.0] * SECOND_SLOTS, maxlen=SECOND_SLOTS)
        self.now = 0.0
        """Of the slot that is open."""
        self.total = 0.0
        """Of the slots that are closed and belong to the last second."""

    def roll(self) -> None:
        """Close the slot."""
        self._slots.append(self.now)
        self.now = 0.0
        self.total = math.fsum(islice(self._slots, 1, None))

    @property
    def last(self) -> float:
        """Return the sum of the ten slots closed last."""
        return math.fsum(self._slots)


class AnomalyDetector:
    """Watch the events of one instrument.

    A detector is silent while it warms up. Times are receive times and rise; an earlier one counts as the latest.
    """

    def __init__(self, definition: InstrumentDefinition, config: AnomalyConfig) -> None:
        self.active: tuple[AnomalyKind, ...] = ()
        """The kinds that the event judged last is out of the ordinary by, whether or not an alarm began with it."""
        self._config = config
        self._price_increment = float(definition.price_increment)
        size = float(definition.size_increment) * float(definition.multiplier)
        self._inverse = definition.type in INVERSE
        self._unit = size if self._inverse else size * self._price_increment
        warm = max(int(config.warm_up_s * SECOND_SLOTS), _LEAST_SLOTS)
        self._deviation = RunningQuantile(0.95, rate=0.003, warm=warm, floor=1e-9)
        self._spread = RunningQuantile(0.5, rate=0.002, warm=warm // 2, floor=1.0)
        self._spread_mad = RunningQuantile(0.5, rate=0.002, warm=warm - warm // 2, floor=1e-9)
        self._notional = RunningQuantile(0.99, rate=0.003, warm=warm, floor=1.0)
        self._rate = RunningQuantile(0.99, rate=0.003, warm=warm, floor=1.0)
        self._per_trade = RunningQuantile(0.5, rate=0.003, warm=warm, floor=1.0)
        self._gap = RunningQuantile(0.99, rate=0.003, warm=warm, floor=1.0)
        self._prices: deque[int] = deque(maxlen=_REFERENCE_SLOTS)
        self._volume, self._messages, self._trades = _Seconds(), _Seconds(), _Seconds()
        self._episodes = _Episodes(config.refractory_s)
        self._slot = 0
        self._last_ns = 0
        self._gap_ns = 0
        self._quoted = False
        self._twice = 0
        """Twice the newest price of the open slot; 0: none yet."""
        self._spread_now = 0
        self._spread_seen = False
        """Whether a quote came in the open slot."""
        self._spread_sigma = 0.0
        self._wide_ns = 0
        """Since when the spread is too wide; 0: it is not."""
        self._reference = 0.0
        self._sigma = 0.0
        self._low, self._high = -math.inf, math.inf
        self._spread_limit = self._volume_limit = self._rate_limit = self._silence_ns = math.inf

    def judge(self, event: Event, recv_ns: int) -> list[Found]:
        """Return the anomalies that begin with an event, and learn from it. Call it before the event is taken."""
        if recv_ns // STEP_NS > self._slot:
            self._roll(recv_ns)
        gap_ns = recv_ns - self._last_ns
        if gap_ns > 0:
            self._last_ns = recv_ns
            if gap_ns > self._gap_ns:
                self._gap_ns = gap_ns
        if self.active:
            self.active = ()
        found: list[Found] = []
        if isinstance(event, Quote):
            self._quote(event, recv_ns, found)
        elif isinstance(event, Trade):
            self._trade(event, recv_ns, found)
        elif isinstance(event, Depth):
            self._message(recv_ns, found)
        return found

    def elapsed(self, now_ns: int, last_frame_ns: int) -> list[Found]:
        """Return the anomalies that begin with nothing happening. Call it at the close of each step."""
        if now_ns // STEP_NS > self._slot:
            self._roll(now_ns)
        found: list[Found] = []
        silent_ns = now_ns - last_frame_ns
        if silent_ns > self._silence_ns and self._episodes.begins(_SILENCE, now_ns):
            usual_ms = self._gap.value / MILLISECOND_NS
            score, threshold = (
                ns / self._silence_ns * self._config.silence_ratio for ns in (silent_ns, self._silence_ns)
            )
            evidence = {"silent_ms": silent_ns / MILLISECOND_NS, "usual_gap_ms": usual_ms}
            found.append(Found(_SILENCE, score, threshold, evidence))
        if self._wide_ns:
            self._wide(now_ns, found)
        return found

    def desynced(self, expected: int, was: int) -> Found:
        """Return the anomaly that a broken sequence, or a wrong checksum, of the order book is."""
        evidence = {"expected": float(expected), "was": float(was), "apart": float(abs(was - expected))}
        return Found(_DESYNC, 1.0, 1.0, evidence)

    def _quote(self, quote: Quote, recv_ns: int, found: list[Found]) -> None:
        self._quoted = True
        self._twice = twice = quote.bid + quote.ask
        if not self._low <= twice <= self._high:
            self._jump(twice, recv_ns, found)
        spread = quote.ask - quote.bid
        if spread < 1:
            spread = 1  # crossed: refused by whoever takes it
        self._spread_now = spread
        self._spread_seen = True
        if spread <= self._spread_limit:
            self._wide_ns = 0
        else:
            self._wide_ns = self._wide_ns or recv_ns
            self._wide(recv_ns, found)
        self._message(recv_ns, found)

    def _trade(self, trade: Trade, recv_ns: int, found: list[Found]) -> None:
        twice = 2 * trade.price
        if not self._low <= twice <= self._high:
            self._jump(twice, recv_ns, found)
        if not self._quoted:
            self._twice = twice
        self._trades.now += 1.0
        volume = self._volume
        volume.now += trade.size if self._inverse else trade.price * trade.size
        if volume.total + volume.now > self._volume_limit and self._alarms(_VOLUME, recv_ns):
            traded, usual = volume.total + volume.now, self._notional.value
            evidence = {"notional": traded * self._unit, "usual_notional": usual * self._unit}
            found.append(Found(_VOLUME, traded / usual, self._config.volume_ratio, evidence))

    def _message(self, recv_ns: int, found: list[Found]) -> None:
        messages = self._messages
        messages.now += 1.0
        sent = messages.total + messages.now
        if sent <= self._rate_limit:
            return
        trades = self._trades.total + self._trades.now
        usual = self._per_trade.value
        per_trade = sent / (trades + 1.0)
        if per_trade >= self._config.stuffing_per_trade * usual and self._alarms(_STUFFING, recv_ns):
            evidence = {
                "messages": sent,
                "usual_messages": self._rate.value,
                "trades": trades,
                "usual_per_trade": usual,
            }
            found.append(Found(_STUFFING, sent / self._rate.value, self._config.stuffing_ratio, evidence))

    def _jump(self, twice: int, recv_ns: int, found: list[Found]) -> None:
        if self._alarms(_JUMP, recv_ns):
            away = twice / self._reference - 1.0
            half = self._price_increment / 2.0
            evidence = {
                "price": twice * half,
                "usual_price": self._reference * half,
                "away_bps": away * 1e4,
                "sigma_bps": self._sigma * 1e4,
            }
            found.append(Found(_JUMP, abs(away) / self._sigma, self._config.jump_sigmas, evidence))

    def _wide(self, now_ns: int, found: list[Found]) -> None:
        """Judge a spread that is too wide, by how long it has been so."""
        held_ns = now_ns - self._wide_ns
        if held_ns >= self._config.spread_hold_ms * MILLISECOND_NS and self._alarms(_SPREAD, now_ns):
            usual = self._spread.value
            score = math.log(self._spread_now / usual) / self._spread_sigma
            spread, usual = self._spread_now * self._price_increment, usual * self._price_increment
            evidence = {"spread": spread, "usual_spread": usual, "held_ms": held_ns / MILLISECOND_NS}
            found.append(Found(_SPREAD, score, self._config.spread_sigmas, evidence))

    def _alarms(self, kind: AnomalyKind, now_ns: int) -> bool:
        self.active = (*self.active, kind)
        return self._episodes.begins(kind, now_ns)

    def _roll(self, now_ns: int) -> None:
        """Close the slots before now, learn from them, and set what the next is judged by."""
        slot = now_ns // STEP_NS
        passed = min(slot - self._slot, SECOND_SLOTS) if self._slot else 0
        self._slot = slot
        if not passed:
            self._last_ns = now_ns
            return
        if now_ns - self._last_ns > self._silence_ns:
            self._prices.clear()  # what was before a silence is no reference after it
            self._twice = 0
        self._learn_price()
        self._learn_spread()
        if self._gap_ns:
            self._gap.push(self._gap_ns)
            self._gap_ns = 0
        for _ in range(passed):
            self._learn_flow()
        self._set_limits()

    def _learn_price(self) -> None:
        if not self._twice:
            return
        if self._reference:
            self._deviation.push(abs(self._twice / self._reference - 1.0))
        self._prices.append(self._twice)
        self._twice = 0

    def _learn_spread(self) -> None:
        if not self._spread_seen:
            return
        self._spread_seen = False
        self._spread.push(self._spread_now)
        if self._spread.value:
            self._spread_mad.push(abs(math.log(self._spread_now / self._spread.value)))

    def _learn_flow(self) -> None:
        self._volume.roll()
        self._messages.roll()
        self._trades.roll()
        if traded := self._volume.last:
            self._notional.push(traded)
        if sent := self._messages.last:
            self._rate.push(sent)
            self._per_trade.push(sent / (self._trades.last + 1.0))

    def _set_limits(self) -> None:
        config = self._config
        self._reference = median(self._prices) if len(self._prices) >= _LEAST_SLOTS else 0.0
        if self._reference and self._deviation.value:
            self._sigma = max(self._deviation.value / _NORMAL_95, config.jump_least_bps / 1e4)
            away = self._reference * config.jump_sigmas * self._sigma + self._spread.value
            self._low, self._high = self._reference - away, self._reference + away
        else:
            self._low, self._high = -math.inf, math.inf
        if self._spread_mad.value:
            self._spread_sigma = max(_NORMAL_MAD * self._spread_mad.value, config.spread_least_log)
            self._spread_limit = self._spread.value * math.exp(config.spread_sigmas * self._spread_sigma)
        self._volume_limit = self._notional.value * config.volume_ratio or math.inf
        if self._per_trade.value:
            self._rate_limit = self._rate.value * config.stuffing_ratio
        if self._gap.value:
            self._silence_ns = max(config.silence_ratio * self._gap.value, config.silence_floor_ms * MILLISECOND_NS)


@dataclass(slots=True)
class _Venue:
    """The newest mid of a venue."""

    mid: float
    recv_ns: int
    slot: int = 0
    """In which it was compared last."""


class _Pair:
    """The logarithm of the price ratio of two venues, its running median and MAD, and what it was in agreement."""

    __slots__ = ("_first", "_warm", "agreed", "mad", "median", "since_ns", "slot")

    def __init__(self, warm: int) -> None:
        self.median = 0.0
        self.mad = RunningQuantile(0.5, rate=_BASIS_RATE, warm=warm, floor=1e-9)
        self.agreed = (0.0, 0.0)
        """Logarithms of both prices when they agreed last."""
        self.since_ns = 0
        """Since when they diverge; 0: they do not."""
        self.slot = 0
        """In which they were compared last."""
        self._warm = warm
        self._first: list[float] = []

    def learn(self, basis: float) -> None:
        """Take the ratio now: the first exactly, then in steps of a fixed share of the MAD."""
        if self._warm:
            self._first.append(basis)
            self._warm -= 1
            if not self._warm:
                self.median = median(self._first)
                for one in self._first:
                    self.mad.push(abs(one - self.median))
                self._first.clear()
            return
        off = basis - self.median
        self.median += math.copysign(_BASIS_RATE * self.mad.value, off)
        self.mad.push(abs(off))


_BASIS_RATE = 0.002


class DivergenceDetector:
    """Compare the mids of one underlying across venues, once a slot and pair.

    What is compared is the price ratio, against its own running median: perpetuals, futures and other quote assets
    trade at a basis. Two venues that diverge do not say which is wrong: the one that diverges from more others is, or
    of two the one whose price moved further since they agreed.
    """

    def __init__(self, config: AnomalyConfig) -> None:
        self._config = config
        self._least = config.divergence_least_bps / 1e4
        self._hold_ns = config.divergence_hold_ms * MILLISECOND_NS
        self._stale_ns = config.divergence_stale_ms * MILLISECOND_NS
        self._warm = max(int(config.warm_up_s * SECOND_SLOTS), _LEAST_SLOTS)
        self._venues: dict[str, _Venue] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._episodes = _Episodes(config.refractory_s)

    def mid(self, key: str, mid: float, recv_ns: int) -> list[tuple[str, Found]]:
        """Take a venue's positive mid; return what diverges now, with the key of the venue that does."""
        venue = self._venues.get(key)
        if venue is None:
            venue = self._venues[key] = _Venue(mid, recv_ns)
        venue.mid, venue.recv_ns = mid, recv_ns
        slot = recv_ns // STEP_NS
        if slot == venue.slot:
            return []
        venue.slot = slot
        found = [self._compare(key, other, recv_ns) for other in self._venues if other != key]
        return [one for one in found if one is not None]

    def _compare(self, key: str, other: str, recv_ns: int) -> tuple[str, Found] | None:
        names = (key, other) if key < other else (other, key)
        pair = self._pairs.get(names)
        if pair is None:
            pair = self._pairs[names] = _Pair(self._warm)
        first, second = self._venues[names[0]], self._venues[names[1]]
        if abs(first.recv_ns - second.recv_ns) > self._stale_ns:
            pair.since_ns = 0
            return None
        slot = recv_ns // STEP_NS
        if slot == pair.slot:
            return None
        pair.slot = slot
        now = (math.log(first.mid), math.log(second.mid))
        basis = now[0] - now[1]
        sigma = max(_NORMAL_MAD * pair.mad.value, self._least)
        away, usual = basis - pair.median, pair.median
        score = abs(away) / sigma if pair.mad.value else 0.0
        pair.learn(basis)
        if score < self._config.divergence_sigmas:
            pair.since_ns = 0
            pair.agreed = now
            return None
        pair.since_ns = pair.since_ns or recv_ns
        if recv_ns - pair.since_ns < self._hold_ns or min(first.recv_ns, second.recv_ns) <= pair.since_ns:
            return None  # too soon, or one of them has said nothing since
        moved = (abs(now[0] - pair.agreed[0]), abs(now[1] - pair.agreed[1]))
        order = [(self._apart(name), far, name) for name, far in zip(names, moved, strict=True)]
        blamed = max(order)[2]
        if not self._episodes.begins(blamed, recv_ns):
            return None
        evidence = {
            "away_bps": away * 1e4,
            "usual_basis_bps": usual * 1e4,
            "sigma_bps": sigma * 1e4,
            f"mid.{names[0]}": first.mid,
            f"mid.{names[1]}": second.mid,
        }
        return blamed, Found(_DIVERGENCE, score, self._config.divergence_sigmas, evidence)

    def _apart(self, name: str) -> int:
        """Return how many venues one diverges from now."""
        return sum(name in names and pair.since_ns > 0 for names, pair in self._pairs.items())
