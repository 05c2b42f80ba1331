"""Start programs, keep them running, and stop them in order; none outlives its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from huracan.embedded import leash
from huracan.errors import Fatal, Recoverable
from huracan.ports import Rng

FIRST_WAIT_S = 0.1
"""Wait before the first restart: a program that was killed is back within a second."""
LONGEST_WAIT_S = 5.0
"""Longest wait between two restarts: how much later than its cause a crash loop may end."""
CALM_AFTER_S = 30.0
"""A program that was ready this long has earned the shortest wait again."""
CRASHES_ALLOWED = 10
"""Crashes in a row, none of them after having been ready, that make a program failed: some 20 s of trying."""
READY_POLL_S = 0.05
"""Time between two questions whether a program is ready."""
LOG_LINES = 20
"""Lines of a program's log that a failure shows."""
LOG_TAIL_BYTES = 8_192
"""End of the log those lines are taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, how to see that it is ready, and how to end it."""

    name: str
    command: tuple[str, ...]
    directory: Path
    """Where it runs and keeps its log, `<name>.log`."""
    ready: Callable[[], Awaitable[bool]]
    """Asked until true; OSError and Recoverable mean not yet."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 10.0
    """Time from the stop signal to SIGKILL."""
    ready_within_s: float = 30.0
    user: tuple[int, int] | None = None
    """Uid and gid to become, for root alone."""

    @property
    def log(self) -> Path:
        """Return the file that its output is appended to."""
        return self.directory / f"{self.name}.log"


class State(StrEnum):
    """Where a program is in its life."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    """Crashed; the restart waits for its turn."""
    STOPPING = "stopping"
    FINISHED = "finished"
    """Ended by itself with exit code 0."""
    FAILED = "failed"
    STOPPED = "stopped"


class Supervisor:
    """Programs by name, each restarted when it crashes: exit code 0 is an end, anything else is a crash.

    Use it on one event loop, in a thread that lives as long as the programs may: they are killed when it ends.
    """

    def __init__(self, rng: Rng, *, on_exit: Callable[[str, int], Awaitable[None]] | None = None) -> None:
        self.restarts: Counter[str] = Counter()
        """Restarts by program."""
        self.failure: Fatal | None = None
        """Why the first program failed that did; None while none has."""
        self._random = rng.stream("backoff.supervisor")
        self._on_exit = on_exit
        self._kept: dict[str, _Kept] = {}

    async def start(self, program: Program) -> None:
        """Run a program and return once it is ready, or has finished before anyone asked.

        Raises Fatal with the last lines of its log when it exits with another code or is not ready in time, and
        ValueError when a program of this name runs.
        """
        before = self._kept.pop(program.name, None)  # so that it counts as the last started
        if before is not None and not before.task.done():
            self._kept[program.name] = before
            raise ValueError(f"{program.name} runs already")
        kept = _Kept(program)
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {program.name}")
        kept.task.add_done_callback(lambda _: kept.settled.set())
        self._kept[program.name] = kept
        await kept.settled.wait()
        if kept.task.done():
            kept.task.result()
        if kept.failure is not None:
            raise kept.failure
        if kept.state is State.STOPPED:
            raise Fatal(f"{program.name} was stopped before it was ready; start it again")

    @property
    def programs(self) -> tuple[str, ...]:
        """Return the names of all programs, in the order of their start."""
        return tuple(self._kept)

    def state(self, name: str) -> State:
        """Return where a program is in its life; KeyError when it was never started."""
        return self._kept[name].state

    def pid(self, name: str) -> int | None:
        """Return the process id of a program, None while it does not run; KeyError when it was never started."""
        process = self._kept[name].process
        return process.pid if process is not None and process.returncode is None else None

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program; Fatal when it does not run now, KeyError when it was never started."""
        process = self._kept[name].process
        if process is None or process.returncode is not None:
            raise Fatal(f"{name} does not run, so it cannot be sent {number.name}; it is {self.state(name)}")
        process.send_signal(number)

    async def finished(self, name: str) -> int:
        """Return the exit code of a program once it has finished, failed or been stopped; negative for a signal."""
        kept = self._kept[name]
        await asyncio.shield(kept.task)
        return kept.exit_code

    async def stop(self, name: str) -> None:
        """End a program: its stop signal, then SIGKILL. One that has ended already is left as it is."""
        kept = self._kept[name]
        kept.stop_wanted.set()
        await asyncio.wait({kept.task})

    async def stop_all(self) -> None:
        """End all programs one after the other, the last started first."""
        for name in reversed(list(self._kept)):
            await self.stop(name)

    async def _keep(self, kept: _Kept) -> None:
        try:
            while (after := await self._after_one_run(kept)) is State.WAITING:
                kept.state = State.WAITING
                if await _happens(kept.stop_wanted, within_s=self._wait_s(kept)):
                    after = State.STOPPED
                    break
                self.restarts[kept.program.name] += 1
            kept.state = after
        finally:
            if kept.state not in _ENDED:
                kept.state = State.FAILED
            if kept.process is not None and kept.process.returncode is None:
                kept.process.kill()
                await kept.process.wait()

    async def _after_one_run(self, kept: _Kept) -> State:
        """Run the process once and return what follows: WAITING for another try, or a state that ends it."""
        name, log_from = kept.program.name, _size(kept.program.log)
        kept.unspawned = ""
        late = await self._run(kept)
        if kept.stop_wanted.is_set():
            return State.STOPPED
        if kept.exit_code == 0 and not late:
            return State.FINISHED
        kept.crashes_in_a_row += 1
        if kept.settled.is_set() and self._on_exit is not None:
            await self._on_exit(name, kept.exit_code)
        if kept.settled.is_set() and kept.crashes_in_a_row < CRASHES_ALLOWED:
            return State.WAITING
        how = f"was not ready within {kept.program.ready_within_s:g} s" if late else _ending(kept.exit_code)
        how = kept.unspawned or how
        kept.failure = Fatal(
            f"{name} {how}"
            + (f", {CRASHES_ALLOWED} times in a row" if kept.settled.is_set() else "")
            + f"; look into {kept.program.log}, which ends:\n{_tail(kept.program.log, log_from)}"
        )
        self.failure = self.failure or kept.failure
        return State.FAILED

    async def _run(self, kept: _Kept) -> bool:
        """Run the process to its end; return whether it was ended because it was not ready in time."""
        program = kept.program
        kept.state = State.STARTING
        try:
            kept.process = process = await _spawn(program)
        except OSError as error:  # no memory, no descriptors, no directory: as passing as any other crash
            kept.exit_code, kept.unspawned = leash.CANNOT_RUN, f"cannot be spawned: {error}"
            return False
        exited = asyncio.create_task(process.wait())
        stop_wanted = asyncio.create_task(kept.stop_wanted.wait())
        ready = asyncio.create_task(_until_ready(program))
        try:
            await _first_of(exited, stop_wanted, ready, within_s=program.ready_within_s)
            late = not (exited.done() or stop_wanted.done() or ready.done())
            if ready.done() and not (exited.done() or stop_wanted.done()):
                ready.result()
                await self._while_ready(kept, exited, stop_wanted)
            if not exited.done():
                kept.state = State.STOPPING
                await _end(process, program, exited)
            kept.exit_code = exited.result()
        finally:
            for task in (exited, stop_wanted, ready):
                task.cancel()
        return late

    async def _while_ready(self, kept: _Kept, *ends: asyncio.Task[object]) -> None:
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        kept.state, kept.crashes_in_a_row = State.READY, 0
        kept.settled.set()
        await _first_of(*ends)
        if loop.time() - since_s >= CALM_AFTER_S:
            kept.waits = 0

    def _wait_s(self, kept: _Kept) -> float:
        longest_s = min(FIRST_WAIT_S * 2.0 ** min(kept.waits, 32), LONGEST_WAIT_S)
        kept.waits += 1
        return self._random.uniform(longest_s / 2, longest_s)


@contextmanager
def running(program: Program) -> Iterator[int]:
    """Run a program while the block lasts, without an event loop and without restarts; give its process id.

    Raises Fatal with the last lines of its log when it exits or is not ready in time. It dies with this thread.
    """
    log_from = _size(program.log)
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            leashed(program.command, program.user),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=program.directory,
            env={**os.environ, **program.environment},
            start_new_session=True,
        )
    try:
        until_s = time.monotonic() + program.ready_within_s
        while not asyncio.run(_is_ready(program)):
            if process.poll() is not None or time.monotonic() > until_s:
                raise Fatal(f"{program.name} did not become ready; {program.log} ends:\n{_tail(program.log, log_from)}")
            time.sleep(READY_POLL_S)
        yield process.pid
    finally:
        process.send_signal(program.stop_signal)
        try:
            process.wait(program.stop_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def leashed(command: Sequence[str], user: tuple[int, int] | None = None) -> list[str]:
    """Return a command that runs as another user, where one is given, and is killed when its parent ends."""
    become = [] if user is None else ["--user", f"{user[0]}:{user[1]}"]
    return [sys.executable, "-I", "-S", "-B", leash.__file__, "--parent", str(os.getpid()), *become, "--", *command]


@dataclass(slots=True)
class _Kept:
    program: Program
    task: asyncio.Task[None] = field(init=False)
    process: asyncio.subprocess.Process | None = None
    state: State = State.STARTING
    exit_code: int = 0
    crashes_in_a_row: int = 0
    waits: int = 0
    unspawned: str = ""
    failure: Fatal | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it was ready for the first time, or has ended before that."""
    stop_wanted: asyncio.Event = field(default_factory=asyncio.Event)


_ENDED = frozenset({State.FINISHED, State.FAILED, State.STOPPED})


async def _spawn(program: Program) -> asyncio.subprocess.Process:
    with _log(program) as log:
        return await asyncio.create_subprocess_exec(
            *leashed(program.command, program.user),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=program.directory,
            env={**os.environ, **program.environment},
            start_new_session=True,  # Ctrl-C in a terminal is for the supervisor, which ends them in order
        )


def _log(program: Program) -> BinaryIO:
    return program.log.open("ab")


async def _end(process: asyncio.subprocess.Process, program: Program, exited: asyncio.Task[int]) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(program.stop_signal)
    await _first_of(exited, within_s=program.stop_within_s)
    if not exited.done():
        with suppress(ProcessLookupError):
            process.kill()
        await exited


async def _until_ready(program: Program) -> None:
    while not await _is_ready(program):  # noqa: ASYNC110 - a program has no event of ours to set
        await asyncio.sleep(READY_POLL_S)


async def _is_ready(program: Program) -> bool:
    try:
        return await program.ready()
    except (OSError, Recoverable):
        return False


async def _first_of(*tasks: asyncio.Task[Any], within_s: float | None = None) -> None:
    await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)


async def _happens(event: asyncio.Event, *, within_s: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within_s)
    return event.is_set()


def _ending(exit_code: int) -> str:
    return f"was killed by signal {-exit_code}" if exit_code < 0 else f"exited with code {exit_code}"


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _tail(log: Path, log_from: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as lines:
        lines.seek(max(log_from, _size(log) - LOG_TAIL_BYTES))
        return "\n".join(lines.read().decode(errors="replace").splitlines()[-LOG_LINES:])
