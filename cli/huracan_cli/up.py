"""`huracan up`: the whole system on this machine until it is told to stop, for other commands and desks to talk to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from shutil import rmtree

from huracan.clock import SystemClock
from huracan.embedded.files import make_directory
from huracan.errors import BadInput
from huracan_cli import state
from huracan_cli.system import Plan, System
from huracan_cli.ticklogs import begin

SERVERS = ("nats", "postgres")
"""Directories of the servers' data within the state directory: nothing else is ever wiped."""


async def up(plan: Plan, directory: Path, beside: Callable[[System], Awaitable[None]], *, wipe: bool = False) -> None:
    """Bring the system up in a state directory and keep it up until SIGTERM, Ctrl-C or the end of the recording.

    `beside` runs from when all is ready; `wipe` begins with empty servers. Raises BadInput when a system already runs
    on the same state.
    """
    make_directory(directory, mode=0o711)
    with state.held(directory):
        try:
            _clear(directory, everything=wipe)
            begin(directory, plan.ticklog, wipe=wipe)
            await _up(System(plan, directory), beside)
        finally:
            state.remove(directory)


async def _up(system: System, beside: Callable[[System], Awaitable[None]]) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    showing: asyncio.Task[None] | None = None
    try:
        await _unless(asked, system.open())
        if not asked.is_set():
            _state(system).write(system.directory)
            showing = asyncio.ensure_future(beside(system))
            await _unless(asked, system.ended())
            await system.stop_services()
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        await system.close()


async def _unless(asked: asyncio.Event, work: Awaitable[None]) -> None:
    """Wait for the work, or until asked to stop."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(asked.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return
    working.result()


def _clear(directory: Path, *, everything: bool) -> None:
    """Remove what the last time left: where its tape was, and the servers' data if told to."""
    (directory / "origin").unlink(missing_ok=True)
    if everything:
        for name in SERVERS:
            rmtree(directory / name, ignore_errors=True)


def _state(system: System) -> state.RunState:
    reached = system.reached()
    return state.RunState(
        pid=os.getpid(),
        started_ns=SystemClock().now_ns(),
        source=system.source.label,
        simulated=system.source.simulated,
        instrument=system.source.instrument,
        layout=system.plan.layout.value,
        nats_url=reached.nats_url,
        nats_user=reached.nats_user,
        passwords=dict(reached.passwords),
        kafka=reached.kafka,
        postgres_url=reached.postgres_url,
        engines=system.source.inputs.library,
        http_ports=dict(reached.http_ports),
    )


async def down(directory: Path, *, within_s: float = 60.0) -> int:
    """Stop what `huracan up` runs and return its pid once it has ended; BadInput when nothing runs, or it will not."""
    running = state.load(directory)
    if not state.runs(directory):
        raise BadInput(f"pid {running.pid} is no system's any more: `huracan up` has ended without tidying up")
    os.kill(running.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(within_s):
            while state.runs(directory):  # noqa: ASYNC110 - another's process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise BadInput(f"pid {running.pid} still runs {within_s:.0f} s after it was asked to stop") from None
    return running.pid
