"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else is left to do."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from huracan.clock import NANOSECONDS
from huracan.errors import HuracanError

T = TypeVar("T")


class Stalled(HuracanError):
    """Every task waits for another one: nothing is ready and no timer is set."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never wait: what the loop would have slept is added to virtual time."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now, after a jump of `timeout` seconds."""
        if timeout is None:
            raise Stalled("nothing is ready and no timer is set: every task waits for another")
        if timeout > 0:
            self._jump(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, starting at `start_ns` nanoseconds since the Unix epoch.

    Timers fire in order of their time, ready callbacks in order of arrival: the same program runs the same way.
    """

    def __init__(self, start_ns: int) -> None:
        self._elapsed_s = 0.0
        self.start_ns = start_ns
        super().__init__(_JumpingSelector(self._jump))
        self._clock_resolution = 0.5 / NANOSECONDS  # asyncio's own, 1 ns, fires timers a nanosecond early

    def _jump(self, seconds: float) -> None:
        self._elapsed_s += seconds
        # after 48 days a double has no room for half nanoseconds: a timer that is due within its last bit is due
        self._clock_resolution = max(0.5 / NANOSECONDS, math.ulp(self._elapsed_s))

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._elapsed_s


class VirtualClock:
    """The Clock port on a VirtualLoop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        """Return the virtual time in nanoseconds since the Unix epoch."""
        return self._loop.start_ns + round(self._loop.time() * NANOSECONDS)

    async def sleep_until(self, ns: int) -> None:
        """Return at this virtual time, at once if it is past."""
        while (left_ns := ns - self.now_ns()) > 0:  # noqa: ASYNC110 - more than once only where doubles are coarse
            await asyncio.sleep(max(left_ns / NANOSECONDS, math.ulp(self._loop.time())))


def run_virtual(main: Callable[[VirtualClock], Coroutine[Any, Any, T]], *, start_ns: int) -> T:
    """Run a coroutine function to its end on virtual time; raise Stalled when all its tasks wait for each other."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start_ns)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return runner.run(main(VirtualClock(loop)))
