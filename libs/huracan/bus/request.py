"""A request over a transport: the answer, or a Recoverable once the time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from huracan.bus.transport import Transport
from huracan.errors import Recoverable

T = TypeVar("T")

ACK_TIMEOUT_S = 0.05
"""Wait for an acknowledgement over a faulty transport; ordinary round trips take a few milliseconds."""


async def request(transport: Transport, source: str, target: str, operation: Callable[[], T]) -> T:
    """Run an operation at the target and return its result; it may have run although no answer came."""
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def reply(result: T) -> None:
        if not answer.done():
            answer.set_result(result)

    def arrive() -> None:
        result = operation()
        transport.carry(target, source, lambda: reply(result))

    transport.carry(source, target, arrive)
    if answer.done():
        return answer.result()
    try:
        async with asyncio.timeout(ACK_TIMEOUT_S):
            return await answer
    except TimeoutError:
        raise Recoverable(f"{target} did not answer {source} within {ACK_TIMEOUT_S} s") from None
