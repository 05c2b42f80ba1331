"""How soon the regime service tells of a drift, how often of one that is none, and what a step costs it.

The steps are those of recordings as the gateway closes them, with the opinions of the experts on them, all out of a
replay in this process; they are then changed from some step on, and heard by a watcher as it is served.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.contracts.context import DriftLevel, DriftState
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.opinion import Opinion
from huracan.expert.port import ContextDraft
from huracan.features.micro import MICRO
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import World
from huracan_cli.composition import Inputs, factories, gateway, history_of
from huracan_gateway.feed import RecordingFeed
from huracan_regime.config import DriftConfig
from huracan_regime.distribution import BINS
from huracan_regime.drift import LOSS, VOLATILITY, DriftContextBuilder

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "ticks" / "hftbacktest"
RECORDINGS = ("binance_usdm_btcusdt_20240808", "binance_spot_btcusdt_20240808")
"""The others are shorter than a reference is."""
SIMULATED_S = 900.0
SEEDS = (1, 2)
MINUTE = 600
"""Rows."""
FIRST = 1_600
"""Rows before the first injection: a reference, and something to compare it with."""
EVERY = 300
"""Rows from one injection to the next."""
MOVES = ("mid_return_bps", "realised_volatility_bps", "mid_momentum_1s_bps", "mid_momentum_10s_bps")
SIZES = ("signed_volume", "signed_volume_1s", "signed_volume_10s")
LOG_SIZE = "log_trade_volume"
PER = 10_000

Rows = NDArray[np.float32]


@dataclass
class Heard:
    """What a watcher hears of one market."""

    name: str
    messages: list[Message]

    @property
    def rows(self) -> int:
        """Return how many steps there are."""
        return sum(isinstance(message, FeatureWindow) for message in self.messages)


@dataclass(frozen=True)
class Change:
    """Something that is done to a market from a step on."""

    name: str
    tells: frozenset[str]
    """What is to be found: any of these."""
    rows: Callable[[Rows, Rows], Rows] | None = None
    """Returns rows as they are after it, given the last row before it."""
    expert: str = ""
    """Whose odds are turned round."""


@dataclass
class Score:
    """How one kind of change was told."""

    delays: list[int] = field(default_factory=list)
    missed: int = 0


def replayed(path: Path, history: Path | None = None) -> Heard:
    """Return the windows and opinions of a replay of a recording with all services."""
    feed = RecordingFeed(path)
    start_ns = feed.head.first_recv_ns
    inputs = Inputs(definitions=[feed.definition], first_recv_ns=start_ns, history=history_of(feed.definition, history))

    async def main(clock: VirtualClock) -> list[Message]:
        world = World(clock, seed=0)
        inbox = world.bus.node("bench").inbox()
        for pattern in DriftContextBuilder(DriftConfig()).inputs:
            inbox.subscribe(pattern)
        for name, make in factories(inputs).items():
            world.start(name, make)
        world.start("gateway", gateway(inputs, feed, lockstep=True))
        await world.finish("gateway")
        inbox.drain()
        heard = [delivery.decode() async for delivery in inbox]
        await world.stop()
        return heard

    return Heard(path.name.partition(".")[0], run_virtual(main, start_ns=start_ns))


def simulated(seed: int, directory: Path) -> Heard:
    """Return the windows and opinions of a simulated market that is calm all the time."""
    path = directory / f"simulated_{seed}.jsonl"
    write_recording(SimulatedMarketConfig(seed=seed, duration_s=SIMULATED_S, regime_switch_s=1e7), path)
    return replayed(path)


def changed(heard: Heard, change: Change, at: int) -> Iterator[Message]:
    """Return what is heard where a change sets in with a window, counted from 0."""
    newest = [message for message in heard.messages if isinstance(message, FeatureWindow)]
    first_ns = newest[at].close_ns
    before: Rows | None = None
    for message in heard.messages:
        if message.close_ns < first_ns:  # type: ignore[attr-defined]
            before = window_matrix(message) if isinstance(message, FeatureWindow) else before
            yield message
        elif isinstance(message, FeatureWindow):
            yield _changed_window(message, change, first_ns, before)
        elif isinstance(message, Opinion) and message.expert == change.expert:
            yield _turned(message)
        else:
            yield message


def _changed_window(window: FeatureWindow, change: Change, first_ns: int, before: Rows | None) -> FeatureWindow:
    if change.rows is None or before is None:
        return window
    values = window_matrix(window).copy()
    touched = min((window.close_ns - first_ns) // window.interval_ns + 1, window.rows)
    values[-touched:] = change.rows(values[-touched:], before[-1])
    other = FeatureWindow()
    other.CopyFrom(window)
    other.values = values.tobytes()
    return other


def _turned(opinion: Opinion) -> Opinion:
    other = Opinion()
    other.CopyFrom(opinion)
    other.p_down, other.p_flat, other.p_up = opinion.p_flat, opinion.p_up, opinion.p_down
    return other


def _scaled(names: Sequence[str], factor: float) -> Callable[[Rows, Rows], Rows]:
    columns = [MICRO.names.index(name) for name in names]

    def scaled(rows: Rows, last: Rows) -> Rows:  # noqa: ARG001 - the form of a change
        rows[:, columns] *= np.float32(factor)
        return rows

    return scaled


def _other_units(rows: Rows, last: Rows) -> Rows:
    column = MICRO.names.index(LOG_SIZE)
    rows = _scaled(SIZES, 100)(rows, last)
    rows[:, column] = np.log1p(100 * np.expm1(rows[:, column]))
    return rows


def _frozen(name: str) -> Callable[[Rows, Rows], Rows]:
    column = MICRO.names.index(name)

    def frozen(rows: Rows, last: Rows) -> Rows:
        rows[:, column] = last[column]
        return rows

    return frozen


def _gone(name: str) -> Callable[[Rows, Rows], Rows]:
    column = MICRO.names.index(name)

    def gone(rows: Rows, last: Rows) -> Rows:  # noqa: ARG001 - the form of a change
        rows[:, column] = np.nan
        return rows

    return gone


def changes(heard: Heard) -> list[Change]:
    """Return all that is done to a market; of columns those that are there and are not always the same."""
    rows = np.stack([window_matrix(each)[-1] for each in heard.messages if isinstance(each, FeatureWindow)])
    alive = [
        name
        for name, column in zip(MICRO.names, rows[MINUTE:].T, strict=True)
        if np.isfinite(column).mean() > 0.5 and len(np.unique(column[np.isfinite(column)])) > BINS
    ]
    experts = {message.expert for message in heard.messages if isinstance(message, Opinion) and not message.abstained}
    return [
        Change("volatility x 3", frozenset({VOLATILITY, *MOVES}), _scaled(MOVES, 3)),
        Change("sizes x 100", frozenset({*SIZES, LOG_SIZE}), _other_units),
        *(Change("a column frozen", frozenset({name}), _frozen(name)) for name in alive),
        *(Change("a column gone", frozenset({name}), _gone(name)) for name in alive),
        *(Change(f"losses of {name} rise", frozenset({LOSS + name}), expert=name) for name in sorted(experts)),
    ]


def told(messages: Iterator[Message], config: DriftConfig) -> list[DriftState]:
    """Return the states that a watcher tells, with the step of each as its `rows`."""
    builder = DriftContextBuilder(config)
    found, step = [], 0
    for message in messages:
        drafts: Sequence[ContextDraft] = builder.observe(message)
        step += isinstance(message, FeatureWindow)
        for draft in drafts:
            assert isinstance(draft.payload, DriftState)
            state = DriftState()
            state.CopyFrom(draft.payload)
            state.rows = step
            found.append(state)
    return found


def delay(states: Sequence[DriftState], usual: Sequence[DriftState], change: Change, at: int) -> int | None:
    """Return how many rows after a change it was told; None where not within a minute.

    What is told as soon without the change, for the market itself has changed, does not count.
    """

    def first(told_states: Sequence[DriftState]) -> int:
        named = (
            int(state.rows)
            for state in told_states
            if state.rows > at and any(each.name in change.tells for each in state.findings)
        )
        return next(named, at + MINUTE + 1)

    found = first(states)
    return found - at if found < first(usual) and found <= at + MINUTE else None


def is_told_already(usual: Sequence[DriftState], change: Change, at: int) -> bool:
    """Return whether what a change is told by is in force when it sets in."""
    before = [state for state in usual if state.rows <= at]
    return bool(before) and any(each.name in change.tells for each in before[-1].findings)


def score(heard: Heard, config: DriftConfig) -> dict[str, Score]:
    """Return how each kind of change is told, from several steps on."""
    usual = told(iter(heard.messages), config)
    found: dict[str, Score] = {}
    for at in range(FIRST, heard.rows - MINUTE, EVERY * (1 + heard.rows // 4_000)):
        for change in changes(heard):
            if is_told_already(usual, change, at):
                continue
            waited = delay(told(changed(heard, change, at), config), usual, change, at)
            kept = found.setdefault(change.name, Score())
            if waited is None:
                kept.missed += 1
            else:
                kept.delays.append(waited)
    return found


def false_alarms(heard: Heard, config: DriftConfig) -> dict[str, float]:
    """Return how often a level is entered where nothing was changed, per 10,000 rows that are judged, and what by."""
    states = told(iter(heard.messages), config)
    judged = heard.rows - (states[0].rows if states else heard.rows)
    entered = Counter[str]()
    level = DriftLevel.DRIFT_LEVEL_OK
    for state in states:
        if state.level > level:
            entered[DriftLevel.Name(state.level).removeprefix("DRIFT_LEVEL_").lower()] += 1
            entered.update(f"by {each.name}" for each in state.findings if each.level == state.level)
        level = state.level
    return {"rows": judged} | {name: count * PER / max(judged, 1) for name, count in sorted(entered.items())}


def cost_us(heard: Heard, config: DriftConfig) -> tuple[float, float]:
    """Return the mean processor time that a window takes with the opinions on it, and the longest, in microseconds."""
    builder = DriftContextBuilder(config)
    took = []
    for message in heard.messages:
        started = time.thread_time_ns()
        builder.observe(message)
        spent = time.thread_time_ns() - started
        if isinstance(message, FeatureWindow):
            took.append(spent)
        elif took:
            took[-1] += spent
    return mean(took) / 1e3, max(took) / 1e3


def main() -> None:
    """Measure, print a table, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("out/bench/drift.json"))
    given = parser.parse_args()
    history = given.data.parents[1] / "ohlcv" / "binance_usdm_BTCUSDT_15m_2023_2024.parquet"
    config = DriftConfig()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as directory:
        markets = [
            *(replayed(given.data / f"{name}.jsonl.gz", history if "usdm" in name else None) for name in RECORDINGS),
            *(simulated(seed, Path(directory)) for seed in SEEDS),
        ]
    for heard in markets:
        print(f"\n{heard.name}: {heard.rows} rows")
        alarms = false_alarms(heard, config)
        print(
            "  without a change, per 10,000 rows:", ", ".join(f"{name} {value:.1f}" for name, value in alarms.items())
        )
        rows += [
            {"name": f"{heard.name}.alarms.{name}", "value": value, "unit": "per 10,000 rows"}
            for name, value in alarms.items()
        ]
        average, longest = cost_us(heard, config)
        print(f"  a window with its opinions: mean {average:.1f} us, longest {longest / 1e3:.1f} ms")
        rows.append({"name": f"{heard.name}.window", "value": average, "unit": "us"})
        print(f"  {'change':24} {'told':>6} {'missed':>6} {'median':>7} {'longest':>7} rows")
        for name, found in score(heard, config).items():
            middle, last = (median(found.delays), max(found.delays)) if found.delays else (float("nan"),) * 2
            print(f"  {name:24} {len(found.delays):6} {found.missed:6} {middle:7.0f} {last:7.0f}")
            for what, value in (("told", len(found.delays)), ("missed", found.missed), ("delay", middle)):
                rows.append(
                    {"name": f"{heard.name}.{name}.{what}", "value": value, "unit": "rows" if what == "delay" else "1"}
                )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    given.out.write_text(json.dumps({"machine": machine, "load": os.getloadavg()[0], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
