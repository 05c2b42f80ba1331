"""VPIN: how one-sided the last buckets of equal volume were."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable

from huracan.clock import NANOSECONDS

NAN = float("nan")


def vpin(buy: Iterable[float], sell: Iterable[float]) -> float:
    """Return sum |V_B - V_S| / sum (V_B + V_S) over buckets of equal volume, in [0, 1].

    Easley, Lopez de Prado & O'Hara 2012. Andersen & Bondarenko 2014 show its mechanical link to volume and
    volatility: compare anything found with it against those two.
    """
    pairs = list(zip(buy, sell, strict=True))
    return sum(abs(b - s) for b, s in pairs) / sum(b + s for b, s in pairs)


class VolumeBuckets:
    """Cut the stream of trades into buckets of equal volume by aggressor, and keep their VPIN.

    There is no daily volume to take a fiftieth of, so the bucket is a tenth of what trades in the first 10 s
    after the first trade, that is one second's volume at the start; the 10 s stretch until 50 trades have
    come. Those trades fill no bucket. A trade is split over the buckets it fills, at most 50: more could not
    change the level.
    """

    __slots__ = (
        "_bought",
        "_buckets",
        "_calibrated",
        "_calibration_trades",
        "_count",
        "_filled",
        "_history",
        "_ranked",
        "_sold",
        "_started_ns",
        "level",
        "rank",
        "volume",
    )

    CALIBRATION_NS = 10 * NANOSECONDS

    def __init__(self, count: int = 50, history: int = 1000, calibration_trades: int = 50) -> None:
        self._count = count
        self._calibration_trades = calibration_trades
        self._calibrated = 0
        self._started_ns = 0
        self._filled = 0
        self._buckets = 0
        self._bought: deque[int] = deque([0], maxlen=count)
        self._sold: deque[int] = deque([0], maxlen=count)
        self._history: deque[float] = deque(maxlen=history)
        self._ranked: list[float] = []
        self.volume = 0
        """Volume of a bucket in size increments; 0 while it is being found."""
        self.level = NAN
        """VPIN over the last `count` buckets; NaN until there are as many."""
        self.rank = NAN
        """Share of the last `history` levels not above this one; NaN until there are `count` of them."""

    def add(self, size: int, side: int, recv_ns: int) -> None:
        """Take a trade: size in increments, side +1 for an aggressive buy, -1 for a sell."""
        if self.volume == 0 and not self._calibrate(size, recv_ns):
            return
        filled = self._filled + size
        if filled < self.volume:
            self._filled = filled
            if side > 0:
                self._bought[-1] += size
            else:
                self._sold[-1] += size
        else:
            self._fill(size, self._bought if side > 0 else self._sold)

    def _calibrate(self, size: int, recv_ns: int) -> bool:
        if self._calibrated == 0:
            self._started_ns = recv_ns
        elapsed = recv_ns - self._started_ns >= self.CALIBRATION_NS
        if elapsed and self._calibration_trades <= 0:
            self.volume = max(1, self._calibrated // 10)
            return True
        self._calibrated += size
        self._calibration_trades -= 1
        return False

    def _fill(self, size: int, own: deque[int]) -> None:
        for _ in range(self._count):
            room = self.volume - self._filled
            if size < room:
                break
            own[-1] += room
            size -= room
            self._close_bucket()
        self._filled = size % self.volume
        own[-1] += self._filled

    def _close_bucket(self) -> None:
        self._buckets += 1
        if self._buckets >= self._count:
            self.level = vpin(self._bought, self._sold)
            self._remember(self.level)
        self._bought.append(0)
        self._sold.append(0)
        self._filled = 0

    def _remember(self, level: float) -> None:
        if len(self._history) == self._history.maxlen:
            del self._ranked[bisect_left(self._ranked, self._history[0])]
        self._history.append(level)
        insort(self._ranked, level)
        if len(self._ranked) >= self._count:
            self.rank = bisect_right(self._ranked, level) / len(self._ranked)
