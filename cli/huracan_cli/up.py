"""`huracan up`: the whole system on this machine until it is told to stop, for other commands and desks to talk to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from huracan.clock import NANOSECONDS, SystemClock
from huracan.contracts.market import instrument_key
from huracan.embedded.files import make_directory
from huracan.errors import BadInput
from huracan.sim.market import SimulatedMarketConfig, write_history
from huracan_cli import state
from huracan_cli.composition import Inputs, configs, gateway_config
from huracan_cli.run import live_deadlines
from huracan_cli.system import GATEWAY, Layout, Plan, System, Time
from huracan_gateway.feed import Tape, recorded, simulated

SIMULATED_FROM_NOW_S = 8
"""The simulated market opens when the services are about ready."""
SIMULATED_FOR_S = 1e7
SIMULATED_HISTORY_BARS = 2_000
SERVERS = ("nats", "postgres")
"""Directories of the servers' data within the state directory: nothing else is ever wiped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to bring up."""

    directory: Path
    layout: Layout
    recording: Path | None = None
    history: Path | None = None
    news: Path | None = None
    speed: float = 1.0
    seed: int = 7
    wipe: bool = False
    """Begin with empty servers."""
    nats_url: str | None = None
    postgres_url: str | None = None


async def up(request: Request, beside: Callable[[System, Tape], Awaitable[None]]) -> None:
    """Bring the system up and keep it up until SIGTERM, Ctrl-C or the end of the recording.

    `beside` runs from when all is ready. Raises BadInput when a system already runs on the same state.
    """
    directory = request.directory
    make_directory(directory, mode=0o711)
    with state.held(directory):
        try:
            await _up(request, beside)
        finally:
            state.remove(directory)


async def _up(request: Request, beside: Callable[[System, Tape], Awaitable[None]]) -> None:
    directory = request.directory
    _clear(directory, everything=request.wipe)
    tape, plan = _planned(request)
    system = System(plan)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    showing: asyncio.Task[None] | None = None
    try:
        await _unless(asked, system.open())
        if not asked.is_set():
            _state(request, tape, system).write(directory)
            showing = asyncio.ensure_future(beside(system, tape))
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


def _planned(request: Request) -> tuple[Tape, Plan]:
    if request.recording is not None:
        tape, history = recorded(request.recording), request.history
        time = Time(start_ns=tape.first_recv_ns, speed=request.speed)
        config = None
    else:
        config = SimulatedMarketConfig(
            seed=request.seed,
            start_ns=SystemClock().now_ns() + SIMULATED_FROM_NOW_S * NANOSECONDS,
            duration_s=SIMULATED_FOR_S,
        )
        tape, time = simulated(config), None
        history = request.directory / "simulated_history.parquet"
        write_history(config, history, bars=SIMULATED_HISTORY_BARS)
    inputs = Inputs(
        definition=tape.definition,
        first_recv_ns=tape.first_recv_ns,
        history=history.resolve() if history else None,
        news=request.news.resolve() if request.news else None,
    )
    recording = request.recording.resolve() if request.recording else None
    gateway = gateway_config(inputs, lockstep=False, recording=recording, simulated=config)
    deadlines = live_deadlines(request.speed if time else 1.0)
    return tape, Plan(
        layout=request.layout,
        configs={GATEWAY: gateway, **configs(inputs, deadlines=deadlines)},
        directory=request.directory,
        time=time,
        nats_url=request.nats_url,
        postgres_url=request.postgres_url,
    )


def _state(request: Request, tape: Tape, system: System) -> state.RunState:
    reached = system.reached()
    return state.RunState(
        pid=os.getpid(),
        started_ns=SystemClock().now_ns(),
        source=tape.source,
        simulated=tape.simulated,
        instrument=instrument_key(tape.definition.id),
        layout=request.layout.value,
        nats_url=reached.nats_url,
        nats_user=reached.nats_user,
        passwords=dict(reached.passwords),
        postgres_url=reached.postgres_url,
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
