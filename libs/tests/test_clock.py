"""Time: steps, the wall's clock, and the clock of a recording that is played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS, MarketClock, SystemClock, step_close, step_of, step_open

START_NS = 1_700_000_000_000_000_000


def _run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(main())


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_step_covers_its_first_nanosecond_and_ends_before_the_next_ones() -> None:
    step = step_of(START_NS)
    assert step_open(step) <= START_NS < step_close(step)
    assert (step_of(step_close(step) - 1), step_of(step_close(step))) == (step, step + 1)
    assert step_close(step) - step_open(step) == STEP_NS


def test_the_wall_clock_tells_the_time_and_sleeps_until_it_is_there() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        assert clock.now_ns() <= time.time_ns() <= clock.now_ns()
        wanted_ns = clock.now_ns() + 5 * MILLISECOND_NS
        await clock.sleep_until(wanted_ns)
        assert clock.now_ns() >= wanted_ns
        await clock.sleep_until(0)

    _run(scenario)


def test_the_leader_of_a_replay_moves_time_by_waiting() -> None:
    async def scenario() -> None:
        clock = MarketClock(START_NS, speed=0, leads=True)
        assert clock.now_ns() == START_NS
        await clock.sleep_until(START_NS + NANOSECONDS)
        assert clock.now_ns() == START_NS + NANOSECONDS
        await clock.sleep_until(START_NS)
        assert clock.now_ns() == START_NS + NANOSECONDS

    _run(scenario)


def test_a_follower_stands_still_until_it_hears_and_never_goes_back() -> None:
    async def scenario() -> None:
        clock = MarketClock(START_NS, speed=0, leads=False)
        sleepers = [asyncio.create_task(clock.sleep_until(START_NS + number)) for number in (1, 5, 9)]
        await _turns()
        assert [sleeper.done() for sleeper in sleepers] == [False, False, False]
        clock.heard(START_NS + 5)
        await _turns()
        assert [sleeper.done() for sleeper in sleepers] == [True, True, False]
        clock.heard(START_NS + 2)
        assert clock.now_ns() == START_NS + 5
        clock.heard(START_NS + 9)
        await sleepers[2]

    _run(scenario)


def test_a_paced_clock_runs_at_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    elapsed_ns = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: elapsed_ns)
    clock = MarketClock(START_NS, speed=2.5, leads=True)
    elapsed_ns = 4 * NANOSECONDS
    assert clock.now_ns() == START_NS + 10 * NANOSECONDS
    clock.heard(START_NS + 60 * NANOSECONDS)
    elapsed_ns += NANOSECONDS
    assert clock.now_ns() == START_NS + 62_500_000_000


def test_a_paced_follower_stands_still_until_it_first_hears_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    elapsed_ns = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: elapsed_ns)
    clock = MarketClock(START_NS, speed=2, leads=False)
    elapsed_ns = NANOSECONDS
    assert clock.now_ns() == START_NS
    clock.heard(START_NS + 1)
    elapsed_ns += NANOSECONDS
    assert clock.now_ns() == START_NS + 1 + 2 * NANOSECONDS


def test_a_paced_sleeper_wakes_by_itself_and_a_jump_wakes_it_sooner() -> None:
    async def scenario() -> None:
        clock = MarketClock(START_NS, speed=1_000, leads=True)
        await clock.sleep_until(START_NS + 5 * NANOSECONDS)
        assert clock.now_ns() >= START_NS + 5 * NANOSECONDS
        far_ns = clock.now_ns() + 10**9 * NANOSECONDS
        sleeper = asyncio.create_task(clock.sleep_until(far_ns))
        await _turns()
        assert not sleeper.done()
        clock.heard(far_ns)
        await sleeper

    _run(scenario)


def test_a_sleeper_of_a_paced_follower_starts_to_wait_in_time_once_the_time_is_heard() -> None:
    async def scenario() -> None:
        clock = MarketClock(START_NS, speed=1_000, leads=False)
        sleeper = asyncio.create_task(clock.sleep_until(START_NS + 2 * NANOSECONDS))
        await _turns()
        assert not sleeper.done()
        clock.heard(START_NS + 1)
        await sleeper
        assert clock.now_ns() >= START_NS + 2 * NANOSECONDS

    _run(scenario)
