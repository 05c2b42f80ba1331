"""Run a tape through service processes and real servers, from its first frame to its summary."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from shutil import rmtree

from huracan.contracts.decision import Decision
from huracan_cli.composition import Inputs, configs, gateway_config
from huracan_cli.results import ledger, logged, stored, write, write_latencies
from huracan_cli.summary import Run, Summary, summarise
from huracan_cli.system import GATEWAY, Layout, Plan, System, Time
from huracan_gateway.feed import Tape
from huracan_orchestrator.config import DeadlineConfig

LIVE = DeadlineConfig()
LATEST_REASK_MS, LATEST_DEADLINE_MS = 200, 400
"""Market time by which a fast played tape asks again and decides: before opinions and decisions expire."""


def live_deadlines(speed: float) -> DeadlineConfig:
    """Return the deadlines of a tape that is played `speed` times as fast: as long for the machine, where they can be.

    They are in market time: 25 ms and 50 ms of the machine are more of it, but never so much that what is decided at
    the deadline could no longer be acted on.
    """
    return DeadlineConfig(
        reask_after_ms=min(ceil(LIVE.reask_after_ms * speed), LATEST_REASK_MS),
        deadline_ms=min(ceil(LIVE.deadline_ms * speed), LATEST_DEADLINE_MS),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to run on processes and servers."""

    tape: Tape
    recording: Path
    layout: Layout
    speed: float
    """Market seconds in a second; 0: a replay in lockstep."""
    history: Path | None = None
    news: Path | None = None
    out: Path | None = None
    nats_url: str | None = None
    postgres_url: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave."""

    summary: Summary
    decisions: list[Decision]
    """By instrument, step and strategy."""


def plan_of(request: Request, directory: Path) -> Plan:
    """Return the plan of a run whose servers and processes live in a directory."""
    tape = request.tape
    inputs = Inputs(
        definition=tape.definition,
        first_recv_ns=tape.first_recv_ns,
        history=request.history.resolve() if request.history else None,
        news=request.news.resolve() if request.news else None,
    )
    lockstep = not request.speed
    return Plan(
        layout=request.layout,
        configs={
            GATEWAY: gateway_config(inputs, lockstep=lockstep, recording=request.recording.resolve()),
            **configs(inputs, deadlines=None if lockstep else live_deadlines(request.speed)),
        },
        directory=directory,
        time=Time(start_ns=tape.first_recv_ns, speed=request.speed),
        nats_url=request.nats_url,
        postgres_url=request.postgres_url,
    )


def temporary_directory() -> Path:
    """Make a directory that every user can pass through, as PostgreSQL under root needs it."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-"))
    directory.chmod(0o711)
    return directory


async def run(
    request: Request,
    *,
    progress: Callable[[int], None] = lambda _frames: None,
    meanwhile: Callable[[System], Awaitable[None]] | None = None,
) -> Outcome:
    """Run a tape to its end and return what came of it; raise Fatal when a process or server fails for good.

    `meanwhile` is run beside it, from when all is ready to the end.
    """

    def reported(service: str, counts: Counter[str]) -> None:
        if service == GATEWAY:
            progress(counts["frames_in"])

    async with AsyncExitStack() as afterwards:
        directory = temporary_directory()
        afterwards.callback(rmtree, directory, ignore_errors=True)
        system = System(plan_of(request, directory))
        afterwards.push_async_callback(system.close)
        system.on_report = reported
        await system.open()
        beside = asyncio.ensure_future(meanwhile(system)) if meanwhile is not None else None
        if beside is not None:
            afterwards.push_async_callback(_cancelled, beside)
        await _ended(system, beside)
        await system.stop_services()
        await system.reported()
        return await _collect(system, request)


async def _ended(system: System, beside: asyncio.Future[None] | None) -> None:
    """Return once all is played; raise what a process, a server or the one beside failed with."""
    ends = asyncio.ensure_future(system.ended())
    waiting = {ends} if beside is None else {ends, beside}
    try:
        while not ends.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        ends.cancel()


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _collect(system: System, request: Request) -> Outcome:
    kept, tables = await logged(system.log), await stored(system.store)
    summary = summarise(
        Run(
            source=request.tape.source,
            layout=request.layout.value,
            definition=request.tape.definition,
            counts=system.counts,
            tables=tables,
            latency_us=system.watch.percentiles(),
            restarts=system.restarts,
            rows_persisted=await system.store.count(),
            ledger=await ledger(kept.journals, system.log, system.store),
        )
    )
    if request.out is not None:
        await write(system.store, kept, request.out)
        write_latencies(system.watch.latencies(), request.out)
    return Outcome(summary, list(tables.decisions))
