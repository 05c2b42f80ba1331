"""Micro-batching: askers of one event loop share runs of an engine, and none waits longer than its budget for it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from huracan.clock import MICROSECOND_NS
from huracan.config import Config
from huracan.errors import Fatal, Recoverable
from huracan.inference.engine import LARGEST_BATCH, Engine
from huracan.inference.probabilities import Floats
from huracan.ports import Clock

LAST = "last."
"""Begins the names of counts that are the newest value of something, as services name them."""
TIMES_US = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_DIGITS = 12

Window = NDArray[np.float32]


class Overloaded(Recoverable):
    """More asked than the engine answers, and this one had waited longest: a fresher window is worth more."""


class BatchingConfig(Config):
    """How windows are put together."""

    largest_batch: int = Field(default=8, ge=1, le=LARGEST_BATCH)
    """Windows of a run at most; a batch that is full runs at once."""
    longest_wait_us: NonNegativeInt = 200
    """How long the first window of a batch waits for others. It is added to the latency of a lone window: a tenth of
    the 2 ms from window to decision; above 1,000 little is left of them. With 0 a batch is what came in one turn of the
    event loop: so it must be in a replay, where no time passes before a step is answered."""
    waiting_bound: PositiveInt = 1_024
    """Windows that may wait; 16 full batches of the largest kind are older than an opinion may be."""
    overflow: Literal["drop_oldest", "block"] = "drop_oldest"
    """What happens past the bound: live the oldest goes, with Overloaded; in a replay the next one waits for room."""


@dataclass(slots=True, eq=False)
class _Request:
    window: Window
    asked_ns: int
    answer: asyncio.Future[Floats] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class MicroBatcher:
    """Answers single windows by runs of up to `largest_batch`; to be entered before it is asked.

    An engine whose answer depends on the batch is asked about one window at a time. Runs are within the event loop, one
    after the other; between two of them others have their turn.
    """

    def __init__(self, engine: Engine, clock: Clock, config: BatchingConfig | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._config = config or BatchingConfig()
        self._counts: Counter[str] = Counter({gauge(engine.digest): 1})
        self._before = Counter(engine.counts)
        """What the engine had counted when it was taken."""
        self._waiting: deque[_Request] = deque()
        self._room = asyncio.Semaphore(self._config.waiting_bound)
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to run batches."""
        self._worker = asyncio.create_task(self._serve(), name="micro-batches")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer all that wait, at once, and end."""
        assert self._worker is not None
        worker, self._worker = self._worker, None
        self._changed.set()
        await worker

    @property
    def engine(self) -> Engine:
        """Return the engine of the next batch."""
        return self._engine

    def swap(self, engine: Engine) -> None:
        """Run the next batch, and with it all that wait, on another engine; counts go on."""
        self._counts = self.report()
        self._counts[gauge(self._engine.digest)] = 0
        self._engine, self._before = engine, Counter(engine.counts)
        self._counts[gauge(engine.digest)] = 1
        self._changed.set()

    def report(self) -> Counter[str]:
        """Return what was counted since the start, by this and by its engines.

        `engine.batches`, `engine.dropped`, `engine.failed` windows; histograms `engine.batch_size`, `engine.queue_us`
        of each window and `engine.compute_us` of each batch, as `observe` counts them; `last.engine.<digest>` is 1 for
        the engine that is asked, 0 for those before it.
        """
        total = Counter(self._counts)
        total.update(self._engine.counts)
        total.subtract(self._before)
        return total

    async def ask(self, window: Window) -> Floats:
        """Return the probabilities of one window, float32 of shape (columns, 64): float64 of shape (classes,).

        Raises BadInput for a window that the engine does not take, which fails no other; EngineFault where its batch
        failed; Overloaded where too many waited; Fatal when it is closed.
        """
        self._check_open()
        self._engine.check(window[np.newaxis])
        request = _Request(window, self._clock.now_ns())
        await self._make_room()
        self._waiting.append(request)
        if len(self._waiting) in (1, self._limit):
            self._changed.set()
        return await request.answer

    @property
    def _limit(self) -> int:
        return self._config.largest_batch if self._engine.fixed_batch_result else 1

    async def _make_room(self) -> None:
        if self._config.overflow == "drop_oldest" and self._room.locked():
            (oldest,) = self._taken(1)
            self._counts["engine.dropped"] += 1
            if not oldest.answer.done():
                oldest.answer.set_exception(Overloaded(f"{self._config.waiting_bound} windows waited, and came later"))
        await self._room.acquire()
        if self._worker is None:
            self._room.release()
            self._check_open()

    def _check_open(self) -> None:
        if self._worker is None:
            raise Fatal("micro-batches are closed: enter them, and ask before they are left")

    def _taken(self, count: int) -> list[_Request]:
        requests = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        for _ in requests:
            self._room.release()
        return requests

    async def _serve(self) -> None:
        while self._waiting or self._worker is not None:
            if self._waiting:
                await self._gathered()
                self._run([request for request in self._taken(self._limit) if not request.answer.done()])
                await asyncio.sleep(0)
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _gathered(self) -> None:
        """Wait until the batch is full, or its first window has waited its budget."""
        due_ns = self._waiting[0].asked_ns + self._config.longest_wait_us * MICROSECOND_NS
        if self._is_ready(due_ns):
            return
        timer = asyncio.create_task(self._ring(due_ns), name="micro-batch is due")
        try:
            while not self._is_ready(due_ns):
                self._changed.clear()
                await self._changed.wait()
        finally:
            timer.cancel()

    def _is_ready(self, due_ns: int) -> bool:
        return len(self._waiting) >= self._limit or self._worker is None or self._clock.now_ns() >= due_ns

    async def _ring(self, due_ns: int) -> None:
        await self._clock.sleep_until(due_ns)
        self._changed.set()

    def _run(self, batch: Sequence[_Request]) -> None:
        if not batch:
            return  # whoever asked is gone
        began_ns = self._clock.now_ns()
        try:
            answers = self._engine.run(np.stack([request.window for request in batch]))
        except Exception as error:  # noqa: BLE001 - those who asked are told, and the next batch is not theirs
            self._counts["engine.failed"] += len(batch)
            for request in batch:
                request.answer.set_exception(error)
        else:
            for request, answer in zip(batch, answers, strict=True):  # the laws of an engine: a row for each
                request.answer.set_result(answer)
        self._counts["engine.batches"] += 1
        observe(self._counts, "engine.batch_size", len(batch), _SIZES)
        observe(self._counts, "engine.compute_us", _microseconds(self._clock.now_ns() - began_ns), TIMES_US)
        for request in batch:
            observe(self._counts, "engine.queue_us", _microseconds(began_ns - request.asked_ns), TIMES_US)


def observe(counts: Counter[str], name: str, value: int, bounds: Sequence[int]) -> None:
    """Count a value into a histogram: `name.sum`, `name.count`, and `name.le_B` for every bound B it is within."""
    counts[f"{name}.sum"] += value
    counts[f"{name}.count"] += 1
    for bound in bounds:
        if value <= bound:
            counts[f"{name}.le_{bound}"] += 1


def _microseconds(ns: int) -> int:
    return max(0, ns) // MICROSECOND_NS  # wall time may be set back meanwhile


def gauge(digest: bytes) -> str:
    """Return the count that is 1 while what has this digest is asked."""
    return f"{LAST}engine.{digest.hex()[:_DIGITS]}"
