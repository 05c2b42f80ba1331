"""What may be spent a second: requests by weight, messages, connections."""

from __future__ import annotations

import asyncio

from huracan.clock import NANOSECONDS
from huracan.ports import Clock

BURST_S = 5.0
"""Seconds of a venue's rate that may be spent at once: a book and its trades."""
SLOWEST = 0.05
"""Least share of its rate that a bucket is slowed to."""


class TokenBucket:
    """Let through `burst` at once and `per_s` a second from then on, first come, first served."""

    def __init__(self, clock: Clock, *, per_s: float, burst: float) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = burst
        self._share = 1.0
        self._left = burst
        self._at_ns = clock.now_ns()
        self._turn = asyncio.Lock()

    def slow_to(self, share: float) -> None:
        """Go on at this share of the rate, 0 to 1; 1 is full speed."""
        self._refill()
        self._share = min(max(share, SLOWEST), 1.0)

    async def take(self, amount: float = 1.0) -> None:
        """Wait until an amount may be spent, and spend it.

        An amount above the burst waits for a full bucket, and leaves a debt.
        """
        async with self._turn:
            while (lacks := min(amount, self._burst) - self._refill()) > 0:  # noqa: ASYNC110 - the rate may change
                await asyncio.sleep(lacks / (self._per_s * self._share))
            self._left -= amount

    def _refill(self) -> float:
        now_ns = self._clock.now_ns()
        passed_s = max(now_ns - self._at_ns, 0) / NANOSECONDS  # the wall clock may be set back
        self._at_ns = now_ns
        self._left = min(self._left + passed_s * self._per_s * self._share, self._burst)
        if self._burst - self._left < 1e-9:
            self._left = self._burst
        return self._left


class VenueLimits:
    """What all who ask one REST address share: its rate, in weight a second, and the pauses that it asks for."""

    def __init__(self, clock: Clock, weight_per_s: float) -> None:
        self.bucket = TokenBucket(clock, per_s=weight_per_s, burst=max(weight_per_s * BURST_S, 1.0))
        self._allowed_s = 0.0

    async def take(self, weight: float) -> None:
        """Wait until a weight may be spent and no pause is on."""
        await self.bucket.take(weight)
        loop = asyncio.get_running_loop()
        while (left_s := self._allowed_s - loop.time()) > 0:  # noqa: ASYNC110 - another answer may prolong it
            await asyncio.sleep(left_s)

    def pause(self, seconds: float) -> None:
        """Let nothing through for so long, from now."""
        self._allowed_s = max(self._allowed_s, asyncio.get_running_loop().time() + seconds)

    def slow_to(self, share: float) -> None:
        """Go on at this share of the rate, 0 to 1."""
        self.bucket.slow_to(share)
