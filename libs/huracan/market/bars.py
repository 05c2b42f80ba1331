"""Bars from trades: aligned to UTC, cut by receive time, exact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from huracan.contracts.market import Bar, InstrumentDefinition, bar


@dataclass(slots=True)
class _OpenBar:
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


class BarBuilder:
    """Build the bars of one instrument and interval. Until `observe_from` is called every bar is partial."""

    def __init__(self, instrument: InstrumentDefinition, interval_ns: int) -> None:
        self._instrument = instrument.id
        self._interval_ns = interval_ns
        self._price_increment = Decimal(instrument.price_increment)
        self._size_increment = Decimal(instrument.size_increment) * Decimal(instrument.multiplier)
        self._observed_from_ns: int | None = None
        self._open: dict[int, _OpenBar] = {}
        self._closed_to: int | None = None
        self._last_close: int | None = None
        self.late_trades = 0
        """Trades that came for a bar that was closed; they are in no bar."""

    def observe_from(self, ns: int) -> None:
        """Say that every trade received from this time on is seen; open bars that began earlier are partial.

        Call it again with the time at which an interrupted feed resumed, after closing the bars that ended before the
        interruption: what began since and ended unseen is no bar, however long it was.
        """
        self._observed_from_ns = ns
        index = ns // self._interval_ns
        if self._closed_to is not None and index > self._closed_to:
            self._closed_to = index
            self._open = {start: current for start, current in self._open.items() if start >= index}

    def trade(self, recv_ns: int, price: int, size: int) -> None:
        """Take a trade, in increments."""
        index = recv_ns // self._interval_ns
        if self._closed_to is not None and index < self._closed_to:
            self.late_trades += 1
            return
        current = self._open.get(index)
        if current is None:
            self._open[index] = _OpenBar(price, price, price, price, size, 1)
            return
        current.high = max(current.high, price)
        current.low = min(current.low, price)
        current.close = price
        current.volume += size
        current.trades += 1

    def close_through(self, ns: int) -> list[Bar]:
        """Return the bars whose end is at or before this time, oldest first, each once.

        An interval without trades repeats the last close; before the first trade there are no bars.
        """
        end = ns // self._interval_ns
        if self._closed_to is not None and end <= self._closed_to:
            return []
        bars = [self._close(index) for index in range(self._first_open(end), end)]
        self._closed_to = end
        return bars

    def _first_open(self, end: int) -> int:
        if self._last_close is None or self._closed_to is None:
            return min(self._open, default=end)
        return self._closed_to

    def _close(self, index: int) -> Bar:
        built = self._open.pop(index, None)
        if built is None:
            last = self._last_close or 0
            built = _OpenBar(last, last, last, last, 0, 0)
        self._last_close = built.close
        open_ns = index * self._interval_ns
        return bar(
            instrument=self._instrument,
            interval_ns=self._interval_ns,
            open_ns=open_ns,
            open=built.open * self._price_increment,
            high=built.high * self._price_increment,
            low=built.low * self._price_increment,
            close=built.close * self._price_increment,
            volume=built.volume * self._size_increment,
            trades=built.trades,
            partial=self._observed_from_ns is None or open_ns < self._observed_from_ns,
        )
