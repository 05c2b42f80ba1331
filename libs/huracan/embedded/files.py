"""Directories and files that only the right user can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from huracan.errors import BadInput


def write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, in place of the one that was there."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def make_directory(directory: Path, *, mode: int) -> None:
    """Make a directory and its missing parents with this mode, whatever the umask; leave the mode of others alone.

    Raises BadInput when it cannot be made or cannot be written.
    """
    try:
        for missing in reversed([step for step in (directory, *directory.parents) if not step.exists()]):
            missing.mkdir()
            missing.chmod(mode)
    except OSError as error:
        raise BadInput(f"directory was {directory}, which cannot be made: {error}; choose another") from error
    if not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
        raise BadInput(f"directory was {directory}, which we cannot write; choose another")


def closed_to(path: Path, user: tuple[int, int]) -> Path | None:
    """Return the first step on the way to a path, itself included, that is closed to a user; None when none is.

    `user` is uid and gid. A directory is open to who may pass through, a file to who may read and execute it.
    """
    resolved = path.resolve()
    for step in (*reversed(resolved.parents), resolved):
        if not _open_to(step.stat(), user):
            return step
    return None


def _open_to(status: os.stat_result, user: tuple[int, int]) -> bool:
    wanted = stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else stat.S_IROTH | stat.S_IXOTH
    shift = 6 if status.st_uid == user[0] else 3 if status.st_gid == user[1] else 0
    return status.st_mode >> shift & wanted == wanted
