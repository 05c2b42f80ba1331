"""Drift as it is told: by the service, of a market that is changed while it listens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.memory import Stored
from huracan.clock import STEP_NS, step_close, step_open
from huracan.contracts.context import DRIFT, Context, DriftLevel, DriftState, drift_key
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import linear_perpetual
from huracan.contracts.opinion import Opinion, opinion
from huracan.contracts.ops import DriftChanged
from huracan.features.micro import MICRO
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_regime.config import DistributionConfig, DriftConfig, MeanConfig, RegimeServiceConfig
from huracan_regime.drift import LOSS, VOLATILITY, DriftContextBuilder, MeanWatch
from huracan_regime.spec import SPEC

BTC = linear_perpetual("BTC", venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
STEP = 17_000_000_000
CONFIG = DriftConfig()
REFERENCE = CONFIG.distribution.window_rows * (CONFIG.distribution.min_windows + 1) + WINDOW_ROWS
"""Steps until the first word."""
MINUTE = 600
MID = 10_000_000
OK, WATCH, ACT = DriftLevel.DRIFT_LEVEL_OK, DriftLevel.DRIFT_LEVEL_WATCH, DriftLevel.DRIFT_LEVEL_ACT
RETURN, IMBALANCE, VOLUME = (MICRO.names.index(name) for name in ("mid_return_bps", "queue_imbalance", "signed_volume"))

Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Change = Callable[[Rows], None]


def _market(steps: int, *, seed: int = 1) -> Rows:
    """Return the rows of a market that stays as it is, shape (steps, columns)."""
    return np.random.default_rng(seed).normal(size=(steps, MICRO.columns)).astype(np.float32)


def _window(
    rows: Rows, at: int, *, epoch: int = 1, synced: bool = True, valid_rows: int = WINDOW_ROWS, mid: int = MID
) -> FeatureWindow:
    """Return the window whose newest row is that of an index; what lies before the first is that of the first."""
    step = STEP + at
    picked = rows[np.maximum(np.arange(at - WINDOW_ROWS + 1, at + 1), 0)]
    return feature_window(
        instrument=BTC,
        epoch=epoch,
        feature_set="micro",
        feature_set_digest=MICRO.digest,
        interval_ns=STEP_NS,
        step=step,
        first_step=step - WINDOW_ROWS + 1,
        close_ns=step_close(step),
        values=picked,
        valid_rows=valid_rows,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=step_close(step),
        book_synced=synced,
        best_bid=mid - 1,
        best_ask=mid + 1,
    )


def _says(
    window: FeatureWindow, flat: float, expert: str = "flow", *, engine: bytes = bytes(32), steps: int = 10
) -> Opinion:
    """Return the odds of an expert on the steps after a window."""
    return opinion(
        window,
        expert=expert,
        engine_digest=engine,
        horizon_ns=steps * STEP_NS,
        validity_ns=STEP_NS,
        contexts=[],
        p_down=(1 - flat) / 2,
        p_flat=flat,
        p_up=(1 - flat) / 2,
    )


def _told(builder: DriftContextBuilder, message: Message) -> list[DriftState]:
    states = [draft.payload for draft in builder.observe(message)]
    assert all(isinstance(state, DriftState) for state in states)
    return [state for state in states if isinstance(state, DriftState)]


def _states(rows: Rows, builder: DriftContextBuilder | None = None, first: int = 0) -> list[tuple[int, DriftState]]:
    """Return what is told of rows, with the index of the row at which it is."""
    builder = builder or DriftContextBuilder(CONFIG)
    return [(at, state) for at in range(first, len(rows)) for state in _told(builder, _window(rows, at))]


def _named(state: DriftState) -> set[str]:
    return {found.name for found in state.findings}


# Means.


def test_adwin_finds_the_change_of_the_published_stream_where_it_is_published_to() -> None:
    chance = random.Random(12345)
    stream = chance.choices([0, 1], k=1000) + chance.choices(range(4, 8), k=1000)
    watch = MeanWatch(MeanConfig())
    found = [(at, means) for at, value in enumerate(stream) if (means := watch.push(value)) is not None]
    assert [at for at, _ in found] == [1023]
    before, after = found[0][1]
    assert before == pytest.approx(0.5, abs=0.05)
    assert after == 4.5  # of the 24 after the change, and of 8 before it


def test_values_that_come_once_in_some_steps_are_checked_after_as_many_steps() -> None:
    values = [0.0] * 100 + [4.0] * 100
    delays = []
    for steps in (1, 10):
        watch = MeanWatch(MeanConfig(), steps=steps)
        delays.append(next(at for at, value in enumerate(values) if watch.push(value) is not None) - 100)
    assert delays[1] < delays[0]


# Steps.


def test_a_market_that_stays_as_it_is_is_told_to_be_well_and_told_so_again() -> None:
    config = DriftConfig(told_again_rows=MINUTE)
    found = _states(_market(REFERENCE + 2 * MINUTE + 10), DriftContextBuilder(config))
    assert [state.level for _, state in found] == [OK, OK, OK]
    assert [after[0] - before[0] for before, after in pairwise(found)] == [MINUTE] * 2
    assert all(not state.findings and state.reference_rows for _, state in found)


def _frozen(rows: Rows) -> None:
    rows[:, IMBALANCE] = rows[0, IMBALANCE]


def _other_units(rows: Rows) -> None:
    rows[:, VOLUME] *= 100


def _gone(rows: Rows) -> None:
    rows[:, IMBALANCE] = np.nan


def _turbulent(rows: Rows) -> None:
    rows[:, RETURN] *= 3


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        (_frozen, "queue_imbalance", ACT),
        (_other_units, "signed_volume", ACT),
        (_gone, "queue_imbalance", ACT),
        (_turbulent, VOLATILITY, WATCH),
    ],
)
def test_a_change_is_told_by_name_within_a_minute(change: Change, name: str, level: DriftLevel) -> None:
    rows = _market(REFERENCE + 2 * MINUTE)
    at = REFERENCE + MINUTE
    change(rows[at:])
    found = [(when, state) for when, state in _states(rows) if name in _named(state)]
    assert found
    assert at < found[0][0] < at + MINUTE
    worst = max(found, key=lambda each: each[1].level)[1]
    assert worst.level >= level
    assert worst.rows <= len(rows)
    told = next(each for each in worst.findings if each.name == name)
    assert told.value > told.limit


def test_a_level_is_left_once_the_last_half_minute_is_as_before() -> None:
    rows = _market(REFERENCE + 2 * MINUTE + 2 * CONFIG.distribution.window_rows + 20)
    at, until = REFERENCE + MINUTE, REFERENCE + 2 * MINUTE
    _frozen(rows[at:until])
    found = [(when, state) for when, state in _states(rows) if when > REFERENCE + 10]
    assert found[0][1].level > OK
    assert ACT in [state.level for _, state in found]
    calm = next(when for when, state in found if state.level == OK)
    window = CONFIG.distribution.window_rows
    assert until + window <= calm <= until + 2 * window + 10
    assert not next(state for when, state in found if when == calm).findings


def test_what_has_moved_for_long_is_how_things_are() -> None:
    stays = 2 * MINUTE
    rows = _market(REFERENCE + MINUTE + stays + REFERENCE + MINUTE)
    _other_units(rows[REFERENCE + MINUTE :])
    config = DriftConfig(distribution=DistributionConfig(forget_rows=stays))
    found = _states(rows, DriftContextBuilder(config))
    acted = next(when for when, state in found if state.level == ACT)
    left = next(when for when, state in found if when > acted and state.level == OK)
    assert stays < left - acted < stays + REFERENCE + MINUTE


def test_steps_that_one_window_shows_first_are_all_taken_and_others_counted() -> None:
    rows = _market(REFERENCE + MINUTE)
    whole, sparse = DriftContextBuilder(CONFIG), DriftContextBuilder(CONFIG)
    every = _states(rows, whole)
    seldom = [state for at in range(0, len(rows), 50) for state in _told(sparse, _window(rows, at))]
    assert seldom[0].missed == 0
    assert seldom[0].reference_rows == every[0][1].reference_rows
    gaps = DriftContextBuilder(CONFIG)
    for at in (0, *range(1_000, len(rows) - 1)):
        gaps.observe(_window(rows, at))
    told = _states(np.concatenate([rows, _market(REFERENCE)]), gaps, first=len(rows))
    assert told[0][1].missed == 1_000 - WINDOW_ROWS


@pytest.mark.parametrize("again", [{"epoch": 2}, {"valid_rows": 1}], ids=["another gateway", "features begin anew"])
def test_after_a_new_beginning_nothing_is_said_until_there_is_a_reference_again(again: dict[str, int]) -> None:
    rows = _market(2 * REFERENCE + MINUTE)
    at = REFERENCE + MINUTE // 2
    _other_units(rows[at:])
    builder = DriftContextBuilder(CONFIG)
    assert [state.level for _, state in _states(rows[:at], builder)] == [OK]
    assert _told(builder, _window(rows, at, **again)) == []  # type: ignore[arg-type]
    epoch = again.get("epoch", 1)
    found = [
        (when, state) for when in range(at + 1, len(rows)) for state in _told(builder, _window(rows, when, epoch=epoch))
    ]
    assert all(when - at > REFERENCE - WINDOW_ROWS - 10 and state.level == OK for when, state in found)


def test_windows_of_a_book_that_is_not_in_step_are_left_out() -> None:
    rows = _market(REFERENCE + 2 * MINUTE)
    at = REFERENCE + MINUTE
    _gone(rows[at:])
    builder = DriftContextBuilder(CONFIG)
    _states(rows[:at], builder)
    assert [state for when in range(at, len(rows)) for state in _told(builder, _window(rows, when, synced=False))] == []


def test_what_is_no_window_of_steps_changes_nothing() -> None:
    rows = _market(REFERENCE + MINUTE)
    builder, alone = DriftContextBuilder(CONFIG), DriftContextBuilder(CONFIG)
    found = []
    for at in range(len(rows)):
        window = _window(rows, at)
        foreign, short, older = FeatureWindow(), FeatureWindow(), FeatureWindow()
        for copy in (foreign, short, older):
            copy.CopyFrom(window)
        foreign.feature_set_digest = bytes(32)
        short.values = window.values[:-2]
        older.epoch, older.step = 0, STEP + 10**6
        for message in (foreign, short, window, window, older, _says(window, 0.5, "nobody"), DriftState()):
            found += _told(builder, message)
    assert found == [state for _, state in _states(rows, alone)]


# Losses.


def test_losses_that_rise_are_told_within_a_minute_and_losses_that_fall_are_not() -> None:
    for worse, last in ((0.2, [OK, ACT]), (0.95, [OK])):
        rows, builder = _market(REFERENCE + 4 * MINUTE), DriftContextBuilder(CONFIG)
        at, found = REFERENCE + MINUTE, []
        chance = random.Random(7)
        for when in range(len(rows)):
            window = _window(rows, when)
            found += [(when, state) for state in _told(builder, window)]
            builder.observe(_says(window, (0.6 if when < at else worse) + chance.uniform(-0.04, 0.04)))
        assert [state.level for _, state in found] == last
        if ACT in last:
            when, state = found[-1]
            assert at < when < at + MINUTE
            assert _named(state) == {LOSS + "flow"}
            assert state.findings[0].after > state.findings[0].before > 0


def _lost(at: int, window: dict[str, int], says: dict[str, Any]) -> set[str]:
    """Return all that is named where the losses of an expert rise at a row, and something else changes there."""
    rows, builder = _market(at + REFERENCE + 2 * MINUTE), DriftContextBuilder(CONFIG)
    chance, named = random.Random(7), set[str]()
    for when in range(len(rows)):
        changes = {"epoch": window.get("epoch", 1)} if when > at else window if when == at else {}
        heard = _window(rows, when, **changes)  # type: ignore[arg-type]
        for state in _told(builder, heard):
            named |= _named(state)
        odds = (0.6 if when < at else 0.2) + chance.uniform(-0.04, 0.04)
        builder.observe(_says(heard, odds, **(says if when >= at else {})))
    return named


@pytest.mark.parametrize(
    ("window", "says", "told"),
    [
        ({}, {}, {LOSS + "flow"}),
        ({"epoch": 2}, {}, set()),
        ({"valid_rows": 1}, {}, set()),
        ({}, {"engine": b"\1" * 32}, set()),
        ({}, {"steps": 20}, set()),
    ],
    ids=["nothing", "another gateway", "features begin anew", "another engine", "another horizon"],
)
def test_losses_are_not_compared_with_those_before_a_new_beginning(
    window: dict[str, int], says: dict[str, Any], told: set[str]
) -> None:
    assert _lost(REFERENCE + MINUTE, window, says) == told


def test_what_an_engine_lost_is_not_held_against_the_one_after_it() -> None:
    rows, builder = _market(REFERENCE + 6 * MINUTE), DriftContextBuilder(CONFIG)
    at, chance = REFERENCE + MINUTE, random.Random(7)
    levels: list[DriftLevel] = []
    acted_at = 0
    for when in range(len(rows)):
        window = _window(rows, when)
        levels += [state.level for state in _told(builder, window)]
        acted_at = acted_at or (when if levels and levels[-1] == ACT else 0)
        odds = (0.6 if when < at else 0.2) + chance.uniform(-0.04, 0.04)
        builder.observe(_says(window, odds, engine=bytes([bool(acted_at)]) * 32))
    assert acted_at
    assert levels == [OK, ACT, OK]


# The service.


class Desk:
    """The service, and all that it says of drift."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.world = World(clock, seed=1)
        self.bus = self.world.ports("desk").bus
        self.heard: list[DriftChanged] = []
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        inbox = self.bus.inbox()
        inbox.subscribe("ops.v1.regime.drift")
        async for delivery in inbox:
            message = delivery.decode()
            assert isinstance(message, DriftChanged)
            self.heard.append(message)

    async def start(self) -> None:
        self.world.start("regime", lambda ports: SPEC.make(RegimeServiceConfig(), ports))
        await self.settle()

    async def settle(self, ns: int = 1) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + ns)

    async def play(self, rows: Rows, first: int, last: int) -> None:
        for at in range(first, last):
            await self.clock.sleep_until(step_close(STEP + at))
            await self.bus.publish(subjects.features("micro", BTC), _window(rows, at), epoch=1)
        await self.settle()

    def contexts(self) -> list[Context]:
        stored = [entry for entry in self.world.bus.stream if entry.subject.startswith("ctx.v1.drift.")]
        return [Context.FromString(entry.data) for entry in stored]


def _run(scenario: Callable[[Desk], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock)
        await scenario(desk)
        await desk.world.stop()

    run_virtual(main, start_ns=step_open(STEP))


def test_a_frozen_column_is_a_context_and_an_event_within_a_minute_and_without_it_there_is_none() -> None:
    rows, changed_at = _market(REFERENCE + 2 * MINUTE), REFERENCE + MINUTE
    frozen = rows.copy()
    _frozen(frozen[changed_at:])

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.play(frozen, 0, len(frozen))
        contexts = desk.contexts()
        assert {made.ref.kind for made in contexts} == {DRIFT}
        assert {made.ref.key for made in contexts} == {drift_key(BTC.id)} == {"micro.sim.btc-usdt-perp"}
        assert [made.ref.version for made in contexts] == list(range(1, len(contexts) + 1))
        told = next(made for made in contexts if made.drift.level == ACT)
        assert told.as_of_ns < step_close(STEP + changed_at + MINUTE)
        assert "queue_imbalance" in _named(told.drift)
        assert [event.before for event in desk.heard] == [OK, *(event.state.level for event in desk.heard[:-1])]
        assert desk.heard[-1].state.level == ACT
        assert desk.heard[-1].instrument == BTC.id

    async def calm(desk: Desk) -> None:
        await desk.start()
        await desk.play(rows, 0, len(rows))
        assert [made.drift.level for made in desk.contexts()] == [OK]
        assert desk.heard == []

    _run(scenario)
    _run(calm)


def test_a_service_that_was_killed_finds_its_bearings_before_it_says_anything() -> None:
    rows, killed_at = _market(2 * REFERENCE + MINUTE), REFERENCE + MINUTE
    _other_units(rows[killed_at:])

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.play(rows, 0, killed_at)
        await desk.world.kill("regime")
        await desk.start()
        await desk.play(rows, killed_at, len(rows))
        contexts = desk.contexts()
        assert [made.drift.level for made in contexts] == [OK, OK]
        assert [(made.epoch, made.ref.version) for made in contexts] == [(1, 1), (2, 2)]
        assert contexts[1].as_of_ns >= step_close(STEP + killed_at + REFERENCE - WINDOW_ROWS - 10)
        assert desk.heard == []

    _run(scenario)


def test_what_nobody_can_read_stops_no_watch() -> None:
    rows = _market(REFERENCE + MINUTE)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.play(rows, 0, 100)
        for subject in (subjects.features("micro", BTC), subjects.opinion("flow", BTC.shard, BTC.id)):
            desk.world.bus.send("desk", Stored(subject, "huracan.gone.v1.Gone", 1, b"\xff"))
        await desk.settle(STEP_NS // 2)
        await desk.play(rows, 100, len(rows))
        assert [made.drift.level for made in desk.contexts()] == [OK]

    _run(scenario)
