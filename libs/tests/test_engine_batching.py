"""Micro-batches: who asks together is answered together, each its own, and none waits past its budget."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from huracan.clock import SystemClock
from huracan.errors import BadInput, Fatal
from huracan.inference.batching import LAST, BatchingConfig, MicroBatcher, Overloaded, observe
from huracan.inference.engine import Engine, EngineFault, Logits, OnnxEngine, Windows
from huracan.service.service import LAST as LAST_OF_SERVICES
from huracan.sim.loop import VirtualClock, run_virtual

from .models_of_tests import bundle, windows

START_NS = 1_700_000_000_000_000_000
US = 1_000
FOUR = BatchingConfig(largest_batch=4, longest_wait_us=500)


class Recorder(Engine):
    """Answers the last row; keeps how many it was asked about at once, and fails where the first value is 9."""

    def __init__(self, room: Path, *, version: int = 1) -> None:
        super().__init__(bundle(room / f"b{version}", version=version), "model.onnx", "python")
        self.batches: list[int] = []

    def logits(self, windows: Windows) -> Logits:
        self.batches.append(len(windows))
        if (windows[:, 0, 0] == 9).any():
            raise EngineFault("nine")
        return windows[:, :, -1]


def _window(value: float) -> Windows:
    """Return a window whose third class is as much more probable as its value is large."""
    window = np.zeros((3, 64), dtype=np.float32)
    window[2, -1] = value
    return window


def _value(answer: np.ndarray[Any, Any]) -> float:
    return float(np.log(answer[2] / answer[0]))


def _run(main: Callable[[VirtualClock], Coroutine[Any, Any, None]]) -> None:
    run_virtual(main, start_ns=START_NS)


async def _after(clock: VirtualClock, us: int, asked: Callable[[], Awaitable[Any]]) -> tuple[Any, int]:
    """Ask after some time; return the answer, and when it came."""
    await clock.sleep_until(START_NS + us * US)
    answer = await asked()
    return answer, (clock.now_ns() - START_NS) // US


def test_a_full_batch_runs_at_once_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, FOUR) as batcher:
            answers = await asyncio.gather(*(batcher.ask(_window(value)) for value in range(4)))
            assert [round(_value(answer)) for answer in answers] == [0, 1, 2, 3]
            assert clock.now_ns() == START_NS, "nobody waited"

    _run(main)
    assert engine.batches == [4]


def test_a_lone_window_waits_its_budget_and_no_longer(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, FOUR) as batcher:
            asked = [
                asyncio.create_task(_after(clock, us, lambda us=us: batcher.ask(_window(us / 1000))))  # type: ignore[misc]
                for us in (0, 400, 499, 700, 5_000)
            ]
            told = await asyncio.gather(*asked)
        assert [at_us for _, at_us in told] == [500, 500, 500, 1_200, 5_500], "the first of a batch decides"
        assert [round(_value(answer) * 1000) for answer, _ in told] == [0, 400, 499, 700, 5_000]

    _run(main)
    assert engine.batches == [3, 1, 1]


def test_without_a_budget_a_batch_is_what_came_together(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, BatchingConfig(largest_batch=8, longest_wait_us=0)) as batcher:
            await asyncio.gather(*(batcher.ask(_window(value)) for value in range(5)))
            await batcher.ask(_window(1))
        assert clock.now_ns() == START_NS

    _run(main)
    assert engine.batches == [5, 1]


@pytest.mark.parametrize("budget_us", [0, 500])
def test_an_engine_that_depends_on_its_batch_is_asked_about_one_window_at_a_time(
    budget_us: int, tmp_path: Path
) -> None:
    engine = Recorder(tmp_path)
    engine.fixed_batch_result = False

    async def main(clock: VirtualClock) -> None:
        config = BatchingConfig(largest_batch=8, longest_wait_us=budget_us)
        async with MicroBatcher(engine, clock, config) as batcher:
            answers = await asyncio.gather(*(batcher.ask(_window(value)) for value in range(5)))
        assert [round(_value(answer)) for answer in answers] == [0, 1, 2, 3, 4]
        assert clock.now_ns() == START_NS, "there is nothing to wait for"

    _run(main)
    assert engine.batches == [1] * 5


def test_a_fault_fails_the_askers_of_its_batch_and_no_others(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, FOUR) as batcher:
            bad = _window(1)
            bad[0, 0] = 9
            asked = [_window(0), bad, _window(2), _window(3), _window(4), _window(5)]
            told = await asyncio.gather(*(batcher.ask(window) for window in asked), return_exceptions=True)
            assert [isinstance(each, EngineFault) for each in told] == [True] * 4 + [False] * 2
            assert round(_value(await batcher.ask(_window(6)))) == 6
            report = batcher.report()
        assert (report["engine.failed"], report["engine.faults"], report["engine.batches"]) == (4, 1, 3)

    _run(main)


def test_a_window_that_the_engine_does_not_take_fails_its_asker_alone(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(Recorder(tmp_path), clock, FOUR) as batcher:
            missing = _window(0)
            missing[1, 1] = np.nan
            asked = [_window(1), missing, _window(2)[:2], _window(3)]
            told = await asyncio.gather(*(batcher.ask(window) for window in asked), return_exceptions=True)
            assert [isinstance(each, BadInput) for each in told] == [False, True, True, False]
            assert batcher.report()["engine.refused"] == 2

    _run(main)


def test_whoever_gave_up_is_not_run_and_disturbs_nobody(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, FOUR) as batcher:
            tasks = [asyncio.create_task(batcher.ask(_window(value))) for value in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            told = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(told[1], asyncio.CancelledError)
            assert [round(_value(told[index])) for index in (0, 2)] == [0, 2]  # type: ignore[arg-type]
            alone = asyncio.create_task(batcher.ask(_window(9)))
            await asyncio.sleep(0)
            alone.cancel()
            await clock.sleep_until(clock.now_ns() + 10_000 * US)

    _run(main)
    assert engine.batches == [2]


def test_past_the_bound_the_oldest_goes_and_is_told(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)
    config = BatchingConfig(largest_batch=64, longest_wait_us=500, waiting_bound=3)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, config) as batcher:
            tasks = [asyncio.create_task(batcher.ask(_window(value))) for value in range(5)]
            await asyncio.sleep(0)
            tasks[3].cancel()
            late = [asyncio.create_task(batcher.ask(_window(value))) for value in (5, 6)]
            told = await asyncio.gather(*tasks, *late, return_exceptions=True)
            assert [type(each).__name__ for each in told] == [
                *["Overloaded"] * 3,
                "CancelledError",
                *["ndarray"] * 3,
            ]
            assert batcher.report()["engine.dropped"] == 4
            assert isinstance(told[0], Overloaded)

    _run(main)
    assert engine.batches == [3]


def test_where_it_blocks_all_are_answered_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    engine, done = Recorder(tmp_path), list[int]()
    config = BatchingConfig(largest_batch=2, longest_wait_us=500, waiting_bound=3, overflow="block")

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, config) as batcher:

            async def ask(value: int) -> None:
                assert round(_value(await batcher.ask(_window(value)))) == value
                done.append(value)

            await asyncio.gather(*(ask(value) for value in range(9)))
            assert batcher.report()["engine.dropped"] == 0

    _run(main)
    assert done == list(range(9))
    assert sum(engine.batches) == 9
    assert max(engine.batches) == 2


def test_closing_answers_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)
    config = BatchingConfig(largest_batch=64, longest_wait_us=10**9, waiting_bound=2, overflow="block")

    async def main(clock: VirtualClock) -> None:
        batcher = MicroBatcher(engine, clock, config)
        with pytest.raises(Fatal, match="enter them"):
            await batcher.ask(_window(0))
        async with batcher:
            tasks = [asyncio.create_task(batcher.ask(_window(value))) for value in range(4)]
            await asyncio.sleep(0)
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each).__name__ for each in told] == ["ndarray", "ndarray", "Fatal", "Fatal"]
        assert clock.now_ns() == START_NS
        with pytest.raises(Fatal, match="ask before they are left"):
            await batcher.ask(_window(0))

    _run(main)


def test_an_engine_is_swapped_between_batches_without_a_missed_window_and_its_counts_go_on(tmp_path: Path) -> None:
    champion, challenger = Recorder(tmp_path, version=1), Recorder(tmp_path, version=2)
    challenger.run(windows(1))

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(champion, clock, FOUR) as batcher:
            await asyncio.gather(*(batcher.ask(_window(value)) for value in range(4)))
            waiting = [asyncio.create_task(batcher.ask(_window(value))) for value in range(2)]
            await asyncio.sleep(0)
            batcher.swap(challenger)
            assert batcher.engine is challenger
            await asyncio.gather(*waiting)
            report = batcher.report()
            names = [f"{LAST}engine.{engine.digest.hex()[:12]}" for engine in (champion, challenger)]
            assert [report[name] for name in names] == [0, 1]
            assert report["engine.windows"] == 6, "of those that were asked here"
            batcher.swap(champion)
            await batcher.ask(_window(1))
            report = batcher.report()
            assert [report[name] for name in names] == [1, 0]
            assert report["engine.windows"] == 7

    _run(main)
    assert (champion.batches, challenger.batches) == ([4, 1], [1, 2])


def test_a_swap_to_an_engine_that_depends_on_its_batch_waits_for_nobody(tmp_path: Path) -> None:
    champion, alone = Recorder(tmp_path, version=1), Recorder(tmp_path, version=2)
    alone.fixed_batch_result = False

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(champion, clock, FOUR) as batcher:
            waiting = [asyncio.create_task(batcher.ask(_window(value))) for value in range(2)]
            await asyncio.sleep(0)
            batcher.swap(alone)
            await asyncio.gather(*waiting)
            assert clock.now_ns() == START_NS

    _run(main)
    assert alone.batches == [1, 1]


def test_what_took_its_time_is_counted_apart_waiting_from_computing(tmp_path: Path) -> None:
    class Slow:
        """A clock that an engine moves on while it computes."""

        def __init__(self, clock: VirtualClock) -> None:
            self._clock = clock
            self.ahead_ns = 0

        def now_ns(self) -> int:
            return self._clock.now_ns() + self.ahead_ns

        async def sleep_until(self, ns: int) -> None:
            await self._clock.sleep_until(ns - self.ahead_ns)

    engine = Recorder(tmp_path)

    async def main(clock: VirtualClock) -> None:
        slow = Slow(clock)
        answered = engine.logits

        def logits(windows: Windows) -> Logits:
            slow.ahead_ns += 150 * US
            return answered(windows)

        engine.logits = logits  # type: ignore[method-assign]
        async with MicroBatcher(engine, slow, BatchingConfig(largest_batch=2, longest_wait_us=300)) as batcher:
            await batcher.ask(_window(1))
            await asyncio.gather(batcher.ask(_window(1)), batcher.ask(_window(2)))
            report = batcher.report()
        assert (report["engine.compute_us.sum"], report["engine.compute_us.count"]) == (300, 2)
        assert (report["engine.compute_us.le_100"], report["engine.compute_us.le_200"]) == (0, 2)
        assert (report["engine.queue_us.sum"], report["engine.queue_us.count"]) == (300, 3)
        assert (report["engine.queue_us.le_200"], report["engine.queue_us.le_500"]) == (2, 3)
        assert (report["engine.batch_size.sum"], report["engine.batch_size.le_1"], report["engine.batches"]) == (
            3,
            1,
            2,
        )

    _run(main)


def test_a_value_is_counted_into_every_bound_that_it_is_within() -> None:
    counts: Counter[str] = Counter()
    for value in (5, 10, 11, 1_000):
        observe(counts, "x", value, (10, 100))
    assert counts == {"x.sum": 1_026, "x.count": 4, "x.le_10": 2, "x.le_100": 3}


def test_the_newest_values_are_named_as_services_name_them() -> None:
    assert LAST == LAST_OF_SERVICES


@pytest.mark.parametrize(
    "wrong", [{"largest_batch": 65}, {"largest_batch": 0}, {"waiting_bound": 0}, {"overflow": "spill"}]
)
def test_settings_out_of_their_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BatchingConfig.model_validate(wrong)


@given(
    arrivals=st.lists(st.integers(0, 3_000), min_size=1, max_size=30),
    largest=st.integers(1, 8),
    budget_us=st.sampled_from([0, 100, 1_000]),
)
def test_however_they_come_each_is_answered_as_alone_and_within_its_budget(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[int], largest: int, budget_us: int
) -> None:
    engine = Recorder(tmp_path_factory.getbasetemp())
    config = BatchingConfig(largest_batch=largest, longest_wait_us=budget_us)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock, config) as batcher:
            asked = [
                asyncio.create_task(_after(clock, us, lambda n=n: batcher.ask(_window(n / 10))))  # type: ignore[misc]
                for n, us in enumerate(arrivals)
            ]
            told = await asyncio.gather(*asked)
        for n, (us, (answer, at_us)) in enumerate(zip(arrivals, told, strict=True)):
            assert round(_value(answer) * 10) == n
            assert us <= at_us <= us + budget_us

    _run(main)
    assert sum(engine.batches) == len(arrivals)
    assert max(engine.batches) <= largest


def test_on_the_wall_clock_a_lone_window_is_answered_and_so_are_many(tmp_path: Path) -> None:
    engine = Recorder(tmp_path)

    async def main() -> None:
        async with MicroBatcher(engine, SystemClock(), FOUR) as batcher:
            assert round(_value(await batcher.ask(_window(3)))) == 3
            answers = await asyncio.gather(*(batcher.ask(_window(value)) for value in range(10)))
            assert [round(_value(answer)) for answer in answers] == list(range(10))

    asyncio.run(main())
    assert engine.batches[0] == 1
    assert sum(engine.batches) == 11


def test_answers_in_batches_are_those_of_the_engine_alone(tmp_path: Path) -> None:
    engine = OnnxEngine(bundle(tmp_path / "b"))
    asked = windows(20)

    async def main(clock: VirtualClock) -> None:
        async with MicroBatcher(engine, clock) as batcher:
            told = await asyncio.gather(*(batcher.ask(window) for window in asked))
        np.testing.assert_allclose(told, [engine.run(window[np.newaxis])[0] for window in asked], atol=1e-12)

    _run(main)
