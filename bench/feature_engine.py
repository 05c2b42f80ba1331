"""The feature engine alone: steps of a recording, and bars one by one against all at once.

A step's close is the median of all after the first minute, as they come between trades, quotes and depth updates; these
are told once more without closes. The rows of bars that are compared are the same to the bit.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from huracan.clock import NANOSECONDS, step_close
from huracan.contracts.market import Bar, InstrumentId, bar
from huracan.features import micro
from huracan.features.bar import BarState
from huracan.features.bar_batch import bar_rows
from huracan.features.liquidations import STEPS_60S
from huracan.rng import SeededRng
from huracan_gateway.feed import RecordingFeed
from huracan_gateway.instrument import Instrument
from huracan_gateway.recording import read_lines
from huracan_gateway.reject import Rejected

RUNS = 5
INTERVAL_NS = 900 * 10**9
BARS = 36_000
ONE_BY_ONE = 2_000
"""Bars pushed one after the other: their cost is the same for each once a week is kept."""

Call = tuple[str, tuple[Any, ...]]


class Heard(micro.MicroState):
    """Keeps what it is told rather than make features of it."""

    calls: list[Call]

    def __init__(self, price_increment: float, size_increment: float) -> None:
        super().__init__(price_increment, size_increment)
        self.increments, self.calls = (price_increment, size_increment), []

    def trade(self, *told: int) -> None:
        """Keep a trade."""
        self.calls.append(("trade", told))

    def quote(self, *told: int) -> None:
        """Keep a quote."""
        self.calls.append(("quote", told))

    def depth(self, *told: Any) -> None:
        """Keep the best levels."""
        self.calls.append(("depth", told))

    def close(self, close_ns: int, others: Any = ()) -> Any:  # noqa: ARG002 - the form of what it stands for
        """Keep the end of a step."""
        self.calls.append(("close", (close_ns,)))
        return np.zeros(micro.MICRO.columns, dtype=np.float32)


def heard(path: Path) -> Heard:
    """Return what the features of a recording are told by the gateway."""
    feed = RecordingFeed(path)
    decoder = feed.adapter.decoder(feed.definition)
    told = Instrument(feed.definition, epoch=1, batch_rows=256, adapter=feed.adapter)
    state = told._micro = Heard(  # noqa: SLF001 - in the place of what it stands for
        float(feed.definition.price_increment), float(feed.definition.size_increment)
    )
    for number, line in enumerate(read_lines(path), 1):
        while told.next_step is not None and step_close(told.next_step) <= line.recv_ns:
            told.close([])
        try:
            for event in decoder.decode(line.raw)[1]:
                told.take(event, recv_ns=line.recv_ns, ingest_seq=number)
        except Rejected:
            continue
        told.batches.clear()
    return state


def least(work: Callable[[], object]) -> float:
    """Return the least time that some work takes of the thread, in seconds."""
    times = []
    for _ in range(RUNS):
        gc.collect()
        gc.freeze()
        since_s = time.thread_time()
        work()
        times.append(time.thread_time() - since_s)
    return min(times)


def closes(told: Heard) -> float:
    """Return the median time of the close of a step, in seconds; the look-back of all is full."""
    state, times = micro.MicroState(*told.increments), []
    for name, arguments in told.calls:
        since_ns = time.perf_counter_ns()
        getattr(state, name)(*arguments)
        if name == "close":
            times.append(time.perf_counter_ns() - since_ns)
    return median(times[STEPS_60S:]) / NANOSECONDS


def events(told: Heard) -> None:
    """Tell a state what was heard, and close no step."""
    state = micro.MicroState(*told.increments)
    for name, arguments in told.calls:
        if name != "close":
            getattr(state, name)(*arguments)


def walk(count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return open, high, low, close and volume of bars of a walk, shape (5, count)."""
    rng = SeededRng(1).stream("walk")
    closes, candles = 1_000.0, []
    for _ in range(count):
        opened, closes = closes, closes * (1 + 0.004 * (rng.random() - 0.5))
        high, low = max(opened, closes) * (1 + 0.001 * rng.random()), min(opened, closes) * (1 - 0.001 * rng.random())
        candles.append((opened, high, low, closes, 100 * rng.random()))
    return np.array(candles).T


def messages(candles: np.ndarray[Any, np.dtype[np.float64]]) -> list[Bar]:
    """Return bars as the gateway has them."""
    of = InstrumentId(venue="sim", symbol="btc-usdt", definition_version=1)
    return [
        bar(
            instrument=of,
            interval_ns=INTERVAL_NS,
            open_ns=number * INTERVAL_NS,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
        )
        for number, (opened, high, low, close, volume) in enumerate(map(_exact, candles.T.tolist()))
    ]


def _exact(values: list[float]) -> list[Decimal]:
    return [Decimal(repr(value)) for value in values]


def pushed(bars: list[Bar]) -> None:
    """Make the rows of bars one after the other."""
    state = BarState()
    for each in bars:
        state.push(each)


def main() -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/bench/feature_engine.json"))
    given = parser.parse_args()
    told = heard(given.recording)
    steps = sum(name == "close" for name, _ in told.calls)
    candles = walk(BARS)
    bars, times = messages(candles[:, :ONE_BY_ONE]), np.arange(BARS, dtype=np.int64) * INTERVAL_NS
    close = closes(told)
    of_step = least(lambda: events(told)) / steps
    one_by_one = least(lambda: pushed(bars)) / ONE_BY_ONE
    at_once = least(lambda: bar_rows(times, *candles, interval_ns=INTERVAL_NS)) / BARS
    table = (
        ("close of a step", close, close),
        ("what comes in a step", of_step, close),
        ("bar after bar", one_by_one, one_by_one),
        ("all bars at once", at_once, one_by_one),
    )
    rows = [
        {"name": name, "value": value * 1e6, "unit": "us", "baseline": baseline * 1e6, "ratio": value / baseline}
        for name, value, baseline in table
    ]
    for row in rows:
        print(f"{row['name']:32} {row['value']:10.1f} us  {row['ratio']:6.3f} of its baseline")  # noqa: T201
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    said = {"machine": machine, "load": os.getloadavg()[0], "steps": steps, "bars": BARS, "rows": rows}
    given.out.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
