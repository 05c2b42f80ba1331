"""Run a program that dies with its parent: become its user, ask for the signal, and turn into it.

`python -I -S -B leash.py --parent PID [--user UID:GID] -- COMMAND...`: a script of its own, for it must start in
milliseconds. The program keeps the process id of the leash. Linux sends SIGKILL when the *thread* ends that
started the leash, so start it from a thread that lives as long as the program may.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings  # noqa: F401 - by os.execvp, when the user may not read where Python lives any more

PARENT_DEATH_SIGNAL = sys.platform == "linux"
"""Whether the kernel kills a child whose parent ends; elsewhere a second process watches."""
WATCH_EVERY_S = 0.2
"""How often that second process looks."""
CANNOT_RUN = 127
"""Exit code when the command cannot be run, as in a shell."""

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command that follows `--`; exit with 127 when it cannot be run, with 1 when the parent is gone."""
    end = arguments.index("--")
    options = dict(zip(arguments[0:end:2], arguments[1:end:2], strict=True))
    command = arguments[end + 1 :]
    parent = int(options["--parent"])
    libc = ctypes.CDLL(None, use_errno=True)  # before the user changes, for the same reason
    if "--user" in options:
        _become(*map(int, options["--user"].split(":")))
    if PARENT_DEATH_SIGNAL:
        # Only now: a change of user clears it.
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl was refused: {os.strerror(ctypes.get_errno())}")
    elif os.fork() == 0:
        watch(parent, os.getppid())
        os._exit(0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit(f"parent was {parent}, is gone; {command[0]} is not started")
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and an ignored signal stays so in what we become
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201 - this is the log
        sys.exit(CANNOT_RUN)


def watch(parent: int, program: int) -> None:
    """Kill the program once the parent is gone; return when the program, whose child we are, has ended."""
    while os.getppid() == program:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(program, signal.SIGKILL)
            return
        except PermissionError:  # alive, and another user's
            pass
        time.sleep(WATCH_EVERY_S)


def _become(uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


if __name__ == "__main__":
    main(sys.argv[1:])
