"""A reader's queue: the freshest best-effort messages win, the acknowledged path never gives way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.bus import queue
from huracan.bus.queue import DeliveryQueue
from huracan.errors import Fatal


def _run(scenario: Callable[[DeliveryQueue[int]], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(DeliveryQueue())

    asyncio.run(main())


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60),
    st.integers(1, 5),
)
def test_the_oldest_best_effort_messages_go_first_and_are_counted(steps: list[tuple[bool, bool]], bound: int) -> None:
    async def scenario(waiting: DeliveryQueue[int]) -> None:
        model: list[tuple[int, bool]] = []
        dropped = 0
        for number, (stored, takes) in enumerate(steps):
            best_effort = [entry for entry in model if not entry[1]]
            if not stored and len(best_effort) == bound:
                model.remove(best_effort[0])
                dropped += 1
            model.append((number, stored))
            waiting.put(number, stored=stored)
            if takes:
                assert await waiting.take(2) == [entry[0] for entry in model[:2]]
                del model[:2]
        assert (len(waiting), waiting.dropped) == (len(model), dropped)
        if model:
            assert await waiting.take(100) == [entry[0] for entry in model]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "BOUND", bound)
        _run(scenario)


def test_taking_waits_for_a_message_and_gives_all_that_are_there_up_to_the_limit() -> None:
    async def scenario(waiting: DeliveryQueue[int]) -> None:
        taking = asyncio.create_task(waiting.take(2))
        await _turns()
        assert not taking.done()
        for number in range(3):
            waiting.put(number, stored=False)
        assert await taking == [0, 1]
        assert await waiting.take(2) == [2]

    _run(scenario)


def test_a_cancelled_taker_loses_nothing() -> None:
    async def scenario(waiting: DeliveryQueue[int]) -> None:
        taking = asyncio.create_task(waiting.take(2))
        await _turns()
        waiting.put(1, stored=True)
        taking.cancel()
        await asyncio.wait([taking])
        assert await waiting.take(2) == [1]

    _run(scenario)


def test_an_ended_queue_gives_what_it_holds_and_then_nothing_for_ever() -> None:
    async def scenario(waiting: DeliveryQueue[int]) -> None:
        waiting.put(1, stored=True)
        waiting.end()
        assert [await waiting.take(5) for _ in range(3)] == [[1], [], []]

    _run(scenario)


def test_a_failed_queue_raises_its_first_failure_to_whoever_waits_and_to_whoever_comes() -> None:
    async def scenario(waiting: DeliveryQueue[int]) -> None:
        taking = asyncio.create_task(waiting.take(1))
        await _turns()
        waiting.fail(Fatal("first"))
        waiting.fail(Fatal("second"))
        for _ in range(2):
            with pytest.raises(Fatal, match="first"):
                await taking
            taking = asyncio.create_task(waiting.take(1))
        taking.cancel()

    _run(scenario)
