"""Whether a price can be meant at all: far from where the market has just been, a trade or quote is refused."""

from __future__ import annotations

from collections import deque

from pydantic import Field, PositiveInt

from huracan.clock import MILLISECOND_NS
from huracan.config import Config
from huracan.contracts.market import InstrumentDefinition
from huracan_gateway.events import Event, Quote, Trade
from huracan_gateway.reject import Reason, Rejected


class ValidationConfig(Config):
    """Which prices are refused."""

    max_off_share: float = Field(default=0.2, gt=0.0, lt=1.0)
    """A price further than this from the reference is refused. Below 0.05 real crashes are refused for a second, above
    0.5 a price with a digit too many still is, but one with a wrong first digit is not."""
    reference_samples: PositiveInt = Field(default=31, le=1_001)
    """The reference is the median of so many accepted prices: it takes half of them to move it. 11 to 101 is safe."""
    sample_every_ms: PositiveInt = 1_000
    """At most one accepted price in so long becomes a sample, so that a burst cannot fill the reference, which spans
    half a minute then. Below 100 it follows a burst of bad prices, above 10,000 it lags a large move."""
    believe_after: PositiveInt = 20
    """So many refusals in a row that agree with each other make theirs the new reference: after a halt, or when the
    first price of all was wrong. Below 5 a stuttering venue is believed."""
    believe_after_ms: PositiveInt = 1_000
    """And they must span at least this long. Below 200 one burst of bad frames is believed; above 10,000 a real crash
    is kept from everyone for too long."""
    agree_share: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Refused prices agree while the highest is at most this far above the lowest: noise does not. 0.01 to 0.1."""


class PriceBand:
    """Refuse trades and quotes that are far off the median of the prices accepted lately.

    A quote is judged by its mid. The first price of all is accepted. A wrong reference has one way out: `believe_after`
    refusals in a row, over at least `believe_after_ms`, all within `agree_share` of each other; the last of them is
    accepted, and the reference begins anew with it.
    """

    def __init__(self, definition: InstrumentDefinition, config: ValidationConfig) -> None:
        self._definition = definition
        self._config = config
        self._sample_ns = config.sample_every_ms * MILLISECOND_NS
        self._believe_ns = config.believe_after_ms * MILLISECOND_NS
        self._samples: deque[int] = deque(maxlen=config.reference_samples)
        self._next_sample_ns = 0
        self._reference = 0.0
        self._low, self._high = 0.0, float("inf")
        self._refused = 0
        self._refused_from_ns = 0
        self._refused_low = self._refused_high = 0

    def check(self, event: Event, recv_ns: int) -> None:
        """Take the price of a trade or quote; raise Rejected when it is too far off. Other events have no say."""
        if isinstance(event, Quote):
            twice = event.bid + event.ask
        elif isinstance(event, Trade):
            twice = 2 * event.price
        else:
            return
        if not self._low <= twice <= self._high:
            self._refuse(twice, event, recv_ns)
        self._refused = 0
        if recv_ns >= self._next_sample_ns:
            self._sample(twice, recv_ns)

    def _sample(self, twice: int, recv_ns: int) -> None:
        self._next_sample_ns = recv_ns + self._sample_ns
        self._samples.append(twice)
        ordered, half = sorted(self._samples), len(self._samples) // 2
        self._reference = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
        off = self._config.max_off_share
        self._low, self._high = self._reference * (1.0 - off), self._reference * (1.0 + off)

    def _refuse(self, twice: int, event: Quote | Trade, recv_ns: int) -> None:
        """Raise, unless this is the refusal with which the new level is believed."""
        low, high = min(self._refused_low, twice), max(self._refused_high, twice)
        if not self._refused or high > low * (1.0 + self._config.agree_share):
            self._refused, self._refused_from_ns = 0, recv_ns
            low = high = twice
        self._refused += 1
        self._refused_low, self._refused_high = low, high
        if self._refused >= self._config.believe_after and recv_ns - self._refused_from_ns >= self._believe_ns:
            self._samples.clear()
            self._next_sample_ns = recv_ns
            return
        what, off = type(event).__name__.lower(), f"{self._config.max_off_share:.0%}"
        raise Rejected(
            Reason.FAR_OFF_PRICE,
            f"price of a {what} was {self._price(twice)}, more than {off} off {self._price(self._reference)} of late",
        )

    def _price(self, twice: float) -> str:
        return f"{twice / 2.0 * float(self._definition.price_increment):.10g}"
