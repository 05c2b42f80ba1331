"""Virtual time: exact to the nanosecond, ordered, repeatable, and never stuck in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.clock import NANOSECONDS, STEP_NS, step_close, step_of, step_open
from huracan.rng import SeededRng
from huracan.sim.loop import Stalled, VirtualClock, run_virtual

START_NS = 1_723_161_255_000_000_007
DAY_NS = 86_400 * NANOSECONDS

offsets_ns = st.one_of(st.integers(0, 20), st.integers(0, 10 * NANOSECONDS), st.integers(0, 3 * DAY_NS))


def _wake(offsets: list[int]) -> list[tuple[int, int]]:
    """Sleep until each time at once; return (wanted, woken) in the order of waking, from the start."""
    woken: list[tuple[int, int]] = []

    async def main(clock: VirtualClock) -> None:
        async def sleeper(offset: int) -> None:
            await clock.sleep_until(START_NS + offset)
            woken.append((offset, clock.now_ns() - START_NS))

        await asyncio.gather(*map(sleeper, offsets))

    run_virtual(main, start_ns=START_NS)
    return woken


@given(st.lists(offsets_ns, max_size=6).flatmap(lambda near: st.permutations([*near, *(ns + 1 for ns in near)])))
def test_everyone_wakes_at_the_very_nanosecond_in_order_of_time(offsets: list[int]) -> None:
    assert _wake(offsets) == [(offset, offset) for offset in sorted(offsets)]


def test_a_chain_of_sleeps_does_not_drift() -> None:
    async def main(clock: VirtualClock) -> None:
        for step in range(1, 20_001):
            await clock.sleep_until(START_NS + step * 33_333_333)
            assert clock.now_ns() == START_NS + step * 33_333_333

    run_virtual(main, start_ns=START_NS)


def test_a_time_that_is_past_returns_at_once() -> None:
    async def main(clock: VirtualClock) -> None:
        await clock.sleep_until(START_NS - 1)
        await clock.sleep_until(0)
        assert clock.now_ns() == START_NS

    run_virtual(main, start_ns=START_NS)


def test_work_takes_no_time() -> None:
    async def main(clock: VirtualClock) -> int:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return clock.now_ns()

    assert run_virtual(main, start_ns=START_NS) == START_NS


def test_a_timeout_strikes_on_virtual_time() -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await clock.sleep_until(START_NS + NANOSECONDS)
        assert clock.now_ns() == START_NS + NANOSECONDS // 20

    run_virtual(main, start_ns=START_NS)


@pytest.mark.parametrize(
    "waits", [lambda: asyncio.Event().wait(), lambda: asyncio.Queue[int]().get()], ids=["event", "queue"]
)
def test_a_program_whose_tasks_wait_for_each_other_is_told_so(waits: Callable[[], Awaitable[object]]) -> None:
    async def main(clock: VirtualClock) -> None:
        await waits()

    with pytest.raises(Stalled, match="every task waits for another"):
        run_virtual(main, start_ns=START_NS)


def test_an_error_in_the_program_passes_through() -> None:
    async def main(clock: VirtualClock) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        run_virtual(main, start_ns=START_NS)


@given(st.integers(0, 2**32))
def test_the_same_program_runs_the_same_way(seed: int) -> None:
    def once() -> list[tuple[int, int]]:
        random = SeededRng(seed).stream("test")
        trace: list[tuple[int, int]] = []

        async def main(clock: VirtualClock) -> None:
            queue: asyncio.Queue[int] = asyncio.Queue(2)

            async def produce(number: int) -> None:
                for _ in range(3):
                    await clock.sleep_until(clock.now_ns() + random.choice([0, 1, 5, 5, 1_000]))
                    await queue.put(number)

            producing = [asyncio.create_task(produce(number)) for number in range(4)]
            trace.extend([(await queue.get(), clock.now_ns()) for _ in range(12)])
            await asyncio.gather(*producing)

        run_virtual(main, start_ns=START_NS)
        return trace

    assert once() == once()


@given(st.integers(-(10**18), 2 * 10**18))
def test_every_nanosecond_is_in_one_step(ns: int) -> None:
    step = step_of(ns)
    assert step_open(step) <= ns < step_close(step) == step_open(step + 1)
    assert step_close(step) - step_open(step) == STEP_NS == 100_000_000


@pytest.mark.parametrize("days", [1, 49, 100, 10_000])
def test_virtual_time_goes_on_however_long_it_is(days: int) -> None:
    async def main(clock: VirtualClock) -> int:
        target_ns = clock.now_ns() + days * 86_400 * NANOSECONDS + 1
        await clock.sleep_until(target_ns)
        await asyncio.gather(*(clock.sleep_until(target_ns + 100 * later) for later in range(5)))
        return clock.now_ns() - target_ns

    assert 400 <= run_virtual(main, start_ns=START_NS) <= 1_000
