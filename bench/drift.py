"""How soon the regime service tells of a drift, how often of one that nobody made, and what a step costs it.

The steps are those of recordings as the gateway closes them, with the opinions of the experts on them, out of a replay
in this process; then some of them are changed from a step on, and heard by a watcher as it is served. Markets are two
that were recorded, and simulated ones that stay as calm as they are: what changes there, somebody changed.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.contracts.codec import digest
from huracan.contracts.context import DriftLevel, DriftState, drift_level_name
from huracan.contracts.features import FeatureWindow, window_matrix
from huracan.contracts.opinion import Opinion
from huracan.features.micro import MICRO
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import World
from huracan_cli.composition import Inputs, factories, gateway, history_of
from huracan_gateway.feed import RecordingFeed
from huracan_regime.config import DriftConfig
from huracan_regime.distribution import BINS, counted, quantile_edges, stability_index
from huracan_regime.drift import LOSS, VOLATILITY, DriftContextBuilder

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = {
    "usdm": ("binance_usdm_btcusdt_20240808.jsonl.gz", "binance_usdm_BTCUSDT_15m_2023_2024.parquet"),
    "spot": ("binance_spot_btcusdt_20240808.jsonl.gz", None),
}
"""With the bars before them, where there are any: without them there is no regime, and no opinion that rests on it. The
other recordings are shorter than a reference is."""
CONFIG = DriftConfig()
SIMULATED_S = 600.0
SEEDS = (1, 2)
CALM_S = 1e6
"""A simulated market changes its regime after about so long: never."""
MINUTE = 600
"""Rows."""
FIRST, STARTS = 1_650, 6
"""Rows before the first change: a reference, something to compare with it, and a word; and how often it is made."""
MOVES = ("mid_return_bps", "realised_volatility_bps", "mid_momentum_1s_bps", "mid_momentum_10s_bps")
SIZES = ("signed_volume", "signed_volume_1s", "signed_volume_10s")
LOG_SIZE = "log_trade_volume"
PER = 10_000

Rows = NDArray[np.float32]
Alter = Callable[[Rows, Rows], Rows]
"""Return rows as they are after a change, given the last row before it."""


@dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Heard:
    """What a watcher hears of one market: each window, with the opinions on it."""

    name: str
    steps: list[tuple[FeatureWindow, list[Opinion]]]


@dataclass(frozen=True)
class Change:
    """Something that is done to a market."""

    name: str
    tells: frozenset[str]
    """What is to be found: any of these."""
    alter: Alter | None = None
    expert: str = ""
    """Whose odds are turned round."""


@dataclass
class Score:
    """How one kind of change was told."""

    delays: list[int] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)
    """By what was to be found."""


def replayed(name: str, path: Path, history: Path | None = None) -> Heard:
    """Return the windows and opinions of a replay of a recording with all services."""
    feed = RecordingFeed(path)
    start_ns = feed.head.first_recv_ns
    inputs = Inputs(definitions=[feed.definition], first_recv_ns=start_ns, history=history_of(feed.definition, history))

    async def main(clock: VirtualClock) -> list[Message]:
        world = World(clock, seed=0)
        inbox = world.bus.node("bench").inbox()
        for pattern in DriftContextBuilder(CONFIG).inputs:
            inbox.subscribe(pattern)
        for service, make in factories(inputs).items():
            world.start(service, make)
        world.start("gateway", gateway(inputs, feed, lockstep=True))
        await world.finish("gateway")
        inbox.drain()
        heard = [delivery.decode() async for delivery in inbox]
        await world.stop()
        return heard

    steps: list[tuple[FeatureWindow, list[Opinion]]] = []
    for message in run_virtual(main, start_ns=start_ns):
        if isinstance(message, FeatureWindow):
            steps.append((message, []))
        elif isinstance(message, Opinion):
            steps[-1][1].append(message)
    return Heard(name, steps)


def simulated(seed: int, directory: Path) -> Heard:
    """Return the windows and opinions of a simulated market that is calm all the time."""
    path = directory / f"{seed}.jsonl"
    write_recording(SimulatedMarketConfig(seed=seed, duration_s=SIMULATED_S, regime_switch_s=CALM_S), path)
    return replayed(f"simulated {seed}", path)


# Changes.


def scaled(names: Sequence[str], factor: float) -> Alter:
    """Columns are some times as large."""
    columns = [MICRO.names.index(name) for name in names]

    def alter(rows: Rows, last: Rows) -> Rows:  # noqa: ARG001 - the form of a change
        rows[:, columns] *= np.float32(factor)
        return rows

    return alter


def other_units(rows: Rows, last: Rows) -> Rows:
    """Sizes are a hundred times as large."""
    column = MICRO.names.index(LOG_SIZE)
    rows = scaled(SIZES, 100)(rows, last)
    rows[:, column] = np.log1p(100 * np.expm1(rows[:, column]))
    return rows


def frozen(name: str) -> Alter:
    """A column stays as it was last."""
    column = MICRO.names.index(name)

    def alter(rows: Rows, last: Rows) -> Rows:
        rows[:, column] = last[column]
        return rows

    return alter


def gone(name: str) -> Alter:
    """A column is missing."""
    column = MICRO.names.index(name)

    def alter(rows: Rows, last: Rows) -> Rows:  # noqa: ARG001 - the form of a change
        rows[:, column] = np.nan
        return rows

    return alter


def changes(heard: Heard) -> list[Change]:
    """Return all that is done to a market; to columns that are there half the time, and not all but constant."""
    rows = newest(heard)
    alive = [
        name
        for name, column in zip(MICRO.names, rows[FIRST - MINUTE :].T, strict=True)
        if np.isfinite(column).mean() > 0.5 and len(np.unique(column[np.isfinite(column)])) > BINS
    ]
    experts = {each.expert for _, opinions in heard.steps for each in opinions if not each.abstained}
    return [
        Change("volatility x 3", frozenset({VOLATILITY, *MOVES}), scaled(MOVES, 3)),
        Change("sizes x 100", frozenset({*SIZES, LOG_SIZE}), other_units),
        *(Change("column frozen", frozenset({name}), frozen(name)) for name in alive),
        *(Change("column gone", frozenset({name}), gone(name)) for name in alive),
        *(Change(f"odds of {name} turned", frozenset({LOSS + name}), expert=name) for name in sorted(experts)),
    ]


def changed(heard: Heard, change: Change, at: int) -> Iterator[tuple[FeatureWindow, list[Opinion]]]:
    """Yield the minute after a change, which sets in with a step."""
    last = window_matrix(heard.steps[at - 1][0])[-1]
    for number, (window, opinions) in enumerate(heard.steps[at : at + MINUTE], 1):
        altered = window
        if change.alter is not None:
            values = window_matrix(window).copy()
            values[-number:] = change.alter(values[-number:], last)
            altered = FeatureWindow()
            altered.CopyFrom(window)
            altered.values = values.tobytes()
        yield altered, [turned(each) if each.expert == change.expert else each for each in opinions]


def turned(opinion: Opinion) -> Opinion:
    """Return an opinion with its odds turned round: what was flat is down, and so on."""
    other = Opinion()
    other.CopyFrom(opinion)
    other.p_down, other.p_flat, other.p_up = opinion.p_flat, opinion.p_up, opinion.p_down
    return other


# What is told.


def hear(builder: DriftContextBuilder, window: FeatureWindow, opinions: Sequence[Opinion]) -> Iterator[DriftState]:
    """Yield what is told because of a window and the opinions on it."""
    for message in (window, *opinions):
        for draft in builder.observe(message):
            assert isinstance(draft.payload, DriftState)
            yield draft.payload


def names(state: DriftState) -> set[str]:
    """Return what has moved."""
    return {each.name for each in state.findings}


def told(heard: Heard) -> list[tuple[int, DriftState]]:
    """Return what is told of a market as it is, each with its row."""
    builder = DriftContextBuilder(CONFIG)
    return [(at, state) for at, step in enumerate(heard.steps) for state in hear(builder, *step)]


def delays(heard: Heard) -> Iterator[Row]:
    """Yield how many changes of each kind were told within a minute, and how soon.

    A change that the market is told of already is not made; one that it is told of as soon without it was not told.
    """
    usual = told(heard)
    scores: dict[str, Score] = {}
    builder, fed = DriftContextBuilder(CONFIG), 0
    for at in np.linspace(FIRST, len(heard.steps) - MINUTE, STARTS).astype(int).tolist():
        for step in heard.steps[fed:at]:
            list(hear(builder, *step))
        fed = at
        before = [state for when, state in usual if when < at]
        for change in changes(heard):
            if before and names(before[-1]) & change.tells:
                continue
            without = next((when for when, state in usual if when >= at and names(state) & change.tells), None)
            found = first_told(copy.deepcopy(builder), changed(heard, change, at), change)
            score = scores.setdefault(change.name, Score())
            if found is None or (without is not None and at + found >= without):
                score.missed.update(change.tells)
            else:
                score.delays.append(found + 1)
    for name, score in scores.items():
        missed = score.missed if "column" in name else Counter({"": max(score.missed.values(), default=0)})
        yield delay(f"{heard.name}.delay.{name}", score.delays, missed)


def first_told(
    builder: DriftContextBuilder, steps: Iterator[tuple[FeatureWindow, list[Opinion]]], change: Change
) -> int | None:
    """Return the number, from 0, of the step with which a change is told."""
    return next(
        (
            number
            for number, step in enumerate(steps)
            if any(names(state) & change.tells for state in hear(builder, *step))
        ),
        None,
    )


def delay(name: str, found: Sequence[int], missed: Counter[str]) -> Row:
    """Return the median delay, with what was told of how many."""
    note = f"{len(found)} of {len(found) + missed.total()} told"
    if found:
        note += f", the last after {max(found)}"
    which = [f"{each} {count}" for each, count in missed.most_common() if each]
    return Row(
        name, median(found) if found else None, "rows", note=note + (f"; missed: {', '.join(which)}" if which else "")
    )


def false_alarms(heard: Heard) -> Iterator[Row]:
    """Yield how often a level is entered from below where nothing was changed, per 10,000 rows that are judged."""
    level, judged = DriftLevel.DRIFT_LEVEL_OK, 0
    entered: dict[DriftLevel, list[str]] = {DriftLevel.DRIFT_LEVEL_WATCH: [], DriftLevel.DRIFT_LEVEL_ACT: []}
    for at, state in told(heard):
        judged = judged or len(heard.steps) - at
        if state.level > level:
            entered[state.level].append(f"row {at} by {', '.join(sorted(names(state)))}")
        level = state.level
    for which, why in entered.items():
        name = f"{heard.name}.alarms.{drift_level_name(which)}"
        yield Row(name, PER * len(why) / judged, "per 10,000 rows", note="; ".join([f"{judged} rows", *why]))


def newest(heard: Heard) -> Rows:
    """Return the row of each step, shape (steps, columns)."""
    return np.stack([window_matrix(window)[-1] for window, _ in heard.steps])


def textbook(heard: Heard, others: Sequence[Heard]) -> Iterator[Row]:
    """Yield in how many half minutes some column is past 0.25 of the plain index, by what it is compared with."""
    rows, size = newest(heard), CONFIG.distribution.window_rows
    half = len(rows) // 2
    references = {f"its own first {half} rows": rows[:half], **{each.name: newest(each) for each in others}}
    for name, reference in references.items():
        edges = quantile_edges(reference[: len(reference) // 10 * 10])
        there = counted(reference[: len(reference) // 10 * 10], edges)[:, : BINS + 1]
        windows = [rows[at : at + size] for at in range(half, len(rows) - size, size)]
        past = [(stability_index(counted(each, edges)[:, : BINS + 1], there) > 0.25) for each in windows]
        alarms = mean(float(each.any()) for each in past)
        note = f"{mean(int(each.sum()) for each in past):.0f} of {len(MICRO.names)} columns, on average"
        yield Row(f"{heard.name}.plain index against {name}", alarms, "of half minutes", note=note)


def cost(heard: Heard) -> Iterator[Row]:
    """Yield the processor time that a step takes, its window alone and with the opinions on it.

    The baseline is the digest of a window, which each opinion on it takes: the machine may be slow or busy.
    """
    windows = [window for window, _ in heard.steps]
    started = time.thread_time_ns()
    for window in windows:
        digest(window)
    baseline = (time.thread_time_ns() - started) / 1e3 / len(windows)
    for name, kept in (("window", False), ("window with opinions", True)):
        builder, took = DriftContextBuilder(CONFIG), []
        for window, opinions in heard.steps:
            started = time.thread_time_ns()
            list(hear(builder, window, opinions if kept else []))
            took.append((time.thread_time_ns() - started) / 1e3)
        ratio = mean(took) / baseline
        note = f"{ratio:.2f} of the digest of a window; the longest {max(took) / 1e3:.1f} ms"
        yield Row(f"{heard.name}.cost.{name}", mean(took), "us/step", baseline, ratio, note)


def main() -> None:
    """Print the table and write the report."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    recorded = [
        replayed(name, data / "ticks" / "hftbacktest" / file, data / "ohlcv" / bars if bars else None)
        for name, (file, bars) in RECORDINGS.items()
    ]
    with tempfile.TemporaryDirectory() as directory:
        markets = [*recorded, *(simulated(seed, Path(directory)) for seed in SEEDS)]
    rows = [*textbook(recorded[0], recorded[1:]), *textbook(recorded[1], recorded[:1])]
    for market in markets:
        rows += [*false_alarms(market), *delays(market), *cost(market)]
    for row in rows:
        value = "-" if row.value is None else f"{row.value:.3g}"
        sys.stdout.write(f"{row.name:<44} {value:>6} {row.unit:<16} {row.note}\n")
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "rows": [asdict(row) for row in rows],
    }
    path = ROOT / "out" / "bench" / "drift.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
