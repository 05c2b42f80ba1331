"""Who runs a command, as what it changes is signed."""

from __future__ import annotations

import getpass
import os


def user_name() -> str:
    """Return the user's name; where there is none, as in a container that runs under any number, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
