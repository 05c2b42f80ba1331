"""The supervisor: what crashes comes back, what ends stays ended, and nothing outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from huracan.embedded import leash, supervisor
from huracan.embedded.supervisor import Program, State, Supervisor, leashed, running
from huracan.errors import BadInput, Fatal, Recoverable
from huracan.rng import SeededRng

FOREVER = "import signal, pathlib; pathlib.Path('ready').touch(); signal.pause()"


def _program(
    directory: Path,
    code: str = FOREVER,
    *,
    name: str = "program",
    ready: Callable[[], Awaitable[bool]] | None = None,
    ready_within_s: float = 30.0,
    stop_within_s: float = 10.0,
) -> Program:
    """Return a program that runs Python code and is ready once it made the file `ready`."""

    async def made() -> bool:
        return (directory / "ready").exists()

    return Program(
        name=name,
        command=(sys.executable, "-c", code),
        directory=directory,
        ready=ready or made,
        ready_within_s=ready_within_s,
        stop_within_s=stop_within_s,
        environment={"GREETING": "hello"},
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart at once, so that ten crashes take no time."""
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT_S", 0.01)


def _supervisor() -> Supervisor:
    return Supervisor(SeededRng(1))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.02)


def _until_gone(*pids: int) -> None:
    """Wait for processes to end; one that its new parent has not collected yet has ended too."""
    until_s = time.monotonic() + 30
    while alive := [pid for pid in pids if _lives(pid)]:
        assert time.monotonic() < until_s, f"still there: {alive}"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return _status(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _status(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state and its parent on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


async def _kill(programs: Supervisor, directory: Path, times: int) -> None:
    """Kill the program for the so-manieth time and wait until it is back."""
    (directory / "ready").unlink()
    programs.send("program", signal.SIGKILL)
    await _until(lambda: programs.restarts["program"] == times and programs.state("program") is State.READY)


def test_a_program_runs_in_its_directory_with_its_environment_under_the_pid_we_know(tmp_path: Path) -> None:
    async def main() -> None:
        programs = _supervisor()
        await programs.start(
            _program(
                tmp_path,
                "import os, sys; print(os.environ['GREETING'], os.getcwd(), flush=True);"
                "print(os.getpid(), os.getsid(0), file=sys.stderr, flush=True);" + FOREVER,
            )
        )
        pid = programs.pid("program")
        assert programs.state("program") is State.READY
        assert (tmp_path / "program.log").read_text().split() == ["hello", str(tmp_path), str(pid), str(pid)]
        await programs.stop_all()
        assert programs.pid("program") is None
        assert programs.state("program") is State.STOPPED
        assert await programs.finished("program") == -signal.SIGTERM
        assert programs.failure is None

    asyncio.run(main())


def test_exit_code_zero_is_an_end_and_no_crash(tmp_path: Path) -> None:
    async def main() -> None:
        programs = _supervisor()
        await programs.start(_program(tmp_path, "pass"))
        assert await programs.finished("program") == 0
        assert programs.state("program") is State.FINISHED
        assert not programs.restarts
        await programs.stop_all()
        assert programs.state("program") is State.FINISHED

    asyncio.run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_killed_program_is_back_under_another_pid(run: Callable[..., None], tmp_path: Path, quick: None) -> None:
    exits: list[tuple[str, int]] = []

    async def heard(name: str, code: int) -> None:
        exits.append((name, code))
        assert programs.restarts[name] == len(exits) - 1

    async def main() -> None:
        await programs.start(_program(tmp_path))
        for times in range(1, 4):
            before = programs.pid("program")
            await _kill(programs, tmp_path, times)
            assert programs.pid("program") != before
        await programs.stop_all()

    programs = Supervisor(SeededRng(1), on_exit=heard)
    run(main())
    assert exits == [("program", -signal.SIGKILL)] * 3


def test_crashes_are_forgiven_once_it_was_ready_again(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CALM_AFTER_S", 0.0)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT_S", 3600.0)

    async def main() -> None:
        programs = _supervisor()
        await programs.start(_program(tmp_path))
        for times in range(1, supervisor.CRASHES_ALLOWED + 3):
            await _kill(programs, tmp_path, times)
        await programs.stop_all()

    asyncio.run(main())


def test_a_program_that_exits_before_it_is_ready_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "program.log").write_text("an earlier run\n")

    async def main() -> None:
        programs = _supervisor()
        with pytest.raises(Fatal) as failed:
            await programs.start(
                _program(tmp_path, "[print(line) for line in range(100)]; raise SystemExit('port taken')")
            )
        assert str(failed.value).startswith("program exited with code 1; look into")
        assert str(failed.value).endswith("\n98\n99\nport taken")
        assert "earlier" not in str(failed.value)
        assert "\n50\n" not in str(failed.value)
        assert programs.state("program") is State.FAILED
        assert programs.failure is failed.value
        assert await programs.finished("program") == 1

    asyncio.run(main())


def test_a_program_that_cannot_be_run_fails_and_is_named(tmp_path: Path) -> None:
    async def main(directory: Path, reason: str) -> None:
        async def never() -> bool:
            return False

        programs = _supervisor()
        with pytest.raises(Fatal, match=reason):
            await programs.start(Program(name="x", command=("/no/such/program",), directory=directory, ready=never))
        assert await programs.finished("x") == leash.CANNOT_RUN

    asyncio.run(main(tmp_path, "/no/such/program cannot be run: No such file"))
    asyncio.run(main(tmp_path / "none", "x cannot be spawned: .*none"))


def test_a_program_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    async def main() -> None:
        programs = _supervisor()
        with pytest.raises(Fatal, match=r"was not ready within 0\.5 s; look into .*\n.*no hurry"):
            await programs.start(
                _program(tmp_path, "import time; print('no hurry', flush=True); time.sleep(600)", ready_within_s=0.5)
            )
        assert programs.pid("program") is None

    asyncio.run(main())


def test_a_crash_loop_fails_with_the_end_of_the_log(tmp_path: Path, quick: None) -> None:
    exits: list[int] = []

    async def heard(name: str, code: int) -> None:
        exits.append(code)

    async def main() -> None:
        programs = Supervisor(SeededRng(1), on_exit=heard)
        await programs.start(
            _program(
                tmp_path,
                "import pathlib, signal\n"
                "if pathlib.Path('broken').exists(): print('no more'); raise SystemExit(3)\n" + FOREVER,
            )
        )
        (tmp_path / "broken").touch()
        (tmp_path / "ready").unlink()
        programs.send("program", signal.SIGTERM)
        assert await programs.finished("program") == 3
        assert programs.state("program") is State.FAILED
        assert programs.restarts["program"] == 9
        assert programs.failure is not None
        assert str(programs.failure).startswith("program exited with code 3, 10 times in a row; look into")
        assert str(programs.failure).endswith("\nno more")
        with pytest.raises(Fatal, match="program does not run, so it cannot be sent SIGHUP; it is failed"):
            programs.send("program", signal.SIGHUP)

    asyncio.run(main())
    assert exits == [-signal.SIGTERM, *[3] * 9]


def test_a_question_that_cannot_be_asked_yet_is_asked_again(tmp_path: Path) -> None:
    answers: list[Exception | bool] = [ConnectionRefusedError(), Recoverable("recovering"), False, True]

    async def ready() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> None:
        programs = _supervisor()
        await programs.start(_program(tmp_path, ready=ready))
        assert answers == []
        await programs.stop_all()

    asyncio.run(main())


def test_a_question_that_is_wrong_is_raised_and_leaves_no_process(tmp_path: Path) -> None:
    async def ready() -> bool:
        raise BadInput("port was -1")

    async def main() -> None:
        programs = _supervisor()
        with pytest.raises(BadInput, match="port was -1"):
            await programs.start(_program(tmp_path, ready=ready))
        assert programs.pid("program") is None
        assert programs.state("program") is State.FAILED
        await programs.stop_all()

    asyncio.run(main())


def test_the_last_started_is_stopped_first(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys\n"
        "def end(*_):\n"
        "    with open('../order', 'a') as order: print(pathlib.Path.cwd().name, file=order)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n" + FOREVER
    )

    async def main() -> None:
        programs = _supervisor()
        for name in ("bus", "store", "gateway"):
            directory = tmp_path / name
            directory.mkdir()
            await programs.start(_program(directory, code, name=name))
        await programs.stop_all()
        assert {programs.state(name) for name in ("bus", "store", "gateway")} == {State.STOPPED}

    asyncio.run(main())
    assert (tmp_path / "order").read_text().split() == ["gateway", "store", "bus"]


def test_a_program_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        programs = _supervisor()
        deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + FOREVER
        await programs.start(_program(tmp_path, deaf, stop_within_s=0.2))
        await programs.stop("program")
        assert await programs.finished("program") == -signal.SIGKILL
        assert programs.state("program") is State.STOPPED

    asyncio.run(main())


def test_a_program_that_waits_for_its_restart_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 3600.0)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT_S", 3600.0)

    async def main() -> None:
        programs = _supervisor()
        await programs.start(_program(tmp_path))
        programs.send("program", signal.SIGKILL)
        await _until(lambda: programs.state("program") is State.WAITING)
        assert programs.pid("program") is None
        await programs.stop("program")
        assert programs.state("program") is State.STOPPED
        assert not programs.restarts

    asyncio.run(main())


def test_a_program_that_is_stopped_while_it_starts_was_not_started(tmp_path: Path) -> None:
    async def main() -> None:
        programs = _supervisor()
        starting = asyncio.create_task(programs.start(_program(tmp_path, "import time; time.sleep(600)")))
        await asyncio.sleep(0)
        await _until(lambda: programs.pid("program") is not None)
        await programs.stop("program")
        with pytest.raises(Fatal, match="program was stopped before it was ready"):
            await starting

    asyncio.run(main())


def test_a_name_is_taken_while_its_program_runs(tmp_path: Path) -> None:
    async def main() -> None:
        programs = _supervisor()
        await programs.start(_program(tmp_path))
        first = programs.pid("program")
        with pytest.raises(ValueError, match="program runs already"):
            await programs.start(_program(tmp_path))
        assert programs.pid("program") == first
        await programs.stop("program")
        await programs.start(_program(tmp_path))
        assert programs.pid("program") != first
        await programs.stop_all()

    asyncio.run(main())


def test_a_loop_that_ends_without_stopping_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> int | None:
        programs = _supervisor()
        await programs.start(_program(tmp_path))
        return programs.pid("program")

    pid = asyncio.run(main())
    assert pid is not None
    _until_gone(pid)


PARENT = """
import asyncio, json, sys
from pathlib import Path
from huracan.embedded.supervisor import Program, Supervisor
from huracan.rng import SeededRng

async def main():
    directory = Path(sys.argv[1])
    programs = Supervisor(SeededRng(1))
    async def ready():
        return (directory / "ready").exists()
    try:
        for name in ("one", "two"):
            (directory / "ready").unlink(missing_ok=True)
            await programs.start(Program(
                name=name, command=(sys.executable, "-c", sys.argv[2]), directory=directory, ready=ready
            ))
        print(json.dumps([programs.pid("one"), programs.pid("two")]), flush=True)
        await programs.finished("one")
    finally:
        await programs.stop_all()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_program_outlives_a_parent_that_is_killed_or_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path, FOREVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        assert all(map(_lives, pids))
        parent.send_signal(number)
        parent.wait(30)
    _until_gone(*pids)


def test_a_leashed_command_is_not_run_once_its_parent_is_gone() -> None:
    command = leashed(["echo", "here"])
    command[command.index("--parent") + 1] = str(os.getppid())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "is gone; echo is not started" in done.stderr


def test_a_leashed_command_has_the_signals_of_any_other() -> None:
    command = "grep SigIgn /proc/self/status"
    plain, leashed_too = (
        subprocess.run(words, capture_output=True, check=True).stdout
        for words in (["sh", "-c", command], leashed(["sh", "-c", command]))
    )
    assert plain == leashed_too


def test_a_leashed_command_has_nothing_of_root_left() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    done = subprocess.run(leashed(["id", "-u"], (65534, 65534)), capture_output=True, text=True, check=True)
    assert done.stdout == "65534\n"
    groups = subprocess.run(leashed(["id", "-G"], (65534, 65534)), capture_output=True, text=True, check=True)
    assert groups.stdout == "65534\n"


def test_where_the_kernel_does_not_kill_a_second_process_does() -> None:
    """The parent starts a leash of the other kind and is killed; the program it names must go."""
    leash_script = (
        "import sys; from huracan.embedded import leash; leash.PARENT_DEATH_SIGNAL = False; leash.main(sys.argv[1:])"
    )
    parent_script = (
        "import os, subprocess, sys\n"
        f"code = {leash_script!r}\n"
        "words = ['--parent', str(os.getpid()), '--', sys.executable, '-c', 'import signal; signal.pause()']\n"
        "child = subprocess.Popen([sys.executable, '-c', code, *words])\n"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent_script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watcher = _child_of(pid)
        parent.kill()
        parent.stdout.close()
        parent.wait(30)
    _until_gone(pid, watcher)


def test_the_second_process_ends_with_the_program() -> None:
    leash_script = (
        "import sys; from huracan.embedded import leash; leash.PARENT_DEATH_SIGNAL = False; leash.main(sys.argv[1:])"
    )
    words = ["--parent", str(os.getpid()), "--", sys.executable, "-c", "import signal; signal.pause()"]
    with subprocess.Popen([sys.executable, "-c", leash_script, *words]) as program:
        watcher = _child_of(program.pid)
        assert _lives(program.pid)
        program.kill()
    _until_gone(watcher)


def _child_of(pid: int) -> int:
    until_s = time.monotonic() + 30
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if int(_status(int(process.name))[1]) == pid:
                    return int(process.name)
        assert time.monotonic() < until_s, f"{pid} never had a child"
        time.sleep(0.02)


def test_a_program_runs_while_a_block_lasts(tmp_path: Path) -> None:
    with running(_program(tmp_path)) as pid:
        assert _lives(pid)
    assert not _lives(pid)
    (tmp_path / "ready").unlink()
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + FOREVER
    with running(_program(tmp_path, deaf, stop_within_s=0.2)) as pid:
        pass
    assert not _lives(pid)


def test_a_block_is_not_entered_when_its_program_does_not_become_ready(tmp_path: Path) -> None:
    with (
        pytest.raises(Fatal, match=r"program did not become ready; (?s:.*)port taken$"),
        running(_program(tmp_path, "raise SystemExit('port taken')")),
    ):
        pytest.fail("it was entered")
