"""Run a source through service processes and real servers, from its first frame to its summary."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from huracan.contracts.decision import Decision
from huracan_cli.composition import GATEWAY
from huracan_cli.results import ledger, logged, stored, write, write_latencies
from huracan_cli.sources import Source
from huracan_cli.summary import Run, Summary, summarise
from huracan_cli.system import Plan, System


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave."""

    summary: Summary
    decisions: list[Decision]
    """By instrument, step and strategy."""


def temporary_directory() -> Path:
    """Make a directory that every user can pass through, as PostgreSQL under root needs it."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-"))
    directory.chmod(0o711)
    return directory


async def run(
    plan: Plan,
    *,
    out: Path | None = None,
    lasts_s: float | None = None,
    on_source: Callable[[Source], None] = lambda _source: None,
    progress: Callable[[int], None] = lambda _frames: None,
    meanwhile: Callable[[System], Awaitable[None]] | None = None,
) -> Outcome:
    """Run a source to its end, or for so many seconds from when all is ready, and return what came of it.

    `out` is a directory for the tables of the run; `on_source` hears what is read, and `meanwhile` is run beside it,
    from when all is ready to the end. Raises Fatal when a process or server fails for good.
    """

    def reported(service: str, counts: Counter[str]) -> None:
        if service == GATEWAY:
            progress(counts["frames_in"])

    async with AsyncExitStack() as afterwards:
        directory = temporary_directory()
        afterwards.callback(rmtree, directory, ignore_errors=True)
        system = System(plan, directory)
        afterwards.push_async_callback(system.close)
        system.on_report = reported
        system.on_source = on_source
        await system.open(fresh=True)
        beside = asyncio.ensure_future(meanwhile(system)) if meanwhile is not None else None
        if beside is not None:
            afterwards.push_async_callback(_cancelled, beside)
        await _ended(system, beside, lasts_s)
        await system.stop_services()
        await system.reported()
        return await _collect(system, out)


async def _ended(system: System, beside: asyncio.Future[None] | None, lasts_s: float | None) -> None:
    """Return once all is played, or the time is over; raise what a process, server or the one beside failed with."""
    ends: set[asyncio.Future[None]] = {asyncio.ensure_future(system.ended())}
    if lasts_s is not None:
        ends.add(asyncio.ensure_future(asyncio.sleep(lasts_s)))
    waiting = ends if beside is None else ends | {beside}
    try:
        while not any(end.done() for end in ends):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for end in ends:
            end.cancel()


async def _cancelled(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _collect(system: System, out: Path | None) -> Outcome:
    kept, tables = await logged(system.log), await stored(system.store)
    summary = summarise(
        Run(
            source=system.source.label,
            layout=system.plan.layout.value,
            definitions=system.source.inputs.definitions,
            counts=system.counts,
            tables=tables,
            latency_us=system.watch.percentiles(),
            restarts=system.restarts,
            rows_persisted=await system.store.count(),
            ledger=await ledger(kept.journals, system.published, system.store),
        )
    )
    if out is not None:
        await write(system.store, kept, out)
        write_latencies(system.watch.latencies(), out)
    return Outcome(summary, list(tables.decisions))
